/** The form for a model's inputs: sizes of its symbolic dimensions, a seed, and one field for each input. */

import { h } from "./dom.js";
import { resolve, suggestedSize, symbolsOf } from "./dims.js";
import { FieldError, InputField } from "./input-field.js";
import { textPrefix } from "./text.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */
/** @typedef {import("./tensors.js").TensorInfo} TensorInfo */

/** Inputs shown before the rest is folded away: decoders have dozens, one for each cached state. */
const SHOWN = 4;

/**
 * An input as the form shows it: dimensions that the model leaves nameless get a name, and a shape that it leaves out
 * altogether stays null.
 * @param {import("../../runtime/nnjit.js").Port} port
 * @returns {TensorInfo}
 */
export function describeInput({ name, dtype, shape }) {
  return { name, dtype, shape: shape?.map((dim, axis) => dim ?? `${name} axis ${axis}`) ?? null };
}

export class InputsForm {
  /** @type {InputField[]} */
  #fields = [];
  /** @type {Map<string, HTMLInputElement>} */
  #sizes = new Map();
  #signature = "";
  /** @type {import("./companions.js").Companions | null} */
  #companions = null;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.container = container;
    this.seed = h("input", { id: "seed", type: "number", min: "0", step: "1", value: "0" });
    container.addEventListener("input", () => this.#showShapes());
    container.addEventListener("change", () => this.#maskTexts());
  }

  /**
   * Show the inputs of a model. The same inputs as before keep what the person entered.
   * @param {TensorInfo[]} inputs
   * @param {import("./companions.js").Companions} companions
   */
  show(inputs, companions) {
    this.#companions = companions;
    const signature = JSON.stringify(inputs);
    if (signature === this.#signature) {
      for (const field of this.#fields) field.refresh();
      return;
    }
    this.#signature = signature;
    this.#sizes = new Map(
      symbolsOf(inputs).map((symbol, index) => {
        const value = String(suggestedSize(symbol, inputs));
        return [
          symbol,
          h("input", { id: `size-${index}`, type: "number", min: "0", step: "1", value, required: true }),
        ];
      }),
    );
    this.#fields = inputs.map((info, index) => new InputField(info, index, () => this.#companions));
    const field = (/** @type {string} */ text, /** @type {HTMLInputElement} */ control) =>
      h("p", { class: "field" }, h("label", { for: control.id }, text), control);
    const sizes = [...this.#sizes].map(([symbol, control]) => field(symbol, control));
    this.container.replaceChildren(
      h("div", { class: "sizes" }, ...sizes, field("Seed", this.seed)),
      ...foldBeyond(
        SHOWN,
        this.#fields.map(({ element }) => element),
      ),
    );
    this.#showShapes();
  }

  /**
   * The inputs as the form describes them. Arrays that were given tell the sizes of symbolic dimensions, for the other
   * inputs and in the form.
   * @returns {Promise<Record<string, Tensor>>}
   * @throws {FieldError} naming what cannot be made
   */
  async tensors() {
    const values = this.#sizeValues();
    const seed = this.seed.valueAsNumber || 0;
    /** @type {Record<string, Tensor>} */
    const tensors = {};
    for (const given of [true, false]) {
      for (const field of this.#fields.filter(({ bringsShape }) => bringsShape === given)) {
        const { name, shape } = field.info;
        const tensor = await field.tensor(shape && resolve(shape, values), seed, this.#textOf(field)?.text.count ?? 0);
        tensors[name] = tensor;
        if (given && shape?.length === tensor.dims.length) this.#adopt(shape, tensor.dims, values);
      }
    }
    return tensors;
  }

  /**
   * @param {(number | string)[]} shape declared
   * @param {number[]} dims given
   * @param {Map<string, number>} values of the symbols
   */
  #adopt(shape, dims, values) {
    for (const [axis, size] of dims.entries()) {
      const symbol = shape[axis];
      const control = typeof symbol === "string" && this.#sizes.get(symbol);
      if (!control || values.get(symbol) === size) continue;
      values.set(symbol, size);
      control.value = String(size);
    }
    this.#showShapes();
  }

  /**
   * The text that an input's mask is for: the one whose name begins alike, else the first.
   * @param {InputField} field
   */
  #textOf({ info }) {
    const texts = this.#fields.filter(({ kind }) => kind.value === "text");
    return texts.find((text) => textPrefix(text.info.name) === textPrefix(info.name)) ?? texts[0];
  }

  /** Masks that were all ones follow a text as long as there is one: its input may be padded. */
  #maskTexts() {
    for (const field of this.#fields) field.followText(this.#textOf(field) !== undefined);
  }

  /** Where the scores of the text stand that a person would look at: at its first mask, else at its last token. */
  get position() {
    const text = this.#fields.findLast(({ kind }) => kind.value === "text");
    return text?.text.position ?? null;
  }

  /**
   * Fill the first input that takes a picture with one.
   * @param {File} file
   * @returns {boolean} whether there is one
   */
  takePicture(file) {
    return this.#fields.some((field) => field.takePicture(file));
  }

  #sizeValues() {
    /** @type {Map<string, number>} */
    const values = new Map();
    for (const [symbol, control] of this.#sizes) {
      if (!control.checkValidity())
        throw new FieldError(`The size of “${symbol}” must be a whole number, 0 or more.`, control);
      values.set(symbol, control.valueAsNumber);
    }
    return values;
  }

  #showShapes() {
    try {
      const values = this.#sizeValues();
      for (const field of this.#fields) field.show(field.info.shape && resolve(field.info.shape, values));
    } catch {
      // A size is being typed; the shapes stay as they are until it is a number again.
    }
  }
}

/**
 * The first elements, and the others in a fold when there are more.
 * @param {number} shown
 * @param {HTMLElement[]} elements
 */
function foldBeyond(shown, elements) {
  const rest = elements.slice(shown);
  if (rest.length < 2) return elements;
  return [
    ...elements.slice(0, shown),
    h("details", {}, h("summary", {}, `${rest.length} more inputs`), ...rest),
  ];
}
