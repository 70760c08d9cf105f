/**
 * The place where candidates run for the first time: a worker with a memory of its own, which can be ended when it does
 * not answer. What it may do there harms nobody; only what has passed there touches the memory of the model.
 */

/** @typedef {import("./quarantine.worker.js").Attempt} Attempt */
/** @typedef {import("./quarantine.worker.js").Verdict} Verdict */

/** Milliseconds that the worker may take to start. */
const START_TIMEOUT = 10000;
/** How often inferences are served while a candidate runs, ms. */
const SERVE_MS = 2;
/** After the time is over: for an answer that arrived while this thread was busy, ms. */
const GRACE_MS = 50;
/** An unused worker is ended after this time, ms. */
const IDLE_MS = 10000;
/** A memory that has grown beyond this is given back after a batch of candidates. */
const KEEP_BYTES = 64 << 20;

export class Quarantine {
  /**
   * @param {string | URL} url of quarantine.worker.js
   * @param {{shared: boolean, maxPages: number}} memory what the modules of candidates import
   */
  constructor(url, { shared, maxPages }) {
    this.url = url;
    this.memory = { shared, maxPages };
    /** @type {Worker | null} */
    this.worker = null;
    /** Counts the memories: what was sent to another one is not there. */
    this.generation = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.idle = undefined;
  }

  /** Start the worker if it does not run. @throws {Error} when it does not start */
  async open() {
    clearTimeout(this.idle);
    if (this.worker) return;
    const worker = new Worker(this.url, { type: "module", name: "nnjit-quarantine" });
    try {
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`it did not answer within ${START_TIMEOUT / 1000} s`)), START_TIMEOUT);
        worker.onmessage = () => {
          clearTimeout(timer);
          resolve(undefined);
        };
        worker.onerror = (event) => reject(new Error(event.message || "its script could not be loaded"));
        worker.postMessage(this.memory);
      });
    } catch (error) {
      worker.terminate();
      throw new Error(`No candidate can be tried, because the quarantine does not start: ${messageOf(error)}.`);
    }
    this.worker = worker;
    this.generation += 1;
  }

  /**
   * Run a candidate there, and judge what it did. Call `open` before.
   * @param {Attempt} attempt
   * @param {number} limit milliseconds
   * @param {import("./types.js").Pause} pause awaited again and again meanwhile
   * @returns {Promise<Verdict>}
   */
  async run(attempt, limit, pause) {
    const worker = /** @type {Worker} */ (this.worker);
    const deadline = performance.now() + limit;
    /** @type {Verdict | null} */
    let verdict = null;
    const answered = new Promise((resolve) => {
      worker.onmessage = ({ data }) => resolve((verdict = data));
      worker.onerror = (event) => resolve((verdict = { ...FAILED, status: "error", message: event.message, ms: limit }));
    });
    worker.postMessage(attempt, { transfer: attempt.contents.map(({ data }) => data.buffer) });
    const answer = () => /** @type {Verdict | null} */ (verdict);
    while (!answer()) {
      await Promise.race([answered, sleep(SERVE_MS)]);
      if (answer()) break;
      await pause({ idle: true });
      if (performance.now() < deadline) continue;
      await Promise.race([answered, sleep(GRACE_MS)]);
      if (!answer()) {
        const message = `the candidate did not end within ${(limit / 1000).toFixed(1)} s`;
        verdict = { ...FAILED, status: "endless", message, ms: limit };
      }
    }
    const found = /** @type {Verdict} */ (answer());
    await pause({ beside: found.ms });
    if (!found.intact) this.close();
    return found;
  }

  /** No more candidates for now. @param {number} bytes that were in use */
  rest(bytes) {
    if (bytes > KEEP_BYTES) this.close();
    else this.idle = setTimeout(() => this.close(), IDLE_MS);
  }

  /** End the worker, whatever it is doing. */
  close() {
    clearTimeout(this.idle);
    this.worker?.terminate();
    this.worker = null;
  }
}

const FAILED = { intact: false, maxError: null, kept: [] };

/** @param {number} ms */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
