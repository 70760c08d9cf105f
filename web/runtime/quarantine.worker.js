/**
 * Runs candidates, one after another, in a memory that holds nothing but copies:
 *
 *     0 … fixed        a page of pattern, then operands and weights, with pattern between them: must not change
 *     fixed … size     what the candidate may write, poisoned, with pattern around it; at the end a page of pattern
 *
 * Writes farther out trap. What it leaves behind is compared with what the incumbent computed.
 */

import { compare, GUARD_BYTE, poison } from "./compare.js";
import { StepTrap, walk } from "./program.js";

/**
 * @typedef {object} Attempt
 * @property {number} size bytes of memory, whole pages
 * @property {number} fixed bytes that must not change
 * @property {{address: number, data: Uint8Array<ArrayBuffer>}[]} contents what is new below `fixed`
 * @property {{address: number, bytes: number, storage: string, from: number | null}[]} own what it may write, by address;
 *   `from`: address of what is there before
 * @property {number} scratch address of what a task needs while it runs; in `own` as well if a kernel uses it
 * @property {Uint8Array[]} modules
 * @property {{module: number, name: string}[]} functions by slot
 * @property {Int32Array} words the program (program.js), for one thread
 * @property {{id: string | number, address: number, bytes: number, storage: string}[]} results
 * @property {Map<string | number, Uint8Array> | null} references what the results must be; null: those sent before
 * @property {number} tolerance
 * @property {{address: number, bytes: number}[]} keep what to send back
 *
 * @typedef {object} Verdict
 * @property {import("./types.js").Measurement["status"]} status
 * @property {string} message
 * @property {number | null} maxError
 * @property {Uint8Array<ArrayBuffer>[]} kept
 * @property {boolean} intact whether the memory below `fixed` is as it was
 * @property {number} ms that all of it took
 */

const PAGE = 65536;
/** Pages that the memory may grow to: address space, which is short on some devices. */
const MOST_PAGES = 1 << 14;

/** @type {WebAssembly.Memory | null} */
let memory = null;
/** What the modules import. */
let type = { shared: false, maxPages: 0 };
/** @type {Map<string | number, Uint8Array>} */
let references = new Map();
/** Of the fixed part. */
let checksum = 0;
let checked = 0;

self.onmessage = async (/** @type {MessageEvent} */ { data }) => {
  if ("maxPages" in data) {
    type = data;
    self.postMessage({});
    return;
  }
  const start = performance.now();
  const verdict = await attempt(data);
  verdict.ms = performance.now() - start;
  self.postMessage(verdict, { transfer: verdict.kept.map(({ buffer }) => buffer) });
};

/**
 * @param {Attempt} request
 * @returns {Promise<Verdict>}
 */
async function attempt(request) {
  /** @type {(status: Verdict["status"], message: string, rest?: Partial<Verdict>) => Verdict} */
  const verdict = (status, message, rest) => ({ status, message, maxError: null, kept: [], intact: true, ms: 0, ...rest });
  let functions;
  try {
    prepare(request);
    functions = await instantiate(request);
  } catch (error) {
    const outOfMemory = error instanceof RangeError;
    return verdict(outOfMemory ? "error" : "compile-error", messageOf(error), { intact: !outOfMemory });
  }
  try {
    walk(request.words, 0, request.words.length, functions, 1, true);
  } catch (error) {
    if (!(error instanceof StepTrap)) throw error;
    return verdict("trap", error.message, { intact: false });
  }
  if (sum(request.fixed) !== checksum) {
    return verdict("out-of-bounds", "the candidate wrote into weights or operands", { intact: false });
  }
  if (!patternIntact(request)) {
    return verdict("out-of-bounds", "the candidate wrote outside its buffers", { intact: true });
  }
  let worst = 0;
  for (const { id, address, bytes, storage } of request.results) {
    const reference = /** @type {Uint8Array} */ (references.get(id));
    const { maxError, message } = compare(reference, copy(address, bytes), storage, request.tolerance);
    worst = Math.max(worst, maxError);
    if (message !== null) return verdict("wrong", `buffer ${id}: ${message}`, { maxError: worst });
  }
  const kept = request.keep.map(({ address, bytes }) => copy(address, bytes));
  return verdict("ok", "", { maxError: worst, kept });
}

