/** One input of the model in the form: its type and shape, and how it is filled. */

import { h } from "./dom.js";
import * as format from "./format.js";
import { fill, normal, parseNumbers, suggestedFill, uniform } from "./fills.js";
import { readNpy } from "./npy.js";
import { drawPicture, NORMALISATIONS, pictureLayout } from "./picture.js";
import { kindOf } from "./tensors.js";
import { maskTensor, takesMask, takesTokens } from "./text.js";
import { TextFill } from "./text-fill.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */
/** @typedef {import("./tensors.js").TensorInfo} TensorInfo */
/** @typedef {import("./fills.js").Guess["kind"]} FillKind */

/** @type {Record<FillKind, string>} */
const TITLES = {
  random: "Random",
  tokens: "Random ids",
  zeros: "Zeros",
  ones: "Ones",
  constant: "One value",
  range: "0, 1, 2, …",
  image: "Picture",
  npy: ".npy file",
  json: "Numbers",
  text: "Text",
  mask: "Mask of the text",
};

/** An input could not be made; `field` is the control to look at. */
export class FieldError extends Error {
  code = "input";

  /**
   * @param {string} message
   * @param {HTMLElement} field
   */
  constructor(message, field) {
    super(message);
    this.field = field;
  }
}

export class InputField {
  /** @type {Promise<Tensor> | null} */
  #made = null;
  #key = "";

  /**
   * @param {TensorInfo} info
   * @param {number} index gives the control ids, and a random sequence of its own
   * @param {() => import("./companions.js").Companions | null} companions of the model that is loaded now
   */
  constructor(info, index, companions) {
    this.info = info;
    this.index = index;
    const guess = suggestedFill(info);
    const id = (/** @type {string} */ part) => `input-${index}-${part}`;
    this.kind = h("select", { id: id("fill"), onchange: () => this.#showOptions() });
    for (const kind of this.#kinds()) this.kind.append(h("option", { value: kind }, TITLES[kind]));
    this.kind.value = guess.kind;
    this.value = h("input", { id: id("value"), type: "number", step: "any", value: String(guess.value) });
    this.bound = h("input", {
      id: id("bound"),
      type: "number",
      min: "1",
      step: "1",
      value: String(guess.bound),
    });
    this.scaling = h("select", { id: id("scaling") });
    for (const [name, { title }] of Object.entries(NORMALISATIONS))
      this.scaling.append(h("option", { value: name }, title));
    this.picture = h("input", {
      id: id("picture"),
      type: "file",
      accept: "image/*",
      onchange: () => this.#showPreview(),
    });
    this.preview = h("img", { class: "preview", alt: "The picture as the model gets it", hidden: true });
    this.preview.addEventListener("error", () => (this.preview.hidden = true));
    this.npy = h("input", { id: id("npy"), type: "file", accept: ".npy" });
    this.json = h("textarea", { id: id("json"), rows: 3, spellcheck: false, placeholder: "101, 2023, 102 or [[0.5, 1], [2, 3]]" });
    this.text = new TextFill(`input-${index}`, info, companions);
    this.shapeText = h("span", { class: "shape" });
    /** @type {number[] | null} */
    this.dims = null;
    const labelled = (/** @type {string} */ text, /** @type {HTMLElement} */ control, wide = false) =>
      h("p", { class: wide ? "field wide" : "field" }, h("label", { for: control.id }, text), control);
    /** @type {[FillKind, HTMLElement[]][]} */
    this.options = [
      ["constant", [labelled("Value", this.value)]],
      ["tokens", [labelled("Ids below", this.bound)]],
      [
        "image",
        kindOf(info.dtype) === "float"
          ? [labelled("Scale values to", this.scaling), labelled("Picture", this.picture, true)]
          : [labelled("Picture", this.picture, true)],
      ],
      ["npy", [labelled("File", this.npy, true)]],
      ["json", [labelled("List, flat or nested", this.json, true)]],
      ["text", [this.text.element]],
    ];
    this.element = h(
      "fieldset",
      { class: "input-field" },
      h("legend", {}, h("code", {}, info.name)),
      h("p", { class: "type" }, info.dtype, " · ", this.shapeText),
      labelled("Fill with", this.kind),
      ...this.options.flatMap(([, controls]) => controls),
    );
    this.picture.parentElement?.append(this.preview);
    this.#showOptions();
  }

  /** Whether the values bring their own shape, which then tells the sizes of symbolic dimensions. */
  get bringsShape() {
    return ["npy", "json", "text"].includes(this.kind.value);
  }

  /**
   * Fill the input with a picture, if it takes one.
   * @param {File} file
   */
  takePicture(file) {
    const { shape } = this.info;
    const takes = [...this.kind.options].some(({ value }) => value === "image");
    if (!takes || !shape || !this.dims || !pictureLayout(shape, this.dims)) return false;
    this.kind.value = "image";
    this.#showOptions();
    const transfer = new DataTransfer();
    transfer.items.add(file);
    this.picture.files = transfer.files;
    this.#showPreview();
    return true;
  }

  #showPreview() {
    const file = this.picture.files?.[0];
    URL.revokeObjectURL(this.preview.src);
    this.preview.hidden = !file;
    if (file) this.preview.src = URL.createObjectURL(file);
  }

  #kinds() {
    if (!this.info.shape) return /** @type {FillKind[]} */ (["json", "npy"]);
    /** @type {FillKind[]} */
    const kinds = ["random"];
    const kind = kindOf(this.info.dtype);
    if (kind === "integer") kinds.splice(0, 1, "tokens");
    kinds.push("zeros", "ones", "constant");
    if (kind !== "bool") kinds.push("range");
    if (this.info.shape?.length === 4 && kind !== "bool") kinds.push("image");
    if (takesTokens(this.info)) kinds.push("text");
    if (takesMask(this.info)) kinds.push("mask");
    return [...kinds, /** @type {FillKind} */ ("npy"), /** @type {FillKind} */ ("json")];
  }

  #showOptions() {
    for (const [kind, controls] of this.options)
      for (const control of controls) control.hidden = kind !== this.kind.value;
    if (this.kind.value === "text") void this.text.showTokenizer();
  }

