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
  /** The least running median since the latest swap, or since the first run. @type {number | null} */
  best = null;
  /** The same before the first swap: what disturbed runs for a while does not count on either side. @type {number | null} */
  untuned = null;
  count = 0;
  #start = 0;
  #merge = 1;
  /** @type {number[]} */ #window = [];
  /** @type {number[]} */ #pending = [];
  /** @type {number | null} */ #gain = null;
  /** Runs since the latest swap, up to as many as the running median takes. @type {number[]} */
  #sinceSwap = [];
  #isFull = false;

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
    this.#window.push(ms);
    if (this.#window.length > WINDOW) this.#window.shift();
    this.#sinceSwap.push(ms);
    if (this.#sinceSwap.length > WINDOW) this.#sinceSwap.shift();
    const latest = median(this.#sinceSwap);
    // Until there are enough runs for a running median, the median of those there are.
    this.best = this.#isFull && this.best !== null ? Math.min(this.best, latest) : latest;
    this.#isFull = this.#sinceSwap.length === WINDOW;
    if (this.#isFull && this.swaps.length > 0 && this.untuned !== null) this.#gain = this.untuned / this.best;
    if (this.swaps.length === 0) this.untuned = this.best;
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
    if (this.first === null) return;
    this.swaps.push((now - this.#start) / 1000);
    this.#sinceSwap = [];
    this.#isFull = false;
    this.best = null;
  }

  /** How many times faster the kernels that came in made a run, once there were enough runs after one did; null before. */
  get gain() {
    return this.#gain;
  }

  /** Median of the latest runs, the first run before there are others, NaN before any. */
  get current() {
    return this.#window.length > 0 ? median(this.#window) : (this.first ?? NaN);
  }

  #thin() {
    this.#merge *= 2;
    const pairs = (/** @type {number[]} */ column) => column.filter((_, index) => index % 2 === 1);
    this.runs = pairs(this.runs.map((ms, index) => median([ms, this.runs[index - 1] ?? ms])));
    this.times = pairs(this.times);
    this.medians = pairs(this.medians);
  }
}
