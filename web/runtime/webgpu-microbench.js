/** Microbenchmarks on the GPU: kernels that nnjit/tune/microbench.py describes, timed in buffers of their own. */

import { Program } from "./webgpu-program.js";
import { Stopwatch } from "./webgpu-timing.js";

/** @typedef {import("./webgpu-device.js").WebGpuDevice} WebGpuDevice */
/** @typedef {import("./types.js").Probe} Probe */

const SAMPLES = 3;

/**
 * @param {WebGpuDevice} device
 * @param {Probe} probe
 * @param {import("./types.js").Pause} pause
 * @returns {Promise<(number | null)[]>} milliseconds of one execution of each experiment, the least of several; null
 *   for one that the device cannot hold, or that a quick one before it did not call for
 */
export async function microbench(device, probe, pause) {
  const { context } = device;
  const kernels = await device.pipelines.compile(probe.kernels);
  const { maxStorageBufferBindingSize, maxBufferSize } = context.device.limits;
  const bytes = Math.min(probe.bytes, maxStorageBufferBindingSize, maxBufferSize);
  const stopwatch = await Stopwatch.create(context);
  /** @type {(number | null)[]} */
  const times = [];
  const buffers = [0, 1].map(() => context.storage(bytes, "microbenchmark"));
  try {
    for (const { step, after } of probe.experiments) {
      const before = after === null ? 0 : times[after];
      if (!step || before === null || before > probe.quickMs) {
        times.push(null);
        continue;
      }
      const locate = (/** @type {string | number} */ id) => ({ buffer: buffers[id === "in" ? 0 : 1], offset: 0, bytes, storage: "f32" });
      const program = new Program(context, [[step]], kernels, {}, locate);
      try {
        let best = await stopwatch.time(program, 0, 1, 1);
        for (let sample = 0; sample < SAMPLES; sample++) {
          await pause();
          // A clock that browsers round says 0 for what is short: the next sample repeats it more often.
          const ms = await stopwatch.time(program, 0, 1, stopwatch.repeats(best, 1));
          best = best > 0 ? Math.min(best, ms) : ms;
        }
        times.push(best > 0 ? best : null);
      } finally {
        program.dispose();
      }
    }
  } finally {
    for (const buffer of buffers) context.destroy(buffer);
    stopwatch.dispose();
  }
  return times;
}
