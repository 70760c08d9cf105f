"""Fixtures shared by all tests: the site on a free loopback port, and a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from nnjit_build.server import SiteServer
from nnjit_build.site import prepare

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--models", action="store_true", help="run the large models instead of the ordinary tests"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--models")
    left_out = [item for item in items if (item.get_closest_marker("models") is not None) != wanted]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def site() -> Iterator[SiteServer]:
    """The site of the working tree, its wheel built once; `site.url` is its root, `site.publish` adds a file."""
    server = SiteServer(prepare(live=False))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for the whole run, with WebGPU on the software adapter."""
    from playwright.sync_api import sync_playwright

    from nnjit_build.chromium import launch

    with sync_playwright() as playwright:
        chromium = launch(playwright, software_gpu=True)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def module_page(browser: Browser) -> Iterator[Page]:
    """An empty page with a cache of its own, shared by a module's tests: what they open in it, Python say, starts once."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(120_000)
    yield page
    context.close()


@pytest.fixture
def problems() -> list[str]:
    """What the test's page complained about: uncaught errors and console errors, in order."""
    return []


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser's profile for the test's own pages: an empty cache, nothing remembered."""
    context = browser.new_context()
    context.set_default_timeout(120_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, problems: list[str]) -> Iterator[Page]:
    """An empty page of the test's own; its complaints are collected in the fixture `problems`."""
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
