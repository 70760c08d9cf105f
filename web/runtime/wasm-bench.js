/**
 * One unit of a plan on the bench: its operands are copied out of a replayed inference into scratch memory above the
 * arena, so that inferences served meanwhile disturb nothing; incumbent and candidates run there on the same data, each
 * with results and temporaries of its own, poisoned and guarded.
 *
 * Before an execution is timed the caches are made what they are in an inference when the unit's turn comes: the rest of
 * the model has gone through them, and what the units before have left is there. Executed again and again, a kernel
 * would find its weights where they never are, and schedules would win that lose in the model.
 */

import { compare, GUARD_BYTES, guardIntact, poison, setGuard } from "./compare.js";
import { alignUp } from "./placement.js";
import { bytesOfBuffer, isPersistent, specOf } from "./plan-buffers.js";
import { boundaryOf, replaceUnit, touched, written } from "./plan-edit.js";
import { touchStep } from "./program.js";
import { ProgramBuilder } from "./program-builder.js";
import { inputsToMeasure } from "./measured-inputs.js";
import { instantiate } from "./wasm-kernels.js";
import { sizeOf } from "./wasm-persistent.js";

/** @typedef {import("./wasm-device.js").WasmDevice} WasmDevice */
/** @typedef {import("./wasm-device.js").LoadedPlan} LoadedPlan */
/** @typedef {import("./program-builder.js").Place} Place */
/** @typedef {string | number} Id */

/** Bytes that leave nothing of what was in a core's own caches. */
const SWEEP_BYTES = 2 << 20;
/** Most pieces of a sample that are timed apart. */
const PIECES = 20;

/** One unit of a plan, with its operands and the incumbent's results on them. */
export class Bench {
  /**
   * @param {WasmDevice} device
   * @param {LoadedPlan} loaded
   * @param {number} unit
   * @param {number} tolerance
   */
  constructor(device, loaded, unit, tolerance) {
    this.device = device;
    this.loaded = loaded;
    this.unit = unit;
    this.tolerance = tolerance;
    this.latest = inputsToMeasure(loaded, device.plans.values());
    /** Whether the inputs are those of an inference. */
    this.real = !!loaded.latest;
    this.boundary = boundaryOf(loaded.plan, unit);
    this.incumbentMs = 0;
    this.captured = -1;
    /** @type {Map<Id, {place: Place, address: number}>} place in the arena, address of the copy */
    this.operands = new Map();
    /** @type {Map<Id, Uint8Array>} */
    this.references = new Map();
    /** @type {Runner | null} */
    this.incumbent = null;
    this.scratch = 0;
  }

  /**
   * Whether a measurement of that unit would find here what it needs.
   * @param {LoadedPlan} loaded
   * @param {number} unit
   * @param {number} tolerance
   */
  suits(loaded, unit, tolerance) {
    const { environment } = loaded.latest ?? this.latest;
    const same = loaded.plan.symbols.every(({ name }) => environment[name] === this.latest.environment[name]);
    return this.loaded === loaded && this.unit === unit && this.tolerance === tolerance && same && this.real === !!loaded.latest;
  }

  /** Whether the scratch still holds what `capture` put there. */
  get intact() {
    return this.captured === this.device.disturbances && this.epoch === this.device.memory.epoch;
  }

  /** Replay the latest inference up to the unit, copy its operands, run the incumbent on them. */
  capture() {
    const { device, loaded } = this;
    const binding = device.bind(loaded, this.latest.environment);
    device.writeInputs(binding, this.latest.inputs);
    device.runUnits(loaded, binding, 0, this.unit, 1);
    this.binding = binding;
    this.scratch = alignUp(device.arenaEnd);
    this.operands.clear();
    for (const id of this.boundary.operands) {
      const place = binding.locate(id);
      const address = this.reserve(place.bytes);
      device.memory.bytes.copyWithin(address, place.address, place.address + place.bytes);
      this.operands.set(id, { place, address });
    }
    this.prepareAging();
    this.captured = device.disturbances;
    this.epoch = device.memory.epoch;
    this.incumbent = new Runner(this, loaded, () => null);
    this.incumbent.time(1);
    for (const id of this.boundary.results) this.references.set(id, this.incumbent.bytesOf(id));
    this.mark = this.scratch;
  }

  /** Lay out what `age` does, for all threads and for one. */
  prepareAging() {
    const { device, loaded } = this;
    const { memory, pool } = device;
    const { environment } = this.latest;
    const ids = new Set(loaded.plan.units.flatMap(({ steps }) => [...touched(steps)]));
    let bytes = 0;
    for (const id of ids) bytes += bytesOfBuffer(specOf(loaded.specs, id), environment);
    // A small model leaves in the caches what a large one sweeps out.
    bytes = Math.min(SWEEP_BYTES * pool.threads, bytes);
    const sweep = this.reserve(bytes);
    // Pages that nothing was written to are all the same one.
    setGuard(memory.bytes.subarray(sweep, sweep + bytes));
    this.aging = [pool.threads, 1].map((threads) => {
      const steps = [touchStep(sweep, threads > 1 ? bytes : bytes / pool.threads, threads)];
      for (const { place, address } of this.operands.values()) steps.push(touchStep(address, place.bytes, threads));
      return Int32Array.from(steps.flat(), (word) => word | 0);
    });
    this.agingAddress = this.reserve(this.aging[0].length * 4);
  }

