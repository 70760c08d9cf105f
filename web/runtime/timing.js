/**
 * Timing on a clock of limited resolution, in an engine that first runs new code in a slow tier.
 */

/**
 * The clock's smallest step, ms: from 5 µs (Chromium, isolated pages) to 1 ms (WebKit). It is found by waiting for a few steps.
 * @param {() => number} [now]
 */
export function clockStep(now = () => performance.now()) {
  let step = Infinity;
  let last = now();
  for (let steps = 0; steps < 3; ) {
    const time = now();
    if (time === last) continue;
    step = Math.min(step, time - last);
    last = time;
    steps++;
  }
  return step;
}

const CLOCK_STEP_MS = clockStep();

/** A sample lasts about this long, ms: well above the clock's steps, short enough to keep inferences waiting little. */
const SAMPLE_MS = Math.min(10, Math.max(1, 20 * CLOCK_STEP_MS));

/** Code is warm when this much time was spent in it and it has stopped getting faster; ms. */
const WARM_AFTER_MS = 6;
const WARM_AT_MOST_MS = 120;

const MAX_REPEATS = 1e5;

/** A round this much faster than the best so far means that the engine is still optimising. */
const STILL_IMPROVING = 0.95;

/**
 * Middle value; mean of the two middle ones for an even count.
 * @param {number[]} values
 */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Executions for a sample of SAMPLE_MS.
 * @param {number} ms of one execution
 */
function repeatsFor(ms) {
  return Math.max(1, Math.min(MAX_REPEATS, Math.round(SAMPLE_MS / Math.max(ms, 1e-5))));
}

/** What is shorter says nothing on this clock; ms. */
const READABLE_MS = Math.max(0.2, 2 * CLOCK_STEP_MS);
const GROWTH = 8;

/** @typedef {(repeat: number) => number | Promise<number>} Timed runs something `repeat` times, gives ms of one execution */

/**
 * Milliseconds of one execution, by a sample that the clock can tell from nothing.
 * @param {Timed} time
 * @param {number} expected of one execution; too many where something else ran when that was measured
 */
export async function sample(time, expected) {
  return (await reading(time, repeatsFor(expected))).ms;
}

/**
 * @param {Timed} time
 * @param {number} repeat executions to begin with
 */
async function reading(time, repeat) {
  let ms = await time(repeat);
  while (ms * repeat < READABLE_MS && repeat < MAX_REPEATS) {
    repeat = Math.min(GROWTH * repeat, MAX_REPEATS);
    ms = await time(repeat);
  }
  return { ms, total: ms * repeat };
}

/**
 * Run something until it stops getting faster.
 *
 * @param {Timed} time
 * @param {() => Promise<void>} pause awaited between rounds
 * @param {boolean} [warm] the code has been warmed up before, on other data
 * @returns {Promise<number>} ms of one execution, warm
 */
export async function warmUp(time, pause, warm = false) {
  const first = await reading(time, 1);
  let best = first.ms;
  let spent = warm ? Infinity : first.total;
  let steady = 0;
  while (spent < WARM_AT_MOST_MS && (spent < WARM_AFTER_MS || steady < 2)) {
    await pause();
    const { ms, total } = await reading(time, repeatsFor(best));
    spent += total;
    steady = ms < best * STILL_IMPROVING ? 0 : steady + 1;
    best = Math.min(best, ms);
  }
  return best;
}

/**
 * What a candidate may take after one sample, two, and more, as a multiple of the incumbent's time. Its best time is of more
 * executions than the incumbent's, those that warmed it up, so that noise favours it: one that is not faster after three
 * will not be by a gain worth a swap.
 */
const CUTS = [1.3, 1.08, 1];
/** Part of the samples in which a candidate may be slower than the incumbent; see MIN_WINS in nnjit/tune/tuner.py. */
const LOSSES = 0.3;

/**
 * Whether a candidate cannot become the winner any more.
 * @param {number} best its best time so far, warming up included: noise only ever adds time
 * @param {number[]} ms its samples
 * @param {number[]} incumbent samples of the incumbent, each taken beside one of its
 * @param {number} samples that shall be taken
 */
export function isHopeless(best, ms, incumbent, samples) {
  if (!incumbent.length) return false;
  const losses = ms.filter((own, n) => own >= incumbent[n]).length;
  return losses > LOSSES * samples || best > CUTS[Math.min(incumbent.length, CUTS.length) - 1] * Math.min(...incumbent);
}
