/**
 * The CPU: plans whose kernels are WebAssembly functions, run over one memory by one or more threads. Implements
 * `Device` of types.js.
 */

import { apiArrayTypeOf, arrayTypeOf, bitsOf, bytesOf, longDtype } from "./dtypes.js";
import { DeviceError, VerificationError } from "./errors.js";
import { evaluate, product } from "./expressions.js";
import { neededInit } from "./init-steps.js";
import { alignUp, lifetimes, placeInArena, SLACK } from "./placement.js";
import { inferenceSteps, initSteps, replaceUnit, touched } from "./plan-edit.js";
import { StepTrap } from "./program.js";
import { ProgramBuilder } from "./program-builder.js";
import { ThreadPool } from "./thread-pool.js";
import { canShareMemory, defaultThreads, hasRelaxedSimd } from "./wasm-features.js";
import { measure, profile } from "./wasm-measure.js";
import { WasmMemory } from "./wasm-memory.js";

/** @typedef {import("./types.js").Plan} Plan */
/** @typedef {import("./types.js").BufferSpec} BufferSpec */
/** @typedef {import("./types.js").Environment} Environment */
/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {import("./types.js").Step} Step */
/** @typedef {import("./program-builder.js").Place} Place */
/** @typedef {string | number} Id */

/**
 * A plan on the device.
 * @typedef {object} LoadedPlan
 * @property {number} id
 * @property {Plan} plan
 * @property {Uint8Array[]} blobs of those that init steps of later replacements may need, constants only
 * @property {number[]} slots function of each kernel
 * @property {Map<Id, BufferSpec>} specs
 * @property {Map<Id, string>} keys of the persistent blocks that inferences use
 * @property {Map<string, Binding>} bindings
 * @property {{environment: Environment, inputs: Record<string, Tensor>} | null} latest
 */

/**
 * A plan with its symbols bound and its buffers placed.
 * @typedef {object} Binding
 * @property {number} epoch of the memory for which the addresses hold
 * @property {number} end first byte after everything that the inference uses
 * @property {Int32Array} words
 * @property {number[]} starts first word of each unit, and the end of the last
 * @property {boolean} shared
 * @property {number} programAddress
 * @property {(id: Id) => Place} locate
 * @property {{name: string, dtype: string, elements: number, address: number}[]} inputs
 * @property {{name: string, dtype: string, dims: number[], elements: number, address: number}[]} outputs
 */

/** @typedef {{address: number, bytes: number, users: number}} Block Persistent data, shared by key. */

export class WasmDevice {
  /**
   * @param {WasmMemory} memory
   * @param {ThreadPool} pool
   * @param {import("./types.js").Facts} facts
   */
  constructor(memory, pool, facts) {
    this.memory = memory;
    this.pool = pool;
    this.facts = facts;
    /** @type {import("./weights.js").WeightFiles | null} */
    this.files = null;
    /** @type {Map<number, LoadedPlan>} */
    this.plans = new Map();
    /** @type {Map<string, Block>} */
    this.blocks = new Map();
    this.nextPlan = 0;
    /** First byte after the largest arena so far: scratch of measurements lies above. */
    this.arenaEnd = 0;
    /** Counts what may have overwritten that scratch. */
    this.disturbances = 0;
    this.runs = 0;
  }

  /**
   * @param {{threads: number | null, poolUrl: string | URL}} options `threads` null: as many as suit the machine
   * @returns {Promise<WasmDevice>}
   * @throws {DeviceError}
   */
  static async open({ threads, poolUrl }) {
    const notes = [];
    const isolated = canShareMemory();
    let wanted = Math.max(1, Math.floor(threads ?? defaultThreads()));
    if (wanted > 1 && !isolated) {
      wanted = 1;
      notes.push(
        "The page is not cross-origin isolated, so there is one thread: serve it with the headers " +
          "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp.",
      );
    }
    let memory = new WasmMemory(wanted > 1);
    let pool = new ThreadPool(memory);
    if (wanted > 1) {
      try {
        await pool.start(wanted, poolUrl);
      } catch (error) {
        notes.push(`Threads did not start, so there is one: ${error instanceof Error ? error.message : error}`);
        memory = new WasmMemory(false);
        pool = new ThreadPool(memory);
      }
    }
    return new WasmDevice(memory, pool, {
      device: "wasm",
      threads: pool.threads,
      isolated,
      relaxedSimd: hasRelaxedSimd(),
      hardwareConcurrency: navigator.hardwareConcurrency || 1,
      adapter: null,
      limits: {},
      features: [],
      maxPages: memory.maxPages,
      notes,
    });
  }

