/**
 * One model being loaded and used, as Python sees it: the download, the executor, and calls that cross with JSON text
 * and byte arrays, once per batch. In the page's compiler worker it starts while Pyodide is still starting.
 */

import { arrayTypeOf } from "./dtypes.js";
import { errorFromPlain, ExternalDataError, FetchError } from "./errors.js";
import { Executor } from "./executor.js";
import { readSource } from "./fetch.js";
import * as store from "./kernel-store.js";

/** @typedef {import("./fetch.js").Source} Source */
/** @typedef {{stage: string, message?: string, loaded?: number, total?: number | null, secondsLeft?: number | null}} Progress */
/**
 * @typedef {object} SessionOptions
 * @property {Source} source a URL is absolute
 * @property {string} device
 * @property {number | null} threads
 * @property {Record<string, Source>} [externalData] by the location that the model gives
 * @property {Blob[]} [files] companions of a chosen file: external data found by name
 * @property {boolean} [cache]
 * @property {(progress: Progress) => void} [onProgress]
 * @property {Promise<string>} [sharedKernels] the kernel file that the site ships, or an empty text
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
    this.started = performance.now();
    /** @type {Record<string, number>} milliseconds of what is over */
    this.timings = {};
    /** @type {((json: string) => Promise<string>) | null} Python's; answers with JSON: {} or {error} */
    this.compile = null;
    this.executor = new Executor(urls, (inputs) => this.needPlan(inputs));
    this.opening = this.executor.open({ device: options.device, threads: options.threads });
    this.downloading = this.download();
    // Whoever awaits these gets the error; until then it is not unhandled.
    this.opening.catch(() => {});
    this.downloading.catch(() => {});
    /** @type {Record<string, ArrayBuffer>} until the executor has them */
    this.buffers = {};
  }

  async download() {
    const { source, cache } = this.options;
    const bytes = await this.read(source, cache);
    this.timings.download = performance.now() - this.started;
    this.buffers[""] = bytes;
    return new Uint8Array(bytes);
  }

  /**
   * @param {Source} source
   * @param {boolean} [cache]
   * @param {string} [name]
   */
  read(source, cache, name) {
    return readSource(source, {
      cache,
      signal: this.aborter.signal,
      onProgress: ({ loaded, total, secondsLeft, cached }) => {
        const what = name ?? (typeof source === "string" ? source.split("/").pop() : "");
        const message = cached ? `${what} from the cache` : what;
        this.progress({ stage: "download", message, loaded, total, secondsLeft });
      },
    });
  }

  /** What messages call the model. */
  get name() {
    const { source } = this.options;
    if (source instanceof File) return source.name;
    return typeof source === "string" && !source.startsWith("data:") ? source : "The model";
  }

  /** The model file, for Python to read from until `place`. @returns {Promise<Uint8Array>} */
  modelBytes() {
    return this.downloading;
  }

  /** @returns {Promise<string>} JSON of the device's facts */
  async facts() {
    return JSON.stringify(await this.opening);
  }

  /** What this browser remembers of tuning, for Python. */
  get store() {
    return store;
  }

  /** The kernel file that the site ships, or an empty text. @returns {Promise<string>} */
  sharedKernels() {
    return this.options.sharedKernels ?? Promise.resolve("");
  }

  /**
   * Fetch external data.
   * @param {string} names JSON array of the locations that the model gives, checked to stay within its folder
   * @returns {Promise<string>} JSON: bytes of each
   * @throws {ExternalDataError | FetchError}
   */
  async fetchExternalData(names) {
    /** @type {Record<string, number>} */
    const sizes = {};
    for (const name of /** @type {string[]} */ (JSON.parse(names))) {
      const source = this.locate(name);
      try {
        this.buffers[name] = await this.read(source, this.options.cache, name);
      } catch (error) {
        if (error instanceof FetchError && /** @type {any} */ (error).status === 404) {
          throw new ExternalDataError(
            `${this.name} keeps weights in ${JSON.stringify(name)}, which is not there: ${error.message} Put the file ` +
              `beside the model, choose it together with the model, or pass it as externalData (external_data in Python).`,
          );
        }
        throw error;
      }
      sizes[name] = this.buffers[name].byteLength;
    }
    return JSON.stringify(sizes);
  }

  /**
   * Where external data is to be found.
   * @param {string} name
   * @returns {Source}
   */
  locate(name) {
    const { source, files, externalData } = this.options;
    if (externalData?.[name]) return externalData[name];
    const last = name.split("/").pop();
    const file = files?.find((file) => file instanceof File && file.name === last);
    if (file) return file;
    if (typeof source === "string") return new URL(name.split("/").map(encodeURIComponent).join("/"), source).href;
    throw new ExternalDataError(
      `${this.name} keeps weights in the file ${JSON.stringify(name)}: choose it together with the model, or pass it as ` +
        `externalData (external_data in Python).`,
    );
  }

  /**
   * Tell the executor what the model declares, and hand it the files; they can no longer be read here.
   * @param {string} signature JSON
   */
  async place(signature) {
    await this.opening;
    await this.executor.setSignature(JSON.parse(signature));
    const files = this.buffers;
    this.buffers = {};
    await this.executor.setFiles(files);
  }

  /**
   * @param {string} json
   * @param {Uint8Array[]} blobs
   * @returns {Promise<string>}
   */
  async addPlan(json, blobs) {
    return JSON.stringify(await this.executor.addPlan(json, blobs));
  }

  /**
   * @param {string} request JSON of a MeasureRequest without candidates
   * @param {string[]} candidates JSON of each, without blobs
   * @param {Uint8Array[][]} blobs of each
   * @returns {Promise<string>}
   */
  async measure(request, candidates, blobs) {
    const whole = candidates.map((text, i) => ({ ...JSON.parse(text), blobs: blobs[i] }));
    return JSON.stringify(await this.executor.measure({ ...JSON.parse(request), candidates: whole }));
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

  /** @param {number} plan @param {number} repeat @returns {Promise<string>} */
  async profile(plan, repeat) {
    return JSON.stringify(await this.executor.profile({ plan, repeat }));
  }

  /**
   * @param {string} probe JSON of a Probe without blobs
   * @param {Uint8Array[]} blobs
   * @returns {Promise<string>} JSON: milliseconds of each experiment
   */
  async microbench(probe, blobs) {
    return JSON.stringify(await this.executor.microbench({ ...JSON.parse(probe), blobs }));
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
    if (!this.compile) throw new Error("The compiler is not ready.");
    const answer = JSON.parse(await this.compile(JSON.stringify(inputs)));
    if (answer.error) throw errorFromPlain(answer.error);
  }

  /** Stop the download and the executor; calls under way fail. */
  dispose() {
    this.aborter.abort();
    this.executor.dispose();
    this.compile = null;
    this.buffers = {};
  }
}
