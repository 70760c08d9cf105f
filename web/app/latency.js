/** The times of a model's runs: what to plot, and what to say in one line. */

/** Points kept; when there are more, neighbours are merged, so a long session still shows its beginning. */
const MOST_POINTS = 1200;
/** Runs in the running median. */
const WINDOW = 9;

/** @param {readonly number[]} values */
export function median(values) {
  if (values.length === 0) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = /** @type {number} */ (sorted[middle]);
  return sorted.length % 2 ? upper : (upper + /** @type {number} */ (sorted[middle - 1])) / 2;
}

export class LatencyRecord {
  /** Seconds since the first run, milliseconds of each run, running median: three columns of equal length. */
  /** @type {number[]} */ times = [];
  /** @type {number[]} */ runs = [];
  /** @type {number[]} */ medians = [];
  /** Seconds at which a faster kernel was put in. @type {number[]} */
  swaps = [];
  /** Milliseconds of the very first run, which compiles and warms up; not among `runs`. @type {number | null} */
  first = null;
  /** Median of the runs before any kernel was swapped. @type {number | null} */
  untuned = null;
  count = 0;
  #start = 0;
  #merge = 1;
  /** @type {number[]} */ #window = [];
  /** @type {number[]} */ #pending = [];
  /** @type {number[]} */ #beforeSwap = [];

  /**
   * @param {number} now milliseconds of a steady clock
   * @param {number} ms of the run
   */
  add(now, ms) {
    this.count++;
    if (this.first === null) {
      this.first = ms;
      this.#start = now;
      return;
    }
    if (this.swaps.length === 0 && this.#beforeSwap.length < 200) {
      this.#beforeSwap.push(ms);
      this.untuned = median(this.#beforeSwap);
    }
    this.#window.push(ms);
    if (this.#window.length > WINDOW) this.#window.shift();
    this.#pending.push(ms);
    if (this.#pending.length < this.#merge) return;
    this.times.push((now - this.#start) / 1000);
    this.runs.push(median(this.#pending));
    this.medians.push(this.current);
    this.#pending = [];
    if (this.times.length > MOST_POINTS) this.#thin();
  }

  /** @param {number} now */
  swapped(now) {
    if (this.first !== null) this.swaps.push((now - this.#start) / 1000);
  }

  /** Median of the latest runs, NaN before there are any. */
  get current() {
    return median(this.#window);
  }

  #thin() {
    this.#merge *= 2;
    const pairs = (/** @type {number[]} */ column) => column.filter((_, index) => index % 2 === 1);
    this.runs = pairs(this.runs.map((ms, index) => median([ms, this.runs[index - 1] ?? ms])));
    this.times = pairs(this.times);
    this.medians = pairs(this.medians);
  }
}
