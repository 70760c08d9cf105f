/** A plan with its symbols bound: its buffers placed in the arena, its steps made a program. */

import { VerificationError } from "./errors.js";
import { evaluate, product } from "./expressions.js";
import { alignUp, inferenceLifetimes, placeInArena, SLACK } from "./placement.js";
import { bytesOfBuffer, specOf } from "./plan-buffers.js";
import { inferenceSteps, written } from "./plan-edit.js";
import { ProgramBuilder } from "./program-builder.js";
import { ThreadChoice } from "./thread-choice.js";

/** @typedef {import("./types.js").Environment} Environment */
/** @typedef {import("./program-builder.js").Place} Place */
/** @typedef {import("./wasm-device.js").LoadedPlan} LoadedPlan */
/** @typedef {string | number} Id */

/**
 * @typedef {object} Binding
 * @property {number} epoch of the memory for which the addresses hold
 * @property {number} end first byte after everything that the inference uses
 * @property {Int32Array} words
 * @property {number[]} starts first word of each unit, and the end of the last
 * @property {boolean} shared whether any step is shared among threads
 * @property {ThreadChoice} choice whether to share them
 * @property {number} programAddress where the pool reads the words
 * @property {(id: Id) => Place} locate
 * @property {BoundInput[]} inputs that kernels read
 * @property {{name: string, dtype: string, dims: number[], elements: number, address: number}[]} outputs
 */

/**
 * @typedef {object} BoundInput
 * @property {string} name
 * @property {string} dtype
 * @property {number} elements
 * @property {number} address of its place in the arena
 * @property {number} current address that the words say
 * @property {{word: number, offset: number}[] | null} uses the words that say it; null when the input must be in the arena
 */

/**
 * @param {LoadedPlan} loaded
 * @param {Environment} environment
 * @param {import("./wasm-persistent.js").PersistentStore} store
 * @param {number} threads
 * @param {ThreadChoice} [choice] that was made before, for the same shapes
 * @returns {Binding}
 */
export function bindPlan(loaded, environment, store, threads, choice = new ThreadChoice()) {
  const { plan, slots } = loaded;
  const steps = inferenceSteps(plan);
  const base = alignUp(store.memory.top);
  const words = steps.reduce((n, step) => n + ProgramBuilder.wordsOf(step), 0);
  const { locate, end } = placeBuffers(loaded, environment, store, alignUp(base + words * 4));
  // An input that is an output as well is looked for in the arena; one that is written must be the executor's own.
  const fixed = new Set([...written(steps, plan.kernels), ...plan.outputs.map(({ buffer }) => buffer)]);
  const movable = plan.inputs.flatMap(({ buffer }) => (buffer === null || fixed.has(buffer) ? [] : [buffer]));
  const builder = new ProgramBuilder(threads, movable);
  const starts = [];
  for (const unit of plan.units) {
    starts.push(builder.words.length);
    for (const step of unit.steps) {
      builder.add(step, slots[step.kernel], environment, locate);
    }
  }
  starts.push(builder.words.length);
  const dimsOf = (/** @type {import("./types.js").PortSpec} */ port) => port.shape.map((dim) => evaluate(dim, environment));
  const addressOf = (/** @type {Id | null} */ id) => locate(/** @type {Id} */ (id)).address;
  return {
    epoch: store.memory.epoch,
    end,
    words: builder.finish(),
    starts,
    shared: builder.shared,
    choice,
    programAddress: base,
    locate,
    inputs: plan.inputs
      .filter(({ buffer }) => buffer !== null)
      .map((port) => ({
        name: port.name,
        dtype: port.dtype,
        elements: product(dimsOf(port)),
        address: addressOf(port.buffer),
        current: addressOf(port.buffer),
        uses: builder.uses.get(/** @type {Id} */ (port.buffer)) ?? null,
      })),
    outputs: plan.outputs.map((port) => {
      const dims = dimsOf(port);
      return { name: port.name, dtype: port.dtype, dims, elements: product(dims), address: addressOf(port.buffer) };
    }),
  };
}

/**
 * Places for all buffers of an inference: persistent ones where they are, the others in an arena.
 *
 * @param {LoadedPlan} loaded
 * @param {Environment} environment
 * @param {import("./wasm-persistent.js").PersistentStore} store
 * @param {number} arena address
 */
function placeBuffers(loaded, environment, store, arena) {
  const { plan, specs, keys } = loaded;
  const lives = inferenceLifetimes(plan);
  const passing = [...lives]
    .filter(([id]) => !keys.has(id))
    .map(([id, life]) => ({ id, bytes: bytesOfBuffer(specOf(specs, id), environment), ...life }));
  const { offsets, bytes } = placeInArena(passing);
  /** @type {Map<Id, Place>} */
  const places = new Map();
  for (const id of lives.keys()) {
    const spec = specOf(specs, id);
    const fixed = keys.has(id) ? store.placeOf(loaded, id) : null;
    places.set(id, {
      address: fixed ?? arena + /** @type {number} */ (offsets.get(id)),
      bytes: bytesOfBuffer(spec, environment),
      storage: spec.storage,
    });
  }
  const locate = (/** @type {Id} */ id) => {
    const place = places.get(id);
    if (!place) throw new VerificationError(`The plan has no buffer ${id}.`);
    return place;
  };
  return { locate, end: arena + bytes + SLACK };
}
