"""The JavaScript runtime as it travels in the wheel: dependency order and rewritten imports."""

from __future__ import annotations

import pytest

from nnjit.errors import ERROR_TYPES, FetchError, VerificationError
from nnjit.runtime.javascript import imports_of, modules_in_order, plain, rewrite, typed
from nnjit_build.paths import WEB

MODULES = {
    "a.js": 'import { b } from "./b.js";\nimport { c } from "./c.js";\n',
    "b.js": '/** @type {import("./z.js").Z} */\nimport * as c from "./c.js";\n',
    "c.js": 'const later = () => import("./d.js");\n',
    "d.js": "export {};\n",
}


def test_modules_come_after_what_they_import() -> None:
    order = [name for name, _ in modules_in_order(("a.js",), MODULES.__getitem__)]
    assert order == ["d.js", "c.js", "b.js", "a.js"]


def test_types_in_comments_are_no_imports() -> None:
    assert imports_of(MODULES["b.js"]) == ["c.js"]


def test_a_circle_of_imports_is_refused() -> None:
    circle = {"a.js": 'import "x" from "./b.js";', "b.js": 'import x from "./a.js";'}
    with pytest.raises(VerificationError, match="a.js → b.js → a.js"):
        modules_in_order(("a.js",), circle.__getitem__)


def test_specifiers_are_replaced() -> None:
    text = rewrite(MODULES["c.js"] + MODULES["a.js"], {"b.js": "blob:1", "c.js": "blob:2", "d.js": "blob:3"})
    assert text == (
        'const later = () => import("blob:3");\nimport { b } from "blob:1";\nimport { c } from "blob:2";\n'
    )


def test_the_real_runtime_has_an_order() -> None:
    entries = ("pool.worker.js", "quarantine.worker.js", "executor.worker.js", "session.js")
    order = modules_in_order(entries, lambda name: (WEB / "runtime" / name).read_text(encoding="utf-8"))
    names = [name for name, _ in order]
    assert set(entries) <= set(names)
    assert "webgpu-device.js" in names


class FromJavaScript(Exception):
    """As Pyodide shows an error of the JavaScript runtime."""

    def __init__(self, code: object, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@pytest.mark.parametrize("code", ERROR_TYPES)
def test_errors_keep_their_type_on_the_way_to_python(code: str) -> None:
    error = typed(FromJavaScript(code, "what and where"))
    assert type(error) is ERROR_TYPES[code]
    assert str(error) == "what and where"


def test_other_errors_stay_what_they_are() -> None:
    error = FromJavaScript(20, "AbortError has a number as its code")
    assert typed(error) is error


def test_errors_keep_their_code_on_the_way_to_javascript() -> None:
    assert plain(FetchError("nothing there"))["code"] == "fetch"


def test_running_out_of_memory_in_python_is_named() -> None:
    assert plain(MemoryError())["code"] == "out-of-memory"


def test_a_mistake_of_the_compiler_is_an_internal_error_that_says_where() -> None:
    try:
        {}["missing"]  # noqa: B018
    except KeyError as error:
        found = plain(error)
    assert found["code"] == "internal"
    assert "KeyError: 'missing' (test_runtime_javascript.py:" in found["message"]
