"""WebAssembly binary → readable text, one instruction a line, for the modules that `wasm` emits.

The text is the specification's flat format with names where the module has them. Every function starts with its
parameters and locals; an address operand shows its offset.
"""

from __future__ import annotations

import struct

from ..errors import VerificationError
from .wasm_encoding import opcodes

_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128"}


def disassemble(module: bytes, only: str | None = None) -> str:
    """Text of a module, or of the one function exported under the name `only`.

    Raises VerificationError where it is no module or has what we never emit.
    """
    if module[:8] != b"\x00asm\x01\x00\x00\x00":
        raise VerificationError("these bytes do not start like a WebAssembly module")
    return "\n".join(_Reader(bytes(module)).module(only))


def _rows(declarations: list[str]) -> list[str]:
    """Declarations, four to a line."""
    return ["    " + " ".join(declarations[i : i + 4]) for i in range(0, len(declarations), 4)]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 8
        self.names = {code: name for name, code in opcodes().items()}

    # Primitives

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def take(self, n: int) -> bytes:
        self.at += n
        return self.data[self.at - n : self.at]

    def uleb(self) -> int:
        value = shift = 0
        while True:
            b = self.byte()
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value

    def sleb(self) -> int:
        start = self.at
        value = self.uleb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> (bits - 1) else value

    def text(self) -> str:
        return self.take(self.uleb()).decode()

    def types(self) -> list[str]:
        return [_TYPES[self.byte()] for _ in range(self.uleb())]

    # Sections

    def module(self, only: str | None) -> list[str]:
        sections: dict[int, int] = {}
        while self.at < len(self.data):
            number, size = self.byte(), self.uleb()
            sections[number] = self.at
            self.at += size
        lines = ["(module"]
        self.at = sections[1]
        types = []
        for _ in range(self.uleb()):
            self.byte()
            types.append((self.types(), self.types()))
        lines += self.imports(sections[2])
        self.at = sections[3]
        signatures = [types[self.uleb()] for _ in range(self.uleb())]
        self.at = sections[7]
        exports = {}
        for _ in range(self.uleb()):
            name = self.text()
            self.byte()
            exports[self.uleb()] = name
        names = self.local_names(sections.get(0))
        self.at = sections[10]
        for i in range(self.uleb()):
            end = self.uleb() + self.at
            if only is not None and exports.get(i) != only:
                self.at = end
                continue
            lines += self.function(exports.get(i, str(i)), signatures[i], names.get(i, {}), end)
        return [*lines, ")"]

    def imports(self, at: int) -> list[str]:
        self.at = at
        lines = []
        for _ in range(self.uleb()):
            module, name = self.text(), self.text()
            if self.byte() == 3:
                self.take(2)
                lines.append(f'  (import "{module}" "{name}" (global i32))')
                continue
            flags = self.byte()
            limits = str(self.uleb()) + (f" {self.uleb()}" if flags & 1 else "")
            lines.append(f'  (import "{module}" "{name}" (memory {limits}{" shared" if flags & 2 else ""}))')
        return lines

    def local_names(self, at: int | None) -> dict[int, dict[int, str]]:
        if at is None:
            return {}
        self.at = at
        if self.text() != "name":
            return {}
        self.byte()
        self.take(self.uleb())  # function names: the exports say them
        self.byte()
        self.uleb()
        names = {}
        for _ in range(self.uleb()):
            function = self.uleb()
            names[function] = {self.uleb(): self.text() for _ in range(self.uleb())}
        return names

    # Code

    def function(
        self, name: str, signature: tuple[list[str], list[str]], names: dict[int, str], end: int
    ) -> list[str]:
        params, results = signature
        kinds = list(params)
        for _ in range(self.uleb()):
            count = self.uleb()
            kinds += [_TYPES[self.byte()]] * count
        labels: list[str] = []
        taken: dict[str, int] = {}
        for i in range(len(kinds)):
            label = names.get(i, str(i))
            taken[label] = taken.get(label, 0) + 1
            labels.append("$" + (label if taken[label] == 1 else f"{label}.{taken[label]}"))
        lines = [f'  (func (export "{name}")']
        lines += _rows([f"(param {labels[i]} {kinds[i]})" for i in range(len(params))])
        lines += _rows([f"(result {r})" for r in results])
        for kind in _TYPES.values():
            same = [labels[i] for i in range(len(params), len(kinds)) if kinds[i] == kind]
            lines += _rows([f"(local {label} {kind})" for label in same])
        depth = 2
        while self.at < end:
            text = self.instruction(labels)
            word = text.split(" ", 1)[0]
            if word in ("end", "else"):
                depth -= 1
            if self.at < end:
                lines.append("  " * depth + text)
            if word in ("loop", "if", "block", "else"):
                depth += 1
        return [*lines, "  )"]

    def instruction(self, labels: list[str]) -> str:
        prefix = self.byte()
        code = (prefix, self.uleb()) if prefix in (0xFC, 0xFD) else (0, prefix)
        name = self.names.get(code)
        if name is None:
            raise VerificationError(
                f"opcode {code[1]:#x} (prefix {code[0]:#x}) at byte {self.at} is not ours"
            )
        operands = self.immediates(name, labels)
        return f"{name} {operands}" if operands else name

    def immediates(self, name: str, labels: list[str]) -> str:
        kind, _, op = name.rpartition(".")
        if kind == "local":
            return labels[self.uleb()]
        if op in ("block", "loop", "if"):
            self.byte()
            return ""
        if op in ("br", "br_if", "call") or kind == "global":
            return str(self.uleb())
        if op == "const":
            return self.constant(kind)
        if op == "shuffle":
            return " ".join(map(str, self.take(16)))
        if op in ("extract_lane", "replace_lane"):
            return str(self.byte())
        if op.startswith(("load", "store")):
            align, offset = self.uleb(), self.uleb()
            lane = f" lane={self.byte()}" if op.endswith("_lane") else ""
            return f"offset={offset} align={1 << align}{lane}"
        return ""

    def constant(self, kind: str) -> str:
        if kind in ("i32", "i64"):
            return str(self.sleb())
        if kind == "f32":
            return f"{struct.unpack('<f', self.take(4))[0]:.9g}"
        if kind == "f64":
            return repr(struct.unpack("<d", self.take(8))[0])
        data = self.take(16)
        return "i32x4 " + " ".join(f"{n:#x}" for n in struct.unpack("<4I", data))
