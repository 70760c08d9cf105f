/** The stages of loading a model, each with its time, the current one with bytes and seconds left. */

import { byId, h } from "./dom.js";
import * as format from "./format.js";

/**
 * @typedef {{ stage: string, message?: string, loaded?: number, total?: number, secondsLeft?: number }} ProgressEvent
 */

/** What the stages are called here; the first column is the runtime's name. @type {[string, string][]} */
const STAGES = [
  ["compiler", "Start the compiler"],
  ["download", "Fetch the model"],
  ["graph", "Read the graph"],
  ["kernels", "Compile kernels"],
  ["weights", "Place the weights"],
  ["first-run", "First run"],
];

export class Progress {
  /** @type {Map<string, { item: HTMLElement, detail: HTMLElement, bar: HTMLProgressElement, time: HTMLElement, started: number }>} */
  #stages = new Map();
  #current = "";
  #timer = 0;

  /**
   * @param {HTMLElement} list an <ol>
   * @param {HTMLElement} announcer with aria-live, told each change of stage
   */
  constructor(list = byId("stages", HTMLOListElement), announcer = byId("announcer", HTMLElement)) {
    this.list = list;
    this.announcer = announcer;
  }

  /** Show all stages, none begun. */
  start() {
    this.#stages.clear();
    this.#current = "";
    this.list.replaceChildren();
    this.list.hidden = false;
    for (const [name, title] of STAGES) this.#add(name, title);
    clearInterval(this.#timer);
    this.#timer = window.setInterval(() => this.#tick(), 250);
  }

  /**
   * @param {string} name
   * @param {string} title
   */
  #add(name, title) {
    const detail = h("span", { class: "detail" });
    const bar = h("progress", { max: 1, hidden: true, "aria-label": title });
    const time = h("span", { class: "time" });
    const item = h("li", { "data-state": "waiting" }, h("span", { class: "title" }, title), time, bar, detail);
    this.list.append(item);
    const stage = { item, detail, bar, time, started: 0 };
    this.#stages.set(name, stage);
    return stage;
  }

  /** @param {ProgressEvent} event */
  update({ stage: name, message, loaded, total, secondsLeft }) {
    const stage = this.#stages.get(name) ?? this.#add(name, message ?? name);
    if (name !== this.#current) this.#begin(name);
    /** @type {string[]} */
    const parts = [];
    const known = loaded !== undefined && total !== undefined && total > 0;
    if (known && name === "kernels") parts.push(`${loaded} of ${total}`);
    else if (known) parts.push(`${format.bytes(loaded)} of ${format.bytes(total)}`);
    else if (loaded) parts.push(format.bytes(loaded));
    if (secondsLeft !== undefined && Number.isFinite(secondsLeft)) parts.push(`${format.seconds(secondsLeft)} left`);
    if (message) parts.push(message);
    stage.detail.textContent = parts.join(" · ");
    stage.bar.hidden = !known;
    if (known) stage.bar.value = loaded / total;
  }

  /** @param {string} name */
  #begin(name) {
    const stage = this.#stages.get(name);
    if (!stage) return;
    this.#end("done");
    this.#current = name;
    stage.item.dataset.state = "current";
    stage.item.setAttribute("aria-current", "step");
    if (!stage.started) stage.started = performance.now();
    this.announcer.textContent = stage.item.querySelector(".title")?.textContent ?? name;
  }

  /** @param {"done" | "failed"} state of the stage that was current */
  #end(state) {
    const stage = this.#stages.get(this.#current);
    if (!stage) return;
    this.#tick();
    stage.item.dataset.state = state;
    stage.item.removeAttribute("aria-current");
    stage.bar.hidden = true;
    this.#current = "";
  }

  #tick() {
    const stage = this.#stages.get(this.#current);
    if (stage) stage.time.textContent = `${((performance.now() - stage.started) / 1000).toFixed(1)} s`;
  }

  /**
   * @param {"done" | "failed" | "stopped"} how
   * @param {string} announcement
   */
  finish(how, announcement) {
    this.#end(how === "done" ? "done" : "failed");
    clearInterval(this.#timer);
    this.announcer.textContent = announcement;
  }
}
