"""Visits that several tests go on from, made once: what they leave in the browser is put into a fresh one for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from . import small_models
from .visits import KEPT, TUNED, FirstVisit, Returning, first_visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

    from nnjit_build.server import SiteServer


@pytest.fixture(scope="session")
def kept(browser: Browser, site: SiteServer) -> FirstVisit:
    """A visit with 5 rows that kept its plan and tuned nothing."""
    return first_visit(browser, site, "kept.onnx", small_models.perceptron(), 5, "off", KEPT)


@pytest.fixture(scope="session")
def tuned(browser: Browser, site: SiteServer) -> FirstVisit:
    """A visit with 1 row that tuned to the end."""
    return first_visit(browser, site, "tuned.onnx", small_models.perceptron(), 1, "background", TUNED)


@pytest.fixture
def returning(browser: Browser) -> Iterator[Returning]:
    """Makes a browser's profile in which is kept what a first visit left."""
    opened: list[BrowserContext] = []

    def profile(first: FirstVisit) -> BrowserContext:
        opened.append(browser.new_context(storage_state=first.storage))
        opened[-1].set_default_timeout(120_000)
        return opened[-1]

    yield profile
    for context in opened:
        context.close()
