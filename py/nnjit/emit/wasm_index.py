"""Integer indices of a Wasm function: what is computed where.

V8 moves nothing out of a loop, so this module does. A function is a stack of `Region`s: the function itself, loop
bodies, branches of ifs. An index is a polynomial (symbolic.IntExpr) over names whose regions are known, so the region
where it can first be computed is known too. It is computed there once, into a local, by appending to that region's
code, which at that moment ends just before the region being emitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..codegen_passes import Passes
from ..ir import Expr, Stmt
from ..symbolic import IntExpr, Opaque, bounds_of, terms_of
from .wasm_encoding import I32, OP, i32_const, local_get, local_set, local_tee

_ADD, _SUB, _MUL, _SHL = OP["i32.add"], OP["i32.sub"], OP["i32.mul"], OP["i32.shl"]
_AND, _OR, _EQZ, _LT, _SELECT = OP["i32.and"], OP["i32.or"], OP["i32.eqz"], OP["i32.lt_s"], OP["select"]
_SIGN = i32_const(31) + OP["i32.shr_s"]  # −1 where negative, 0 elsewhere

Index = int | IntExpr

Origin = tuple[int, bool, bool]
"""(number of the outermost region where a value is known, tied to the current place, contains a load)."""

_NOWHERE: Origin = (0, False, False)


def loaded(e: Expr) -> tuple[str, Index]:
    """(buffer, index) of a load."""
    return e.attr


def _join(parts: Iterable[Origin]) -> Origin:
    level, tied, loads = _NOWHERE
    for found, fixed, loading in parts:
        if found > level:
            level = found
        tied = tied or fixed
        loads = loads or loading
    return level, tied, loads


class Region:
    """A body of code within the function, with what has been computed in it."""

    __slots__ = (
        "code", "var", "start", "innermost", "values", "addresses", "bases", "pointers", "available", "fragile",
        "uses", "body", "accesses", "lowest", "origins", "loop",
    )  # fmt: skip

    def __init__(self, body: list[Stmt], var: str = "", start: Index = 0, innermost: bool = False) -> None:
        self.code = bytearray()
        self.body = body
        self.var = var
        """Loop variable; empty where the region is not a loop's body."""
        self.start = start
        """First value of the loop variable."""
        self.innermost = innermost
        self.values: dict[object, int] = {}
        """Index expression or opaque atom → local that holds it from here on."""
        self.addresses: dict[tuple[str, Index], tuple[int | None, int, IntExpr]] = {}
        """(buffer, index) → what `AddressEmitter._address` says of it."""
        self.bases: dict[IntExpr, int] = {}
        """Address without its constant → local that holds it."""
        self.pointers: dict[IntExpr, tuple[int, Index]] = {}
        """Address at some iteration → (pointer local, bytes that an iteration advances it)."""
        self.available: dict[Expr, int] = {}
        """Expression computed in this straight-line stretch → local."""
        self.fragile: dict[Expr, frozenset[str]] = {}
        """Of the available ones, those that depend on variables or buffers that may be written."""
        self.uses: dict[Expr, int] = {}
        self.origins: dict[Expr, Origin] = {}
        """See `IndexEmitter.value_origin`."""
        self.lowest: dict[str, dict[IntExpr, int]] = {}
        """See `AddressEmitter._lowest`."""
        self.loop = 0
        """Number of the innermost region that is a loop's body, from here outwards; 0, the function, where there is none."""
        self.accesses: dict[str, list[Index]] | None = None
        """What `wasm_addresses._accesses` says of the body, once it was asked."""


