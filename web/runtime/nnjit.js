/**
 * nnjit for a page: load an ONNX model, run it, tune it.
 *
 *     import { load } from "./runtime/nnjit.js";
 *     const model = await load("model.onnx", { device: "auto", tune: "background", onProgress: console.log });
 *     const { y } = await model.run({ x: { data: new Float32Array(4), dims: [1, 4], type: "float32" } });
 */

import { DeviceError } from "./errors.js";
import { ExecutorClient } from "./executor.js";
import { hasPlans } from "./plan-store.js";
import { Channel } from "./rpc.js";

export * from "./errors.js";

/** @typedef {import("./dtypes.js").Tensor} Tensor */
/** @typedef {import("./types.js").Facts} Facts */
/** @typedef {import("./session.js").Progress} Progress stages: compiler, download, graph, kernels, weights */
/** @typedef {{name: string, dtype: string, shape: (number | string | null)[] | null}} Port */
/**
 * @typedef {object} TuneEvent
 * @property {string} [task]
 * @property {string} [label]
 * @property {string} [schedule]
 * @property {number | null} [ms]
 * @property {number | null} [best]
 * @property {string} status what became of a candidate; "swapped": a winner was put to use; "microbench": the device is
 *   being measured first; "measured": that is over; "done": nothing is left to try for now; "compiler": Python is started, or asked to know the
 *   model; "failed": tuning ended with an error, or Python does not start, as `message` says
 * @property {string} [message]
 * @property {number | null} [secondsLeft]
 */
/**
 * @typedef {object} LoadOptions
 * @property {"auto" | "wasm" | "webgpu"} [device]
 * @property {number | null} [threads] CPU threads; null: as many as suit the machine
 * @property {"background" | "off"} [tune]
 * @property {(progress: Progress) => void} [onProgress]
 * @property {AbortSignal} [signal] stops loading; `load` then throws an AbortError
 * @property {Blob[]} [files] files chosen with a model file: its external data, found by name
 * @property {Record<string, string | Blob | ArrayBuffer | Uint8Array>} [externalData] by the location that the model
 *   gives, where it is not to be found beside the model
 * @property {boolean} [cache] false: do not keep the model in the browser's cache
 * @property {string[]} [without] passes of the code generator to leave out, to find out what they are worth: the names
 *   are in nnjit/codegen_passes.py
 */

/** The worker of this page in which models are loaded; it starts another one for Python when that is needed. */
class Loader {
  constructor() {
    /** @type {Map<number, {onProgress: (progress: Progress) => void, onEvent: (event: any) => void}>} */
    this.models = new Map();
    this.nextId = 1;
    this.worker = new Worker(new URL("session.worker.js", import.meta.url), { type: "module", name: "nnjit-session" });
    this.worker.onerror = (event) => {
      this.fail(new DeviceError(`The worker for models failed: ${event.message || "its script could not be loaded"}.`));
    };
    this.channel = new Channel(this.worker, {
      progress: ({ id, progress }) => this.models.get(id)?.onProgress(progress),
      event: ({ id, event }) => this.models.get(id)?.onEvent(event),
    });
    this.watch = new AbortController();
    // The last that many pages get to do; a page that is closed may not even get so far.
    const leave = () => this.channel.notify("leave");
    const { document } = globalThis;
    const hidden = () => document.visibilityState === "hidden" && leave();
    document?.addEventListener("visibilitychange", hidden, { signal: this.watch.signal });
    globalThis.addEventListener("pagehide", leave, { signal: this.watch.signal });
  }

  /**
   * Give up on the worker; the next load starts another.
   * @param {Error} error
   */
  fail(error) {
    if (loader === this) loader = null;
    this.watch.abort();
    this.channel.close(error);
    this.worker.terminate();
  }
}

/** @type {Loader | null} */
let loader = null;

/**
 * Start Python before a model needs it; resolves when it is there. A model of which `keepsPlans` may know need not wait
 * for it, and may never need it.
 * @throws {CompilerError} when it does not start; what needs it next starts it again
 */
export async function prepare() {
  loader ??= new Loader();
  await loader.channel.call("prepare");
}

/** Whether this browser keeps plans of models that were loaded on earlier visits: those run without Python. */
export function keepsPlans() {
  return hasPlans();
}

