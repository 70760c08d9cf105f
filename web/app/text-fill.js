/** The controls that fill an input with the tokens of a text: the text, and the tokeniser that it goes through. */

import { h } from "./dom.js";
import * as format from "./format.js";
import { tokenize, tokenTensor } from "./text.js";

/** @typedef {import("./tensors.js").TensorInfo} TensorInfo */
/** @typedef {import("./companions.js").Companions} Companions */

export class TextFill {
  /** Tokens of the latest text. */
  count = 0;
  /** Where a person would look for scores: the text's first mask, else its last token. @type {number | null} */
  position = null;

  /**
   * @param {string} id that the controls' ids begin with
   * @param {TensorInfo} info
   * @param {() => Companions | null} companions of the model that is loaded now
   */
  constructor(id, info, companions) {
    this.info = info;
    this.companions = companions;
    this.text = h("textarea", { id: `${id}-text`, rows: 3, placeholder: "The capital of France is" });
    this.note = h("p", { class: "hint", role: "status" });
    this.picker = h("input", {
      id: `${id}-tokenizer`,
      type: "file",
      accept: ".json",
      onchange: () => this.#takeFile(),
    });
    this.pickerField = h(
      "p",
      { class: "field wide", hidden: true },
      h("label", { for: this.picker.id }, "Tokeniser"),
      this.picker,
    );
    this.element = h(
      "div",
      { class: "field wide" },
      h("p", { class: "field" }, h("label", { for: this.text.id }, "Text"), this.text),
      this.note,
      this.pickerField,
    );
  }

  /** Say which tokeniser the text goes through, and ask for one where the model has none. */
  async showTokenizer() {
    this.note.textContent = "Looking for the model's tokeniser…";
    let found = false;
    try {
      const vocabulary = await this.companions()?.vocabulary();
      found = Boolean(vocabulary);
      this.note.textContent = vocabulary
        ? `A tokeniser of ${vocabulary.size} tokens.`
        : "The model has no tokenizer.json beside it. Choose its file.";
    } catch (problem) {
      this.note.textContent = problem instanceof Error ? problem.message : String(problem);
    }
    this.pickerField.hidden = found;
  }

  #takeFile() {
    const file = this.picker.files?.[0];
    if (!file) return;
    this.companions()?.takeTokenizer(file);
    void this.showTokenizer();
  }

  /**
   * The ids of the text's tokens.
   * @returns {Promise<import("./tensors.js").Tensor>}
   * @throws {Error} without a text or a tokeniser, and when the text does not fit
   */
  async tensor() {
    const vocabulary = await this.companions()?.vocabulary();
    if (!vocabulary) throw new Error("A text needs the model's tokenizer.json. Choose its file.");
    const { ids, count } = tokenize(this.text.value, vocabulary, this.info);
    this.count = count;
    this.position = vocabulary.mask !== null && ids.includes(vocabulary.mask) ? ids.indexOf(vocabulary.mask) : count - 1;
    this.note.textContent = format.plural(count, "token");
    return tokenTensor(ids, this.info);
  }
}