/**
 * Put everything in place.
 * @param {Attempt} request
 * @throws {RangeError} when the browser does not give as much memory
 */
function prepare(request) {
  const pages = request.size / PAGE;
  // Not a larger one: what is written behind its end must trap, or be found.
  if (!memory || (request.references && memory.buffer.byteLength !== request.size)) {
    memory = null;
    memory = new WebAssembly.Memory({ initial: pages, maximum: Math.min(type.maxPages, MOST_PAGES), shared: type.shared });
  } else if (memory.buffer.byteLength < request.size) {
    memory.grow(pages - memory.buffer.byteLength / PAGE);
  }
  const bytes = all();
  if (request.references) {
    references = request.references;
    checked = 0;
  }
  if (checked !== request.fixed || request.contents.length) {
    // What is new lies above what is there.
    bytes.fill(GUARD_BYTE, checked, request.fixed);
    for (const { address, data } of request.contents) bytes.set(data, address);
    checked = request.fixed;
    checksum = sum(checked);
  }
  bytes.fill(GUARD_BYTE, request.fixed);
  for (const { address, bytes: length, storage, from } of request.own) {
    if (from === null) poison(bytes.subarray(address, address + length), storage);
    else bytes.copyWithin(address, from, from + length);
  }
}

/** @param {Attempt} request */
async function instantiate({ modules, functions, scratch }) {
  const imports = { env: { memory: /** @type {WebAssembly.Memory} */ (memory), scratch } };
  const instances = await Promise.all(
    modules.map((bytes) => WebAssembly.instantiate(/** @type {Uint8Array<ArrayBuffer>} */ (bytes), imports)),
  );
  return functions.map(({ module, name }) => {
    const f = instances[module].instance.exports[name];
    if (typeof f !== "function") throw new Error(`the module has no function ${JSON.stringify(name)}`);
    return f;
  });
}

/** The memory, whatever it has grown to. */
function all() {
  return new Uint8Array(/** @type {WebAssembly.Memory} */ (memory).buffer);
}

/** @param {number} address @param {number} bytes */
function copy(address, bytes) {
  const copied = new Uint8Array(bytes);
  copied.set(all().subarray(address, address + bytes));
  return copied;
}

/** Four sums at a time, because each waits for its last multiplication. */
const FACTOR = 0x01000193;

/**
 * A checksum of the first `bytes` of the memory, a multiple of 64.
 * @param {number} bytes
 */
function sum(bytes) {
  const words = new Int32Array(/** @type {WebAssembly.Memory} */ (memory).buffer, 0, bytes / 4);
  let [a, b, c, d] = [1, 2, 3, 4];
  for (let i = 0; i < words.length; i += 4) {
    a = (Math.imul(a, FACTOR) + words[i]) | 0;
    b = (Math.imul(b, FACTOR) + words[i + 1]) | 0;
    c = (Math.imul(c, FACTOR) + words[i + 2]) | 0;
    d = (Math.imul(d, FACTOR) + words[i + 3]) | 0;
  }
  return [a, b, c, d].reduce((h, x) => (Math.imul(h, 31) + x) | 0, 7);
}

/**
 * Whether all that the candidate may not write above the fixed part still is pattern.
 * @param {Attempt} request
 */
function patternIntact({ fixed, own }) {
  const bytes = all();
  let at = fixed;
  for (const { address, bytes: length } of own) {
    if (!isPattern(bytes, at, address)) return false;
    at = address + length;
  }
  return isPattern(bytes, at, bytes.length);
}

/**
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 */
function isPattern(bytes, start, end) {
  for (let i = start; i < end; i++) if (bytes[i] !== GUARD_BYTE) return false;
  return true;
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