/**
 * All that was tuned in this browser, of any model and on any of its devices, as a kernel file: schedules and times,
 * no code. Its form: nnjit/tune/kernel_file.py.
 * @returns {Promise<string>} JSON
 */
export async function exportKernels() {
  loader ??= new Loader();
  return loader.channel.call("exportKernels");
}

/**
 * Take a kernel file that was exported elsewhere, for models that are loaded from now on. Its schedules are hints: tried
 * first where a model has these kernels, and adopted only after they were checked and have won on this device.
 * @param {Blob | string} file
 * @returns {Promise<{schedules: number, kernels: number, devices: string[], kept: boolean, refused: string[], message: string}>}
 *   `message` says it all in words; `refused`: a sentence for each record that was left out
 * @throws {KernelFileError} when it is no kernel file
 */
export async function importKernels(file) {
  loader ??= new Loader();
  return loader.channel.call("importKernels", { text: typeof file === "string" ? file : await file.text() });
}

/**
 * Load a model: its file is fetched while the compiler starts; a model whose shapes are constant is compiled at once,
 * another one at its first run. One of which an earlier visit kept a plan needs no compiler until something else is asked
 * of it than inferences that the plan fits; if it was not tuned to the end, tuning goes on when inferences pause.
 *
 * @param {string | URL | Blob | ArrayBuffer | Uint8Array} source a URL is resolved against the page
 * @param {LoadOptions} [options]
 * @returns {Promise<Model>}
 * @throws {NnjitError} of a type that tells what is wrong: see errors.js
 */
export async function load(source, options = {}) {
  const { onProgress = () => {}, signal, device = "auto", threads = null, tune = "background", ...rest } = options;
  signal?.throwIfAborted();
  loader ??= new Loader();
  const owner = loader;
  const id = owner.nextId++;
  const listeners = { onProgress, onEvent: () => {} };
  owner.models.set(id, listeners);
  const resolved = Object.fromEntries(
    Object.entries(rest.externalData ?? {}).map(([name, value]) => [name, absolute(value)]),
  );
  const started = performance.now();
  const loading = owner.channel.call("load", {
    id,
    options: { source: absolute(source), device, threads, tune, ...rest, externalData: resolved },
  });
  try {
    const described = await abortable(loading, signal);
    return new Model(owner, id, { ...described, loadMs: performance.now() - started }, listeners);
  } catch (error) {
    owner.models.delete(id);
    owner.channel.call("dispose", { id }).catch(() => {});
    throw error;
  }
}

/**
 * A URL made absolute, anything else as it is.
 * @template T
 * @param {T} source
 * @returns {T | string}
 */
function absolute(source) {
  if (typeof source !== "string" && !(source instanceof URL)) return source;
  try {
    return new URL(String(source), globalThis.document?.baseURI ?? globalThis.location?.href).href;
  } catch {
    return String(source);
  }
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
function abortable(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    promise.then(resolve, reject);
  });
}

/** A loaded model. */
export class Model {
  /**
   * @param {Loader} owner
   * @param {number} id
   * @param {{inputs: Port[], outputs: Port[], facts: Facts, python: "off" | "on", tuned: boolean, port: MessagePort,
   *   loadMs: number}} described
   * @param {{onEvent: (event: any) => void}} listeners
   */
  constructor(owner, id, { inputs, outputs, facts, python, tuned, port, loadMs }, listeners) {
    this.owner = owner;
    this.id = id;
    /** What the model takes and gives; a dimension is a number, a name, or null. */
    this.inputs = inputs;
    this.outputs = outputs;
    /** The device that runs it, and what was found about it. */
    this.device = facts.device;
    this.facts = facts;
    /**
     * "off": the plan of an earlier visit runs, and nothing has needed Python for this model yet; "failed": Python did not
     * start, and inferences go on without it. Whatever needs it next starts it. A "tune" event tells of each change.
     * @type {"off" | "on" | "failed"}
     */
    this.python = python;
    /** Whether the plan of an earlier visit runs that was tuned until nothing was left to try. */
    this.tuned = tuned;
    /** Milliseconds that loading took. */
    this.loadMs = loadMs;
    this.executor = new ExecutorClient(port);
    /** @type {Map<string, Set<(event: any) => void>>} */
    this.listeners = new Map();
    this.disposed = false;
    listeners.onEvent = (event) => {
      if (event.event === "compiler") this.python = event.status === "failed" ? "failed" : "on";
      this.emit("tune", event);
    };
  }

