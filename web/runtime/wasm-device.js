/**
 * The CPU: plans whose kernels are WebAssembly functions, run over one memory by one or more threads. Implements
 * `Device` of types.js.
 */

import { Bell } from "./bell.js";
import { apiArrayTypeOf, arrayTypeOf, bitsOf, bytesOf, longDtype } from "./dtypes.js";
import { DeviceError, VerificationError } from "./errors.js";
import { canWait } from "./lane.js";
import { OutputBuffers } from "./output-buffers.js";
import { alignUp } from "./placement.js";
import { replaceUnit } from "./plan-edit.js";
import { StepTrap } from "./program.js";
import { Quarantine } from "./quarantine.js";
import { bindPlan } from "./wasm-binding.js";
import { canShareMemory, hasRelaxedSimd } from "./wasm-features.js";
import { instantiate, releaseUnused } from "./wasm-kernels.js";
import { measure, profile } from "./wasm-measure.js";
import { microbench } from "./wasm-microbench.js";
import { PersistentStore } from "./wasm-persistent.js";
import { startThreads } from "./wasm-threads.js";

/** @typedef {import("./thread-pool.js").ThreadPool} ThreadPool */
/** @typedef {import("./wasm-memory.js").WasmMemory} WasmMemory */
/** @typedef {import("./types.js").Plan} Plan */
/** @typedef {import("./types.js").BufferSpec} BufferSpec */
/** @typedef {import("./types.js").Environment} Environment */
/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {import("./wasm-binding.js").Binding} Binding */
/** @typedef {string | number} Id */

/**
 * A plan on the device.
 * @typedef {object} LoadedPlan
 * @property {number} id
 * @property {Plan} plan
 * @property {Uint8Array[]} blobs of those that init steps of later replacements may need, constants only
 * @property {number[]} slots function of each kernel: see wasm-kernels.js
 * @property {Map<Id, BufferSpec>} specs
 * @property {Map<Id, string>} keys of the persistent blocks that inferences use
 * @property {Map<string, Binding>} bindings
 * @property {{environment: Environment, inputs: Record<string, Tensor>} | null} latest
 * @property {number} ms of the latest inference
 */

export class WasmDevice {
  /**
   * @param {WasmMemory} memory
   * @param {ThreadPool} pool
   * @param {import("./types.js").Facts} facts
   * @param {string | URL} quarantineUrl of quarantine.worker.js
   */
  constructor(memory, pool, facts, quarantineUrl) {
    this.memory = memory;
    this.pool = pool;
    this.facts = facts;
    this.quarantine = new Quarantine(quarantineUrl, memory);
    this.store = new PersistentStore(memory, pool);
    this.outputs = new OutputBuffers();
    /** @type {Map<number, LoadedPlan>} */
    this.plans = new Map();
    this.nextPlan = 0;
    /** First byte after the largest arena so far: scratch of measurements lies above. */
    this.arenaEnd = 0;
    /** Counts what may have overwritten that scratch. */
    this.disturbances = 0;
    this.runs = 0;
    /** @type {import("./wasm-bench.js").Bench | null} of the latest measurement */
    this.bench = null;
    /** @type {{plan: number, record: (ms: number[]) => void} | null} told the time of each unit in inferences of a plan */
    this.watcher = null;
    /** @type {import("./types.js").LaneHost | null} */
    this.laneHost = memory.shared && canWait ? laneHost(memory) : null;
  }

  /**
   * @param {{threads: number | null, poolUrl: string | URL, quarantineUrl: string | URL}} options `threads` null: as many
   *   as suit the machine
   * @returns {Promise<WasmDevice>}
   * @throws {DeviceError}
   */
  static async open({ threads, poolUrl, quarantineUrl }) {
    const { memory, pool, notes } = await startThreads(threads, poolUrl);
    /** @type {import("./types.js").Facts} */
    const facts = {
      device: "wasm",
      threads: pool.threads,
      isolated: canShareMemory(),
      relaxedSimd: hasRelaxedSimd(),
      hardwareConcurrency: navigator.hardwareConcurrency || 1,
      browser: navigator.userAgent,
      adapter: null,
      limits: {},
      features: [],
      maxPages: memory.maxPages,
      notes,
    };
    return new WasmDevice(memory, pool, facts, quarantineUrl);
  }

