"""Inferences through shared memory (lane.js): the same answers as through messages, and no surprises for the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nnjit_build.server import SiteServer

from . import hand_plans as hand
from .executor_page import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

X = [1.0, -2.0, 0.5, 4.0, 8.0, -0.25]

# `t.sent` counts the runs that were sent as messages; the first one of a client always is.
COUNT = """
t.sent = 0;
const port = t.executor.channel.port;
const post = port.postMessage.bind(port);
port.postMessage = (message, options) => {
  t.sent += message.method === "run";
  post(message, options);
};
t.tensor = (data, dims = [data.length]) => ({ x: { data, dims, type: "float32" } });
"""


def opened(site: SiteServer, page: Page, threads: int) -> Session:
    session = Session(site, page, threads)
    session.add_plan(work=10**6)
    session.js(COUNT)
    return session


@pytest.fixture(params=[1, 2])
def session(request: pytest.FixtureRequest, site: SiteServer, page: Page) -> Session:
    return opened(site, page, request.param)


@pytest.fixture
def single(site: SiteServer, page: Page) -> Session:
    return opened(site, page, 1)


@pytest.fixture(scope="module")
def plain_site(site: SiteServer) -> Iterator[SiteServer]:
    """The site from a host that sends no isolation headers."""
    server = SiteServer(site.site, isolated=False)
    server.start()
    yield server
    server.stop()


def test_only_the_first_request_is_a_message(session: Session) -> None:
    lengths = [6, 6, 4, 1000, 7, 6]
    answers = [session.run([float(i) for i in range(n)]) for n in lengths]
    assert answers == [hand.expected([float(i) for i in range(n)]) for n in lengths]
    assert session.js("return t.sent") == 1


def test_without_isolation_every_request_is_a_message(plain_site: SiteServer, page: Page) -> None:
    session = opened(plain_site, page, 2)
    assert session.facts["threads"] == 1
    assert [session.run(X), session.run(X), session.run([1.0, 2.0])] == [
        hand.expected(X),
        hand.expected(X),
        hand.expected([1.0, 2.0]),
    ]
    assert session.js("return t.sent") == 3


def test_outputs_of_successive_runs_are_arrays_of_their_own(session: Session) -> None:
    firsts = session.js("""
      const outputs = [];
      for (let i = 0; i < 6; i++) outputs.push((await t.executor.run(t.tensor(Float32Array.of(i, i)))).outputs.y.data);
      return outputs.map((y) => y[0]);
    """)
    assert firsts == [3.0 * i + 4.0 for i in range(6)]


@pytest.mark.parametrize("elements", [100, 1_200_000])
def test_outputs_belong_to_the_caller(single: Session, elements: int) -> None:
    """Small ones come through the lane, large ones in a message from buffers that were made ahead."""
    result = single.js(
        """
        const x = new Float32Array(a).fill(1);
        const answers = [];
        for (let i = 0; i < 4; i++) {
          const { y } = (await t.executor.run(t.tensor(x))).outputs;
          answers.push([y.data.buffer instanceof ArrayBuffer, y.data.byteLength === y.data.buffer.byteLength,
            y.data[0], y.data[a - 1]]);
          structuredClone(y.data, { transfer: [y.data.buffer] });
          y.dims.push(1);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        return answers;
        """,
        elements,
    )
    last = hand.expected([1.0] * 4)[3]
    assert result == [[True, True, 7.0, last]] * 4


def test_the_callers_arrays_stay_as_they_are(session: Session) -> None:
    states = session.js("""
      const data = Float32Array.of(1, 2, 3, 4);
      for (let i = 0; i < 3; i++) await t.executor.run(t.tensor(data));
      return [[...data], data.buffer.byteLength];
    """)
    assert states == [[1, 2, 3, 4], 16]


def test_an_array_changed_while_the_request_is_under_way_does_not_change_it(single: Session) -> None:
    answers = single.js("""
      const data = Float32Array.of(1, 2, 3, 4);
      const answers = [];
      for (let i = 0; i < 3; i++) {
        data.fill(1);
        const running = t.executor.run(t.tensor(data));
        data.fill(100);
        answers.push((await running).outputs.y.data[0]);
      }
      return answers;
    """)
    assert answers == [7, 7, 7]


def test_a_view_of_a_larger_array_is_taken_as_it_is(single: Session) -> None:
    answers = single.js("""
      const whole = Float32Array.from({ length: 10 }, (_, i) => i);
      const run = async (data) => [...(await t.executor.run(t.tensor(data))).outputs.y.data];
      return [await run(whole.subarray(2, 5)), await run(whole.subarray(2, 5)), await run(whole.subarray(7, 10))];
    """)
    assert answers == [hand.expected([2, 3, 4]), hand.expected([2, 3, 4]), hand.expected([7, 8, 9])]


def test_requests_at_once_are_answered_in_order(session: Session) -> None:
    order = session.js("""
      await t.run([1, 2]);
      const done = [];
      const ask = (i) => t.run(new Float32Array(2 + 1000 * (i % 3)).fill(i)).then((y) => done.push([i, y[0]]));
      await Promise.all([0, 1, 2, 3, 4, 5].map(ask));
      return done;
    """)
    assert order == [[i, 3.0 * i + 4.0] for i in range(6)]


def test_two_clients_have_lanes_of_their_own(session: Session) -> None:
    answers = session.js("""
      const other = new t.ExecutorClient(await t.executor.connect());
      const answers = [];
      for (let i = 0; i < 5; i++) {
        const both = [t.run([i, 1]), t.run([100 + i, 1, 2], other)];
        answers.push((await Promise.all(both)).map((y) => y[0]));
      }
      return answers;
    """)
    assert answers == [[3.0 * i + 4.0, 3.0 * (100 + i) + 4.0] for i in range(5)]


def test_a_lane_grows_with_the_inputs(session: Session) -> None:
    lengths = [10, 2_500_000, 2_500_000, 20, 6_000_000, 6_000_000, 10]
    answers = session.js(
        "const r = []; for (const n of a) { const y = await t.run(new Float32Array(n).fill(2));"
        " r.push([y.length, y[0], y[n - 1]]); } return r",
        lengths,
    )
    assert answers == [[n, 10.0, hand.expected([2.0] * 4)[(n - 1) % 4]] for n in lengths]
    assert session.js("return t.sent") == 3


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("{}", "is missing"),
        ("{ ...good, z: good.x }", 'no input "z"'),
        ("{ x: { ...good.x, data: new Int32Array(4) } }", "pass float32"),
        ("{ x: { ...good.x, data: new Float64Array(4) } }", "pass float32"),
        ("{ x: { ...good.x, dims: [2, 2] } }", "has 1 dimensions"),
        ("{ x: { ...good.x, dims: [5] } }", "has 4 elements"),
        ("{ x: { ...good.x, data: [1, 2, 3, 4] } }", "typed array"),
        ("{ x: { ...good.x, data: new DataView(new ArrayBuffer(16)) } }", "pass float32"),
    ],
)
def test_wrong_inputs_are_refused_as_by_message(single: Session, inputs: str, message: str) -> None:
    setup = (
        "const good = t.tensor(new Float32Array(4)); await t.executor.run(good); await t.executor.run(good);"
    )
    for _ in range(2):
        error = single.failure(f"{setup} await t.executor.run({inputs})")
        assert error["code"] == "input"
        assert message in error["message"]
    assert single.run(X) == hand.expected(X)


def test_a_request_in_a_lane_can_need_a_plan(site: SiteServer, page: Page) -> None:
    session = Session(site, page, 2)
    session.add_plan(guards=[["ge", "s0", 4]])
    session.js(COUNT)
    assert session.run(X) == hand.expected(X)
    session.js("t.plansOnDemand = [a]", hand.plan(session.target, guards=[["eq", "s0", 2]]))
    assert [session.run([1.0, 2.0]) for _ in range(2)] == [hand.expected([1.0, 2.0])] * 2
    assert "no plan for these inputs" in session.failure("await t.run([1, 2, 3])")["message"]
    assert session.run(X) == hand.expected(X)
    assert session.js("return t.sent") == 1


def test_other_requests_reach_an_executor_that_waits_for_inferences(session: Session) -> None:
    """It is blocked between the inferences of a loop, and is woken for messages."""

    def worst(request: str) -> Any:
        return session.js(f"""
          let worst = 0;
          for (let i = 0; i < 20; i++) {{
            await t.run([i, 2]);
            const start = performance.now();
            await {request};
            worst = Math.max(worst, performance.now() - start);
          }}
          return worst;
        """)

    session.run(X)
    # Blocked, the executor would answer after a tenth of a second.
    assert worst("t.executor.stats()") < 90
    assert session.run(X) == hand.expected(X)


def test_a_run_under_way_fails_when_the_executor_is_disposed_of(single: Session) -> None:
    error = single.failure("""
      await t.run([1, 2]);
      await t.run([1, 2]);
      const running = t.run([1, 2]);
      t.executor.dispose();
      await running;
    """)
    assert error["code"] == "device"


def test_measurements_replay_inputs_that_came_through_a_lane(session: Session) -> None:
    for _ in range(3):
        session.run([float(i) for i in range(3000)])
    session.run([float(i) for i in range(2000)])
    measured = session.measure([hand.candidate(hand.bias_kernel("again"), session.target)])
    assert [r["status"] for r in measured["results"]] == ["ok"]
    assert session.run(X) == hand.expected(X)