  /** @param {import("./weights.js").WeightFiles} files */
  setFiles(files) {
    this.files = files;
  }

  /**
   * Instantiate a plan, place its weights and run its init steps.
   * @param {Plan} plan
   * @param {Uint8Array[]} blobs
   */
  async addPlan(plan, blobs) {
    const start = performance.now();
    /** @type {LoadedPlan} */
    const loaded = {
      id: this.nextPlan,
      plan,
      blobs,
      slots: await this.instantiate(plan, blobs, 0),
      specs: new Map(plan.buffers.map((buffer) => [buffer.id, buffer])),
      keys: new Map(),
      bindings: new Map(),
      latest: null,
    };
    const compiled = performance.now();
    try {
      await this.placePersistent(loaded);
    } catch (error) {
      this.pool.release(loaded.slots);
      this.releaseBlocks(loaded.keys.values());
      throw error;
    }
    this.nextPlan += 1;
    this.disturbances += 1;
    this.plans.set(loaded.id, loaded);
    return { plan: loaded.id, compileMs: compiled - start, initMs: performance.now() - compiled };
  }

  /**
   * Compile the modules of kernels `first` and on, on every thread.
   * @param {Plan} plan
   * @param {Uint8Array[]} blobs
   * @param {number} first
   * @returns {Promise<number[]>} slot of each of these kernels
   */
  async instantiate(plan, blobs, first) {
    const kernels = plan.kernels.slice(first);
    const used = [...new Set(kernels.map((kernel) => /** @type {number} */ (kernel.module)))];
    const modules = await Promise.all(
      used.map(async (module) => ({
        module: await WebAssembly.compile(/** @type {Uint8Array<ArrayBuffer>} */ (blobs[plan.modules[module]])),
        names: kernels.filter((kernel) => kernel.module === module).map((kernel) => kernel.export ?? kernel.name),
      })),
    );
    const slots = await this.pool.add(modules);
    const next = used.map(() => 0);
    return kernels.map((kernel) => {
      const at = used.indexOf(/** @type {number} */ (kernel.module));
      return slots[at][next[at]++];
    });
  }

  /**
   * Allocate what inferences need of weights, constants and packed weights, fill it, and run the init steps whose
   * results are not there yet from another plan. Weights that only init steps read pass through the arena.
   * @param {LoadedPlan} loaded
   */
  async placePersistent(loaded) {
    const { plan, specs, keys } = loaded;
    const fresh = new Set();
    for (const id of touched(inferenceSteps(plan))) this.claim(loaded, id, fresh);
    for (const { buffer } of plan.outputs) if (buffer !== null) this.claim(loaded, buffer, fresh);
    for (const id of fresh) {
      const spec = /** @type {BufferSpec} */ (specs.get(id));
      if (spec.kind === "persistent") continue;
      const block = /** @type {Block} */ (this.blocks.get(/** @type {string} */ (keys.get(id))));
      await this.fill(spec, loaded.blobs, block.address);
    }
    const steps = neededInit(initSteps(plan), specs, fresh, keys);
    await this.runInit(loaded, steps, (id) => {
      const key = keys.get(id);
      return key === undefined ? null : /** @type {Block} */ (this.blocks.get(key)).address;
    });
  }

  /**
   * Make the persistent block of a buffer this plan's, allocating it if no plan has it yet.
   * @param {LoadedPlan} loaded
   * @param {Id} id
   * @param {Set<Id>} fresh gains `id` when the block is new
   */
  claim({ id: planId, specs, keys }, id, fresh) {
    const spec = specs.get(id);
    if (!spec) throw new VerificationError(`The plan has no buffer ${id}.`);
    if (!["weight", "const", "persistent"].includes(spec.kind) || keys.has(id)) return;
    const key = spec.key ?? `${planId}:${id}`;
    let block = this.blocks.get(key);
    if (!block) {
      const bytes = evaluate(spec.elements, {}) * bytesOf(spec.storage);
      block = { address: this.memory.allocate(bytes), bytes, users: 0 };
      this.blocks.set(key, block);
      fresh.add(id);
    }
    block.users += 1;
    keys.set(id, key);
  }

