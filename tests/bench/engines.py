"""Browsers to run the bench in: Chromium through Playwright, Firefox and WebKitGTK as programs that are given a URL.

All that is asked of them is to open a page; the page itself talks to the server that it came from (remote.py). So
engines that no driver here can drive are measured by the same code as the one that can be.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import Error as BrowserError

from nnjit_build import chromium

NAMES = ("chromium", "firefox", "webkit")


class NoEngine(Exception):
    """The browser asked for is not on this machine; says how to get it."""


class Window(Protocol):
    """One open page."""

    def gone(self) -> str | None:
        """Why the page is there no more, or None while it is."""

    def close(self) -> None:
        """Close it, and give its memory back."""


class Engine(Protocol):
    """A browser: `title` is its name and version."""

    title: str

    def open(self, url: str) -> Window:
        """Open a page with a cache of its own."""


@contextmanager
def launch(name: str, flags: Sequence[str] = ()) -> Iterator[Engine]:
    """The engine called `name` (one of NAMES), `flags` added to its command line.

    Raises NoEngine where it is not installed; Chromium is installed if it can be.
    """
    if name == "chromium":
        with sync_playwright() as playwright:
            browser = chromium.launch(playwright, extra=flags)
            try:
                yield Chromium(browser)
            finally:
                browser.close()
    elif name == "firefox":
        yield Firefox(flags)
    else:
        with _display() as display:
            yield WebKit(display, flags)


class Chromium:
    """Playwright's Chromium; each window is a context."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.title = f"Chromium {browser.version}"

    def open(self, url: str) -> Window:
        """Open a page in a context of its own."""
        return _Tab(self.browser, url)


class _Tab:
    def __init__(self, browser: Browser, url: str) -> None:
        self.context = browser.new_context()
        self.page = self.context.new_page()
        self.page.goto(url)

    def gone(self) -> str | None:
        try:
            self.page.wait_for_timeout(1)  # lets Playwright hear of a crash
        except BrowserError as problem:
            return problem.message.splitlines()[0]
        return None

    def close(self) -> None:
        self.context.close()


class Firefox:
    """Headless Firefox; each window is a process with a profile of its own."""

    def __init__(self, flags: Sequence[str]) -> None:
        self.program = _program(("firefox-esr", "firefox"), "firefox-esr")
        self.flags = flags
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout
        self.title = said.removeprefix("Mozilla ").strip()

    def open(self, url: str) -> Window:
        """Open a page in a new process."""
        folder = Path(tempfile.mkdtemp(prefix="nnjit-firefox-"))
        (folder / "user.js").write_text(_PREFERENCES)
        options = ["--headless", "--no-remote", "--profile", str(folder), *self.flags]
        return _Process([self.program, *options, url], {}, folder)


_PREFERENCES = """\
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
user_pref("dom.max_script_run_time", 0);
user_pref("privacy.reduceTimerPrecision", false);
"""


class WebKit:
    """WebKitGTK's MiniBrowser on a virtual display; each window is a process."""

    def __init__(self, display: str, flags: Sequence[str]) -> None:
        self.program = _mini_browser()
        self.display = display
        self.flags = flags
        said = subprocess.run(
            [self.program, "--version"], capture_output=True, text=True, env=self._environment()
        ).stdout
        self.title = said.strip() or "WebKitGTK"

    def _environment(self) -> dict[str, str]:
        settings = {"DISPLAY": self.display, "WEBKIT_DISABLE_COMPOSITING_MODE": "1"}
        # Pages that are isolated may share memory between threads, but MiniBrowser leaves it off.
        settings["JSC_useSharedArrayBuffer"] = "1"
        if os.geteuid() == 0:
            settings["WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS"] = "1"  # it does not start as root with it
        return os.environ | settings

    def open(self, url: str) -> Window:
        """Open a page in a new process."""
        command = [_program(("dbus-run-session",), "dbus"), "--", self.program, *self.flags, url]
        folder = Path(tempfile.mkdtemp(prefix="nnjit-webkit-"))
        own = {"XDG_DATA_HOME": f"{folder}/data", "XDG_CACHE_HOME": f"{folder}/cache"}
        return _Process(command, self._environment() | own, folder)


class _Process:
    """A browser as a group of processes, ended with its group."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def gone(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"the browser ended with code {code}"

    def close(self) -> None:
        _end(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


def _end(process: subprocess.Popen[Any]) -> None:
    """End a process that leads a session, and what it started."""
    for which in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, which)
        except ProcessLookupError:
            break
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _program(names: Sequence[str], package: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    raise NoEngine(f"{names[0]} is not installed; on Debian: apt-get install {package}")


def _mini_browser() -> str:
    places = [
        *Path("/usr/lib").glob("*/webkit2gtk-4*/MiniBrowser"),
        *Path("/usr/libexec").glob("webkit2gtk-4*/MiniBrowser"),
    ]
    if not places:
        raise NoEngine(
            "WebKitGTK's MiniBrowser is not installed; on Debian: apt-get install webkit2gtk-driver"
        )
    return str(max(places))


@contextmanager
def _display() -> Iterator[str]:
    """An X display that nobody sees, on a number that is free."""
    _mini_browser()
    program = _program(("Xvfb",), "xvfb")
    read, write = os.pipe()
    options = ["-displayfd", str(write), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    server = subprocess.Popen(
        [program, *options], pass_fds=[write], stderr=subprocess.DEVNULL, start_new_session=True
    )
    os.close(write)
    try:
        with os.fdopen(read) as said:
            number = said.readline().strip()
        if not number:
            raise NoEngine("Xvfb does not start")
        yield f":{number}"
    finally:
        _end(server)
