/**
 * One model being loaded and used, as Python sees it: its files, the executor, and calls that cross with JSON text
 * and byte arrays, once per batch. In a page it lives in session.worker.js, apart from Python: see RemoteSession.
 */

import { arrayTypeOf } from "./dtypes.js";
import { DeviceError, errorFromPlain } from "./errors.js";
import { Executor } from "./executor.js";
import { ModelBytes } from "./model-bytes.js";
import { ModelFiles } from "./model-files.js";
import { forgetPlan, hasPlanFrom, hasPlanOfSize, keepPlan, keyOf, markTuned, recallPlan } from "./plan-store.js";
import * as store from "./kernel-store.js";

/** @typedef {import("./fetch.js").Source} Source */
/**
 * @typedef {{stage: string, message?: string, loaded?: number, total?: number | null, secondsLeft?: number | null, done?: boolean}} Progress
 *   `done`: the stage has ended; one that does not say so ends where the next begins
 */
/**
 * @typedef {object} SessionOptions
 * @property {Source} source a URL is absolute
 * @property {string} device
 * @property {number | null} threads
 * @property {Record<string, Source>} [externalData] by the location that the model gives
 * @property {Blob[]} [files] companions of a chosen file: external data found by name
 * @property {boolean} [cache]
 * @property {Promise<string | undefined>} [generator] names the compiler's version; without it no plan is kept
 * @property {(progress: Progress) => void} [onProgress]
 * @property {() => Promise<any>} [needPython] where Python may not have been started: it must know the model when this resolves
 */

export class Session {
  /**
   * @param {SessionOptions} options
   * @param {{executor: string, pool: string, quarantine: string}} urls of the workers
   */
  constructor(options, urls) {
    this.options = options;
    this.progress = options.onProgress ?? (() => {});
    this.aborter = new AbortController();
    /** @type {string | undefined} see MeasureRequest */
    this.journal = undefined;
    /** @type {(compile: (json: string) => Promise<string>) => void} for Python; `compile` answers with JSON: {} or {error} */
    this.useCompiler = () => {};
    /** @type {(error: unknown) => void} */
    this.failCompiler = () => {};
    /** @type {Promise<(json: string) => Promise<string>>} */
    this.compiler = new Promise((resolve, reject) => {
      // Not `compile` itself: a promise asks its value whether it is another promise, and Python's may be gone by then.
      this.useCompiler = (compile) => resolve((json) => compile(json));
      this.failCompiler = reject;
    });
    this.compiler.catch(() => {});
    this.executor = new Executor(urls, (inputs) => this.needPlan(inputs));
    this.opening = this.executor.open({ device: options.device, threads: options.threads });
    this.files = new ModelFiles(options, this.aborter.signal, this.progress);
    /** @type {Promise<ModelBytes>} */
    this.model = this.files.download();
    // Whoever awaits these gets the error; until then it is not unhandled.
    this.opening.catch(() => {});
    this.model.catch(() => {});
    /** @type {Promise<any>} whether the executor has them */
    this.placed = Promise.resolve();
    /** @type {Promise<import("./plan-store.js").PlanKey | null>} where plans of this model are kept; null: nowhere */
    this.planKey = Promise.resolve(null);
    /** The kept plan that runs until Python has its own. @type {(import("./plan-store.js").KeptPlan & {added: any, tuned: boolean}) | null} */
    this.kept = null;
    /** Whether what `kept` was is what Python compiled. */
    this.unchanged = false;
    /** @type {import("./inputs.js").Signature | null} */
    this.signature = null;
    /** @type {import("./model-bytes.js").Read[]} what Python read of the model */
    this.reads = [];
  }

  /** Whether a plan of this model may have been kept, as far as that can be told before it is there. */
  async mayBeKept() {
    const { source, cache, generator } = this.options;
    if (cache === false || !(await generator)) return false;
    return typeof source === "string" || source instanceof URL
      ? hasPlanFrom(String(source))
      : hasPlanOfSize(sizeOf(source));
  }

