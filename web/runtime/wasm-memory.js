/**
 * The WebAssembly.Memory of a device and who owns which bytes of it:
 *
 *     0 …            control block of the thread pool
 *     scratch        SCRATCH_BYTES for each thread, for what a task needs while it runs
 *     persistent     weights, constants, packed weights: allocated and freed one by one
 *     top …          arena of the inference at hand, scratch of measurements: moves up when persistent data grows
 *
 * Addresses are byte offsets, up to 4 GiB; they are passed to kernels as i32, which wraps as it should.
 */

import { OutOfMemoryError } from "./errors.js";
import { alignUp, SLACK } from "./placement.js";
import { CONTROL_BYTES, scratchOf } from "./program.js";

const PAGE = 65536;
const INITIAL_PAGES = 16;

/** Bytes that a system backs with memory at a time, at least. */
const SYSTEM_PAGE = 4096;

/** Maxima to try for a memory, in pages: some devices cannot reserve the address space of the largest. */
const MAXIMA = [65536, 32768, 16384, 8192, 4096];

export class WasmMemory {
  /**
   * @param {boolean} shared whether threads can share it
   * @param {number} threads that will, each with scratch memory of its own
   */
  constructor(shared, threads) {
    const { memory, maxPages } = reserve(shared);
    this.memory = memory;
    this.shared = shared;
    this.maxPages = maxPages;
    /** First byte after the persistent region. */
    this.top = scratchOf(threads);
    /** Counts changes of `top`: addresses above it are stale when this changed. */
    this.epoch = 0;
    this.bytes = new Uint8Array(memory.buffer);
    /** @type {Int32Array} */
    this.control = new Int32Array(memory.buffer, 0, CONTROL_BYTES / 4);
    /** @type {Map<number, number>} size of each allocated block */
    this.blocks = new Map();
    /** @type {{start: number, end: number}[]} free blocks below `top`, by address */
    this.holes = [];
    this.ensure(this.top);
  }

  /**
   * Make sure that the memory reaches `end`.
   * @param {number} end in bytes
   * @throws {OutOfMemoryError}
   */
  ensure(end) {
    const have = this.memory.buffer.byteLength;
    if (end > have) {
      const pages = Math.ceil(end / PAGE);
      try {
        if (pages > this.maxPages) throw new RangeError(`more than ${this.maxPages} pages`);
        this.memory.grow(pages - have / PAGE);
      } catch (cause) {
        throw new OutOfMemoryError(
          `The model needs ${megabytes(end)} of WebAssembly memory; ${megabytes(have)} are in use and the browser ` +
            `gives at most ${megabytes(this.maxPages * PAGE)} to one memory. Close other tabs, use a smaller batch, ` +
            `sequence or model, or the device "webgpu".`,
          { cause },
        );
      }
    }
    // Growing detaches the views of an unshared memory, and leaves those of a shared one short.
    if (this.bytes.buffer !== this.memory.buffer) {
      this.bytes = new Uint8Array(this.memory.buffer);
      this.control = new Int32Array(this.memory.buffer, 0, CONTROL_BYTES / 4);
    }
  }

  /**
   * Have the system back the next bytes above `top` with real memory, which takes longer than filling them does.
   * @param {number} bytes less where there are not so many
   */
  touch(bytes) {
    const start = alignUp(this.top);
    const end = Math.min(start + bytes, this.maxPages * PAGE);
    try {
      this.ensure(end);
    } catch {
      return; // Whoever needs that much will say so.
    }
    for (let at = start; at < end; at += SYSTEM_PAGE) this.bytes[at] = 0;
  }

  /**
   * A persistent block with slack after its end.
   * @param {number} bytes
   * @returns {number} its address
   */
  allocate(bytes) {
    const size = alignUp(bytes + SLACK);
    const at = this.holes.findIndex((hole) => hole.end - hole.start >= size);
    let start;
    if (at >= 0) {
      const hole = this.holes[at];
      start = hole.start;
      hole.start += size;
      if (hole.start === hole.end) this.holes.splice(at, 1);
    } else {
      start = this.top;
      this.ensure(start + size);
      this.moveTop(start + size);
    }
    this.blocks.set(start, size);
    return start;
  }

  /**
   * Give a block back; blocks at the end of the persistent region lower it.
   * @param {number} address
   */
  free(address) {
    const size = this.blocks.get(address) ?? 0;
    this.blocks.delete(address);
    let at = this.holes.findIndex((hole) => hole.start > address);
    if (at < 0) at = this.holes.length;
    this.holes.splice(at, 0, { start: address, end: address + size });
    this.holes = this.holes.reduce((/** @type {{start: number, end: number}[]} */ merged, hole) => {
      const last = merged[merged.length - 1];
      if (last && last.end === hole.start) last.end = hole.end;
      else merged.push(hole);
      return merged;
    }, []);
    const last = this.holes[this.holes.length - 1];
    if (last && last.end === this.top) {
      this.holes.pop();
      this.moveTop(last.start);
    }
  }

  /** @param {number} top */
  moveTop(top) {
    this.top = top;
    this.epoch += 1;
  }

  /** Bytes of the memory now, which is also the most it ever was: a WebAssembly.Memory never shrinks. */
  get size() {
    return this.memory.buffer.byteLength;
  }
}

/** @param {boolean} shared */
function reserve(shared) {
  for (const maxPages of MAXIMA) {
    try {
      return { memory: new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum: maxPages, shared }), maxPages };
    } catch (cause) {
      if (maxPages === MAXIMA[MAXIMA.length - 1]) {
        throw new OutOfMemoryError(
          `The browser cannot reserve ${megabytes(maxPages * PAGE)} of address space for WebAssembly. Close other tabs.`,
          { cause },
        );
      }
    }
  }
  throw new OutOfMemoryError("The browser gives no WebAssembly memory.");
}

/** @param {number} bytes */
function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
