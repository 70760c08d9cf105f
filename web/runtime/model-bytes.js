/**
 * The model file as the compiler reads it: a few parts, weights left out. What it read is remembered, so that a later
 * visit can give the compiler these parts alone, while the file itself is with the executor.
 */

import { VerificationError } from "./errors.js";

/** @typedef {[offset: number, bytes: Uint8Array<ArrayBuffer>]} Read */
/** @typedef {{size: number, whole: Uint8Array<ArrayBuffer> | null, reads: Read[]}} Parts of what crosses between workers */

export class ModelBytes {
  /** @param {Parts} parts `whole`: the file, filling its buffer; null: only `reads` can be read again */
  constructor({ size, whole, reads }) {
    this.size = size;
    this.whole = whole;
    this.reads = reads;
    this.known = new Map(whole ? [] : reads.map(([offset, bytes]) => [`${offset} ${bytes.length}`, bytes]));
  }

  /** @param {ArrayBuffer} file */
  static of(file) {
    return new ModelBytes({ size: file.byteLength, whole: new Uint8Array(file), reads: [] });
  }

  /**
   * @param {number} offset
   * @param {number} length the range lies within the file
   * @returns {Uint8Array<ArrayBuffer>} not to be changed
   */
  read(offset, length) {
    const { whole } = this;
    if (whole) {
      const bytes = whole.slice(offset, offset + length);
      this.reads.push([offset, bytes]);
      return bytes;
    }
    const bytes = this.known.get(`${offset} ${length}`);
    if (!bytes) throw new VerificationError(`An earlier visit did not read the model's bytes ${offset}–${offset + length}.`);
    return bytes;
  }

  /** @returns {Parts} for `new ModelBytes` in another worker */
  get parts() {
    const { size, whole, reads } = this;
    return { size, whole, reads };
  }

  /** What moves with the parts, so that no file is copied. @returns {ArrayBuffer[]} */
  get buffers() {
    return this.whole ? [this.whole.buffer] : [];
  }
}
