/** Opening the device that a caller asked for. */

import { DeviceError } from "./errors.js";
import { WasmDevice } from "./wasm-device.js";

/**
 * @param {{device: string, threads: number | null, poolUrl: string}} options `device`: "auto", "wasm" or "webgpu"
 * @returns {Promise<import("./types.js").Device>}
 * @throws {DeviceError} when it is not there
 */
export async function openDevice({ device, threads, poolUrl }) {
  if (device === "webgpu") {
    const { WebGpuDevice } = await import("./webgpu-device.js");
    return WebGpuDevice.open();
  }
  if (device === "wasm" || device === "auto") return WasmDevice.open({ threads, poolUrl });
  throw new DeviceError(`There is no device ${JSON.stringify(device)}: choose "auto", "wasm" or "webgpu".`);
}