  /**
   * Address of a weight, constant or packed weight that is in place, for this plan or another one; null if it is not.
   * @param {LoadedPlan} loaded
   * @param {Id} id
   */
  persistentAddress({ specs, keys }, id) {
    const key = keys.get(id) ?? specs.get(id)?.key;
    return (key === undefined ? undefined : this.blocks.get(key)?.address) ?? null;
  }

  /** @param {Iterable<string>} keys */
  releaseBlocks(keys) {
    for (const key of keys) {
      const block = this.blocks.get(key);
      if (block && --block.users === 0) {
        this.memory.free(block.address);
        this.blocks.delete(key);
      }
    }
  }

  /**
   * Copy a weight or constant to its place.
   * @param {BufferSpec} spec
   * @param {Uint8Array[]} blobs
   * @param {number} address
   */
  async fill(spec, blobs, address) {
    let bytes;
    if (spec.kind === "const") bytes = blobs[/** @type {number} */ (spec.blob)];
    else if (this.files) bytes = this.files.read(spec);
    else throw new VerificationError("addPlan came before setFiles.");
    if (bytes instanceof Promise) bytes = await bytes;
    const expected = evaluate(spec.elements, {}) * bytesOf(spec.storage);
    if (bytes.byteLength !== expected) {
      throw new VerificationError(
        `The ${spec.kind} ${spec.id} has ${bytes.byteLength} bytes where the plan says ${expected}.`,
      );
    }
    this.memory.bytes.set(bytes, address);
  }

  /**
   * Run init steps one by one; buffers without a place of their own live in the arena while they are needed.
   *
   * @param {LoadedPlan} loaded
   * @param {Step[]} steps
   * @param {(id: Id) => number | null} placed address of a buffer that has one
   * @param {number} [base] where free memory starts
   */
  async runInit(loaded, steps, placed, base = alignUp(this.memory.top)) {
    if (!steps.length) return;
    const { specs, blobs, plan, slots } = loaded;
    const passing = [...lifetimes(steps)]
      .filter(([id]) => placed(id) === null)
      .map(([id, life]) => ({ id, bytes: this.bytesOfBuffer(specs, id, {}), ...life }));
    const { offsets, bytes } = placeInArena(passing);
    // One record is at most a few dozen words; it is passed to the pool at the start of the free memory.
    const arena = base + RECORD_BYTES;
    this.memory.ensure(arena + bytes + SLACK);
    /** @type {(id: Id) => Place} */
    const locate = (id) => {
      const spec = /** @type {BufferSpec} */ (specs.get(id));
      const address = placed(id) ?? arena + /** @type {number} */ (offsets.get(id));
      const constant = spec.kind === "weight" || spec.kind === "const";
      return { address, bytes: this.bytesOfBuffer(specs, id, {}), storage: spec.storage, constant };
    };
    const filled = new Set();
    for (const step of steps) {
      for (const [id] of step.buffers) {
        const spec = /** @type {BufferSpec} */ (specs.get(id));
        if (placed(id) !== null || filled.has(id)) continue;
        filled.add(id);
        if (spec.kind === "weight" || spec.kind === "const") await this.fill(spec, blobs, locate(id).address);
      }
      const builder = new ProgramBuilder(this.pool.threads);
      builder.add(step, plan.kernels[step.kernel], slots[step.kernel], {}, locate);
      const words = builder.finish();
      try {
        this.pool.run(words, 0, words.length, base, 1, builder.shared);
      } catch (error) {
        throw this.explainTrap(error, `preparing weights with ${plan.kernels[step.kernel].name}`);
      }
    }
  }

  /**
   * @param {Map<Id, BufferSpec>} specs
   * @param {Id} id
   * @param {Environment} environment
   */
  bytesOfBuffer(specs, id, environment) {
    const spec = specs.get(id);
    if (!spec) throw new VerificationError(`The plan has no buffer ${id}.`);
    return evaluate(spec.elements, environment) * bytesOf(spec.storage);
  }

