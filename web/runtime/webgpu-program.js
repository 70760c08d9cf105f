/**
 * A program is what remains of steps when all symbols are bound: dispatches with pipeline, bind group and size, ready
 * to be recorded.
 */

import { bytesOf } from "./dtypes.js";
import { VerificationError } from "./errors.js";
import { evaluate } from "./expressions.js";
import { storageBytes } from "./webgpu-context.js";

/** @typedef {import("./types.js").Step} Step */
/** @typedef {import("./types.js").Environment} Environment */
/** @typedef {import("./webgpu-pipelines.js").Compiled} Compiled */
/** @typedef {string | number} Id */
/** @typedef {{buffer: GPUBuffer, offset: number, bytes: number, storage: string, slack?: number}} Place Of a tensor: `bytes`
 *   are the tensor's, `slack` those after it that its binding lets kernels reach (none, unless writes there are looked for) */
/** @typedef {{pipeline: GPUComputePipeline, group: GPUBindGroup, x: number, y: number, work: number}} Dispatch */

/** Submit when this much work is recorded, in floating-point operations or bytes: the GPU starts while the rest is recorded. */
const SUBMIT_WORK = 2e9;

export class Program {
  /**
   * @param {import("./webgpu-context.js").GpuContext} context
   * @param {Step[][]} ranges runs of steps that may be run on their own, e.g. one for each unit
   * @param {Compiled[]} kernels
   * @param {Environment} environment
   * @param {(id: Id) => Place} locate
   */
  constructor(context, ranges, kernels, environment, locate) {
    this.context = context;
    const { device } = context;
    const align = device.limits.minUniformBufferOffsetAlignment;
    /** @type {Map<string, number>} uniform data → offset */
    const offsets = new Map();
    let bytes = 0;
    /** @type {{step: Step, tasks: number, offset: number, size: number}[][]} */
    const bound = ranges.map((steps) =>
      steps.flatMap((step) => {
        const tasks = evaluate(step.tasks, environment);
        if (tasks <= 0) return [];
        const words = [...step.symbols.map((symbol) => evaluate(symbol, environment)), tasks];
        const key = words.join();
        const size = Math.ceil(((words.length + 2) * 4) / 16) * 16;
        let offset = offsets.get(key);
        if (offset === undefined) {
          offset = bytes;
          offsets.set(key, offset);
          bytes += Math.ceil(size / align) * align;
        }
        return [{ step, tasks, offset, size }];
      }),
    );
    /** @type {GPUBuffer} */
    this.uniforms = context.create({
      size: Math.max(bytes, 16),
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
      label: "uniforms",
    });
    const data = new Int32Array(this.uniforms.size / 4);
    const floats = new Float32Array(data.buffer);
    for (const [key, offset] of offsets) {
      const words = key.split(",").map(Number);
      data.set(words, offset / 4);
      // What WGSL cannot write down: see nnjit/emit/wgsl.py.
      floats.set([Infinity, NaN], offset / 4 + words.length);
    }
    context.write(this.uniforms, data);
    /** @type {Dispatch[]} */
    this.dispatches = [];
    /** First dispatch of each range, and the end of the last. */
    this.starts = [0];
    for (const range of bound) {
      for (const { step, tasks, offset, size } of range) {
        const compiled = kernels[step.kernel];
        const uniform = { buffer: this.uniforms, offset, size };
        const group = bindGroup(device, compiled, step, environment, locate, uniform);
        const groups = Math.ceil(tasks / compiled.invocations);
        const y = Math.ceil(groups / device.limits.maxComputeWorkgroupsPerDimension);
        const moved = evaluate(step.read, environment) + evaluate(step.written, environment);
        const work = Math.max(evaluate(step.flops, environment), moved);
        this.dispatches.push({ pipeline: compiled.pipeline, group, x: Math.ceil(groups / y), y, work });
      }
      this.starts.push(this.dispatches.length);
    }
  }

  /**
   * Record ranges [first, last) `repeat` times into `pass`.
   * @param {GPUComputePassEncoder} pass
   * @param {number} first
   * @param {number} last
   * @param {number} repeat
   */
  record(pass, first, last, repeat) {
    const end = this.starts[last];
    for (let round = 0; round < repeat; round++) {
      for (let i = this.starts[first]; i < end; i++) {
        const { pipeline, group, x, y } = this.dispatches[i];
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(x, y);
      }
    }
  }

  /**
   * Run ranges [first, last); `finish` may record more into the last submission.
   * @template [T=void]
   * @param {number} first
   * @param {number} last
   * @param {(encoder: GPUCommandEncoder) => T} [finish]
   * @returns {T} what `finish` gave
   */
  submit(first, last, finish) {
    const { device } = this.context;
    let encoder = device.createCommandEncoder();
    let pass = encoder.beginComputePass();
    let work = 0;
    const end = this.starts[last];
    for (let i = this.starts[first]; i < end; i++) {
      const dispatch = this.dispatches[i];
      pass.setPipeline(dispatch.pipeline);
      pass.setBindGroup(0, dispatch.group);
      pass.dispatchWorkgroups(dispatch.x, dispatch.y);
      work += dispatch.work;
      if (work >= SUBMIT_WORK && i + 1 < end) {
        pass.end();
        device.queue.submit([encoder.finish()]);
        encoder = device.createCommandEncoder();
        pass = encoder.beginComputePass();
        work = 0;
      }
    }
    pass.end();
    const result = finish?.(encoder);
    device.queue.submit([encoder.finish()]);
    return /** @type {T} */ (result);
  }

  dispose() {
    this.context.destroy(this.uniforms);
  }
}

/**
 * @param {GPUDevice} device
 * @param {Compiled} compiled
 * @param {Step} step
 * @param {Environment} environment
 * @param {(id: Id) => Place} locate
 * @param {GPUBufferBinding} uniform
 */
function bindGroup(device, compiled, step, environment, locate, uniform) {
  if (step.buffers.length !== compiled.access.length) {
    throw new VerificationError(
      `A step passes ${step.buffers.length} buffers to a kernel that has ${compiled.access.length}.`,
    );
  }
  const align = device.limits.minStorageBufferOffsetAlignment;
  /** @type {Map<GPUBuffer, boolean>} */
  const writable = new Map();
  /** @type {GPUBindGroupEntry[]} */
  const entries = step.buffers.map(([id, elements], binding) => {
    const { buffer, offset, bytes, storage, slack = 0 } = locate(id);
    const skipped = evaluate(elements, environment) * bytesOf(storage);
    const at = offset + skipped;
    if (at % align) {
      throw new VerificationError(`The plan binds the buffer ${id} at byte ${at}, which is not a multiple of ${align}.`);
    }
    const writes = compiled.access[binding] !== "r";
    const other = writable.get(buffer);
    if (other !== undefined && (other || writes)) {
      throw new VerificationError(`A step writes the buffer ${id}, which it binds twice: WebGPU does not allow that.`);
    }
    writable.set(buffer, writes);
    return { binding, resource: { buffer, offset: at, size: storageBytes(bytes - skipped) + slack } };
  });
  entries.push({ binding: entries.length, resource: uniform });
  return device.createBindGroup({ layout: compiled.layout, entries });
}
