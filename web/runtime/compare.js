/**
 * Checking a candidate's output against the incumbent's: memory is filled with a poison first, so that what was not
 * written shows; guard bytes around it show what was written outside.
 */

import { bytesOf, halfToNumber, isFloat, viewOf } from "./dtypes.js";

/** Bytes of guard on each side of a checked buffer; also the readable slack that every buffer needs. */
export const GUARD_BYTES = 64;

/** What guard bytes are. */
export const GUARD_BYTE = 0x5a;

/** Poison words by storage dtype: quiet NaNs with a payload that no arithmetic produces, odd bytes for integers.
 * @type {Record<string, number[]>} */
const POISON = { f32: [0xab, 0xad, 0xfa, 0x7f], f64: [0xab, 0xad, 0xbe, 0xef, 0xab, 0xad, 0xfa, 0x7f], f16: [0xad, 0x7f] };
const INTEGER_POISON = [0xab];

/**
 * Fill with poison for elements of `storage`.
 * @param {Uint8Array} bytes whole elements
 * @param {string} storage
 */
export function poison(bytes, storage) {
  const pattern = POISON[storage] ?? INTEGER_POISON;
  if (bytes.length === 0) return;
  bytes.set(pattern);
  for (let filled = pattern.length; filled < bytes.length; filled *= 2) {
    bytes.copyWithin(filled, 0, Math.min(filled, bytes.length - filled));
  }
}

/** @param {Uint8Array} bytes */
export function setGuard(bytes) {
  bytes.fill(GUARD_BYTE);
}

/** @param {Uint8Array} bytes */
export function guardIntact(bytes) {
  return bytes.every((byte) => byte === GUARD_BYTE);
}

/**
 * Compare one result. Elements that the incumbent left poisoned must be so in the candidate's output. Floats must
 * agree to `tolerance` times the largest finite magnitude in the reference, with NaN and infinities at the same places;
 * everything else exactly.
 *
 * @param {Uint8Array} reference the incumbent's bytes, in memory of their own
 * @param {Uint8Array} actual the candidate's bytes, in memory of their own
 * @param {string} storage
 * @param {number} tolerance
 * @returns {{maxError: number, message: string | null}} error as a fraction of the largest magnitude (0 for exact
 *   types); a message that says where it is wrong, or null
 */
export function compare(reference, actual, storage, tolerance) {
  const elements = reference.length / bytesOf(storage);
  const expected = viewOf(/** @type {ArrayBuffer} */ (reference.buffer), reference.byteOffset, elements, storage);
  const found = viewOf(/** @type {ArrayBuffer} */ (actual.buffer), actual.byteOffset, elements, storage);
  if (!isFloat(storage)) {
    for (let i = 0; i < elements; i++) {
      if (expected[i] !== found[i]) {
        return { maxError: Infinity, message: `element ${i} is ${found[i]} instead of ${expected[i]}` };
      }
    }
    return { maxError: 0, message: null };
  }
  const value = storage === "f16" ? halfToNumber : Number;
  const scale = largestMagnitude(expected, value);
  const limit = tolerance * scale;
  let worst = 0;
  for (let i = 0; i < elements; i++) {
    const a = value(/** @type {any} */ (expected[i]));
    const b = value(/** @type {any} */ (found[i]));
    const error = Math.abs(a - b);
    if (error <= limit) {
      if (error > worst) worst = error;
      continue;
    }
    if (a === b) continue;
    if (Number.isNaN(a) && Number.isNaN(b)) {
      if (samePoison(reference, actual, i, storage)) continue;
      return { maxError: Infinity, message: `element ${i} was written by only one of the two` };
    }
    if (Number.isNaN(error) || error === Infinity) {
      return { maxError: Infinity, message: `element ${i} is ${b} instead of ${a}` };
    }
    if (error > worst) worst = error;
  }
  const maxError = scale > 0 ? worst / scale : worst;
  if (worst > limit) {
    return {
      maxError,
      message: `the largest error is ${maxError.toExponential(1)} of the largest magnitude, over ${tolerance}`,
    };
  }
  return { maxError, message: null };
}

/**
 * @param {ArrayLike<any>} array
 * @param {(x: any) => number} value
 */
function largestMagnitude(array, value) {
  let scale = 0;
  for (let i = 0; i < array.length; i++) {
    const magnitude = Math.abs(value(array[i]));
    if (magnitude > scale && magnitude !== Infinity) scale = magnitude;
  }
  return scale;
}

/**
 * Whether element `i` is poison in both arrays or in neither.
 * @param {Uint8Array} a
 * @param {Uint8Array} b
 * @param {number} i
 * @param {string} storage
 */
function samePoison(a, b, i, storage) {
  const pattern = POISON[storage] ?? INTEGER_POISON;
  const poisoned = (/** @type {Uint8Array} */ bytes) =>
    pattern.every((byte, k) => bytes[i * pattern.length + k] === byte);
  return poisoned(a) === poisoned(b);
}
