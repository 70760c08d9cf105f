/** The kernels of plans as functions on every thread, each in a slot of the pool. */

/** @typedef {import("./thread-pool.js").ThreadPool} ThreadPool */
/** @typedef {import("./types.js").Plan} Plan */

/** In place of the slot of a kernel that was forgotten. */
const NO_SLOT = -1;

/**
 * Compile the modules of kernels `first` and on, on every thread.
 * @param {ThreadPool} pool
 * @param {Plan} plan
 * @param {Uint8Array[]} blobs
 * @param {number} first
 * @returns {Promise<number[]>} slot of each of these kernels
 */
export async function instantiate(pool, plan, blobs, first) {
  const kernels = plan.kernels.slice(first);
  const used = [...new Set(kernels.map((kernel) => /** @type {number} */ (kernel.module)))];
  const modules = await Promise.all(
    used.map(async (module) => ({
      module: await WebAssembly.compile(/** @type {Uint8Array<ArrayBuffer>} */ (blobs[plan.modules[module]])),
      names: kernels.filter((kernel) => kernel.module === module).map((kernel) => kernel.export ?? kernel.name),
    })),
  );
  const slots = await pool.add(modules);
  const next = used.map(() => 0);
  return kernels.map((kernel) => {
    const at = used.indexOf(/** @type {number} */ (kernel.module));
    return slots[at][next[at]++];
  });
}

/**
 * Forget the functions of kernels that no unit of a plan calls any more.
 * @param {ThreadPool} pool
 * @param {{plan: Plan, slots: number[]}} loaded `slots` of kernels that are forgotten become NO_SLOT
 */
export function releaseUnused(pool, { plan, slots }) {
  const used = new Set(plan.units.flatMap(({ init, steps }) => [...init, ...steps].map(({ kernel }) => kernel)));
  slots.forEach((slot, kernel) => {
    if (slot === NO_SLOT || used.has(kernel)) return;
    pool.release([slot]);
    slots[kernel] = NO_SLOT;
  });
}
