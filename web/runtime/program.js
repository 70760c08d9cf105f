/**
 * A program is what remains of a plan when all symbols are bound: a flat Int32Array that is walked with no evaluation
 * and no look-up left. Records, one after another:
 *
 *     SINGLE or PARALLEL, function index, argument count n, tasks, step number, parts, n arguments
 *
 * One thread, the leader, walks it. A PARALLEL step is shared: of T threads, thread t has tasks ⌊tasks·t/T⌋ …
 * ⌊tasks·(t+1)/T⌋ − 1 for its own, so that it finds in its cache what it wrote the step before, and takes them in
 * `parts` parts; when it is done it helps the others. The leader publishes such a step, works on it like the others,
 * and goes on when all parts are done. It waits for no thread that has taken nothing: one that sleeps, or that the
 * system gives to somebody else, costs nothing but its help.
 *
 * A thread takes a part by counting down the claim word of the part's owner with a compare-and-exchange. The word carries
 * the number of the step and the parts that are left, and nothing else decides whether one may be taken: a thread that
 * was held up while the step ended finds none left, whatever lies by then where the record was. As long as a part is
 * taken and not done, the step stays published and its record stays where it is: it is read after taking, never before.
 */

export const SINGLE = 0;
export const PARALLEL = 1;

/** Words before a record's arguments. */
export const HEADER = 6;

/** Most threads that can share a memory. */
export const MAX_THREADS = 96;

/** Words of the control block at the start of a shared memory; what is often written has a cache line for itself. */
export const CONTROL = {
  /** Number of the latest publication; notified. */
  SEQUENCE: 0,
  /** Word in the memory at which the published record lies, or READY. */
  POSITION: 1,
  /** Letters announced so far: messages for which the other threads must go back to their event loops. */
  LETTERS: 2,
  /** Threads that sleep until the next publication. */
  SLEEPING: 16,
  /** Parts of the published step that threads other than the leader have done; notified when the leader sleeps. */
  DONE: 32,
  /** 1 while the leader sleeps. */
  LEADER_SLEEPS: 33,
  /** 1 + step number of the first step that trapped on another thread than the leader, 0 if none did. */
  FAILED_STEP: 34,
  /** Changed and notified by a client of the executor that has asked for something: see bell.js. */
  BELL: 48,
  /** Messages that clients of the executor have announced. */
  MESSAGES: 49,
  /** Claim word of thread 0; those of the others follow in a cache line each. */
  CLAIM: 64,
};
const CLAIM_STRIDE = 16;

/** Bytes of the control block. */
export const CONTROL_BYTES = 4 * (CONTROL.CLAIM + CLAIM_STRIDE * MAX_THREADS);

/** Bytes after the control block that each thread has for itself: `scratch_bytes` of the compiler's Target. */
export const SCRATCH_BYTES = 1 << 18;

/**
 * Address of a thread's scratch memory.
 * @param {number} thread
 */
export function scratchOf(thread) {
  return CONTROL_BYTES + thread * SCRATCH_BYTES;
}

/** Published before a program: a step follows soon. */
const READY = -1;

/** Low bits of a claim word count the parts left, the others are those of the step's sequence number. */
const PART_BITS = 7;
const PART_MASK = (1 << PART_BITS) - 1;

/** Most parts in which a thread takes its own tasks: those that the low bits of a claim word can count. */
export const MAX_PARTS = PART_MASK;

/**
 * Parts of a step whose kernel may be new. A browser first compiles a function in haste, and puts the optimised code in
 * its place, several times faster, only between two calls: one long call would be slow from beginning to end.
 */
const FRESH_PARTS = 32;

/** The function at slot 0 of every thread; takes any arguments and does nothing. */
export const NOTHING = () => {};

/** The slot of a thread's `toucher`. */
export const TOUCH = 1;

/** 32-bit words of a cache line. */
const LINE = 16;

/**
 * A function like a kernel's that does nothing but read memory: what it reads comes into the caches of the thread, and what
 * was there before leaves them. Task n reads the n-th of as many `bytes`.
 * @param {WebAssembly.Memory} memory
 */
export function toucher(memory) {
  let all = new Int32Array(memory.buffer);
  let found = 0;
  return (/** @type {number} */ address, /** @type {number} */ bytes, /** @type {number} */ low, /** @type {number} */ high) => {
    const first = address >>> 2;
    const step = bytes >>> 2;
    if (first + step * high > all.length) {
      // Growth by another thread reaches this one's `buffer` some time later, unless it asks.
      memory.grow(0);
      all = new Int32Array(memory.buffer);
    }
    // In locals: what belongs to the closure is loaded and stored each time, which takes ten times as long.
    const words = all;
    const end = Math.min(words.length, first + step * high);
    let sum = 0;
    for (let i = first + step * low; i < end; i += LINE) sum = (sum + words[i]) | 0;
    found = sum;
    return found;
  };
}

