/** nnjit, as any page uses it. Models stay out of the browser's cache, and tuning waits until it is asked for, or a task says
 * `tune: "background"`. */

const PROFILE_RUNS = 9;

/**
 * @param {{root: string, device: "wasm" | "webgpu", threads: number, tiny: string, without?: string[]}} setup
 *   without: passes of the code generator that are left out
 */
export async function start({ root, device, threads, tiny, without }) {
  const { load } = await import(`${root}/runtime/nnjit.js`);
  const options = { device, threads, tune: "off", cache: false, without };
  (await load(tiny, options)).dispose();

  return {
    /** @param {{url: string, tune?: "background" | "off"}} task */
    async create({ url, tune = "off" }) {
      const model = await load(url, { ...options, tune });
      /** @type {{at: number, status: string}[]} */
      const events = [];
      model.on("tune", (/** @type {{status: string}} */ { status }) => events.push({ at: performance.now(), status }));
      return {
        events,
        pause: () => model.pauseTuning(),
        resume: () => model.resumeTuning(),
        run: (/** @type {any} */ inputs) => model.runTimed(inputs),
        tune: (/** @type {number} */ seconds) => model.tune({ seconds }),
        /** Milliseconds of the parts of loading. */
        timings: async () => (await model.report()).timings,
        /** Milliseconds of all kernels of an inference. @param {number} repeat */
        async kernelMs(repeat) {
          await model.profile({ repeat });
          const { kernels } = await model.report();
          return kernels.reduce((/** @type {number} */ sum, /** @type {{ms: number}} */ { ms }) => sum + ms, 0);
        },
        async report() {
          await model.profile({ repeat: PROFILE_RUNS });
          const { device, timings, kernels, tasks, memory } = await model.report();
          const peakBytes = memory.peakWasmBytes + (memory.peakGpuBytes ?? 0);
          return { device, timings, kernels, tasks, peakBytes };
        },
        dispose: () => model.dispose(),
      };
    },
  };
}
