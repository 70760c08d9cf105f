"""Runs compiled plans on numpy arrays: the plan's JSON as the executor reads it, its kernels by `ir_interpreter`.

`compile_tensors` makes a plan of tensor expressions without a model around them; `Machine` runs any plan.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from unit.ir_interpreter import STORAGE, WASM, KernelFault, poison, run

from nnjit import ir
from nnjit.compiler import CompiledPlan, _Assembly
from nnjit.errors import InputError
from nnjit.plan import UnitCode
from nnjit.stopwatch import Stopwatch
from nnjit.symbolic import evaluate
from nnjit.target import Target
from nnjit.tensor.build import Builder
from nnjit.tensor.env import Env
from nnjit.tensor.interpret import NUMPY
from nnjit.tensor.tensor import Source, Tensor

SLACK = 64
RELAXED = Target(relaxed_simd=True)
WEBGPU = Target(device="webgpu")


def evaluate_json(e: Any, env: Mapping[str, int]) -> int:
    """The value of an expression of a plan, by its definition alone."""
    if isinstance(e, int):
        return e
    if isinstance(e, str):
        return env[e]
    op, *args = e
    values = [evaluate_json(x, env) for x in args]
    if op == "add":
        return sum(values)
    if op == "mul":
        return math.prod(values)
    a, b = values
    return {
        "floordiv": lambda: a // b,
        "mod": lambda: a % b,
        "min": lambda: min(a, b),
        "max": lambda: max(a, b),
    }[op]()


def guard_holds(guard: Sequence, env: Mapping[str, int]) -> bool:
    op, a, b = guard[0], evaluate_json(guard[1], env), evaluate_json(guard[2], env)
    return {"eq": a == b, "ne": a != b, "ge": a >= b, "le": a <= b, "mod0": op == "mod0" and a % b == 0}[op]


class Model:
    """Tensor expressions under construction, with the arrays of their inputs."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.env = Env()
        self.b = Builder(self.env)
        self.arrays: dict[str, np.ndarray] = {}
        self.weights: dict[str, np.ndarray] = {}

    def data(self, shape: Sequence[int], dtype: str = "f32") -> np.ndarray:
        kind = np.dtype(NUMPY[dtype]).kind
        if kind == "f":
            return self.rng.standard_normal(shape).astype(NUMPY[dtype])
        if kind == "b":
            return self.rng.integers(0, 2, shape).astype(bool)
        return self.rng.integers(0 if kind == "u" else -9, 10, shape).astype(NUMPY[dtype])

    def input(self, *shape: int, dtype: str = "f32", symbolic: Sequence[int] = ()) -> Tensor:
        """A fresh input of random content; the axes in `symbolic` are symbols."""
        name = f"x{len(self.b.inputs)}"
        dims = tuple(
            self.env.dimension(f"{name}[{n}]", ("dim", name, n), d) if n in symbolic else d
            for n, d in enumerate(shape)
        )
        t = Source("input", dims, dtype, name, name)
        self.b.inputs.append(t)
        self.arrays[name] = self.data(shape, dtype)
        return t

    def weight(self, *shape: int, dtype: str = "f32") -> Tensor:
        """A fresh constant of random content, which no shape arithmetic may look at."""
        return Source("const", shape, dtype, self.data(shape, dtype))

    def compile(
        self, outputs: Sequence[Tensor], target: Target = WASM, schedules: Mapping[str, str] | None = None
    ) -> CompiledPlan:
        graph: Any = SimpleNamespace(outputs=[SimpleNamespace(name=f"y{n}") for n in range(len(outputs))])
        stored = [self.b.materialize(t) for t in outputs]
        return _Assembly(graph, self.env, self.b, stored, target, schedules or {}, Stopwatch()).run()


