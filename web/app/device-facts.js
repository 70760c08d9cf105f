/** What this device offers, and plain words on what it lacks. */

import { h } from "./dom.js";

/**
 * Things that a person should know before loading a model: no threads, no WebGPU, a GPU in software.
 * @returns {Promise<string[]>}
 */
export async function notices() {
  const found = [];
  if (!globalThis.crossOriginIsolated) {
    found.push(
      "Threads are unavailable: the page is not cross-origin isolated, so the CPU device runs one thread. " +
        "Serve the page with the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp.",
    );
  }
  const gpu = await gpuState();
  if (gpu === "missing") found.push("WebGPU is not available in this browser: models run on the CPU.");
  if (gpu === "none") found.push("This browser has WebGPU, but offers no adapter: models run on the CPU.");
  if (gpu === "software")
    found.push("The GPU here is a software adapter: it computes on the CPU, correctly but slowly.");
  return found;
}

/** @returns {Promise<"hardware" | "software" | "none" | "missing">} */
export async function gpuState() {
  const gpu = navigator.gpu;
  if (!gpu) return "missing";
  try {
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) return "none";
    const { architecture, description, vendor } = adapter.info;
    const fallback = adapter.info.isFallbackAdapter;
    return fallback || /swiftshader|llvmpipe|software/i.test(`${vendor} ${architecture} ${description}`)
      ? "software"
      : "hardware";
  } catch {
    return "none";
  }
}

/**
 * The facts of the device that a model runs on, as a definition list.
 * @param {HTMLElement} list a <dl>
 * @param {any} device from the model's report
 */
export function showFacts(list, device) {
  const adapter =
    typeof device.adapter === "string"
      ? device.adapter
      : [device.adapter?.vendor, device.adapter?.architecture, device.adapter?.description]
          .filter(Boolean)
          .join(" ");
  /** @type {[string, string | undefined][]} */
  const facts = [
    ["Device", device.device === "webgpu" ? "GPU (WebGPU)" : "CPU (WebAssembly)"],
    [
      "Threads",
      device.device === "webgpu"
        ? undefined
        : `${device.threads} of ${device.hardwareConcurrency ?? navigator.hardwareConcurrency}`,
    ],
    ["Relaxed SIMD", device.device === "webgpu" ? undefined : device.relaxedSimd ? "yes" : "no"],
    ["Adapter", device.device === "webgpu" ? adapter || "unnamed" : undefined],
    ...(device.notes ?? []).map((/** @type {string} */ note) => ["Note", note]),
  ];
  list.replaceChildren(
    ...facts.flatMap(([term, text]) =>
      text === undefined ? [] : [h("div", {}, h("dt", {}, term), h("dd", {}, text))],
    ),
  );
}
