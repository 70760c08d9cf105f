/**
 * Python's worker (compiler.worker.js) as session.worker.js sees it: started when something first needs it, given up when
 * it fails, and started again by what needs it next. Models go on with the kernels that they have meanwhile.
 */

import { CompilerError } from "./errors.js";
import { Channel } from "./rpc.js";

export class CompilerClient {
  /**
   * @param {URL} url of compiler.worker.js
   * @param {Record<string, import("./rpc.js").Handler>} handlers of what the compiler asks for
   * @param {() => void} lost called when the worker was given up: it knows no model any more
   */
  constructor(url, handlers, lost) {
    this.url = url;
    this.handlers = handlers;
    this.lost = lost;
    /** @type {{channel: Channel, ready: Promise<void>} | null} the worker that is starting or there */
    this.running = null;
  }

  /** Start Python, unless it was. @returns {{channel: Channel, ready: Promise<void>}} */
  start() {
    if (this.running) return this.running;
    const worker = new Worker(this.url, { type: "module", name: "nnjit-compiler" });
    const channel = new Channel(worker, this.handlers);
    const error = (/** @type {string} */ reason) =>
      new CompilerError(`The compiler is not there: ${reason} It is started again when it is next needed.`);
    const giveUp = (/** @type {CompilerError} */ problem) => {
      if (this.running?.channel !== channel) return;
      this.running = null;
      worker.terminate();
      this.lost();
      channel.close(problem);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      giveUp(error(`its worker failed (${event.message || "its script could not be loaded"}).`));
    };
    const ready = channel.call("ready").catch((reason) => {
      const problem = reason instanceof CompilerError ? reason : error(sentence(reason));
      giveUp(problem);
      throw problem;
    });
    ready.catch(() => {});
    this.running = { channel, ready };
    return this.running;
  }

  /**
   * @param {string} method
   * @param {any} [args]
   * @returns {Promise<any>}
   * @throws {CompilerError} when Python does not start, or is lost meanwhile
   */
  call(method, args) {
    return this.start().channel.call(method, args);
  }
}

/** @param {unknown} error */
function sentence(error) {
  const text = error instanceof Error ? error.message : String(error);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
