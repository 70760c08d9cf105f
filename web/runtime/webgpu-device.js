/**
 * The GPU: plans whose kernels are WGSL shaders. Implements `Device` of types.js. Python never runs here, and no call
 * blocks: pipelines compile asynchronously, results come through mapped copies.
 */

import { apiArrayTypeOf, arrayTypeOf, bitsOf, bytesOf, convertArray, longDtype, shortDtype } from "./dtypes.js";
import { InputError, VerificationError } from "./errors.js";
import { evaluate, product } from "./expressions.js";
import { assignSlots, inferenceLifetimes } from "./placement.js";
import { bytesOfBuffer, specOf } from "./plan-buffers.js";
import { replaceUnit } from "./plan-edit.js";
import { GpuContext } from "./webgpu-context.js";
import { measure, profile } from "./webgpu-measure.js";
import { microbench } from "./webgpu-microbench.js";
import { Pipelines } from "./webgpu-pipelines.js";
import { PersistentBuffers } from "./webgpu-persistent.js";
import { BufferPool } from "./webgpu-pool.js";
import { Program } from "./webgpu-program.js";

/** @typedef {import("./types.js").Plan} Plan */
/** @typedef {import("./types.js").BufferSpec} BufferSpec */
/** @typedef {import("./types.js").Environment} Environment */
/** @typedef {import("./dtypes.js").Tensor} Tensor */
/** @typedef {import("./webgpu-pipelines.js").Compiled} Compiled */
/** @typedef {import("./webgpu-program.js").Place} Place */
/** @typedef {string | number} Id */

/**
 * A plan on the device.
 * @typedef {object} LoadedPlan
 * @property {number} id
 * @property {Plan} plan
 * @property {Uint8Array[]} blobs
 * @property {Compiled[]} kernels
 * @property {Map<Id, BufferSpec>} specs
 * @property {Map<Id, string>} keys of the persistent blocks that inferences use
 * @property {Map<string, Binding>} bindings
 * @property {{environment: Environment, inputs: Record<string, Tensor>} | null} latest
 */

/**
 * A plan with its symbols bound and its buffers placed; range u of the program is unit u.
 * @typedef {object} Binding
 * @property {number} epoch of the pool for which the bind groups hold
 * @property {Program} program
 * @property {(id: Id) => Place} locate
 * @property {{name: string, dtype: string, place: Place}[]} inputs
 * @property {{name: string, dtype: string, dims: number[], place: Place}[]} outputs
 */

/** Bindings that a plan keeps: a chat grows its sequence by one a step, and none of them comes back. */
const MAX_BINDINGS = 64;

export class WebGpuDevice {
  /** @param {GpuContext} context */
  constructor(context) {
    this.context = context;
    this.facts = context.facts();
    /** It has no memory that a client could share. */
    this.laneHost = null;
    this.pipelines = new Pipelines(context);
    this.pool = new BufferPool(context);
    this.persistent = new PersistentBuffers(context);
    /** @type {Map<number, LoadedPlan>} */
    this.plans = new Map();
    this.nextPlan = 0;
    this.runs = 0;
  }

  /** @throws {import("./errors.js").DeviceError} when there is no WebGPU, or no adapter */
  static async open() {
    return new WebGpuDevice(await GpuContext.open());
  }

  /** Nothing can be done ahead here. */
  prepareNext() {}

  /** @param {import("./weights.js").WeightFiles} files */
  setFiles(files) {
    this.persistent.files = files;
  }

  /**
   * Compile a plan's pipelines, upload its weights and run its init steps.
   * @param {Plan} plan
   * @param {Uint8Array[]} blobs
   */
  addPlan(plan, blobs) {
    return this.adopt({ id: this.nextPlan, plan, blobs, latest: null });
  }

