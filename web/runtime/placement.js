/**
 * Where temporary buffers live. A buffer is alive from the first step that touches it to the last; two buffers that
 * are never alive together may share memory. On the CPU buffers get offsets in one arena, on the GPU slots in a pool.
 */

import { inferenceSteps } from "./plan-edit.js";

/** @typedef {import("./types.js").Plan} Plan */
/** @typedef {import("./types.js").Step} Step */
/** @typedef {{id: string | number, bytes: number, first: number, last: number}} Lifetime Inclusive step numbers. */

/** Every buffer starts at a multiple of this: a cache line, and what WebGPU's smallest copies need. */
export const ALIGNMENT = 64;

/** Readable bytes after the end of every buffer: vector loads may read past it. */
export const SLACK = 64;

/**
 * `bytes` rounded up to the next multiple of `alignment`.
 * @param {number} bytes
 * @param {number} [alignment]
 */
export function alignUp(bytes, alignment = ALIGNMENT) {
  return Math.ceil(bytes / alignment) * alignment;
}

/**
 * First and last step that touches each buffer.
 * @param {Step[]} steps
 * @returns {Map<string | number, {first: number, last: number}>}
 */
export function lifetimes(steps) {
  /** @type {Map<string | number, {first: number, last: number}>} */
  const found = new Map();
  steps.forEach((step, at) => {
    for (const [id] of step.buffers) {
      const life = found.get(id);
      if (life) life.last = at;
      else found.set(id, { first: at, last: at });
    }
  });
  return found;
}

/**
 * Lifetimes of all buffers of an inference: inputs are written before the first step, outputs read after the last.
 * @param {Plan} plan
 * @returns {Map<string | number, {first: number, last: number}>}
 */
export function inferenceLifetimes(plan) {
  const steps = inferenceSteps(plan);
  const lives = lifetimes(steps);
  for (const { buffer } of plan.inputs) {
    if (buffer !== null) lives.set(buffer, { first: -1, last: lives.get(buffer)?.last ?? -1 });
  }
  for (const { buffer } of plan.outputs) {
    if (buffer !== null) lives.set(buffer, { first: lives.get(buffer)?.first ?? 0, last: steps.length });
  }
  return lives;
}

/**
 * Offsets in one arena, greedily: the largest buffer first, each at the lowest place that is free during its life.
 * @param {Lifetime[]} buffers
 * @returns {{offsets: Map<string | number, number>, bytes: number}} size of the arena, slack included
 */
export function placeInArena(buffers) {
  const bySize = [...buffers].sort((a, b) => b.bytes - a.bytes || a.first - b.first);
  /** @type {(Lifetime & {start: number, end: number})[]} in order of `start` */
  const placed = [];
  const offsets = new Map();
  let total = 0;
  for (const buffer of bySize) {
    const size = alignUp(buffer.bytes + SLACK);
    let start = 0;
    for (const other of placed) {
      if (other.last < buffer.first || buffer.last < other.first) continue;
      if (start + size <= other.start) break;
      start = Math.max(start, other.end);
    }
    const end = start + size;
    let at = placed.findIndex((other) => other.start > start);
    if (at < 0) at = placed.length;
    placed.splice(at, 0, { ...buffer, start, end });
    offsets.set(buffer.id, start);
    total = Math.max(total, end);
  }
  return { offsets, bytes: total };
}

/**
 * Slots of a pool of reusable buffers. Two buffers share a slot only if no step touches both, so a step never reads
 * and writes the same slot. In order of birth; each takes the free slot that wastes least, else grows one, else adds one.
 * @param {Lifetime[]} buffers
 * @returns {{slots: Map<string | number, number>, bytes: number[]}} slot of each buffer, size of each slot
 */
export function assignSlots(buffers) {
  const byBirth = [...buffers].sort((a, b) => a.first - b.first || b.bytes - a.bytes);
  /** @type {{bytes: number, free: number}[]} */
  const pool = [];
  const slots = new Map();
  for (const buffer of byBirth) {
    const size = alignUp(buffer.bytes + SLACK);
    let best = -1;
    pool.forEach((slot, i) => {
      if (slot.free <= buffer.first && (best < 0 || waste(slot.bytes, size) < waste(pool[best].bytes, size))) best = i;
    });
    if (best < 0) best = pool.push({ bytes: 0, free: 0 }) - 1;
    pool[best].bytes = Math.max(pool[best].bytes, size);
    pool[best].free = buffer.last + 1;
    slots.set(buffer.id, best);
  }
  return { slots, bytes: pool.map((slot) => slot.bytes) };
}

/**
 * Bytes that giving `slot` to a buffer of `size` wastes: unused ones, or those by which the slot must grow.
 * @param {number} slot
 * @param {number} size
 */
function waste(slot, size) {
  return Math.abs(slot - size);
}