  /**
   * Bring the caches into the state in which an inference has them when it comes to the unit.
   * @param {boolean} shared whether the unit runs on all threads
   */
  age(shared) {
    const words = /** @type {Int32Array[]} */ (this.aging)[Number(!shared)];
    this.device.pool.run(words, 0, words.length, /** @type {number} */ (this.agingAddress), 1, shared);
  }

  /**
   * Take scratch memory, guarded on both sides.
   * @param {number} bytes
   * @returns {number} its address
   */
  reserve(bytes) {
    const { memory } = this.device;
    const address = this.scratch + GUARD_BYTES;
    const end = alignUp(address + bytes) + GUARD_BYTES;
    memory.ensure(end);
    setGuard(memory.bytes.subarray(this.scratch, address));
    setGuard(memory.bytes.subarray(address + bytes, end));
    this.scratch = end;
    return address;
  }

  /**
   * Address of the copy of an operand; null for any other buffer.
   * @param {Id} id
   */
  addressOf(id) {
    if (!this.intact) this.capture();
    return this.operands.get(id)?.address ?? null;
  }

  /** Give back what was reserved after the capture. */
  reset() {
    this.scratch = /** @type {number} */ (this.mark);
  }

  /**
   * Milliseconds of one execution of the incumbent.
   * @param {number} repeat
   */
  timeIncumbent(repeat) {
    if (!this.intact) this.capture();
    const ms = /** @type {Runner} */ (this.incumbent).time(repeat);
    this.incumbentMs = this.incumbentMs ? Math.min(this.incumbentMs, ms) : ms;
    return ms;
  }

  /**
   * Compile a candidate.
   * @param {import("./types.js").Candidate} candidate
   */
  async admit(candidate) {
    const { device, loaded } = this;
    const plan = replaceUnit(loaded.plan, this.unit, candidate, loaded.blobs.length);
    const blobs = [...loaded.blobs, ...candidate.blobs];
    const slots = await instantiate(device.pool, plan, blobs, loaded.plan.kernels.length);
    const specs = new Map(plan.buffers.map((buffer) => [buffer.id, buffer]));
    return new Rival(this, { ...loaded, plan, blobs, specs, slots: [...loaded.slots, ...slots] }, slots);
  }
}

/** Executes one implementation of the unit within scratch memory. */
class Runner {
  /**
   * @param {Bench} bench
   * @param {LoadedPlan} loaded
   * @param {(id: Id) => number | null} prepared address of a persistent buffer that is in scratch memory
   */
  constructor(bench, loaded, prepared) {
    this.bench = bench;
    const { device, unit, boundary } = bench;
    const { plan, specs, slots } = loaded;
    const { environment } = bench.latest;
    const { steps } = plan.units[unit];
    const writes = written(steps, plan.kernels);
    /** @type {{place: Place, from: number | null}[]} own buffers; `from`: operand that they copy */
    this.own = [];
    /** @type {Map<Id, Place>} */
    this.places = new Map();
    for (const id of touched(steps)) {
      const spec = specOf(specs, id);
      const bytes = bytesOfBuffer(spec, environment);
      const operand = bench.operands.get(id);
      const fixed = prepared(id) ?? device.store.placeOf(loaded, id);
      let address = fixed ?? 0;
      if (fixed === null) {
        if (operand && !writes.has(id)) address = operand.address;
        else {
          address = bench.reserve(bytes);
          const place = { address, bytes, storage: spec.storage };
          this.own.push({ place, from: operand ? operand.address : null });
        }
      }
      this.places.set(id, { address, bytes, storage: spec.storage });
    }
    const builder = new ProgramBuilder(device.pool.threads);
    const locate = (/** @type {Id} */ id) => /** @type {Place} */ (this.places.get(id));
    for (const step of steps) builder.add(step, slots[step.kernel], environment, locate);
    this.words = builder.finish();
    this.shared = builder.shared;
    this.programAddress = bench.reserve(this.words.length * 4);
    this.inPlace = [...boundary.operands].some((id) => writes.has(id));
    this.poison();
  }

  /** Fill results and temporaries with poison, or with the operand that they start from. */
  poison() {
    const { bytes } = this.bench.device.memory;
    for (const { place, from } of this.own) {
      if (from === null) poison(bytes.subarray(place.address, place.address + place.bytes), place.storage);
      else bytes.copyWithin(place.address, from, from + place.bytes);
    }
  }

