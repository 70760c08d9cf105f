/** The outputs of the latest run: shape, range, first values, highest scores, and each as a .npy file. */

import { download, h } from "./dom.js";
import * as format from "./format.js";
import { writeNpy } from "./npy.js";
import { summarize } from "./summary.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */
/** @typedef {import("./summary.js").Summary} Summary */
/**
 * @typedef {{ name: string, tensor: Tensor, summary: Summary, names: ((index: number) => string) | null }} Described names of
 *   what is ranked
 */

/** Outputs shown before the rest is folded away: decoders have dozens, one for each cached state. */
const SHOWN = 4;

export class OutputsView {
  #latest = 0;
  /** Whether the person has opened the fold. */
  #open = false;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.container = container;
  }

  /**
   * Show outputs; a call made while an earlier one still computes replaces it.
   * @param {Record<string, Tensor>} outputs
   * @param {import("./companions.js").Companions | null} companions of the model
   * @param {number | null} position whose scores are looked at, in a sequence; null: the last
   */
  async show(outputs, companions, position) {
    const call = ++this.#latest;
    /** @type {Described[]} */
    const described = [];
    for (const [name, tensor] of Object.entries(outputs)) {
      described.push({ name, tensor, summary: await summarize(tensor, position), names: null });
      if (call !== this.#latest) return;
    }
    this.#render(described);
    // Numbers do not wait for their names, which may have to be fetched.
    for (const one of described)
      if (one.summary.ranked && companions) one.names = await companions.names(one.tensor.dims.at(-1) ?? 0);
    if (call === this.#latest && described.some(({ names }) => names)) this.#render(described);
  }

  /** @param {Described[]} described */
  #render(described) {
    const focused =
      document.activeElement instanceof HTMLElement ? document.activeElement.dataset["output"] : undefined;
    const cards = described.map(card);
    const rest = cards.slice(SHOWN);
    if (rest.length < 2) this.container.replaceChildren(...cards);
    else
      this.container.replaceChildren(
        ...cards.slice(0, SHOWN),
        h(
          "details",
          { open: this.#open, ontoggle: (/** @type {ToggleEvent} */ event) => (this.#open = event.newState === "open") },
          h("summary", { "data-output": "" }, `${rest.length} more outputs`),
          h("div", { class: "outputs" }, ...rest),
        ),
      );
    if (focused !== undefined) {
      const again = [...this.container.querySelectorAll("button, summary")].find(
        (element) => element instanceof HTMLElement && element.dataset["output"] === focused,
      );
      if (again instanceof HTMLElement) again.focus();
    }
  }

  clear() {
    this.#latest++;
    this.#open = false;
    this.container.replaceChildren();
  }
}

/** @param {Described} output */
function card({ name, tensor, summary, names }) {
  const { min, max, mean, notNumbers, first, ranked, rankedRow } = summary;
  const empty = tensor.data.length === 0;
  const values = first.map(format.number).join(", ") + (tensor.data.length > first.length ? ", …" : "");
  /** @type {[string, string][]} */
  const facts = empty
    ? []
    : [
        ["min", format.number(min)],
        ["max", format.number(max)],
        ["mean", format.number(mean)],
      ];
  return h(
    "article",
    { class: "output", "aria-label": `Output ${name}` },
    h(
      "header",
      {},
      h("h3", {}, h("code", {}, name)),
      h("span", { class: "type" }, `${tensor.type} · ${format.shape(tensor.dims)}`),
      h(
        "button",
        {
          type: "button",
          class: "quiet",
          "data-output": name,
          "aria-label": `Save .npy of ${name}`,
          onclick: () => save(name, tensor),
        },
        "Save .npy",
      ),
    ),
    h(
      "dl",
      { class: "facts" },
      ...facts.map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", { "data-fact": term }, text))),
    ),
    notNumbers > 0 &&
      h(
        "p",
        { class: "warning" },
        `${format.plural(notNumbers, "element")} of ${tensor.data.length} are not numbers (NaN).`,
      ),
    empty ? h("p", {}, "No elements.") : h("p", { class: "values" }, h("code", {}, values)),
    ranked && rankedTable(ranked, names, `Highest of ${tensor.dims.at(-1)}${rankedRow ? `, ${rankedRow}` : ""}`),
  );
}

/**
 * @param {import("./summary.js").Ranked[]} ranked
 * @param {((index: number) => string) | null} names
 * @param {string} caption
 */
function rankedTable(ranked, names, caption) {
  const rows = ranked.map(({ index, value, softmax }) => [
    String(index),
    ...(names ? [names(index)] : []),
    format.number(value),
    ...(softmax === null ? [] : [format.percent(softmax)]),
  ]);
  const columns = ["Index", ...(names ? ["Name"] : []), "Value", "Softmax"].slice(0, rows[0]?.length);
  return h(
    "table",
    { class: "ranked" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, ...columns.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((text) => h("td", {}, text))))),
  );
}

/**
 * @param {string} name
 * @param {Tensor} tensor
 */
function save(name, tensor) {
  download(`${name.replace(/[^\w.-]+/g, "_")}.npy`, writeNpy(tensor), "application/octet-stream");
}
