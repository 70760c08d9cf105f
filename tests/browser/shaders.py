"""Runs one kernel as a WGSL shader in a page and gives its buffers back as numpy arrays."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from nnjit import ir
from nnjit.emit.wgsl import INVOCATIONS, emit_shader
from nnjit.symbolic import evaluate
from nnjit.target import Target

if TYPE_CHECKING:
    from playwright.sync_api import Page

TARGET = Target(device="webgpu")
STORED = {"f32": np.float32, "i32": np.int32, "u32": np.uint32}

SCRIPT = """
window.bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
window.textOf = (bytes) => {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
};
window.ready = (async () => {
  const adapter = await navigator.gpu.requestAdapter();
  return await adapter.requestDevice();
})();
window.dispatch = async ({ wgsl, buffers, params, groups }) => {
  const device = await window.ready;
  const usage = GPUBufferUsage;
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code: wgsl });
  const messages = (await module.getCompilationInfo()).messages.map((m) => `${m.lineNum}: ${m.message}`);
  if (messages.length) { await device.popErrorScope(); return { error: messages.join("\\n") }; }
  const make = (bytes, flags) => {
    const buffer = device.createBuffer({ size: Math.max(16, Math.ceil(bytes.length / 16) * 16), usage: flags });
    device.queue.writeBuffer(buffer, 0, bytes);
    return buffer;
  };
  const inputs = buffers.map((b) => window.bytesOf(b));
  const storage = inputs.map((b) => make(b, usage.STORAGE | usage.COPY_DST | usage.COPY_SRC));
  const uniform = make(window.bytesOf(params), usage.UNIFORM | usage.COPY_DST);
  const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [...storage, uniform].map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(...groups);
  pass.end();
  const copies = storage.map((buffer) => {
    const copy = device.createBuffer({ size: buffer.size, usage: usage.MAP_READ | usage.COPY_DST });
    encoder.copyBufferToBuffer(buffer, 0, copy, 0, buffer.size);
    return copy;
  });
  device.queue.submit([encoder.finish()]);
  const error = await device.popErrorScope();
  if (error) return { error: error.message };
  const outputs = [];
  for (const [i, copy] of copies.entries()) {
    await copy.mapAsync(GPUMapMode.READ);
    outputs.push(window.textOf(new Uint8Array(copy.getMappedRange()).slice(0, inputs[i].length)));
    copy.destroy();
  }
  for (const buffer of [...storage, uniform]) buffer.destroy();
  return { outputs };
};
"""
PAGE = f"<!doctype html><title>shaders</title><script>{SCRIPT}</script>".encode()


class ShaderRunner:
    """A page with a GPU device."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(url)

    def run(
        self, kernel: ir.Kernel, arrays: Mapping[str, np.ndarray], symbols: Mapping[str, int] | None = None
    ) -> dict[str, np.ndarray]:
        """The arrays (in GPU storage dtypes) after the kernel ran over all of its tasks."""
        symbols = symbols or {}
        tasks = evaluate(kernel.tasks, symbols)
        count = -(-tasks // (INVOCATIONS if kernel.workgroup == 1 else 1))
        rows = -(-count // 65535)
        params = np.array([*(symbols[name] for name in kernel.symbols), tasks], np.int32).tobytes()
        params += np.array([np.inf, np.nan], np.float32).tobytes()
        names = [b.name for b in kernel.buffers]
        wgsl = emit_shader(kernel, TARGET)
        result = self.page.evaluate(
            "(request) => window.dispatch(request)",
            {
                "wgsl": wgsl,
                "buffers": [base64.b64encode(arrays[n].tobytes()).decode() for n in names],
                "params": base64.b64encode(params).decode(),
                "groups": [-(-count // rows), rows],
            },
        )
        if "error" in result:
            raise AssertionError(f"{result['error']}\n{wgsl}")
        return {
            n: np.frombuffer(base64.b64decode(text), arrays[n].dtype).reshape(arrays[n].shape)
            for n, text in zip(names, result["outputs"], strict=True)
        }
