"""Contractions of small integers, two terms of the sum at a time.

Where both operands fit 16 bits, two neighbours along a reduction axis fit one 32-bit word, and one instruction multiplies
four words by four and adds the two products of each (Wasm: `i32x4.dot_i16x8_s`), twice the rate of floats. A spec is
rewritten so: the reduction axis runs over words, and an operand is the word of two elements, or, where they lie side by
side in memory already, a load of the buffer taken as words. Sums of integers wrap alike in any order, so the results
are the same bits.
"""

from __future__ import annotations

from .. import ir
from ..symbolic import IntExpr, ceildiv, minimum, substitute, terms_of, var
from .spec import Axes, Index, KernelSpec, Reduce, Stage, coefficient, substitute_expr

FITS = ("i8", "u8", "i16")
"""Storage whose every value fits a signed 16-bit half of a word."""


def pairable(spec: KernelSpec) -> bool:
    """Whether the contraction of `spec` is one of integers that fit 16 bits."""
    operands = spec.contraction
    if operands is None or spec.stages[0].reduces[0].value.dtype != "i32":
        return False
    storage = {b.name: b.storage for b in spec.buffers}
    return all(e.op == "load" and storage[e.attr[0]] in FITS for e in operands)


def pair_axis(spec: KernelSpec) -> str:
    """The reduction axis to pair along: one where an operand's neighbours lie side by side, else the longest."""
    operands = spec.contraction
    assert operands is not None
    best = None
    for axis, extent in spec.stages[0].axes:
        if not isinstance(extent, int) or extent > 1:
            ready = any(_words(spec, e, axis) for e in operands)
            even = isinstance(extent, int) and extent % 2 == 0
            rank = ready, even, spec.hint(extent)
            if best is None or rank > best[0]:
                best = rank, axis
    return best[1] if best else spec.stages[0].axes[-1][0]


def ready(spec: KernelSpec, number: int) -> bool:
    """Whether operand `number` can be read as words where it lies."""
    operands = spec.contraction
    return operands is not None and _words(spec, operands[number], pair_axis(spec)) is not None


def paired(spec: KernelSpec, packed: tuple[int, ...]) -> KernelSpec:
    """`spec` with its sum over pairs; the operands `packed` become words made of two loads, which are to be packed.

    Raises ValueError where the spec is not `pairable`, or an operand that is not packed cannot be read as words.
    """
    if not pairable(spec):
        raise ValueError("pairs need a sum of products of integers that fit 16 bits")
    operands = spec.contraction
    assert operands is not None
    axis = pair_axis(spec)
    extent = spec.extent(axis)
    buffers = {b.name: b for b in spec.buffers}
    words = []
    for number, e in enumerate(operands):
        if number in packed:
            words.append(_word(e, axis, extent))
            continue
        word = _words(spec, e, axis)
        if word is None:
            raise ValueError(f"operand {number} has no pairs side by side along {axis}: it must be packed")
        name = e.attr[0]
        buffers[name] = ir.Buffer(name, "i32", "r")
        words.append(word)
    first = spec.stages[0]
    axes: Axes = (*(a for a in first.axes if a[0] != axis), (axis, ceildiv(extent, 2)))
    total = Reduce(first.reduces[0].name, "sum", ir.dot(words[0], words[1]))
    result = KernelSpec(
        spec.outer, [Stage(axes, [total], []), *spec.stages[1:]], list(buffers.values()), spec.hints, spec.bounds
    )  # fmt: skip
    result.symbols = spec.symbols
    return result


def _word(e: ir.Expr, axis: str, extent: Index) -> ir.Expr:
    """Elements 2·axis and 2·axis + 1 of a load as one word; past the end there is a zero."""
    low = substitute_expr(e, {axis: var(axis) * 2})
    at = var(axis) * 2 + 1
    if isinstance(extent, int) and extent % 2 == 0:
        high = substitute_expr(e, {axis: at})
    else:
        high = substitute_expr(e, {axis: minimum(at, extent - 1)})
        inside = ir.binary("lt", ir.index(at), ir.index(extent))
        high = ir.select(inside, high, ir.const(0, "i32"))
    low = ir.binary("and", low, ir.const(0xFFFF, "i32"))
    return ir.binary("or", low, ir.binary("shl", high, ir.const(16, "i32")))


def _words(spec: KernelSpec, e: ir.Expr, axis: str) -> ir.Expr | None:
    """The load `e` over pairs along `axis` as a load of words, where its pairs start at even elements."""
    buffer, at = e.attr
    storage = next(b.storage for b in spec.buffers if b.name == buffer)
    extent = spec.extent(axis)
    whole = isinstance(extent, int) and extent % 2 == 0
    if storage != "i16" or not whole or coefficient(at, axis) != 1 or _read_elsewhere(spec, e):
        return None
    index = substitute(at, {axis: var(axis) * 2})
    half: Index = 0
    for mono, coef in terms_of(index).items():
        if coef % 2:
            return None
        half = half + (IntExpr({mono: coef // 2}) if mono else coef // 2)
    return ir.load(buffer, half, "i32")


def _read_elsewhere(spec: KernelSpec, e: ir.Expr) -> bool:
    """Whether anything but the load `e` touches its buffer: it can be declared with one element type only."""
    operands = spec.contraction
    assert operands is not None
    other = operands[1] if operands[0] is e else operands[0]
    if other.attr[0] == e.attr[0]:
        return True
    name = e.attr[0]
    later = ir.nodes(*(v for s in spec.stages[1:] for v in s.values()))
    stored = {w.buffer for s in spec.stages for w in s.stores}
    return name in stored or any(x.op == "load" and x.attr[0] == name for x in later)
