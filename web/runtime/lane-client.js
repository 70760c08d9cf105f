/** The client's end of a lane: see lane.js. */

import { ARRAYS, describe, HEADER_BYTES, readText, WORDS, writeText } from "./lane.js";

/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {import("./lane.js").LaneOffer} LaneOffer */
/** @typedef {import("./lane.js").Answer} Answer */

export class LaneClient {
  /** @param {LaneOffer} offer */
  constructor({ memory, address, bytes, bell }) {
    // Growth by another thread may not have reached this one's `buffer` yet.
    if (memory.buffer.byteLength < address + bytes) memory.grow(0);
    this.buffer = memory.buffer;
    this.address = address;
    this.bytes = bytes;
    this.words = new Int32Array(this.buffer, address, HEADER_BYTES / 4);
    this.bell = new Int32Array(this.buffer, bell, 1);
    this.number = 0;
    this.text = "";
    /** @type {any[]} where the inputs of `text` go */
    this.places = [];
    this.end = 0;
    this.answerText = -1;
    /** @type {Answer} */
    this.answer = { plan: 0, outputs: [] };
  }

  /**
   * Ask, if the inputs fit.
   * @param {Record<string, Tensor>} inputs
   * @param {number} id by which a message may answer
   * @returns {Promise<{outputs: Record<string, Tensor>, ms: number, plan: number} | null> | null} null when they do not;
   *   a promise of null when a message answers
   */
  ask(inputs, id) {
    const described = describe(inputs);
    if (!described || described.end > this.bytes) return null;
    const { words } = this;
    const number = ++this.number;
    if (described.text !== this.text) {
      this.text = described.text;
      this.end = described.end;
      this.places = described.entries.map(
        ([, , , array, length, offset]) => new (ARRAYS.get(array))(this.buffer, this.address + offset, length),
      );
      writeText(this.buffer, this.address + HEADER_BYTES, this.text);
      words[WORDS.REQUEST_UNITS] = this.text.length;
      words[WORDS.REQUEST_TEXT] = number;
      words[WORDS.REQUEST_END] = this.end;
    }
    described.entries.forEach(([name], i) => this.places[i].set(inputs[name].data));
    words[WORDS.ID] = id;
    Atomics.store(words, WORDS.REQUEST, number);
    Atomics.add(this.bell, 0, 1);
    Atomics.notify(this.bell, 0);
    // Memory that nobody has touched yet costs more than the copy into it, and now there is time.
    const arrays = this.answer.outputs.map(([, , , array, length]) => touched(new (ARRAYS.get(array))(length)));
    return this.await(number).then(() => this.collect(arrays));
  }

  /** @param {number} number of the request */
  async await(number) {
    for (;;) {
      const answered = Atomics.load(this.words, WORDS.ANSWER);
      if (answered === number) return;
      const wait = /** @type {any} */ (Atomics).waitAsync(this.words, WORDS.ANSWER, answered);
      if (wait.async) await wait.value;
    }
  }

  /**
   * @param {any[]} arrays of the sizes of the last answer
   * @returns {{outputs: Record<string, Tensor>, ms: number, plan: number} | null}
   */
  collect(arrays) {
    const { words, buffer, address } = this;
    if (!words[WORDS.IN_LANE]) return null;
    if (words[WORDS.ANSWER_TEXT] !== this.answerText) {
      this.answerText = words[WORDS.ANSWER_TEXT];
      const at = address + words[WORDS.ANSWER_OFFSET];
      this.answer = JSON.parse(readText(buffer, at, words[WORDS.ANSWER_UNITS]));
      arrays = this.answer.outputs.map(([, , , array, length]) => new (ARRAYS.get(array))(length));
    }
    /** @type {Record<string, Tensor>} */
    const outputs = {};
    this.answer.outputs.forEach(([name, type, dims, array, length, offset], i) => {
      const data = arrays[i];
      data.set(new (ARRAYS.get(array))(buffer, address + offset, length));
      outputs[name] = { data, dims: [...dims], type: /** @type {string} */ (type) };
    });
    const ms = new Float64Array(buffer, address + 4 * WORDS.MS, 1)[0];
    return { outputs, ms, plan: this.answer.plan };
  }
}

/**
 * @template {{buffer: ArrayBufferLike}} T
 * @param {T} array of zeros
 */
function touched(array) {
  const bytes = new Uint8Array(array.buffer);
  for (let at = 0; at < bytes.length; at += 4096) bytes[at] = 0;
  return array;
}
