/**
 * Buffers in which outputs leave the executor. A buffer belongs to the caller afterwards, so each inference needs new
 * ones, and to touch new memory for the first time takes several times as long as to copy into it: when two inferences
 * had outputs of the same sizes, those of the third are made, and touched, while nobody waits.
 */

const PAGE_BYTES = 4096;

/** Bytes touched between two looks at whether somebody waits. */
const STRETCH_BYTES = 2 ** 20;

/** Outputs larger than this together are made when they are needed: a model's memory would grow by as much. */
const LARGEST_BYTES = 2 ** 26;

export class OutputBuffers {
  constructor() {
    /** @type {ArrayBuffer[]} ready to be taken */
    this.spare = [];
    /** @type {number[]} sizes taken since `prepare` */
    this.taken = [];
    /** @type {number[]} sizes taken before that */
    this.before = [];
  }

  /**
   * A buffer of exactly `bytes`, its content undefined.
   * @param {number} bytes
   */
  take(bytes) {
    this.taken.push(bytes);
    const at = this.spare.findIndex((buffer) => buffer.byteLength === bytes);
    return at < 0 ? new ArrayBuffer(bytes) : this.spare.splice(at, 1)[0];
  }

  /**
   * Make the buffers of the next inference, if the last two were alike.
   * @param {() => boolean} awaited whether somebody waits: stop then
   */
  prepare(awaited) {
    const { taken, before } = this;
    if (!taken.length) return;
    this.taken = [];
    this.before = taken;
    this.spare = [];
    const alike = taken.length === before.length && taken.every((bytes, i) => bytes === before[i]);
    if (!alike || taken.reduce((sum, bytes) => sum + bytes, 0) > LARGEST_BYTES) return;
    for (const bytes of taken) {
      const view = new Uint8Array(bytes);
      this.spare.push(view.buffer);
      for (let at = 0; at < bytes; at += PAGE_BYTES) {
        if (at % STRETCH_BYTES === 0 && awaited()) return;
        view[at] = 0;
      }
    }
  }
}
