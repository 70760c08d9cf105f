/**
 * A program is what remains of a plan when all symbols are bound: a flat Int32Array that every thread walks, with no
 * evaluation and no look-up left. Records, one after another:
 *
 *     SINGLE, function index, argument count n, tasks, step number, n arguments
 *     PARALLEL, the same, one counter a thread
 *     BARRIER
 *
 * A SINGLE step is run by thread 0. A PARALLEL step is shared: thread t of T has tasks ⌊tasks·t/T⌋ … ⌊tasks·(t+1)/T⌋ − 1
 * for its own, so that it finds in its cache what it wrote the step before, and takes them a few at a time; when it is
 * done it helps the others, because one of two threads may have half a core. Threads meet at BARRIERs and at the end.
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
  /** 1 where kernels may be new, see FRESH_PARTS. */
  RUN_FRESH: 5,
  /** Threads that have arrived at the barrier. */
  ARRIVED: 16,
  /** Incremented when all have arrived. */
  GENERATION: 17,
  /** Threads that sleep at the barrier instead of spinning. */
  SLEEPING: 18,
  /** 1 + step number of the first step that trapped on a pool thread, 0 if none did. */
  FAILED_STEP: 32,
  /** Changed and notified by a client of the executor that has asked for something: see bell.js. */
  BELL: 48,
  /** Messages that clients of the executor have announced. */
  MESSAGES: 49,
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

/** Parts in which a thread takes its own tasks of a step: how finely another thread may help. */
const PARTS = 4;

/**
 * Parts of a step whose kernel may be new. A browser first compiles a function in haste, and puts the optimised code in
 * its place, several times faster, only between two calls: one long call would be slow from beginning to end.
 */
const FRESH_PARTS = 32;

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
 * @param {Int32Array} program in memory that the threads share, counters zero; anywhere when `control` is null
 * @param {number} start first word
 * @param {number} end word after the last
 * @param {Function[]} functions
 * @param {number} thread
 * @param {number} threads for which the program was made
 * @param {Int32Array | null} control null to walk it alone
 * @param {number} repeat
 * @param {boolean} fresh whether kernels may be new: see FRESH_PARTS
 * @throws {StepTrap}
 */
export function execute(program, start, end, functions, thread, threads, control, repeat, fresh) {
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
      const parallel = kind === PARALLEL;
      if (trap === null && (parallel || thread === 0)) {
        const f = functions[program[at + 1]];
        try {
          if (parallel && control) share(f, program, at, thread, threads, round, fresh ? FRESH_PARTS : PARTS);
          else callInParts(f, program, at, fresh ? FRESH_PARTS : 1);
        } catch (cause) {
          trap = new StepTrap(program[at + 4], cause);
          // Before the last barrier, so that thread 0 sees it there.
          if (control) Atomics.compareExchange(control, CONTROL.FAILED_STEP, 0, trap.step + 1);
        }
      }
      at += HEADER + count + (parallel ? threads : 0);
    }
    if (control) barrier(control, threads);
  }
  if (trap) throw trap;
}

/**
 * Run what this thread gets of a shared step.
 *
 * A counter counts tasks taken of one thread's own, never reset: in every round each thread takes from it until it is
 * refused once, so a round adds the same to it, whoever does the work.
 *
 * @param {Function} f
 * @param {Int32Array} program
 * @param {number} at the record
 * @param {number} thread
 * @param {number} threads
 * @param {number} round
 * @param {number} parts in which a thread takes its own tasks, the same on all threads
 */
function share(f, program, at, thread, threads, round, parts) {
  const count = program[at + 2];
  const tasks = program[at + 3];
  const counters = at + HEADER + count;
  for (let k = 0; k < threads; k++) {
    const owner = (thread + k) % threads;
    const first = Math.floor((tasks * owner) / threads);
    const last = Math.floor((tasks * (owner + 1)) / threads);
    const part = Math.max(1, Math.ceil((last - first) / parts));
    const before = round * (Math.ceil((last - first) / part) + threads) * part;
    for (;;) {
      const low = first + Atomics.add(program, counters + owner, part) - before;
      if (low >= last) break;
      call(f, program, at + HEADER, count, low, Math.min(low + part, last));
    }
  }
}

/**
 * Run all tasks of a step.
 * @param {Function} f
 * @param {Int32Array} program
 * @param {number} at the record
 * @param {number} parts
 */
function callInParts(f, program, at, parts) {
  const count = program[at + 2];
  const tasks = program[at + 3];
  const part = Math.ceil(tasks / parts);
  for (let low = 0; low < tasks; low += part) call(f, program, at + HEADER, count, low, Math.min(low + part, tasks));
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
