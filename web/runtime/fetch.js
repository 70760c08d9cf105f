/**
 * Getting a model's bytes: streamed from a URL with progress and kept in the browser's cache, or from a File, Blob or
 * buffer.
 */

import { FetchError, OutOfMemoryError } from "./errors.js";

/** @typedef {string | URL | Blob | ArrayBuffer | Uint8Array} Source */
/** @typedef {{loaded: number, total: number | null, secondsLeft: number | null, cached: boolean}} Download */
/**
 * @typedef {object} FetchOptions
 * @property {(progress: Download) => void} [onProgress]
 * @property {(bytes: Uint8Array<ArrayBuffer>, filled: number) => void} [onBytes] `filled` bytes of a download have arrived,
 *   in the memory where they stay; a download that begins again has other memory
 * @property {AbortSignal} [signal]
 * @property {boolean} [cache] false: neither read nor fill the browser's cache
 */

const CACHE_NAME = "nnjit-models";

/** Progress is reported at most this often, ms. */
const PROGRESS_INTERVAL = 100;

/**
 * All bytes of a source, in memory that the caller may transfer.
 *
 * @param {Source} source a URL is absolute
 * @param {FetchOptions} [options]
 * @returns {Promise<ArrayBuffer>}
 * @throws {FetchError | OutOfMemoryError | DOMException} "AbortError" when `signal` says so
 */
export async function readSource(source, options = {}) {
  if (typeof source === "string" || source instanceof URL) return fetchBytes(String(source), options);
  if (source instanceof Blob) {
    try {
      return await source.arrayBuffer();
    } catch (cause) {
      const name = source instanceof File ? source.name : "the file";
      throw new FetchError(`${name} could not be read: ${messageOf(cause)}. Choose it again.`, { cause });
    }
  }
  if (source instanceof ArrayBuffer) return source.slice(0);
  if (ArrayBuffer.isView(source)) return new Uint8Array(source).buffer;
  throw new FetchError("A model is given as a URL, a File, a Blob, an ArrayBuffer or a Uint8Array.");
}

/**
 * @param {string} url
 * @param {FetchOptions} options
 * @returns {Promise<ArrayBuffer>}
 */
async function fetchBytes(url, options) {
  const { signal } = options;
  checkUrl(url);
  const cache = options.cache === false ? null : await openCache();
  const kept = await cache?.match(url).catch(() => undefined);
  if (kept && (await isCurrent(url, kept, signal))) {
    const bytes = await readBody(kept, url, true, options).catch(() => null);
    if (bytes) return bytes;
  }
  let response;
  try {
    response = await fetch(url, { signal, cache: cache ? "no-store" : "default" });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw await networkError(url, cause);
  }
  if (!response.ok) throw httpError(url, response);
  if (cache && validator(response)) {
    // Written while it is read; a full disk or a private window is no reason to fail.
    cache.put(url, response.clone()).catch(() => {});
  } else {
    cache?.delete(url).catch(() => {});
  }
  return readBody(response, url, false, options);
}

/** @param {string} url */
function checkUrl(url) {
  let parsed;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw new FetchError(`${JSON.stringify(url)} is not a URL. Write it in full, like https://host/model.onnx.`, { cause });
  }
  if (!["http:", "https:", "blob:", "data:"].includes(parsed.protocol)) {
    throw new FetchError(
      `${url}: a page cannot fetch ${parsed.protocol} addresses. Choose the file instead, or serve it over HTTP.`,
    );
  }
}

/** The cache, or null where the browser has none (an insecure or private context). */
async function openCache() {
  try {
    return await caches.open(CACHE_NAME);
  } catch {
    return null;
  }
}

/**
 * What tells one version of a file from another; null when the server does not say, and then nothing is kept.
 * @param {Response} response
 */
function validator(response) {
  return response.headers.get("ETag") ?? response.headers.get("Last-Modified");
}

/**
 * Whether the kept response is what the server would send now. HEAD is asked, not a conditional GET, because its
 * headers would need the other server's permission. A server that cannot be reached leaves the kept one in use.
 *
 * @param {string} url
 * @param {Response} kept
 * @param {AbortSignal} [signal]
 */
async function isCurrent(url, kept, signal) {
  try {
    const head = await fetch(url, { method: "HEAD", cache: "no-store", signal });
    return head.ok ? validator(head) === validator(kept) : head.status === 405 || head.status === 501;
  } catch (error) {
    if (signal?.aborted) throw error;
    return true;
  }
}

