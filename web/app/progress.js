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
  #started = 0;

  /**
   * @param {HTMLElement} announcer with aria-live, told each stage that begins
   */
  constructor(announcer = byId("announcer", HTMLElement)) {
    this.announcer = announcer;
    this.list = byId("stages", HTMLOListElement);
    this.fold = byId("loading", HTMLDetailsElement);
    this.summary = byId("loading-summary", HTMLElement);
    this.runStatus = byId("run-status", HTMLElement);
  }

  /**
   * Show all stages, none begun.
   * @param {boolean} fetches whether the model has to be fetched: a file has not
   */
  start(fetches) {
    this.#stages.clear();
    this.#underWay.clear();
    this.list.replaceChildren();
    this.fold.hidden = false;
    this.fold.open = true;
    this.summary.textContent = "Loading";
    this.#started = performance.now();
    for (const [name, title] of STAGES) if (fetches || name !== "download") this.#add(name, title);
    this.fold.scrollIntoView({ block: "nearest" });
  }

  /** A run has begun for whose inputs kernels may have to be compiled first: their stages count anew. */
  firstRun() {
    for (const name of ["kernels", "weights", "first-run"]) {
      const stage = this.#stages.get(name);
      if (stage) stage.spent = 0;
    }
    this.update({ stage: "first-run" });
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
  update({ stage: name, message, loaded, total, secondsLeft, done }) {
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
    if (done || (isComplete && name === "download")) this.#end(name, "done");
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

  /**
   * The model is loaded.
   * @param {boolean} complete what has not begun was not needed, but for the first run
   */
  loaded(complete) {
    this.finish("done", "The model is loaded.");
    this.summary.textContent = `Loaded in ${seconds(performance.now() - this.#started)}`;
    // The stages have told what they had to; the inputs move up.
    this.fold.open = false;
    if (!complete) return;
    for (const [name, { item }] of this.#stages)
      if (name !== "first-run" && item.dataset["state"] === "waiting") item.hidden = true;
  }

  /** The model is not loaded. @param {string} why */
  failed(why) {
    this.finish("failed", why);
    this.summary.textContent = why;
  }

  #tick() {
    const latest = this.#stages.get([...this.#underWay].at(-1) ?? "");
    if (latest && this.#underWay.has("first-run"))
      this.runStatus.textContent = `${latest.title} · ${seconds(latest.spent + performance.now() - latest.started)}`;
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
    this.runStatus.textContent = "";
    if (announcement) this.announcer.textContent = announcement;
  }
}

/** @param {number} milliseconds */
function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
