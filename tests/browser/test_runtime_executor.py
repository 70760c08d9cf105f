"""The executor and the CPU device in Chromium, on plans written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nnjit_build.server import SiteServer
from nnjit_build.site import Site

from . import hand_plans as hand
from .executor_page import Session

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit.target import Target


@pytest.fixture(params=[1, 2])
def session(request: pytest.FixtureRequest, site: SiteServer, page: Page) -> Session:
    return Session(site, page, request.param)


@pytest.fixture
def single(site: SiteServer, page: Page) -> Session:
    return Session(site, page, 1)


X = [1.0, -2.0, 0.5, 4.0, 8.0, -0.25]


def test_uses_the_threads_asked_for(session: Session) -> None:
    assert session.facts["threads"] == session.threads


def test_a_plan_computes_what_its_kernels_say(session: Session) -> None:
    session.add_plan()
    assert session.run(X) == hand.expected(X)


def test_threads_share_the_tasks_of_heavy_steps(session: Session) -> None:
    session.add_plan(work=10**6)
    long = [float(i % 97) for i in range(5001)]
    assert session.run(long) == hand.expected(long)


def test_the_same_plan_serves_other_lengths(session: Session) -> None:
    session.add_plan(work=10**6)
    lengths = [2, 1000, 3, 20000, 1000]
    runs = [[float(i) for i in range(n)] for n in lengths]
    assert [session.run(x) for x in runs] == [hand.expected(x) for x in runs]


def test_many_inferences_at_once_are_all_answered(session: Session) -> None:
    session.add_plan(work=10**6)
    count = session.js(
        "const all = await Promise.all(Array.from({ length: 200 }, (_, i) => t.run([i, 2 * i, 3 * i])));"
        "return all.filter((y, i) => y[0] === i * 3 + 4 && y[2] === 9 * i - 1).length"
    )
    assert count == 200


def test_a_second_client_runs_through_a_port_of_its_own(single: Session) -> None:
    single.add_plan()
    answer = single.js("return t.run(a, new t.ExecutorClient(await t.executor.connect()))", X)
    assert answer == hand.expected(X)


def test_the_callers_array_stays_usable(single: Session) -> None:
    single.add_plan()
    length = single.js(
        "const data = new Float32Array(4);"
        "await t.executor.run({ x: { data, dims: [4], type: 'float32' } });"
        "return data.length"
    )
    assert length == 4


def test_asks_for_a_plan_when_none_fits(single: Session) -> None:
    single.js("t.plansOnDemand = a", [hand.plan(single.target)])
    assert single.run(X) == hand.expected(X)
    assert single.js("return t.asked") == [{"x": {"type": "float32", "dims": [6], "value": None}}]


def test_a_failed_guard_asks_for_another_plan(single: Session) -> None:
    single.add_plan(guards=[["ge", "s0", 4]])
    single.js("t.plansOnDemand = [a]", hand.plan(single.target, guards=[["le", "s0", 3]]))
    assert single.run([1.0, 2.0]) == hand.expected([1.0, 2.0])
    assert single.run(X) == hand.expected(X)
    assert len(single.js("return t.asked")) == 1


def test_simultaneous_requests_share_one_compilation(single: Session) -> None:
    single.js("t.plansOnDemand = [a]", hand.plan(single.target))
    answers = single.js("return Promise.all([t.run(a), t.run(a), t.run(a)])", X)
    assert answers == [hand.expected(X)] * 3


def test_a_failed_compilation_reaches_the_caller_and_the_next_run_tries_again(single: Session) -> None:
    assert "no plan for these inputs" in single.failure("await t.run(a)", X)["message"]
    single.js("t.plansOnDemand = [a]", hand.plan(single.target))
    assert single.run(X) == hand.expected(X)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("{}", 'The input "x" (float32 [length]) is missing'),
        ("{ x: good, z: good }", 'no input "z"'),
        ("{ x: { ...good, data: new Int32Array(4), type: 'int32' } }", "pass float32"),
        ("{ x: { ...good, data: new Float64Array(4) } }", "pass float32"),
        ("{ x: { ...good, dims: [2, 2] } }", "has 1 dimensions"),
        ("{ x: { ...good, dims: [5] } }", "has 4 elements"),
        ("{ x: { ...good, dims: [-4] } }", "not negative"),
        ("{ x: [1, 2, 3, 4] }", "typed array"),
    ],
)
def test_inputs_that_do_not_fit_the_model_are_refused(single: Session, inputs: str, message: str) -> None:
    single.add_plan()
    error = single.failure(
        "const good = { data: new Float32Array(4), dims: [4], type: 'float32' };"
        f"await t.executor.run({inputs})"
    )
    assert error["code"] == "input"
    assert message in error["message"]
    assert single.run(X) == hand.expected(X)


def test_one_named_dimension_has_one_value(single: Session) -> None:
    ports = [{"name": n, "dtype": "float32", "shape": ["length"]} for n in ("x", "z")]
    single.js("await t.executor.setSignature({ inputs: a, outputs: [] })", ports)
    error = single.failure(
        "const of = (n) => ({ data: new Float32Array(n), dims: [n], type: 'float32' });"
        "await t.executor.run({ x: of(4), z: of(5) })"
    )
    assert error["name"] == "InputError"
    assert "dimension length is 4" in error["message"]


def test_candidates_are_timed_and_checked(session: Session) -> None:
    session.add_plan()
    session.run([float(i) for i in range(3000)])
    target = session.target
    kernels = [hand.bias_kernel("again"), hand.wrong_kernel()]
    candidates = [*(hand.candidate(k, target) for k in kernels), hand.repacking_candidate(target)]
    measured = session.measure(candidates)
    assert [r["status"] for r in measured["results"]] == ["ok", "wrong", "ok"]
    assert measured["incumbentMs"] > 0
    # Equal to the incumbent, it is given up when it cannot win often enough any more.
    again = measured["results"][0]
    assert 1 <= len(again["ms"]) == len(again["incumbent"]) <= 3
    assert measured["results"][0]["maxError"] == 0


def bad_candidates(target: Target) -> list[tuple[str, dict, str]]:
    """What each does, the candidate, and the status that it must get."""
    made = [
        ("computes something else", hand.wrong_kernel(), "wrong"),
        ("computes NaN", hand.nan_kernel(), "wrong"),
        ("leaves results unwritten", hand.lazy_kernel(), "wrong"),
        ("writes behind its result", hand.overflowing_kernel(), "out-of-bounds"),
        ("writes before its result", hand.stray_kernel("y", -1), "out-of-bounds"),
        ("writes into its operand", hand.stray_kernel("t", 0), "out-of-bounds"),
        ("writes into a weight", hand.stray_kernel("p", 3), "out-of-bounds"),
        ("writes a page behind its result", hand.stray_kernel("y", hand.N + 10_000), "out-of-bounds"),
        ("writes far below its result", hand.stray_kernel("y", -12_500), "out-of-bounds"),
        ("writes outside the memory", hand.trapping_kernel(), "trap"),
        ("does not end", hand.endless_kernel(), "endless"),
    ]
    candidates = [
        (what, hand.reading_only(hand.candidate(kernel, target)), status) for what, kernel, status in made
    ]
    broken = hand.candidate(hand.bias_kernel("broken"), target, blob=b"\0asm broken")
    candidates += [
        ("is no module", broken, "compile-error"),
        ("packs a weight without end", hand.with_endless_packing(target), "endless"),
        ("is right", hand.repacking_candidate(target), "ok"),
    ]
    return candidates


def check_bad_candidates(session: Session) -> None:
    """Each is rejected for what it does; inferences meanwhile and afterwards are right, and a good one still passes."""
    session.add_plan()
    session.run(X)
    planted = bad_candidates(session.target)
    outcome = session.js(
        """
        const request = { plan: 0, unit: 1, samples: 2, tolerance: 1e-5, candidates: a[0].map(t.unpack) };
        let measuring = true;
        const measured = t.executor.measure(request).finally(() => (measuring = false));
        const answers = [];
        for (let n = 0; measuring; n++) {
          answers.push(await t.run(a[1].map((x) => x + n % 4)));
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        const results = (await measured).results;
        return { answers, found: results.map(({ status, message }) => [status, message]), last: await t.run(a[1]) };
        """,
        [[candidate for _, candidate, _ in planted], X],
    )
    found = [(what, status) for (what, _, _), (status, _) in zip(planted, outcome["found"], strict=True)]
    assert found == [(what, status) for what, _, status in planted], outcome["found"]
    assert len(outcome["answers"]) > 20
    for n, answer in enumerate(outcome["answers"]):
        assert answer == hand.expected([x + n % 4 for x in X])
    assert outcome["last"] == hand.expected(X)


def test_bad_candidates_are_rejected_and_harm_nothing(session: Session) -> None:
    check_bad_candidates(session)


def test_without_isolation_bad_candidates_are_rejected_too(page: Page) -> None:
    host = SiteServer(Site(), isolated=False)
    host.start()
    try:
        session = Session(host, page, 1)
        assert not session.facts["isolated"]
        check_bad_candidates(session)
    finally:
        host.stop()


def test_candidates_are_refused_where_the_quarantine_does_not_start(page: Page, tmp_path: Path) -> None:
    site = Site()
    site.made["runtime/quarantine.worker.js"] = lambda: tmp_path / "missing"
    host = SiteServer(site)
    host.start()
    try:
        session = Session(host, page, 1)
        session.add_plan()
        session.run(X)
        measured = session.measure([hand.candidate(hand.bias_kernel("again"), session.target)])
        assert measured["results"][0]["status"] == "error"
        assert "quarantine does not start" in measured["results"][0]["message"]
        assert session.run(X) == hand.expected(X)
    finally:
        host.stop()


def test_inferences_are_served_while_candidates_are_measured(session: Session) -> None:
    session.add_plan()
    session.run([float(i) for i in range(3000)])
    candidates = [hand.repacking_candidate(session.target) for _ in range(3)]
    outcome = session.js(
        """
        const request = { plan: 0, unit: 1, samples: 5, tolerance: 1e-5, candidates: a[0].map(t.unpack) };
        let measuring = true;
        let served = 0;
        const measured = t.executor.measure(request).finally(() => (measuring = false));
        let right = true;
        for (let n = 3000; measuring; n += 1000) {
          const y = await t.run(new Float32Array(n % 50000 + 4).fill(1));
          right &&= y[0] === 7 && y[3] === 3.5;
          served += measuring;
        }
        return { served, right, statuses: (await measured).results.map((r) => r.status) };
        """,
        [candidates],
    )
    assert outcome["right"]
    assert outcome["served"] >= 3
    assert outcome["statuses"] == ["ok"] * 3


def test_a_swapped_unit_gives_the_same_answers(session: Session) -> None:
    session.add_plan()
    session.run(X)
    replacement = {"unit": 1, "with": hand.repacking_candidate(session.target)}
    session.js(
        "const r = { ...a, with: t.unpack(a.with) }; return t.executor.swap({ plan: 0, replacements: [r] })",
        replacement,
    )
    assert session.run(X) == hand.expected(X)


def test_a_swap_takes_effect(single: Session) -> None:
    single.add_plan()
    replacement = {"unit": 1, "with": hand.candidate(hand.wrong_kernel(), single.target)}
    single.js(
        "const r = { ...a, with: t.unpack(a.with) }; return t.executor.swap({ plan: 0, replacements: [r] })",
        replacement,
    )
    assert single.run([1.0, 2.0]) == [4.0, 7.0]


def test_a_failed_swap_leaves_the_plan_as_it_was(single: Session) -> None:
    single.add_plan()
    broken = hand.candidate(hand.bias_kernel("broken"), single.target, blob=b"\0asm broken")
    error = single.failure(
        "const r = { unit: 1, with: t.unpack(a) }; await t.executor.swap({ plan: 0, replacements: [r] })",
        broken,
    )
    assert error is not None
    assert single.run(X) == hand.expected(X)


def test_profile_gives_a_time_for_every_unit(session: Session) -> None:
    session.add_plan()
    session.run([float(i) for i in range(3000)])
    profile = session.js("return t.executor.profile({ plan: 0, repeat: 3 })")
    assert [p["unit"] for p in profile] == [0, 1]
    assert all(p["ms"] > 0 for p in profile)


def test_a_plan_added_later_is_profiled_on_the_inputs_of_the_one_before(session: Session) -> None:
    session.add_plan()
    session.run([float(i) for i in range(3000)])
    session.add_plan()
    profile = session.js("return t.executor.profile({ plan: 1, repeat: 1 })")
    assert [p["unit"] for p in profile] == [0, 1]


def test_long_inferences_are_profiled_as_they_come_and_stay_right(session: Session) -> None:
    slow = hand.plan(session.target, work=10**6)
    slow["plan"]["units"][0]["steps"] *= 4000
    session.js("return t.add(a)", slow)
    x = [float(i % 97) for i in range(20000)]
    result = session.js(
        """
        await t.run(a);
        let over = false;
        const served = [];
        const profiling = t.executor.profile({ plan: 0, repeat: 3, background: true }).finally(() => (over = true));
        while (!over) served.push(await t.run(a));
        return { first: served[0], same: served.every((y) => y.every((v, i) => v === served[0][i])),
                 count: served.length, profile: await profiling };
        """,
        x,
    )
    assert result["first"] == hand.expected(x) and result["same"]
    long, short = (unit["ms"] for unit in result["profile"])
    assert long > 20 * short
    # To replay three of them between those that are asked for would delay more than these few.
    assert result["count"] < 12


def test_a_trap_is_an_error_and_the_next_inference_works(session: Session) -> None:
    session.add_plan()
    trapping = {"unit": 1, "with": hand.candidate(hand.trapping_kernel(), session.target)}
    good = {"unit": 1, "with": hand.candidate(hand.bias_kernel(), session.target)}
    swap = (
        "const r = { ...a, with: t.unpack(a.with) }; await t.executor.swap({ plan: 0, replacements: [r] });"
    )
    session.js(swap, trapping)
    error = session.failure("await t.run(a)", X)
    assert error["code"] == "device"
    assert 'node "n1"' in error["message"]
    session.js(swap, good)
    assert session.run(X) == hand.expected(X)


def test_a_missing_weights_file_is_an_error(single: Session) -> None:
    plan = hand.plan(single.target)
    plan["plan"]["buffers"][3]["source"]["file"] = "other.data"
    error = single.failure("await t.add(a)", plan)
    assert error["code"] == "external-data"
    assert "other.data" in error["message"]


def test_a_truncated_model_file_is_an_error(single: Session) -> None:
    plan = hand.plan(single.target)
    plan["plan"]["buffers"][4]["source"]["offset"] = 8
    assert single.failure("await t.add(a)", plan)["code"] == "external-data"


def test_too_large_a_request_is_out_of_memory_and_leaves_the_model_usable(single: Session) -> None:
    plan = hand.plan(single.target, guards=[["le", "s0", 3]])
    for buffer in plan["plan"]["buffers"]:
        if buffer["id"] == "t":
            buffer["elements"] = 2**31
    single.js("return t.add(a)", plan)
    single.add_plan(guards=[["ge", "s0", 4]])
    error = single.failure("await t.run([1, 2])")
    assert error["code"] == "out-of-memory"
    assert "MiB" in error["message"]
    assert single.run(X) == hand.expected(X)


def test_plans_of_one_model_share_their_weights(single: Session) -> None:
    single.add_plan()
    before = single.js("return t.executor.stats()")["persistentBytes"]
    single.add_plan()
    assert single.js("return t.executor.stats()")["persistentBytes"] == before
    assert single.run(X) == hand.expected(X)


def test_calls_after_dispose_fail(session: Session) -> None:
    session.add_plan()
    session.js("t.executor.dispose()")
    assert session.failure("await t.run(a)", X)["code"] == "device"


def test_an_unknown_device_is_an_error(single: Session) -> None:
    error = single.failure("await t.executor.open({ device: 'tpu', threads: 1 })")
    assert error["code"] == "device"
    assert "tpu" in error["message"]


TEAM = """
import { help, lead } from "/runtime/program.js";
onmessage = ({ data: { memory, at, thread, threads, tasks, rounds, trap } }) => {
  const control = new Int32Array(memory);
  const program = new Int32Array(memory, at, 2 * 6 + 1);
  const seen = new Int32Array(memory, at + 64);
  const count = (low, high) => {
    for (let i = low; i < high; i++) Atomics.add(seen, i, 1);
    if (thread === 1) for (const end = performance.now() + 0.2; performance.now() < end; );
    if (trap === thread) throw new Error("trapped");
  };
  const check = (slow, low, high) => {
    // The step before must be over when this one starts, and is counted in the last word.
    const done = seen.subarray(0, tasks).reduce((sum, n) => sum + n, 0);
    if (done % tasks) Atomics.add(seen, tasks, 1);
  };
  let outcome = "done";
  if (thread === 0) {
    for (let round = 0; round < rounds; round++) {
      try {
        lead(control, threads, program, [count, check], 1 + (round % 2), false);
      } catch (error) {
        outcome = `step ${error.step} of round ${round}`;
        break;
      }
      if (round % 3 === 0) for (const end = performance.now() + 0.5; performance.now() < end; );
    }
    postMessage(outcome);
  } else {
    postMessage("ready");
    help(control, 0, 0, () => new Int32Array(memory), [count, check], thread, threads);
  }
};
"""

RUN_TEAM = """async ([url, cases]) => {
  const { CONTROL_BYTES, HEADER } = await import("/runtime/program.js");
  const results = [];
  for (const { threads, tasks, rounds, parts, trap } of cases) {
    const memory = new SharedArrayBuffer(CONTROL_BYTES + 65536 + 4 * tasks);
    const records = [1, 0, 0, tasks, 0, parts, 0, 1, 1, 1, 1, 1, 99];
    new Int32Array(memory, CONTROL_BYTES, records.length).set(records);
    const workers = Array.from({ length: threads }, () => new Worker(url, { type: "module" }));
    const start = (thread) => new Promise((resolve) => {
      workers[thread].onmessage = ({ data }) => resolve(data);
      workers[thread].postMessage({ memory, at: CONTROL_BYTES, thread, threads, tasks, rounds, trap });
    });
    // The last helper comes late, when the leader has long begun.
    await Promise.all(workers.slice(1, -1).map((_, i) => start(i + 1)));
    const led = start(0);
    if (threads > 1) await start(threads - 1);
    const outcome = await led;
    workers.forEach((w) => w.terminate());
    const seen = new Int32Array(memory, CONTROL_BYTES + 64, tasks + 1);
    results.push([outcome, [...new Set(seen.subarray(0, tasks))], seen[tasks]]);
  }
  return results;
}"""


def run_team(site: SiteServer, page: Page, cases: list[dict]) -> list:
    page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
    return page.evaluate(RUN_TEAM, [site.publish("team.js", TEAM.encode()), cases])


def test_every_task_of_a_shared_step_is_run_exactly_once_and_before_the_next_step(
    site: SiteServer, page: Page
) -> None:
    cases = [
        {"threads": 2, "tasks": 100, "rounds": 20, "parts": 4},
        {"threads": 3, "tasks": 7, "rounds": 40, "parts": 4},
        {"threads": 2, "tasks": 1, "rounds": 10, "parts": 1},
        {"threads": 2, "tasks": 64, "rounds": 3000, "parts": 32},
        {"threads": 4, "tasks": 1000, "rounds": 6, "parts": 2},
        {"threads": 3, "tasks": 2, "rounds": 200, "parts": 1},
        {"threads": 2, "tasks": 254, "rounds": 200, "parts": 127},
    ]
    # Every second round is done twice.
    assert run_team(site, page, cases) == [["done", [case["rounds"] * 3 // 2], 0] for case in cases]


def test_a_trap_on_any_thread_ends_the_program_when_all_parts_are_over(site: SiteServer, page: Page) -> None:
    cases = [{"threads": 2, "tasks": 64, "rounds": 2000, "parts": 4, "trap": trap} for trap in (0, 1)]
    for outcome, _, early in run_team(site, page, cases):
        assert outcome.startswith("step 0 of round")
        assert early == 0


def test_new_kernels_run_every_task_once_in_many_calls(site: SiteServer, page: Page) -> None:
    page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
    calls = page.evaluate(
        """async (root) => {
          const { SINGLE, walk } = await import(root + "runtime/program.js");
          const taken = (tasks, fresh) => {
            const calls = [];
            const f = (low, high) => calls.push([low, high]);
            const program = Int32Array.of(SINGLE, 0, 0, tasks, 0, 1);
            walk(program, 0, program.length, [f], 1, fresh);
            return calls;
          };
          return [taken(1000, false), taken(1000, true), taken(3, true), taken(1, true)];
        }""",
        site.url + "/",
    )
    assert calls[0] == [[0, 1000]]
    for tasks, parts in zip((1000, 3, 1), calls[1:], strict=True):
        assert [i for low, high in parts for i in range(low, high)] == list(range(tasks))
    assert len(calls[1]) > 20


LATE = """
import { announceLetter, CONTROL, CONTROL_BYTES, help, lead } from "/runtime/program.js";
const memory = new SharedArrayBuffer(CONTROL_BYTES + 65536);
const control = new Int32Array(memory);
const program = new Int32Array(memory, CONTROL_BYTES, 7);
const calls = { step: 0, stray: 0 };
const functions = [() => calls.step++, () => calls.stray++];
program.set([1, 0, 0, 8, 0, 4, 0]);
lead(control, 2, program, functions, 1, false);
const before = Atomics.load(control, CONTROL.SEQUENCE) - 1;
const mail = () => announceLetter(control);
onmessage = ({ data: late }) => {
  // What the helper does between reading that there is a step and taking a part of it.
  const held = () => {
    if (late === "record") program.set([1, 1, 0, 4096, 0, 127, 0]);
    mail();
    return new Int32Array(memory);
  };
  if (late === "letter") mail(), lead(control, 2, program, functions, 1, false);
  help(control, before, 0, held, functions, 1, 2);
  postMessage([calls.step, calls.stray]);
};
"""

RUN_LATE = """async ([url, late]) => {
  const worker = new Worker(url, { type: "module" });
  const answer = new Promise((resolve) => { worker.onmessage = ({ data }) => resolve(data); });
  worker.postMessage(late);
  const hung = new Promise((resolve) => setTimeout(resolve, 5000, "hung"));
  const outcome = await Promise.race([answer, hung]);
  worker.terminate();
  return outcome;
}"""


def test_a_thread_held_up_while_a_step_ended_takes_nothing_of_what_lies_there_then(
    site: SiteServer, page: Page
) -> None:
    page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
    url = site.publish("late.js", LATE.encode())
    # The leader alone called the step for each of its eight parts.
    assert page.evaluate(RUN_LATE, [url, "record"]) == [8, 0]


def test_a_thread_that_looks_late_still_finds_that_a_message_waits(site: SiteServer, page: Page) -> None:
    page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
    url = site.publish("late.js", LATE.encode())
    assert page.evaluate(RUN_LATE, [url, "letter"]) == [16, 0]
