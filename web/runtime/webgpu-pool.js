/**
 * GPU buffers that every plan and every binding of its symbols reuses for what does not outlive an inference. A binding
 * names slots; its largest slot lies in the largest buffer, so that bindings of one model overlap well.
 */

import { storageBytes } from "./webgpu-context.js";

/** A buffer that must grow grows by this much more: a sequence that gets longer step by step comes back soon. */
const HEADROOM = 1.25;

export class BufferPool {
  /** @param {import("./webgpu-context.js").GpuContext} context */
  constructor(context) {
    this.context = context;
    /** @type {GPUBuffer[]} largest first */
    this.buffers = [];
    /** Incremented when buffers are replaced: bind groups made before are stale. */
    this.epoch = 0;
  }

  get bytes() {
    return this.buffers.reduce((total, { size }) => total + size, 0);
  }

  /**
   * A buffer for each slot. Call within the context's `scope`.
   * @param {number[]} sizes bytes of each slot
   * @param {string} label named when there is not enough memory
   * @returns {GPUBuffer[]}
   */
  take(sizes, label) {
    const order = sizes.map((_, slot) => slot).sort((a, b) => sizes[b] - sizes[a]);
    const taken = Array(sizes.length);
    order.forEach((slot, rank) => {
      const needed = storageBytes(sizes[slot]);
      const held = this.buffers[rank];
      if (!held || held.size < needed) this.replace(rank, held ? this.grown(needed) : needed, label);
      taken[slot] = this.buffers[rank];
    });
    return taken;
  }

  /**
   * @param {number} rank
   * @param {number} bytes
   * @param {string} label
   */
  replace(rank, bytes, label) {
    const held = this.buffers[rank];
    const fresh = this.context.storage(bytes, label);
    if (held) {
      this.context.destroy(held);
      this.epoch += 1;
    }
    this.buffers[rank] = fresh;
  }

  /** @param {number} needed */
  grown(needed) {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.context.device.limits;
    const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    return needed > limit ? needed : Math.min(limit, storageBytes(needed * HEADROOM));
  }
}