/**
 * The record of a step in which each of `threads` threads reads its part of some memory.
 * @param {number} address
 * @param {number} bytes
 * @param {number} threads
 */
export function touchStep(address, bytes, threads) {
  const part = 4 * LINE * Math.ceil(bytes / (4 * LINE * threads));
  return [threads > 1 ? PARALLEL : SINGLE, TOUCH, 2, threads, 0, 1, address, part];
}

/** A hint to the core that this is a spin loop, where the browser offers it: one takes about 75 ns, a plain round 15. */
const relax = /** @type {any} */ (Atomics).pause ?? (() => {});

/**
 * Rounds of polling before a thread goes to sleep, about 50 µs: to put a thread to sleep and to wake it costs as much,
 * and a longer spin takes the core from the page.
 */
const SPINS = "pause" in Atomics ? 600 : 3000;

/** Thrown for a step that trapped; `step` numbers it within its program. */
export class StepTrap extends Error {
  /** @param {number} step @param {unknown} cause */
  constructor(step, cause) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.step = step;
  }
}

/**
 * Walk a program on this thread alone.
 * @param {Int32Array} program
 * @param {number} start first word
 * @param {number} end word after the last
 * @param {Function[]} functions
 * @param {number} repeat
 * @param {boolean} fresh whether kernels may be new: see FRESH_PARTS
 * @throws {StepTrap}
 */
export function walk(program, start, end, functions, repeat, fresh) {
  for (let round = 0; round < repeat; round++) {
    for (let at = start; at < end; at += HEADER + program[at + 2]) single(program, at, functions, fresh);
  }
}

/**
 * Walk a program as the leader of several threads.
 * @param {Int32Array} control
 * @param {number} threads
 * @param {Int32Array} program in the memory that the threads share
 * @param {Function[]} functions
 * @param {number} repeat
 * @param {boolean} fresh whether kernels may be new: see FRESH_PARTS
 * @throws {StepTrap} when no thread works on the program any more
 */
export function lead(control, threads, program, functions, repeat, fresh) {
  const position = program.byteOffset >>> 2;
  Atomics.store(control, CONTROL.FAILED_STEP, 0);
  publish(control, READY, true);
  for (let round = 0; round < repeat; round++) {
    for (let at = 0; at < program.length; at += HEADER + program[at + 2]) {
      if (program[at] === SINGLE) {
        single(program, at, functions, fresh);
        continue;
      }
      if (fresh) program[at + 5] = FRESH_PARTS;
      const claim = ((Atomics.load(control, CONTROL.SEQUENCE) + 1) | 0) << PART_BITS;
      let parts = 0;
      for (let thread = 0; thread < threads; thread++) {
        const { count } = division(program, at, thread, threads);
        Atomics.store(control, CONTROL.CLAIM + CLAIM_STRIDE * thread, claim | count);
        parts += count;
      }
      Atomics.store(control, CONTROL.DONE, 0);
      // A step that is not worth more than a part may not be worth waking anybody.
      publish(control, position + at, program[at + 5] > 1);
      const { done, trap } = share(control, claim, program, at, functions, 0, threads);
      awaitOthers(control, parts - done);
      if (trap) throw trap;
      const failed = Atomics.load(control, CONTROL.FAILED_STEP);
      if (failed) throw new StepTrap(failed - 1, "trapped on a pool thread");
    }
  }
}

/**
 * Help the leader until a letter is on its way.
 * @param {Int32Array} control
 * @param {number} seen latest publication that this thread has dealt with
 * @param {number} letters that this thread has had
 * @param {(word: number) => Int32Array} memory all words of it, at least up to the given one
 * @param {Function[]} functions
 * @param {number} thread
 * @param {number} threads
 * @returns {number} the publication to go on from
 */
export function help(control, seen, letters, memory, functions, thread, threads) {
  while (Atomics.load(control, CONTROL.LETTERS) === letters) {
    for (let i = 0; i < SPINS && Atomics.load(control, CONTROL.SEQUENCE) === seen; i++) relax();
    if (Atomics.load(control, CONTROL.SEQUENCE) === seen) {
      // It counts itself before it checks the sequence a last time, so no publication is missed.
      Atomics.add(control, CONTROL.SLEEPING, 1);
      Atomics.wait(control, CONTROL.SEQUENCE, seen);
      Atomics.sub(control, CONTROL.SLEEPING, 1);
      continue;
    }
    seen = Atomics.load(control, CONTROL.SEQUENCE);
    const position = Atomics.load(control, CONTROL.POSITION);
    if (position === READY) continue;
    // Header and arguments.
    const program = memory(position + HEADER + LONGEST_ARGUMENTS);
    const { done, trap } = share(control, seen << PART_BITS, program, position, functions, thread, threads);
    if (trap) Atomics.compareExchange(control, CONTROL.FAILED_STEP, 0, trap.step + 1);
    if (done) {
      Atomics.add(control, CONTROL.DONE, done);
      if (Atomics.load(control, CONTROL.LEADER_SLEEPS)) Atomics.notify(control, CONTROL.DONE);
    }
  }
  return seen;
}

