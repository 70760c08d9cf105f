"""The runtime's modules one by one, in Chromium: placement, numbers, expressions, comparison, memory, errors."""

from __future__ import annotations

import hashlib
import itertools
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nnjit.symbolic import ceildiv, evaluate, maximum, minimum, mod, to_json, var

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit_build.server import SiteServer

MODULES = (
    "placement dtypes expressions compare wasm-memory errors plan-edit timing courtesy program content-hash "
    "model-bytes thread-choice"
)


class Modules:
    """A page with the modules imported as globals: `placement`, `dtypes`, ..."""

    def __init__(self, site: SiteServer, page: Any) -> None:
        self.page = page
        page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
        page.evaluate(
            """async ([root, names]) => {
              for (const name of names) {
                globalThis[name.replace("-", "_")] = await import(`${root}/runtime/${name}.js`);
              }
            }""",
            [site.url, MODULES.split()],
        )

    def js(self, body: str, argument: Any = None) -> Any:
        return self.page.evaluate(f"async (a) => {{ {body} }}", argument)


@pytest.fixture(scope="module")
def modules(site: SiteServer, module_page: Page) -> Modules:
    return Modules(site, module_page)


def random_lifetimes(seed: int, count: int = 60) -> list[dict]:
    generator = random.Random(seed)
    lives = []
    for n in range(count):
        first = generator.randrange(40)
        last = first + generator.randrange(6)
        lives.append({"id": f"b{n}", "bytes": generator.randrange(1, 5000), "first": first, "last": last})
    return lives


def together(a: dict, b: dict) -> bool:
    return a["first"] <= b["last"] and b["first"] <= a["last"]


