/**
 * Data in Wasm memory that outlives an inference: weights, constants and packed weights. Filling a block from the model
 * file or by running init steps is done once, by the first plan that wants it.
 */

import { neededInit } from "./init-steps.js";
import { alignUp, lifetimes, placeInArena, SLACK } from "./placement.js";
import { bytesOfBuffer, specOf } from "./plan-buffers.js";
import { inferenceSteps, initSteps, touched } from "./plan-edit.js";
import { ProgramBuilder } from "./program-builder.js";
import { SharedBlocks } from "./shared-blocks.js";

/** @typedef {import("./types.js").BufferSpec} BufferSpec */
/** @typedef {import("./types.js").Step} Step */
/** @typedef {import("./program-builder.js").Place} Place */
/** @typedef {import("./wasm-device.js").LoadedPlan} LoadedPlan */
/** @typedef {import("./wasm-memory.js").WasmMemory} WasmMemory */
/** @typedef {import("./thread-pool.js").ThreadPool} ThreadPool */
/** @typedef {string | number} Id */

/** Room for the one record of an init step, where the pool reads it. */
const RECORD_BYTES = 4096;

/** @extends {SharedBlocks<number>} places are addresses */
export class PersistentStore extends SharedBlocks {
  /** @param {WasmMemory} memory @param {ThreadPool} pool */
  constructor(memory, pool) {
    super(
      (bytes) => memory.allocate(bytes),
      (address) => memory.free(address),
    );
    this.memory = memory;
    this.pool = pool;
  }

  /**
   * Allocate what a plan's inferences need, fill it, and run the init steps whose results are not there yet from
   * another plan. After an error the blocks that were claimed are the caller's to release.
   * @param {LoadedPlan} loaded
   */
  async place(loaded) {
    const { plan, specs, keys } = loaded;
    /** @type {Set<Id>} */
    const fresh = new Set();
    const wanted = new Set(touched(inferenceSteps(plan)));
    for (const { buffer } of plan.outputs) if (buffer !== null) wanted.add(buffer);
    const init = initSteps(plan);
    const early = new Set(touched(init));
    for (const id of wanted) if (early.has(id)) this.claim(loaded, id, fresh);
    for (const id of fresh) await this.fillBlock(loaded, id);
    // What init steps have no use for is filled after them: until then they may use its memory.
    const free = this.memory.top;
    for (const id of wanted) if (!early.has(id)) this.claim(loaded, id, fresh);
    const steps = neededInit(init, specs, fresh, keys);
    await this.runInit(loaded, steps, (id) => (keys.has(id) ? this.placeOf(loaded, id) : null), free);
    for (const id of fresh) if (!early.has(id)) await this.fillBlock(loaded, id);
  }

  /**
   * Fill a block with a weight or constant; init steps fill the others.
   * @param {LoadedPlan} loaded
   * @param {Id} id
   */
  async fillBlock(loaded, id) {
    const spec = specOf(loaded.specs, id);
    if (spec.kind !== "persistent") await this.fill(spec, loaded.blobs, /** @type {number} */ (this.placeOf(loaded, id)));
  }

  /**
   * Copy a weight or constant to its place.
   * @param {BufferSpec} spec
   * @param {Uint8Array[]} blobs
   * @param {number} address
   */
  async fill(spec, blobs, address) {
    const bytes = await this.content(spec, blobs);
    this.memory.bytes.set(bytes, address);
  }

  /**
   * Run init steps one by one; buffers without a place of their own, such as weights that are only packed, pass
   * through free memory.
   *
   * @param {LoadedPlan} loaded
   * @param {Step[]} steps
   * @param {(id: Id) => number | null} placed address of a buffer that has one
   * @param {number} [free] from where on the memory is free
   * @throws {import("./program.js").StepTrap}
   */
  async runInit(loaded, steps, placed, free = this.memory.top) {
    if (!steps.length) return;
    const { specs, blobs, slots } = loaded;
    const base = alignUp(free);
    const passing = [...lifetimes(steps)]
      .filter(([id]) => placed(id) === null)
      .map(([id, life]) => ({ id, bytes: sizeOf(specOf(specs, id)), ...life }));
    const { offsets, bytes } = placeInArena(passing);
    const arena = base + RECORD_BYTES;
    this.memory.ensure(arena + bytes + SLACK);
    /** @type {(id: Id) => Place} */
    const locate = (id) => {
      const spec = specOf(specs, id);
      const address = placed(id) ?? arena + /** @type {number} */ (offsets.get(id));
      return { address, bytes: sizeOf(spec), storage: spec.storage };
    };
    const filled = new Set();
    for (const step of steps) {
      for (const [id] of step.buffers) {
        if (placed(id) !== null || filled.has(id)) continue;
        filled.add(id);
        const spec = specOf(specs, id);
        if (spec.kind === "weight" || spec.kind === "const") await this.fill(spec, blobs, locate(id).address);
      }
      const builder = new ProgramBuilder(this.pool.threads);
      builder.add(step, slots[step.kernel], {}, locate);
      const words = builder.finish();
      this.pool.run(words, 0, words.length, base, 1, builder.shared, true);
    }
  }
}

/**
 * Bytes of a buffer whose size depends on no symbol.
 * @param {BufferSpec} spec
 */
export function sizeOf(spec) {
  return bytesOfBuffer(spec, {});
}
