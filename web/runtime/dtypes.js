/**
 * Element types: the names of the API ("float32", "int64", …) and of plans ("f32", "i64", …), their typed arrays, and
 * conversions between storage formats. A bool is one byte, 0 or 1. float16 travels as bits (Uint16Array) inside the
 * runtime; the API gives and takes a Float16Array where the browser has one.
 */

import { InputError, VerificationError } from "./errors.js";

/** @typedef {Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | BigInt64Array | BigUint64Array} TypedArray */
/** @typedef {{data: TypedArray, dims: number[], type: string}} Tensor */

/**
 * API name, bytes of an element and array type of each short dtype. bf16 exists in model files only.
 * @type {Record<string, {name: string, bytes: number, array: any}>}
 */
const TABLE = {
  f32: { name: "float32", bytes: 4, array: Float32Array },
  f64: { name: "float64", bytes: 8, array: Float64Array },
  f16: { name: "float16", bytes: 2, array: Uint16Array },
  bf16: { name: "bfloat16", bytes: 2, array: Uint16Array },
  i8: { name: "int8", bytes: 1, array: Int8Array },
  u8: { name: "uint8", bytes: 1, array: Uint8Array },
  i16: { name: "int16", bytes: 2, array: Int16Array },
  u16: { name: "uint16", bytes: 2, array: Uint16Array },
  i32: { name: "int32", bytes: 4, array: Int32Array },
  u32: { name: "uint32", bytes: 4, array: Uint32Array },
  i64: { name: "int64", bytes: 8, array: BigInt64Array },
  u64: { name: "uint64", bytes: 8, array: BigUint64Array },
  bool: { name: "bool", bytes: 1, array: Uint8Array },
};

/** @type {Map<string, string>} */
const SHORT = new Map(Object.entries(TABLE).flatMap(([short, { name }]) => [[short, short], [name, short]]));

/** @type {any} The browser's half-precision array, or undefined where it has none. */
const HalfArray = /** @type {any} */ (globalThis).Float16Array;

/**
 * The short name ("f32") of a dtype given by either of its names, or null for an unknown one.
 * @param {string} name
 */
export function shortDtype(name) {
  return SHORT.get(name) ?? null;
}

/**
 * The API name ("float32") of a dtype.
 * @param {string} dtype
 */
export function longDtype(dtype) {
  return entry(dtype).name;
}

/**
 * Bytes of one element.
 * @param {string} dtype
 */
export function bytesOf(dtype) {
  return entry(dtype).bytes;
}

/**
 * The constructor of typed arrays that hold elements of `dtype`.
 * @param {string} dtype
 */
export function arrayTypeOf(dtype) {
  return entry(dtype).array;
}

/** @param {string} dtype */
function entry(dtype) {
  const found = TABLE[SHORT.get(dtype) ?? ""];
  if (!found) throw new VerificationError(`Unknown element type ${JSON.stringify(dtype)}.`);
  return found;
}

/** @param {string} dtype */
export function isFloat(dtype) {
  return dtype === "f32" || dtype === "f64" || dtype === "f16" || dtype === "bf16";
}

/** @param {string} dtype */
function isBig(dtype) {
  return dtype === "i64" || dtype === "u64";
}

/**
 * The array type of `dtype` in the API: half precision becomes a Float16Array where there is one.
 * @param {string} dtype
 * @returns {any}
 */
export function apiArrayTypeOf(dtype) {
  return shortDtype(dtype) === "f16" && HalfArray ? HalfArray : arrayTypeOf(dtype);
}

/**
 * Whether `data` is an array that the API accepts for elements of `dtype`.
 * @param {unknown} data
 * @param {string} dtype
 */
export function isArrayOf(data, dtype) {
  return (
    data instanceof arrayTypeOf(dtype) ||
    data instanceof apiArrayTypeOf(dtype) ||
    (data instanceof Uint8ClampedArray && shortDtype(dtype) === "u8")
  );
}

const scratch = new DataView(new ArrayBuffer(4));

/**
 * The value of a half-precision number given as 16 bits.
 * @param {number} bits
 */
export function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * The 16 bits of the half-precision number nearest to `value`, ties to even.
 * @param {number} value
 */
export function numberToHalf(value) {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  const absolute = Math.abs(value);
  if (absolute >= 65520) return sign | 0x7c00;
  if (absolute < 2 ** -14) return sign | roundToEven(absolute * 2 ** 24);
  const exponent = (magnitude >>> 23) - 127;
  return sign | (((exponent + 15) << 10) + roundToEven((absolute / 2 ** exponent - 1) * 1024));
}

