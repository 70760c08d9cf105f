"""The architecture: what each part of the compiler may know of the others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nnjit

ROOT = Path(nnjit.__file__).parent
BROWSER = {"js", "pyodide", "pyodide_js"}

MAY_IMPORT = {
    "errors": "",
    "stopwatch": "",
    "symbolic": "",
    "codegen_passes": "",
    "target": "codegen_passes",
    "ir": "ir_text symbolic",
    "ir_text": "ir",
    "ir_verify": "errors ir ir_text symbolic",
    "graph": "errors",
    "onnx": "errors graph",
    "tensor": "errors graph ir symbolic",
    "ops": "errors graph ir onnx symbolic tensor",
    "passes": "codegen_passes ir lower symbolic tensor",
    "lower": "errors ir ir_text ir_verify passes schedule symbolic target tensor",
    "schedule": "codegen_passes ir lower symbolic target",
    "emit": "codegen_passes errors ir symbolic target",
    "plan": "emit graph ir schedule symbolic target tensor",
    "plan_verify": "errors",
    "units": "emit ir lower plan schedule symbolic target tensor",
    "compiler": "errors graph ir lower ops passes plan stopwatch symbolic target tensor units",
    "tune": "compiler errors ir lower plan schedule symbolic target units",
    "runtime": "codegen_passes compiler emit errors graph onnx stopwatch target tune",
    "__init__": "runtime",
}
"""Part (a package, or a module beside them) → the parts that it may import. Neither what decides how a kernel is made
(lower, schedule) nor what comes before knows the emitters; the emitters know nothing but kernels."""


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(module: str, at_start: bool = False) -> set[str]:
    """Modules of nnjit, relative to it, that `module` imports; `at_start`: only when it is itself imported."""
    path = MODULES[module]
    package = path.relative_to(ROOT).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if at_start else ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
        elif (node.module or "").split(".")[0] == "nnjit":
            base = (node.module or "").split(".")[1:]
        else:
            continue
        name = ".".join(part for part in base if part)
        for alias in node.names:
            inner = f"{name}.{alias.name}".lstrip(".")
            found.add(inner if inner in MODULES else name or "__init__")
    return found


def part_of(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("part", dict.fromkeys(map(part_of, MODULES)))
def test_a_part_imports_only_what_it_may_know(part: str) -> None:
    for module in MODULES:
        if part_of(module) == part:
            known = {part_of(found) for found in imports(module)} - {part, "__init__"}
            assert known <= set(MAY_IMPORT[part].split()), module


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path, module))
        if module not in done:
            for found in imports(module, at_start=True) & MODULES.keys():
                visit(found, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_only_the_bridge_needs_a_browser() -> None:
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert part_of(module) == "runtime" or not names & BROWSER, module
