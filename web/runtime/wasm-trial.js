/**
 * What a candidate for a unit needs in the quarantine: the unit's operands and the weights, sent once for all candidates
 * of a batch, and for each a place for what it writes. Its weights are packed there, too, by the candidate's own init
 * steps; what comes of it is brought back, so that nothing but verified code ever writes to the model's memory.
 */

import { GUARD_BYTES } from "./compare.js";
import { neededInit } from "./init-steps.js";
import { alignUp } from "./placement.js";
import { bytesOfBuffer, isPersistent, specOf } from "./plan-buffers.js";
import { initSteps, touched, written } from "./plan-edit.js";
import { ProgramBuilder } from "./program-builder.js";
import { SCRATCH_BYTES } from "./program.js";

/** @typedef {import("./wasm-bench.js").Bench} Bench */
/** @typedef {import("./wasm-device.js").LoadedPlan} LoadedPlan */
/** @typedef {import("./quarantine.worker.js").Attempt} Attempt */
/** @typedef {import("./quarantine.worker.js").Verdict} Verdict */
/** @typedef {string | number} Id */

const PAGE = 65536;
/** Bytes of memory that a trial may need. */
const MOST_BYTES = 2 ** 30;

/** A candidate has this many milliseconds, and as many times what the incumbent takes on one thread. */
const LEAST_MS = 1000;
const TIMES_INCUMBENT = 100;
/** Milliseconds a megabyte for packing weights, in code that is not optimised yet. */
const MS_PER_MB = 10;

/** The trials of one batch: candidates for the unit of a bench. */
export class Trials {
  /** @param {Bench} bench */
  constructor(bench) {
    this.bench = bench;
    this.quarantine = bench.device.quarantine;
    /** @type {Map<Id, number>} address of each operand and weight */
    this.fixed = new Map();
    this.top = PAGE;
    this.size = 0;
    /** Memory of the quarantine that they were sent to. */
    this.generation = -1;
  }

  /**
   * Run a candidate for the first time.
   * @param {LoadedPlan} loaded the plan with the candidate in place of the incumbent
   * @param {import("./types.js").Pause} pause
   * @returns {Promise<Verdict & {packed: Map<Id, Uint8Array>}>} `packed`: what its init steps made
   */
  async run(loaded, pause) {
    await this.quarantine.open();
    if (this.generation !== this.quarantine.generation) {
      this.fixed.clear();
      this.top = PAGE;
    }
    const fresh = this.fixed.size === 0;
    const { attempt, packed } = await this.attempt(loaded, fresh);
    if (attempt.size > MOST_BYTES) {
      const message = `the kernel's data, ${Math.round(attempt.size / 2 ** 20)} MB, is too much to try a candidate apart`;
      this.fixed.clear();
      return { status: "error", message, maxError: null, kept: [], intact: true, ms: 0, packed: new Map() };
    }
    this.size = Math.max(this.size, attempt.size);
    this.generation = this.quarantine.generation;
    // What was copied for it may have taken long.
    await pause();
    const { incumbentMs, device } = this.bench;
    const limit =
      LEAST_MS + TIMES_INCUMBENT * incumbentMs * device.pool.threads + (MS_PER_MB * attempt.size) / 2 ** 20;
    const verdict = await this.quarantine.run(attempt, limit, pause);
    return { ...verdict, packed: new Map(verdict.kept.map((bytes, i) => [packed[i], bytes])) };
  }

  close() {
    this.quarantine.rest(this.size);
  }

