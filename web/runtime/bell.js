/**
 * The bell of an executor with shared memory: its clients ring it when they have put a request into a lane (lane.js) or
 * sent a message. For a while after an inference the executor waits for it, blocked: that wakes it in half the time
 * that its event loop takes. A blocked executor receives no message, so each is announced and rung for.
 */

import { CONTROL } from "./program.js";

/** @typedef {{memory: WebAssembly.Memory}} BellOffer */

export class Bell {
  /** @param {BellOffer} offer memory that starts with the control block of program.js */
  constructor({ memory }) {
    this.offer = { memory };
    this.control = new Int32Array(memory.buffer, 0, CONTROL.MESSAGES + 1);
  }

  /** Wake the executor. */
  ring() {
    Atomics.add(this.control, CONTROL.BELL, 1);
    Atomics.notify(this.control, CONTROL.BELL);
  }

  /** Messages announced so far; wraps. */
  get announced() {
    return Atomics.load(this.control, CONTROL.MESSAGES);
  }

  /** How often it was rung; wraps. */
  get rung() {
    return Atomics.load(this.control, CONTROL.BELL);
  }

  /**
   * Wait for the next ring, blocked.
   * @param {number} rung what `rung` was when there was nothing to do
   * @param {number} ms at most
   */
  block(rung, ms) {
    Atomics.wait(this.control, CONTROL.BELL, rung, ms);
  }

  /**
   * Wait for the next ring in the event loop.
   * @param {number} rung
   */
  async wait(rung) {
    const wait = /** @type {any} */ (Atomics).waitAsync(this.control, CONTROL.BELL, rung);
    if (wait.async) await wait.value;
  }

  /** Announce a message, before it is posted. */
  announce() {
    Atomics.add(this.control, CONTROL.MESSAGES, 1);
  }
}
