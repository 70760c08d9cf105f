/** Opening the device that a caller asked for. */

import { DeviceError } from "./errors.js";
import { WasmDevice } from "./wasm-device.js";

/**
 * @param {{device: string, threads: number | null | undefined, poolUrl: string, quarantineUrl: string}} options `device`: "auto", "wasm" or "webgpu"
 * @returns {Promise<import("./types.js").Device>}
 * @throws {DeviceError} when it is not there, or `threads` is no number of threads
 */
export async function openDevice({ device, threads, poolUrl, quarantineUrl }) {
  if (threads != null && !(Number.isInteger(threads) && threads > 0)) {
    throw new DeviceError(
      `${JSON.stringify(threads)} is no number of threads: give a whole number from 1 on, or none, for as many as suit ` +
        `the machine.`,
    );
  }
  if (device === "webgpu") {
    const { LastingGpu } = await import("./lasting-gpu.js");
    return LastingGpu.open();
  }
  if (device === "wasm" || device === "auto") return WasmDevice.open({ threads: threads ?? null, poolUrl, quarantineUrl });
  throw new DeviceError(`There is no device ${JSON.stringify(device)}: choose "auto", "wasm" or "webgpu".`);
}
