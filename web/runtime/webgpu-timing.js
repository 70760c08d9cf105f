/**
 * Timing on the GPU. The clock is the device's own (timestamp queries) where there is one, else the page's, less what an
 * empty submission takes. Browsers round either, to 100 µs by default, so a sample repeats its work.
 */

import { median } from "./timing.js";

/** @typedef {import("./webgpu-program.js").Program} Program */

/** A sample lasts about this long, ms. */
export const SAMPLE_MS = 5;

/** Dispatches that one submission may hold. */
const MAX_DISPATCHES = 20000;
const EMPTY_SUBMISSIONS = 9;

export class Stopwatch {
  /** @param {import("./webgpu-context.js").GpuContext} context */
  constructor(context) {
    this.context = context;
    /** @type {{set: GPUQuerySet, buffer: GPUBuffer} | null} */
    this.queries = null;
    /** ms of an empty submission, when the page's clock is used */
    this.overhead = 0;
  }

  /** @param {import("./webgpu-context.js").GpuContext} context */
  static async create(context) {
    const watch = new Stopwatch(context);
    if (context.device.features.has("timestamp-query")) {
      const usage = GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC;
      watch.queries = {
        set: context.device.createQuerySet({ type: "timestamp", count: 2 }),
        buffer: context.create({ size: 16, usage, label: "timestamps" }),
      };
    } else {
      const empty = [];
      for (let i = 0; i < EMPTY_SUBMISSIONS; i++) empty.push(await watch.wall((pass) => void pass));
      watch.overhead = median(empty);
    }
    return watch;
  }

  /**
   * Milliseconds of one execution of ranges [first, last), run `repeat` times in one submission.
   * @param {Program} program
   * @param {number} first
   * @param {number} last
   * @param {number} repeat
   */
  async time(program, first, last, repeat) {
    /** @param {GPUComputePassEncoder} pass */
    const record = (pass) => program.record(pass, first, last, repeat);
    const total = this.queries ? await this.onDevice(record) : (await this.wall(record)) - this.overhead;
    return Math.max(total, 0) / repeat;
  }

  /**
   * Executions for a sample of SAMPLE_MS.
   * @param {number} ms of one execution
   * @param {number} dispatches in one execution
   */
  repeats(ms, dispatches) {
    const most = Math.max(1, Math.floor(MAX_DISPATCHES / Math.max(dispatches, 1)));
    return Math.max(1, Math.min(most, Math.round(SAMPLE_MS / Math.max(ms, 1e-4))));
  }

  /** @param {(pass: GPUComputePassEncoder) => void} record */
  async wall(record) {
    const { context } = this;
    await context.settle();
    const encoder = context.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    record(pass);
    pass.end();
    const commands = encoder.finish();
    const start = performance.now();
    context.device.queue.submit([commands]);
    await context.settle();
    return performance.now() - start;
  }

  /** @param {(pass: GPUComputePassEncoder) => void} record */
  async onDevice(record) {
    const { context } = this;
    const { set, buffer } = /** @type {{set: GPUQuerySet, buffer: GPUBuffer}} */ (this.queries);
    const encoder = context.device.createCommandEncoder();
    const pass = encoder.beginComputePass({
      timestampWrites: { querySet: set, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
    });
    record(pass);
    pass.end();
    encoder.resolveQuerySet(set, 0, 2, buffer, 0);
    const staging = context.stage(encoder, [{ buffer, offset: 0, bytes: 16 }]);
    context.device.queue.submit([encoder.finish()]);
    const [start, end] = new BigUint64Array((await staging.take())[0]);
    return Number(end - start) / 1e6;
  }

  dispose() {
    if (!this.queries) return;
    this.queries.set.destroy();
    this.context.destroy(this.queries.buffer);
  }
}