@pytest.mark.parametrize("seed", range(5))
def test_buffers_alive_together_never_overlap_in_the_arena(modules: Modules, seed: int) -> None:
    lives = random_lifetimes(seed)
    offsets, total = modules.js(
        "const { offsets, bytes } = placement.placeInArena(a); return [Object.fromEntries(offsets), bytes]",
        lives,
    )
    for a, b in itertools.combinations(lives, 2):
        if together(a, b):
            (first, size), (second, _) = sorted([(offsets[x["id"]], x["bytes"]) for x in (a, b)])
            assert first + size + 64 <= second
    assert all(offset % 64 == 0 for offset in offsets.values())
    assert total == max(-(-(offsets[x["id"]] + x["bytes"] + 64) // 64) * 64 for x in lives)


@pytest.mark.parametrize("seed", range(5))
def test_buffers_alive_together_never_share_a_slot(modules: Modules, seed: int) -> None:
    lives = random_lifetimes(seed)
    slots, sizes = modules.js(
        "const { slots, bytes } = placement.assignSlots(a); return [Object.fromEntries(slots), bytes]", lives
    )
    for a, b in itertools.combinations(lives, 2):
        assert not together(a, b) or slots[a["id"]] != slots[b["id"]]
    assert all(x["bytes"] <= sizes[slots[x["id"]]] for x in lives)


def test_the_arena_of_a_chain_is_its_two_largest_neighbours(modules: Modules) -> None:
    chain = [{"id": n, "bytes": 1000, "first": n, "last": n + 1} for n in range(20)]
    assert modules.js("return placement.placeInArena(a).bytes", chain) == 2 * 1088


HALVES = np.arange(65536, dtype=np.uint16)


def test_every_half_has_the_right_value(modules: Modules) -> None:
    found = modules.js("return Array.from({ length: 65536 }, (_, i) => String(dtypes.halfToNumber(i)))")
    expected = HALVES.view(np.float16).astype(np.float64)
    np.testing.assert_array_equal([float(x.replace("Infinity", "inf")) for x in found], expected)


def test_numbers_are_rounded_to_the_nearest_half(modules: Modules) -> None:
    generator = np.random.default_rng(0)
    finite = HALVES.view(np.float16)[np.isfinite(HALVES.view(np.float16))].astype(np.float64)
    between = (finite[:-1] + finite[1:]) / 2
    values = np.concatenate(
        [finite[::5], between[::5], generator.normal(0, 1e4, 1000), [65519.9, 65520, 1e30, -1e30]]
    )
    values = values.astype(np.float32).astype(np.float64)
    found = modules.js("return a.map(dtypes.numberToHalf)", values.tolist())
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    np.testing.assert_array_equal(np.array(found, np.uint16).view(np.float16), expected)


@pytest.mark.parametrize(
    ("source", "to", "expected"),
    [
        ("BigInt64Array.of(-3n, 7n), 'i64'", "i32", [-3, 7]),
        ("Int32Array.of(-3, 7), 'i32'", "i64", [-3, 7]),
        ("Uint8Array.of(0, 1, 255), 'bool'", "u32", [0, 1, 255]),
        ("Uint32Array.of(0, 1, 9), 'u32'", "bool", [0, 1, 1]),
        ("Uint16Array.of(0x3f80, 0xc000), 'bf16'", "f32", [1, -2]),
        ("Uint16Array.of(0x3c00, 0xc000), 'f16'", "f32", [1, -2]),
        ("Float32Array.of(1, -2), 'f32'", "f16", [0x3C00, 0xC000]),
        ("Float64Array.of(0.5), 'f64'", "f32", [0.5]),
    ],
)
def test_conversions_keep_values(modules: Modules, source: str, to: str, expected: list) -> None:
    assert modules.js(f"return Array.from(dtypes.convertArray({source}, '{to}'), Number)") == expected


def test_a_value_that_does_not_fit_is_an_error(modules: Modules) -> None:
    message = modules.js(
        "try { dtypes.convertArray(BigInt64Array.of(1n, 2n ** 31n), 'i64', 'i32'); } catch (e) { return e.message; }"
    )
    assert "2147483648 at position 1 does not fit int32" in message


def test_expressions_mean_in_javascript_what_they_mean_in_python(modules: Modules) -> None:
    a, b = var("a"), var("b")
    expressions = [a * 3 - 7, ceildiv(a, 4) * b, mod(a - b, 5), (a - 20) // 6, minimum(a, b) + maximum(a, 9)]
    environments = [{"a": x, "b": y} for x in (0, 1, 13, 40) for y in (1, 6)]
    found = modules.js(
        "return a[0].map((e) => a[1].map((env) => expressions.evaluate(e, env)))",
        [[to_json(e) for e in expressions], environments],
    )
    assert found == [[evaluate(e, env) for env in environments] for e in expressions]


def compare(modules: Modules, reference: str, actual: str, storage: str = "f32") -> dict:
    return modules.js(
        "const bytes = (t) => new Uint8Array(t.buffer);"
        f"const {{ maxError, message }} = compare.compare(bytes({reference}), bytes({actual}), '{storage}', 1e-3);"
        "return { maxError: String(maxError), message }"
    )


@pytest.mark.parametrize(
    ("reference", "actual"),
    [
        ("Float32Array.of(1, -1000)", "Float32Array.of(1.5, -1000)"),
        ("Float32Array.of(NaN, Infinity, -Infinity)", "Float32Array.of(NaN, Infinity, -Infinity)"),
        ("Float32Array.of(0, 0)", "Float32Array.of(0, -0)"),
        ("Float32Array.of()", "Float32Array.of()"),
    ],
)
def test_close_results_pass(modules: Modules, reference: str, actual: str) -> None:
    assert compare(modules, reference, actual)["message"] is None


@pytest.mark.parametrize(
    ("reference", "actual"),
    [
        ("Float32Array.of(1, -1000)", "Float32Array.of(2.5, -1000)"),
        ("Float32Array.of(1, 2)", "Float32Array.of(1, NaN)"),
        ("Float32Array.of(1, NaN)", "Float32Array.of(1, 2)"),
        ("Float32Array.of(1, Infinity)", "Float32Array.of(1, -Infinity)"),
        ("Float32Array.of(1, Infinity)", "Float32Array.of(1, 3e38)"),
        ("Float32Array.of(0, 0)", "Float32Array.of(0, 1e-30)"),
    ],
)
def test_different_results_fail(modules: Modules, reference: str, actual: str) -> None:
    assert compare(modules, reference, actual)["message"] is not None


def test_integers_must_agree_exactly(modules: Modules) -> None:
    assert compare(modules, "Int32Array.of(100000)", "Int32Array.of(100001)", "i32")["message"] is not None


def test_poison_shows_what_was_not_written(modules: Modules) -> None:
    message = modules.js(
        "const reference = new Uint8Array(Float32Array.of(NaN, 1).buffer);"
        "const actual = reference.slice(); compare.poison(actual.subarray(0, 4), 'f32');"
        "return compare.compare(reference, actual, 'f32', 1e-3).message"
    )
    assert "element 0 was written by only one" in message


def test_freed_memory_is_used_again(modules: Modules) -> None:
    assert modules.js(
        """
        const memory = new wasm_memory.WasmMemory(false, 1);
        const empty = memory.top;
        const blocks = [100, 5000, 100, 100].map((bytes) => memory.allocate(bytes));
        const top = memory.top;
        memory.free(blocks[1]);
        const again = memory.allocate(4000);
        const reused = again === blocks[1] && memory.top === top;
        [again, blocks[0], blocks[2], blocks[3]].forEach((block) => memory.free(block));
        return [reused, memory.top - empty, memory.holes.length];
        """
    ) == [True, 0, 0]


def test_an_error_crosses_a_message_and_keeps_its_type(modules: Modules) -> None:
    assert modules.js(
        """
        const { port1, port2 } = new MessageChannel();
        const arrived = new Promise((resolve) => (port2.onmessage = ({ data }) => resolve(data)));
        port1.postMessage(errors.errorToPlain(new errors.OutOfMemoryError("too much")));
        const error = errors.errorFromPlain(await arrived);
        return [error instanceof errors.DeviceError, error.name, error.code, error.message];
        """
    ) == [True, "OutOfMemoryError", "out-of-memory", "too much"]


# Courtesy of work in the background; the clock is made up

COURTESY = """
  const courtesy = new globalThis.courtesy.Courtesy();
  const { inference, gap, slice, count } = a;
  let now = 0, next = 1000, work = 0, delayed = 0, worst = 0;
  const take = () => {
    courtesy.took(now, now + slice);
    now += slice;
    work += slice;
  };
  for (let served = 0; served < count; ) {
    if (now >= next) {
      if (now > next) courtesy.asked();
      if (courtesy.mayDelay()) {
        take();
        continue;
      }
      delayed += now - next;
      worst = Math.max(worst, now - next);
      courtesy.served(now, now + inference);
      now += inference;
      next = now + gap;
      served++;
    } else if (courtesy.mayBegin(now)) take();
    else now = Math.min(next, now + 2);
  }
  return { work, delayed, worst, last: courtesy.mayBegin(now + 1e4) };
"""


@pytest.mark.parametrize("inference", [1.0, 10.0, 200.0])
@pytest.mark.parametrize("slice_", [1.0, 5.0])
def test_inferences_without_a_break_are_delayed_by_a_small_part(
    modules: Modules, inference: float, slice_: float
) -> None:
    result = modules.js(COURTESY, {"inference": inference, "gap": 0.2, "slice": slice_, "count": 200})
    assert 0.13 * 200 * inference < result["delayed"] + slice_ < 0.2 * 200 * inference + 50
    assert result["worst"] < 0.2 * inference + 8 + 2 * slice_
    assert result["last"], "the device stays idle though nothing comes"


def test_a_slice_that_is_known_to_be_long_waits_until_it_is_paid_for(modules: Modules) -> None:
    may = modules.js(
        """
        const courtesy = new globalThis.courtesy.Courtesy();
        for (let now = 0; now < 1000; now += 100.1) courtesy.served(now, now + 100);
        return [15, 60].map((ms) => [courtesy.mayDelay(ms), courtesy.mayBegin(1001, ms), courtesy.mayBegin(9e3, ms)]);
        """
    )
    assert may == [[True, True, True], [False, False, True]]


def test_work_beside_inferences_on_their_cores_is_paid_for(modules: Modules) -> None:
    may = modules.js(
        """
        const courtesy = new globalThis.courtesy.Courtesy();
        for (let now = 0; now < 1000; now += 100.1) courtesy.served(now, now + 100);
        const may = () => [courtesy.mayDelay(1), courtesy.mayBegin(1001, 1)];
        const before = may();
        courtesy.crowded(100, 2);
        return [before, may(), courtesy.mayBegin(9e3, 1)];
        """
    )
    assert may == [[True, True], [False, False], True]


def test_what_background_work_owes_is_limited_so_that_it_goes_on_some_time(modules: Modules) -> None:
    goes_on = modules.js(
        """
        const courtesy = new globalThis.courtesy.Courtesy();
        let now = 0;
        const serve = (ms) => {
          for (const end = now + ms; now < end; now += 100.1) courtesy.served(now, now + 100);
          return courtesy.mayDelay(1);
        };
        serve(1000);
        courtesy.crowded(60_000, 2);
        return [serve(500), serve(6000)];
        """
    )
    assert goes_on == [False, True]


def test_a_pause_between_inferences_is_filled_without_delaying_them(modules: Modules) -> None:
    result = modules.js(COURTESY, {"inference": 10.0, "gap": 100.0, "slice": 3.0, "count": 100})
    assert result["work"] > 0.5 * 100 * 100.0
    assert result["delayed"] < 0.15 * 100 * 10.0


def test_frames_leave_time_for_work_in_the_background(modules: Modules) -> None:
    result = modules.js(COURTESY, {"inference": 2.0, "gap": 14.0, "slice": 3.0, "count": 100})
    assert result["work"] > 0.3 * 100 * 14.0
    assert result["delayed"] < 0.2 * 100 * 2.0 + 50


@pytest.mark.parametrize(
    "alone, together, chosen, inferences",
    [
        ([10.0], [14.0], False, 12),  # what threads cost is more than they save
        ([10.0], [6.0], True, 12),
        ([10.0, 10.0, 10.0, 5.0], [6.0, 6.0, 14.0, 6.0], True, 12),  # one disturbed inference each
        ([10.0], [9.8], False, 40),  # too little for a second core
        ([10.0, 11.0], [9.9, 10.5], False, 40),  # close: many decide
        ([120.0], [60.0], True, 4),  # never tried on one thread
    ],
)
def test_all_threads_are_used_where_they_are_faster_than_one(
    modules: Modules, alone: list[float], together: list[float], chosen: bool, inferences: int
) -> None:
    decided = modules.js(
        """const choice = new thread_choice.ThreadChoice();
        for (let n = 1; n <= 100; n++) {
          const together = choice.next();
          if (!choice.undecided) continue;
          const times = a[Number(together)];
          choice.record(together, times[(n >> 1) % times.length]);
          if (choice.together !== null) return [choice.together, choice.next(), n];
        }""",
        [alone, together],
    )
    assert decided[:2] == [chosen, chosen]
    assert decided[2] <= inferences


def test_a_candidate_is_given_up_once_noise_cannot_save_it(modules: Modules) -> None:
    hopeless = "return timing.isHopeless(a[0], [], a[1], 5)"
    assert not modules.js(hopeless, [9.9, []])
    assert modules.js(hopeless, [1.6, [1.0]])
    assert not modules.js(hopeless, [1.2, [1.0]])
    assert modules.js(hopeless, [1.2, [1.0, 1.2]])
    assert not modules.js(hopeless, [1.04, [1.0, 1.2]])
    assert modules.js(hopeless, [1.04, [1.0, 1.2, 1.3]])
    assert not modules.js(hopeless, [0.99, [1.0, 1.2, 1.3]])


@pytest.mark.parametrize("wins, over", [("+-", False), ("--", True), ("+-+-", True), ("-+++", False)])
def test_a_candidate_is_given_up_once_it_has_lost_too_many_turns(
    modules: Modules, wins: str, over: bool
) -> None:
    samples = [0.95 if won == "+" else 1.0 for won in wins]
    hopeless = "return timing.isHopeless(0.95, a, a.map(() => 1), 5)"
    assert modules.js(hopeless, samples) == over


@pytest.mark.parametrize("resolution", [0.005, 0.1, 1.0])
def test_the_step_of_a_clock_is_found(modules: Modules, resolution: float) -> None:
    step = """
        let time = 0.3;
        return timing.clockStep(() => Math.floor((time += 0.0017) / a) * a);
    """
    assert modules.js(step, resolution) == pytest.approx(resolution)


def test_what_was_disturbed_while_it_warmed_up_is_not_sampled_too_briefly_for_the_clock(
    modules: Modules,
) -> None:
    time = "const time = (n) => (n * 3e-4 < 0.05 ? 0 : 3e-4);"
    assert modules.js(f"{time} return timing.sample(time, 0.4)") == pytest.approx(3e-4)
    disturbed = "let calls = 0; const first = (n) => (calls++ === 2 ? 0.05 : time(n));"
    assert modules.js(f"{time} {disturbed} return timing.warmUp(first, async () => {{}})") == pytest.approx(
        3e-4
    )


def test_touching_reads_a_word_of_every_cache_line_of_a_memory_that_grows(modules: Modules) -> None:
    touched = modules.js(
        """
        const memory = new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true });
        const touch = program.toucher(memory);
        memory.grow(1);
        new Int32Array(memory.buffer).forEach((_, i, words) => (words[i] = i % 16 ? 1000 : 1));
        return [[0, 1], [0, 2], [1, 2], [1, 3]].map((tasks) => touch(0, 65536, ...tasks));
        """
    )
    assert touched == [1024, 2048, 1024, 1024]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_threads_touch_all_of_it_together(modules: Modules, threads: int) -> None:
    step = modules.js("return program.touchStep(4096, 1000, a)", threads)
    tasks, address, part = step[3], *step[-2:]
    assert address == 4096 and tasks == threads and part % 64 == 0
    assert 1000 <= tasks * part < 1000 + 64 * threads


PIECE = 1 << 24
FILE = """
  const bytes = new Uint8Array(a.bytes);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.imul(i, 2654435761) >>> 24;
"""


def hash_of_pieces(count: int) -> str:
    """Of the file that FILE makes."""
    data = (np.arange(count, dtype=np.uint32) * np.uint32(2654435761) >> 24).astype(np.uint8).tobytes()
    digests = [hashlib.sha256(data[at : at + PIECE]).digest() for at in range(0, count, PIECE)]
    return hashlib.sha256(b"".join(digests)).hexdigest()


@pytest.mark.parametrize("count", [0, 1000, PIECE, 5 * PIECE + 77])
def test_a_file_is_hashed_in_pieces_while_it_arrives(modules: Modules, count: int) -> None:
    streamed, whole = modules.js(
        FILE
        + """
        const hash = new content_hash.ContentHash();
        // Another download, which broke off.
        hash.advance(new Uint8Array(a.bytes), Math.floor(a.bytes / 2));
        for (let filled = 0; filled < a.bytes; filled += 7_000_001) hash.advance(bytes, filled);
        return [await hash.finish(bytes), await new content_hash.ContentHash().finish(bytes)];
        """,
        {"bytes": count},
    )
    assert streamed == whole == hash_of_pieces(count)


def test_what_was_read_of_a_model_can_be_read_again_without_it(modules: Modules) -> None:
    result = modules.js("""
      const { ModelBytes } = model_bytes;
      const first = ModelBytes.of(Uint8Array.of(0, 10, 20, 30, 40, 50).buffer);
      first.read(1, 2);
      first.read(1, 4);
      const later = new ModelBytes({ ...first.parts, whole: null });
      let refused = "";
      try {
        later.read(0, 2);
      } catch (error) {
        refused = error.name;
      }
      return { size: later.size, moves: later.buffers.length, short: [...later.read(1, 2)], long: [...later.read(1, 4)], refused };
    """)
    assert result == {
        "size": 6, "moves": 0, "short": [10, 20], "long": [10, 20, 30, 40], "refused": "VerificationError",
    }  # fmt: skip
