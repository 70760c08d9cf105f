/** Values for inputs: seeded random numbers, constants, ranges, numbers pasted as JSON, a picture, a .npy file. */

import { isState } from "./dims.js";
import { breathe } from "./dom.js";
import { numberToHalf } from "../../runtime/dtypes.js";
import { elementCount, emptyTensor, kindOf } from "./tensors.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */
/** @typedef {import("./tensors.js").TensorInfo} TensorInfo */

/** Elements written between two breaths: about 5 ms of work. */
const PIECE = 1 << 18;

/**
 * Fill a tensor without blocking the page; `value` gives the number at each index.
 * @param {string} type
 * @param {number[]} dims
 * @param {(index: number) => number} value
 * @returns {Promise<Tensor>}
 */
export async function fill(type, dims, value) {
  const tensor = emptyTensor(type, dims);
  const data = /** @type {any} */ (tensor.data);
  const write =
    data instanceof BigInt64Array || data instanceof BigUint64Array
      ? (/** @type {number} */ x) => BigInt(Math.trunc(x))
      : type === "float16"
        ? numberToHalf
        : (/** @type {number} */ x) => x;
  for (let start = 0; start < data.length; start += PIECE) {
    if (start > 0) await breathe();
    const end = Math.min(start + PIECE, data.length);
    for (let i = start; i < end; i++) data[i] = write(value(i));
  }
  return tensor;
}

/**
 * Uniform numbers in [0, 1) from a 32-bit seed (the generator mulberry32).
 * @param {number} seed
 * @returns {() => number}
 */
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Numbers of the standard normal distribution (Box and Muller's transform).
 * @param {number} seed
 * @returns {() => number}
 */
export function normal(seed) {
  const next = uniform(seed);
  let spare = NaN;
  return () => {
    if (!Number.isNaN(spare)) {
      const value = spare;
      spare = NaN;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

/**
 * Numbers as a tensor: nested lists bring their shape, a flat one fills the expected shape, where its last symbolic
 * dimension takes the size that fits.
 * @param {string} text JSON, or numbers with commas or spaces between them
 * @param {string} type
 * @param {(number | string)[] | null} shape declared, null for any
 * @param {number[] | null} dims the shape for the sizes chosen so far
 * @returns {Promise<Tensor>}
 */
export async function parseNumbers(text, type, shape, dims) {
  const trimmed = text.trim();
  if (!trimmed) throw new Error("Enter numbers.");
  const value = /^[[{"]/.test(trimmed) ? JSON.parse(trimmed) : trimmed.split(/[\s,;]+/).filter(Boolean);
  const flat = (Array.isArray(value) ? value.flat(Infinity) : [value]).map(Number);
  const bad = flat.findIndex((x) => Number.isNaN(x));
  if (bad >= 0) throw new Error(`Element ${bad} is not a number.`);
  /** @type {number[]} */
  const own = [];
  for (let level = value; Array.isArray(level); level = level[0]) own.push(level.length);
  const isFlat = own.length <= 1;
  if (dims && flat.length === elementCount(dims) && (isFlat || own.length !== dims.length))
    return fill(type, dims, (i) => flat[i] ?? 0);
  const fitted = isFlat && shape && dims ? fit(flat.length, shape, dims) : null;
  if (elementCount(own) !== flat.length) throw new Error("The nested lists differ in length.");
  return fill(type, fitted ?? own, (i) => flat[i] ?? 0);
}

/**
 * The dimensions with the last symbolic one changed so that they hold `count` elements; null where none does that.
 * @param {number} count
 * @param {(number | string)[]} shape
 * @param {number[]} dims
 */
function fit(count, shape, dims) {
  const axis = shape.findLastIndex((dim) => typeof dim === "string");
  const size = count / elementCount(dims.toSpliced(axis, 1));
  return axis >= 0 && Number.isInteger(size) ? dims.with(axis, size) : null;
}

/**
 * @typedef {{ kind: "random" | "zeros" | "ones" | "constant" | "range" | "tokens" | "image" | "npy" | "json" |
 *   "text" | "mask", value: number, bound: number }} Guess
 */

/**
 * The fill to start with, guessed from an input's name, type and rank.
 * @param {TensorInfo} info
 * @returns {Guess}
 */
export function suggestedFill({ name, dtype, shape }) {
  const kind = kindOf(dtype);
  /** @type {Guess} */
  const guess = { kind: "random", value: 1, bound: 1000 };
  if (!shape) return { ...guess, kind: "json" };
  if (/mask/i.test(name)) return { ...guess, kind: "ones" };
  if (kind === "float") return isState(name) ? { ...guess, kind: "zeros" } : guess;
  if (kind === "bool") return { ...guess, kind: "zeros" };
  if (/type|segment/i.test(name)) return { ...guess, kind: "zeros" };
  if (/position/i.test(name)) return { ...guess, kind: "range" };
  if (/^sr$|sampl/i.test(name)) return { ...guess, kind: "constant", value: 16000 };
  if (shape.length === 0) return { ...guess, kind: "constant" };
  return { ...guess, kind: "tokens", bound: dtype.endsWith("8") ? 128 : 1000 };
}
