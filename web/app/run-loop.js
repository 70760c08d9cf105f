/** Running a model: once, or again and again with pauses that leave the device time to tune. */

/** @typedef {import("./tensors.js").Tensor} Tensor */

/** The pause after a run lasts as long as the run, within these bounds (milliseconds). */
const [SHORTEST_PAUSE, LONGEST_PAUSE] = [8, 250];

export class RunLoop {
  #running = false;
  #continuous = false;

  /**
   * @param {{
   *   prepare: () => Promise<Record<string, Tensor>>,
   *   run: (inputs: Record<string, Tensor>) => Promise<{ outputs: Record<string, Tensor>, ms: number } | null>,
   *   ran: (outputs: Record<string, Tensor>, ms: number, more: boolean) => void,
   *   failed: (error: unknown) => void,
   *   changed: (state: "idle" | "once" | "continuous") => void,
   * }} actions `prepare` makes the inputs, `run` computes (null: never mind), `ran` is told whether another follows
   */
  constructor(actions) {
    this.actions = actions;
  }

  get running() {
    return this.#running;
  }

  /** @param {boolean} continuous */
  async start(continuous) {
    if (this.#running) return;
    this.#running = true;
    this.#continuous = continuous;
    this.actions.changed(continuous ? "continuous" : "once");
    try {
      do {
        const inputs = await this.actions.prepare();
        const result = await this.actions.run(inputs);
        if (!result) break;
        const { outputs, ms } = result;
        this.actions.ran(outputs, ms, this.#continuous);
        if (this.#continuous) {
          const pause = Math.min(Math.max(ms, SHORTEST_PAUSE), LONGEST_PAUSE);
          await new Promise((resolve) => setTimeout(resolve, pause));
        }
      } while (this.#continuous);
    } catch (error) {
      this.actions.failed(error);
    } finally {
      this.#running = false;
      this.#continuous = false;
      this.actions.changed("idle");
    }
  }

  /** The run under way is the last. */
  stop() {
    this.#continuous = false;
  }
}
