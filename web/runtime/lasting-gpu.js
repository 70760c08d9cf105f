/**
 * A GPU device that outlives its loss. Browsers take a device away when a shader runs too long, a driver is updated or a
 * laptop changes its GPU. The next call then gets another one, with the model's files, plans and swapped-in kernels as
 * they were, and is repeated, once. Where that fails, too, the caller learns that the device was lost.
 */

import { DeviceError } from "./errors.js";
import { WebGpuDevice } from "./webgpu-device.js";

/** @typedef {import("./types.js").Device} Device */

/** @implements {Device} */
export class LastingGpu {
  /** @param {WebGpuDevice} device */
  constructor(device) {
    this.device = device;
    this.facts = device.facts;
    this.laneHost = device.laneHost;
    this.disposed = false;
    /** How often another device had to be opened. */
    this.recoveries = 0;
    /** @type {Promise<void> | null} under way */
    this.recovering = null;
  }

  /** @throws {import("./errors.js").DeviceError} when there is no WebGPU, or no adapter */
  static async open() {
    return new LastingGpu(await WebGpuDevice.open());
  }

  /**
   * @template T
   * @param {(device: WebGpuDevice) => Promise<T>} work
   * @returns {Promise<T>}
   */
  async use(work) {
    const { device } = this;
    try {
      return await work(device);
    } catch (error) {
      if (!device.context.broken || this.disposed) throw error;
      await this.recover(device);
      return work(this.device);
    }
  }

  /**
   * Put another device in the place of one that is lost, unless that has been done.
   * @param {WebGpuDevice} lost
   */
  async recover(lost) {
    if (this.device !== lost) return;
    this.recovering ??= this.replace().finally(() => (this.recovering = null));
    await this.recovering;
  }

  async replace() {
    const lost = this.device;
    try {
      const device = await WebGpuDevice.open();
      try {
        device.persistent.files = lost.persistent.files;
        device.runs = lost.runs;
        for (const plan of lost.plans.values()) await device.adopt(plan);
        if (this.disposed) throw new DeviceError("The model was disposed of.");
      } catch (error) {
        device.dispose();
        throw error;
      }
      this.device = device;
      this.recoveries += 1;
    } catch {
      // What the caller can do something about is that the device was lost.
      throw lost.context.failure;
    }
    lost.dispose();
  }

  prepareNext() {
    this.device.prepareNext();
  }

  /** @param {import("./weights.js").WeightFiles} files */
  setFiles(files) {
    this.device.setFiles(files);
  }

  /** @param {import("./types.js").Plan} plan @param {Uint8Array[]} blobs */
  addPlan(plan, blobs) {
    return this.use((device) => device.addPlan(plan, blobs));
  }

  /** @param {import("./types.js").Bound} bound */
  run(bound) {
    return this.use((device) => device.run(bound));
  }

  /**
   * A candidate with which the device is lost has the status "lost" or "endless".
   * @param {import("./types.js").MeasureRequest} request
   * @param {() => Promise<void>} pause
   */
  async measure(request, pause) {
    const measured = await this.use((device) => device.measure(request, pause));
    const { device } = this;
    // The next inference should not have to wait for this; if it fails now, that one tries again and says so.
    if (device.context.broken) await this.recover(device).catch(() => {});
    return measured;
  }

  /** @param {{plan: number, repeat: number}} request @param {() => Promise<void>} pause */
  profile(request, pause) {
    return this.use((device) => device.profile(request, pause));
  }

  /** @param {import("./types.js").Probe} probe @param {() => Promise<void>} pause */
  microbench(probe, pause) {
    return this.use((device) => device.microbench(probe, pause));
  }

  /** @param {{plan: number, replacements: import("./types.js").Replacement[]}} request */
  swap(request) {
    return this.use((device) => device.swap(request));
  }

  stats() {
    return { ...this.device.stats(), recoveries: this.recoveries };
  }

  dispose() {
    this.disposed = true;
    this.device.dispose();
  }
}
