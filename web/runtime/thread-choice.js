/**
 * Whether an inference is faster on all threads or on one. To wake a thread and to wait for it costs more than a small
 * model has to share, by an amount that depends on the machine and on what else it does; so the first inferences are
 * done both ways, in turns, and the clock decides.
 */

import { median } from "./timing.js";

/** Inferences before the first that counts: their kernels are still in the browser's slow tier. */
const COLD = 3;

/** Inferences timed each way: few would leave the choice to what else the machine does. */
const SAMPLES = 15;

/** So few are enough where all of one way are faster than any of the other: each on one thread may take twice as long. */
const CLEAR = 4;

/** The part of one thread's time that all of them must stay below; a core that is not needed is somebody else's. */
const WORTH = 0.95;

/** An inference that takes longer than this on all threads is not tried on one, ms. */
const SURELY_WORTH_MS = 50;

/** Inferences after which the choice is made anew: the load of the machine changes. */
const VALID = 2000;

export class ThreadChoice {
  constructor() {
    this.runs = 0;
    /** @type {{alone: number[], together: number[]}} ms */
    this.times = { alone: [], together: [] };
    /** @type {boolean | null} null: not known yet */
    this.together = null;
  }

  /** Whether to use all threads for the next inference. */
  next() {
    this.runs += 1;
    if (this.together !== null && this.runs % VALID === 0) this.reset();
    return this.together ?? (this.runs <= COLD || this.runs % 2 === 0);
  }

  /** Whether the inference at hand should be timed. */
  get undecided() {
    return this.together === null && this.runs > COLD;
  }

  /**
   * @param {boolean} together how it was done
   * @param {number} ms
   */
  record(together, ms) {
    const { times } = this;
    times[together ? "together" : "alone"].push(ms);
    const count = Math.min(times.alone.length, times.together.length);
    if (together && ms > SURELY_WORTH_MS) this.together = true;
    else if (count >= SAMPLES || (count >= CLEAR && areApart(times.alone, times.together))) {
      this.together = median(times.together) < WORTH * median(times.alone);
    }
  }

  reset() {
    this.together = null;
    this.times = { alone: [], together: [] };
  }
}

/**
 * Whether all of some numbers are less than any of the others.
 * @param {number[]} a
 * @param {number[]} b
 */
function areApart(a, b) {
  return Math.max(...a) < Math.min(...b) || Math.max(...b) < Math.min(...a);
}
