/**
 * A GPUDevice with what every use of it needs: the adapter's own limits, memory that fails with a typed error, and a
 * lost device that rejects every later and pending call.
 */

import { DeviceError, NnjitError, OutOfMemoryError, VerificationError } from "./errors.js";

/** Limits that are asked of the adapter and reported. */
const LIMITS = /** @type {const} */ ([
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "minStorageBufferOffsetAlignment",
  "minUniformBufferOffsetAlignment",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupsPerDimension",
]);

/** @type {GPUFeatureName[]} */
const FEATURES = ["shader-f16", "subgroups", "timestamp-query"];

/** Bytes written to the queue at a time: the browser stages each write in memory of its own. */
const WRITE_CHUNK = 1 << 25;

/** How long a rejected call waits to learn that the device was lost, ms. */
const LOSS_NOTICE_MS = 100;

/** Megabytes for a message. @param {number} bytes */
export function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 3 : 0)} MB`;
}

export class GpuContext {
  /**
   * @param {GPUDevice} device
   * @param {GPUAdapterInfo} info
   */
  constructor(device, info) {
    this.device = device;
    this.info = info;
    this.bytes = 0;
    this.peakBytes = 0;
    /** @type {NnjitError | null} why nothing works any more */
    this.failure = null;
    this.disposed = false;
    /** Whether it still runs a shader that does not end: then to destroy the device would wait for it. */
    this.hung = false;
    /** @type {(error: NnjitError) => void} */
    let reject = () => {};
    /** @type {Promise<never>} rejects when the device is lost or given up */
    this.lost = new Promise((_, rejectLost) => (reject = rejectLost));
    this.lost.catch(() => {});
    /** Let nothing more be done with the device. @param {NnjitError} error */
    this.giveUp = (error) => {
      this.failure ??= error;
      reject(this.failure);
    };
    device.lost.then(({ reason, message }) => {
      const why = message || "the browser says no more";
      this.giveUp(
        new DeviceError(
          `The GPU device was lost (${reason}): ${why}. Load the model again, or use the device "wasm".`,
        ),
      );
    });
    device.addEventListener("uncapturederror", (event) => {
      this.failure ??= asTyped(event.error, "using the GPU");
    });
  }

  /**
   * @returns {Promise<GpuContext>}
   * @throws {DeviceError} when there is no WebGPU, or no adapter
   */
  static async open() {
    if (!globalThis.navigator?.gpu) {
      throw new DeviceError(
        'This browser offers no WebGPU here (it needs a secure context and a recent browser): use the device "wasm".',
      );
    }
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) throw new DeviceError('The browser found no GPU that it may use for WebGPU: use the device "wasm".');
    /** @type {Record<string, number>} */
    const requiredLimits = {};
    for (const name of LIMITS) requiredLimits[name] = adapter.limits[name];
    const requiredFeatures = FEATURES.filter((name) => adapter.features.has(name));
    try {
      return new GpuContext(await adapter.requestDevice({ requiredLimits, requiredFeatures }), adapter.info);
    } catch (cause) {
      throw new DeviceError(
        `The browser refused a GPU device (${messageOf(cause)}): load the model again, or use the device "wasm".`,
        { cause },
      );
    }
  }

  /** @returns {import("./types.js").Facts} */
  facts() {
    const { info, device } = this;
    const software = isSoftware(info);
    return {
      device: "webgpu",
      threads: 1,
      isolated: globalThis.crossOriginIsolated === true,
      relaxedSimd: false,
      hardwareConcurrency: navigator.hardwareConcurrency || 1,
      browser: navigator.userAgent,
      adapter: {
        vendor: info.vendor,
        architecture: info.architecture,
        device: info.device,
        description: info.description,
        software,
      },
      limits: {
        ...Object.fromEntries(LIMITS.map((name) => [name, device.limits[name]])),
        ...(info.subgroupMaxSize ? { subgroupSize: info.subgroupMaxSize } : {}),
      },
      features: FEATURES.filter((name) => device.features.has(name)),
      maxPages: 0,
      notes: software
        ? ['WebGPU runs on a software adapter here, which is slow: the device "wasm" is the better choice.']
        : [],
    };
  }

  /** Whether nothing works any more, though nobody wanted that. */
  get broken() {
    return this.failure !== null && !this.disposed;
  }

  /**
   * Await work that must not take longer than `ms`: if it does, the device is given up.
   * @template T
   * @param {number} ms
   * @param {Promise<T>} work
   * @returns {Promise<T>}
   * @throws {DeviceError} when the time is over
   */
  async within(ms, work) {
    const timer = setTimeout(() => {
      this.hung = true;
      this.giveUp(new DeviceError(`A kernel did not end within ${(ms / 1000).toFixed(1)} s: the GPU device was given up.`));
    }, ms);
    try {
      return await work;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Throw if the device is lost or has reported an error that nobody asked about. */
  check() {
    if (this.failure) throw this.failure;
  }

  /**
   * Await work on the device; a lost device rejects it with the reason.
   * @template T
   * @param {Promise<T>} promise
   * @returns {Promise<T>}
   */
  async guard(promise) {
    // What is thrown before anybody waits for it must not leave it unhandled.
    promise.catch(() => {});
    this.check();
    try {
      const value = await Promise.race([promise, this.lost]);
      this.check();
      return value;
    } catch (error) {
      if (error instanceof NnjitError) throw error;
      await Promise.race([this.lost, new Promise((resolve) => setTimeout(resolve, LOSS_NOTICE_MS))]);
      this.check();
      throw asTyped(error, "using the GPU");
    }
  }

  /**
   * Run `work`, and turn what the device reports about it into one typed error.
   * @template T
   * @param {string} doing for the message
   * @param {() => T | Promise<T>} work
   * @returns {Promise<T>}
   */
  async scope(doing, work) {
    this.check();
    const { device } = this;
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    device.pushErrorScope("internal");
    /** @type {T | undefined} */
    let result;
    /** @type {unknown} */
    let thrown = null;
    try {
      result = await work();
    } catch (error) {
      thrown = error ?? new Error("unknown");
    }
    const [internal, validation, memory] = await this.guard(
      Promise.all([device.popErrorScope(), device.popErrorScope(), device.popErrorScope()]),
    );
    // Running out of memory makes what uses the memory invalid, too: it is the cause.
    const error = memory ?? validation ?? internal;
    if (error) throw asTyped(error, doing);
    if (thrown) throw thrown;
    return /** @type {T} */ (result);
  }

  /**
   * A storage buffer of at least `bytes`, zeroed. Call within `scope`: the device reports a failure there.
   * @param {number} bytes
   * @param {string} label named in errors
   * @throws {OutOfMemoryError} when no buffer may be that large
   */
  storage(bytes, label) {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.device.limits;
    const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    const size = storageBytes(bytes);
    if (size > limit) {
      throw new OutOfMemoryError(
        `${label} needs ${megabytes(size)} in one GPU buffer, and this GPU binds at most ${megabytes(limit)}: use the ` +
          `device "wasm", or smaller inputs.`,
      );
    }
    const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
    return this.create({ size, usage: STORAGE | COPY_SRC | COPY_DST, label });
  }

  /** @param {GPUBufferDescriptor} descriptor */
  create(descriptor) {
    const buffer = this.device.createBuffer(descriptor);
    this.bytes += descriptor.size;
    this.peakBytes = Math.max(this.peakBytes, this.bytes);
    return buffer;
  }

  /** @param {GPUBuffer} buffer */
  destroy(buffer) {
    this.bytes -= buffer.size;
    buffer.destroy();
  }

  /**
   * @param {GPUBuffer} buffer
   * @param {ArrayBufferView} data whole 4-byte words
   * @param {number} [offset]
   */
  write(buffer, data, offset = 0) {
    for (let at = 0; at < data.byteLength; at += WRITE_CHUNK) {
      const bytes = Math.min(WRITE_CHUNK, data.byteLength - at);
      const source = /** @type {ArrayBuffer} */ (data.buffer);
      this.device.queue.writeBuffer(buffer, offset + at, source, data.byteOffset + at, bytes);
    }
  }

  /**
   * Contents of buffers, in memory of their own.
   * @param {{buffer: GPUBuffer, offset: number, bytes: number}[]} parts whole words
   * @returns {Promise<ArrayBuffer[]>}
   */
  async read(parts) {
    const encoder = this.device.createCommandEncoder();
    const staging = this.stage(encoder, parts);
    this.device.queue.submit([encoder.finish()]);
    return staging.take();
  }

  /**
   * Copies of parts of buffers into memory that JavaScript can map, recorded after what `encoder` holds already.
   * @param {GPUCommandEncoder} encoder
   * @param {{buffer: GPUBuffer, offset: number, bytes: number}[]} parts
   * @returns {{take: () => Promise<ArrayBuffer[]>}} `take`, after the submission, waits for the data and frees it
   */
  stage(encoder, parts) {
    let size = 0;
    const offsets = parts.map(({ bytes }) => {
      const offset = size;
      size += Math.ceil(bytes / 8) * 8;
      return offset;
    });
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    const staging = this.create({ size: Math.max(size, 8), usage, label: "staging" });
    parts.forEach(({ buffer, offset, bytes }, i) => {
      if (bytes) encoder.copyBufferToBuffer(buffer, offset, staging, offsets[i], bytes);
    });
    const take = async () => {
      try {
        await this.guard(staging.mapAsync(GPUMapMode.READ));
        const mapped = staging.getMappedRange();
        return parts.map(({ bytes }, i) => mapped.slice(offsets[i], offsets[i] + bytes));
      } finally {
        this.destroy(staging);
      }
    };
    return { take };
  }

  /** Wait until all that was submitted is done. */
  async settle() {
    await this.guard(this.device.queue.onSubmittedWorkDone());
  }

  dispose() {
    // One that was lost before stays so: that is what its last calls are told.
    this.disposed = this.failure === null;
    this.failure ??= new DeviceError("The model was disposed of: load it again.");
    if (!this.hung) this.device.destroy();
  }
}

/**
 * Bytes of the GPU buffer that holds a tensor of `bytes`: whole vectors, never none.
 * @param {number} bytes
 */
export function storageBytes(bytes) {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

/** @param {GPUAdapterInfo} info */
function isSoftware(info) {
  return info.isFallbackAdapter === true || /swiftshader|llvmpipe|software/i.test(`${info.architecture} ${info.description}`);
}

/** @param {unknown} error */
function messageOf(error) {
  return error && typeof error === "object" && "message" in error ? String(error.message) : String(error);
}

/**
 * What WebGPU reports as a typed error.
 * @param {unknown} error
 * @param {string} doing
 */
export function asTyped(error, doing) {
  if (error instanceof NnjitError) return error;
  const message = messageOf(error);
  if (globalThis.GPUOutOfMemoryError && error instanceof GPUOutOfMemoryError) {
    return new OutOfMemoryError(
      `The GPU has not enough memory (${doing}): ${message}. Close other tabs, use smaller inputs, or the device "wasm".`,
      { cause: error },
    );
  }
  return new VerificationError(`WebGPU refused what nnjit asked for (${doing}): ${message}`, { cause: error });
}