  /**
   * The plan with these symbol values, placed; cached.
   * @param {LoadedPlan} loaded
   * @param {Environment} environment
   * @returns {Binding}
   */
  bind(loaded, environment) {
    const key = loaded.plan.symbols.map(({ name }) => environment[name]).join();
    let binding = loaded.bindings.get(key);
    if (!binding || binding.epoch !== this.memory.epoch) {
      binding = this.place(loaded, environment);
      loaded.bindings.set(key, binding);
      if (loaded.bindings.size > MAX_BINDINGS) loaded.bindings.delete(/** @type {string} */ (loaded.bindings.keys().next().value));
    }
    this.memory.ensure(binding.end);
    if (binding.end > this.arenaEnd) {
      this.arenaEnd = binding.end;
      this.disturbances += 1;
    }
    return binding;
  }

  /**
   * @param {LoadedPlan} loaded
   * @param {Environment} environment
   * @returns {Binding}
   */
  place(loaded, environment) {
    const { plan, specs, keys, slots } = loaded;
    const steps = inferenceSteps(plan);
    const lives = lifetimes(steps);
    for (const { buffer } of plan.inputs) {
      // Inputs are written before the first step.
      if (buffer !== null) lives.set(buffer, { first: -1, last: lives.get(buffer)?.last ?? -1 });
    }
    for (const { buffer } of plan.outputs) {
      // Outputs are read after the last step.
      if (buffer !== null) lives.set(buffer, { first: lives.get(buffer)?.first ?? 0, last: steps.length });
    }
    const passing = [...lives]
      .filter(([id]) => !keys.has(id))
      .map(([id, life]) => ({ id, bytes: this.bytesOfBuffer(specs, id, environment), ...life }));
    const { offsets, bytes } = placeInArena(passing);
    const programAddress = alignUp(this.memory.top);
    // Records are 5 words and the arguments; a barrier may precede each.
    const words = steps.reduce((n, step) => n + 6 + step.buffers.length + step.symbols.length, 0);
    const arena = alignUp(programAddress + words * 4);
    /** @type {Map<Id, Place>} */
    const places = new Map();
    for (const id of lives.keys()) {
      const spec = /** @type {BufferSpec} */ (specs.get(id));
      const block = keys.has(id) ? this.blocks.get(/** @type {string} */ (keys.get(id))) : undefined;
      places.set(id, {
        address: block ? block.address : arena + /** @type {number} */ (offsets.get(id)),
        bytes: this.bytesOfBuffer(specs, id, environment),
        storage: spec.storage,
        constant: spec.kind === "weight" || spec.kind === "const",
      });
    }
    /** @type {(id: Id) => Place} */
    const locate = (id) => {
      const place = places.get(id);
      if (!place) throw new VerificationError(`The plan has no buffer ${id}.`);
      return place;
    };
    const builder = new ProgramBuilder(this.pool.threads);
    const starts = [];
    for (const unit of plan.units) {
      starts.push(builder.words.length);
      for (const step of unit.steps) {
        builder.add(step, plan.kernels[step.kernel], slots[step.kernel], environment, locate);
      }
    }
    starts.push(builder.words.length);
    return {
      epoch: this.memory.epoch,
      end: arena + bytes + SLACK,
      words: builder.finish(),
      starts,
      shared: builder.shared,
      programAddress,
      locate,
      inputs: plan.inputs
        .filter(({ buffer }) => buffer !== null)
        .map(({ name, dtype, shape, buffer }) => ({
          name,
          dtype,
          elements: product(shape.map((dim) => evaluate(dim, environment))),
          address: locate(/** @type {Id} */ (buffer)).address,
        })),
      outputs: plan.outputs.map(({ name, dtype, shape, buffer }) => {
        const dims = shape.map((dim) => evaluate(dim, environment));
        const elements = product(dims);
        return { name, dtype, dims, elements, address: locate(/** @type {Id} */ (buffer)).address };
      }),
    };
  }

  /**
   * One inference. The inputs fit the plan: the executor has checked.
   * @param {import("./types.js").Bound} bound
   * @returns {Promise<Record<string, Tensor>>}
   */
  async run({ plan: id, environment, inputs }) {
    const loaded = this.loaded(id);
    const binding = this.bind(loaded, environment);
    this.writeInputs(binding, inputs);
    this.runUnits(loaded, binding, 0, loaded.plan.units.length, 1);
    loaded.latest = { environment, inputs };
    this.runs += 1;
    /** @type {Record<string, Tensor>} */
    const outputs = {};
    for (const { name, dtype, dims, elements, address } of binding.outputs) {
      outputs[name] = { data: this.read(address, elements, dtype), dims, type: longDtype(dtype) };
    }
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
    for (const { name, dtype, elements, address } of binding.inputs) {
      const data = bitsOf(inputs[name].data);
      new (arrayTypeOf(dtype))(this.memory.memory.buffer, address, elements).set(data);
    }
  }

