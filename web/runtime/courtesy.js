/**
 * When work in the background may take a slice of the device, so that inferences hardly notice.
 *
 * Free are times in which no inference is expected: none came for long, or the next one, by the usual gap between two,
 * comes only after the slice. Where inferences follow each other without a break, slices delay them, by a small part of
 * the inferences' own time and not more: that part is earned as credit, and slices are paid from it.
 */

/** Part of the inferences' time by which they may be delayed. */
const SHARE = 0.2;
/** Credit that may always be saved, ms: a few slices. */
const CREDIT_MS = 8;
/** What slices owe is at most what so many inferences earn: where all takes long, for whatever reason, work has to go on some time. */
const DEBT_INFERENCES = 50;
/** No inference for so long, ms, and for QUIET_GAPS usual gaps: none is expected. */
const QUIET_MS = 40;
const QUIET_GAPS = 2;
/** Part of the usual gap that slices may fill. */
const GAP_PART = 0.7;
/** Inferences follow each other without a break when the gap is this small a part of their time. */
const BREAK = 0.2;
/** How fast the usual gap, inference and slice follow what was seen last. */
const NEW = 0.3;

export class Courtesy {
  constructor() {
    this.credit = CREDIT_MS;
    /** When the last inference ended. */
    this.ended = -Infinity;
    /** ms from the end of an inference until the next one is asked for. */
    this.gap = 0;
    /** ms of an inference. */
    this.inference = 0;
    /** ms of all inferences so far. */
    this.total = 0;
    /** ms of a slice. */
    this.slice = 1;
    /** When the latest slice began. */
    this.sliceStart = -Infinity;
    /** @type {number | null} When the inference that is waiting came, at the earliest. */
    this.came = null;
  }

  /**
   * An inference was served.
   * @param {number} start
   * @param {number} end
   */
  served(start, end) {
    const came = this.came ?? start;
    this.came = null;
    if (this.ended > -Infinity) this.gap += NEW * (Math.max(0, came - this.ended) - this.gap);
    this.inference += NEW * (end - start - this.inference);
    this.total += end - start;
    this.ended = end;
    const most = Math.max(CREDIT_MS, SHARE * (end - start));
    this.credit = Math.min(most, this.credit + SHARE * (end - start));
  }

  /** An inference is found waiting after a slice: it may have come any time during it. */
  asked() {
    this.came ??= this.sliceStart;
  }

  /** Whether no inference is expected. @param {number} now */
  quiet(now) {
    return now - this.ended > Math.max(QUIET_MS, QUIET_GAPS * this.gap);
  }

  /**
   * Whether a slice may begin where no inference is waiting.
   * @param {number} now
   * @param {number} [ms] that it will take, where that is known; it is then saved for
   */
  mayBegin(now, ms) {
    return this.quiet(now) || now + (ms ?? this.slice) < this.ended + GAP_PART * this.gap || this.credit > (ms ?? 0);
  }

  /**
   * Whether a slice may begin though an inference is waiting: else there would be none where they never pause.
   * @param {number} [ms] that it will take
   */
  mayDelay(ms = this.slice) {
    return this.gap < BREAK * this.inference && this.credit > ms;
  }

  /**
   * A slice was taken: what of it lies where an inference was to be expected is charged.
   * @param {number} start
   * @param {number} end
   */
  took(start, end) {
    this.sliceStart = start;
    this.slice += NEW * (end - start - this.slice);
    if (this.quiet(start)) return;
    this.pay(end - Math.max(start, this.ended + GAP_PART * this.gap));
  }

  /**
   * Inferences had to share their cores with another thread that worked in the background.
   * @param {number} ms of inferences, meanwhile
   * @param {number} threads of an inference: one more on their cores takes as much as each of them
   */
  crowded(ms, threads) {
    this.pay(ms / threads);
  }

  /** @param {number} ms nothing when negative */
  pay(ms) {
    const most = Math.max(CREDIT_MS, SHARE * DEBT_INFERENCES * this.inference);
    this.credit = Math.max(-most, this.credit - Math.max(0, ms));
  }
}
