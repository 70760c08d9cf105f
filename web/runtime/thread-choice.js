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

/** So few are enough where one way takes less than this part of the other's time: each the slower way may take twice as long. */
const FEW = 4;
const CLEAR = 0.8;

/** The part of one thread's time that all of them must stay below; a core that is not needed is somebody else's. */
const WORTH = 0.95;

/** An inference that takes longer than this on all threads is not tried on one, ms. */
const SURELY_WORTH_MS = 15;

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
    if (together && ms > SURELY_WORTH_MS) {
      this.together = true;
      return;
    }
    const count = Math.min(times.alone.length, times.together.length);
    if (count < FEW) return;
    const [alone, all] = [median(times.alone), median(times.together)];
    const clear = Math.min(alone, all) < CLEAR * Math.max(alone, all);
    if (clear || count >= SAMPLES) this.together = all < WORTH * alone;
  }

  reset() {
    this.together = null;
    this.times = { alone: [], together: [] };
  }
}
