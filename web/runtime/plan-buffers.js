/** What a plan says about its buffers. */

import { bytesOf } from "./dtypes.js";
import { VerificationError } from "./errors.js";
import { evaluate } from "./expressions.js";

/** @typedef {import("./types.js").BufferSpec} BufferSpec */
/** @typedef {import("./types.js").Environment} Environment */
/** @typedef {string | number} Id */

/**
 * Whether the buffer's content outlives an inference.
 * @param {BufferSpec} spec
 */
export function isPersistent(spec) {
  return spec.kind === "weight" || spec.kind === "const" || spec.kind === "persistent";
}

/**
 * @param {Map<Id, BufferSpec>} specs
 * @param {Id} id
 */
export function specOf(specs, id) {
  const spec = specs.get(id);
  if (!spec) throw new VerificationError(`The plan has no buffer ${id}.`);
  return spec;
}

/**
 * Bytes of a buffer's elements on the device.
 * @param {BufferSpec} spec
 * @param {Environment} environment
 */
export function bytesOfBuffer(spec, environment) {
  return evaluate(spec.elements, environment) * bytesOf(spec.storage);
}
