/**
 * A thread of the pool: instantiates the modules it is sent, then sleeps until the executor wakes it to help with a
 * program. It blocks in Atomics.wait, so for every message the executor sends it back to its event loop.
 */

import { CONTROL, CONTROL_BYTES, help, NOTHING, scratchOf, TOUCH, toucher } from "./program.js";

/** @type {WebAssembly.Memory} */
let memory;
/** @type {Int32Array} */
let control;
/** @type {Int32Array} */
let words;
let thread = 0;
let threads = 1;
let seen = 0;
let letters = 0;
/** @type {Function[]} */
const functions = [NOTHING];

/**
 * @typedef {{memory: WebAssembly.Memory, thread: number, threads: number}} StartMessage
 * @typedef {{modules: {module: WebAssembly.Module, functions: {index: number, name: string}[]}[]}} ModulesMessage
 */

self.onmessage = (/** @type {MessageEvent<StartMessage | ModulesMessage>} */ { data }) => {
  try {
    if ("memory" in data) {
      start(data);
    } else {
      letters = (letters + 1) | 0;
      for (const entry of data.modules) instantiate(entry);
    }
    self.postMessage({ ready: true });
  } catch (error) {
    self.postMessage({ ready: false, message: String(error) });
  }
  seen = help(control, seen, letters, wordsUpTo, functions, thread, threads);
};

/** @param {StartMessage} message */
function start(message) {
  ({ memory, thread, threads } = message);
  control = new Int32Array(memory.buffer, 0, CONTROL_BYTES / 4);
  words = new Int32Array(memory.buffer);
  functions[TOUCH] = toucher(memory);
  seen = Atomics.load(control, CONTROL.SEQUENCE);
}

/** @param {ModulesMessage["modules"][0]} entry */
function instantiate({ module, functions: names }) {
  const { exports } = new WebAssembly.Instance(module, { env: { memory, scratch: scratchOf(thread) } });
  for (const { index, name } of names) functions[index] = /** @type {Function} */ (exports[name]);
}

/** @param {number} word */
function wordsUpTo(word) {
  if (word > words.length) {
    // Growth by another thread reaches this one's `buffer` some time later, unless it asks.
    memory.grow(0);
    words = new Int32Array(memory.buffer);
  }
  return words;
}
