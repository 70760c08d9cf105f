/**
 * Integer expressions and guards of a Plan, as JSON (written by nnjit/symbolic/: to_json): an int, the name of a
 * symbol, ["add" | "mul", e…], or ["floordiv" | "mod" | "min" | "max", a, b].
 */

import { VerificationError } from "./errors.js";

/** @typedef {number | string | [string, ...any[]]} Expression */
/** @typedef {[string, Expression, Expression]} Guard */
/** @typedef {Record<string, number>} Environment Value of each symbol. */

/**
 * The integer value of `expression`; division and remainder round towards minus infinity, as in Python.
 * @param {Expression} expression
 * @param {Environment} environment
 * @returns {number}
 */
export function evaluate(expression, environment) {
  if (typeof expression === "number") return expression;
  if (typeof expression === "string") {
    const value = environment[expression];
    if (value === undefined) throw new VerificationError(`The plan uses the symbol ${expression}, which is not bound.`);
    return value;
  }
  const [op, ...args] = expression;
  const values = args.map((arg) => evaluate(arg, environment));
  switch (op) {
    case "add":
      return values.reduce((a, b) => a + b, 0);
    case "mul":
      return values.reduce((a, b) => a * b, 1);
    case "floordiv":
      return Math.floor(values[0] / values[1]);
    case "mod":
      return values[0] - Math.floor(values[0] / values[1]) * values[1];
    case "min":
      return Math.min(...values);
    case "max":
      return Math.max(...values);
    default:
      throw new VerificationError(`The plan has an unknown integer operation ${JSON.stringify(op)}.`);
  }
}

/**
 * Whether one guard holds.
 * @param {Guard} guard
 * @param {Environment} environment
 */
export function guardHolds([relation, left, right], environment) {
  const a = evaluate(left, environment);
  const b = evaluate(right, environment);
  switch (relation) {
    case "eq":
      return a === b;
    case "ne":
      return a !== b;
    case "ge":
      return a >= b;
    case "le":
      return a <= b;
    case "mod0":
      return b !== 0 && a % b === 0;
    default:
      throw new VerificationError(`The plan has an unknown guard ${JSON.stringify(relation)}.`);
  }
}

/**
 * The product of dimensions, 1 for none.
 * @param {readonly number[]} dims
 */
export function product(dims) {
  let total = 1;
  for (const dim of dims) total *= dim;
  return total;
}
