/** Typed arrays by dtype, and arrays on their way to a driver that can only pass JSON. */

/** @typedef {{data: any, dims: readonly number[], type: string}} Tensor */

/** @type {Record<string, any>} */
export const ARRAYS = {
  float16: /** @type {any} */ (globalThis).Float16Array ?? Uint16Array,
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};

/**
 * The raw bytes at a URL as a tensor.
 * @param {{url: string, dims: number[], type: string}} described
 * @returns {Promise<Tensor>}
 */
export async function fetchTensor({ url, dims, type }) {
  const bytes = await (await fetch(url)).arrayBuffer();
  return { data: new ARRAYS[type](bytes), dims, type };
}

/**
 * @param {Record<string, {url: string, dims: number[], type: string}>} described
 * @returns {Promise<Record<string, Tensor>>}
 */
export async function fetchTensors(described) {
  const entries = Object.entries(described).map(async ([name, one]) => [name, await fetchTensor(one)]);
  return Object.fromEntries(await Promise.all(entries));
}

/**
 * Tensors with their bytes in base64.
 * @param {Record<string, Tensor>} tensors
 */
export async function encode(tensors) {
  const entries = Object.entries(tensors).map(async ([name, { data, dims, type }]) => {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return [name, { dims: [...dims], type, base64: await base64(bytes) }];
  });
  return Object.fromEntries(await Promise.all(entries));
}

/**
 * @param {Uint8Array} bytes
 * @returns {Promise<string>}
 */
function base64(bytes) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,?/, ""));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(new Blob([/** @type {BlobPart} */ (bytes)]));
  });
}
