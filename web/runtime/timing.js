/**
 * Timing on a clock of limited resolution, in an engine that first runs new code in a slow tier.
 */

/**
 * A sample lasts about this long, ms: well above the clock's resolution, which is 5 µs for pages that are isolated and 100 µs
 * for others, short enough to keep inferences waiting little.
 */
export const SAMPLE_MS = globalThis.crossOriginIsolated ? 1 : 2;

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
export function repeatsFor(ms) {
  return Math.max(1, Math.min(MAX_REPEATS, Math.round(SAMPLE_MS / Math.max(ms, 1e-5))));
}

/** What is shorter says nothing on a clock that browsers round to 5 µs, or to 100 µs; ms. */
const READABLE_MS = 0.2;
const GROWTH = 8;

/**
 * Run something until it stops getting faster.
 *
 * @param {(repeat: number) => number | Promise<number>} time runs it `repeat` times, gives ms of one execution
 * @param {() => Promise<void>} pause awaited between rounds
 * @param {boolean} [warm] the code has been warmed up before, on other data
 * @returns {Promise<number>} ms of one execution, warm
 */
export async function warmUp(time, pause, warm = false) {
  let repeat = 1;
  let ms = await time(repeat);
  while (ms * repeat < READABLE_MS && repeat < MAX_REPEATS) {
    repeat *= GROWTH;
    ms = await time(repeat);
  }
  let best = ms;
  let spent = warm ? Infinity : ms * repeat;
  let steady = 0;
  while (spent < WARM_AT_MOST_MS && (spent < WARM_AFTER_MS || steady < 2)) {
    await pause();
    repeat = repeatsFor(best);
    ms = await time(repeat);
    spent += ms * repeat;
    steady = ms < best * STILL_IMPROVING ? 0 : steady + 1;
    best = Math.min(best, ms);
  }
  return best;
}

/**
 * What a candidate may take after one sample, two, and more, as a multiple of the incumbent's time. Its best time is of more
 * executions than the incumbent's, those that warmed it up, so that noise favours it.
 */
const CUTS = [1.4, 1.15, 1.05];

/**
 * Whether a candidate is so much slower than the incumbent that more samples cannot make it the winner.
 * @param {number} ms its best time so far, warming up included: noise only ever adds time
 * @param {number[]} incumbent samples of the incumbent
 */
export function isHopeless(ms, incumbent) {
  if (!incumbent.length) return false;
  return ms > CUTS[Math.min(incumbent.length, CUTS.length) - 1] * Math.min(...incumbent);
}
