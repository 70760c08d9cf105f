/** What a plan is measured on. */

import { arrayTypeOf, isFloat, longDtype, numberToHalf, shortDtype } from "./dtypes.js";
import { InputError } from "./errors.js";
import { evaluate, product } from "./expressions.js";
import { bindSymbols } from "./inputs.js";

/** @typedef {{environment: import("./types.js").Environment, inputs: Record<string, import("./dtypes.js").Tensor>}} Replay */

/**
 * The inputs of a plan's latest inference. A plan that has not run yet is measured on those of another one of the same
 * model that fit it, as it will take its place; else on seeded ones.
 * @param {{plan: import("./types.js").Plan, latest: Replay | null}} loaded
 * @param {Iterable<{latest: Replay | null}>} all plans of the model
 * @returns {Replay}
 * @throws {InputError} when there are none, and its shapes are not constant
 */
export function inputsToMeasure({ plan, latest }, all) {
  if (latest) return latest;
  for (const { latest: other } of [...all].reverse()) {
    const environment = other && bindSymbols(plan, other.inputs);
    if (environment) return { environment, inputs: other.inputs };
  }
  if (plan.symbols.length) {
    throw new InputError("This model has dynamic dimensions: run it once, so that tuning knows the shapes to tune for.");
  }
  return { environment: {}, inputs: seededInputs(plan) };
}

/**
 * Floats between −1 and 1 from a fixed sequence, zeros for everything else: a zero is a valid index and a valid id.
 * @param {import("./types.js").Plan} plan with constant shapes
 * @returns {Record<string, import("./dtypes.js").Tensor>}
 */
function seededInputs(plan) {
  let state = 12345;
  const random = () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state / 2 ** 31 - 1;
  };
  /** @type {Record<string, import("./dtypes.js").Tensor>} */
  const inputs = {};
  for (const { name, dtype, shape } of plan.inputs) {
    const dims = shape.map((dim) => evaluate(dim, {}));
    const data = new (arrayTypeOf(dtype))(product(dims));
    if (isFloat(shortDtype(dtype) ?? "")) {
      const half = shortDtype(dtype) === "f16";
      for (let i = 0; i < data.length; i++) data[i] = half ? numberToHalf(random()) : random();
    }
    inputs[name] = { data, dims, type: longDtype(dtype) };
  }
  return inputs;
}
