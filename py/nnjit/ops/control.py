"""Branches and loops. They are resolved at compile time where that is possible; loops are unrolled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import ir
from ..graph.graph import Graph, Node
from ..tensor.tensor import Tensor
from . import content as known
from .movement import joined
from .registry import Context, TensorList, Value, operator
from .shape import with_axes

_MAX_ITERATIONS = 512


@operator("If")
def if_(ctx: Context, node: Node, condition: Tensor) -> list[Tensor]:
    """The outputs of one branch, and the plan fits only inputs that take it.

    Where the condition depends on data both branches are computed, and the elements of one chosen.
    """
    if condition.content is not None:
        branch = "then_branch" if known.truth(ctx.env, ctx.scalar(condition, "condition")) else "else_branch"
        return ctx.run(ctx.attr_graph(branch), ())
    flag = ctx.b.reshape(condition, ())
    pairs = zip(*(ctx.run(ctx.attr_graph(name), ()) for name in ("then_branch", "else_branch")), strict=True)
    return [_chosen(ctx, flag, x, y) for x, y in pairs]


def _chosen(ctx: Context, flag: Tensor, x: Value, y: Value) -> Tensor:
    """x where the flag is true, y where it is not."""
    if isinstance(x, TensorList) or isinstance(y, TensorList) or x.dtype != y.dtype or x.rank != y.rank:
        raise ctx.unsupported(
            "its condition depends on data, and the branches give values of different types"
        )
    if not all(ctx.env.eq(d, e) for d, e in zip(x.shape, y.shape, strict=True)):
        raise ctx.unsupported(
            "its condition depends on data, and the branches give tensors of different shapes"
        )
    return ctx.b.elementwise(ir.select, flag, x, y, dtype=x.dtype, label="if")


@operator("Loop")
def loop(
    ctx: Context, node: Node, trips: Tensor | None = None, condition: Tensor | None = None, *initial: Tensor
) -> list[Tensor]:
    """Carried values after the last iteration, and what each iteration gave, stacked along a new first axis."""
    body = ctx.attr_graph("body")
    limit = None if trips is None else ctx.fixed_ints(trips, "trip count")[0]
    going = condition is None or known.truth(ctx.env, ctx.scalar(condition, "condition"))
    carried = list(initial)
    stacks: list[list[Tensor]] = [[] for _ in body.outputs[1 + len(carried) :]]
    step = 0
    while going and (limit is None or step < limit):
        if step == _MAX_ITERATIONS:
            raise ctx.unsupported(f"it runs for more than {_MAX_ITERATIONS} iterations, too many to unroll")
        iteration = ctx.b.known(np.asarray(step, dtype=object), "i64")
        proceed = ctx.b.known(np.asarray(True, dtype=object), "bool")
        outputs = ctx.run(body, [iteration, proceed, *carried])
        if condition is not None or limit is None:
            going = known.truth(ctx.env, ctx.scalar(outputs[0], "condition for another iteration"))
        carried = outputs[1 : 1 + len(carried)]
        for stack, item in zip(stacks, outputs[1 + len(carried) :], strict=True):
            stack.append(item)
        step += 1
    return carried + [
        _stacked(ctx, stack, 0, info.name) for stack, info in zip(stacks, _scans(body, stacks), strict=True)
    ]


def _scans(body: Graph, stacks: Sequence) -> list:
    return body.outputs[len(body.outputs) - len(stacks) :]


def _stacked(ctx: Context, items: list[Tensor], axis: int, name: str) -> Tensor:
    if not items:
        raise ctx.unsupported(f"no iteration runs, so that the shape of '{name}' is not known")
    axis = ctx.axis(axis, items[0].rank + 1)
    return joined(ctx, [with_axes(ctx, item, [axis]) for item in items], axis)


@operator("Scan", since=9)
def scan(ctx: Context, node: Node, *operands: Tensor) -> list[Tensor]:
    """Runs the body over slices of the scanned inputs, carrying state along."""
    body = ctx.attr_graph("body")
    count = ctx.attr_int("num_scan_inputs", 1)
    states, scanned = list(operands[: len(operands) - count]), operands[len(operands) - count :]
    outputs_scanned = len(body.outputs) - len(states)
    in_axes = ctx.attr_ints("scan_input_axes", [0] * count) or []
    axes = [ctx.axis(a, x.rank) for a, x in zip(in_axes, scanned, strict=True)]
    in_directions = ctx.attr_ints("scan_input_directions", [0] * count) or []
    out_directions = ctx.attr_ints("scan_output_directions", [0] * outputs_scanned) or []
    out_axes = ctx.attr_ints("scan_output_axes", [0] * outputs_scanned) or []
    length = ctx.env.fix(scanned[0].shape[axes[0]])
    if length > _MAX_ITERATIONS:
        raise ctx.unsupported(f"it runs for {length} iterations, too many to unroll")
    stacks: list[list[Tensor]] = [[] for _ in range(outputs_scanned)]
    for step in range(length):
        slices = []
        for x, axis, backward in zip(scanned, axes, in_directions, strict=True):
            at = length - 1 - step if backward else step
            dims = (*x.shape[:axis], *x.shape[axis + 1 :])
            slices.append(ctx.b.view(x, dims, lambda *c, axis=axis, at=at: [*c[:axis], at, *c[axis:]]))
        outputs = ctx.run(body, [*states, *slices])
        states = outputs[: len(states)]
        for stack, item in zip(stacks, outputs[len(states) :], strict=True):
            stack.append(item)
    results = [
        _stacked(ctx, stack[::-1] if backward else stack, axis, info.name)
        for stack, backward, axis, info in zip(
            stacks, out_directions, out_axes, _scans(body, stacks), strict=True
        )
    ]
    return states + results
