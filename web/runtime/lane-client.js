/** The client's end of a lane: see lane.js. */

import { ARRAYS, describe, HEADER_BYTES, readText, WORDS, writeText } from "./lane.js";

/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {import("./lane.js").LaneOffer} LaneOffer */
/** @typedef {import("./lane.js").Answer} Answer */

export class LaneClient {
  /** @param {LaneOffer} offer */
  constructor({ memory, address, bytes }) {
    // Growth by another thread may not have reached this one's `buffer` yet.
    if (memory.buffer.byteLength < address + bytes) memory.grow(0);
    this.buffer = memory.buffer;
    this.address = address;
    this.bytes = bytes;
    this.words = new Int32Array(this.buffer, address, HEADER_BYTES / 4);
    this.number = 0;
    /** @type {{entries: import("./lane.js").Entry[], places: any[]}} the latest request, and where its inputs go */
    this.request = { entries: [], places: [] };
    this.answerText = -1;
    /** @type {Answer} */
    this.answer = { plan: 0, outputs: [] };
    /** @type {any[] | null} for outputs of the sizes of the latest answer */
    this.arrays = null;
  }

  /**
   * Ask, if the inputs fit.
   * @param {Record<string, Tensor>} inputs
   * @param {number} id by which a message may answer
   * @param {import("./bell.js").Bell} bell
   * @returns {Promise<{outputs: Record<string, Tensor>, ms: number, plan: number} | null> | null} null when they do not;
   *   a promise of null when a message answers
   */
  ask(inputs, id, bell) {
    const number = this.number + 1;
    if (!sameLayout(this.request, inputs) && !this.layOut(inputs, number)) return null;
    this.number = number;
    const { words, request } = this;
    request.entries.forEach(([name], i) => request.places[i].set(inputs[name].data));
    words[WORDS.ID] = id;
    Atomics.store(words, WORDS.REQUEST, number);
    bell.ring();
    this.prepare();
    return this.await(number).then(() => this.collect());
  }

  /**
   * Write the text of a request.
   * @param {Record<string, Tensor>} inputs
   * @param {number} number
   * @returns {boolean} false when they have no room
   */
  layOut(inputs, number) {
    const described = describe(inputs);
    if (!described || described.end > this.bytes) return false;
    const { text, entries, end } = described;
    const places = entries.map(
      ([, , , array, length, offset]) => new (ARRAYS.get(array))(this.buffer, this.address + offset, length),
    );
    this.request = { entries, places };
    writeText(this.buffer, this.address + HEADER_BYTES, text);
    this.words[WORDS.REQUEST_UNITS] = text.length;
    this.words[WORDS.REQUEST_TEXT] = number;
    this.words[WORDS.REQUEST_END] = end;
    return true;
  }

  /**
   * Make arrays for outputs like the last ones. Memory that nobody has touched yet costs more than the copy into it, so
   * this is done while nobody waits for it, or all wait for the executor.
   */
  prepare() {
    this.arrays ??= this.answer.outputs.map(([, , , array, length]) => touched(new (ARRAYS.get(array))(length)));
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

  /** @returns {{outputs: Record<string, Tensor>, ms: number, plan: number} | null} */
  collect() {
    const { words, buffer, address } = this;
    if (!words[WORDS.IN_LANE]) return null;
    if (words[WORDS.ANSWER_TEXT] !== this.answerText) {
      this.answerText = words[WORDS.ANSWER_TEXT];
      const at = address + words[WORDS.ANSWER_OFFSET];
      this.answer = JSON.parse(readText(buffer, at, words[WORDS.ANSWER_UNITS]));
      this.arrays = null;
    }
    const { arrays } = this;
    this.arrays = null;
    setTimeout(() => this.prepare());
    /** @type {Record<string, Tensor>} */
    const outputs = {};
    this.answer.outputs.forEach(([name, type, dims, array, length, offset], i) => {
      const data = arrays ? arrays[i] : new (ARRAYS.get(array))(length);
      data.set(new (ARRAYS.get(array))(buffer, address + offset, length));
      outputs[name] = { data, dims: [...dims], type: /** @type {string} */ (type) };
    });
    const ms = new Float64Array(buffer, address + 4 * WORDS.MS, 1)[0];
    return { outputs, ms, plan: this.answer.plan };
  }
}

/**
 * Whether a request with `inputs` reads like the latest one.
 * @param {{entries: import("./lane.js").Entry[], places: any[]}} latest
 * @param {Record<string, Tensor>} inputs
 */
function sameLayout({ entries, places }, inputs) {
  const names = Object.keys(inputs ?? {});
  return (
    names.length > 0 &&
    names.length === entries.length &&
    entries.every(([name, type, dims, , length], i) => {
      const tensor = inputs[name];
      return (
        name === names[i] &&
        tensor?.data?.constructor === places[i].constructor &&
        tensor.data.length === length &&
        tensor.type === type &&
        Array.isArray(tensor.dims) &&
        tensor.dims.length === dims.length &&
        dims.every((dim, axis) => tensor.dims[axis] === dim)
      );
    })
  );
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