  /**
   * Milliseconds of one execution, of `repeat` ones: each as in an inference, but for those too short for the clock,
   * which follow each other.
   * @param {number} repeat
   * @throws {import("./program.js").StepTrap}
   */
  time(repeat) {
    const { bench } = this;
    const { pool } = bench.device;
    const piece = Math.ceil(repeat / PIECES);
    let spent = 0;
    for (let left = repeat; left > 0; left -= piece) {
      bench.age(this.shared);
      const start = performance.now();
      pool.run(this.words, 0, this.words.length, this.programAddress, Math.min(piece, left), this.shared);
      spent += performance.now() - start;
    }
    return spent / repeat;
  }

  /**
   * A copy of a result.
   * @param {Id} id
   */
  bytesOf(id) {
    const { address, bytes } = /** @type {Place} */ (this.places.get(id));
    return new Uint8Array(this.bench.device.memory.bytes.subarray(address, address + bytes));
  }

  /** Whether nothing was written around the implementation's own buffers. */
  guardsIntact() {
    const { bytes } = this.bench.device.memory;
    return this.own.every(({ place }) => {
      const end = place.address + place.bytes;
      return (
        guardIntact(bytes.subarray(place.address - GUARD_BYTES, place.address)) &&
        guardIntact(bytes.subarray(end, alignUp(end) + GUARD_BYTES))
      );
    });
  }
}

/** A candidate on the bench. */
export class Rival {
  /**
   * @param {Bench} bench
   * @param {LoadedPlan} loaded the plan with the candidate in place of the incumbent
   * @param {number[]} slots of the candidate's functions
   */
  constructor(bench, loaded, slots) {
    this.bench = bench;
    this.loaded = loaded;
    this.slots = slots;
    /** @type {Runner | null} */
    this.runner = null;
    this.preparedFor = -1;
    /** @type {Map<Id, Uint8Array>} its weights as its init steps packed them */
    this.packed = new Map();
  }

  /**
   * Run it for the first time, apart from the model's memory. Only what passes may run here.
   * @param {import("./wasm-trial.js").Trials} trials
   * @param {import("./types.js").Pause} pause
   */
  async pass(trials, pause) {
    const verdict = await trials.run(this.loaded, pause);
    this.packed = verdict.packed;
    return verdict;
  }

  /** Put its weights into scratch memory, again if something has overwritten them. */
  async prepare() {
    const { bench, loaded } = this;
    const { device } = bench;
    if (!bench.intact) bench.capture();
    if (this.runner && this.preparedFor === bench.captured) return;
    bench.reset();
    const { steps } = loaded.plan.units[bench.unit];
    /** @type {Map<Id, number>} */
    const prepared = new Map();
    for (const id of touched(steps)) {
      const spec = specOf(loaded.specs, id);
      if (!isPersistent(spec)) continue;
      if (device.store.placeOf(loaded, id) !== null) continue;
      const address = bench.reserve(sizeOf(spec));
      prepared.set(id, address);
      const packed = this.packed.get(id);
      if (packed) device.memory.bytes.set(packed, address);
      else await device.store.fill(spec, loaded.blobs, address);
    }
    this.runner = new Runner(bench, loaded, (id) => prepared.get(id) ?? null);
    this.preparedFor = bench.captured;
  }

  /** @param {number} repeat */
  time(repeat) {
    return /** @type {Runner} */ (this.runner).time(repeat);
  }

  /** Whether it overwrites operands: each execution then works on what the one before has left. */
  get inPlace() {
    return /** @type {Runner} */ (this.runner).inPlace;
  }

  /**
   * Compare its results with the incumbent's.
   * @returns {{status: "ok" | "wrong" | "out-of-bounds", maxError: number | null, message: string}}
   */
  check() {
    const { bench } = this;
    const runner = /** @type {Runner} */ (this.runner);
    if (!runner.guardsIntact()) {
      return { status: "out-of-bounds", maxError: null, message: "the candidate wrote outside its buffers" };
    }
    let worst = 0;
    for (const id of bench.boundary.results) {
      const place = runner.places.get(id);
      const storage = /** @type {Place} */ (bench.binding?.locate(id)).storage;
      if (!place) return { status: "wrong", maxError: null, message: `the candidate does not compute ${id}` };
      const reference = /** @type {Uint8Array} */ (bench.references.get(id));
      const { maxError, message } = compare(reference, runner.bytesOf(id), storage, bench.tolerance);
      worst = Math.max(worst, maxError);
      if (message !== null) return { status: "wrong", maxError: worst, message: `buffer ${id}: ${message}` };
    }
    return { status: "ok", maxError: worst, message: "" };
  }

  release() {
    this.bench.device.pool.release(this.slots);
  }
}
