/**
 * Compute pipelines, compiled without blocking and kept by their text: equal kernels of a model, and of the plans that
 * follow, share one.
 */

import { VerificationError } from "./errors.js";

/** @typedef {import("./types.js").KernelSpec} KernelSpec */
/** @typedef {{pipeline: GPUComputePipeline, layout: GPUBindGroupLayout, access: string, invocations: number}} Compiled
 *   `access`: one of r, w, or + (both) for each buffer; `invocations`: tasks that a workgroup runs */

/** Tasks of a workgroup of a kernel that asks for none (nnjit/emit/wgsl.py: INVOCATIONS). */
const INVOCATIONS = 64;

export class Pipelines {
  /** @param {import("./webgpu-context.js").GpuContext} context */
  constructor(context) {
    this.context = context;
    /** @type {Map<string, Promise<Compiled>>} */
    this.compiled = new Map();
    /** @type {Map<string, {bindings: GPUBindGroupLayout, pipeline: GPUPipelineLayout}>} */
    this.layouts = new Map();
  }

  /**
   * The kernels' pipelines, compiled at the same time.
   * @param {KernelSpec[]} kernels
   * @returns {Promise<Compiled[]>}
   */
  async compile(kernels) {
    const { context } = this;
    const all = kernels.map((kernel) => {
      const key = `${kernel.workgroup ?? 1} ${accessOf(kernel)} ${kernel.wgsl}`;
      let found = this.compiled.get(key);
      if (!found) {
        found = this.create(kernel);
        this.compiled.set(key, found);
        found.catch(() => this.compiled.delete(key));
      }
      return found;
    });
    return context.guard(Promise.all(all));
  }

  /**
   * @param {KernelSpec} kernel
   * @returns {Promise<Compiled>}
   */
  async create(kernel) {
    const { device } = this.context;
    const access = accessOf(kernel);
    const layout = this.layout(access);
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ code: kernel.wgsl ?? "", label: kernel.name });
    const moduleError = device.popErrorScope();
    try {
      const pipeline = await device.createComputePipelineAsync({
        label: kernel.name,
        layout: layout.pipeline,
        compute: { module, entryPoint: "main" },
      });
      const workgroup = kernel.workgroup ?? 1;
      return { pipeline, layout: layout.bindings, access, invocations: workgroup === 1 ? INVOCATIONS : 1 };
    } catch (cause) {
      this.context.check();
      const { messages } = await module.getCompilationInfo();
      const said = messages.filter(({ type }) => type === "error").map((m) => `line ${m.lineNum}: ${m.message}`);
      const fallback = (await moduleError)?.message ?? (cause instanceof Error ? cause.message : String(cause));
      throw new VerificationError(
        `The GPU compiler refused the kernel ${kernel.name}: ${said.length ? said.join("; ") : fallback}`,
        { cause },
      );
    }
  }

  /**
   * Explicit, because a derived layout leaves out the bindings that a shader does not use.
   * @param {string} access
   */
  layout(access) {
    let found = this.layouts.get(access);
    if (!found) {
      const { device } = this.context;
      /** @type {GPUBindGroupLayoutEntry[]} */
      const entries = [...access].map((letter, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: letter === "r" ? "read-only-storage" : "storage" },
      }));
      entries.push({ binding: access.length, visibility: GPUShaderStage.COMPUTE, buffer: { type: "uniform" } });
      const bindings = device.createBindGroupLayout({ entries });
      found = { bindings, pipeline: device.createPipelineLayout({ bindGroupLayouts: [bindings] }) };
      this.layouts.set(access, found);
    }
    return found;
  }
}

/** @param {KernelSpec} kernel */
function accessOf(kernel) {
  return (kernel.buffers ?? []).map(({ access }) => (access === "rw" ? "+" : access)).join("");
}
