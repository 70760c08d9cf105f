/**
 * From steps with symbols to a program: addresses, symbol values and task counts are evaluated once, it is decided
 * which steps are worth sharing among threads, and barriers are put only where data passes between threads.
 */

import { bytesOf } from "./dtypes.js";
import { evaluate } from "./expressions.js";
import { BARRIER, HEADER, PARALLEL, SINGLE } from "./program.js";

/** @typedef {import("./types.js").Step} Step */
/** @typedef {import("./types.js").KernelSpec} KernelSpec */
/** @typedef {import("./types.js").Environment} Environment */
/** @typedef {{address: number, bytes: number, storage: string, constant: boolean}} Place */
/** @typedef {{start: number, end: number, writes: boolean}} Access */

/**
 * Work below which sharing a step costs more than it gains: two barriers, one of them with sleepers now and then.
 * Microseconds on one thread, at rates that ordinary kernels reach.
 */
const SHARE_ABOVE_US = 10;
const FLOPS_PER_US = 16000;
const BYTES_PER_US = 8000;

export class ProgramBuilder {
  /**
   * @param {number} threads
   * @param {Iterable<string | number>} [movable] buffers whose address may change from one execution to the next
   */
  constructor(threads, movable = []) {
    this.threads = threads;
    /** @type {Map<string | number, {word: number, offset: number}[]>} the arguments that address a movable buffer */
    this.uses = new Map(Array.from(movable, (id) => [id, []]));
    /** @type {number[]} */
    this.words = [];
    /** @type {Access[]} by thread 0 since the last barrier */
    this.single = [];
    /** @type {Access[]} by all threads since the last barrier */
    this.parallel = [];
    /** Whether any step is shared: else the other threads may sleep. */
    this.shared = false;
    /** Number of the step that is added next. */
    this.step = 0;
  }

  /**
   * Words that a step takes at most: a barrier, its record, its counters.
   * @param {Step} step
   * @param {number} threads
   */
  static wordsOf(step, threads) {
    return 1 + HEADER + step.buffers.length + step.symbols.length + threads;
  }

  /**
   * Append one call.
   * @param {Step} step
   * @param {KernelSpec} kernel
   * @param {number} slot of its function
   * @param {Environment} environment
   * @param {(id: string | number) => Place} locate
   */
  add(step, kernel, slot, environment, locate) {
    const number = this.step++;
    const tasks = evaluate(step.tasks, environment);
    if (tasks <= 0) return;
    /** @type {number[]} */
    const args = [];
    /** @type {[string | number, number][]} buffer and offset in bytes of each address */
    const moved = [];
    /** @type {Access[]} */
    const accesses = [];
    step.buffers.forEach(([id, offset], i) => {
      const place = locate(id);
      const from = evaluate(offset, environment) * bytesOf(place.storage);
      const start = place.address + from;
      args.push(start);
      moved.push([id, from]);
      const access = kernel.buffers?.[i]?.access ?? "rw";
      accesses.push({ start, end: place.address + place.bytes, writes: !place.constant && access !== "r" });
    });
    for (const symbol of step.symbols) args.push(evaluate(symbol, environment));
    const parallel = this.threads > 1 && tasks > 1 && microseconds(step, environment) > SHARE_ABOVE_US;
    if (this.threads > 1) this.order(accesses, parallel);
    const first = this.words.length + HEADER;
    moved.forEach(([id, offset], i) => this.uses.get(id)?.push({ word: first + i, offset }));
    this.words.push(parallel ? PARALLEL : SINGLE, slot, args.length, tasks, number, ...args);
    if (parallel) for (let thread = 0; thread < this.threads; thread++) this.words.push(0);
  }

  /**
   * Put a barrier before the next step if it touches what another thread may still be working on.
   * @param {Access[]} accesses
   * @param {boolean} parallel
   */
  order(accesses, parallel) {
    // Thread 0 runs all single steps in order: those need no barrier between them.
    if (conflict(accesses, this.parallel) || (parallel && conflict(accesses, this.single))) {
      this.words.push(BARRIER);
      this.single = [];
      this.parallel = [];
    }
    (parallel ? this.parallel : this.single).push(...accesses);
    this.shared ||= parallel;
  }

  /** The program's words, 32 bits each: addresses of 2 GiB and more wrap, as an i32 argument does. */
  finish() {
    return Int32Array.from(this.words, (word) => word | 0);
  }
}

/**
 * @param {Step} step
 * @param {Environment} environment
 */
function microseconds(step, environment) {
  return Math.max(evaluate(step.flops, environment) / FLOPS_PER_US, evaluate(step.bytes, environment) / BYTES_PER_US);
}

/**
 * Whether any access of `ours` meets one of `theirs` in memory, and one of the two writes.
 * @param {Access[]} ours
 * @param {Access[]} theirs
 */
function conflict(ours, theirs) {
  for (const a of ours) {
    for (const b of theirs) {
      if ((a.writes || b.writes) && a.start < b.end && b.start < a.end) return true;
    }
  }
  return false;
}
