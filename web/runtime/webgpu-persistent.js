/**
 * Data on the GPU that outlives an inference: weights, constants and packed weights, in buffers that plans share by key.
 * Filling one from the model file or by running init steps is done once, by the first plan that wants it.
 */

import { InputError, UnsupportedError, VerificationError } from "./errors.js";
import { neededInit } from "./init-steps.js";
import { lifetimes } from "./placement.js";
import { bytesOfBuffer, isPersistent, specOf } from "./plan-buffers.js";
import { inferenceSteps, initSteps, touched } from "./plan-edit.js";
import { Program } from "./webgpu-program.js";

/** @typedef {import("./types.js").BufferSpec} BufferSpec */
/** @typedef {import("./types.js").Step} Step */
/** @typedef {import("./webgpu-device.js").LoadedPlan} LoadedPlan */
/** @typedef {import("./webgpu-program.js").Place} Place */
/** @typedef {string | number} Id */

/** @typedef {{buffer: GPUBuffer, bytes: number, users: number}} Block `users` counts the plans that claim it. */

/** Bytes of weights that may wait for the GPU to take them before more are read. */
const UPLOAD_AHEAD = 1 << 28;

export class PersistentBuffers {
  /** @param {import("./webgpu-context.js").GpuContext} context */
  constructor(context) {
    this.context = context;
    /** @type {import("./weights.js").WeightFiles | null} */
    this.files = null;
    /** @type {Map<string, Block>} */
    this.blocks = new Map();
    this.uploading = 0;
  }

  /** Bytes of all blocks. */
  get bytes() {
    let total = 0;
    for (const block of this.blocks.values()) total += block.bytes;
    return total;
  }

  /**
   * Allocate and fill what inferences need of weights, constants and packed weights; all of it or, after an error, none.
   * @param {LoadedPlan} loaded
   */
  async place(loaded) {
    const { plan, keys } = loaded;
    const ids = touched(inferenceSteps(plan));
    for (const { buffer } of plan.outputs) if (buffer !== null) ids.add(buffer);
    try {
      await this.context.scope("loading the model's weights", () => this.prepare(loaded, ids, initSteps(plan)));
    } catch (error) {
      this.release(keys.values());
      keys.clear();
      throw error;
    }
  }

  /**
   * Claim persistent buffers, and fill those that no plan has yet. Call within `scope`.
   * @param {LoadedPlan} loaded
   * @param {Iterable<Id>} ids of buffers that will be used
   * @param {Step[]} init steps that make some of them
   */
  async prepare(loaded, ids, init) {
    const { specs, keys } = loaded;
    /** @type {Set<Id>} */
    const fresh = new Set();
    for (const id of ids) this.claim(loaded, id, fresh);
    for (const id of fresh) {
      const spec = specOf(specs, id);
      if (spec.kind !== "persistent") await this.fill(spec, loaded.blobs, this.block(loaded, id).buffer);
    }
    await this.runInit(loaded, neededInit(init, specs, fresh, keys));
    await this.context.settle();
    this.uploading = 0;
  }

  /**
   * Make the persistent block of a buffer this plan's, allocating it if no plan has it yet.
   * @param {LoadedPlan} loaded
   * @param {Id} id
   * @param {Set<Id>} fresh gains `id` when the block is new
   */
  claim({ id: planId, specs, keys }, id, fresh) {
    const spec = specOf(specs, id);
    if (!isPersistent(spec) || keys.has(id)) return;
    const key = spec.key ?? `${planId}:${id}`;
    let block = this.blocks.get(key);
    if (!block) {
      const bytes = bytesOfBuffer(spec, {});
      block = { buffer: this.context.storage(bytes, `The ${spec.kind} ${spec.key ?? id}`), bytes, users: 0 };
      this.blocks.set(key, block);
      fresh.add(id);
    }
    block.users += 1;
    keys.set(id, key);
  }

  /**
   * The block that a plan has claimed for a buffer.
   * @param {LoadedPlan} loaded
   * @param {Id} id
   * @returns {Block}
   */
  block(loaded, id) {
    return /** @type {Block} */ (this.blocks.get(/** @type {string} */ (loaded.keys.get(id))));
  }

  /**
   * One plan less uses the blocks with these keys.
   * @param {Iterable<string>} keys
   */
  release(keys) {
    for (const key of keys) {
      const block = this.blocks.get(key);
      if (block && --block.users === 0) {
        this.context.destroy(block.buffer);
        this.blocks.delete(key);
      }
    }
  }

  /**
   * Upload a weight or constant.
   * @param {BufferSpec} spec
   * @param {Uint8Array[]} blobs
   * @param {GPUBuffer} buffer
   */
  async fill(spec, blobs, buffer) {
    const bytes = await this.contentOf(spec, blobs);
    const expected = bytesOfBuffer(spec, {});
    if (bytes.byteLength !== expected) {
      throw new VerificationError(
        `The ${spec.kind} ${spec.key ?? spec.id} has ${bytes.byteLength} bytes where the plan says ${expected}.`,
      );
    }
    this.context.write(buffer, bytes);
    this.uploading += bytes.byteLength;
    if (this.uploading > UPLOAD_AHEAD) {
      await this.context.settle();
      this.uploading = 0;
    }
  }

  /**
   * @param {BufferSpec} spec
   * @param {Uint8Array[]} blobs
   */
  async contentOf(spec, blobs) {
    if (spec.kind === "const") return blobs[/** @type {number} */ (spec.blob)];
    if (!this.files) throw new VerificationError("addPlan came before setFiles.");
    try {
      return await this.files.read(spec);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      throw new UnsupportedError(`The weight ${spec.key ?? spec.id} cannot go to the GPU. ${error.message}`, { cause: error });
    }
  }

  /**
   * Run init steps one by one; buffers that inferences do not use exist only while they are needed. Call within `scope`.
   * @param {LoadedPlan} loaded
   * @param {Step[]} steps
   */
  async runInit(loaded, steps) {
    const { specs, blobs, kernels, keys } = loaded;
    const lives = lifetimes(steps);
    /** @type {Map<Id, GPUBuffer>} */
    const passing = new Map();
    /** @type {(id: Id) => Place} */
    const locate = (id) => {
      const spec = specOf(specs, id);
      const buffer = passing.get(id) ?? this.block(loaded, id).buffer;
      return { buffer, offset: 0, bytes: bytesOfBuffer(spec, {}), storage: spec.storage };
    };
    try {
      for (const [at, step] of steps.entries()) {
        for (const [id] of step.buffers) {
          if (keys.has(id) || passing.has(id)) continue;
          const spec = specOf(specs, id);
          const buffer = this.context.storage(bytesOfBuffer(spec, {}), `The ${spec.kind} ${spec.key ?? id}`);
          passing.set(id, buffer);
          if (spec.kind === "weight" || spec.kind === "const") await this.fill(spec, blobs, buffer);
        }
        const program = new Program(this.context, [[step]], kernels, {}, locate);
        program.submit(0, 1);
        program.dispose();
        for (const [id, buffer] of passing) {
          if (/** @type {{last: number}} */ (lives.get(id)).last > at) continue;
          this.context.destroy(buffer);
          passing.delete(id);
        }
      }
    } finally {
      for (const buffer of passing.values()) this.context.destroy(buffer);
    }
  }
}