  /**
   * Elements of the memory as a new array of the API.
   * @param {number} address
   * @param {number} elements
   * @param {string} dtype
   */
  read(address, elements, dtype) {
    // A constructor given a typed array always makes memory of its own, unshared.
    const bits = new (arrayTypeOf(dtype))(new (arrayTypeOf(dtype))(this.memory.memory.buffer, address, elements));
    const Api = apiArrayTypeOf(dtype);
    return bits instanceof Api ? bits : new Api(bits.buffer);
  }

  /**
   * Run units [first, last) on what is in the arena.
   * @param {LoadedPlan} loaded
   * @param {Binding} binding
   * @param {number} first
   * @param {number} last
   * @param {number} repeat
   */
  runUnits(loaded, binding, first, last, repeat) {
    const { words, starts, programAddress, shared } = binding;
    try {
      this.pool.run(words, starts[first], starts[last], programAddress, repeat, shared);
    } catch (error) {
      if (!(error instanceof StepTrap)) throw error;
      let step = error.step;
      const unit = loaded.plan.units.find(({ steps }) => (step -= steps.length) < 0);
      throw this.explainTrap(error, `running ${unit?.label ?? "a kernel"} of node ${JSON.stringify(unit?.node ?? "")}`);
    }
  }

  /**
   * @param {unknown} error
   * @param {string} doing
   */
  explainTrap(error, doing) {
    if (!(error instanceof StepTrap)) return error;
    return new DeviceError(
      `WebAssembly stopped while ${doing}: ${error.message}. An input value outside what the model expects (an index ` +
        `beyond its table, a division by zero) does that.`,
      { cause: error },
    );
  }

  /**
   * @param {import("./types.js").MeasureRequest} request
   * @param {() => Promise<void>} pause
   */
  measure(request, pause) {
    return measure(this, request, pause);
  }

  /**
   * @param {{plan: number, repeat: number}} request
   * @param {() => Promise<void>} pause
   */
  profile(request, pause) {
    return profile(this, request, pause);
  }

  /**
   * Exchange units for other implementations, between two inferences: all of them or, after an error, none.
   * @param {{plan: number, replacements: import("./types.js").Replacement[]}} request
   */
  async swap({ plan: id, replacements }) {
    const start = performance.now();
    const old = this.loaded(id);
    let { plan } = old;
    const blobs = [...old.blobs];
    for (const { unit, with: candidate } of replacements) {
      plan = replaceUnit(plan, unit, candidate, blobs.length);
      blobs.push(...candidate.blobs);
    }
    /** @type {LoadedPlan} */
    const loaded = {
      ...old,
      plan,
      blobs,
      slots: [...old.slots, ...(await this.instantiate(plan, blobs, old.plan.kernels.length))],
      specs: new Map(plan.buffers.map((buffer) => [buffer.id, buffer])),
      keys: new Map(),
      bindings: new Map(),
    };
    try {
      await this.placePersistent(loaded);
    } catch (error) {
      this.releaseBlocks(loaded.keys.values());
      this.pool.release(loaded.slots.slice(old.slots.length));
      throw error;
    }
    this.releaseBlocks(old.keys.values());
    this.disturbances += 1;
    this.plans.set(id, loaded);
    return { initMs: performance.now() - start };
  }

  stats() {
    let persistent = 0;
    for (const block of this.blocks.values()) persistent += block.bytes;
    return {
      peakWasmBytes: this.memory.size,
      persistentBytes: persistent,
      arenaBytes: Math.max(0, this.arenaEnd - this.memory.top),
      plans: this.plans.size,
      runs: this.runs,
    };
  }

  dispose() {
    this.pool.dispose();
    this.plans.clear();
    this.blocks.clear();
    this.files = null;
  }
}

/** Placements that a plan keeps: a chat grows its sequence by one a step, and none of them comes back. */
const MAX_BINDINGS = 64;

/** Room for the one record of an init step. */
const RECORD_BYTES = 4096;
