/**
 * The executor as its clients see it: an `Executor` in the context that compiles starts and commands the worker; an
 * `ExecutorClient` elsewhere (the page) runs inferences through a port.
 */

import { DeviceError } from "./errors.js";
import { InferenceClient } from "./inference-client.js";
import { Channel } from "./rpc.js";

/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {Record<string, {type: string, dims: number[], value: number | null}>} InputDescriptions */

export class ExecutorClient {
  /** @param {MessagePort} port from `Executor.connect` */
  constructor(port) {
    this.channel = new Channel(port, { bell: (offer) => this.inferences.useBell(offer) });
    this.inferences = new InferenceClient(this.channel);
  }

  /** @param {Record<string, Tensor>} inputs */
  run(inputs) {
    return this.inferences.run(inputs);
  }

  /** @returns {Promise<Record<string, number>>} */
  stats() {
    return this.channel.call("stats");
  }

  dispose() {
    this.channel.close();
  }
}

/** @type {Map<string, Worker>} workers that were started ahead, by the address of their script */
const spares = new Map();

/** @param {string} url of executor.worker.js */
function startWorker(url) {
  return new Worker(url, { type: "module", name: "nnjit-executor" });
}

/**
 * Start a worker for the next Executor: that takes longer than loading a small model does.
 * @param {string} url of executor.worker.js
 */
export function startAhead(url) {
  if (spares.has(url)) return;
  const worker = startWorker(url);
  // The Executor that finds none starts another, and reports what is wrong.
  worker.onerror = () => spares.delete(url);
  spares.set(url, worker);
}

export class Executor {
  /**
   * @param {{executor: string, pool: string, quarantine: string}} urls of the workers
   * @param {(inputs: InputDescriptions) => Promise<any>} needPlan must have added a fitting plan when it resolves
   */
  constructor(urls, needPlan) {
    this.urls = urls;
    this.worker = spares.get(urls.executor) ?? startWorker(urls.executor);
    spares.delete(urls.executor);
    this.channel = new Channel(this.worker, {
      needPlan: ({ inputs }) => needPlan(inputs),
      bell: (offer) => this.inferences.useBell(offer),
    });
    this.inferences = new InferenceClient(this.channel);
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
    return this.channel.call("open", { device, threads, poolUrl: this.urls.pool, quarantineUrl: this.urls.quarantine });
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
    return this.inferences.run(inputs);
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

  /** @param {{plan: number, repeat: number, background?: boolean}} request */
  profile(request) {
    return this.channel.call("profile", request);
  }

  /**
   * Whether no inference came in the latest `ms` milliseconds.
   * @param {number} ms
   * @returns {Promise<boolean>}
   */
  quiet(ms) {
    return this.channel.call("quiet", { ms });
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
