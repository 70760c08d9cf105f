/**
 * TensorFlow.js with its wasm backend (XNNPACK), threaded. It reads no ONNX: single operators only, written as its users
 * write them. Images are NHWC there; they are handed over, and taken back, in that layout, which costs it no time.
 */

import { fetchTensors } from "./tensors.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */

/**
 * Operators by name: (tf, operands, attributes) → tensor.
 * @type {Record<string, (tf: any, operands: any[], attributes: any) => any>}
 */
const OPERATORS = {
  matmul: (tf, [a, b]) => tf.matMul(a, b),
  softmax: (tf, [x]) => tf.softmax(x),
  gelu: (tf, [x, root, one, half]) => tf.mul(tf.mul(x, tf.add(tf.erf(tf.div(x, root)), one)), half),
  attention: (tf, [q, k, v, scale]) => tf.matMul(tf.softmax(tf.mul(tf.matMul(q, k), scale)), v),
  gather: (tf, [indices, table]) => tf.gather(table, indices),
  transpose: (tf, [x], { axes }) => tf.transpose(x, axes),
  mean: (tf, [x], { axis }) => tf.mean(x, axis),
  resize: (tf, [x], { size }) => tf.image.resizeBilinear(x, [size, size], false, true),
  conv: (tf, [x, w, b], { stride, pad, groups }) => {
    const product = groups === 1 ? tf.conv2d(x, w, stride, pad) : tf.depthwiseConv2d(x, w, stride, pad);
    return tf.add(product, b);
  },
  layernorm: (tf, [x, scale, bias], { epsilon }) => {
    const { mean, variance } = tf.moments(x, -1, true);
    return tf.add(tf.mul(tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, epsilon))), scale), bias);
  },
};

/** Operators whose first operand and result are images. */
const OF_IMAGES = new Set(["conv", "resize"]);

/** @param {{places: string[], entry: string, device: string, threads: number}} setup */
export async function start({ places: [core, backend], entry, threads }) {
  await script(`${core}dist/tf.min.js`);
  await script(`${backend}dist/${entry}`);
  const tf = /** @type {any} */ (globalThis).tf;
  tf.wasm.setWasmPaths(`${backend}wasm-out/`);
  tf.wasm.setThreadsCount(threads);
  tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", threads > 1);
  if (!(await tf.setBackend("wasm"))) throw new Error("its wasm backend did not start");

  return {
    /** @param {{operator: any}} task */
    async create({ operator }) {
      const operation = OPERATORS[operator?.op];
      if (!operation) throw new Error(`has no ${operator?.op ?? "ONNX reader"}`);
      const { attributes } = operator;
      const images = OF_IMAGES.has(operator.op);
      const constants = await fetchTensors(operator.constants);
      const depthwise = images && attributes.groups > 1;
      const stored = Object.fromEntries(
        Object.entries(constants).map(([name, tensor]) => [name, constantOf(tf, tensor, depthwise)]),
      );
      /** @type {Record<string, Tensor> | null} */
      let given = null;
      return {
        /** @param {Record<string, Tensor>} inputs the same object each time */
        async run(inputs) {
          given ??= images ? mapped(inputs, (tensor) => permuted(tf, tensor, [0, 2, 3, 1])) : inputs;
          const current = given;
          const result = tf.tidy(() => {
            const operands = operator.operands.map(
              (/** @type {string} */ name) => stored[name] ?? tensorOf(tf, current[name]),
            );
            return operation(tf, operands, attributes);
          });
          const data = await result.data();
          const y = { data, dims: result.shape, type: result.dtype };
          result.dispose();
          return { outputs: { y } };
        },
        outputs: (/** @type {Record<string, Tensor>} */ outputs) =>
          images ? mapped(outputs, (tensor) => permuted(tf, tensor, [0, 3, 1, 2])) : outputs,
        dispose: () => Object.values(stored).forEach((tensor) => tensor.dispose()),
      };
    },
    facts: async () => ({ settings: { threads: tf.wasm.getThreadsCount() } }),
  };
}

/** Load a classic script. @param {string} src */
function script(src) {
  return new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement("script"), { src, onload: resolve });
    element.onerror = () => reject(new Error(`${src} could not be loaded`));
    document.head.append(element);
  });
}

/**
 * @param {Record<string, Tensor>} tensors
 * @param {(tensor: Tensor) => Tensor} change
 * @returns {Record<string, Tensor>}
 */
function mapped(tensors, change) {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, change(tensor)]));
}

/** @param {any} tf @param {Tensor} tensor */
const tensorOf = (tf, { data, dims, type }) => tf.tensor(data, dims, type);

/** A weight in the layout of this library: a convolution's OIHW becomes HWIO, or HWI1 for a depthwise one. */
function constantOf(/** @type {any} */ tf, /** @type {Tensor} */ tensor, /** @type {boolean} */ depthwise) {
  if (tensor.dims.length !== 4) return tensorOf(tf, tensor);
  return tf.tidy(() => tf.transpose(tensorOf(tf, tensor), depthwise ? [2, 3, 0, 1] : [2, 3, 1, 0]));
}

/** @param {any} tf @param {Tensor} tensor @param {number[]} axes @returns {Tensor} */
function permuted(tf, tensor, axes) {
  return tf.tidy(() => {
    const result = tf.transpose(tensorOf(tf, tensor), axes);
    return { data: result.dataSync(), dims: result.shape, type: tensor.type };
  });
}
