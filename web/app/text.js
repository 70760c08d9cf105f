/** Text as a model's input: the ids of its tokens, and the mask and segments that go with them. */

import { fill } from "./fills.js";
import { kindOf } from "./tensors.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */
/** @typedef {import("./tensors.js").TensorInfo} TensorInfo */
/** @typedef {import("./companions.js").Vocabulary} Vocabulary */

/**
 * Whether an input takes ids of tokens: one text, or a batch of them.
 * @param {TensorInfo} info
 */
export function takesTokens({ name, dtype, shape }) {
  const isNamed = /(^|[_.])(ids|tokens?|input)$/i.test(name) && !/type|segment|position/i.test(name);
  return isNamed && kindOf(dtype) === "integer" && (shape?.length === 1 || shape?.length === 2);
}

/**
 * Whether an input tells tokens of a text from what pads it.
 * @param {TensorInfo} info
 */
export function takesMask({ name, shape }) {
  return /mask/i.test(name) && (shape?.length === 1 || shape?.length === 2);
}

/**
 * What the names of a text's inputs have in common: `decoder_` of `decoder_input_ids` and `decoder_attention_mask`.
 * @param {string} name
 */
export function textPrefix(name) {
  return name.replace(/(input_|attention_|padding_)*(ids|mask|tokens?|input)$/i, "");
}

/**
 * @param {string} text
 * @param {Vocabulary} vocabulary
 * @param {TensorInfo} info its last dimension is the sequence
 * @returns {{ ids: number[], count: number }} the ids, padded where the input's length is fixed; `count` are of the text
 * @throws {Error} when the text does not fit
 */
export function tokenize(text, { tokenizer, pad }, { shape }) {
  if (!text.trim()) throw new Error("Enter a text.");
  const { ids } = tokenizer.encode(text);
  const length = shape?.at(-1);
  const count = ids.length;
  if (typeof length !== "number") return { ids, count };
  if (count > length) throw new Error(`The text has ${count} tokens, and the model takes ${length}. Shorten it.`);
  return { ids: [...ids, ...Array(length - count).fill(pad)], count };
}

/**
 * Ids as the input's tensor; a batch of one.
 * @param {number[]} ids
 * @param {TensorInfo} info
 * @returns {Promise<Tensor>}
 */
export function tokenTensor(ids, { dtype, shape }) {
  const batch = shape?.length === 2 ? shape[0] : 1;
  if (typeof batch === "number" && batch !== 1)
    throw new Error(`The model takes ${batch} texts at once. Give their ids as numbers.`);
  return fill(dtype, shape?.length === 2 ? [1, ids.length] : [ids.length], (index) => ids[index] ?? 0);
}

/**
 * 1 for every token of the text, 0 for what pads it.
 * @param {string} dtype
 * @param {number[]} dims the last one is the sequence
 * @param {number} count tokens of the text
 */
export function maskTensor(dtype, dims, count) {
  const length = dims.at(-1) ?? 1;
  return fill(dtype, dims, (index) => (index % length < count ? 1 : 0));
}