  /**
   * The same for a plan that has a number and a latest inference: one of a device that was lost.
   * @param {Pick<LoadedPlan, "id" | "plan" | "blobs" | "latest">} known
   */
  async adopt({ id, plan, blobs, latest }) {
    const start = performance.now();
    /** @type {LoadedPlan} */
    const loaded = {
      id,
      plan,
      blobs,
      kernels: await this.pipelines.compile(plan.kernels),
      specs: new Map(plan.buffers.map((buffer) => [buffer.id, buffer])),
      keys: new Map(),
      bindings: new Map(),
      latest,
    };
    const compiled = performance.now();
    await this.persistent.place(loaded);
    this.nextPlan = Math.max(this.nextPlan, id + 1);
    this.plans.set(loaded.id, loaded);
    return { plan: loaded.id, compileMs: compiled - start, initMs: performance.now() - compiled };
  }

  /**
   * The plan with these symbol values, placed; cached.
   * @param {LoadedPlan} loaded
   * @param {Environment} environment
   * @returns {Promise<Binding>}
   */
  async bind(loaded, environment) {
    const { bindings, plan } = loaded;
    const key = plan.symbols.map(({ name }) => environment[name]).join();
    const cached = bindings.get(key);
    if (cached?.epoch === this.pool.epoch) return cached;
    cached?.program.dispose();
    bindings.delete(key);
    const binding = await this.context.scope("placing the model's buffers", () => this.place(loaded, environment));
    bindings.set(key, binding);
    if (bindings.size > MAX_BINDINGS) {
      const [oldest, { program }] = /** @type {[string, Binding]} */ (bindings.entries().next().value);
      program.dispose();
      bindings.delete(oldest);
    }
    return binding;
  }

  /**
   * @param {LoadedPlan} loaded
   * @param {Environment} environment
   * @returns {Binding}
   */
  place(loaded, environment) {
    const { plan, specs, keys, kernels } = loaded;
    const lives = inferenceLifetimes(plan);
    const passing = [...lives]
      .filter(([id]) => !keys.has(id))
      .map(([id, life]) => ({ id, bytes: bytesOfBuffer(specOf(specs, id), environment), ...life }));
    const { slots, bytes } = assignSlots(passing);
    const buffers = this.pool.take(bytes, "A result of the model");
    /** @type {(id: Id) => Place} */
    const locate = (id) => {
      const spec = specOf(specs, id);
      const buffer = keys.has(id) ? this.persistent.bufferOf(loaded, id) : buffers[/** @type {number} */ (slots.get(id))];
      return { buffer, offset: 0, bytes: bytesOfBuffer(spec, environment), storage: spec.storage };
    };
    const unitSteps = plan.units.map((unit) => unit.steps);
    return {
      epoch: this.pool.epoch,
      program: new Program(this.context, unitSteps, kernels, environment, locate),
      locate,
      inputs: plan.inputs
        .filter(({ buffer }) => buffer !== null)
        .map(({ name, dtype, buffer }) => ({ name, dtype, place: locate(/** @type {Id} */ (buffer)) })),
      outputs: plan.outputs.map(({ name, dtype, shape, buffer }) => {
        const dims = shape.map((dim) => evaluate(dim, environment));
        return { name, dtype, dims, place: locate(/** @type {Id} */ (buffer)) };
      }),
    };
  }

  /**
   * One inference. The inputs fit the plan: the executor has checked.
   * @param {import("./types.js").Bound} bound
   * @returns {Promise<Record<string, Tensor>>}
   */
  async run({ plan: id, environment, inputs }) {
    this.context.check();
    const loaded = this.loaded(id);
    const binding = await this.bind(loaded, environment);
    this.writeInputs(binding, inputs);
    const parts = binding.outputs.map(({ dims, place: { buffer, offset, storage } }) => ({
      buffer,
      offset,
      bytes: product(dims) * bytesOf(storage),
    }));
    const { units } = loaded.plan;
    const staging = binding.program.submit(0, units.length, (encoder) => this.context.stage(encoder, parts));
    const contents = await staging.take();
    loaded.latest = { environment, inputs };
    this.runs += 1;
    /** @type {Record<string, Tensor>} */
    const outputs = {};
    binding.outputs.forEach(({ name, dtype, dims, place: { storage } }, i) => {
      outputs[name] = { data: toApi(contents[i], storage, dtype), dims, type: longDtype(dtype) };
    });
    return outputs;
  }

