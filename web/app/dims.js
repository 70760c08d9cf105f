/** The symbolic dimensions of a model's inputs: which there are, what to suggest, what they evaluate to. */

/** @typedef {import("./tensors.js").TensorInfo} TensorInfo */

const SUM = /^\s*[\w.]+(\s*[+*]\s*[\w.]+)+\s*$/;

/**
 * The symbols that a person has to choose, in order of appearance. A dimension that is a sum or product of others
 * (`past + sequence`, as exporters write them) is not chosen but computed.
 * @param {TensorInfo[]} inputs
 * @returns {string[]}
 */
export function symbolsOf(inputs) {
  /** @type {Set<string>} */
  const symbols = new Set();
  for (const { shape } of inputs) {
    for (const dim of shape ?? []) {
      if (typeof dim !== "string") continue;
      const names = SUM.test(dim) ? dim.split(/[+*]/).map((part) => part.trim()) : [dim];
      for (const name of names) if (!/^\d+$/.test(name)) symbols.add(name);
    }
  }
  return [...symbols];
}

/**
 * @param {(number | string)[]} shape
 * @param {Map<string, number>} values of the symbols
 * @returns {number[]}
 */
export function resolve(shape, values) {
  return shape.map((dim) => {
    if (typeof dim === "number") return dim;
    if (values.has(dim)) return /** @type {number} */ (values.get(dim));
    const sum = dim.split("+").map((term) => term.split("*").map((factor) => valueOf(factor.trim(), values)));
    return sum.reduce((total, term) => total + term.reduce((product, factor) => product * factor, 1), 0);
  });
}

/**
 * @param {string} text
 * @param {Map<string, number>} values
 */
function valueOf(text, values) {
  return /^\d+$/.test(text) ? Number(text) : (values.get(text) ?? 1);
}

/** A picture's height and width in most classifiers. */
const PICTURE = [1, 3, 224, 224];
/** Samples of a frame of speech at 16 kHz, as voice detectors take it. */
const FRAME = 576;

/**
 * A size to start from, guessed from the symbol's name and the place where it stands.
 * @param {string} symbol
 * @param {TensorInfo[]} inputs
 */
export function suggestedSize(symbol, inputs) {
  if (/batch|^n$|^b$|beam/i.test(symbol)) return 1;
  if (/past|cache/i.test(symbol)) return 16;
  if (/height|width|^h$|^w$/i.test(symbol)) return 224;
  if (/channel|^c$/i.test(symbol)) return 3;
  if (/head/i.test(symbol)) return 8;
  for (const { name, dtype, shape } of inputs) {
    const axis = shape ? shape.indexOf(symbol) : -1;
    if (!shape || axis < 0) continue;
    if (shape.length === 4) return PICTURE[axis] ?? 1;
    if (isState(name) || (axis === 0 && shape.length > 1)) return 1;
    if (shape.length === 2 && dtype.startsWith("float")) return FRAME;
  }
  return 32;
}

/**
 * Whether an input carries what a recurrent model remembers.
 * @param {string} name
 */
export function isState(name) {
  return /(^|[_.])state(_|$)|past|cache|^[hc]\d?$/i.test(name);
}
