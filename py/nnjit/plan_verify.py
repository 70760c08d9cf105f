"""Verifier of plans: refuses one that the executor could not run as it says.

It reads the JSON as the executor does, and knows nothing of the compiler that made it. Tests call it for every plan and every candidate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .errors import VerificationError

_GIVEN = ("input", "weight", "const")
"""Kinds of buffers whose content is there before any kernel runs; kernels only read them."""
_LASTING = ("weight", "const", "persistent")
"""Kinds of buffers that keep their content from one inference to the next."""


def verify_plan(plan: Mapping[str, Any], blobs: Sequence[bytes]) -> None:
    """Raise VerificationError where a plan, its JSON read, breaks a rule.

    - Ids are of one buffer each; what a step, an input or an output names is there, and so are blobs and modules.
    - A step passes as many buffers as its kernel takes. Sizes, tasks and guards are in the plan's own symbols.
    - A step reads only what was given, or what an earlier step or itself has written; it writes nothing that was given. What is
      made once, by steps of `init`, depends on nothing but itself and the model, and inferences leave it as it is.
    - Every output is written, or was given.
    """
    buffers = _buffers(plan["buffers"], blobs)
    names = {symbol["name"] for symbol in plan["symbols"]}
    _in_range([*plan["modules"]], len(blobs), "module")
    for _, a, b in plan["guards"]:
        _known([a, b], names, "a guard")
    for port in plan["inputs"]:
        if port["buffer"] is not None and buffers.get(port["buffer"], {}).get("kind") != "input":
            raise VerificationError(f"the input '{port['name']}' has no buffer of inputs")
    written = {name for name, buffer in buffers.items() if buffer["kind"] in _GIVEN}
    flow = _Flow(plan["kernels"], len(plan["modules"]), buffers, names, written)
    flow.run(plan["units"])
    for port in plan["outputs"]:
        if port["buffer"] not in written:
            raise VerificationError(f"nothing writes the output '{port['name']}'")
        _known(port["shape"], names, f"the output '{port['name']}'")


def verify_candidate(candidate: Mapping[str, Any], plan: Mapping[str, Any], blobs: Sequence[bytes]) -> None:
    """The same for a candidate's JSON (Candidate in web/runtime/types.js), which takes the place of a unit of `plan`."""
    fresh = _buffers(candidate["buffers"], blobs)
    buffers = {**_buffers(plan["buffers"], None), **fresh}
    names = {symbol["name"] for symbol in plan["symbols"]}
    # What the other units write is there, or will be: only the order of the candidate's own steps is its own.
    written = {name for name in buffers if name not in fresh}
    written |= {name for name, buffer in fresh.items() if buffer["kind"] in _GIVEN}
    _Flow(candidate["kernels"], len(blobs), buffers, names, written).run([candidate["unit"]])


def _buffers(
    entries: Iterable[Mapping[str, Any]], blobs: Sequence[bytes] | None
) -> dict[str, Mapping[str, Any]]:
    """Entries by id; `blobs` None: which of them are there is not asked."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        name, kind = entry["id"], entry["kind"]
        if name in found:
            raise VerificationError(f"two buffers are called {name}")
        if kind not in (*_GIVEN, "persistent", "temp", "output"):
            raise VerificationError(f"the buffer {name} is of the unknown kind {kind}")
        if kind == "weight" and "source" not in entry:
            raise VerificationError(f"the weight {name} does not say where it is")
        if kind == "const" and blobs is not None:
            _in_range([entry["blob"]], len(blobs), f"content of {name}: blob")
        found[name] = entry
    return found


class _Flow:
    """Steps in the order in which they run; `written` grows by the buffers that they write."""

    def __init__(
        self,
        kernels: Sequence[Mapping[str, Any]],
        modules: int,
        buffers: Mapping[str, Mapping[str, Any]],
        names: set[str],
        written: set[str],
    ) -> None:
        self.kernels = kernels
        self.buffers = buffers
        self.names = names
        self.written = written
        for kernel in kernels:
            _in_range([kernel.get("module", 0)], max(modules, 1), f"kernel {kernel['name']}: module")

    def run(self, units: Sequence[Mapping[str, Any]]) -> None:
        """All `init` steps run before the first inference, whichever unit they belong to."""
        for once in (True, False):
            for unit in units:
                for step in unit["init" if once else "steps"]:
                    self._step(step, once, f"{'init of ' if once else ''}{unit['label']}")

    def _step(self, step: Mapping[str, Any], once: bool, where: str) -> None:
        _in_range([step["kernel"]], len(self.kernels), f"{where}: kernel")
        kernel = self.kernels[step["kernel"]]
        if len(step["buffers"]) != len(kernel["buffers"]):
            raise VerificationError(
                f"{where}: the kernel {kernel['name']} takes {len(kernel['buffers'])} buffers, not {len(step['buffers'])}"
            )
        sizes = [step["tasks"], *step["symbols"], step["flops"], step["read"], step["written"]]
        _known([*sizes, *(at for _, at in step["buffers"])], self.names, where)
        for (name, _), parameter in zip(step["buffers"], kernel["buffers"], strict=True):
            if name not in self.buffers:
                raise VerificationError(f"{where} uses the buffer {name}, which is not there")
            kind = self.buffers[name]["kind"]
            if once and kind not in _LASTING:
                raise VerificationError(
                    f"{where} uses the buffer {name} ({kind}), which no inference has made yet"
                )
            if parameter["access"] == "r" and name not in self.written:
                raise VerificationError(f"{where} reads the buffer {name} before anything has written it")
            if "w" in parameter["access"] and (kind in _GIVEN or (kind == "persistent" and not once)):
                raise VerificationError(
                    f"{where} writes the buffer {name} ({kind}), which is not its to change"
                )
        self.written |= {n for (n, _), p in zip(step["buffers"], kernel["buffers"]) if "w" in p["access"]}


def _in_range(numbers: Iterable[int], count: int, what: str) -> None:
    for number in numbers:
        if not 0 <= number < count:
            raise VerificationError(f"{what} {number} is not there: there are {count}")


def _known(expressions: Iterable[Any], names: set[str], where: str) -> None:
    """Every symbol of the expressions is among `names`. An expression: a number, a symbol, or [operator, operands …]."""
    stack = list(expressions)
    while stack:
        e = stack.pop()
        if isinstance(e, str) and e not in names:
            raise VerificationError(f"{where} depends on the symbol {e}, which the plan does not have")
        if isinstance(e, (list, tuple)):
            stack += e[1:]
