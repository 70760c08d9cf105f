/**
 * Timing and checking candidates on the GPU. The unit's operands are copied out of a replayed inference into buffers of
 * their own, so that inferences served meanwhile disturb nothing; incumbent and candidates run there on the same data,
 * each with results and temporaries of its own. These are poisoned, and bound with guard bytes at their end: WebGPU
 * moves an access out of bounds to somewhere within the binding, its last element as a rule.
 */

import { compare, GUARD_BYTES, guardIntact, poison, setGuard } from "./compare.js";
import { bytesOfBuffer, isPersistent, specOf } from "./plan-buffers.js";
import { remove, write } from "./kernel-store.js";
import { boundaryOf, touched, written } from "./plan-edit.js";
import { inputsToMeasure } from "./measured-inputs.js";
import { isHopeless, median } from "./timing.js";
import { storageBytes } from "./webgpu-context.js";
import { Program } from "./webgpu-program.js";
import { SAMPLE_MS, Stopwatch } from "./webgpu-timing.js";

/** @typedef {import("./webgpu-device.js").WebGpuDevice} WebGpuDevice */
/** @typedef {import("./webgpu-device.js").LoadedPlan} LoadedPlan */
/** @typedef {import("./webgpu-program.js").Place} Place */
/** @typedef {import("./types.js").Measurement} Measurement */
/** @typedef {string | number} Id */

/** A candidate's first execution has so many milliseconds, and as many times what the incumbent takes. */
const LEAST_MS = 3000;
const TIMES_INCUMBENT = 50;

/**
 * @param {WebGpuDevice} device
 * @param {import("./types.js").MeasureRequest} request
 * @param {import("./types.js").Pause} pause
 * @returns {Promise<{incumbentMs: number, results: Measurement[]}>}
 */
export async function measure(device, request, pause) {
  const bench = new Bench(device, device.loaded(request.plan), request.unit, request.tolerance);
  /** @type {number[]} */
  const incumbent = [];
  /** @type {Measurement[]} */
  const results = [];
  try {
    await bench.open();
    await bench.incumbent.warmUp();
    for (const candidate of request.candidates) {
      await pause();
      if (device.context.broken) results.push(untried(candidate));
      else results.push(await recorded(request.journal, candidate, () => measureOne(bench, candidate, request.samples, pause, incumbent)));
    }
    if (!incumbent.length) incumbent.push(device.context.broken ? bench.incumbent.ms : await bench.incumbent.sample());
  } finally {
    bench.close();
  }
  return { incumbentMs: median(incumbent), results };
}

/**
 * @param {Bench} bench
 * @param {import("./types.js").Candidate} candidate
 * @param {number} samples
 * @param {import("./types.js").Pause} pause
 * @param {number[]} incumbent gains the incumbent's samples
 * @returns {Promise<Measurement>}
 */
async function measureOne(bench, candidate, samples, pause, incumbent) {
  /** @type {number[]} */
  const ms = [];
  const before = incumbent.length;
  /** @type {number | null} */
  let maxError = null;
  let compileMs = 0;
  /** @type {Runner | null} */
  let runner = null;
  /** @param {Measurement["status"]} status @param {string} message @returns {Measurement} */
  const outcome = (status, message) => {
    const own = incumbent.slice(before);
    const { broken, hung, failure } = bench.device.context;
    if (broken) {
      status = hung ? "endless" : "lost";
      message = failure?.message ?? message;
    }
    return { status, ms, incumbent: own, incumbentMs: own.length ? median(own) : null, maxError, compileMs, message };
  };
  /** @type {LoadedPlan} */
  let loaded;
  try {
    const start = performance.now();
    loaded = await bench.device.withUnit(bench.loaded, bench.unit, candidate);
    compileMs = performance.now() - start;
  } catch (error) {
    return outcome("compile-error", describe(error));
  }
  try {
    runner = await bench.runner(loaded);
    const check = await bench.check(runner);
    maxError = check.maxError;
    if (check.status !== "ok") return outcome(check.status, check.message);
    await runner.warmUp();
    while (ms.length < samples && !isHopeless(runner.ms, ms, incumbent.slice(before), samples)) {
      await pause();
      incumbent.push(await bench.incumbent.sample());
      ms.push(await runner.sample());
    }
    return outcome("ok", "");
  } catch (error) {
    return outcome("error", describe(error));
  } finally {
    runner?.dispose();
  }
}

/**
 * Try a candidate with a mark in the store as long as it runs. If it takes the device or the page with it, the mark
 * stays, and it is never tried again: nnjit/runtime/kernel_store.py.
 *
 * @param {string | undefined} journal the device's key; none: no mark
 * @param {import("./types.js").Candidate} candidate
 * @param {() => Promise<Measurement>} work
 */
async function recorded(journal, { unit }, work) {
  if (journal === undefined) return work();
  const key = ["fatal", journal, `${unit.task} ${unit.schedule}`];
  await write(JSON.stringify([[key, JSON.stringify({ label: unit.label })]]), "strict");
  const result = await work();
  if (result.status !== "lost" && result.status !== "endless") await remove(...key);
  return result;
}

