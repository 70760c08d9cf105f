/** nnjit, as any page uses it. Models stay out of the browser's cache, and tuning waits until it is asked for. */

/** @param {{root: string, device: "wasm" | "webgpu", threads: number, tiny: string}} setup */
export async function start({ root, device, threads, tiny }) {
  const { load } = await import(`${root}/runtime/nnjit.js`);
  const options = { device, threads, tune: "off", cache: false };
  (await load(tiny, options)).dispose();

  return {
    /** @param {{url: string}} task */
    async create({ url }) {
      const model = await load(url, options);
      return {
        run: (/** @type {any} */ inputs) => model.runTimed(inputs),
        tune: (/** @type {number} */ seconds) => model.tune({ seconds }),
        async report() {
          const { device, timings, kernels, tasks, memory } = await model.report();
          const peakBytes = memory.peakWasmBytes + (memory.peakGpuBytes ?? 0);
          return { device, timings, kernels, tasks, peakBytes };
        },
        dispose: () => model.dispose(),
      };
    },
  };
}