  /** @param {import("./weights.js").WeightFiles} files */
  setFiles(files) {
    this.store.files = files;
    // The weights are going to take about as much, and the compiler is at work meanwhile.
    this.memory.touch(files.bytes);
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
      slots: await instantiate(this.pool, plan, blobs, 0),
      specs: new Map(plan.buffers.map((buffer) => [buffer.id, buffer])),
      keys: new Map(),
      bindings: new Map(),
      latest: null,
      ms: 0,
    };
    const compiled = performance.now();
    try {
      await this.prepare(loaded);
    } catch (error) {
      this.pool.release(loaded.slots);
      throw error;
    }
    this.nextPlan += 1;
    this.disturbances += 1;
    this.plans.set(loaded.id, loaded);
    return { plan: loaded.id, compileMs: compiled - start, initMs: performance.now() - compiled };
  }

  /**
   * Put a plan's weights in place.
   * @param {LoadedPlan} loaded
   */
  async prepare(loaded) {
    try {
      await this.store.place(loaded);
    } catch (error) {
      this.store.release(loaded.keys.values());
      throw explainTrap(error, "preparing weights");
    }
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
      binding = bindPlan(loaded, environment, this.store, this.pool.threads, binding?.choice);
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
   * One inference. The inputs fit the plan: the executor has checked.
   * @param {import("./types.js").Bound} bound
   * @returns {Promise<Record<string, Tensor>>}
   */
  async run({ plan: id, environment, inputs, space }) {
    const loaded = this.loaded(id);
    const binding = this.bind(loaded, environment);
    this.writeInputs(binding, inputs);
    this.infer(loaded, binding);
    this.remember(loaded, environment, inputs);
    this.runs += 1;
    /** @type {Record<string, Tensor>} */
    const outputs = {};
    let free = space?.start ?? 0;
    for (const { name, dtype, dims, elements, address } of binding.outputs) {
      const bytes = elements * bytesOf(dtype);
      let data;
      if (space && free + bytes <= space.end) {
        this.memory.bytes.copyWithin(free, address, address + bytes);
        data = new (apiArrayTypeOf(dtype))(this.memory.memory.buffer, free, elements);
        free = alignUp(free + bytes);
      } else {
        data = this.read(address, elements, dtype);
      }
      outputs[name] = { data, dims, type: longDtype(dtype) };
    }
    return outputs;
  }

  /**
   * Run all units, on as many threads as are good for it.
   * @param {LoadedPlan} loaded
   * @param {Binding} binding
   */
  infer(loaded, binding) {
    const { choice, shared } = binding;
    const together = shared && choice.next();
    const start = performance.now();
    const { units } = loaded.plan;
    if (loaded.latest && this.watcher?.plan === loaded.id) {
      const times = units.map((_, unit) => this.timeUnit(loaded, binding, unit, together));
      this.watcher.record(times);
    } else this.runUnits(loaded, binding, 0, units.length, 1, { shared: together, fresh: loaded.latest === null });
    loaded.ms = performance.now() - start;
    if (shared && choice.undecided) choice.record(together, loaded.ms);
  }

  /**
   * Run one unit.
   * @param {LoadedPlan} loaded
   * @param {Binding} binding
   * @param {number} unit
   * @param {boolean} shared
   * @returns {number} ms
   */
  timeUnit(loaded, binding, unit, shared) {
    const start = performance.now();
    this.runUnits(loaded, binding, unit, unit + 1, 1, { shared });
    return performance.now() - start;
  }

  /**
   * Keep inputs for measurements to replay. Those in a lane are the client's again after the answer: they are copied,
   * unless others of the same shapes are there.
   * @param {LoadedPlan} loaded
   * @param {Environment} environment
   * @param {Record<string, Tensor>} inputs
   */
  remember(loaded, environment, inputs) {
    const shared = (/** @type {Tensor} */ { data }) => !(data.buffer instanceof ArrayBuffer);
    if (!Object.values(inputs).some(shared)) {
      loaded.latest = { environment, inputs };
      return;
    }
    const latest = loaded.latest?.environment;
    if (latest && loaded.plan.symbols.every(({ name }) => latest[name] === environment[name])) return;
    const own = Object.entries(inputs).map(([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }]);
    loaded.latest = { environment, inputs: Object.fromEntries(own) };
  }

  /** @param {number} id @returns {LoadedPlan} */
  loaded(id) {
    const found = this.plans.get(id);
    if (!found) throw new VerificationError(`There is no plan ${id}.`);
    return found;
  }

  /**
   * Put inputs where the kernels read them; one that lies in this memory already is read where it is.
   * @param {Binding} binding
   * @param {Record<string, Tensor>} inputs
   */
  writeInputs(binding, inputs) {
    for (const input of binding.inputs) {
      const data = bitsOf(inputs[input.name].data);
      let at = input.address;
      if (input.uses && !(data.buffer instanceof ArrayBuffer)) at = data.byteOffset;
      else new (arrayTypeOf(input.dtype))(this.memory.memory.buffer, at, input.elements).set(data);
      if (at === input.current) continue;
      input.current = at;
      for (const { word, offset } of input.uses ?? []) binding.words[word] = (at + offset) | 0;
    }
  }

  /**
   * Elements of the memory as a new array of the API.
   * @param {number} address
   * @param {number} elements
   * @param {string} dtype
   */
  read(address, elements, dtype) {
    const bytes = elements * bytesOf(dtype);
    const buffer = this.outputs.take(bytes);
    new Uint8Array(buffer).set(this.memory.bytes.subarray(address, address + bytes));
    return new (apiArrayTypeOf(dtype))(buffer);
  }

  /**
   * Run units [first, last) on what is in the arena.
   * @param {LoadedPlan} loaded
   * @param {Binding} binding
   * @param {number} first
   * @param {number} last
   * @param {number} repeat
   * @param {{shared?: boolean, fresh?: boolean}} [how] `shared`: on all threads, if any step is worth it; `fresh`:
   *   these kernels may not have run yet
   */
  runUnits(loaded, binding, first, last, repeat, { shared = binding.shared, fresh = false } = {}) {
    const { words, starts, programAddress } = binding;
    try {
      this.pool.run(words, starts[first], starts[last], programAddress, repeat, shared, fresh);
    } catch (error) {
      if (!(error instanceof StepTrap)) throw error;
      let step = error.step;
      const unit = loaded.plan.units.find(({ steps }) => (step -= steps.length) < 0);
      throw explainTrap(error, `running ${unit?.label ?? "a kernel"} of node ${JSON.stringify(unit?.node ?? "")}`);
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
      slots: [...old.slots, ...(await instantiate(this.pool, plan, blobs, old.plan.kernels.length))],
      specs: new Map(plan.buffers.map((buffer) => [buffer.id, buffer])),
      keys: new Map(),
      bindings: new Map([...old.bindings].map(([key, binding]) => [key, { ...binding, epoch: OUTDATED }])),
    };
    try {
      await this.prepare(loaded);
    } catch (error) {
      this.pool.release(loaded.slots.slice(old.slots.length));
      throw error;
    }
    this.store.release(old.keys.values());
    releaseUnused(this.pool, loaded);
    this.disturbances += 1;
    this.plans.set(id, loaded);
    return { initMs: performance.now() - start };
  }

  /**
   * Do ahead what the next inference would wait for.
   * @param {() => boolean} awaited whether somebody waits: stop then
   */
  prepareNext(awaited) {
    this.outputs.prepare(awaited);
  }

  stats() {
    return {
      peakWasmBytes: this.memory.size,
      persistentBytes: this.store.bytes,
      arenaBytes: Math.max(0, this.arenaEnd - this.memory.top),
      plans: this.plans.size,
      runs: this.runs,
    };
  }

  dispose() {
    this.quarantine.close();
    this.bench = null;
    this.pool.dispose();
    this.plans.clear();
    this.store = new PersistentStore(this.memory, this.pool);
  }
}

/**
 * @param {WasmMemory} memory shared
 * @returns {import("./types.js").LaneHost}
 */
function laneHost(memory) {
  return {
    bell: new Bell(memory),
    openLane: (bytes) => ({ memory: memory.memory, address: memory.allocate(bytes), bytes }),
    closeLane: ({ address }) => memory.free(address),
  };
}

/** Placements that a plan keeps: a chat grows its sequence by one a step, and none of them comes back. */
const MAX_BINDINGS = 64;
/** Epoch of a binding to kernels that were replaced: what is bound next in its place only takes its choice of threads over. */
const OUTDATED = -1;

/**
 * @param {unknown} error
 * @param {string} doing
 */
function explainTrap(error, doing) {
  if (!(error instanceof StepTrap)) return error;
  return new DeviceError(
    `WebAssembly stopped while ${doing}: ${error.message}. An input value outside what the model expects (an index ` +
      `beyond its table, a division by zero) does that.`,
    { cause: error },
  );
}