/**
 * What is said of a candidate whose turn did not come, because the device was lost before.
 * @param {import("./types.js").Candidate} candidate
 * @returns {Measurement}
 */
function untried({ unit }) {
  const message = `the device was lost before ${unit.label} was tried`;
  return { status: "error", ms: [], incumbent: [], incumbentMs: null, maxError: null, compileMs: 0, message };
}

/** @param {unknown} error */
function describe(error) {
  return error instanceof Error ? error.message : String(error);
}

/** One unit of a plan, with its operands and the incumbent's results on them. */
class Bench {
  /**
   * @param {WebGpuDevice} device
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
    this.boundary = boundaryOf(loaded.plan, unit);
    /** @type {Map<Id, Place>} copies of the operands */
    this.operands = new Map();
    /** @type {Map<Id, ArrayBuffer>} the incumbent's results */
    this.references = new Map();
    /** @type {Runner[]} */
    this.runners = [];
    /** @type {Stopwatch | null} */
    this.stopwatch = null;
  }

  /** @returns {Runner} */
  get incumbent() {
    return this.runners[0];
  }

  /** Replay the latest inference up to the unit, copy its operands, run the incumbent on them. */
  async open() {
    const { device, loaded, latest } = this;
    const { context } = device;
    this.stopwatch = await Stopwatch.create(context);
    const binding = await device.bind(loaded, latest.environment);
    device.writeInputs(binding, latest.inputs);
    await context.scope("copying the operands of a kernel", () => {
      for (const id of this.boundary.operands) {
        const place = binding.locate(id);
        const buffer = context.storage(place.bytes, `An operand of ${loaded.plan.units[this.unit].label}`);
        this.operands.set(id, { ...place, buffer, offset: 0 });
      }
      binding.program.submit(0, this.unit, (encoder) => {
        for (const [id, { buffer, bytes }] of this.operands) {
          const from = binding.locate(id);
          if (bytes) encoder.copyBufferToBuffer(from.buffer, from.offset, buffer, 0, bytes);
        }
      });
    });
    const incumbent = await this.runner(loaded);
    const { contents } = await incumbent.runOnce();
    for (const id of this.boundary.results) this.references.set(id, /** @type {ArrayBuffer} */ (contents.get(id)));
  }

  /**
   * Something that runs the unit as `loaded` has it.
   * @param {LoadedPlan} loaded
   */
  async runner(loaded) {
    const runner = new Runner(this, { ...loaded, keys: new Map() });
    this.runners.push(runner);
    await runner.open();
    return runner;
  }

  /**
   * Compare the results of one execution on fresh operands with the incumbent's.
   * @param {Runner} runner
   * @returns {Promise<{status: "ok" | "wrong" | "out-of-bounds", maxError: number | null, message: string}>}
   */
  async check(runner) {
    const limit = LEAST_MS + TIMES_INCUMBENT * this.incumbent.ms;
    const { contents, outside } = await this.device.context.within(limit, runner.runOnce());
    if (outside !== null) {
      return { status: "out-of-bounds", maxError: null, message: `the candidate wrote past the end of buffer ${outside}` };
    }
    let worst = 0;
    for (const [id, reference] of this.references) {
      const found = contents.get(id);
      if (!found) return { status: "wrong", maxError: null, message: `the candidate does not compute buffer ${id}` };
      const { storage } = specOf(this.loaded.specs, id);
      const { maxError, message } = compare(new Uint8Array(reference), new Uint8Array(found), storage, this.tolerance);
      worst = Math.max(worst, maxError);
      if (message !== null) return { status: "wrong", maxError: worst, message: `buffer ${id}: ${message}` };
    }
    return { status: "ok", maxError: worst, message: "" };
  }

  close() {
    for (const runner of this.runners) runner.dispose();
    for (const { buffer } of this.operands.values()) this.device.context.destroy(buffer);
    this.operands.clear();
    this.stopwatch?.dispose();
  }
}

/** Runs one implementation of the bench's unit in buffers of its own. */
class Runner {
  /**
   * @param {Bench} bench
   * @param {LoadedPlan} loaded with no persistent buffer claimed yet
   */
  constructor(bench, loaded) {
    this.bench = bench;
    this.loaded = loaded;
    /** @type {Map<Id, Place>} results, temporaries, and operands that it writes */
    this.own = new Map();
    /** @type {Program | null} */
    this.program = null;
    /** ms of one execution, the best so far */
    this.ms = Infinity;
  }

  async open() {
    const { bench, loaded, own } = this;
    const { device, latest, operands, unit } = bench;
    const { init, steps, label } = loaded.plan.units[unit];
    const { context } = device;
    await context.scope(`preparing ${label}`, async () => {
      await device.persistent.prepare(loaded, touched(steps), init);
      const writes = written(steps, loaded.plan.kernels);
      for (const id of touched(steps)) {
        const spec = specOf(loaded.specs, id);
        if (isPersistent(spec) || (operands.has(id) && !writes.has(id))) continue;
        const bytes = bytesOfBuffer(spec, latest.environment);
        const buffer = context.storage(storageBytes(bytes) + GUARD_BYTES, `A result of ${label}`);
        own.set(id, { buffer, offset: 0, bytes, storage: spec.storage, slack: GUARD_BYTES });
      }
      /** @type {(id: Id) => Place} */
      const locate = (id) => {
        const spec = specOf(loaded.specs, id);
        if (!isPersistent(spec)) return /** @type {Place} */ (own.get(id) ?? operands.get(id));
        return { buffer: device.persistent.bufferOf(loaded, id), offset: 0, bytes: bytesOfBuffer(spec, {}), storage: spec.storage };
      };
      this.program = new Program(context, [steps], loaded.kernels, latest.environment, locate);
    });
  }

