/**
 * What a model declares of its inputs, checked against what a caller passes; and whether a plan fits them.
 */

import { isArrayOf, longDtype, shortDtype } from "./dtypes.js";
import { InputError } from "./errors.js";
import { evaluate, guardHolds, product } from "./expressions.js";

/** @typedef {import("./types.js").Plan} Plan */
/** @typedef {import("./types.js").Environment} Environment */
/** @typedef {import("./types.js").Tensor} Tensor */

/**
 * @typedef {object} PortSignature
 * @property {string} name
 * @property {string} dtype either name of it
 * @property {(number | string | null)[] | null} shape fixed, named or unknown dimensions; null: of any rank
 */
/** @typedef {{inputs: PortSignature[], outputs: PortSignature[]}} Signature */

/**
 * Check inputs against the model's declaration.
 *
 * @param {Signature} signature
 * @param {Record<string, Tensor>} tensors
 * @throws {InputError} for a missing or unknown input, a wrong dtype, rank, dimension or number of elements, or
 *   two different values of one named dimension
 */
export function checkInputs(signature, tensors) {
  if (typeof tensors !== "object" || tensors === null) {
    throw new InputError("Inputs are an object: { name: { data, dims, type } }.");
  }
  const names = signature.inputs.map(({ name }) => name);
  for (const name of Object.keys(tensors)) {
    if (!names.includes(name)) {
      throw new InputError(`The model has no input ${JSON.stringify(name)}; its inputs are ${names.join(", ") || "none"}.`);
    }
  }
  /** @type {Map<string, {value: number, where: string}>} */
  const known = new Map();
  for (const port of signature.inputs) {
    const tensor = tensors[port.name];
    if (tensor === undefined || tensor === null) {
      throw new InputError(`The input ${describe(port)} is missing.`);
    }
    checkTensor(port, tensor);
    (port.shape ?? []).forEach((dim, axis) => {
      if (typeof dim !== "string") return;
      const value = tensor.dims[axis];
      const where = `dimension ${axis} of ${JSON.stringify(port.name)}`;
      const before = known.get(dim);
      if (!before) known.set(dim, { value, where });
      else if (before.value !== value) {
        throw new InputError(`The dimension ${dim} is ${before.value} in ${before.where}, but ${value} in ${where}.`);
      }
    });
  }
}

/**
 * @param {PortSignature} port
 * @param {Tensor} tensor
 */
function checkTensor(port, tensor) {
  const { data, dims } = tensor;
  if (!ArrayBuffer.isView(data)) {
    throw new InputError(`The input ${describe(port)} needs { data, dims, type } with a typed array as data.`);
  }
  if (!Array.isArray(dims) || !dims.every((dim) => Number.isInteger(dim) && dim >= 0)) {
    throw new InputError(`The dims of the input ${describe(port)} must be an array of integers that are not negative.`);
  }
  const dtype = shortDtype(port.dtype);
  const given = tensor.type === undefined ? dtype : shortDtype(tensor.type);
  if (given !== dtype || !dtype || !isArrayOf(data, dtype)) {
    throw new InputError(
      `The input ${describe(port)} was given as ${tensor.type ?? "no type"} in a ${data.constructor.name}; ` +
        `pass ${longDtype(port.dtype)}.`,
    );
  }
  const { shape } = port;
  if (shape && shape.length !== dims.length) {
    throw new InputError(`The input ${describe(port)} has ${shape.length} dimensions, but was given [${dims}].`);
  }
  (shape ?? []).forEach((dim, axis) => {
    if (typeof dim === "number" && dim !== dims[axis]) {
      throw new InputError(`Dimension ${axis} of the input ${describe(port)} must be ${dim}, but was given [${dims}].`);
    }
  });
  if (data.length !== product(dims)) {
    throw new InputError(
      `The input ${describe(port)} has ${data.length} elements, but its dims [${dims}] say ${product(dims)}.`,
    );
  }
}

/** @param {PortSignature} port */
function describe({ name, dtype, shape }) {
  const dims = shape ? `[${shape.map((dim) => dim ?? "?").join(", ")}]` : "of any shape";
  return `${JSON.stringify(name)} (${longDtype(dtype)} ${dims})`;
}

/**
 * The values of a plan's symbols for these inputs, or null when the plan was made for others.
 *
 * @param {Plan} plan
 * @param {Record<string, Tensor>} tensors checked against the signature
 * @returns {Environment | null}
 */
export function bindSymbols(plan, tensors) {
  /** @type {Environment} */
  const environment = {};
  for (const { name, from } of plan.symbols) {
    const tensor = tensors[from[1]];
    if (!tensor) return null;
    if (from[0] === "dim") {
      const value = tensor.dims[from[2]];
      if (value === undefined) return null;
      environment[name] = value;
    } else {
      if (tensor.data.length !== 1) return null;
      const value = Number(tensor.data[0]);
      if (Math.abs(value) >= 2 ** 31) return null; // Kernels take symbols as i32.
      environment[name] = value;
    }
  }
  for (const { name, shape } of plan.inputs) {
    const tensor = tensors[name];
    if (!tensor || tensor.dims.length !== shape.length) return null;
    for (let axis = 0; axis < shape.length; axis++) {
      if (!guardHolds(["eq", shape[axis], tensor.dims[axis]], environment)) return null;
    }
  }
  return plan.guards.every((guard) => guardHolds(guard, environment)) ? environment : null;
}

/**
 * Check inputs whose elements are indices: kernels do not, and would take the nearest element that there is.
 *
 * @param {Plan} plan
 * @param {Environment} environment the plan's symbols for these inputs
 * @param {Record<string, Tensor>} tensors
 * @throws {InputError} for an index beyond its axis
 */
export function checkIndices(plan, environment, tensors) {
  for (const { name, indexes } of plan.inputs) {
    if (!indexes) continue;
    const extent = Math.min(...indexes.map((e) => evaluate(e, environment)));
    const { data } = tensors[name];
    const at = data.findIndex((/** @type {number | bigint} */ value) => value < -extent || value >= extent);
    if (at < 0) continue;
    throw new InputError(
      `Element ${at} of the input ${JSON.stringify(name)} is ${data[at]}, but it is an index of an axis of ${extent} elements.`,
    );
  }
}

/**
 * What the compiler needs to know of the inputs at hand: dtype, shape, and the value of a single integer or bool.
 *
 * @param {Record<string, Tensor>} tensors
 * @param {Signature} signature
 * @returns {Record<string, {type: string, dims: number[], value: number | null}>}
 */
export function describeInputs(tensors, signature) {
  return Object.fromEntries(
    signature.inputs.map(({ name, dtype }) => {
      const { data, dims } = tensors[name];
      const whole = !["f32", "f64", "f16"].includes(shortDtype(dtype) ?? "");
      return [name, { type: longDtype(dtype), dims, value: whole && data.length === 1 ? Number(data[0]) : null }];
    }),
  );
}

/**
 * A copy of a tensor that can be transferred, of exactly its elements: structured clone would copy all of the memory
 * behind a view.
 * @param {Tensor} tensor
 * @returns {Tensor}
 */
export function detachedCopy(tensor) {
  const { data } = tensor;
  if (!ArrayBuffer.isView(data) || !("length" in data)) return tensor;
  return { ...tensor, data: data.slice() };
}
