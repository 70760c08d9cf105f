/** What an output's numbers are like, computed in pieces so that a large output never blocks the page. */

import { breathe } from "./dom.js";
import { kindOf, reader } from "./tensors.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */
/** @typedef {{ index: number, value: number, softmax: number | null }} Ranked softmax over the row, null of probabilities */
/**
 * @typedef {{ min: number, max: number, mean: number, notNumbers: number, first: number[], ranked: Ranked[] | null,
 *   rankedRow: string }} Summary
 */

/** Elements read between two breaths: a few milliseconds of work. */
const PIECE = 1 << 19;
const FIRST = 8;
const RANKED = 5;

/**
 * @param {Tensor} tensor
 * @param {number | null} position of the token whose scores to rank; null: the last one's
 * @returns {Promise<Summary>}
 */
export async function summarize(tensor, position) {
  const at = reader(tensor);
  const count = tensor.data.length;
  let [min, max, sum, notNumbers] = [Infinity, -Infinity, 0, 0];
  for (let start = 0; start < count; start += PIECE) {
    if (start > 0) await breathe();
    const end = Math.min(start + PIECE, count);
    for (let index = start; index < end; index++) {
      const value = at(index);
      if (value !== value) {
        notNumbers++;
        continue;
      }
      if (value < min) min = value;
      if (value > max) max = value;
      sum += value;
    }
  }
  const first = Array.from({ length: Math.min(FIRST, count) }, (_, index) => at(index));
  return { min, max, mean: sum / (count - notNumbers), notNumbers, first, ...rank(tensor, at, position) };
}

/**
 * The largest elements of one row, where the output looks like scores: a vector, a few vectors, or a row for each
 * position of a sequence.
 * @param {Tensor} tensor
 * @param {(index: number) => number} at
 * @param {number | null} position in the sequence; null: the last
 * @returns {{ ranked: Ranked[] | null, rankedRow: string }}
 */
function rank({ dims, type }, at, position) {
  const width = dims.at(-1) ?? 0;
  const rows = dims.slice(0, -1).reduce((product, dim) => product * dim, 1);
  const isSequence = dims.length === 3 && width >= 1000;
  if (
    kindOf(type) !== "float" ||
    width < 3 ||
    rows === 0 ||
    dims.length > 3 ||
    (dims.length === 3 && !isSequence)
  ) {
    return { ranked: null, rankedRow: "" };
  }
  const last = (dims[1] ?? 1) - 1;
  const row = isSequence ? Math.min(position ?? last, last) : 0;
  const start = row * width;
  /** @type {number[]} */
  let best = [];
  let largest = -Infinity;
  for (let index = 0; index < width; index++) {
    const value = at(start + index);
    if (value > largest) largest = value;
    const least = best.at(-1);
    if (best.length < RANKED || (least !== undefined && value > at(start + least))) {
      best = [...best, index].sort((a, b) => at(start + b) - at(start + a)).slice(0, RANKED);
    }
  }
  let [sum, exponentials] = [0, 0];
  for (let index = 0; index < width; index++) {
    sum += at(start + index);
    exponentials += Math.exp(at(start + index) - largest);
  }
  const areProbabilities = Math.abs(sum - 1) < 1e-3 && largest <= 1;
  const ranked = best.map((index) => {
    const value = at(start + index);
    return { index, value, softmax: areProbabilities ? null : Math.exp(value - largest) / exponentials };
  });
  return { ranked, rankedRow: rows === 1 ? "" : isSequence ? rowName(row, last) : "first row" };
}

/**
 * @param {number} row
 * @param {number} last
 */
function rowName(row, last) {
  return row === last ? "last position" : `position ${row}`;
}
