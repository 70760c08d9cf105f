/** The stages of loading a model, each with its time, those under way with bytes and seconds left. */

import { byId, h } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("../../runtime/session.js").Progress} ProgressEvent */
/**
 * @typedef {{ item: HTMLElement, title: string, detail: HTMLElement, bar: HTMLProgressElement, time: HTMLElement,
 *   started: number, spent: number }} Stage `spent` in milliseconds, before it began the last time
 */

/** What the stages are called here, by the runtime's names. @type {[string, string][]} */
const STAGES = [
  ["compiler", "Start the compiler"],
  ["download", "Fetch the model"],
  ["graph", "Read the graph"],
  ["kernels", "Compile kernels"],
  ["weights", "Place the weights"],
  ["first-run", "First run"],
];

/** Stages that others run beside: the model is fetched while the compiler starts; a first run may compile. */
const CONCURRENT = ["compiler", "download", "first-run"];

export class Progress {
  /** @type {Map<string, Stage>} */
  #stages = new Map();
  /** @type {Set<string>} */
  #underWay = new Set();
  #timer = 0;

  /**
   * @param {HTMLElement} list an <ol>
   * @param {HTMLElement} announcer with aria-live, told each stage that begins
   */
  constructor(list = byId("stages", HTMLOListElement), announcer = byId("announcer", HTMLElement)) {
    this.list = list;
    this.announcer = announcer;
  }

  /** Show all stages, none begun. */
  start() {
    this.#stages.clear();
    this.#underWay.clear();
    this.list.replaceChildren();
    this.list.hidden = false;
    for (const [name, title] of STAGES) this.#add(name, title);
  }

  /**
   * @param {string} name
   * @param {string} title
   */
  #add(name, title) {
    const detail = h("span", { class: "detail" });
    const bar = h("progress", { max: 1, hidden: true, "aria-label": title });
    const time = h("span", { class: "time" });
    const item = h(
      "li",
      { "data-state": "waiting" },
      h("span", { class: "title" }, title),
      time,
      bar,
      detail,
    );
    this.list.append(item);
    const stage = { item, title, detail, bar, time, started: 0, spent: 0 };
    this.#stages.set(name, stage);
    return stage;
  }

  /** @param {ProgressEvent} event */
  update({ stage: name, message, loaded, total, secondsLeft }) {
    const stage = this.#stages.get(name) ?? this.#add(name, message ?? name);
    const of = total ?? 0;
    const isComplete = loaded !== undefined && of > 0 && loaded >= of;
    if (!this.#underWay.has(name)) {
      if (isComplete && stage.spent > 0) return;
      this.#begin(name, stage);
    }
    /** @type {string[]} */
    const parts = [];
    if (loaded && of > 0)
      parts.push(
        name === "kernels" ? `${loaded} of ${of}` : `${format.bytes(loaded)} of ${format.bytes(of)}`,
      );
    else if (loaded) parts.push(format.bytes(loaded));
    if (typeof secondsLeft === "number" && Number.isFinite(secondsLeft))
      parts.push(`${format.seconds(secondsLeft)} left`);
    if (message) parts.push(message);
    stage.detail.textContent = parts.join(" · ");
    stage.bar.hidden = of === 0;
    if (of > 0) stage.bar.value = (loaded ?? 0) / of;
    if (isComplete && name === "download") this.#end(name, "done");
  }

  /**
   * @param {string} name
   * @param {Stage} stage
   */
  #begin(name, stage) {
    if (!CONCURRENT.includes(name)) {
      for (const other of [...this.#underWay]) if (other !== "first-run") this.#end(other, "done");
    }
    this.#underWay.add(name);
    stage.item.hidden = false;
    stage.started = performance.now();
    stage.item.dataset["state"] = "current";
    stage.item.setAttribute("aria-current", "step");
    this.announcer.textContent = stage.title;
    clearInterval(this.#timer);
    this.#timer = window.setInterval(() => this.#tick(), 200);
  }

  /**
   * @param {string} name of a stage under way
   * @param {"done" | "failed"} state
   */
  #end(name, state) {
    const stage = this.#stages.get(name);
    if (!stage) return;
    this.#underWay.delete(name);
    stage.spent += performance.now() - stage.started;
    stage.time.textContent = seconds(stage.spent);
    stage.item.dataset["state"] = state;
    stage.item.removeAttribute("aria-current");
    stage.bar.hidden = true;
  }

  /** The model is loaded: what has not begun was not needed, but for the first run. */
  skip() {
    for (const [name, { item }] of this.#stages)
      if (name !== "first-run" && item.dataset["state"] === "waiting") item.hidden = true;
  }

  #tick() {
    for (const name of this.#underWay) {
      const stage = this.#stages.get(name);
      if (stage) stage.time.textContent = seconds(stage.spent + performance.now() - stage.started);
    }
  }

  /**
   * Nothing is under way any more. Without an announcement, nothing is said when nothing was.
   * @param {"done" | "failed"} how it ended
   * @param {string} announcement
   */
  finish(how, announcement = "") {
    for (const name of [...this.#underWay]) this.#end(name, how);
    clearInterval(this.#timer);
    if (announcement) this.announcer.textContent = announcement;
  }
}

/** @param {number} milliseconds */
function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
