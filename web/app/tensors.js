/** What the page knows of tensors beyond the runtime's dtypes: kinds, readers of elements, limits. */

import { arrayTypeOf, halfToNumber, shortDtype } from "../../runtime/dtypes.js";

/** @typedef {import("../../runtime/dtypes.js").Tensor} Tensor */
/** @typedef {{ name: string, dtype: string, shape: (number | string)[] | null }} TensorInfo shape null: any */

/** More elements than this are refused before they are allocated: the browser's tab would not survive them. */
const MOST_ELEMENTS = 2 ** 28;

/**
 * @param {string} dtype
 * @returns {"float" | "integer" | "bool" | "other"}
 */
export function kindOf(dtype) {
  const short = shortDtype(dtype);
  if (short === null) return "other";
  if (short === "bool") return "bool";
  return short.includes("f") ? "float" : "integer";
}

/** @param {readonly number[]} dims */
export function elementCount(dims) {
  return dims.reduce((product, dim) => product * dim, 1);
}

/**
 * A tensor of zeros.
 * @param {string} type
 * @param {number[]} dims
 * @returns {Tensor}
 */
export function emptyTensor(type, dims) {
  const count = elementCount(dims);
  if (count > MOST_ELEMENTS) {
    throw new RangeError(
      `${dims.join(" × ")} are ${count.toExponential(2)} elements; choose smaller dimensions`,
    );
  }
  return { data: new (arrayTypeOf(type))(count), dims, type };
}

/**
 * A function that gives the element at an index as a number.
 * @param {Tensor} tensor
 * @returns {(index: number) => number}
 */
export function reader({ data, type }) {
  const array = /** @type {any} */ (data);
  if (shortDtype(type) === "f16" && array instanceof Uint16Array)
    return (index) => halfToNumber(array[index]);
  return (index) => Number(array[index]);
}
