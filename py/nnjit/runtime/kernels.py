"""Exchanging tuned kernels: what this browser knows as one JSON file, and taking such a file from elsewhere."""

from __future__ import annotations

from ..errors import InputError
from .javascript import kernel_store
from .kernel_store import Imported, KernelStore


async def export_kernels() -> str:
    """All that was tuned in this browser, of any model and on any of its devices, as a kernel file (JSON text)."""
    return await KernelStore(await kernel_store()).export()


async def import_kernels(content: str | bytes) -> Imported:
    """Take a kernel file, which `export_kernels` made somewhere, for models that are loaded from now on.

    Its schedules are hints: on a device like the one that they come from they are tried first, and adopted like any
    other candidate, after they were checked and have won here. The result prints as what was taken, and what was not
    and why. Raises KernelFileError when it is no kernel file.
    """
    if not isinstance(content, (str, bytes)):
        raise InputError(f"A kernel file is text or bytes, not of type {type(content).__name__}.")
    return await KernelStore(await kernel_store()).add(content)
