/**
 * What tells one model file from another: SHA-256 of the SHA-256 digests of its pieces, hashed while they arrive. A hash
 * of the whole could only begin with the last byte, and would copy all of a large file.
 */

/** Bytes of a piece; the last one may have fewer. */
const PIECE = 2 ** 24;

/** So many pieces are hashed at the same time, each in a copy of its own. */
const AT_ONCE = 4;

export class ContentHash {
  constructor() {
    /** @type {ArrayBufferLike | null} where the bytes arrive */
    this.buffer = null;
    /** @type {Promise<ArrayBuffer>[]} of each piece that is complete */
    this.digests = [];
  }

  /**
   * Hash the pieces that are complete.
   * @param {Uint8Array<ArrayBuffer>} bytes the file, in the memory where it stays; other memory begins another file
   * @param {number} filled bytes that have arrived
   */
  advance(bytes, filled) {
    if (this.buffer !== bytes.buffer) {
      this.buffer = bytes.buffer;
      this.digests = [];
    }
    while ((this.digests.length + 1) * PIECE <= filled) this.add(bytes);
  }

  /**
   * Hash what is left; the bytes must not change or move until this resolves.
   * @param {Uint8Array<ArrayBuffer>} bytes the file
   * @returns {Promise<string>} 64 hexadecimal digits
   */
  async finish(bytes) {
    this.advance(bytes, bytes.length);
    if (this.digests.length * PIECE < bytes.length) this.add(bytes);
    const digests = await Promise.all(this.digests);
    const whole = await crypto.subtle.digest("SHA-256", await new Blob(digests).arrayBuffer());
    return Array.from(new Uint8Array(whole), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  /** @param {Uint8Array<ArrayBuffer>} bytes */
  add(bytes) {
    const { digests } = this;
    const n = digests.length;
    const hash = () => crypto.subtle.digest("SHA-256", bytes.subarray(n * PIECE, (n + 1) * PIECE));
    const digest = n < AT_ONCE ? hash() : digests[n - AT_ONCE].then(hash);
    // Whoever awaits them all gets the error; a download that fails awaits none.
    digest.catch(() => {});
    digests.push(digest);
  }
}