class Machine:
    """A plan, its weights in place and its init steps run.

    `read` gives the bytes of a weight from its entry `source` in the plan.
    """

    def __init__(self, compiled: CompiledPlan, read: Callable[[dict], bytes] | None = None) -> None:
        self.compiled = compiled
        self.plan = json.loads(compiled.json)
        self.target = compiled.target
        self.specs = {spec["id"]: spec for spec in self.plan["buffers"]}
        assert len(self.specs) == len(self.plan["buffers"]), "two buffers have one id"
        self.fixed: dict[str, np.ndarray] = {}
        self.memory: dict[str, np.ndarray] = {}
        self.loaded = False
        """Whether init steps are over: only then may a step write what does not outlive an inference."""
        self.env: dict[str, int] = {}
        for spec in self.specs.values():
            if spec["kind"] == "const":
                content = np.frombuffer(compiled.blobs[spec["blob"]], STORAGE[spec["storage"]])
            elif spec["kind"] == "weight":
                assert read is not None
                content = np.frombuffer(read(spec["source"]), _dtype(spec["source"]["dtype"]))
                content = content.astype(STORAGE[spec["storage"]])
            else:
                continue
            assert content.size == evaluate_json(spec["elements"], {})
            self.fixed[spec["id"]] = content.copy()
        self._check_units()
        for unit in self.plan["units"]:
            self._run_steps(unit["init"])

    def _check_units(self) -> None:
        """What the JSON says of each unit is what its UnitCode says."""
        kernels: dict[int, ir.Kernel] = {}
        for unit, code in zip(self.plan["units"], self.compiled.units, strict=True):
            for listed, steps in ((unit["init"], code.init), (unit["steps"], code.steps)):
                for entry, step in zip(listed, steps, strict=True):
                    assert kernels.setdefault(entry["kernel"], step.kernel) is step.kernel
        self.kernels = kernels
        assert len(self.plan["kernels"]) == len(kernels)
        for n, kernel in kernels.items():
            assert [b["access"] for b in self.plan["kernels"][n]["buffers"]] == [
                b.access for b in kernel.buffers
            ]

    def fits(self, inputs: Mapping[str, np.ndarray]) -> dict[str, int] | None:
        """The symbols' values when the plan is made for these inputs, else None."""
        env: dict[str, int] = {}
        for s in self.plan["symbols"]:
            kind, name, *rest = s["from"]
            env[s["name"]] = (
                inputs[name].shape[rest[0]] if kind == "dim" else int(inputs[name].reshape(-1)[0])
            )
        if not all(guard_holds(g, env) for g in self.plan["guards"]):
            return None
        for entry in self.plan["inputs"]:
            if tuple(evaluate_json(d, env) for d in entry["shape"]) != inputs[entry["name"]].shape:
                return None
        return env

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs. Raises InputError where a check of the plan fails. Buffers are poisoned first and stay readable in `memory`."""
        env = self.fits(inputs)
        assert env is not None, "the plan does not fit these inputs"
        self.env = env
        self.memory = dict(self.fixed)
        self.loaded = True
        for entry in self.plan["inputs"]:
            if entry["buffer"] is not None:
                storage = self.specs[entry["buffer"]]["storage"]
                self.memory[entry["buffer"]] = inputs[entry["name"]].reshape(-1).astype(STORAGE[storage])
        before = {name: array.copy() for name, array in self.memory.items()}
        for unit in self.plan["units"]:
            self._run_steps(unit["steps"])
        for name, array in before.items():
            assert array.tobytes() == self.memory[name].tobytes(), f"an inference changes {name}"
        results = []
        for entry in self.plan["outputs"]:
            assert self.specs[entry["buffer"]]["kind"] == "output"
            shape = tuple(evaluate_json(d, env) for d in entry["shape"])
            result = self.memory[entry["buffer"]].reshape(shape).astype(NUMPY[entry["dtype"]])
            if "checks" not in entry:
                results.append(result)
                continue
            for message, count in zip(entry["checks"], result, strict=True):
                if count:
                    raise InputError(message)
        return results

    def _run_steps(self, steps: list[dict], seed: int = 0) -> None:
        for step in steps:
            kernel = self.kernels[step["kernel"]]
            symbols = {
                name: evaluate_json(e, self.env)
                for name, e in zip(kernel.symbols, step["symbols"], strict=True)
            }
            assert evaluate_json(step["tasks"], {**self.env, **symbols}) >= 0
            assert all(offset == 0 for _, offset in step["buffers"])
            self._call(kernel, [name for name, _ in step["buffers"]], symbols, seed, self.loaded)

    def _call(
        self, kernel: ir.Kernel, names: list[str], symbols: Mapping[str, int], seed: int, inference: bool
    ) -> None:
        writes = {n for n, b in zip(names, kernel.buffers, strict=True) if b.access != "r"}
        assert len(set(names)) == len(names), f"{kernel.name} has one buffer twice"
        arrays = {}
        for name, b in zip(names, kernel.buffers, strict=True):
            array = self._array(name, name in writes, inference)
            # A kernel may read a buffer as wider elements: words of two halves.
            stored = STORAGE[self.target.storage(b.storage)]
            words = b.access == "r" and np.dtype(stored).itemsize > array.itemsize
            arrays[b.name] = array.view(stored) if words else array
        run(kernel, arrays, symbols, seed, self.target)

    def _array(self, name: str, written: bool, inference: bool) -> np.ndarray:
        spec = self.specs[name]
        place = self.memory if inference else self.fixed
        if name not in place:
            if not written:
                raise KernelFault(f"{name} ({spec['kind']}) is read before it is written")
            if not inference and spec["kind"] != "persistent":
                raise KernelFault(f"an init step writes {name}, which is {spec['kind']}")
            place[name] = poison(spec["storage"], evaluate_json(spec["elements"], self.env))
        return place[name]

    # -- candidates ---------------------------------------------------------------------------------------------

    def run_unit(self, unit: UnitCode, number: int, seed: int = 0) -> dict[str, np.ndarray]:
        """The buffers that another version of unit `number` writes, from the operands of the latest run."""
        original = self.compiled.units[number]
        made = {
            name
            for step in (*original.init, *original.steps)
            for name, b in zip(step.buffers, step.kernel.buffers, strict=True)
            if b.access != "r"
        }
        specs, memory = dict(self.specs), self.memory
        self.memory = {name: array for name, array in memory.items() if name not in made}
        # Other units write other parts of the same buffer.
        self.specs |= {spec["id"]: spec for spec in unit.buffers}
        fresh = {spec["id"] for spec in unit.buffers}
        for name in fresh:
            self.memory.pop(name, None)
        try:
            for step in (*unit.init, *unit.steps):
                values = {**self.env, **{s: evaluate(e, self.env) for s, e in step.arguments.items()}}
                symbols = {s: values[s] for s in step.kernel.symbols}
                self._call(step.kernel, step.buffers, symbols, seed, True)
            return {name: self.memory[name] for name in made - {s["id"] for s in original.buffers}}
        finally:
            self.specs, self.memory = specs, memory


def _dtype(name: str) -> Any:
    return np.dtype("u2") if name == "bf16" else STORAGE[name]


__all__ = ["RELAXED", "WASM", "WEBGPU", "Env", "Machine", "Model", "evaluate_json", "guard_holds"]