  /**
   * Let the executor run the plan that an earlier visit kept, if there is one; without Python.
   * @returns {Promise<import("./inputs.js").Signature | null>} what the model declares, when inferences can begin
   * @throws what opening the device or the download throws
   */
  async startFromKept() {
    const [facts, model] = await Promise.all([this.opening, this.model]);
    this.planKey = this.keyFor(facts);
    const key = (await hasPlanOfSize(model.size)) && (await this.planKey);
    const kept = key && (await recallPlan(key));
    if (!kept || !(await this.files.fetchSame(kept.external))) return null;
    const { signature, reads, json, blobs } = kept;
    try {
      await this.place(JSON.stringify(signature), model, reads);
      const adding = this.executor.addPlan(json, blobs.map((blob) => blob.slice()));
      const [added] = await Promise.all([adding, this.placed]);
      this.kept = { ...kept, added };
      return signature;
    } catch (error) {
      if (this.aborter.signal.aborted) throw error;
      // Something is wrong with what was kept, not with the model: load it as on a first visit.
      console.warn("A plan of an earlier visit is not used:", error);
      await forgetPlan(key);
      // The executor has the bytes.
      this.model = this.files.download();
      await this.model;
      this.planKey = this.keyFor(facts);
      return null;
    }
  }

  /**
   * Where plans of the model are kept.
   * @param {import("./types.js").Facts} facts
   * @returns {Promise<import("./plan-store.js").PlanKey | null>}
   */
  async keyFor(facts) {
    const [hash, generator] = await Promise.all([this.files.hash, this.options.generator]);
    return hash && generator ? keyOf(hash, facts, generator) : null;
  }

  /** What messages call the model. */
  get name() {
    return this.files.name;
  }

  /** The model file, for Python to read from until `place`. @returns {Promise<ModelBytes>} */
  async modelBytes() {
    const model = await this.model;
    // What is being hashed must not move.
    await this.files.hash;
    return model;
  }

  /** @returns {Promise<string>} JSON of the device's facts */
  async facts() {
    return JSON.stringify(await this.opening);
  }

  /** What this browser remembers of tuning, for Python. */
  get store() {
    return store;
  }

  /** The kernel file that the site ships: what travels in the wheel has none. */
  async sharedKernels() {
    return "";
  }

  /**
   * Fetch external data.
   * @param {string} names JSON array of the locations that the model gives, checked to stay within its folder
   * @returns {Promise<string>} JSON: bytes of each
   * @throws {import("./errors.js").ExternalDataError | import("./errors.js").FetchError}
   */
  async fetchExternalData(names) {
    return JSON.stringify(await this.files.fetchExternalData(JSON.parse(names)));
  }

  /**
   * Tell the executor what the model declares, and hand it the files; they can no longer be read here.
   * @param {string} signature JSON
   * @param {ModelBytes} [model] that was lent to Python's worker
   * @param {import("./model-bytes.js").Read[]} [reads] what Python reads of it, where it has not read it yet
   */
  async place(signature, model, reads) {
    const [{ size, whole, reads: done }] = await Promise.all([model ?? this.model, this.opening]);
    // What is being hashed must not move.
    await this.files.externalHashes();
    const files = this.files.takeExternal();
    this.reads = reads ?? done;
    // What Python may still want of it, or want again if it has to be started anew.
    this.model = Promise.resolve(new ModelBytes({ size, whole: null, reads: this.reads }));
    if (!whole) return; // The executor has it, and runs the kept plan.
    files[""] = whole.buffer;
    this.signature = JSON.parse(signature);
    await this.executor.setSignature(JSON.parse(signature));
    // The executor makes memory ready for them meanwhile; the plan waits for that, not the compiler.
    this.placed = this.executor.setFiles(files);
    this.placed.catch(() => {});
  }

  /** @returns {Promise<string | null>} JSON: for which inputs the kept plan that runs was compiled; null where none does */
  async keptInputs() {
    return this.kept?.inputs ?? null;
  }

  /**
   * @param {string} json
   * @param {Uint8Array[]} blobs
   * @returns {Promise<string>}
   */
  async addPlan(json, blobs) {
    const { kept } = this;
    this.kept = null;
    this.unchanged = kept !== null && kept.json === json && equal(kept.blobs, blobs);
    if (kept && this.unchanged) return JSON.stringify(kept.added);
    await this.placed;
    return JSON.stringify(await this.executor.addPlan(json, blobs));
  }

  /**
   * Mark candidates as fatal while they are tried.
   * @param {string} key of the device: see MeasureRequest
   */
  async keepJournal(key) {
    this.journal = key;
  }

