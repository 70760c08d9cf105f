"""Addresses of a Wasm function: immediate offsets, shared bases, pointers that a loop advances.

A buffer's address parameter takes part in the polynomials of `wasm_index` as the variable `&name`, so addresses are
indices in bytes. Accesses of one buffer that differ by a constant share a local, and the constant goes into the
instruction. Where a loop is innermost, an address that is linear in its variable is a pointer that each iteration
advances.
"""

from __future__ import annotations

from ..ir import STORAGE_BYTES, Expr, Stmt, Store, nodes
from ..symbolic import IntExpr, bounds_of, terms_of
from .wasm_encoding import I32, local_get, local_set
from .wasm_index import Index, IndexEmitter, Region, loaded


class AddressEmitter(IndexEmitter):
    """Adds addresses to indices."""

    def push_address(self, buffer: str, index: Index) -> int:
        """Push an address; the answer is the offset to encode in the instruction."""
        region = self.stack[-1]
        known = region.addresses.get((buffer, index))
        if known is None:
            known = region.addresses[buffer, index] = self._address(buffer, index)
        local, offset, address = known
        if local is None:
            self.push_sum(address)
        else:
            self.out += local_get(local)
        return offset

    def _address(self, buffer: str, index: Index) -> tuple[int | None, int, IntExpr]:
        """(local with an address, offset from it, the address); no local where the address is tied to this place."""
        size = STORAGE_BYTES[self.buffers[buffer][0]]
        terms = {mono: coef * size for mono, coef in terms_of(index).items()}
        offset = terms.pop((), 0)
        terms["&" + buffer,] = 1
        if not self.passes.immediates:
            terms[()], offset = offset, 0
        address = IntExpr(terms)
        region = self.stack[-1]
        lowest = region.lowest.get(buffer)
        if offset >= 0 and self.passes.immediates and (lowest is None or lowest.get(address, 0) >= 0):
            for outer in reversed(self.stack):
                local = outer.bases.get(address) if outer.bases else None
                if local is not None:
                    return local, offset, address
            low = bounds_of(address, self.bounds)[0]
            movable = low is not None and low >= 0
        else:
            movable = False
        if not movable:
            # An immediate is unsigned and added without wrapping, so the local must hold the address of an access that
            # is really made together with this one: the lowest of this region.
            bias = min(offset, self._lowest(region, buffer, size).get(address, offset))
            if bias and self.passes.immediates:
                offset -= bias
                address = IntExpr({**terms, (): bias})
        level, tied, _ = self.origin(address)
        if tied:
            return None, offset, address
        local = self._pointer(address, level)
        if local is None:
            if len(terms) == 1 and movable:
                local = self.variables["&" + buffer][0]
            else:
                local, level = self.hold(address, address, self.push_sum)
        if movable:
            self.stack[level].bases[address] = local
        return local, offset, address

    def _lowest(self, region: Region, buffer: str, size: int) -> dict[IntExpr, int]:
        """Least constant in bytes for each variable part of the region's own accesses of `buffer`."""
        lowest = region.lowest.get(buffer)
        if lowest is None:
            lowest = region.lowest[buffer] = {}
            if region.accesses is None:
                region.accesses = _accesses(region.body)
            for index in region.accesses.get(buffer, ()):
                terms = {mono: coef * size for mono, coef in terms_of(index).items()}
                offset = terms.pop((), 0)
                terms["&" + buffer,] = 1
                address = IntExpr(terms)
                lowest[address] = min(offset, lowest.get(address, offset))
        return lowest

    def _pointer(self, address: IntExpr, level: int) -> int | None:
        """The pointer local for `address` where the nearest loop allows one."""
        number = self.nearest_loop()
        loop = self.stack[number]
        if not self.passes.pointers or level != number or not loop.innermost:
            return None
        known = loop.pointers.get(address)
        if known is not None:
            return known[0]
        stride: dict[tuple, int] = {}
        rest: dict[tuple, int] = {}
        for mono, coef in address.terms.items():
            factors = tuple(a for a in mono if a != loop.var)
            if len(factors) == len(mono):
                rest[mono] = coef
            elif len(factors) == len(mono) - 1:
                stride[factors] = coef
            else:
                return None
        step: Index = stride[()] if len(stride) == 1 and () in stride else IntExpr(stride)
        if not stride or max(self.origin(step)[0], self.origin(IntExpr(rest))[0]) >= number:
            return None
        local = self.new_local(I32, next(m[0][1:] for m in rest if m and str(m[0])[0] == "&") + "_ptr")
        saved = self.at(number - 1)
        self.push_sum(IntExpr(rest) + step * loop.start)
        self.out += local_set(local)
        self.back(saved)
        loop.pointers[address] = local, step
        return local


def _accesses(body: list[Stmt]) -> dict[str, list[Index]]:
    """Buffer → indices at which the statements of `body` itself access it, nested bodies left out."""
    found: dict[str, list[Index]] = {}
    values: list[Expr] = []
    for s in body:
        if isinstance(s, Store):
            found.setdefault(s.buffer, []).append(s.index)
        for name in ("init", "value", "condition"):
            e = getattr(s, name, None)
            if e is not None:
                values.append(e)
    for e in nodes(*values):
        if e.op == "load":
            buffer, index = loaded(e)
            found.setdefault(buffer, []).append(index)
    return found
