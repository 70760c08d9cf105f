/**
 * Data on the GPU that outlives an inference: weights, constants and packed weights. Filling a buffer from the model file
 * or by running init steps is done once, by the first plan that wants it.
 */

import { InputError, UnsupportedError } from "./errors.js";
import { neededInit } from "./init-steps.js";
import { lifetimes } from "./placement.js";
import { bytesOfBuffer, specOf } from "./plan-buffers.js";
import { inferenceSteps, initSteps, touched } from "./plan-edit.js";
import { SharedBlocks } from "./shared-blocks.js";
import { Program } from "./webgpu-program.js";

/** @typedef {import("./types.js").BufferSpec} BufferSpec */
/** @typedef {import("./types.js").Step} Step */
/** @typedef {import("./webgpu-device.js").LoadedPlan} LoadedPlan */
/** @typedef {import("./webgpu-program.js").Place} Place */
/** @typedef {string | number} Id */

/** Bytes of weights that may wait for the GPU to take them before more are read. */
const UPLOAD_AHEAD = 1 << 28;

/** @extends {SharedBlocks<GPUBuffer>} */
export class PersistentBuffers extends SharedBlocks {
  /** @param {import("./webgpu-context.js").GpuContext} context */
  constructor(context) {
    super(
      (bytes, spec) => context.storage(bytes, `The ${spec.kind} ${spec.key ?? spec.id}`),
      (buffer) => context.destroy(buffer),
    );
    this.context = context;
    this.uploading = 0;
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
      if (spec.kind !== "persistent") await this.fill(spec, loaded.blobs, this.bufferOf(loaded, id));
    }
    await this.runInit(loaded, neededInit(init, specs, fresh, keys));
    await this.context.settle();
    this.uploading = 0;
  }

  /**
   * The buffer that a plan has claimed.
   * @param {Pick<LoadedPlan, "specs" | "keys">} loaded
   * @param {Id} id
   */
  bufferOf(loaded, id) {
    return /** @type {GPUBuffer} */ (this.placeOf(loaded, id));
  }

  /**
   * Upload a weight or constant.
   * @param {BufferSpec} spec
   * @param {Uint8Array[]} blobs
   * @param {GPUBuffer} buffer
   */
  async fill(spec, blobs, buffer) {
    const bytes = await this.content(spec, blobs);
    this.context.write(buffer, bytes);
    this.uploading += bytes.byteLength;
    if (this.uploading > UPLOAD_AHEAD) {
      await this.context.settle();
      this.uploading = 0;
    }
  }

  /**
   * A weight, from the model's files.
   * @param {BufferSpec} spec
   * @throws {UnsupportedError} if its values do not fit the GPU's types
   */
  async read(spec) {
    try {
      return await super.read(spec);
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
      const buffer = passing.get(id) ?? this.bufferOf(loaded, id);
      return { buffer, offset: 0, bytes: bytesOfBuffer(spec, {}), storage: spec.storage };
    };
    try {
      for (const [at, step] of steps.entries()) {
        for (const [id] of step.buffers) {
          if (keys.has(id) || passing.has(id)) continue;
          const spec = specOf(specs, id);
          const buffer = this.allocate(bytesOfBuffer(spec, {}), spec);
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
