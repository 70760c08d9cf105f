/**
 * Timing on a clock of limited resolution, in an engine that first runs new code in a slow tier.
 */

/** A sample lasts about this long, ms: well above the clock's resolution, short enough to keep inferences waiting little. */
export const SAMPLE_MS = 2;

/** Code is warm when this much time was spent in it and it has stopped getting faster; ms. */
const WARM_AFTER_MS = 6;
const WARM_AT_MOST_MS = 120;

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
  return Math.max(1, Math.min(100000, Math.round(SAMPLE_MS / Math.max(ms, 1e-5))));
}

/**
 * Run something until it stops getting faster.
 *
 * @param {(repeat: number) => number | Promise<number>} time runs it `repeat` times, gives ms of one execution
 * @param {() => Promise<void>} pause awaited between rounds
 * @returns {Promise<number>} ms of one execution, warm
 */
export async function warmUp(time, pause) {
  let best = await time(1);
  let spent = best;
  let steady = 0;
  while (spent < WARM_AT_MOST_MS && (spent < WARM_AFTER_MS || steady < 2)) {
    await pause();
    const repeat = repeatsFor(best);
    const ms = await time(repeat);
    spent += ms * repeat;
    steady = ms < best * STILL_IMPROVING ? 0 : steady + 1;
    best = Math.min(best, ms);
  }
  return best;
}
