"""Runs emitted Wasm modules outside a browser, in the JavaScript engine that comes with Playwright (V8 under Node).

`run_kernel` is what tests use: arrays in, arrays out, with poisoned outputs and guard bytes around every buffer.
"""

from __future__ import annotations

import atexit
import base64
import json
import subprocess
from collections.abc import Callable, Iterable

import numpy as np

from nnjit import ir
from nnjit.emit.wasm import emit_module
from nnjit.ir_verify import verify
from nnjit.symbolic import evaluate
from nnjit.target import Target

Calls = list[tuple[str, list[int]]]

PAGE = 65536
GUARD = 64
RELAXED = Target(relaxed_simd=True)
PLAIN = Target()

STORAGE = {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "i32": np.int32, "u32": np.uint32, "i64": np.int64,
    "u64": np.uint64, "i16": np.int16, "u16": np.uint16, "i8": np.int8, "u8": np.uint8, "bool": np.bool_,
}  # fmt: skip

RUN = """(({ module, memory, pages, shared, calls }) => {
  const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const limits = shared ? { initial: pages + 4, maximum: shared, shared: true } : { initial: pages + 4 };
  const wasmMemory = new WebAssembly.Memory(limits);
  const before = bytesOf(memory);
  const bytes = new Uint8Array(wasmMemory.buffer, 0, before.length);
  bytes.set(before);
  const compiled = new WebAssembly.Module(bytesOf(module));
  const { exports } = new WebAssembly.Instance(compiled, { env: { memory: wasmMemory, scratch: pages * 65536 } });
  for (const [name, args] of calls) exports[name](...args);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.slice(i, i + 8192));
  return btoa(text);
})"""
"""JavaScript: instantiate a module on a memory with given contents, make calls, give the contents back."""

_SERVER = f"""
const run = {RUN};
require("node:readline").createInterface({{ input: process.stdin }}).on("line", (line) => {{
  let answer;
  try {{
    answer = {{ memory: run(JSON.parse(line)) }};
  }} catch (error) {{
    answer = {{ error: String(error) }};
  }}
  process.stdout.write(JSON.stringify(answer) + "\\n");
}});
"""


def request_for(module: bytes, memory: bytes, calls: Calls, shared: int) -> dict:
    """The argument of `RUN`."""
    return {
        "module": base64.b64encode(module).decode(),
        "memory": base64.b64encode(memory).decode(),
        "pages": -(-len(memory) // PAGE),
        "shared": shared,
        "calls": calls,
    }


class Engine:
    """One engine process, started when first needed and kept for the whole run."""

    def __init__(self) -> None:
        from playwright._impl._driver import compute_driver_executable

        self.process = subprocess.Popen(
            [compute_driver_executable()[0], "-e", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        atexit.register(self.process.kill)

    def call(self, module: bytes, memory: bytes, calls: Calls, shared: int) -> bytes:
        """Contents of the memory after the calls. Raises RuntimeError with what JavaScript threw."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request_for(module, memory, calls, shared)).encode() + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return base64.b64decode(answer["memory"])


_engine: list[Engine] = []


def engine() -> Engine:
    """The engine of this test run."""
    if not _engine:
        _engine.append(Engine())
    return _engine[0]


def run_kernel(
    kernel: ir.Kernel,
    arrays: dict[str, np.ndarray],
    symbols: dict[str, int] | None = None,
    target: Target = RELAXED,
    slices: Iterable[tuple[int, int]] | None = None,
    misalign: int = 0,
    call: Callable[[bytes, bytes, Calls, int], bytes] | None = None,
) -> dict[str, np.ndarray]:
    """Verify, emit and run `kernel`; the arrays after it.

    Buffers of access "w" start filled with 0xFF (NaN as a float). All tasks run in one call unless `slices` says
    otherwise. `call` stands for another engine's `Engine.call`. Raises AssertionError where anything between the buffers, or a read-only one, has changed.
    """
    verify(kernel)
    memory = bytearray(b"\xcd" * GUARD)
    place = {}
    for buffer in kernel.buffers:
        array = arrays[buffer.name]
        assert array.dtype == STORAGE[buffer.storage], f"{buffer.name} is {array.dtype}, not {buffer.storage}"
        memory += b"\xcd" * ((-len(memory)) % 16 + misalign)
        place[buffer.name] = len(memory), len(memory) + array.nbytes
        memory += b"\xff" * array.nbytes if buffer.access == "w" else array.tobytes()
        memory += b"\xcd" * GUARD
    symbols = symbols or {}
    arguments = [place[b.name][0] for b in kernel.buffers] + [symbols[s] for s in kernel.symbols]
    if slices is None:
        slices = [(0, evaluate(kernel.tasks, symbols))]
    calls = [(kernel.name, [*arguments, lo, hi]) for lo, hi in slices]
    shared = target.max_pages if target.shared_memory else 0
    after = (call or engine().call)(emit_module([kernel], target), bytes(memory), calls, shared)
    written = {b.name for b in kernel.buffers if b.access != "r"}
    result, end = {}, 0
    for name, (start, stop) in place.items():
        assert after[end:start] == memory[end:start], f"written before {name}"
        if name not in written:
            assert after[start:stop] == memory[start:stop], f"{name} is read-only and was written"
        array = arrays[name]
        result[name] = np.frombuffer(after[start:stop], array.dtype).reshape(array.shape)
        end = stop
    assert after[end:] == memory[end:], "written after the last buffer"
    return result


def map_kernel(expression, inputs: dict[str, np.ndarray], dtype: str, lanes: int = 4) -> ir.Kernel:  # type: ignore[no-untyped-def]
    """Kernel y[i] = expression(*inputs[i]), `lanes` elements a task; the length must be a multiple of them."""
    storage = {name: next(s for s, t in STORAGE.items() if t == a.dtype) for name, a in inputs.items()}
    loads = [ir.load(n, ir.TASK * lanes, ir.COMPUTE_OF[s], lanes) for n, s in storage.items()]
    buffers = [ir.Buffer(n, s, "r") for n, s in storage.items()] + [ir.Buffer("y", dtype, "w")]
    size = next(iter(inputs.values())).size
    return ir.Kernel("map", buffers, [], size // lanes, [ir.Store("y", ir.TASK * lanes, expression(*loads))])


def run_map(  # type: ignore[no-untyped-def]
    expression, *inputs: np.ndarray, dtype: str = "f32", lanes: int = 4, target: Target = RELAXED
) -> np.ndarray:
    """expression applied elementwise to arrays of any one length."""
    size = inputs[0].size
    padded = {f"x{n}": np.resize(a, -(-size // 4) * 4) for n, a in enumerate(inputs)}
    kernel = map_kernel(expression, padded, dtype, lanes)
    out = np.empty(next(iter(padded.values())).size, STORAGE[dtype])
    return run_kernel(kernel, {**padded, "y": out}, target=target)["y"][:size].reshape(inputs[0].shape)
