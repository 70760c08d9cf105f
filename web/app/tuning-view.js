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
  /** Whether there is nothing to pause: tuning has failed, and goes on when it is asked to. */
  #failed = false;
  #measured = 0;
  #replaced = 0;

  /** @param {{ pause: () => void, resume: () => void }} actions */
  constructor(actions) {
    this.element = byId("tuning", HTMLElement);
    this.text = byId("tuning-text", HTMLElement);
    this.button = byId("tuning-pause", HTMLButtonElement);
    this.button.addEventListener("click", () => {
      const resumes = this.#paused || this.#failed;
      this.#failed = false;
      this.#setPaused(!resumes);
      if (resumes) actions.resume();
      else actions.pause();
    });
  }

  /** @param {TuneEvent} event */
  update(event) {
    this.element.hidden = false;
    if (event.status === "swapped") this.#replaced++;
    else if (event.candidate) this.#measured++;
    if (this.#paused) return;
    const { status } = event;
    const state = status === "done" || status === "failed" ? status : "running";
    this.#failed = state === "failed";
    this.button.hidden = state === "done";
    this.button.textContent = this.#failed ? "Resume tuning" : "Pause tuning";
    this.element.dataset["state"] = state;
    if (state === "failed") this.#say(`Tuning stopped: ${event.message ?? "unknown reason"}`);
    else if (state === "done")
      this.#say(
        this.#measured > 0
          ? `Tuning is done: ${this.#counts()}.`
          : "Tuning is done: nothing was left to try.",
      );
    else if (status === "compiler") this.#say("The compiler starts.");
    else if (status === "microbench")
      this.#say("Measuring this device, once: arithmetic, memory, caches. Runs are slower meanwhile.");
    else if (event.label) this.#say(`${this.#counts()}. Now ${shortLabel(event.label)}${place(event)}.`);
  }

  /** Nothing is left to do: an earlier visit has tuned the model. */
  rest() {
    this.element.hidden = false;
    this.button.hidden = true;
    this.element.dataset["state"] = "done";
    this.#say("Tuned on an earlier visit.");
  }

  /** @param {string} text also as a title: on a wide screen it is cut to one line */
  #say(text) {
    this.text.textContent = this.text.title = text;
  }

  #counts() {
    return `${format.plural(this.#measured, "candidate")} tried, ${format.plural(this.#replaced, "kernel")} replaced`;
  }

  /** @param {boolean} paused */
  #setPaused(paused) {
    this.#paused = paused;
    this.button.textContent = paused ? "Resume tuning" : "Pause tuning";
    this.element.dataset["state"] = paused ? "paused" : "running";
    this.#say(paused ? `Tuning is paused: ${this.#counts()}.` : "Tuning goes on.");
  }

  clear() {
    this.#measured = 0;
    this.#replaced = 0;
    this.#failed = false;
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
