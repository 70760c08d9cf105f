/**
 * The model's files, from which weights are read: the model itself under "", external data under the names that the
 * model gives. A file is an ArrayBuffer, or a Blob where memory is short; it stays readable as long as the model
 * lives, because a kernel that is swapped in later may want its weights in another layout.
 */

import { convertBytes } from "./dtypes.js";
import { ExternalDataError, ModelFormatError } from "./errors.js";

/** @typedef {import("./types.js").BufferSpec} BufferSpec */

export class WeightFiles {
  /** @param {Record<string, ArrayBuffer | Blob>} files */
  constructor(files) {
    this.files = new Map(Object.entries(files));
  }

  /** Bytes of all files. */
  get bytes() {
    let total = 0;
    for (const file of this.files.values()) total += file instanceof Blob ? file.size : file.byteLength;
    return total;
  }

  /**
   * The bytes of a weight in the device's storage format.
   * @param {BufferSpec} buffer of kind "weight"
   * @returns {Promise<Uint8Array> | Uint8Array} at once when the file is in memory; a view of the file when its dtype
   *   is the storage dtype, so copy it before changing it
   */
  read(buffer) {
    const source = buffer.source;
    if (!source) throw new ModelFormatError(`The weight ${buffer.id} has no source.`);
    const name = source.file ?? "";
    const file = this.files.get(name);
    if (!file) {
      throw new ExternalDataError(
        `The weights file ${JSON.stringify(name)} is missing: pass it with the model, or put it beside the model's URL.`,
      );
    }
    const size = file instanceof Blob ? file.size : file.byteLength;
    const end = source.offset + source.length;
    if (end > size) {
      const what = name ? `The weights file ${JSON.stringify(name)}` : "The model file";
      throw new ExternalDataError(`${what} ends at byte ${size}, but a weight lies at ${source.offset}–${end}.`);
    }
    if (file instanceof Blob) {
      return file
        .slice(source.offset, end)
        .arrayBuffer()
        .then((bytes) => convertBytes(new Uint8Array(bytes), source.dtype, buffer.storage));
    }
    return convertBytes(new Uint8Array(file, source.offset, source.length), source.dtype, buffer.storage);
  }
}
