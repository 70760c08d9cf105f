/**
 * Microbenchmarks on the CPU device: kernels that nnjit/tune/microbench.py describes are timed in memory above the
 * persistent data, where nothing outlives an inference.
 */

import { alignUp, SLACK } from "./placement.js";
import { HEADER, PARALLEL } from "./program.js";
import { ProgramBuilder } from "./program-builder.js";
import { sample, warmUp } from "./timing.js";
import { instantiate } from "./wasm-kernels.js";

/** @typedef {import("./wasm-device.js").WasmDevice} WasmDevice */
/** @typedef {import("./types.js").Probe} Probe */

const SAMPLES = 4;
/** Bytes that are written between two pauses. */
const PIECE = 1 << 20;
/** Bytes for the program that the pool reads. */
const PROGRAM_BYTES = 4096;

/**
 * @param {WasmDevice} device
 * @param {Probe} probe
 * @param {import("./types.js").Pause} pause
 * @returns {Promise<(number | null)[]>} milliseconds of one execution of each experiment, the least of several
 */
export async function microbench(device, probe, pause) {
  const slots = await instantiate(device.pool, /** @type {any} */ (probe), probe.blobs, 0);
  const ground = new Ground(device, probe.bytes, pause);
  /** @type {(number | null)[]} */
  const times = [];
  /** @type {Set<number | undefined>} */
  const warm = new Set();
  try {
    for (const experiment of probe.experiments) {
      const laid = new Laid(device, probe, experiment, slots, ground);
      const time = (/** @type {number} */ repeat) => laid.time(repeat);
      const kernel = experiment.step?.kernel;
      let best = await warmUp(time, pause, warm.has(kernel));
      warm.add(kernel);
      for (let n = 0; n < SAMPLES; n++) {
        await pause();
        best = Math.min(best, await sample(time, best));
      }
      times.push(best);
    }
  } finally {
    device.pool.release(slots);
  }
  return times;
}

/** Memory above the persistent data, which moves when that grows meanwhile. */
class Ground {
  /**
   * @param {WasmDevice} device
   * @param {number} bytes of each of two buffers
   * @param {import("./types.js").Pause} pause
   */
  constructor(device, bytes, pause) {
    this.device = device;
    this.pause = pause;
    this.bytes = alignUp(bytes + SLACK);
    this.epoch = NaN;
    /** Address of the program that the pool reads. */
    this.program = 0;
    /** Addresses of the buffers "in" and "out". */
    this.in = 0;
    this.out = 0;
  }

  async settle() {
    const { memory } = this.device;
    while (this.epoch !== memory.epoch) {
      const { epoch } = memory;
      this.program = alignUp(memory.top);
      this.in = alignUp(this.program + PROGRAM_BYTES);
      this.out = this.in + this.bytes;
      const end = this.out + this.bytes;
      memory.ensure(end);
      // Pages that were never written all share one that is, and so would seem to fit the nearest cache.
      for (let at = this.in; at < end && epoch === memory.epoch; at += PIECE) {
        memory.bytes.fill(0, at, Math.min(at + PIECE, end));
        await this.pause();
      }
      this.epoch = epoch;
    }
    // What `measure` left above the arena may lie here.
    this.device.disturbances += 1;
  }
}

/** An experiment as a program for the pool. */
class Laid {
  /**
   * @param {WasmDevice} device
   * @param {Probe} probe
   * @param {import("./types.js").Experiment} experiment
   * @param {number[]} slots
   * @param {Ground} ground
   */
  constructor(device, probe, experiment, slots, ground) {
    this.device = device;
    this.probe = probe;
    this.experiment = experiment;
    this.slots = slots;
    this.ground = ground;
    this.epoch = NaN;
    this.words = new Int32Array(0);
    this.shared = false;
  }

  async lay() {
    const { device, probe, slots, ground } = this;
    const { barriers, step } = this.experiment;
    await ground.settle();
    this.epoch = ground.epoch;
    if (barriers) {
      // Steps that call NOTHING, one task for each thread.
      const record = [PARALLEL, 0, 0, device.pool.threads, 0, 1];
      this.words = Int32Array.from({ length: barriers * HEADER }, (_, i) => record[i % HEADER]);
      this.shared = true;
    } else if (step) {
      const builder = new ProgramBuilder(step.flops ? device.pool.threads : 1);
      const locate = (/** @type {string | number} */ id) => {
        const address = id === "in" ? ground.in : ground.out;
        return { address, bytes: probe.bytes, storage: "f32" };
      };
      builder.add(step, slots[step.kernel], {}, locate);
      this.words = builder.finish();
      this.shared = builder.shared;
    }
  }

  /**
   * Milliseconds of one execution.
   * @param {number} repeat
   */
  async time(repeat) {
    if (this.epoch !== this.device.memory.epoch) await this.lay();
    const start = performance.now();
    this.device.pool.run(this.words, 0, this.words.length, this.ground.program, repeat, this.shared);
    return (performance.now() - start) / repeat;
  }
}