  /**
   * Keep a plan for later visits.
   * @param {string} json
   * @param {Uint8Array[]} blobs
   * @param {string} inputs JSON of the descriptions of the inputs that it is for
   */
  async keepPlan(json, blobs, inputs) {
    const { signature, reads, unchanged } = this;
    this.unchanged = false;
    const [key, { size }, hashes] = await Promise.all([this.planKey, this.model, this.files.externalHashes()]);
    if (!key || !signature || unchanged || Object.values(hashes).includes(null)) return;
    const external = /** @type {Record<string, string>} */ (hashes);
    await keepPlan(key, size, this.name, { signature, reads, external, inputs, json, blobs });
  }

  /** Tuning found nothing left to try for the plan that was kept last. */
  async markTuned() {
    const key = await this.planKey;
    if (key) await markTuned(key);
  }

  /**
   * @param {string} request JSON of a MeasureRequest without candidates
   * @param {string[]} candidates JSON of each, without blobs
   * @param {Uint8Array[][]} blobs of each
   * @returns {Promise<string>}
   */
  async measure(request, candidates, blobs) {
    const whole = candidates.map((text, i) => ({ ...JSON.parse(text), blobs: blobs[i] }));
    return JSON.stringify(await this.executor.measure({ ...JSON.parse(request), journal: this.journal, candidates: whole }));
  }

  /**
   * @param {number} plan
   * @param {number[]} units
   * @param {string[]} candidates JSON of what replaces each, without blobs
   * @param {Uint8Array[][]} blobs of each
   * @returns {Promise<string>}
   */
  async swap(plan, units, candidates, blobs) {
    const replacements = units.map((unit, i) => ({ unit, with: { ...JSON.parse(candidates[i]), blobs: blobs[i] } }));
    return JSON.stringify(await this.executor.swap({ plan, replacements }));
  }

  /** @param {number} plan @param {number} repeat @param {boolean} background @returns {Promise<string>} */
  async profile(plan, repeat, background) {
    return JSON.stringify(await this.executor.profile({ plan, repeat, background }));
  }

  /**
   * @param {string} probe JSON of a Probe without blobs
   * @param {Uint8Array[]} blobs
   * @param {boolean} background
   * @returns {Promise<string>} JSON: milliseconds of each experiment
   */
  async microbench(probe, blobs, background) {
    return JSON.stringify(await this.executor.microbench({ ...JSON.parse(probe), blobs, background }));
  }

  /** @returns {Promise<string>} */
  async stats() {
    return JSON.stringify(await this.executor.stats());
  }

  /**
   * One inference for Python.
   * @param {string} header JSON: [[name, type, dims]…]
   * @param {Uint8Array[]} data of each input, the whole of its buffer
   * @returns {Promise<{header: string, data: Uint8Array[]}>}
   */
  async run(header, data) {
    /** @type {Record<string, any>} */
    const inputs = {};
    for (const [i, [name, type, dims]] of JSON.parse(header).entries()) {
      inputs[name] = { data: new (arrayTypeOf(type))(data[i].buffer), dims, type };
    }
    const { outputs } = await this.executor.run(inputs);
    const entries = Object.entries(outputs);
    return {
      header: JSON.stringify(entries.map(([name, { type, dims }]) => [name, type, dims])),
      data: entries.map(([, { data }]) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
    };
  }

  /**
   * The executor has inputs that no plan fits.
   * @param {import("./executor.js").InputDescriptions} inputs
   */
  async needPlan(inputs) {
    await this.options.needPython?.();
    const compile = await this.compiler;
    const answer = JSON.parse(await compile(JSON.stringify(inputs)));
    if (answer.error) throw errorFromPlain(answer.error);
  }

  /** Stop the download and the executor; calls under way fail. */
  dispose() {
    this.aborter.abort();
    this.executor.dispose();
    this.failCompiler(new DeviceError("The model was disposed of."));
    this.files.takeExternal();
  }
}

/** Bytes of a source that is there. @param {Blob | ArrayBuffer | Uint8Array} source */
function sizeOf(source) {
  return source instanceof Blob ? source.size : source.byteLength;
}

/**
 * @param {Uint8Array[]} ours
 * @param {Uint8Array[]} theirs
 */
function equal(ours, theirs) {
  const alike = (/** @type {Uint8Array} */ a, /** @type {Uint8Array} */ b) =>
    a.length === b.length && a.every((byte, i) => byte === b[i]);
  return ours.length === theirs.length && ours.every((blob, i) => alike(blob, theirs[i]));
}
