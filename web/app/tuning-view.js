/** The state of tuning: what is measured now and what was gained; pause and resume. */

import { byId } from "./dom.js";
import * as format from "./format.js";
import { shortLabel } from "./kernel-groups.js";

/**
 * What the tuner tells: each candidate tried ("of" counts those of its kernel), each winner put to use, the end.
 * @typedef {import("../../runtime/nnjit.js").TuneEvent & { candidate?: number, of?: number, message?: string }} TuneEvent
 */

/** More seconds than this are a limit, not an estimate. */
const LONGEST_ESTIMATE = 600;

export class TuningView {
  #paused = false;
  #measured = 0;
  #replaced = 0;

  /** @param {{ pause: () => void, resume: () => void }} actions */
  constructor(actions) {
    this.element = byId("tuning", HTMLElement);
    this.text = byId("tuning-text", HTMLElement);
    this.button = byId("tuning-pause", HTMLButtonElement);
    this.button.addEventListener("click", () => {
      const paused = !this.#paused;
      this.#setPaused(paused);
      if (paused) actions.pause();
      else actions.resume();
    });
  }

  /** @param {TuneEvent} event */
  update(event) {
    this.element.hidden = false;
    if (event.status === "swapped") this.#replaced++;
    else if (event.status !== "done" && event.status !== "failed") this.#measured++;
    if (this.#paused) return;
    if (event.status === "failed") {
      this.#setPaused(true);
      this.text.textContent = `Tuning stopped: ${event.message ?? "unknown reason"}`;
      return;
    }
    const isDone = event.status === "done";
    this.button.hidden = isDone;
    this.element.dataset["state"] = isDone ? "done" : "running";
    if (isDone) this.text.textContent = `Tuning is done: ${this.#counts()}.`;
    else if (event.label)
      this.text.textContent = `${this.#counts()}. Now ${shortLabel(event.label)}${place(event)}.`;
  }

  #counts() {
    return `${format.plural(this.#measured, "candidate")} tried, ${format.plural(this.#replaced, "kernel")} replaced`;
  }

  /** @param {boolean} paused */
  #setPaused(paused) {
    this.#paused = paused;
    this.button.textContent = paused ? "Resume tuning" : "Pause tuning";
    this.element.dataset["state"] = paused ? "paused" : "running";
    this.text.textContent = paused ? `Tuning is paused: ${this.#counts()}.` : "Tuning goes on.";
  }

  clear() {
    this.#measured = 0;
    this.#replaced = 0;
    this.#setPaused(false);
    this.element.hidden = true;
  }
}

/** @param {TuneEvent} event */
function place({ candidate, of, best, secondsLeft }) {
  const parts = [];
  if (candidate && of) parts.push(`candidate ${candidate} of ${of}`);
  if (typeof best === "number") parts.push(`best ${format.milliseconds(best)}`);
  if (secondsLeft && secondsLeft < LONGEST_ESTIMATE) parts.push(`${format.seconds(secondsLeft)} left`);
  return parts.length > 0 ? `: ${parts.join(", ")}` : "";
}
