"""Typed errors. Every message says what is wrong, where, and what to do about it.

`code` is the stable name that travels to JavaScript, the page and the shell, where the same types exist.
"""

from __future__ import annotations


class NnjitError(Exception):
    """Base of all errors that nnjit raises on purpose."""

    code = "nnjit"


class ModelFormatError(NnjitError):
    """The bytes are not a well-formed ONNX model (wrong magic, truncated, cyclic graph, missing tensor)."""

    code = "model-format"


class UnsupportedError(NnjitError):
    """The model is well-formed but asks for something nnjit does not support: names node, operator, opset, reason."""

    code = "unsupported"


class ExternalDataError(NnjitError):
    """An external-data file is missing, too short, or its location leaves the model's folder."""

    code = "external-data"


class InputError(NnjitError):
    """An inference input is missing, unknown, of the wrong dtype, rank or shape, or leads to an index out of range."""

    code = "input"


class FetchError(NnjitError):
    """A URL could not be fetched: HTTP status, network failure, or refused by CORS."""

    code = "fetch"


class DeviceError(NnjitError):
    """The device asked for is not there, cannot run the model, was lost, or is out of memory."""

    code = "device"


class OutOfMemoryError(DeviceError):
    """The model does not fit the memory that the device can give."""

    code = "out-of-memory"


class CompilerError(NnjitError):
    """The Python of a page, which compiles and tunes, does not start, or was lost; what runs there goes on."""

    code = "compiler"


class KernelFileError(NnjitError):
    """A file of tuned schedules is not one: not JSON, of another format or version, or too large."""

    code = "kernel-file"


class VerificationError(NnjitError):
    """An internal stage produced something its verifier refuses: a bug in nnjit, never the user's fault."""

    code = "internal"


ERROR_TYPES: dict[str, type[NnjitError]] = {
    cls.code: cls
    for cls in (
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
    )
}
