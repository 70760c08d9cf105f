/** Reading and writing NumPy's .npy format (versions 1 to 3 are read, 1 is written). */

import { bitsOf, convertArray, shortDtype } from "../../runtime/dtypes.js";
import { elementCount } from "./tensors.js";

/** @typedef {import("./tensors.js").Tensor} Tensor */

const MAGIC = "\x93NUMPY";

/** Element types of the format and ours, both short. @type {Record<string, string>} */
const TO_SHORT = {
  f2: "f16",
  f4: "f32",
  f8: "f64",
  b1: "bool",
  i1: "i8",
  i2: "i16",
  i4: "i32",
  i8: "i64",
  u1: "u8",
  u2: "u16",
  u4: "u32",
  u8: "u64",
};

/** @type {Record<string, any>} */
const ARRAYS = {
  f2: Uint16Array,
  f4: Float32Array,
  f8: Float64Array,
  b1: Uint8Array,
  i1: Int8Array,
  i2: Int16Array,
  i4: Int32Array,
  i8: BigInt64Array,
  u1: Uint8Array,
  u2: Uint16Array,
  u4: Uint32Array,
  u8: BigUint64Array,
};

/**
 * The tensor in a .npy file, converted to `type`.
 * @param {ArrayBuffer} buffer
 * @param {string} type
 * @returns {Tensor}
 * @throws {Error} when it is not a .npy file, not of numbers, cut short, in Fortran order, or holds what `type` cannot
 */
export function readNpy(buffer, type) {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 12 || String.fromCharCode(...bytes.subarray(0, 6)) !== MAGIC)
    throw new Error("This is not a .npy file.");
  const view = new DataView(buffer);
  const wide = (bytes[6] ?? 1) > 1;
  const start = wide ? 12 : 10;
  const end = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, end));
  const descriptor = /'descr':\s*'([^']+)'/.exec(header)?.[1] ?? "";
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  const code = descriptor.slice(1);
  const ArrayType = ARRAYS[code];
  if (shape === undefined || ArrayType === undefined || descriptor.startsWith(">")) {
    throw new Error(
      `The .npy file has elements of type ${descriptor || "(none)"}; save little-endian numbers or booleans.`,
    );
  }
  const dims = shape
    .split(",")
    .filter((text) => text.trim())
    .map(Number);
  if (/'fortran_order':\s*True/.test(header) && dims.length > 1) {
    throw new Error("The .npy file is in Fortran order; save np.ascontiguousarray(x) instead.");
  }
  const body = buffer.slice(end, end + elementCount(dims) * ArrayType.BYTES_PER_ELEMENT);
  if (body.byteLength < elementCount(dims) * ArrayType.BYTES_PER_ELEMENT)
    throw new Error("The .npy file is cut short.");
  const data = convertArray(new ArrayType(body), TO_SHORT[code] ?? "", shortDtype(type) ?? type);
  return { data, dims, type };
}

/**
 * The parts of a .npy file with a tensor.
 * @param {Tensor} tensor
 * @returns {BlobPart[]}
 */
export function writeNpy(tensor) {
  const short = shortDtype(tensor.type);
  const code = Object.keys(TO_SHORT).find((key) => TO_SHORT[key] === short) ?? "u1";
  const shape = tensor.dims.length === 1 ? `${tensor.dims[0]},` : tensor.dims.join(", ");
  const order = code.endsWith("1") ? "|" : "<";
  const text = `{'descr': '${order}${code}', 'fortran_order': False, 'shape': (${shape}), }`;
  const header = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const head = new Uint8Array(10 + header.length);
  head.set([...MAGIC].map((character) => character.charCodeAt(0)));
  head[6] = 1;
  new DataView(head.buffer).setUint16(8, header.length, true);
  head.set(new TextEncoder().encode(header), 10);
  return [head, bitsOf(tensor.data)];
}
