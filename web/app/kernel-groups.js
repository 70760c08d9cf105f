/** Rows of the kernel table: the units of a report that run the same kernel, together. */

/**
 * A unit of the plan as `model.report()` lists it.
 * @typedef {{ unit: number, label: string, node: string, op: string, task: string | null, share: number, ms: number,
 *   schedule: string, gain: number | null, gflops: number | null, kernels: string[] }} UnitReport
 * @typedef {{ schedule: string, ms: number | null, status: string, message?: string }} CandidateReport
 * @typedef {{ key: string, label: string, candidates: CandidateReport[] }} TaskReport
 * @typedef {{ device: any, kernels: UnitReport[], tasks: TaskReport[], memory?: any }} Report
 *
 * @typedef {{ key: string, label: string, op: string, units: UnitReport[], share: number, ms: number, schedule: string,
 *   gain: number | null, gflops: number | null, task: TaskReport | null }} KernelGroup
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
    .map(([key, units]) => {
      const ms = sum(units.map((unit) => unit.ms));
      const untuned = sum(units.map((unit) => unit.ms * (unit.gain ?? 1)));
      const operations = sum(units.map((unit) => (unit.gflops ?? 0) * unit.ms));
      const first = /** @type {UnitReport} */ (units[0]);
      return {
        key, units, ms,
        label: first.label,
        op: first.op,
        share: sum(units.map((unit) => unit.share)),
        schedule: first.schedule,
        gain: units.some((unit) => unit.gain !== null) ? untuned / ms : null,
        gflops: operations > 0 ? operations / ms : null,
        task: tasks.get(key) ?? null,
      };
    })
    .sort((a, b) => b.share - a.share);
}

/** @param {number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + (value || 0), 0);
}
