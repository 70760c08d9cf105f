/**
 * Python compiles a model several times faster when it has compiled something before: nnjit.runtime.warm_up says why, and
 * has little graphs for that. Here is when they are compiled: one at a time, while nothing is asked of Python, so that
 * whoever asks waits for one of them at most.
 */

/** Milliseconds between two graphs: messages that came meanwhile are heard first. */
const PAUSE_MS = 1;

/** @typedef {{next: () => {done?: boolean}, destroy?: () => void}} Steps an iterator in Python */

export class WarmUp {
  /**
   * @param {(facts: string) => Promise<Steps>} begin for a device, whose facts are JSON, or "" where it is not known yet
   * @param {() => boolean} needless whether Python is warm without it
   */
  constructor(begin, needless) {
    this.begin = begin;
    this.needless = needless;
    /** How much is asked of Python. */
    this.asked = 0;
    /** What waits until nothing is. @type {(() => void)[]} */
    this.waiting = [];
    this.ended = false;
    /** @type {Map<string, Promise<void>>} by kind of device */
    this.begun = new Map();
    this.last = Promise.resolve();
  }

  /**
   * Compile the graphs for a device, after those that are under way for another; once. What fails ends it, and nothing else.
   * @param {{device: string} | null} facts null: the device is not known yet, and Wasm is likely
   * @returns {Promise<void>}
   */
  run(facts) {
    const device = facts?.device ?? "wasm";
    const known = this.begun.get(device);
    if (known) return known;
    this.last = this.last
      .then(() => this.steps(facts ? JSON.stringify(facts) : ""))
      .catch((error) => {
        this.end();
        console.warn("The compiler was not warmed up:", error);
      });
    this.begun.set(device, this.last);
    return this.last;
  }

  /** @param {string} facts */
  async steps(facts) {
    /** @type {Steps | null} */
    let steps = null;
    while (await this.mayGoOn()) {
      steps ??= await this.begin(facts);
      // It may have taken long.
      if (this.asked === 0 && steps.next().done) break;
    }
    steps?.destroy?.();
  }

  /** Wait until nothing is asked; whether there is still something to gain then. */
  async mayGoOn() {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    while (this.asked > 0) await new Promise((resolve) => this.waiting.push(() => resolve(undefined)));
    return !this.ended && !this.needless();
  }

  /** Compile none of the graphs that are left. */
  end() {
    this.ended = true;
  }

  /**
   * Do something that is asked of Python; the warm-up goes on afterwards.
   * @template T
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  async interrupted(work) {
    this.asked++;
    try {
      return await work();
    } finally {
      this.asked--;
      if (this.asked === 0) for (const resume of this.waiting.splice(0)) resume();
    }
  }
}
