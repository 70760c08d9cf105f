/**
 * Calls across a message port, in both directions: `call` on one side runs a handler of that name on the other and
 * gives its result or throws its error, typed. Handlers may answer with `transferring(result, buffers)`.
 */

import { DeviceError, errorFromPlain, errorToPlain, VerificationError } from "./errors.js";

/** @typedef {import("./bell.js").Bell} Bell */
/** @typedef {{postMessage: Function, onmessage: any}} Port A Worker, MessagePort or worker's global scope. */
/** @typedef {(args: any) => any} Handler May return a promise. */

class Transferring {
  /** @param {any} result @param {Transferable[]} buffers */
  constructor(result, buffers) {
    this.result = result;
    this.buffers = buffers;
  }
}

/**
 * A handler's result whose buffers move to the other side instead of being copied.
 * @param {any} result
 * @param {Transferable[]} buffers
 */
export function transferring(result, buffers) {
  return new Transferring(result, buffers);
}

export class Channel {
  /**
   * @param {Port} port
   * @param {Record<string, Handler>} handlers
   */
  constructor(port, handlers = {}) {
    this.port = port;
    this.handlers = handlers;
    this.next = 1;
    /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
    this.waiting = new Map();
    /** @type {Error | null} */
    this.closed = null;
    /** @type {Bell | null} rung for every message, where the other side may be blocked */
    this.bell = null;
    /** Messages received for which a bell was rung. */
    this.announced = 0;
    port.onmessage = (/** @type {MessageEvent} */ event) => this.receive(event.data);
  }

  /**
   * Run the other side's handler `method`.
   * @param {string} method
   * @param {any} [args]
   * @param {Transferable[]} [transfer]
   * @returns {Promise<any>}
   */
  call(method, args, transfer = []) {
    if (this.closed) return Promise.reject(this.closed);
    const { id, answer } = this.expect();
    try {
      this.post({ id, method, args }, transfer);
    } catch (error) {
      this.settle(id, ({ reject }) => reject(/** @type {Error} */ (error)));
    }
    return answer;
  }

  /**
   * Await an answer to what is asked in another way than by `call`.
   * @returns {{id: number, answer: Promise<any>}} `answer` fails when the channel is closed
   */
  expect() {
    const id = this.next++;
    const answer = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    return { id, answer };
  }

  /**
   * End a call.
   * @param {number} id
   * @param {(call: {resolve: (value: any) => void, reject: (error: Error) => void}) => void} how
   */
  settle(id, how) {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    if (waiting) how(waiting);
  }

  /**
   * The same without an answer.
   * @param {string} method
   * @param {any} [args]
   */
  notify(method, args) {
    if (!this.closed) this.post({ id: 0, method, args });
  }

  /**
   * @param {object} message
   * @param {Transferable[]} [transfer]
   */
  post(message, transfer = []) {
    const { bell } = this;
    this.port.postMessage(bell ? { ...message, announced: true } : message, { transfer });
    bell?.announce();
    bell?.ring();
  }

  /**
   * Fail all calls under way, and those to come.
   * @param {Error} [error]
   */
  close(error = new DeviceError("The model was disposed of.")) {
    this.closed = error;
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  /** @param {any} message */
  receive(message) {
    if (message.announced) this.announced = (this.announced + 1) | 0;
    if (message.method === undefined) {
      this.settle(message.answer, ({ resolve, reject }) => {
        if (message.error) reject(errorFromPlain(message.error));
        else resolve(message.result);
      });
      return;
    }
    try {
      const handler = this.handlers[message.method];
      if (!handler) throw new VerificationError(`There is no handler for ${message.method}.`);
      const result = handler(message.args);
      if (result instanceof Promise) {
        result.then(
          (value) => this.answer(message.id, value),
          (error) => this.refuse(message.id, error),
        );
      } else {
        this.answer(message.id, result);
      }
    } catch (error) {
      this.refuse(message.id, error);
    }
  }

  /** @param {number} id @param {any} value */
  answer(id, value) {
    if (!id) return;
    const { result, buffers } = value instanceof Transferring ? value : { result: value, buffers: [] };
    try {
      this.post({ answer: id, result }, buffers);
    } catch (error) {
      this.refuse(id, error);
    }
  }

  /** @param {number} id @param {unknown} error */
  refuse(id, error) {
    if (id) this.post({ answer: id, error: errorToPlain(error) });
    else console.error(error);
  }
}
