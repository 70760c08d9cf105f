/** What this browser's WebAssembly and threads can do, found by trying. */

/**
 * A module whose only function applies f32x4.relaxed_madd to its three arguments.
 * Engines without relaxed SIMD refuse to validate it.
 */
const RELAXED_MADD = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // magic, version
  ...[0x01, 0x08, 0x01, 0x60, 0x03, 0x7b, 0x7b, 0x7b, 0x01, 0x7b], // type: (v128, v128, v128) → v128
  ...[0x03, 0x02, 0x01, 0x00], // one function of that type
  ...[0x0a, 0x0d, 0x01, 0x0b, 0x00, 0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0xfd, 0x85, 0x02, 0x0b], // its code
);

/** Whether relaxed SIMD instructions validate in this engine. */
export function hasRelaxedSimd() {
  return WebAssembly.validate(RELAXED_MADD);
}

/** Whether this context may share memory between threads. */
export function canShareMemory() {
  return globalThis.crossOriginIsolated === true && typeof SharedArrayBuffer !== "undefined";
}

/**
 * Threads to use when nobody says: all cores of a small device; half the logical ones of a large device, at most 8,
 * because the second thread of a core adds nothing to SIMD arithmetic and the page needs room.
 */
export function defaultThreads() {
  const logical = navigator.hardwareConcurrency || 1;
  return logical <= 4 ? logical : Math.min(8, Math.ceil(logical / 2));
}
