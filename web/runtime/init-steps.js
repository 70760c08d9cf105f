/** Which of a plan's init steps must run: those whose results are not there yet from another plan of the model. */

/** @typedef {import("./types.js").Step} Step */
/** @typedef {import("./types.js").BufferSpec} BufferSpec */
/** @typedef {string | number} Id */

/**
 * Those init steps whose results are needed and not there yet, in order.
 *
 * @param {Step[]} steps
 * @param {Map<Id, BufferSpec>} specs
 * @param {Set<Id>} fresh persistent buffers that are still empty
 * @param {Map<Id, string>} keys of persistent buffers that have a place
 */
export function neededInit(steps, specs, fresh, keys) {
  const wanted = new Set(fresh);
  const needed = [];
  for (const step of [...steps].reverse()) {
    if (!step.buffers.some(([id]) => wanted.has(id) && isComputed(id))) continue;
    needed.push(step);
    // What it reads must have been computed before, unless another plan has done so.
    for (const [id] of step.buffers) if (isComputed(id) && !keys.has(id)) wanted.add(id);
  }
  return needed.reverse();

  /** @param {Id} id */
  function isComputed(id) {
    const kind = specs.get(id)?.kind;
    return kind === "persistent" || kind === "temp";
  }
}