  /**
   * One inference. The arrays passed stay yours; those returned are new.
   *
   * @param {Record<string, Tensor>} inputs
   * @returns {Promise<Record<string, Tensor>>} outputs by name
   * @throws {InputError} for a missing or unknown input, or one of the wrong type or shape
   * @throws {UnsupportedError | DeviceError | OutOfMemoryError} when these shapes cannot be compiled or run
   */
  async run(inputs) {
    return (await this.executor.run(inputs)).outputs;
  }

  /**
   * The same, with the milliseconds that the device took.
   * @param {Record<string, Tensor>} inputs
   * @returns {Promise<{outputs: Record<string, Tensor>, ms: number}>}
   */
  runTimed(inputs) {
    return this.executor.run(inputs);
  }

  /**
   * Look for faster kernels; inferences go on meanwhile, and use each winner from then on.
   * @param {{seconds?: number, onProgress?: (event: TuneEvent) => void, signal?: AbortSignal}} [options]
   * @returns {Promise<void>} when the time is over, nothing promising is left, or `signal` or `pauseTuning` ends it
   * @throws {InputError} when the model has dynamic dimensions and was never run
   */
  async tune({ seconds = 30, onProgress, signal } = {}) {
    const stop = onProgress ? this.on("tune", onProgress) : () => {};
    const pause = () => this.pauseTuning();
    signal?.addEventListener("abort", pause, { once: true });
    try {
      await this.ask("tune", { seconds });
    } finally {
      stop();
      signal?.removeEventListener("abort", pause);
    }
  }

  /** Stop tuning, in the background too; `resumeTuning` or `tune` goes on where it was. @returns {Promise<void>} */
  pauseTuning() {
    return this.ask("pause_tuning", {});
  }

  /** Tune in the background again. @returns {Promise<void>} */
  resumeTuning() {
    return this.ask("resume_tuning", {});
  }

  /**
   * What runs and how fast: device, timings, kernels with their times, tuning tasks with their candidates, memory.
   * @returns {Promise<any>} see Model.report in nnjit/runtime/model.py
   */
  report() {
    return this.ask("report", {});
  }

  /**
   * What tuning found for this model's kernels on this device, as a kernel file.
   * @returns {Promise<string>} JSON
   */
  exportKernels() {
    return this.ask("export_kernels", {});
  }

  /**
   * Time every kernel on the latest inputs, `repeat` times; `report` gives the medians.
   * @param {{repeat?: number}} [options]
   * @returns {Promise<void>}
   */
  profile({ repeat = 3 } = {}) {
    return this.ask("profile", { repeat });
  }

  /**
   * The emitted code of a kernel that `report` names: readable WebAssembly text, or WGSL.
   * @param {string} kernel
   * @returns {Promise<string>}
   */
  source(kernel) {
    return this.ask("source", { kernel });
  }

  /**
   * Listen to events: "tune", for each candidate tried and each unit swapped.
   * @param {"tune"} event
   * @param {(event: TuneEvent) => void} listener
   * @returns {() => void} stops listening
   */
  on(event, listener) {
    const listeners = this.listeners.get(event) ?? new Set();
    this.listeners.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** @param {string} name @param {any} event */
  emit(name, event) {
    for (const listener of this.listeners.get(name) ?? []) listener(event);
  }

  /**
   * @param {string} method
   * @param {object} args
   * @returns {Promise<any>}
   */
  ask(method, args) {
    if (this.disposed) return Promise.reject(new DeviceError("The model was disposed of."));
    return this.owner.channel.call("call", { id: this.id, method, args });
  }

  /** Give back all memory; calls under way fail. */
  dispose() {
    if (this.disposed) return;
    this.disposed = true;
    this.executor.dispose();
    this.owner.models.delete(this.id);
    this.owner.channel.call("dispose", { id: this.id }).catch(() => {});
  }
}
