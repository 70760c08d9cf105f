"""Calls of a page's functions from outside, in any browser: the page asks the server what to do next.

The page (page.js) POSTs the answer to the last call and is told the next one. Nothing is under way while it works, so
that what it measures is not disturbed.
"""

from __future__ import annotations

import json
import queue
from typing import Any

from nnjit_build.server import SiteServer

from .engines import Engine

_HOLD_SECONDS = 20.0
"""A page that has nothing to do asks again after so long."""
_LOOK_SECONDS = 1.0
_START_SECONDS = 60.0


class Failed(Exception):
    """A contestant could not do what it was asked; the message is the page's."""


class RemotePage:
    """A page of `engine` at `url` that takes calls; `close` closes it. Raises Failed when it does not come up."""

    def __init__(self, engine: Engine, server: SiteServer, url: str) -> None:
        self._calls: queue.Queue[tuple[str, list[object]]] = queue.Queue()
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        channel = server.receive("channel", self._exchange)
        self._window = engine.open(f"{url}?channel={channel}")
        try:
            self._answer(_START_SECONDS)  # it reports for work
        except BaseException:
            self.close()
            raise

    def call(self, name: str, *parameters: object) -> Any:
        """A function of page.js. Raises Failed with what it threw, and when the page itself is gone."""
        self._calls.put((name, list(parameters)))
        answer = self._answer(None)
        if failure := answer.get("failure"):
            raise Failed(failure)
        return answer.get("value")

    def reload(self) -> None:
        """Open the page anew, with what the browser remembers of it. Raises Failed when it does not come up."""
        self._calls.put(("reload", []))
        self._answer(_START_SECONDS)  # the new page's report

    def close(self) -> None:
        """Close the page, which gives the browser's memory back."""
        self._window.close()

    def _exchange(self, body: bytes) -> bytes:
        """A request of the page: takes the answer in it, gives the next call; null where there is none yet."""
        if answer := json.loads(body):
            self._answers.put(answer)
        try:
            return json.dumps(self._calls.get(timeout=_HOLD_SECONDS)).encode()
        except queue.Empty:
            return b"null"

    def _answer(self, seconds: float | None) -> dict[str, Any]:
        waited = 0.0
        while seconds is None or waited < seconds:
            try:
                return self._answers.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                waited += _LOOK_SECONDS
                if reason := self._window.gone():
                    raise Failed(f"the page failed: {reason}") from None
        raise Failed(f"the page did not come up within {seconds:.0f} s")
