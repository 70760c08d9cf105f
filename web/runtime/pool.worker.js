/**
 * A thread of the pool: instantiates the modules it is sent, then sleeps until the executor wakes it to walk a program
 * with the others. It blocks in Atomics.wait, so before every message the executor commands it back to its event loop.
 */

import { COMMAND_RUN, CONTROL, CONTROL_BYTES, execute, relax, SPINS, StepTrap } from "./program.js";

/** @type {WebAssembly.Memory} */
let memory;
/** @type {Int32Array} */
let control;
/** @type {Int32Array} */
let words;
let thread = 0;
let threads = 1;
let seen = 0;
/** @type {Function[]} */
const functions = [];

/**
 * @typedef {{memory: WebAssembly.Memory, thread: number, threads: number}} StartMessage
 * @typedef {{modules: {module: WebAssembly.Module, functions: {index: number, name: string}[]}[]}} ModulesMessage
 */

self.onmessage = (/** @type {MessageEvent<StartMessage | ModulesMessage>} */ { data }) => {
  try {
    if ("memory" in data) start(data);
    else for (const entry of data.modules) instantiate(entry);
    self.postMessage({ ready: true });
  } catch (error) {
    self.postMessage({ ready: false, message: String(error) });
  }
  // The first message comes before any program, so nothing can be missed between it and the loop.
  serve();
};

/** @param {StartMessage} message */
function start(message) {
  ({ memory, thread, threads } = message);
  control = new Int32Array(memory.buffer, 0, CONTROL_BYTES / 4);
  words = new Int32Array(memory.buffer);
  seen = Atomics.load(control, CONTROL.WAKE);
}

/** @param {ModulesMessage["modules"][0]} entry */
function instantiate({ module, functions: names }) {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  for (const { index, name } of names) functions[index] = /** @type {Function} */ (exports[name]);
}

/** Run programs until commanded back to the event loop. */
function serve() {
  for (;;) {
    for (let i = 0; i < SPINS && Atomics.load(control, CONTROL.WAKE) === seen; i++) relax();
    Atomics.wait(control, CONTROL.WAKE, seen);
    if (Atomics.load(control, CONTROL.WAKE) === seen) continue;
    seen = Atomics.load(control, CONTROL.WAKE);
    if (control[CONTROL.COMMAND] !== COMMAND_RUN) return;
    const first = control[CONTROL.RUN_ADDRESS] >>> 2;
    const last = first + control[CONTROL.RUN_WORDS];
    if (last > words.length) {
      // Growth by another thread reaches this one's `buffer` some time later, unless it asks.
      memory.grow(0);
      words = new Int32Array(memory.buffer);
    }
    try {
      const fresh = control[CONTROL.RUN_FRESH] === 1;
      execute(words, first, last, functions, thread, threads, control, control[CONTROL.RUN_REPEAT], fresh);
    } catch (error) {
      // Recorded in the control block, where thread 0 finds it.
      if (!(error instanceof StepTrap)) throw error;
    }
  }
}
