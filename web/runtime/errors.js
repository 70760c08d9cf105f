/**
 * Typed errors, the same types and codes as in Python (nnjit/errors.py). They cross postMessage as plain objects,
 * because structured clone would drop the class and the `code`.
 */

/** Base of all errors that nnjit throws on purpose; `code` is the stable name shared with Python and the shell. */
export class NnjitError extends Error {
  static code = "nnjit";

  /** @param {string} message @param {ErrorOptions} [options] */
  constructor(message, options) {
    super(message, options);
    const type = /** @type {typeof NnjitError} */ (this.constructor);
    this.name = type.name;
    /** @type {string} */
    this.code = type.code;
  }
}

/** The bytes are not a well-formed ONNX model. */
export class ModelFormatError extends NnjitError {
  static code = "model-format";
}

/** The model asks for an operator, opset or feature that nnjit does not support. */
export class UnsupportedError extends NnjitError {
  static code = "unsupported";
}

/** An external-data file is missing, too short, or outside the model's folder. */
export class ExternalDataError extends NnjitError {
  static code = "external-data";
}

/** An inference input is missing, unknown, of the wrong dtype, rank or shape, or leads to an index out of range. */
export class InputError extends NnjitError {
  static code = "input";
}

/** A URL could not be fetched: HTTP status, network failure, or refused by CORS. */
export class FetchError extends NnjitError {
  static code = "fetch";
}

/** The device asked for is not there, cannot run the model, was lost, or is out of memory. */
export class DeviceError extends NnjitError {
  static code = "device";
}

/** The model does not fit the memory that the device can give. */
export class OutOfMemoryError extends DeviceError {
  static code = "out-of-memory";
}

/** Python, which compiles and tunes, does not start, or was lost; what runs goes on. */
export class CompilerError extends NnjitError {
  static code = "compiler";
}

/** A file of tuned schedules is not one: not JSON, of another format or version, or too large. */
export class KernelFileError extends NnjitError {
  static code = "kernel-file";
}

/** Something that the compiler or the runtime promised did not hold: a bug in nnjit. */
export class VerificationError extends NnjitError {
  static code = "internal";
}

/** @type {Map<string, typeof NnjitError>} */
const TYPES = new Map(
  [
    NnjitError,
    ModelFormatError,
    UnsupportedError,
    ExternalDataError,
    InputError,
    FetchError,
    DeviceError,
    OutOfMemoryError,
    CompilerError,
    KernelFileError,
    VerificationError,
  ].map((type) => [type.code, type]),
);

/** @typedef {{code: string | null, name: string, message: string, stack: string}} PlainError */

/**
 * A plain object that stands for `error` in a message. `code` is null for errors that are not ours.
 * @param {unknown} error
 * @returns {PlainError}
 */
export function errorToPlain(error) {
  if (error instanceof Error) {
    const code = error instanceof NnjitError ? error.code : null;
    return { code, name: error.name, message: error.message, stack: error.stack ?? "" };
  }
  return { code: null, name: "Error", message: String(error), stack: "" };
}

/**
 * The error that `plain` stands for, of its own type when it is one of ours.
 * @param {PlainError} plain
 * @returns {Error}
 */
export function errorFromPlain(plain) {
  const error = plain.code === null ? new Error(plain.message) : errorOfCode(plain.code, plain.message);
  if (plain.code === null) error.name = plain.name;
  if (plain.stack) error.stack = plain.stack;
  return error;
}

/**
 * A typed error from its code; an unknown code gives the base type, with that code.
 * @param {string} code
 * @param {string} message
 * @returns {NnjitError}
 */
export function errorOfCode(code, message) {
  const error = new (TYPES.get(code) ?? NnjitError)(message);
  error.code = code;
  return error;
}
