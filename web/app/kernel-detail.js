/** One kernel closely: what was tried for it and how long each took, where it is used, and its emitted source. */

import { h } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("./kernel-groups.js").KernelGroup} KernelGroup */
/** @typedef {import("./kernel-groups.js").CandidateReport} CandidateReport */

/** Candidates shown before the person asks for all. */
const SHOWN = 10;

/** What became of a candidate, in words. @type {Record<string, string>} */
const STATUS = {
  ok: "",
  "in-use": "in use",
  default: "before tuning",
  wrong: "wrong result",
  trap: "trapped",
  "compile-error": "did not compile",
  "out-of-bounds": "wrote outside",
  error: "failed",
  refused: "cannot be generated",
};

const USABLE = { ok: true, "in-use": true, default: true };

export class KernelDetail {
  #key = "";
  #schedule = "";
  #all = false;

  /**
   * @param {HTMLElement} container
   * @param {(kernel: string) => Promise<string>} source text of a kernel
   */
  constructor(container, source) {
    this.container = container;
    this.source = source;
    this.candidates = h("div", { class: "candidates" });
    this.code = h("pre", { tabIndex: 0, "aria-label": "Source of the kernel" });
    this.picker = h("select", { "aria-label": "Kernel", onchange: () => this.#loadSource() });
    this.copy = h("button", { type: "button", class: "quiet", onclick: () => this.#copy() }, "Copy");
    this.title = h("h3");
    this.uses = h("p", { class: "uses-list" });
    container.append(
      this.title,
      this.uses,
      h(
        "div",
        { class: "columns" },
        this.candidates,
        h(
          "div",
          { class: "source" },
          h("header", {}, h("h4", {}, "Emitted source"), this.picker, this.copy),
          this.code,
        ),
      ),
    );
  }

  /** @param {KernelGroup} group */
  show(group) {
    const isNew = group.key !== this.#key;
    if (isNew) this.#all = false;
    this.#key = group.key;
    this.container.hidden = false;
    this.title.textContent = group.title;
    const nodes = group.units.map((unit) => unit.node).filter(Boolean);
    this.uses.textContent =
      nodes.length === 0
        ? ""
        : `Used by ${nodes.slice(0, 4).join(", ")}${nodes.length > 4 ? ` and ${nodes.length - 4} more` : ""}.`;
    this.#showCandidates(group);
    if (isNew || group.schedule !== this.#schedule) {
      this.#schedule = group.schedule;
      const names = [...new Set(group.units[0]?.kernels ?? [])];
      this.picker.replaceChildren(...names.map((name) => h("option", {}, name)));
      // The last is the kernel proper; those before it prepare its operands.
      this.picker.value = names.at(-1) ?? "";
      this.picker.hidden = names.length < 2;
      this.#loadSource();
    }
  }

  /** @param {KernelGroup} group */
  #showCandidates(group) {
    const task = group.task;
    if (!task || (task.candidates.length === 0 && task.waiting === 0)) {
      const why = "This kernel has one version; there is nothing to choose.";
      this.candidates.replaceChildren(h("h4", {}, "Candidates"), h("p", { class: "muted" }, why));
      return;
    }
    const sorted = versionsOf(task);
    const slowest = Math.max(...sorted.map((candidate) => candidate.ms ?? 0));
    const shown = this.#all ? sorted : sorted.slice(0, SHOWN);
    const toggle = () => {
      this.#all = !this.#all;
      this.#showCandidates(group);
    };
    const words = this.#all ? `Show the fastest ${SHOWN}` : `Show all ${sorted.length}`;
    const tried = `${task.candidates.length} of ${task.candidates.length + task.waiting} tried`;
    this.candidates.replaceChildren(
      h("h4", {}, `Candidates: ${tried}`),
      h("p", { class: "hint" }, "A version is put to use after it has won twice, in turns, against the one in use."),
      h("ol", {}, ...shown.map((candidate) => candidateItem(candidate, slowest))),
      sorted.length > SHOWN ? h("button", { type: "button", class: "quiet", onclick: toggle }, words) : "",
    );
  }

  async #loadSource() {
    const name = this.picker.value;
    if (!name) {
      this.code.textContent = "";
      return;
    }
    this.code.setAttribute("aria-busy", "true");
    let text;
    try {
      text = await this.source(name);
    } catch (problem) {
      text = problem instanceof Error ? problem.message : String(problem);
    }
    if (name !== this.picker.value) return;
    this.code.removeAttribute("aria-busy");
    this.code.textContent = text;
    this.code.scrollTop = 0;
  }

  async #copy() {
    await navigator.clipboard.writeText(this.code.textContent ?? "");
    this.copy.textContent = "Copied";
    setTimeout(() => (this.copy.textContent = "Copy"), 1500);
  }

  /** Bring the detail into view where little of it is. */
  reveal() {
    if (this.container.getBoundingClientRect().top > 0.6 * innerHeight)
      this.container.scrollIntoView({ block: "start" });
  }

  clear() {
    this.#key = "";
    this.container.hidden = true;
  }
}

/**
 * All versions of a task's kernel, the fastest first and those that cannot be used last: the candidates, and the version
 * before tuning, which the report gives by the gain over it.
 * @param {import("./kernel-groups.js").TaskReport} task
 * @returns {CandidateReport[]}
 */
function versionsOf({ candidates, schedule, default: first, ms, gain }) {
  const versions = candidates.map((candidate) =>
    candidate.schedule === schedule && candidate.status === "ok"
      ? { ...candidate, ms, status: "in-use" }
      : candidate,
  );
  const isFirst = !versions.some(({ status }) => status === "in-use");
  if (isFirst) versions.push({ schedule, ms, status: "in-use" });
  else if (ms !== null) versions.push({ schedule: first, ms: ms * gain, status: "default" });
  const usable = (/** @type {CandidateReport} */ { ms, status }) => ms !== null && status in USABLE;
  const rank = (/** @type {CandidateReport} */ version) => (usable(version) ? (version.ms ?? 0) : Infinity);
  return versions.sort((a, b) => (rank(a) < rank(b) ? -1 : rank(a) > rank(b) ? 1 : 0));
}

/**
 * @param {CandidateReport} candidate
 * @param {number} slowest milliseconds that fill the bar
 */
function candidateItem({ schedule, ms, status, message }, slowest) {
  const kind = status === "in-use" ? "chosen" : status in USABLE ? undefined : "rejected";
  return h(
    "li",
    { class: kind, title: message },
    h("code", {}, schedule),
    h("span", { class: "status" }, STATUS[status] ?? status),
    h("span", { class: "numeric" }, format.milliseconds(ms)),
    h("span", { class: "bar", style: { "--part": (ms ?? 0) / (slowest || 1) } }),
  );
}
