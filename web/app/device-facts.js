/** What this device offers, and plain words on what it lacks. */

import { byId, h } from "./dom.js";
import * as format from "./format.js";

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
 * Which model is loaded, and the facts of the device that it runs on; folded away, what microbenchmarks found of it.
 * @param {string} name of the model
 * @param {import("../../runtime/types.js").Facts} facts
 */
export function showFacts(name, { device, threads, hardwareConcurrency, relaxedSimd, adapter, hardware, notes }) {
  const described = [adapter?.["vendor"], adapter?.["architecture"], adapter?.["description"]].filter(
    Boolean,
  );
  /** @type {[string, string][]} */
  const onDevice =
    device === "webgpu"
      ? [["Adapter", described.join(" ") || "unnamed"]]
      : [
          ["Threads", `${threads}, on ${format.plural(hardwareConcurrency, "processor")}`],
          ["Relaxed SIMD", relaxedSimd ? "yes" : "no"],
        ];
  /** @type {[string, string][]} */
  const all = [
    ["Loaded", name],
    ["Device", device === "webgpu" ? "GPU (WebGPU)" : "CPU (WebAssembly)"],
    ...onDevice,
    ...notes.map((note) => /** @type {[string, string]} */ (["Note", note])),
  ];
  fill(byId("facts", HTMLElement), all);
  const found = measured(hardware);
  fill(byId("measured-facts", HTMLElement), found);
  byId("measured", HTMLElement).hidden = found.length === 0;
}

/**
 * @param {HTMLElement} list a <dl>
 * @param {[string, string][]} facts
 */
function fill(list, facts) {
  list.replaceChildren(...facts.map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))));
}

/**
 * What microbenchmarks found, once they have run.
 * @param {Record<string, any> | undefined} hardware
 * @returns {[string, string][]}
 */
function measured(hardware) {
  if (!hardware) return [];
  const rates = hardware["bandwidth"].flatMap((/** @type {[number, number, number]} */ [, read, copied]) => [read, copied]);
  const caches = hardware["cache_bytes"].slice(0, 2).map((/** @type {number} */ size) => `${size >> 10} KB`);
  /** @type {[string, string][]} */
  const found = [
    ["Arithmetic", `${format.rate(hardware["gflops"])} GFLOP/s at most`],
    ["Memory", `${format.rate(Math.min(...rates))} to ${format.rate(Math.max(...rates))} GB/s`],
  ];
  if (hardware["vector_registers"]) found.push(["Vector registers", `${hardware["vector_registers"]}`]);
  if (caches.length > 0) found.push(["Caches of a core", caches.join(", ")]);
  return found;
}