  /** @param {number} id @returns {LoadedPlan} */
  loaded(id) {
    const found = this.plans.get(id);
    if (!found) throw new VerificationError(`There is no plan ${id}.`);
    return found;
  }

  /**
   * @param {Binding} binding
   * @param {Record<string, Tensor>} inputs
   */
  writeInputs(binding, inputs) {
    for (const { name, dtype, place } of binding.inputs) {
      const from = shortDtype(dtype) ?? dtype;
      try {
        this.context.write(place.buffer, convertArray(bitsOf(inputs[name].data), from, place.storage), place.offset);
      } catch (error) {
        if (error instanceof InputError) throw new InputError(`Input ${JSON.stringify(name)}: ${error.message}`);
        throw error;
      }
    }
  }

  /**
   * @param {import("./types.js").MeasureRequest} request
   * @param {import("./types.js").Pause} pause
   */
  measure(request, pause) {
    return measure(this, request, pause);
  }

  /**
   * @param {{plan: number, repeat: number}} request
   * @param {import("./types.js").Pause} pause
   */
  profile(request, pause) {
    return profile(this, request, pause);
  }

  /**
   * @param {import("./types.js").Probe} probe
   * @param {import("./types.js").Pause} pause
   */
  microbench(probe, pause) {
    return microbench(this, probe, pause);
  }

  /**
   * Exchange units for other implementations, between two inferences: all of them or, after an error, none.
   * @param {{plan: number, replacements: import("./types.js").Replacement[]}} request
   */
  async swap({ plan: id, replacements }) {
    const start = performance.now();
    const old = this.loaded(id);
    let loaded = old;
    for (const { unit, with: candidate } of replacements) loaded = await this.withUnit(loaded, unit, candidate);
    loaded = { ...loaded, keys: new Map(), bindings: new Map() };
    await this.persistent.place(loaded);
    for (const { program } of old.bindings.values()) program.dispose();
    this.persistent.release(old.keys.values());
    this.plans.set(id, loaded);
    return { initMs: performance.now() - start };
  }

  /**
   * The plan with one unit exchanged and its new kernels compiled; persistent buffers are still to be claimed.
   * @param {LoadedPlan} loaded
   * @param {number} unit
   * @param {import("./types.js").Candidate} candidate
   * @returns {Promise<LoadedPlan>}
   */
  async withUnit(loaded, unit, candidate) {
    const plan = replaceUnit(loaded.plan, unit, candidate, loaded.blobs.length);
    return {
      ...loaded,
      plan,
      blobs: [...loaded.blobs, ...candidate.blobs],
      kernels: [...loaded.kernels, ...(await this.pipelines.compile(candidate.kernels))],
      specs: new Map(plan.buffers.map((buffer) => [buffer.id, buffer])),
    };
  }

  stats() {
    return {
      peakWasmBytes: 0,
      peakGpuBytes: this.context.peakBytes,
      persistentBytes: this.persistent.bytes,
      arenaBytes: this.pool.bytes,
      pipelines: this.pipelines.compiled.size,
      plans: this.plans.size,
      runs: this.runs,
    };
  }

  dispose() {
    this.context.dispose();
    this.plans.clear();
    this.persistent = new PersistentBuffers(this.context);
  }
}

/**
 * Elements read back from the GPU as an array of the API.
 * @param {ArrayBuffer} bytes
 * @param {string} storage
 * @param {string} dtype
 */
function toApi(bytes, storage, dtype) {
  const converted = convertArray(new (arrayTypeOf(storage))(bytes), storage, shortDtype(dtype) ?? dtype);
  const Api = apiArrayTypeOf(dtype);
  return converted instanceof Api ? converted : new Api(converted.buffer);
}