/** @param {number} x */
function roundToEven(x) {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** @param {number} bits */
function bfloatToNumber(bits) {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

/** Inclusive ranges of the integer dtypes that a conversion may have to narrow to.
 * @type {Record<string, [number, number]>} */
const RANGES = {
  i8: [-128, 127],
  u8: [0, 255],
  i16: [-32768, 32767],
  u16: [0, 65535],
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u32: [0, 2 ** 32 - 1],
};

/**
 * Elements of one dtype as a new array of another. A device may store a tensor wider or narrower than the model does.
 *
 * @param {ArrayLike<any>} source array of `from`, half precision as bits or as a Float16Array
 * @param {string} from short dtype
 * @param {string} to short dtype
 * @returns {TypedArray} `source` itself when nothing changes
 * @throws {InputError} when an integer does not fit the narrower type
 */
export function convertArray(source, from, to) {
  if (from === to) return bitsOf(source);
  if (to === "f32" && (from === "f16" || from === "bf16")) return floatsFromBits(bitsOf(source), from);
  const length = source.length;
  const target = new (arrayTypeOf(to))(length);
  const range = RANGES[to];
  const integers = !isFloat(from) && from !== "bool" && range !== undefined;
  for (let i = 0; i < length; i++) {
    let value = source[i];
    if (from === "f16" && !HalfArray?.prototype.isPrototypeOf(source)) value = halfToNumber(value);
    else if (from === "bf16") value = bfloatToNumber(value);
    if (integers && (value < range[0] || value > range[1])) {
      throw new InputError(
        `The value ${value} at position ${i} does not fit ${longDtype(to)}, the type in which this device stores ` +
          `${longDtype(from)}. Use the device "wasm", which stores ${longDtype(from)} as it is.`,
      );
    }
    if (to === "bool") target[i] = Number(value) !== 0 ? 1 : 0;
    else if (isBig(to)) target[i] = typeof value === "bigint" ? value : BigInt(Math.trunc(value));
    else if (to === "f16") target[i] = numberToHalf(Number(value));
    else target[i] = Number(value);
  }
  return target;
}

/**
 * 16-bit floats widened, at memory speed where the browser has what it takes: model weights come this way.
 * @param {Uint16Array} bits
 * @param {string} dtype "f16" or "bf16"
 */
function floatsFromBits(bits, dtype) {
  if (dtype === "bf16") return new Float32Array(Uint32Array.from(bits, (b) => b << 16).buffer);
  if (HalfArray) return new Float32Array(new HalfArray(bits.buffer, bits.byteOffset, bits.length));
  return Float32Array.from(bits, halfToNumber);
}

/**
 * Half precision given as a Float16Array becomes its bits; any other array stays.
 * @param {any} array
 * @returns {any}
 */
export function bitsOf(array) {
  return HalfArray && array instanceof HalfArray
    ? new Uint16Array(array.buffer, array.byteOffset, array.length)
    : array;
}

/**
 * A view of elements in `buffer`, copied first where the offset is not aligned for the type.
 *
 * @param {ArrayBuffer} buffer
 * @param {number} offset in bytes, any alignment
 * @param {number} elements
 * @param {string} dtype
 * @returns {TypedArray}
 */
export function viewOf(buffer, offset, elements, dtype) {
  const { bytes, array } = entry(dtype);
  if (offset % bytes === 0) return new array(buffer, offset, elements);
  return new array(buffer.slice(offset, offset + elements * bytes), 0, elements);
}

/**
 * Bytes in the model file as bytes in the device's storage format.
 *
 * @param {Uint8Array} bytes elements of `dtype`
 * @param {string} dtype of the file, either name
 * @param {string} storage short dtype on the device
 * @returns {Uint8Array} the same bytes when nothing changes
 */
export function convertBytes(bytes, dtype, storage) {
  const from = shortDtype(dtype) ?? dtype;
  if (from === storage || (bytesOf(from) === 1 && bytesOf(storage) === 1)) return bytes;
  const elements = bytes.byteLength / bytesOf(from);
  const source = viewOf(/** @type {ArrayBuffer} */ (bytes.buffer), bytes.byteOffset, elements, from);
  const converted = convertArray(source, from, storage);
  return new Uint8Array(converted.buffer, converted.byteOffset, converted.byteLength);
}
