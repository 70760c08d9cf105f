/** One executor without Python in the page: plans and candidates come ready-made from outside. */

import { encode, fetchTensors } from "./tensors.js";

/** @typedef {{json: string, blobs: string[]}} Made JSON, and bytes in base64 */

/** @type {any} */
let executor = null;
/** @type {Record<string, import("./tensors.js").Tensor>} */
let inputs = {};

/** @param {string} text */
const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/**
 * @param {{root: string, device: string, threads: number}} options
 * @returns {Promise<object>} facts of the device
 */
export async function open({ root, device, threads }) {
  const { Executor } = await import(`${root}/runtime/executor.js`);
  executor?.dispose();
  const urls = Object.fromEntries(["executor", "pool", "quarantine"].map((name) => [name, `${root}/runtime/${name}.worker.js`]));
  executor = new Executor(urls, () => Promise.reject(new Error("the plan does not fit the inputs")));
  return await executor.open({ device, threads });
}

/**
 * Milliseconds of microbenchmarks.
 * @param {Made} request
 */
export function microbench({ json, blobs }) {
  return executor.microbench({ ...JSON.parse(json), blobs: blobs.map(bytesOf) });
}

/**
 * Place a plan and run it once.
 * @param {{signature: object, model: string, plan: Made, inputs: Record<string, any>}} task
 * @returns {Promise<{plan: number, outputs: Record<string, any>}>}
 */
export async function place({ signature, model, plan, inputs: described }) {
  inputs = await fetchTensors(described);
  await executor.setSignature(signature);
  await executor.setFiles({ "": await (await fetch(model)).arrayBuffer() });
  const added = await executor.addPlan(plan.json, plan.blobs.map(bytesOf));
  const { outputs } = await executor.run(inputs);
  return { plan: added.plan, outputs: await encode(outputs) };
}

/**
 * @param {{plan: number, unit: number, samples: number, tolerance: number, candidates: Made[]}} request
 * @returns {Promise<object>} see Executor.measure
 */
export function measure({ candidates, ...request }) {
  const whole = candidates.map(({ json, blobs }) => ({ ...JSON.parse(json), blobs: blobs.map(bytesOf) }));
  return executor.measure({ ...request, candidates: whole });
}

/** @param {number} plan @param {number} repeat */
export function profile(plan, repeat) {
  return executor.profile({ plan, repeat });
}
