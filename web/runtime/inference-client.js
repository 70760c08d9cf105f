/** Asking an executor for inferences: through shared memory where it offers some, else through messages. */

import { Bell } from "./bell.js";
import { detachedCopy } from "./inputs.js";
import { canWait } from "./lane.js";
import { LaneClient } from "./lane-client.js";

/** @typedef {import("./rpc.js").Channel} Channel */
/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {{outputs: Record<string, Tensor>, ms: number, plan: number}} Inference `ms` spent on the device */

export class InferenceClient {
  /** @param {Channel} channel */
  constructor(channel) {
    this.channel = channel;
    /** @type {LaneClient | null} */
    this.lane = null;
    /** Requests under way. A lane is used when there are none: one request cannot overtake another one then. */
    this.underWay = 0;
    /** Requests in the lane whose answers have not been read: it may not be replaced. */
    this.inLane = 0;
  }

  /**
   * Ring for every message from now on: the executor may be blocked.
   * @param {import("./bell.js").BellOffer} offer
   */
  useBell(offer) {
    this.channel.bell = new Bell(offer);
  }

  /**
   * Send inputs and await the outputs. The caller's arrays stay the caller's; the outputs are new.
   * @param {Record<string, Tensor>} inputs
   * @returns {Promise<Inference>}
   */
  async run(inputs) {
    this.underWay += 1;
    try {
      return await ((this.underWay === 1 && this.throughLane(inputs)) || this.throughMessage(inputs));
    } finally {
      this.underWay -= 1;
    }
  }

  /**
   * @param {Record<string, Tensor>} inputs
   * @returns {Promise<Inference> | null} null when the lane cannot take them
   */
  throughLane(inputs) {
    const { lane, channel } = this;
    if (!lane || !channel.bell || channel.closed) return null;
    const { id, answer } = channel.expect();
    const asked = lane.ask(inputs, id, channel.bell);
    if (!asked) {
      channel.settle(id, () => {});
      return null;
    }
    asked.then(
      (inference) => inference && channel.settle(id, ({ resolve }) => resolve(inference)),
      (error) => channel.settle(id, ({ reject }) => reject(error)),
    );
    this.inLane += 1;
    return answer.finally(() => {
      this.inLane -= 1;
    });
  }

  /**
   * @param {Record<string, Tensor>} inputs
   * @returns {Promise<Inference>}
   */
  async throughMessage(inputs) {
    /** @type {Record<string, Tensor>} */
    const copies = {};
    /** @type {Transferable[]} */
    const buffers = [];
    for (const name of Object.keys(inputs ?? {})) {
      const copy = (copies[name] = detachedCopy(inputs[name]));
      if (copy !== inputs[name]) buffers.push(/** @type {ArrayBuffer} */ (copy.data.buffer));
    }
    const { lane, ...inference } = await this.channel.call("run", { inputs: copies, mayOpenLane: canWait && !this.inLane }, buffers);
    if (lane) this.lane = new LaneClient(lane);
    return inference;
  }
}
