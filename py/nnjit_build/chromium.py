"""A Chromium to test and run in: found, or installed when there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from playwright.sync_api import Browser, Playwright

_COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
)

_QUIET = ("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync")
_WEBGPU = ("--enable-unsafe-webgpu", "--enable-features=Vulkan")
_SOFTWARE_GPU = "--use-webgpu-adapter=swiftshader"


class NoChromium(RuntimeError):
    """No Chromium was found and none could be installed; says what to do."""


def launch(playwright: Playwright, *, software_gpu: bool = False, extra: Sequence[str] = ()) -> Browser:
    """A headless Chromium with WebGPU; installs the browser when the machine has none.

    WebGPU is on the machine's GPU or, where it has none or `software_gpu` is set, on SwiftShader.
    """
    arguments = [*_QUIET, *_WEBGPU, *extra]
    if software_gpu:
        arguments.append(_SOFTWARE_GPU)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses to start as root with it
    return playwright.chromium.launch(executable_path=ensure(playwright), args=arguments)


def ensure(playwright: Playwright) -> Path:
    """The path of a Chromium that starts. Raises NoChromium when none can be had."""
    if path := find(playwright):
        return path
    for install in (_install_with_playwright, _install_with_apt):
        install()
        if path := find(playwright):
            return path
    raise NoChromium(
        "no Chromium here and none could be installed; install one, or set CHROME_PATH to its path"
    )


def find(playwright: Playwright) -> Path | None:
    """The first Chromium that starts: CHROME_PATH, then Playwright's own, then the system's."""
    return next((path for path in _candidates(playwright) if _starts(path)), None)


def _candidates(playwright: Playwright) -> Iterator[Path]:
    if named := os.environ.get("CHROME_PATH"):
        yield Path(named)
    yield Path(playwright.chromium.executable_path)
    for command in _COMMANDS:
        if found := shutil.which(command):
            yield Path(found)
    yield from map(Path, _APPLICATIONS)


def _starts(path: Path) -> bool:
    if not path.exists():
        return False
    if os.name == "nt":
        return True  # there `--version` opens a window instead of printing
    return subprocess.run([path, "--version"], capture_output=True).returncode == 0


def _install_with_playwright() -> None:
    print("installing Chromium with Playwright", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], capture_output=True)


def _install_with_apt() -> None:
    if not shutil.which("apt-get"):
        return
    print("installing Chromium with apt-get", file=sys.stderr)
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for action in (["update"], ["install", "--no-install-recommends", "-y", "chromium"]):
        result = subprocess.run(
            [*prefix, "apt-get", "-q", *action], env=environment, stdout=subprocess.DEVNULL
        )
        if result.returncode != 0:
            return
