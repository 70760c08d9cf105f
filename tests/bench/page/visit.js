/** One visit to a page with a model: from opening it to the first output, and what the inferences after it take. */

import { encode, fetchTensors } from "./tensors.js";

/** Inferences that are timed, a break before each. */
const RUNS = 15;
const PAUSE_MS = 20;
/** After tuning: until what it found is kept; without: in which candidates would be measured. */
const AFTERWARDS_MS = 3000;

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * @param {{root: string, device: string, threads: number, url: string, inputs: Record<string, {url: string, dims: number[], type: string}>}} visited
 *   the model keeps its `url` from visit to visit
 * @param {number} tune seconds in the foreground after the inferences, and then they are timed again
 * @returns {Promise<{firstAt: number, untuned: number[], tuned: number[], candidates: number, schedules: string[], outputs: object}>}
 *   firstAt: ms from opening the page to the first output; untuned, tuned: ms of inferences; candidates: measured;
 *   schedules: of all kernels, in the end
 */
export async function visit({ root, device, threads, url, inputs: described }, tune) {
  const { load } = await import(`${root}/runtime/nnjit.js`);
  const [model, inputs] = await Promise.all([load(url, { device, threads }), fetchTensors(described)]);
  let candidates = 0;
  model.on("tune", (/** @type {{event: string}} */ { event }) => (candidates += Number(event === "candidate")));
  const first = await model.run(inputs);
  const firstAt = performance.now();
  if (tune) await model.pauseTuning();
  const untuned = await times(model, inputs);
  if (tune) await model.tune({ seconds: tune });
  const tuned = tune ? await times(model, inputs) : [];
  await sleep(AFTERWARDS_MS);
  const { tasks } = await model.report();
  const schedules = tasks.map((/** @type {{key: string, schedule: string}} */ { key, schedule }) => `${key} ${schedule}`);
  return { firstAt, untuned, tuned, candidates, schedules: schedules.sort(), outputs: await encode(first) };
}

/** @param {any} model @param {Record<string, import("./tensors.js").Tensor>} inputs */
async function times(model, inputs) {
  const found = [];
  for (let n = 0; n < RUNS; n++) {
    await sleep(PAUSE_MS);
    const begin = performance.now();
    await model.run(inputs);
    found.push(performance.now() - begin);
  }
  return found;
}