/**
 * Send the other threads back to their event loops for a message that each of them gets after this. A thread that looks
 * only after later publications still finds it by the count.
 * @param {Int32Array} control
 */
export function announceLetter(control) {
  Atomics.add(control, CONTROL.LETTERS, 1);
  publish(control, READY, true);
}

/**
 * @param {Int32Array} control
 * @param {number} position
 * @param {boolean} wake whether to wake threads that sleep
 */
function publish(control, position, wake) {
  Atomics.store(control, CONTROL.POSITION, position);
  Atomics.add(control, CONTROL.SEQUENCE, 1);
  if (wake && Atomics.load(control, CONTROL.SLEEPING)) Atomics.notify(control, CONTROL.SEQUENCE);
}

/**
 * Wait until other threads have done `parts` parts.
 * @param {Int32Array} control
 * @param {number} parts
 */
function awaitOthers(control, parts) {
  for (let i = 0; i < SPINS; i++) {
    if (Atomics.load(control, CONTROL.DONE) === parts) return;
    relax();
  }
  Atomics.store(control, CONTROL.LEADER_SLEEPS, 1);
  for (;;) {
    const done = Atomics.load(control, CONTROL.DONE);
    if (done === parts) break;
    Atomics.wait(control, CONTROL.DONE, done);
  }
  Atomics.store(control, CONTROL.LEADER_SLEEPS, 0);
}

/**
 * Do parts of a published step until all are taken, or another step is published. After a trap the rest are taken and
 * left undone.
 *
 * @param {Int32Array} control
 * @param {number} claim the step's number as claim words carry it
 * @param {Int32Array} program
 * @param {number} at the record
 * @param {Function[]} functions
 * @param {number} thread
 * @param {number} threads
 * @returns {{done: number, trap: StepTrap | null}}
 */
function share(control, claim, program, at, functions, thread, threads) {
  let done = 0;
  /** @type {StepTrap | null} */
  let trap = null;
  for (let k = 0; k < threads; k++) {
    const owner = (thread + k) % threads;
    const taken = CONTROL.CLAIM + CLAIM_STRIDE * owner;
    for (;;) {
      const word = Atomics.load(control, taken);
      const left = word & PART_MASK;
      if ((word & ~PART_MASK) !== claim || !left) break;
      if (Atomics.compareExchange(control, taken, word, word - 1) !== word) continue;
      const { first, last, size, count } = division(program, at, owner, threads);
      const low = first + (count - left) * size;
      try {
        if (!trap) call(functions[program[at + 1]], program, at + HEADER, program[at + 2], low, Math.min(low + size, last));
      } catch (cause) {
        trap = new StepTrap(program[at + 4], cause);
      }
      done += 1;
    }
  }
  return { done, trap };
}

/**
 * A thread's own tasks of a step, from `first` to before `last`, in `count` parts of `size`.
 * @param {Int32Array} program
 * @param {number} at the record
 * @param {number} owner
 * @param {number} threads
 */
function division(program, at, owner, threads) {
  const tasks = program[at + 3];
  const first = Math.floor((tasks * owner) / threads);
  const last = Math.floor((tasks * (owner + 1)) / threads);
  const size = Math.max(1, Math.ceil((last - first) / program[at + 5]));
  return { first, last, size, count: Math.ceil((last - first) / size) };
}

/**
 * Run all tasks of a step.
 * @param {Int32Array} program
 * @param {number} at the record
 * @param {Function[]} functions
 * @param {boolean} fresh
 */
function single(program, at, functions, fresh) {
  const f = functions[program[at + 1]];
  const tasks = program[at + 3];
  const part = fresh ? Math.ceil(tasks / FRESH_PARTS) : tasks;
  try {
    for (let low = 0; low < tasks; low += part) {
      call(f, program, at + HEADER, program[at + 2], low, Math.min(low + part, tasks));
    }
  } catch (cause) {
    throw new StepTrap(program[at + 4], cause);
  }
}

/** Arguments that `help` makes sure to be able to read; WebAssembly engines allow no function more. */
const LONGEST_ARGUMENTS = 1000;

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
    case 0:
      return f(low, high);
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