class IndexEmitter:
    """Regions, locals and integer indices of one function; `wasm_addresses` adds addresses,
    `wasm_values` values, `wasm_operations` how each is computed, `wasm` statements."""

    def __init__(self, buffers: dict[str, tuple[str, bool]], params: list[str], passes: Passes) -> None:
        self.passes = passes
        self.buffers = buffers
        """Name → (storage dtype, read only)."""
        self.param_count = len(params)
        self.local_types = bytearray()
        self.local_names = list(params)
        self.variables: dict[str, tuple[int, int]] = {name: (i, 0) for i, name in enumerate(params)}
        """Index variable → (local, region number)."""
        self.bounds: dict[str, tuple[int, int | None]] = {}
        """Range of loop variables and declared integers; symbols are not negative."""
        self.lets: dict[str, tuple[int, int]] = {}
        """Declared local → (Wasm local, region number)."""
        self.mutable: set[str] = set()
        self.used: set[str] = set()
        """Loop variables that the code reads as numbers."""
        self.origins: dict[tuple, Origin] = {}
        """See `_mono_origin`."""
        self.stack = [Region([])]
        self.out = self.stack[0].code

    # Locals and regions

    def new_local(self, kind: int, name: str) -> int:
        self.local_types.append(kind)
        self.local_names.append(name)
        return self.param_count + len(self.local_types) - 1

    def enter(self, region: Region) -> None:
        region.loop = len(self.stack) if region.var else self.stack[-1].loop
        self.stack.append(region)
        self.out = region.code

    def leave(self) -> Region:
        region = self.stack.pop()
        self.out = self.stack[-1].code
        return region

    def at(self, r: int) -> list[Region]:
        """Make region number r the innermost for a while; the answer restores with `back`."""
        saved = self.stack
        self.stack = saved[: r + 1]
        self.out = self.stack[-1].code
        return saved

    def back(self, saved: list[Region]) -> None:
        self.stack = saved
        self.out = saved[-1].code

    def nearest_loop(self) -> int:
        """See `Region.loop`."""
        return self.stack[-1].loop

    # Where an index can be computed

    def origin(self, e: Index) -> Origin:
        """Where `e` is known; see `Origin`."""
        if isinstance(e, int):
            return _NOWHERE
        origins = self.origins
        found = [origins.get(mono) or self._mono_origin(mono) for mono in e.terms]
        return found[0] if len(found) == 1 else _join(found)

    def define(self, name: str, local: int, region: int) -> None:
        """From here on, the index variable `name` is in `local` and belongs to a region."""
        if name in self.variables:
            self.origins.clear()
        self.variables[name] = local, region

    def _mono_origin(self, mono: tuple) -> Origin:
        known = self.origins.get(mono)
        if known is None:
            known = self.origins[mono] = self._find_origin(mono)
        return known

    def _find_origin(self, mono: tuple) -> Origin:
        level = 0
        parts: list[Origin] = []
        for atom in mono:
            if isinstance(atom, str):
                level = max(level, self.variables[atom][1])
            elif atom.op == "value":
                parts.append(self.value_origin(atom.args[0]))
            else:
                parts.extend(map(self.origin, atom.args))
        return _join([(level, False, False), *parts]) if parts else (level, False, False)

    def value_origin(self, e: Expr) -> Origin:
        """Where a run-time value is known."""
        known = self.stack[-1].origins.get(e)
        if known is None:
            known = self.stack[-1].origins[e] = self._value_origin(e)
        return known

    def _value_origin(self, e: Expr) -> Origin:
        if e.op == "local":
            return self.lets[e.attr][1], e.attr in self.mutable, False
        if e.op == "index":
            return self.origin(e.attr)
        if e.op == "load":
            buffer, at = loaded(e)
            level, tied, _ = self.origin(at)
            return level, tied or not self.buffers[buffer][1], True
        if e.op == "held":
            return 0, True, False
        return _join([self.value_origin(arg) for arg in e.args])

    def place(self, level: int, loads: bool) -> int:
        """The region to compute something in that is known from region `level` on.

        Arithmetic moves out of loops, but not out of an if where no loop is between. A load moves out of loops only:
        the guard of a loop that may run zero times is an if, so a load never runs where it would not have.
        """
        stack, last = self.stack, len(self.stack) - 1
        if not self.passes.hoisting:
            return last
        if loads:
            while last > level and stack[last].var:
                last -= 1
            return last
        while level < last and not stack[level + 1].var:
            level += 1
        return level

    # Values of indices

    def push_index(self, e: Index) -> None:
        """Push the i32 value of `e`."""
        if isinstance(e, int):
            self.out += i32_const(e)
            return
        if len(e.terms) == 1:
            ((mono, coef),) = e.terms.items()
            if coef == 1 and len(mono) == 1:
                self._push_atom(mono[0])
                return
        if self.origin(e)[1]:
            self.push_sum(e)
        else:
            self._push_held(e, e, self.push_sum)

    def _push_held(self, key: object, e: IntExpr, push: Callable) -> None:
        """Push `e` from its local."""
        count = len(self.local_types)
        local, place = self.hold(key, e, push)
        if len(self.local_types) > count and place == len(self.stack) - 1:
            # Just set here: keep the value on the stack as well.
            del self.out[-len(local_set(local)) :]
            self.out += local_tee(local)
        else:
            self.out += local_get(local)

    def hold(self, key: object, e: IntExpr, push: Callable) -> tuple[int, int]:
        """(local, region number) that holds `e`, known there as `key`; `push(key)` computes it if need be."""
        level, _, loads = self.origin(e)
        place = self.place(level, loads)
        for r in range(level, place + 1):
            values = self.stack[r].values
            local = values.get(key) if values else None
            if local is not None:
                return local, r
        local = self.new_local(I32, "i")
        saved = self.at(place)
        push(key)
        self.out += local_set(local)
        self.stack[place].values[key] = local
        self.back(saved)
        return local, place

    def _push_variable(self, name: str) -> None:
        self.used.add(name)
        self.out += local_get(self.variables[name][0])

    def push_sum(self, e: Index) -> None:
        """Push `e`, computed here; the part that an outer region knows comes from there."""
        top = len(self.stack) - 1
        outer: dict[tuple, int] = {}
        inner: list[tuple[tuple, int]] = []
        constant = 0
        for mono, coef in terms_of(e).items():
            if not mono:
                constant = coef
                continue
            level, tied, loads = self.origins.get(mono) or self._mono_origin(mono)
            if level < top and not tied and self.place(level, loads) < top:
                outer[mono] = coef
            else:
                inner.append((mono, coef))
        pushed = bool(outer)
        if outer:
            if constant:
                outer[()] = constant
                constant = 0
            self.push_index(IntExpr(outer))
        for mono, factor in self._by_loop_variable(inner):
            self._push_product(mono, factor)
            if pushed:
                self.out += _ADD
            pushed = True
        if constant or not pushed:
            self.out += i32_const(constant)
            if pushed:
                self.out += _ADD

    def _by_loop_variable(self, inner: list[tuple[tuple, int]]) -> list[tuple[tuple, Index]]:
        """(monomial, factor) pairs; the terms linear in the nearest loop's variable are gathered into one."""
        loop = self.stack[self.nearest_loop()].var
        if not loop or len(inner) == 1 and inner[0][0] == (loop,):
            return list(inner)
        level = self.variables[loop][1]
        factor: dict[tuple, int] = {}
        items: list[tuple[tuple, Index]] = []
        for mono, coef in inner:
            rest = tuple(a for a in mono if a != loop)
            if len(rest) == len(mono) - 1:
                found, tied, _ = self._mono_origin(rest)
                if not tied and found < level:
                    factor[rest] = coef
                    continue
            items.append((mono, coef))
        if factor:
            items.insert(0, ((loop,), factor[()] if factor.keys() == {()} else IntExpr(factor)))
        return items

    def _push_product(self, mono: tuple, factor: Index) -> None:
        for n, atom in enumerate(mono):
            self._push_atom(atom)
            if n:
                self.out += _MUL
        if isinstance(factor, int) and factor > 0 and factor & (factor - 1) == 0:
            if factor > 1:
                self.out += i32_const(factor.bit_length() - 1) + _SHL
        else:
            self.push_index(factor)
            self.out += _MUL

    def _push_atom(self, atom: str | Opaque) -> None:
        if isinstance(atom, str):
            self._push_variable(atom)
            return
        e = IntExpr({(atom,): 1})
        if self.origin(e)[1]:
            self._push_opaque(atom)
        else:
            self._push_held(atom, e, self._push_opaque)

    def _push_opaque(self, atom: Opaque) -> None:
        if atom.op == "value":
            self.push_narrowed(atom.args[0])
            return
        a, b = atom.args
        if atom.op in ("floordiv", "mod"):
            self._push_division(atom.op, a, b)
            return
        first, second = self.index_code(a), self.index_code(b)
        smaller = first + second + _LT
        self.out += first + second + smaller if atom.op == "min" else second + first + smaller
        self.out += _SELECT

    def _push_division(self, op: str, a: Index, b: Index) -> None:
        """Push ⌊a / b⌋ or a − b·⌊a / b⌋ for b > 0; a that may be negative costs a correction."""
        divisor = self.index_code(b)
        if not isinstance(b, int):
            # Hoisting may run this where the original would not have run, with a divisor of zero: make it one.
            local = self.new_local(I32, "divisor")
            self.out += divisor + divisor + _EQZ + _OR + local_set(local)
            divisor = local_get(local)
        low = bounds_of(a, self.bounds)[0]
        if low is not None and low >= 0:
            self.push_index(a)
            self.out += divisor + OP["i32.div_u" if op == "floordiv" else "i32.rem_u"]
            return
        dividend = self.index_code(a)
        if op == "floordiv":
            # Truncating division of a − (b − 1) where a < 0.
            self.out += dividend + divisor + i32_const(1) + _SUB + dividend + _SIGN + _AND + _SUB
            self.out += divisor + OP["i32.div_s"]
            return
        remainder = self.new_local(I32, "remainder")
        self.out += dividend + divisor + OP["i32.rem_s"] + local_tee(remainder)
        self.out += divisor + local_get(remainder) + _SIGN + _AND + _ADD

    def index_code(self, e: Index) -> bytes:
        """Code that pushes `e` and may be repeated; what it needs is computed here or further out."""
        if isinstance(e, int):
            return i32_const(e)
        key: object = e
        push: Callable = self.push_sum
        if len(e.terms) == 1:
            ((mono, coef),) = e.terms.items()
            if coef == 1 and len(mono) == 1:
                if isinstance(mono[0], str):
                    self.used.add(mono[0])
                    return local_get(self.variables[mono[0]][0])
                key, push = mono[0], self._push_opaque
        if not self.origin(e)[1]:
            return local_get(self.hold(key, e, push)[0])
        local = self.new_local(I32, "i")
        self.push_sum(e)
        self.out += local_set(local)
        return local_get(local)

    def push_narrowed(self, e: Expr) -> None:
        """Push a run-time integer as i32: values are the subclass's subject (wasm_values.ValueEmitter)."""
        raise NotImplementedError
