/**
 * Candidates and replacements: a plan with one unit exchanged for another implementation of it.
 */

/** @typedef {import("./types.js").Plan} Plan */
/** @typedef {import("./types.js").Unit} Unit */
/** @typedef {import("./types.js").Step} Step */
/** @typedef {import("./types.js").BufferSpec} BufferSpec */
/** @typedef {import("./types.js").KernelSpec} KernelSpec */
/** @typedef {import("./types.js").Candidate} Candidate */

/** All steps of an inference, in order. @param {Plan} plan */
export function inferenceSteps(plan) {
  return plan.units.flatMap((unit) => unit.steps);
}

/** All steps that run once, in order. @param {Plan} plan */
export function initSteps(plan) {
  return plan.units.flatMap((unit) => unit.init);
}

/**
 * Ids of the buffers that steps touch.
 * @param {Step[]} steps
 */
export function touched(steps) {
  return new Set(steps.flatMap((step) => step.buffers.map(([id]) => id)));
}

/**
 * Ids of the buffers that steps may write; a kernel that does not say is taken to write all of its buffers.
 * @param {Step[]} steps
 * @param {KernelSpec[]} kernels
 */
export function written(steps, kernels) {
  return new Set(
    steps.flatMap((step) =>
      step.buffers
        .filter((_, i) => (kernels[step.kernel].buffers?.[i]?.access ?? "rw") !== "r")
        .map(([id]) => id),
    ),
  );
}

/**
 * What a unit reads from before it and leaves behind, of the buffers that do not outlive an inference.
 *
 * @param {Plan} plan
 * @param {number} index of the unit
 * @returns {{operands: Set<string | number>, results: Set<string | number>, internal: Set<string | number>}}
 *   `operands` hold data before the unit starts; `results` are first touched by it and needed after it; `internal` ones
 *   only live within it. An operand that the unit writes, too, is a result as well.
 */
export function boundaryOf(plan, index) {
  const kinds = new Map(plan.buffers.map((buffer) => [buffer.id, buffer.kind]));
  const inference = (/** @type {string | number} */ id) => ["input", "output", "temp"].includes(kinds.get(id) ?? "");
  const before = touched(plan.units.slice(0, index).flatMap((unit) => unit.steps));
  const after = touched(plan.units.slice(index + 1).flatMap((unit) => unit.steps));
  for (const output of plan.outputs) if (output.buffer !== null) after.add(output.buffer);
  const { steps } = plan.units[index];
  const writes = written(steps, plan.kernels);
  const operands = new Set();
  const results = new Set();
  const internal = new Set();
  for (const id of touched(steps)) {
    if (!inference(id)) continue;
    const arrives = before.has(id) || kinds.get(id) === "input";
    if (arrives) operands.add(id);
    if (writes.has(id) && after.has(id)) results.add(id);
    if (!arrives && !results.has(id)) internal.add(id);
  }
  return { operands, results, internal };
}

/**
 * The plan with unit `index` replaced. Kernels and buffers of the candidate are appended; those of the old unit stay
 * listed, unused.
 *
 * @param {Plan} plan unchanged
 * @param {number} index
 * @param {Candidate} candidate
 * @param {number} firstBlob index that the candidate's first blob gets
 * @returns {Plan}
 */
export function replaceUnit(plan, index, candidate, firstBlob) {
  const modules = [...plan.modules];
  const kernels = candidate.kernels.map((kernel) => {
    if (kernel.module === undefined) return kernel;
    const blob = firstBlob + kernel.module;
    let module = modules.indexOf(blob);
    if (module < 0) module = modules.push(blob) - 1;
    return { ...kernel, module };
  });
  const buffers = candidate.buffers.map((b) => (b.blob === undefined ? b : { ...b, blob: firstBlob + b.blob }));
  const shift = (/** @type {Step} */ step) => ({ ...step, kernel: step.kernel + plan.kernels.length });
  const unit = {
    ...candidate.unit,
    init: candidate.unit.init.map(shift),
    steps: candidate.unit.steps.map(shift),
  };
  return {
    ...plan,
    modules,
    kernels: [...plan.kernels, ...kernels],
    buffers: [...plan.buffers, ...buffers],
    units: plan.units.map((old, i) => (i === index ? unit : old)),
  };
}
