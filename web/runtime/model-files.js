/**
 * The files of one model: its own, and those of external data beside it. They are fetched with progress, and hashed as they
 * arrive, so that a later visit can tell whether they are still the same.
 */

import { ContentHash } from "./content-hash.js";
import { ExternalDataError, FetchError } from "./errors.js";
import { readSource } from "./fetch.js";
import { ModelBytes } from "./model-bytes.js";

/** @typedef {import("./fetch.js").Source} Source */
/** @typedef {import("./session.js").SessionOptions} SessionOptions */
/** @typedef {Promise<string | null>} Hash of a file; null: it is not asked for, or cannot be made */

export class ModelFiles {
  /**
   * @param {SessionOptions} options
   * @param {AbortSignal} signal ends what is being fetched
   * @param {(progress: import("./session.js").Progress) => void} progress
   */
  constructor(options, signal, progress) {
    this.options = options;
    this.signal = signal;
    this.progress = progress;
    /** @type {Hash} of the model */
    this.hash = Promise.resolve(null);
    /** @type {Record<string, ArrayBuffer>} external data that nobody has taken yet */
    this.external = {};
    /** @type {Map<string, {bytes: number, hash: Hash}>} external data that was fetched */
    this.fetched = new Map();
  }

  /** What messages call the model. */
  get name() {
    const { source } = this.options;
    if (source instanceof File) return source.name;
    return typeof source === "string" && !source.startsWith("data:") ? source : "The model";
  }

  /** Fetch the model; external data is to be fetched anew, too. */
  async download() {
    this.fetched.clear();
    const { file, hash } = await this.readHashed(this.options.source);
    this.hash = hash;
    return ModelBytes.of(file);
  }

  /**
   * Fetch external data.
   * @param {string[]} names locations that the model gives, checked to stay within its folder
   * @returns {Promise<Record<string, number>>} bytes of each
   * @throws {ExternalDataError | FetchError}
   */
  async fetchExternalData(names) {
    /** @type {Record<string, number>} */
    const sizes = {};
    for (const name of names) {
      try {
        sizes[name] = await this.fetchOnce(name);
      } catch (error) {
        if (error instanceof FetchError && /** @type {any} */ (error).status === 404) {
          throw new ExternalDataError(
            `${this.name} keeps weights in ${JSON.stringify(name)}, which is not there: ${error.message} Put the file ` +
              `beside the model, choose it together with the model, or pass it as externalData (external_data in Python).`,
          );
        }
        throw error;
      }
    }
    return sizes;
  }

  /**
   * Fetch external data that an earlier visit had.
   * @param {Record<string, string>} hashes by name
   * @returns {Promise<boolean>} whether it is still the same
   * @throws {ExternalDataError | FetchError}
   */
  async fetchSame(hashes) {
    await this.fetchExternalData(Object.keys(hashes));
    const found = await this.externalHashes();
    return Object.entries(hashes).every(([name, hash]) => found[name] === hash);
  }

  /** @returns {Promise<Record<string, string | null>>} hash of each file of external data */
  async externalHashes() {
    const found = [...this.fetched].map(async ([name, { hash }]) => [name, await hash]);
    return Object.fromEntries(await Promise.all(found));
  }

  /** The external data that was fetched, for whoever keeps it from now on. @returns {Record<string, ArrayBuffer>} */
  takeExternal() {
    const files = this.external;
    this.external = {};
    return files;
  }

  /**
   * @param {string} name of external data
   * @returns {Promise<number>} its bytes
   */
  async fetchOnce(name) {
    const known = this.fetched.get(name);
    if (known) return known.bytes;
    const { file, hash } = await this.readHashed(this.locate(name), name);
    this.external[name] = file;
    this.fetched.set(name, { bytes: file.byteLength, hash });
    return file.byteLength;
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
   * @param {Source} source
   * @param {string} [name]
   * @returns {Promise<{file: ArrayBuffer, hash: Hash}>}
   */
  async readHashed(source, name) {
    const { cache, generator } = this.options;
    const hash = cache !== false && generator && globalThis.crypto?.subtle ? new ContentHash() : null;
    const file = await this.read(source, { cache, onBytes: (bytes, filled) => hash?.advance(bytes, filled) }, name);
    return { file, hash: hash ? hash.finish(new Uint8Array(file)).catch(() => null) : Promise.resolve(null) };
  }

  /**
   * @param {Source} source
   * @param {import("./fetch.js").FetchOptions} options
   * @param {string} [name]
   */
  read(source, options, name) {
    return readSource(source, {
      ...options,
      signal: this.signal,
      onProgress: ({ loaded, total, secondsLeft, cached }) => {
        const what = name ?? (typeof source === "string" ? source.split("/").pop() : "");
        const message = cached ? `${what} from the cache` : what;
        this.progress({ stage: "download", message, loaded, total, secondsLeft });
      },
    });
  }
}
