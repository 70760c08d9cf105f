/** Rows of the kernel table: the units of a report that run the same kernel, together. */

/**
 * What `model.report()` lists; times are null until they were measured. A task's `ms` is the time of one of its units
 * with the schedule in use, `gain` how much longer the default one took, `waiting` counts untried schedules.
 * @typedef {{ unit: number, label: string, node: string, op: string, task: string | null, share: number | null,
 *   ms: number | null, schedule: string, gflops: number | null, ceiling?: number | null, kernels: string[] }} UnitReport
 * @typedef {{ schedule: string, ms: number | null, status: string, message?: string }} CandidateReport
 * @typedef {{ key: string, label: string, schedule: string, ms: number | null, gain: number, waiting: number,
 *   default: string, candidates: CandidateReport[] }} TaskReport
 * @typedef {{ device: import("../../runtime/types.js").Facts, kernels: UnitReport[], tasks: TaskReport[] }} Report
 *
 * @typedef {{ key: string, label: string, title: string, op: string, units: UnitReport[], share: number,
 *   ms: number | null, schedule: string, gain: number | null, gflops: number | null, ceiling: number | null,
 *   task: TaskReport | null }} KernelGroup
 */

/**
 * Groups by tuning task, or by label where nothing is tuned; largest share of the time first.
 * @param {Report} report
 * @returns {KernelGroup[]}
 */
export function groupKernels(report) {
  /** @type {Map<string, UnitReport[]>} */
  const groups = new Map();
  for (const unit of report.kernels) {
    const key = unit.task ?? `${unit.op}: ${unit.label}`;
    groups.set(key, [...(groups.get(key) ?? []), unit]);
  }
  const tasks = new Map(report.tasks.map((task) => [task.key, task]));
  return [...groups]
    .map(([key, units]) => group(key, units, tasks.get(key) ?? null))
    .sort((a, b) => b.share - a.share);
}

/**
 * @param {string} key
 * @param {UnitReport[]} units at least one, of equal kernels
 * @param {TaskReport | null} task
 * @returns {KernelGroup}
 */
function group(key, units, task) {
  const { label, op, schedule } = /** @type {UnitReport} */ (units[0]);
  const ms = sum(units, (unit) => unit.ms);
  const least = sum(units, (unit) => (unit.ceiling ?? 0) * (unit.ms ?? 0));
  const work = sum(units, (unit) => (unit.gflops ?? 0) * (unit.ms ?? 0));
  return {
    key,
    label,
    title: shortLabel(label, op),
    op,
    schedule,
    units,
    task,
    share: sum(units, (unit) => unit.share),
    ms: ms > 0 ? ms : null,
    gain: task && task.candidates.length > 0 ? task.gain : null,
    gflops: work > 0 ? work / ms : null,
    ceiling: units.some((unit) => unit.ceiling == null) || ms <= 0 ? null : least / ms,
  };
}

/**
 * @param {UnitReport[]} units
 * @param {(unit: UnitReport) => number | null} value
 */
function sum(units, value) {
  return units.reduce((total, unit) => total + (value(unit) ?? 0), 0);
}

/**
 * A label of few words: what the kernel computes, and the ends of the names of its first and last node. Exporters name
 * nodes by the path of modules around them.
 * @param {string} label
 * @param {string} [op]
 */
export function shortLabel(label, op = "") {
  const [first = [], last] = label.split(" … ").map((path) => path.split("/").filter(Boolean));
  const place = first.slice(-3).join("/") + (last ? ` … ${last.at(-1)}` : "");
  return place.toLowerCase().startsWith(op) ? place : `${op}: ${place}`;
}
