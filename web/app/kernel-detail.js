/** One kernel closely: what was tried for it and how long each took, where it is used, and its emitted source. */

import { h } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("./kernel-groups.js").KernelGroup} KernelGroup */
/** @typedef {import("./kernel-groups.js").CandidateReport} CandidateReport */

/** Candidates shown before the person asks for all. */
const SHOWN = 10;

/** What became of a candidate, in words. @type {Record<string, string>} */
const STATUS = {
  chosen: "in use",
  default: "before tuning",
  ok: "",
  slower: "",
  wrong: "wrong result",
  trap: "trapped",
  "compile-error": "did not compile",
  "out-of-bounds": "wrote outside",
  error: "failed",
  pending: "not measured yet",
};

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
      h("div", { class: "columns" },
        this.candidates,
        h("div", { class: "source" }, h("header", {}, h("h4", {}, "Emitted source"), this.picker, this.copy), this.code),
      ),
    );
  }

  /** @param {KernelGroup} group */
  show(group) {
    const isNew = group.key !== this.#key;
    if (isNew) this.#all = false;
    this.#key = group.key;
    this.container.hidden = false;
    this.title.textContent = group.label;
    const nodes = group.units.map((unit) => unit.node).filter(Boolean);
    this.uses.textContent = nodes.length === 0 ? "" : `Used by ${nodes.slice(0, 4).join(", ")}${nodes.length > 4 ? ` and ${nodes.length - 4} more` : ""}.`;
    this.#showCandidates(group);
    if (isNew || group.schedule !== this.#schedule) {
      this.#schedule = group.schedule;
      const names = [...new Set(group.units[0]?.kernels ?? [])];
      this.picker.replaceChildren(...names.map((name) => h("option", {}, name)));
      this.picker.hidden = names.length < 2;
      this.#loadSource();
    }
  }

  /** @param {KernelGroup} group */
  #showCandidates(group) {
    const candidates = group.task?.candidates ?? [];
    if (candidates.length === 0) {
      const why = group.task ? "Not tuned yet: the first version runs." : "This kernel has one version; it is not tuned.";
      this.candidates.replaceChildren(h("h4", {}, "Candidates"), h("p", { class: "muted" }, why));
      return;
    }
    const rank = (/** @type {CandidateReport} */ candidate) => (isUsable(candidate) ? (candidate.ms ?? Infinity) : Infinity);
    const sorted = [...candidates].sort((a, b) => rank(a) - rank(b) || (a.ms ?? Infinity) - (b.ms ?? Infinity) || 0);
    const slowest = Math.max(...candidates.map((candidate) => candidate.ms ?? 0));
    const shown = this.#all ? sorted : sorted.slice(0, SHOWN);
    const measured = candidates.filter((candidate) => candidate.ms !== null).length;
    const more = h("button", { type: "button", class: "quiet", onclick: () => { this.#all = !this.#all; this.#showCandidates(group); } },
      this.#all ? `Show the fastest ${SHOWN}` : `Show all ${candidates.length}`);
    this.candidates.replaceChildren(
      h("h4", {}, `Candidates: ${measured} of ${candidates.length} measured`),
      h("ol", {}, ...shown.map((candidate) => candidateItem(candidate, candidate.schedule === group.schedule, slowest))),
      candidates.length > SHOWN ? more : "",
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
    if (this.container.getBoundingClientRect().top > 0.6 * innerHeight) this.container.scrollIntoView({ block: "start" });
  }

  clear() {
    this.#key = "";
    this.container.hidden = true;
  }
}

/** @param {CandidateReport} candidate */
function isUsable({ ms, status }) {
  return ms !== null && ["ok", "chosen", "default", "slower"].includes(status);
}

/**
 * @param {CandidateReport} candidate
 * @param {boolean} chosen
 * @param {number} slowest milliseconds that fill the bar
 */
function candidateItem(candidate, chosen, slowest) {
  const status = chosen ? "in use" : (STATUS[candidate.status] ?? candidate.status);
  return h(
    "li",
    { class: chosen ? "chosen" : isUsable(candidate) ? undefined : "rejected", title: candidate.message },
    h("code", {}, candidate.schedule),
    h("span", { class: "status" }, status),
    h("span", { class: "numeric" }, format.milliseconds(candidate.ms)),
    h("span", { class: "bar", style: { "--part": (candidate.ms ?? 0) / (slowest || 1) } }),
  );
}
