/** The state of tuning: what is measured now, what was gained, how long it may go on; pause, resume, tune more. */

import { byId } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("../../runtime/nnjit.js").TuneEvent} TuneEvent */

export class TuningView {
  #paused = false;
  #measured = 0;
  #swaps = 0;

  /** @param {{ pause: () => void, resume: () => void }} actions */
  constructor(actions) {
    this.element = byId("tuning", HTMLElement);
    this.text = byId("tuning-text", HTMLElement);
    this.button = byId("tuning-pause", HTMLButtonElement);
    this.button.addEventListener("click", () => {
      if (this.#paused) actions.resume();
      else actions.pause();
      this.setPaused(!this.#paused);
    });
  }

  /** @param {TuneEvent} event */
  update(event) {
    this.element.hidden = false;
    if (event.status === "done") {
      this.button.hidden = true;
      this.element.dataset["state"] = "done";
      this.text.textContent = `Tuning is done: ${format.plural(this.#measured, "candidate")} measured, ${format.plural(this.#swaps, "kernel")} replaced.`;
      return;
    }
    this.button.hidden = false;
    this.element.dataset["state"] = this.#paused ? "paused" : "running";
    if (event.status === "swapped") this.#swaps++;
    else this.#measured++;
    if (this.#paused) return;
    const left = typeof event.secondsLeft === "number" ? `, about ${format.seconds(event.secondsLeft)} left` : "";
    const best = typeof event.best === "number" ? `, best ${format.milliseconds(event.best)}` : "";
    this.text.textContent = `Tuning ${event.label ?? ""}: ${format.plural(this.#measured, "candidate")} measured${best}${left}.`;
  }

  /** @param {boolean} paused */
  setPaused(paused) {
    this.#paused = paused;
    this.button.textContent = paused ? "Resume tuning" : "Pause tuning";
    this.element.dataset["state"] = paused ? "paused" : "running";
    if (paused) this.text.textContent = "Tuning is paused.";
  }

  clear() {
    this.#measured = 0;
    this.#swaps = 0;
    this.setPaused(false);
    this.text.textContent = "";
    this.element.hidden = true;
  }
}
