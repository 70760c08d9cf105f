"""Where the JavaScript runtime comes from.

In the page's compiler worker the modules have URLs and the worker hands a session over. Elsewhere, in a notebook, they
travel in the wheel: each becomes a Blob URL, dependencies first, with its import specifiers rewritten to the Blob
URLs of what it imports. Workers are started from Blob URLs too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ..errors import ERROR_TYPES, NnjitError, OutOfMemoryError, VerificationError

_WORKERS = ("pool", "quarantine", "executor")
_ENTRIES = (*(f"{name}.worker.js" for name in _WORKERS), "session.js")


async def session_class() -> tuple[Any, Any]:
    """The JavaScript class Session, and the URLs of its workers as a JavaScript object."""
    global _loaded
    if _loaded is None:
        import pyodide_js  # noqa: F401  (what fails outside Pyodide, fails here)
        from js import Object
        from pyodide.code import run_js
        from pyodide.ffi import to_js

        urls = _blob_urls()
        module = await run_js("(url) => import(url)")(urls["session.js"])
        workers = {name: urls[f"{name}.worker.js"] for name in _WORKERS}
        _loaded = module.Session, to_js(workers, dict_converter=Object.fromEntries)
    return _loaded


async def kernel_store() -> Any:
    """The module kernel-store.js."""
    from pyodide.code import run_js

    return await run_js("(url) => import(url)")(_blob_urls()["kernel-store.js"])


_loaded: tuple[Any, Any] | None = None


@cache
def _blob_urls() -> dict[str, str]:
    from js import URL, Blob, Object
    from pyodide.ffi import to_js

    options = to_js({"type": "text/javascript"}, dict_converter=Object.fromEntries)
    urls: dict[str, str] = {}
    for name, text in modules_in_order(_ENTRIES):
        text = rewrite(text, urls)
        urls[name] = URL.createObjectURL(Blob.new(to_js([text]), options))
    return urls


def module_text(name: str) -> str:
    """The source of one module of the runtime, from the installed wheel."""
    from importlib.resources import files

    return (files(__package__) / "js" / name).read_text(encoding="utf-8")


def modules_in_order(entries: tuple[str, ...], read: Any = module_text) -> list[tuple[str, str]]:
    """(name, source) of the entries and all that they import, each after what it imports.

    Raises VerificationError when modules import each other in a circle.
    """
    done: dict[str, str] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            raise VerificationError(f"runtime modules import each other: {' → '.join([*path, name])}")
        path.append(name)
        text = read(name)
        for imported in imports_of(text):
            visit(imported)
        path.pop()
        done[name] = text

    for entry in entries:
        visit(entry)
    return list(done.items())


_IMPORTS = ('from "./', 'import("./')


def imports_of(text: str) -> list[str]:
    """Names of the modules that a module imports, comments left out."""
    found = []
    for line in text.splitlines():
        if line.lstrip().startswith(("*", "//", "/*")):
            continue
        for mark in _IMPORTS:
            if mark in line:
                found.append(line.split(mark, 1)[1].split('"', 1)[0])
    return found


def rewrite(text: str, urls: dict[str, str]) -> str:
    """`text` with its import specifiers replaced by the URLs of the modules that they name."""
    for name in imports_of(text):
        for mark in _IMPORTS:
            text = text.replace(f'{mark}{name}"', f'{mark.removesuffix("./")}{urls[name]}"')
    return text


def typed(error: BaseException) -> BaseException:
    """The Python error for one that crossed from JavaScript; any other error itself."""
    code = getattr(error, "code", None)
    if isinstance(error, NnjitError) or not isinstance(code, str):
        return error
    message = str(getattr(error, "message", error))
    return ERROR_TYPES.get(code, NnjitError)(message)


def plain(error: BaseException) -> dict[str, str]:
    """The error as errors.js takes it from a message."""
    import traceback

    error = typed(error)
    if isinstance(error, MemoryError):
        error = OutOfMemoryError("Python has no memory left for compiling this model: close other tabs.")
    elif not isinstance(error, NnjitError):
        where = traceback.extract_tb(error.__traceback__)
        place = f" ({where[-1].filename.rsplit('/', 1)[-1]}:{where[-1].lineno})" if where else ""
        shown = f"{type(error).__name__}: {error}{place}"
        stack = "".join(traceback.format_exception(error))
        return {"code": VerificationError.code, "name": "VerificationError", "message": shown, "stack": stack}
    stack = "".join(traceback.format_exception(error)) if isinstance(error, VerificationError) else ""
    return {"code": error.code, "name": type(error).__name__, "message": str(error), "stack": stack}