  /** Another model with the same inputs was loaded: what came with the one before does not hold for it. */
  refresh() {
    if (this.kind.value === "text") this.#made = null;
    this.#showOptions();
  }

  /**
   * A mask of ones becomes the text's mask, since its input may be padded; without a text a mask of none would hide everything.
   * @param {boolean} hasText
   */
  followText(hasText) {
    if (!takesMask(this.info)) return;
    if (hasText && this.kind.value === "ones") this.kind.value = "mask";
    else if (!hasText && this.kind.value === "mask") this.kind.value = "ones";
  }

  /** @param {number[] | null} dims for the chosen sizes of the symbols */
  show(dims) {
    this.dims = dims;
    const layout = dims && this.info.shape && pictureLayout(this.info.shape, dims);
    if (layout) this.preview.style.aspectRatio = `${layout.width} / ${layout.height}`;
    this.shapeText.textContent = dims ? format.shape(dims) : "any shape";
  }

  /**
   * The tensor that the form describes; made again only when something has changed.
   * @param {number[] | null} dims
   * @param {number} seed
   * @param {number} tokens of the text that this input's mask is for
   * @returns {Promise<Tensor>}
   * @throws {FieldError}
   */
  async tensor(dims, seed, tokens) {
    const file = this.kind.value === "image" ? this.picture.files?.[0] : this.npy.files?.[0];
    const state = [
      dims,
      seed,
      this.kind.value,
      this.value.value,
      this.bound.value,
      this.scaling.value,
      this.json.value,
      tokens,
    ];
    const key = JSON.stringify([...state, file?.name, file?.size, file?.lastModified]);
    if (this.#made === null || key !== this.#key || this.kind.value === "text") {
      this.#key = key;
      this.#made = this.#make(dims, seed, file, tokens);
      this.#made.catch(() => (this.#made = null));
    }
    return this.#made;
  }

  /**
   * @param {number[] | null} dims
   * @param {number} seed
   * @param {File | undefined} file
   * @param {number} tokens
   * @returns {Promise<Tensor>}
   */
  async #make(dims, seed, file, tokens) {
    const { name, dtype, shape } = this.info;
    const kind = /** @type {FillKind} */ (this.kind.value);
    const control =
      {
        image: this.picture,
        npy: this.npy,
        json: this.json,
        constant: this.value,
        tokens: this.bound,
        text: this.text.text,
      }[/** @type {string} */ (kind)] ?? this.kind;
    try {
      if (kind === "json") return await parseNumbers(this.json.value, dtype, shape, dims);
      if (kind === "text") return await this.text.tensor();
      if (kind === "npy" && file) return readNpy(await file.arrayBuffer(), dtype);
      if (kind === "npy") throw new Error("Choose a .npy file.");
      if (!dims || !shape) throw new Error("The model leaves the shape open; give numbers or a .npy file.");
      const ownSeed = seed * 1009 + this.index;
      if (kind === "zeros") return await fill(dtype, dims, () => 0);
      if (kind === "ones") return await fill(dtype, dims, () => 1);
      if (kind === "mask") return await maskTensor(dtype, dims, tokens);
      if (kind === "constant") return await fill(dtype, dims, constant(this.value));
      if (kind === "range") return await fill(dtype, dims, (index) => index % (dims.at(-1) || 1));
      if (kind === "random")
        return await fill(dtype, dims, kindOf(dtype) === "bool" ? coin(ownSeed) : normal(ownSeed));
      if (kind === "tokens") return await fill(dtype, dims, below(this.bound, ownSeed));
      if (!file) throw new Error("Choose a picture.");
      const layout = pictureLayout(shape, dims);
      if (!layout) throw new Error("A picture needs an input of 1 or 3 channels, by height and width.");
      return await drawPicture(
        file,
        dtype,
        dims,
        layout,
        /** @type {keyof typeof NORMALISATIONS} */ (this.scaling.value),
      );
    } catch (problem) {
      const message = problem instanceof Error ? problem.message : String(problem);
      throw new FieldError(`Input “${name}”: ${message}`, control);
    }
  }
}

/** @param {HTMLInputElement} control */
function constant(control) {
  const value = control.valueAsNumber;
  if (Number.isNaN(value)) throw new Error("Enter a number.");
  return () => value;
}

/**
 * @param {HTMLInputElement} control
 * @param {number} seed
 */
function below(control, seed) {
  const bound = control.valueAsNumber;
  if (!(bound >= 1)) throw new Error("The bound must be 1 or more.");
  const next = uniform(seed);
  return () => Math.floor(next() * bound);
}

/** @param {number} seed */
function coin(seed) {
  const next = uniform(seed);
  return () => (next() < 0.5 ? 0 : 1);
}
