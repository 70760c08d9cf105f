/**
 * The executor as its clients see it: an `Executor` in the context that compiles starts and commands the worker; an
 * `ExecutorClient` elsewhere (the page) runs inferences through a port.
 */

import { DeviceError } from "./errors.js";
import { detachedCopy } from "./inputs.js";
import { Channel } from "./rpc.js";

/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {Record<string, {type: string, dims: number[], value: number | null}>} InputDescriptions */

/**
 * Send inputs and await the outputs. The caller's arrays stay the caller's.
 * @param {Channel} channel
 * @param {Record<string, Tensor>} inputs
 * @returns {Promise<{outputs: Record<string, Tensor>, ms: number, plan: number}>} `ms` spent on the device
 */
function run(channel, inputs) {
  /** @type {Record<string, Tensor>} */
  const copies = {};
  /** @type {Transferable[]} */
  const buffers = [];
  for (const name of Object.keys(inputs ?? {})) {
    const copy = (copies[name] = detachedCopy(inputs[name]));
    if (copy !== inputs[name]) buffers.push(/** @type {ArrayBuffer} */ (copy.data.buffer));
  }
  return channel.call("run", { inputs: copies }, buffers);
}

export class ExecutorClient {
  /** @param {MessagePort} port from `Executor.connect` */
  constructor(port) {
    this.channel = new Channel(port);
  }

  /** @param {Record<string, Tensor>} inputs */
  run(inputs) {
    return run(this.channel, inputs);
  }

  /** @returns {Promise<Record<string, number>>} */
  stats() {
    return this.channel.call("stats");
  }

  dispose() {
    this.channel.close();
  }
}

export class Executor {
  /**
   * @param {{executor: string, pool: string}} urls of executor.worker.js and pool.worker.js
   * @param {(inputs: InputDescriptions) => Promise<any>} needPlan must have added a fitting plan when it resolves
   */
  constructor(urls, needPlan) {
    this.urls = urls;
    this.worker = new Worker(urls.executor, { type: "module", name: "nnjit-executor" });
    this.channel = new Channel(this.worker, {
      needPlan: ({ inputs }) => needPlan(inputs),
    });
    this.worker.onerror = (event) => {
      const what = event.message || "its script could not be loaded";
      this.channel.close(new DeviceError(`The executor's worker failed: ${what}. Load the model again.`));
    };
  }

  /**
   * @param {{device: string, threads: number | null}} options
   * @returns {Promise<import("./types.js").Facts>}
   */
  open({ device, threads }) {
    return this.channel.call("open", { device, threads, poolUrl: this.urls.pool });
  }

  /** @param {import("./inputs.js").Signature} signature */
  setSignature(signature) {
    return this.channel.call("setSignature", signature);
  }

  /** @param {Record<string, ArrayBuffer | Blob>} files transferred */
  setFiles(files) {
    const buffers = Object.values(files).filter((file) => file instanceof ArrayBuffer);
    return this.channel.call("setFiles", files, buffers);
  }

  /**
   * @param {string} json
   * @param {Uint8Array[]} blobs transferred
   */
  addPlan(json, blobs) {
    return this.channel.call("addPlan", { json, blobs }, ownBuffers(blobs));
  }

  /** @param {Record<string, Tensor>} inputs */
  run(inputs) {
    return run(this.channel, inputs);
  }

  /** @param {import("./types.js").MeasureRequest} request */
  measure(request) {
    return this.channel.call("measure", request);
  }

  /**
   * @param {import("./types.js").Probe} probe
   * @returns {Promise<(number | null)[]>} milliseconds of each experiment
   */
  microbench(probe) {
    return this.channel.call("microbench", probe);
  }

  /** @param {{plan: number, replacements: import("./types.js").Replacement[]}} request */
  swap(request) {
    return this.channel.call("swap", request);
  }

  /** @param {{plan: number, repeat: number}} request */
  profile(request) {
    return this.channel.call("profile", request);
  }

  /** @returns {Promise<Record<string, number>>} */
  stats() {
    return this.channel.call("stats");
  }

  /**
   * A port through which another context may run inferences: `new ExecutorClient(port)`.
   * @returns {Promise<MessagePort>}
   */
  async connect() {
    const { port1, port2 } = new MessageChannel();
    await this.channel.call("connect", { port: port2 }, [port2]);
    return port1;
  }

  /** Stop the worker and give back all memory; calls under way fail. */
  dispose() {
    this.channel.call("dispose").catch(() => {});
    this.channel.close();
    // It closes itself; a measurement that never ends is cut off.
    setTimeout(() => this.worker.terminate(), 1000);
  }
}

/**
 * The buffers of arrays that have one to themselves, each once.
 * @param {Uint8Array[]} arrays
 */
function ownBuffers(arrays) {
  const buffers = new Set(arrays.filter((a) => a.byteLength === a.buffer.byteLength).map((a) => a.buffer));
  return [...buffers].filter((buffer) => buffer instanceof ArrayBuffer);
}
