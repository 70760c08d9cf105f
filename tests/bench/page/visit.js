/** One visit to a page with a model: from opening it to the first output, and what the inferences after it take. */

import { encode, fetchTensors } from "./tensors.js";

/** Inferences that are timed, a break before each. */
const RUNS = 15;
const PAUSE_MS = 20;
/** Measuring the device takes less, ms, even under inferences without a break. */
const MEASURING_MS = 20_000;
/** Until what tuning found is kept, or, where everything is known, until a tuner that searches on would have begun. */
const AFTERWARDS_MS = 4000;

/** @param {number[]} values */
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * @param {{root: string, device: string, threads: number, url: string, inputs: Record<string, {url: string, dims: number[], type: string}>}} visited
 *   the model keeps its `url` from visit to visit
 * @param {number} tune seconds in the foreground, at most
 * @returns {Promise<{firstAt: number, soon: number[], later: number[], disturbance: number | null,
 *   candidates: number, over: boolean, python: boolean, schedules: string[],
 *   outputs: object}>} firstAt: ms from opening the page to the first output; soon: ms of the inferences after it; later: of
 *   some more, after tuning or a few seconds; disturbance: see `whileMeasured`; candidates: measured; over: whether nothing
 *   is left to measure; python: whether Python was started; schedules: of all kernels, in the end
 */
export async function visit({ root, device, threads, url, inputs: described }, tune) {
  const { load } = await import(`${root}/runtime/nnjit.js`);
  const [model, inputs] = await Promise.all([load(url, { device, threads }), fetchTensors(described)]);
  let candidates = 0;
  let over = false;
  let state = "";
  model.on("tune", (/** @type {{event: string, status: string}} */ { event, status }) => {
    if (event === "candidate") candidates += 1;
    over = status === "done";
    state = status;
  });
  const first = await model.run(inputs);
  const firstAt = performance.now();
  const disturbance = tune ? await whileMeasured(model, inputs, () => state) : null;
  const soon = await times(model, inputs);
  if (tune) await model.tune({ seconds: tune });
  await sleep(AFTERWARDS_MS);
  const python = model.python !== "off";
  await model.pauseTuning();
  const later = await times(model, inputs);
  const { tasks } = await model.report();
  const schedules = tasks.map((/** @type {{key: string, schedule: string}} */ { key, schedule }) => `${key} ${schedule}`);
  const outputs = await encode(first);
  return { firstAt, soon, later, disturbance, candidates, over, python, schedules: schedules.sort(), outputs };
}

/**
 * Infer without a break while microbenchmarks measure the device, and as often once all that goes on beside is paused.
 * @param {any} model
 * @param {Record<string, import("./tensors.js").Tensor>} inputs
 * @param {() => string} state the latest event
 * @returns {Promise<number | null>} ratio of the medians; null where nothing was measured
 */
async function whileMeasured(model, inputs, state) {
  const time = async () => {
    const begin = performance.now();
    await model.run(inputs);
    return performance.now() - begin;
  };
  const during = [];
  const end = performance.now() + MEASURING_MS;
  for (let now = state(); (!now || now === "microbench") && performance.now() < end; now = state()) {
    const ms = await time();
    if (now) during.push(ms);
  }
  await model.pauseTuning();
  const alone = [];
  while (alone.length < during.length) alone.push(await time());
  return during.length ? median(during) / median(alone) : null;
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