  /**
   * One execution on fresh operands.
   * @returns {Promise<{contents: Map<Id, ArrayBuffer>, outside: Id | null}>} every buffer of its own; one of them past
   *   whose end something was written
   */
  async runOnce() {
    const { bench, own } = this;
    const { context } = bench.device;
    const sizes = new Map([...own].map(([id, { bytes }]) => [id, storageBytes(bytes) + GUARD_BYTES]));
    for (const [id, { buffer, bytes, storage }] of own) {
      const fill = new Uint8Array(/** @type {number} */ (sizes.get(id)));
      poison(fill.subarray(0, bytes), storage);
      setGuard(fill.subarray(bytes));
      context.write(buffer, fill);
    }
    const staging = await context.scope(`running ${this.loaded.plan.units[bench.unit].label}`, () => {
      const encoder = context.device.createCommandEncoder();
      for (const [id, { buffer, bytes }] of own) {
        const operand = bench.operands.get(id);
        if (operand && bytes) encoder.copyBufferToBuffer(operand.buffer, 0, buffer, 0, bytes);
      }
      const pass = encoder.beginComputePass();
      /** @type {Program} */ (this.program).record(pass, 0, 1, 1);
      pass.end();
      const parts = [...own].map(([id, { buffer }]) => ({ buffer, offset: 0, bytes: /** @type {number} */ (sizes.get(id)) }));
      const staged = context.stage(encoder, parts);
      context.device.queue.submit([encoder.finish()]);
      return staged;
    });
    const data = await staging.take();
    /** @type {Map<Id, ArrayBuffer>} */
    const contents = new Map();
    let outside = null;
    [...own].forEach(([id, { bytes }], i) => {
      contents.set(id, data[i].slice(0, bytes));
      if (!guardIntact(new Uint8Array(data[i], bytes))) outside = id;
    });
    return { contents, outside };
  }

  /** Run it until the GPU has left its idle state; gives ms of one execution. */
  async warmUp() {
    this.ms = await this.time(1);
    return this.ms < SAMPLE_MS ? this.sample() : this.ms;
  }

  /** Milliseconds of one execution. */
  async sample() {
    const { stopwatch } = this.bench;
    const { dispatches } = /** @type {Program} */ (this.program);
    const ms = await this.time(/** @type {Stopwatch} */ (stopwatch).repeats(this.ms, dispatches.length));
    this.ms = Math.min(this.ms, ms);
    return ms;
  }

  /** @param {number} repeat */
  time(repeat) {
    const { stopwatch } = this.bench;
    return /** @type {Stopwatch} */ (stopwatch).time(/** @type {Program} */ (this.program), 0, 1, repeat);
  }

  dispose() {
    const { device } = this.bench;
    for (const { buffer } of this.own.values()) device.context.destroy(buffer);
    this.own.clear();
    this.program?.dispose();
    this.program = null;
    device.persistent.release(this.loaded.keys.values());
    this.loaded.keys.clear();
  }
}

/**
 * Median milliseconds of each unit over `repeat` rounds on the latest inputs.
 *
 * @param {WebGpuDevice} device
 * @param {{plan: number, repeat: number}} request
 * @param {import("./types.js").Pause} pause
 * @returns {Promise<import("./types.js").Profile>}
 */
export async function profile(device, { plan: id, repeat }, pause) {
  const stopwatch = await Stopwatch.create(device.context);
  /** @type {number[][]} */
  const samples = device.loaded(id).plan.units.map(() => []);
  try {
    for (let round = 0; round < repeat; round++) {
      for (let unit = 0; unit < samples.length; unit++) {
        await pause();
        // Whatever was served meanwhile may have moved buffers, or swapped units.
        const loaded = device.loaded(id);
        const { environment, inputs } = inputsToMeasure(loaded, device.plans.values());
        const binding = await device.bind(loaded, environment);
        if (unit === 0) device.writeInputs(binding, inputs);
        const { program } = binding;
        const dispatches = program.starts[unit + 1] - program.starts[unit];
        const once = dispatches ? await stopwatch.time(program, unit, unit + 1, 1) : 0;
        const times = dispatches ? stopwatch.repeats(once, dispatches) : 1;
        samples[unit].push(times > 1 ? await stopwatch.time(program, unit, unit + 1, times) : once);
      }
    }
  } finally {
    stopwatch.dispose();
  }
  const { environment } = inputsToMeasure(device.loaded(id), device.plans.values());
  return { environment, times: samples.map((ms, unit) => ({ unit, ms: ms.length ? median(ms) : 0 })) };
}
