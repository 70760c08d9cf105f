/**
 * The page behind `python build.py run`: the runtime's functions with plain data in and out, for a driver that can only
 * pass JSON. Every function of `shell` returns { value }, or { refusal: { code, message } } for a typed error.
 */

import { apiArrayTypeOf } from "../../runtime/dtypes.js";
import { load } from "../../runtime/nnjit.js";

/** @typedef {Awaited<ReturnType<typeof load>>} Model */
/** @typedef {import("../../runtime/dtypes.js").Tensor} Tensor */

/** @type {Model} */
let model;
/** @type {Record<string, Tensor>} */
const inputs = {};
/** @type {Record<string, Tensor>} */
let outputs = {};

const shell = {
  /**
   * Load a model and tell what inputs it takes.
   * @param {string} url
   * @param {"auto" | "wasm" | "webgpu"} device
   * @param {number | undefined} threads
   */
  async load(url, device, threads) {
    let stage = "";
    const onProgress = (/** @type {{stage: string}} */ progress) => {
      if (progress.stage !== stage) console.info((stage = progress.stage));
    };
    const start = performance.now();
    model = await load(url, { device, threads, tune: "off", onProgress });
    return { ms: performance.now() - start, inputs: model.inputs };
  },

  /**
   * Take an input from the raw bytes at a URL.
   * @param {string} name
   * @param {string} url
   * @param {number[]} dims
   * @param {string} type
   */
  async setInput(name, url, dims, type) {
    const bytes = await (await fetch(url)).arrayBuffer();
    inputs[name] = { data: new (apiArrayTypeOf(type))(bytes), dims, type };
  },

  /**
   * Run until there are `runs` times or `seconds` have passed, at least once; milliseconds of each.
   * @param {number} runs
   * @param {number} seconds
   */
  async run(runs, seconds) {
    const times = [];
    const end = performance.now() + 1000 * seconds;
    do {
      const start = performance.now();
      outputs = await model.run(inputs);
      times.push(performance.now() - start);
    } while (times.length < runs && performance.now() < end);
    return times;
  },

  /** @param {number} seconds */
  async tune(seconds) {
    await model.tune({ seconds });
  },

  /** The last run's outputs, their bytes in base64. */
  async outputs() {
    const entries = Object.entries(outputs).map(async ([name, { data, dims, type }]) => {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      return [name, { dims, type, base64: await base64(bytes) }];
    });
    return Object.fromEntries(await Promise.all(entries));
  },

  async report() {
    return await model.report();
  },
};

/**
 * @param {Uint8Array} bytes
 * @returns {Promise<string>}
 */
function base64(bytes) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,?/, ""));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(new Blob([/** @type {BlobPart} */ (bytes)]));
  });
}

/**
 * @param {keyof typeof shell} name
 * @param {any[]} parameters
 */
async function call(name, parameters) {
  try {
    const method = /** @type {(...parameters: any[]) => Promise<unknown>} */ (shell[name]);
    return { value: (await method(...parameters)) ?? null };
  } catch (error) {
    const { code, message } = /** @type {any} */ (error);
    if (typeof code !== "string") throw error;
    return { refusal: { code, message } };
  }
}

Object.assign(globalThis, { call });
