/**
 * Device memory that the plans of a model share by key: a block is allocated for the first plan that claims it and freed
 * when the last one has given it up. What fills it is a weight of the model file, a constant of the plan, or an init step.
 */

import { VerificationError } from "./errors.js";
import { bytesOfBuffer, isPersistent, specOf } from "./plan-buffers.js";

/** @typedef {import("./types.js").BufferSpec} BufferSpec */
/** @typedef {string | number} Id */

/**
 * What claims need to know of a plan; `keys` are those of the blocks it has claimed.
 * @typedef {{id: number, specs: Map<Id, BufferSpec>, keys: Map<Id, string>}} Claimant
 */

/**
 * @template Place where a device keeps a block: an address, a GPUBuffer
 * @typedef {{place: Place, bytes: number, users: number}} Block `users` counts the plans that claim it
 */

/** @template Place */
export class SharedBlocks {
  /**
   * @param {(bytes: number, spec: BufferSpec) => Place} allocate
   * @param {(place: Place) => void} free
   */
  constructor(allocate, free) {
    this.allocate = allocate;
    this.free = free;
    /** @type {import("./weights.js").WeightFiles | null} */
    this.files = null;
    /** @type {Map<string, Block<Place>>} */
    this.blocks = new Map();
  }

  /** Bytes of all blocks. */
  get bytes() {
    let total = 0;
    for (const block of this.blocks.values()) total += block.bytes;
    return total;
  }

  /**
   * Make the block of a buffer this plan's, allocating it if no plan has it yet. Buffers that do not outlive an
   * inference have none.
   * @param {Claimant} plan
   * @param {Id} id
   * @param {Set<Id>} fresh gains `id` when the block is new
   */
  claim({ id: planId, specs, keys }, id, fresh) {
    const spec = specOf(specs, id);
    if (!isPersistent(spec) || keys.has(id)) return;
    const key = spec.key ?? `${planId}:${id}`;
    let block = this.blocks.get(key);
    if (!block) {
      const bytes = bytesOfBuffer(spec, {});
      block = { place: this.allocate(bytes, spec), bytes, users: 0 };
      this.blocks.set(key, block);
      fresh.add(id);
    }
    block.users += 1;
    keys.set(id, key);
  }

  /**
   * Give up a plan's claims; blocks that no plan claims are freed.
   * @param {Iterable<string>} keys
   */
  release(keys) {
    for (const key of keys) {
      const block = this.blocks.get(key);
      if (block && --block.users === 0) {
        this.free(block.place);
        this.blocks.delete(key);
      }
    }
  }

  /**
   * Where a buffer is that this plan has claimed, or another one under the same key; null if none has.
   * @param {Pick<Claimant, "specs" | "keys">} plan
   * @param {Id} id
   * @returns {Place | null}
   */
  placeOf({ specs, keys }, id) {
    const key = keys.get(id) ?? specs.get(id)?.key;
    return (key === undefined ? undefined : this.blocks.get(key)?.place) ?? null;
  }

  /**
   * The bytes of a weight or constant; not to be changed.
   * @param {BufferSpec} spec
   * @param {Uint8Array[]} blobs of the plan
   * @returns {Promise<Uint8Array>}
   * @throws {VerificationError} if they are not as many as the plan says
   */
  async content(spec, blobs) {
    const bytes = spec.kind === "const" ? blobs[/** @type {number} */ (spec.blob)] : await this.read(spec);
    const expected = bytesOfBuffer(spec, {});
    if (bytes.byteLength !== expected) {
      throw new VerificationError(
        `The ${spec.kind} ${spec.key ?? spec.id} has ${bytes.byteLength} bytes where the plan says ${expected}.`,
      );
    }
    return bytes;
  }

  /**
   * A weight, from the model's files.
   * @param {BufferSpec} spec
   * @returns {Uint8Array | Promise<Uint8Array>}
   */
  read(spec) {
    if (!this.files) throw new VerificationError("addPlan came before setFiles.");
    return this.files.read(spec);
  }
}
