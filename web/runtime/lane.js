/**
 * A lane: a stretch of the device's shared memory through which one client asks for inferences. The client writes its
 * inputs where the kernels read them and reads the outputs where the executor left them, so that a request is two
 * copies and two wake-ups; a message with the same content costs several times that, and memory of its own each time.
 *
 *     words      WORDS below: who has asked, what was answered
 *     request    its text (JSON, UTF-16), then each input at a multiple of 64 bytes
 *     answer     its text, then the outputs
 *
 * A lane holds one request. What does not fit or is no plain typed array, and requests made while another one of the
 * client is under way, travel as messages (inference-client.js), and so does an answer that does not fit or is an error.
 */

import { alignUp, SLACK } from "./placement.js";

/** @typedef {import("./types.js").Tensor} Tensor */
/** @typedef {{memory: WebAssembly.Memory, address: number, bytes: number}} LaneOffer */
/** @typedef {[name: string, type: string | undefined, dims: number[], array: string, length: number, offset: number]} Entry */
/** @typedef {{plan: number, outputs: Entry[]}} Answer */

/** Indices of 32-bit words at the start of a lane; what the two sides write lies in different cache lines. */
export const WORDS = {
  /** Number of the latest request; written last. */
  REQUEST: 0,
  /** By which a message would answer it. */
  ID: 1,
  /** UTF-16 units of the request's text. */
  REQUEST_UNITS: 2,
  /** Number of the request that the text was written for: the same as before when the text is. */
  REQUEST_TEXT: 3,
  /** Offset in bytes from which the answer may be written. */
  REQUEST_END: 4,
  /** Number of the latest request that was answered; written last, and notified. */
  ANSWER: 16,
  /** 1 when the answer lies in the lane, 0 when it comes as a message. */
  IN_LANE: 17,
  ANSWER_UNITS: 18,
  /** Number of the answer that the text was written for. */
  ANSWER_TEXT: 19,
  ANSWER_OFFSET: 20,
  /** Milliseconds that the device took: a float64. */
  MS: 22,
};
export const HEADER_BYTES = 128;

/**
 * Outputs up to this many bytes come through a lane; larger ones are moved in a message, which copies them once less. A
 * message takes up to 5 ms to arrive in some engines, as long as copying 20 MB.
 */
export const OUTPUT_BYTES = 2 ** 22;

/** Inputs beyond this go in messages: a lane is kept as long as the model. */
const LARGEST_INPUTS = 2 ** 26;

/** What can be written to shared memory with `set`, by name: a request names the array that it was given. */
export const ARRAYS = new Map(
  [
    "Float32Array Float64Array Float16Array Int8Array Uint8Array Uint8ClampedArray Int16Array Uint16Array Int32Array",
    "Uint32Array BigInt64Array BigUint64Array",
  ]
    .flatMap((names) => names.split(" "))
    .filter((name) => name in globalThis)
    .map((name) => /** @type {[string, any]} */ ([name, /** @type {any} */ (globalThis)[name]])),
);

/** Whether this context can wait for an answer without blocking. */
export const canWait = typeof Atomics !== "undefined" && "waitAsync" in Atomics;

/**
 * Bytes of a lane for such inputs, with room to grow; null when they are too large for one.
 * @param {Record<string, Tensor>} inputs
 */
export function laneBytes(inputs) {
  const described = describe(inputs);
  if (!described || described.end > LARGEST_INPUTS) return null;
  return 2 ** Math.ceil(Math.log2(described.end)) + OUTPUT_BYTES;
}

/**
 * How a request with these inputs is laid out.
 * @param {Record<string, Tensor>} inputs
 * @returns {{text: string, entries: Entry[], end: number} | null} null for what is no tensor in a plain typed array
 */
export function describe(inputs) {
  /** @type {Entry[]} */
  const entries = [];
  for (const name of Object.keys(inputs ?? {})) {
    const { data, dims, type } = inputs[name] ?? {};
    const array = data?.constructor?.name;
    if (!ArrayBuffer.isView(data) || ARRAYS.get(array) !== data.constructor || !Array.isArray(dims)) return null;
    entries.push([name, type, dims, array, data.length, 0]);
  }
  // The offsets depend on the length of the text that tells them: leave room for the longest.
  let end = alignUp(HEADER_BYTES + 2 * (JSON.stringify(entries).length + 10 * entries.length));
  for (const entry of entries) {
    entry[5] = end;
    end = alignUp(end + inputs[entry[0]].data.byteLength + SLACK);
  }
  return { text: JSON.stringify(entries), entries, end };
}

/**
 * Write the text of a request or answer.
 * @param {ArrayBufferLike} buffer
 * @param {number} at
 * @param {string} text
 */
export function writeText(buffer, at, text) {
  const units = new Uint16Array(buffer, at, text.length);
  for (let i = 0; i < text.length; i++) units[i] = text.charCodeAt(i);
}

/**
 * @param {ArrayBufferLike} buffer
 * @param {number} at
 * @param {number} length
 */
export function readText(buffer, at, length) {
  // A decoder takes no shared memory.
  return new TextDecoder("utf-16le").decode(new Uint16Array(buffer, at, length).slice());
}
