/** Timing and checking candidates on the CPU device, and profiling a plan; the work is done on the bench of wasm-bench.js. */

import { StepTrap } from "./program.js";
import { inputsToMeasure } from "./measured-inputs.js";
import { isHopeless, median, sample, warmUp } from "./timing.js";
import { Bench } from "./wasm-bench.js";
import { Trials } from "./wasm-trial.js";

/** @typedef {import("./wasm-device.js").WasmDevice} WasmDevice */
/** @typedef {import("./wasm-bench.js").Rival} Rival */
/** @typedef {import("./types.js").Measurement} Measurement */

/**
 * @param {WasmDevice} device
 * @param {import("./types.js").MeasureRequest} request
 * @param {import("./types.js").Pause} pause
 * @returns {Promise<{incumbentMs: number, results: Measurement[]}>}
 */
export async function measure(device, request, pause) {
  const bench = benchFor(device, request);
  const incumbent = [];
  /** @type {Measurement[]} */
  const results = [];
  const trials = new Trials(bench);
  if (!bench.intact) bench.capture();
  if (!bench.incumbentMs) await warmUp((repeat) => bench.timeIncumbent(repeat), pause);
  for (const candidate of request.candidates) {
    const { measurement, incumbentSamples } = await measureOne(bench, trials, candidate, request.samples, pause);
    incumbent.push(...incumbentSamples);
    results.push(measurement);
    await pause();
  }
  trials.close();
  if (!incumbent.length) incumbent.push(await warmUp((repeat) => bench.timeIncumbent(repeat), pause));
  return { incumbentMs: median(incumbent), results };
}

/**
 * The bench of the latest measurement where it was of the same unit: its operands are there, and its incumbent is warm.
 * @param {WasmDevice} device
 * @param {import("./types.js").MeasureRequest} request
 */
function benchFor(device, { plan, unit, tolerance }) {
  const loaded = device.loaded(plan);
  if (!device.bench?.suits(loaded, unit, tolerance)) device.bench = new Bench(device, loaded, unit, tolerance);
  return device.bench;
}

/**
 * @param {Bench} bench
 * @param {Trials} trials
 * @param {import("./types.js").Candidate} candidate
 * @param {number} samples
 * @param {import("./types.js").Pause} pause
 * @returns {Promise<{measurement: Measurement, incumbentSamples: number[]}>}
 */
async function measureOne(bench, trials, candidate, samples, pause) {
  /** @type {number[]} */
  const ms = [];
  /** @type {number[]} */
  const incumbentSamples = [];
  /** @type {number | null} */
  let maxError = null;
  let compileMs = 0;
  /** @type {Rival | null} */
  let rival = null;
  /** @param {Measurement["status"]} status @param {string} message */
  const outcome = (status, message) => {
    rival?.release();
    const incumbentMs = incumbentSamples.length ? median(incumbentSamples) : null;
    const measurement = { status, ms, incumbent: incumbentSamples, incumbentMs, maxError, compileMs, message };
    return { measurement, incumbentSamples };
  };
  try {
    const start = performance.now();
    rival = await bench.admit(candidate);
    compileMs = performance.now() - start;
  } catch (error) {
    return outcome(error instanceof StepTrap ? "trap" : "compile-error", describe(error));
  }
  const contender = rival;
  try {
    const passed = await contender.pass(trials, pause);
    maxError = passed.maxError;
    if (passed.status !== "ok") return outcome(passed.status, passed.message);
    await contender.prepare();
    contender.time(1);
    if (contender.inPlace) {
      // Its results can be compared now or never.
      const check = contender.check();
      if (check.status !== "ok") return outcome(check.status, check.message);
    }
    const warm = await warmUp((repeat) => contender.time(repeat), pause);
    while (ms.length < samples && !isHopeless(Math.min(warm, ...ms), ms, incumbentSamples, samples)) {
      await pause();
      await contender.prepare();
      // What runs first after a pause also wakes the threads, and finds the caches as an inference has left them: neither of
      // the two shall, and which of them comes next changes.
      contender.time(1);
      const turns = [
        async () => incumbentSamples.push(await sample((n) => bench.timeIncumbent(n), bench.incumbentMs)),
        async () => ms.push(await sample((n) => contender.time(n), warm)),
      ];
      for (const take of ms.length % 2 ? turns : turns.reverse()) await take();
    }
    if (contender.inPlace) return outcome("ok", "");
    // The optimised code, and every round of it, must still give the same: what ran in the quarantine was another tier's.
    const { status, message } = contender.check();
    return outcome(status, message);
  } catch (error) {
    return outcome(error instanceof StepTrap ? "trap" : "error", describe(error));
  }
}

/** @param {unknown} error */
function describe(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Median milliseconds of each unit over `repeat` inferences on the latest inputs: those that are asked for meanwhile, if
 * they take so long that a replay would keep the next one waiting.
 *
 * @param {WasmDevice} device
 * @param {{plan: number, repeat: number}} request
 * @param {import("./types.js").Pause} pause
 * @returns {Promise<import("./types.js").Profile>}
 */
export async function profile(device, { plan, repeat }, pause) {
  const { ms, plan: { units } } = device.loaded(plan);
  /** @type {number[][]} */
  const rounds = [];
  if (ms > WATCHED_MS) device.watcher = { plan, record: (times) => rounds.push(times) };
  try {
    while (rounds.length < repeat) {
      const { length } = rounds;
      const come = () => rounds.length > length;
      await pause(device.watcher ? { ms, until: come } : {});
      if (!come()) rounds.push(replay(device, plan));
    }
  } finally {
    device.watcher = null;
  }
  const { environment } = inputsToMeasure(device.loaded(plan), device.plans.values());
  return { environment, times: units.map((_, unit) => ({ unit, ms: median(rounds.map((times) => times[unit])) })) };
}

/** Inferences of more milliseconds are watched; in shorter ones many units are too short for the clock. */
const WATCHED_MS = 20;
/** Below this a single reading of the clock says little, ms. */
const CLOCK_MS = 0.1;
const PROFILE_REPEATS = 10;

/**
 * Milliseconds of each unit in an inference on the latest inputs.
 * @param {WasmDevice} device
 * @param {number} plan
 */
function replay(device, plan) {
  const loaded = device.loaded(plan);
  const { environment, inputs } = inputsToMeasure(loaded, device.plans.values());
  const binding = device.bind(loaded, environment);
  device.writeInputs(binding, inputs);
  // What runs first after a pause wakes the threads, which may take longer than all units of a small plan.
  device.runUnits(loaded, binding, 0, 1, 1);
  return loaded.plan.units.map((_, unit) => {
    const once = device.timeUnit(loaded, binding, unit, binding.shared);
    if (once >= CLOCK_MS) return once;
    // Too short for the clock: time several more, on the same operands.
    const start = performance.now();
    device.runUnits(loaded, binding, unit, unit + 1, PROFILE_REPEATS);
    return (once + performance.now() - start) / (PROFILE_REPEATS + 1);
  });
}
