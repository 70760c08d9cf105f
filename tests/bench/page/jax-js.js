/** jax-js: it reads no ONNX; single operators only, each a function that its own `jit` compiles. */

import { fetchTensors } from "./tensors.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */

/**
 * Operators by name: (library, attributes) → function of arrays. Arrays are moved into operations; `.ref` keeps one.
 * @type {Record<string, (jax: any, attributes: any) => (...operands: any[]) => any>}
 */
const OPERATORS = {
  matmul: ({ numpy: np }) => (a, b) => np.matmul(a, b),
  softmax: ({ nn }) => (x) => nn.softmax(x, -1),
  gelu: ({ numpy: np, lax }) => (x, root, one, half) =>
    np.multiply(np.multiply(x.ref, np.add(lax.erf(np.divide(x, root)), one)), half),
  attention: ({ numpy: np, nn }) => (q, k, v, scale) =>
    np.matmul(nn.softmax(np.multiply(np.matmul(q, k), scale), -1), v),
  transpose: ({ numpy: np }, { axes }) => (x) => np.transpose(x, axes),
  mean: ({ numpy: np }, { axis }) => (x) => np.mean(x, axis),
  gather: ({ numpy: np }) => (indices, table) => np.take(table, indices, 0),
  conv: ({ lax, numpy: np }, { stride, pad, groups }) => (x, w, b) => {
    const padding = [[pad, pad], [pad, pad]];
    const product = lax.convGeneralDilated(x, w, [stride, stride], padding, { featureGroupCount: groups });
    return np.add(product, np.reshape(b, [1, -1, 1, 1]));
  },
  layernorm: ({ nn, numpy: np }, { epsilon }) => (x, scale, bias) =>
    np.add(np.multiply(nn.standardize(x, -1, { epsilon }), scale), bias),
};

/** @param {{assets: string, entry: string, device: "wasm" | "webgpu", threads: number}} setup */
export async function start({ assets, entry, device, threads }) {
  const jax = await import(assets + entry);
  // It takes as many threads as the machine has and offers no setting; what it reads is changed while it starts.
  Object.defineProperty(navigator, "hardwareConcurrency", { value: threads, configurable: true });
  try {
    if (!(await jax.init(device)).includes(device)) throw new Error(`its backend for ${device} did not start`);
    jax.defaultDevice(device);
  } finally {
    delete (/** @type {any} */ (navigator).hardwareConcurrency);
  }
  const { numpy: np } = jax;
  const arrayOf = (/** @type {Tensor} */ { data, dims, type }) => np.array(data, { shape: [...dims], dtype: type });

  return {
    /** @param {{operator: any}} task */
    async create({ operator }) {
      const operation = OPERATORS[operator?.op];
      if (!operation) throw new Error(`has no ${operator?.op ?? "ONNX reader"}`);
      const compiled = jax.jit(operation(jax, operator.attributes));
      const constants = await fetchTensors(operator.constants);
      const stored = Object.fromEntries(Object.entries(constants).map(([name, tensor]) => [name, arrayOf(tensor)]));
      return {
        /** @param {Record<string, Tensor>} inputs */
        async run(inputs) {
          const operands = operator.operands.map(
            (/** @type {string} */ name) => stored[name]?.ref ?? arrayOf(inputs[name]),
          );
          const result = compiled(...operands);
          const dims = result.shape;
          const data = await result.data();
          return { outputs: { y: { data, dims, type: "float32" } } };
        },
        dispose() {
          compiled.dispose?.();
          for (const array of Object.values(stored)) array.dispose();
        },
      };
    },
  };
}
