/** onnxruntime-web with its best settings: the import made for the device, SIMD, the same threads, all graph optimisations. */

/** @typedef {import("./tensors.js").Tensor} Tensor */

/** @param {{assets: string, entry: string, device: "wasm" | "webgpu", threads: number, tiny: string}} setup */
export async function start({ assets, entry, device, threads, tiny }) {
  const ort = await import(assets + entry);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = assets;
  ort.env.wasm.numThreads = threads;
  const options = { executionProviders: [device], graphOptimizationLevel: "all" };
  await (await ort.InferenceSession.create(tiny, options)).release();

  return {
    /** @param {{url: string}} task */
    async create({ url }) {
      const session = await ort.InferenceSession.create(url, options);
      /** @type {Record<string, any> | null} */
      let feeds = null;
      return {
        /** @param {Record<string, Tensor>} inputs the same object each time */
        async run(inputs) {
          feeds ??= Object.fromEntries(
            session.inputNames
              .filter((/** @type {string} */ name) => name in inputs)
              .map((/** @type {string} */ name) => {
                const { data, dims, type } = inputs[name];
                return [name, new ort.Tensor(type, data, dims)];
              }),
          );
          return { outputs: await session.run(feeds) };
        },
        dispose: () => session.release(),
      };
    },
    facts: async () => ({ settings: { ...options, numThreads: ort.env.wasm.numThreads } }),
  };
}