  /**
   * @param {LoadedPlan} loaded
   * @param {boolean} fresh whether the quarantine holds nothing yet
   * @returns {Promise<{attempt: Attempt, packed: Id[]}>}
   */
  async attempt(loaded, fresh) {
    const { bench } = this;
    const { plan, specs } = loaded;
    const { store } = bench.device;
    const { environment } = bench.latest;
    const { steps: main } = plan.units[bench.unit];
    const inPlace = (/** @type {Id} */ id) => store.placeOf(loaded, id) !== null;
    const packed = [...touched(main)].filter((id) => specOf(specs, id).kind === "persistent" && !inPlace(id));
    const steps = [...this.initOf(loaded, packed), ...main];
    const writes = written(steps, plan.kernels);
    const places = new Map();
    /** @type {Attempt["contents"]} */
    const contents = [];
    for (const id of touched(steps)) {
      const spec = specOf(specs, id);
      const bytes = bytesOfBuffer(spec, environment);
      const place = { bytes, storage: spec.storage };
      places.set(id, { ...place, address: -1 });
      if (writes.has(id) || !(bench.operands.has(id) || isPersistent(spec))) continue;
      await this.fix(loaded, id, bytes, contents);
    }
    // Operands that the candidate writes start from a copy.
    for (const id of bench.operands.keys()) {
      if (writes.has(id)) await this.fix(loaded, id, places.get(id).bytes, contents);
    }
    const fixed = this.top;
    let end = fixed;
    /** @type {Attempt["own"]} */
    const own = [];
    const kernels = [...new Set(steps.map(({ kernel }) => kernel))];
    const scratch = end + GUARD_BYTES;
    if (kernels.some((kernel) => plan.kernels[kernel].scratch)) {
      end = alignUp(scratch + SCRATCH_BYTES) + GUARD_BYTES;
      own.push({ address: scratch, bytes: SCRATCH_BYTES, storage: "f32", from: null });
    }
    for (const [id, place] of places) {
      const known = this.fixed.get(id);
      if (!writes.has(id) && known !== undefined) {
        place.address = known;
        continue;
      }
      place.address = end + GUARD_BYTES;
      end = alignUp(place.address + place.bytes) + GUARD_BYTES;
      own.push({ address: place.address, bytes: place.bytes, storage: place.storage, from: known ?? null });
    }
    const builder = new ProgramBuilder(1);
    const modules = [...new Set(kernels.map((kernel) => /** @type {number} */ (plan.kernels[kernel].module)))];
    for (const step of steps) {
      builder.add(step, kernels.indexOf(step.kernel), environment, (id) => places.get(id));
    }
    /** @type {Attempt} */
    const attempt = {
      size: Math.ceil(end / PAGE + 1) * PAGE,
      fixed,
      contents,
      own,
      scratch,
      modules: modules.map((module) => loaded.blobs[plan.modules[module]]),
      functions: kernels.map((kernel) => {
        const { module, name, export: exported = name } = plan.kernels[kernel];
        return { module: modules.indexOf(/** @type {number} */ (module)), name: exported };
      }),
      words: builder.finish(),
      results: [...bench.references.keys()].filter((id) => places.has(id)).map((id) => ({ id, ...places.get(id) })),
      references: fresh ? bench.references : null,
      tolerance: bench.tolerance,
      keep: packed.map((id) => places.get(id)),
    };
    return { attempt, packed };
  }

  /**
   * The init steps that make what the candidate's steps need and no plan has.
   * @param {LoadedPlan} loaded
   * @param {Id[]} packed
   */
  initOf(loaded, packed) {
    if (!packed.length) return [];
    const { plan, specs } = loaded;
    const { store } = this.bench.device;
    const present = [...specs.keys()].filter((id) => store.placeOf(loaded, id) !== null);
    return neededInit(initSteps(plan), specs, new Set(packed), new Map(present.map((id) => [id, ""])));
  }

  /**
   * Give an operand or weight a place, and add its content to what is sent, unless it is there already.
   * @param {LoadedPlan} loaded
   * @param {Id} id
   * @param {number} bytes
   * @param {Attempt["contents"]} contents
   */
  async fix(loaded, id, bytes, contents) {
    if (this.fixed.has(id)) return;
    const { bench } = this;
    const { memory, store } = bench.device;
    const at = bench.addressOf(id) ?? store.placeOf(loaded, id);
    const source = at === null ? await store.content(specOf(loaded.specs, id), loaded.blobs) : memory.bytes.subarray(at, at + bytes);
    const data = new Uint8Array(bytes);
    data.set(source);
    this.fixed.set(id, this.top);
    contents.push({ address: this.top, data });
    this.top = alignUp(this.top + bytes) + GUARD_BYTES;
  }
}
