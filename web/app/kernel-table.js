/** Which kernels run: a table by share of the time; choosing a row opens its candidates and source. */

import { h } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("./kernel-groups.js").KernelGroup} KernelGroup */

/** Kernels that take less (milliseconds) are below what a page's clock tells apart: their rates mean nothing. */
const SHORTEST = 0.001;

/** Rows shown before the person asks for all. */
const SHOWN = 12;

export class KernelTable {
  #all = false;
  #selected = "";
  /** @type {KernelGroup[]} */
  #groups = [];

  /**
   * @param {HTMLElement} container
   * @param {(group: KernelGroup) => void} onSelect also called when a new report changes the chosen row
   * @param {() => void} onOpen the person chose a row
   */
  constructor(container, onSelect, onOpen) {
    this.onSelect = onSelect;
    this.onOpen = onOpen;
    this.body = h("tbody");
    this.more = h("button", { type: "button", class: "quiet", onclick: () => this.#toggleAll() });
    const columns = ["Kernel", "Share of time", "Time", "GFLOP/s", "Of the ceiling", "Gain", "Schedule"];
    const head = h("tr", {}, ...columns.map((text) => h("th", { scope: "col" }, text)));
    container.append(h("table", { class: "kernels" }, h("thead", {}, head), this.body), this.more);
  }

  /**
   * Show the groups; the chosen row stays chosen, and so does the focus.
   * @param {KernelGroup[]} groups
   */
  show(groups) {
    this.#groups = groups;
    const focused =
      document.activeElement instanceof HTMLElement ? document.activeElement.dataset["kernel"] : undefined;
    const shown = this.#all ? groups : groups.slice(0, SHOWN);
    const largest = groups[0]?.share ?? 1;
    this.body.replaceChildren(...shown.map((group) => this.#row(group, largest)));
    this.more.hidden = groups.length <= SHOWN;
    this.more.textContent = this.#all ? `Show the first ${SHOWN}` : `Show all ${groups.length}`;
    const selected = groups.find((group) => group.key === this.#selected);
    if (selected) this.onSelect(selected);
    if (focused !== undefined)
      [...this.body.querySelectorAll("button")]
        .find((button) => button.dataset["kernel"] === focused)
        ?.focus();
  }

  clear() {
    this.#selected = "";
    this.#all = false;
    this.show([]);
  }

  /**
   * @param {KernelGroup} group
   * @param {number} largest
   */
  #row(group, largest) {
    const selected = group.key === this.#selected;
    const isTimed = group.ms !== null && group.ms >= SHORTEST;
    const gflops = isTimed ? group.gflops : null;
    const ceiling = isTimed ? group.ceiling : null;
    const name = h(
      "button",
      {
        type: "button",
        class: "row",
        "data-kernel": group.key,
        "aria-expanded": String(selected),
        "aria-controls": "kernel-detail",
        title: group.label,
        onclick: () => this.select(group.key),
      },
      ...breakable(group.title),
    );
    const bar = h("span", { class: "bar", style: { "--part": group.share / (largest || 1) } });
    return h(
      "tr",
      { class: selected ? "selected" : undefined },
      h(
        "th",
        { scope: "row" },
        name,
        group.units.length > 1 && h("span", { class: "uses" }, ` ×${group.units.length}`),
      ),
      h("td", { class: "share" }, bar, h("span", {}, format.percent(group.share))),
      h("td", { class: "numeric" }, format.milliseconds(group.ms)),
      h(
        "td",
        { class: "numeric", "data-title": "GFLOP/s", "data-empty": gflops === null },
        format.rate(gflops),
      ),
      h(
        "td",
        {
          class: "numeric",
          "data-title": "Of the ceiling",
          "data-empty": ceiling === null,
          title: "The least time that this device could take, by its microbenchmarks, over the time it takes",
        },
        ceiling === null ? "–" : format.percent(ceiling),
      ),
      h(
        "td",
        {
          class: "numeric gain",
          "data-title": "gain",
          "data-better": format.isFaster(group.gain),
          "data-empty": group.gain === null,
        },
        format.times(group.gain),
      ),
      h("td", { class: "schedule", "data-empty": !group.schedule }, h("code", {}, group.schedule || "–")),
    );
  }

  /** @param {string} key */
  select(key) {
    this.#selected = key;
    this.show(this.#groups);
    this.onOpen();
  }

  #toggleAll() {
    this.#all = !this.#all;
    this.show(this.#groups);
  }
}

/**
 * A path of names that may break after each slash and underscore, rather than within a word.
 * @param {string} text
 * @returns {Node[]}
 */
function breakable(text) {
  return text.split(/(?<=[/_])/).flatMap((part) => [new Text(part), h("wbr")]);
}
