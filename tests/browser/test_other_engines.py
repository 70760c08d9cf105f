"""Firefox and WebKitGTK, where they are installed: right answers, with one thread and with two, before and after tuning."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from bench.cases import whole_model
from bench.engines import NoEngine, launch
from bench.match import OURS, Arena, Match

from nnjit_build import demo_model

if TYPE_CHECKING:
    from pathlib import Path

    from nnjit_build.server import SiteServer

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["firefox", "webkit"])
def test_gives_the_answers_of_onnxruntime(site: SiteServer, tmp_path: Path, name: str) -> None:
    model = tmp_path / demo_model.FILE_NAME
    model.write_bytes(demo_model.build())
    case = whole_model(f"{model}@batch=37")
    with ExitStack() as stack:
        try:
            engine = stack.enter_context(launch(name))
        except NoEngine as problem:
            pytest.skip(str(problem))
        arena = Arena(engine, site, [], "wasm", threads=2)
        stack.callback(arena.close)
        arena.join("one thread", {"threads": 1})
        match = Match(arena, case)
        for contestant, threads in ((OURS, 2), ("one thread", 1)):
            match.load(contestant)
            match.tune(contestant, seconds=1)
            assert match.results[contestant].problem is None
            assert arena.call("facts", contestant)["device"]["threads"] == threads
