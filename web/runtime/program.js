/**
 * A program is what remains of a plan when all symbols are bound: a flat Int32Array that every thread walks, with no
 * evaluation and no look-up left. Records, one after another:
 *
 *     KIND, function index, argument count n, tasks, step number, n arguments
 *     BARRIER
 *
 * A PARALLEL step is shared: thread t of T runs tasks ⌊tasks·t/T⌋ … ⌊tasks·(t+1)/T⌋ − 1. A SINGLE step is run by thread
 * 0. Threads meet at BARRIERs and at the end of the program.
 */

export const SINGLE = 0;
export const PARALLEL = 1;
export const BARRIER = 2;

/** Words before a record's arguments. */
export const HEADER = 5;

/**
 * Words of the control block at the start of a shared memory. RUN_* describe the program that the pool is to walk.
 */
export const CONTROL = {
  /** Incremented to wake the pool. */
  WAKE: 0,
  /** COMMAND_RUN or COMMAND_YIELD. */
  COMMAND: 1,
  RUN_ADDRESS: 2,
  RUN_WORDS: 3,
  RUN_REPEAT: 4,
  /** Threads that have arrived at the barrier. */
  ARRIVED: 16,
  /** Incremented when all have arrived. */
  GENERATION: 17,
  /** Threads that sleep at the barrier instead of spinning. */
  SLEEPING: 18,
  /** 1 + step number of the first step that trapped on a pool thread, 0 if none did. */
  FAILED_STEP: 32,
};

/** Bytes of the control block. */
export const CONTROL_BYTES = 1024;

export const COMMAND_RUN = 1;
/** Go back to the event loop, where a message waits. */
export const COMMAND_YIELD = 2;

/** A hint to the core that this is a spin loop, where the browser offers it: one takes about 75 ns, a plain round 15. */
export const relax = /** @type {any} */ (Atomics).pause ?? (() => {});

/**
 * Rounds of polling before a thread goes to sleep, about 50 µs: to put a thread to sleep and to wake it costs as much,
 * and a longer spin takes the core from the page.
 */
export const SPINS = "pause" in Atomics ? 600 : 3000;

/**
 * Wait until all `threads` have called this.
 * @param {Int32Array} control
 * @param {number} threads
 */
export function barrier(control, threads) {
  const generation = Atomics.load(control, CONTROL.GENERATION);
  if (Atomics.add(control, CONTROL.ARRIVED, 1) === threads - 1) {
    Atomics.store(control, CONTROL.ARRIVED, 0);
    Atomics.add(control, CONTROL.GENERATION, 1);
    // A thread counts itself among the sleepers before it checks the generation a last time, so none is missed.
    if (Atomics.load(control, CONTROL.SLEEPING) !== 0) Atomics.notify(control, CONTROL.GENERATION);
    return;
  }
  for (let i = 0; i < SPINS; i++) {
    if (Atomics.load(control, CONTROL.GENERATION) !== generation) return;
    relax();
  }
  Atomics.add(control, CONTROL.SLEEPING, 1);
  while (Atomics.load(control, CONTROL.GENERATION) === generation) {
    Atomics.wait(control, CONTROL.GENERATION, generation);
  }
  Atomics.sub(control, CONTROL.SLEEPING, 1);
}

/** Thrown for a step that trapped; `step` numbers it within its program. */
export class StepTrap extends Error {
  /** @param {number} step @param {unknown} cause */
  constructor(step, cause) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.step = step;
  }
}

/**
 * Walk a program as one of several threads, `repeat` times. A step that traps does not stop the walk, because the
 * other threads wait at the barriers; the remaining steps are skipped.
 *
 * @param {Int32Array} program
 * @param {number} start first word
 * @param {number} end word after the last
 * @param {Function[]} functions
 * @param {number} thread
 * @param {number} threads
 * @param {Int32Array | null} control null with one thread
 * @param {number} repeat
 * @throws {StepTrap}
 */
export function execute(program, start, end, functions, thread, threads, control, repeat) {
  /** @type {StepTrap | null} */
  let trap = null;
  for (let round = 0; round < repeat; round++) {
    let at = start;
    while (at < end) {
      const kind = program[at];
      if (kind === BARRIER) {
        if (control) barrier(control, threads);
        at += 1;
        continue;
      }
      const count = program[at + 2];
      if (trap === null && (kind === PARALLEL || thread === 0)) {
        const tasks = program[at + 3];
        let low = 0;
        let high = tasks;
        if (kind === PARALLEL && threads > 1) {
          low = Math.floor((tasks * thread) / threads);
          high = Math.floor((tasks * (thread + 1)) / threads);
        }
        if (low < high) {
          try {
            call(functions[program[at + 1]], program, at + HEADER, count, low, high);
          } catch (cause) {
            trap = new StepTrap(program[at + 4], cause);
            // Before the last barrier, so that thread 0 sees it there.
            if (control) Atomics.compareExchange(control, CONTROL.FAILED_STEP, 0, trap.step + 1);
          }
        }
      }
      at += HEADER + count;
    }
    if (control) barrier(control, threads);
  }
  if (trap) throw trap;
}

/**
 * Call a kernel. Spreading an array into a call costs ten times a plain one, so the usual counts are spelled out.
 *
 * @param {Function} f
 * @param {Int32Array} p
 * @param {number} i first argument
 * @param {number} count
 * @param {number} low
 * @param {number} high
 */
function call(f, p, i, count, low, high) {
  switch (count) {
    case 1:
      return f(p[i], low, high);
    case 2:
      return f(p[i], p[i + 1], low, high);
    case 3:
      return f(p[i], p[i + 1], p[i + 2], low, high);
    case 4:
      return f(p[i], p[i + 1], p[i + 2], p[i + 3], low, high);
    case 5:
      return f(p[i], p[i + 1], p[i + 2], p[i + 3], p[i + 4], low, high);
    case 6:
      return f(p[i], p[i + 1], p[i + 2], p[i + 3], p[i + 4], p[i + 5], low, high);
    case 7:
      return f(p[i], p[i + 1], p[i + 2], p[i + 3], p[i + 4], p[i + 5], p[i + 6], low, high);
    case 8:
      return f(p[i], p[i + 1], p[i + 2], p[i + 3], p[i + 4], p[i + 5], p[i + 6], p[i + 7], low, high);
    default:
      return f(...p.subarray(i, i + count), low, high);
  }
}