/**
 * @param {Response} response
 * @param {string} url
 * @param {boolean} cached
 * @param {FetchOptions} options
 * @returns {Promise<ArrayBuffer>}
 */
async function readBody(response, url, cached, { onProgress, onBytes, signal }) {
  // Of a compressed response the length is that of the compressed bytes.
  const encoded = response.headers.get("Content-Encoding");
  const length = Number(response.headers.get("Content-Length"));
  const total = length > 0 && !encoded ? length : null;
  const body = new Accumulator(total, url);
  const started = performance.now();
  let reported = -Infinity;
  const report = () => {
    const now = performance.now();
    const rate = body.loaded / (now - started);
    const secondsLeft = total && rate > 0 ? (total - body.loaded) / rate / 1000 : null;
    reported = now;
    onProgress?.({ loaded: body.loaded, total, secondsLeft, cached });
  };
  const reader = response.body?.getReader();
  try {
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
      if (done || !value) break;
      body.add(value);
      if (!body.chunks.length) onBytes?.(body.buffer, body.filled);
      if (performance.now() - reported > PROGRESS_INTERVAL) report();
    }
  } catch (cause) {
    if (signal?.aborted || cause instanceof OutOfMemoryError) throw cause;
    throw new FetchError(
      `${url}: the connection broke after ${body.loaded} bytes${total ? ` of ${total}` : ""} (${messageOf(cause)}). Try again.`,
      { cause },
    );
  }
  if (total && body.loaded < total) {
    throw new FetchError(`${url}: the response ended after ${body.loaded} bytes of ${total}. Try again.`);
  }
  report();
  return body.finish();
}

/** Collects chunks, in one buffer of the final size where that is known. */
class Accumulator {
  /** @param {number | null} total @param {string} url */
  constructor(total, url) {
    this.url = url;
    this.loaded = 0;
    /** @type {Uint8Array[]} chunks that do not fit `buffer` */
    this.chunks = [];
    this.buffer = this.allocate(total ?? 0);
    this.filled = 0;
  }

  /** @param {number} bytes */
  allocate(bytes) {
    try {
      return new Uint8Array(bytes);
    } catch (cause) {
      throw new OutOfMemoryError(
        `${this.url} has ${(bytes / 2 ** 20).toFixed(0)} MiB, more than this tab can allocate. Close other tabs.`,
        { cause },
      );
    }
  }

  /** @param {Uint8Array} chunk */
  add(chunk) {
    this.loaded += chunk.length;
    if (!this.chunks.length && this.filled + chunk.length <= this.buffer.length) {
      this.buffer.set(chunk, this.filled);
      this.filled += chunk.length;
    } else {
      this.chunks.push(chunk);
    }
  }

  /** @returns {ArrayBuffer} */
  finish() {
    if (!this.chunks.length && this.filled === this.buffer.length) return this.buffer.buffer;
    const whole = this.allocate(this.loaded);
    whole.set(this.buffer.subarray(0, this.filled));
    let at = this.filled;
    for (const chunk of this.chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    return whole.buffer;
  }
}

/** @param {string} url @param {Response} response */
function httpError(url, response) {
  const advice = [401, 403].includes(response.status)
    ? "The file is not public: download it and choose it from disk."
    : response.status === 404
      ? "Check the address."
      : "Try again later.";
  const status = `${response.status}${response.statusText ? ` ${response.statusText}` : ""}`;
  return Object.assign(new FetchError(`${url}: the server answered ${status}. ${advice}`), { status: response.status });
}

/**
 * A failed fetch says nothing of its cause: find out whether the server is there at all.
 * @param {string} url
 * @param {unknown} cause
 */
async function networkError(url, cause) {
  const elsewhere = new URL(url).origin !== globalThis.location?.origin;
  if (elsewhere) {
    const reachable = await fetch(url, { method: "HEAD", mode: "no-cors", cache: "no-store" }).then(
      () => true,
      () => false,
    );
    const why = reachable
      ? "the server is there but does not let other sites read the file (it sends no Access-Control-Allow-Origin header, CORS)"
      : "the server cannot be reached, or does not let other sites read the file (CORS)";
    return new FetchError(
      `${url}: ${why}. Check the address, or download the file and choose it from disk, or put it on this site or ` +
        `on a host that allows it.`,
      { cause },
    );
  }
  return new FetchError(`${url}: the server cannot be reached (${messageOf(cause)}). Check the connection.`, { cause });
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
