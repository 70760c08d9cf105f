/**
 * From steps with symbols to a program: addresses, symbol values and task counts are evaluated once, and it is decided
 * which steps are worth sharing among threads.
 */

import { bytesOf } from "./dtypes.js";
import { evaluate } from "./expressions.js";
import { HEADER, MAX_PARTS, PARALLEL, SINGLE } from "./program.js";

/** @typedef {import("./types.js").Step} Step */
/** @typedef {import("./types.js").Environment} Environment */
/** @typedef {{address: number, bytes: number, storage: string}} Place */

/**
 * Work that is worth a part of its own, and below which a step is not shared: about ten times what it costs to publish a
 * step and to await its end. Microseconds on one thread, at rates that ordinary kernels reach.
 */
const PART_US = 10;
/** Parts of a thread's own tasks that let the others help it, however short they are. */
const FEW_PARTS = 4;
/**
 * Work of each of more parts than that. What the others wait for in the end is the part of a thread that was held up, by
 * whatever else the machine does: parts are therefore short, but longer by far than it takes to claim one.
 */
const SHORT_US = 100;
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
    /** Whether any step is shared: else the other threads may sleep. */
    this.shared = false;
    /** Number of the step that is added next. */
    this.step = 0;
  }

  /**
   * Words that a step takes at most.
   * @param {Step} step
   */
  static wordsOf(step) {
    return HEADER + step.buffers.length + step.symbols.length;
  }

  /**
   * Append one call.
   * @param {Step} step
   * @param {number} slot of its function
   * @param {Environment} environment
   * @param {(id: string | number) => Place} locate
   */
  add(step, slot, environment, locate) {
    const number = this.step++;
    const tasks = evaluate(step.tasks, environment);
    if (tasks <= 0) return;
    /** @type {number[]} */
    const args = [];
    /** @type {[string | number, number][]} buffer and offset in bytes of each address */
    const moved = [];
    step.buffers.forEach(([id, offset]) => {
      const place = locate(id);
      const from = evaluate(offset, environment) * bytesOf(place.storage);
      args.push(place.address + from);
      moved.push([id, from]);
    });
    for (const symbol of step.symbols) args.push(evaluate(symbol, environment));
    const work = microseconds(step, environment);
    const parallel = this.threads > 1 && tasks > 1 && work > PART_US;
    const parts = partsOf(work / this.threads);
    this.shared ||= parallel;
    const first = this.words.length + HEADER;
    moved.forEach(([id, offset], i) => this.uses.get(id)?.push({ word: first + i, offset }));
    this.words.push(parallel ? PARALLEL : SINGLE, slot, args.length, tasks, number, parts, ...args);
  }

  /** The program's words, 32 bits each: addresses of 2 GiB and more wrap, as an i32 argument does. */
  finish() {
    return Int32Array.from(this.words, (word) => word | 0);
  }
}

/**
 * Parts in which a thread takes its own tasks.
 * @param {number} work of them all, in microseconds
 */
function partsOf(work) {
  const few = Math.min(FEW_PARTS, Math.floor(work / PART_US));
  return Math.min(MAX_PARTS, Math.max(1, few, Math.floor(work / SHORT_US)));
}

/**
 * @param {Step} step
 * @param {Environment} environment
 */
function microseconds(step, environment) {
  const moved = evaluate(step.read, environment) + evaluate(step.written, environment);
  return Math.max(evaluate(step.flops, environment) / FLOPS_PER_US, moved / BYTES_PER_US);
}
