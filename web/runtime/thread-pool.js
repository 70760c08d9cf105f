/**
 * The threads that share a WasmMemory, this one included: it is thread 0, and leads. A kernel is a slot in a table of
 * functions that is the same on every thread.
 */

import { DeviceError } from "./errors.js";
import { announceLetter, lead, NOTHING, scratchOf, toucher, walk } from "./program.js";

/** @typedef {import("./wasm-memory.js").WasmMemory} WasmMemory */

/** Milliseconds that a worker may take to start before the pool gives up on threads. */
const START_TIMEOUT = 10000;

export class ThreadPool {
  /** @param {WasmMemory} memory */
  constructor(memory) {
    this.memory = memory;
    /** @type {Worker[]} */
    this.workers = [];
    /** @type {Function[]} by slot */
    this.functions = [NOTHING, toucher(memory.memory)];
    /** @type {number[]} */
    this.freeSlots = [];
  }

  get threads() {
    return this.workers.length + 1;
  }

  /**
   * Start the other threads; every one has answered when this resolves.
   * @param {number} threads in total
   * @param {string | URL} url of pool.worker.js
   * @throws {DeviceError} when one does not start; the pool is then as before
   */
  async start(threads, url) {
    const workers = [];
    try {
      for (let thread = 1; thread < threads; thread++) workers.push(new Worker(url, { type: "module", name: `nnjit-${thread}` }));
      await Promise.all(
        workers.map((worker, i) => ask(worker, { memory: this.memory.memory, thread: i + 1, threads }, START_TIMEOUT)),
      );
      this.workers = workers;
    } catch (error) {
      for (const worker of workers) worker.terminate();
      throw error;
    }
  }

  /**
   * Instantiate modules on every thread.
   * @param {{module: WebAssembly.Module, names: string[]}[]} modules with the exports wanted of each
   * @returns {Promise<number[][]>} slots of the functions, in the order asked for
   * @throws {WebAssembly.LinkError | Error} when a module cannot be instantiated here
   */
  async add(modules) {
    /** @type {{module: WebAssembly.Module, functions: {index: number, name: string}[]}[]} */
    const entries = [];
    for (const { module, names } of modules) {
      const instance = await WebAssembly.instantiate(module, { env: { memory: this.memory.memory, scratch: scratchOf(0) } });
      const functions = names.map((name) => {
        const f = instance.exports[name];
        if (typeof f !== "function") throw new DeviceError(`A compiled module has no function ${JSON.stringify(name)}.`);
        const index = this.freeSlots.pop() ?? this.functions.length;
        this.functions[index] = f;
        return { index, name };
      });
      entries.push({ module, functions });
    }
    if (this.workers.length && entries.length) {
      announceLetter(this.memory.control);
      await Promise.all(this.workers.map((worker) => ask(worker, { modules: entries }, START_TIMEOUT)));
    }
    return entries.map(({ functions }) => functions.map(({ index }) => index));
  }

  /**
   * Forget functions; their slots are used again.
   * @param {Iterable<number>} slots
   */
  release(slots) {
    for (const slot of slots) {
      this.functions[slot] = released;
      this.freeSlots.push(slot);
    }
  }

  /**
   * Walk words [start, end) of a program, with all threads or alone.
   *
   * @param {Int32Array} words
   * @param {number} start
   * @param {number} end
   * @param {number} address where the pool may read a copy of them; 4-byte aligned
   * @param {number} repeat
   * @param {boolean} shared whether other threads may help
   * @param {boolean} [fresh] whether kernels may be new, so that many short calls are faster than a long one
   * @throws {StepTrap}
   */
  run(words, start, end, address, repeat, shared, fresh = false) {
    const { threads, functions } = this;
    if (!this.workers.length || !shared) {
      walk(words, start, end, functions, repeat, fresh);
      return;
    }
    const { control, memory } = this.memory;
    const copy = new Int32Array(memory.buffer, address, end - start);
    copy.set(words.subarray(start, end));
    lead(control, threads, copy, functions, repeat, fresh);
  }

  dispose() {
    for (const worker of this.workers) worker.terminate();
    this.workers = [];
    this.functions = [];
  }
}

function released() {
  throw new DeviceError("A kernel was called after it had been replaced.");
}

/**
 * Send a message and await the one answer.
 * @param {Worker} worker
 * @param {object} message
 * @param {number} timeout in ms
 */
function ask(worker, message, timeout) {
  return /** @type {Promise<void>} */ (
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new DeviceError(`A thread did not answer within ${timeout / 1000} s.`)), timeout);
      worker.onmessage = ({ data }) => {
        clearTimeout(timer);
        if (data.ready) resolve();
        else reject(new DeviceError(`A thread failed: ${data.message}`));
      };
      worker.onerror = (event) => {
        clearTimeout(timer);
        reject(new DeviceError(`A thread did not start: ${event.message || "its script could not be loaded"}.`));
      };
      worker.postMessage(message);
    })
  );
}
