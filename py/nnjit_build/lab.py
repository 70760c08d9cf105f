"""The JupyterLite of the site: a notebook server without a server, with nnjit in its own package index.

`jupyter lite build` makes the application; what is special to this site is added afterwards: the notebooks, the index
that offers the wheel, and two scripts in every page. Python comes from the site's own pyodide/ folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import wheel
from .fetch import FetchFailed, gather, packages
from .paths import CACHE, WEB

FOLDER = CACHE / "lab"
SITE = FOLDER / "site"
NOTEBOOKS = WEB / "notebooks"
NNJIT_INDEX = "nnjit/all.json"

# The build tool with all that it needs, installed without further dependencies into an environment of its own.
_TOOLS = (
    "doit==0.37.0",
    "jupyter-core==5.9.1",
    "jupyterlite-core==0.8.6",
    "jupyterlite-pyodide-kernel==0.8.6",
    "pkginfo==2.0",
    "platformdirs==4.14.7",
    "traitlets==5.16.1",
)

# What the notebook's Python needs beyond Pyodide: pure wheels, offered by the site's own index.
_WHEELS = {
    "asttokens-3.0.2-py3-none-any.whl": "9da13157f5b28becde0bd374fc677dcd3c290614264eff096f167c469cd9f933",
    "comm-0.2.3-py3-none-any.whl": "c615d91d75f7f04f095b30d1c1711babd43bdc6419c1be9886a85f2f4e489417",
    "decorator-5.3.1-py3-none-any.whl": "f47fe6fdbd2edd623ecfe36875d37aba411624e2670dd395dddae1358689bb3c",
    "executing-2.3.0-py3-none-any.whl": "736e859c9f8701f11fcf516856f26f562e04776387824b43a35a1dfe21c84122",
    "ipython-9.18.1-py3-none-any.whl": "997ce9140d374531a61069c70c0f9ef299d6dd3559ea0f94b8af589726e3c1d5",
    "ipython_pygments_lexers-1.1.1-py3-none-any.whl": "a9462224a505ade19a605f71f8fa63c2048833ce50abc86768a0d81d876dc81c",
    "jedi-0.20.1-py2.py3-none-any.whl": "0fb16d86c4a4c73c37ba518c77419975e30fcc620658a8d14fbb5720cdd34142",
    "matplotlib_inline-0.2.2-py3-none-any.whl": "3c821cf1c209f59fb2d2d64abbf5b23b67bcb2210d663f9918dd851c6da1fcf6",
    "parso-0.8.7-py2.py3-none-any.whl": "a8926eb2a1b915486941fdbd31e86a4baf88fe8c210f25f2f35ecec5b574ca1c",
    "prompt_toolkit-3.0.53-py3-none-any.whl": "01c0891d7f9237d5e339f7d3e42cdae80b7534abb1c7c0e3352efba6231492f2",
    "pure_eval-0.2.4-py3-none-any.whl": "96cae060a313cfaad51bb761278bfb0e62dc0248d9315a81173752dc546cd37a",
    "pygments-2.21.0-py3-none-any.whl": "2363c69b61c4a97c838da3b130dcd6468f4848992b21a82f2a63ec34377137d9",
    "six-1.17.0-py2.py3-none-any.whl": "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274",
    "stack_data-0.6.3-py3-none-any.whl": "d5558e0c25a4cb0853cddad3d77da9891a08cb85dd9f9f91b9f8cd66e511e695",
    "traitlets-5.16.1-py3-none-any.whl": "f775618166caa0396c8e337099240f2bd3e5e917d203b2e6fbe21a58d3cb1f6b",
    "typing_extensions-4.16.0-py3-none-any.whl": "481caa481374e813c1b176ada14e97f1f67a4539ce9cfeb3f350d78d6370c2e8",
    "wcwidth-0.9.4-py3-none-any.whl": "901eace6d2dd25ebb917d0ce5db18e5c537e1504c905cf32f0d006c12098b05d",
}

_KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel"
_SETTINGS: dict[str, Any] = {
    "appName": "nnjit notebooks",
    "contentsAllJsonFile": "all.json",
    "exposeAppInBrowser": True,
    # Its scope would keep the site's own service worker, which isolates pages, away from the notebooks.
    "disabledExtensions": ["@jupyterlite/application-extension:service-worker-manager"],
}

# The kernel's messaging library awaits `Atomics.waitAsync(…).value`, which is not a promise when the answer is there
# at once; cells then never finish. This makes it a promise always.
_WAIT_ASYNC = """<script>
if (Atomics.waitAsync) {
  const waitAsync = Atomics.waitAsync.bind(Atomics);
  Atomics.waitAsync = (...wait) => ({ async: true, value: Promise.resolve(waitAsync(...wait).value) });
}
</script>"""


def ensure() -> Path:
    """The folder of the built JupyterLite; builds it when something that goes into it has changed."""
    stamp = FOLDER / "built-from.txt"
    inputs = _inputs()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != inputs:
        stamp.unlink(missing_ok=True)
        _build()
        stamp.write_text(inputs, encoding="utf-8")
    return SITE


def nnjit_index(data: bytes) -> bytes:
    """The package index that offers the wheel with the bytes `data` at the site's root, as JupyterLite's installer reads it."""
    release = {
        "digests": {"sha256": hashlib.sha256(data).hexdigest()},
        "filename": wheel.file_name(),
        "packagetype": "bdist_wheel",
        "python_version": "py3",
        "requires_python": wheel.metadata()["requires-python"],
        "size": len(data),
        "url": f"../../{wheel.file_name()}",
        "yanked": False,
    }
    return json.dumps({"nnjit": {"releases": {wheel.metadata()["version"]: [release]}}}).encode()


def _inputs() -> str:
    """A digest of everything that the built folder depends on."""
    digest = hashlib.sha256()
    for path in (Path(__file__), *sorted(NOTEBOOKS.glob("*.ipynb"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _build() -> None:
    print("building JupyterLite", file=sys.stderr)
    gather(_WHEELS, FOLDER / "wheels", [packages(*_WHEELS)])
    shutil.rmtree(SITE, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        _run_build_tool(Path(folder))
    _add_notebooks()
    _configure()
    for page in SITE.rglob("*.html"):
        _add_scripts(page)


def _run_build_tool(folder: Path) -> None:
    shutil.copytree(FOLDER / "wheels", folder / "pypi")
    options = ["--lite-dir", ".", "--output-dir", str(SITE), "--apps", "lab"]
    options += ["--no-sourcemaps", "--no-unused-shared-packages"]
    command = [str(_tools_python()), "-W", "ignore", "-m", "jupyterlite_core", "build", *options]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode != 0:
        raise FetchFailed(f"JupyterLite could not be built:\n{result.stdout}{result.stderr}")


def _tools_python() -> Path:
    """The Python of the build tool's own environment, made when it is missing or its pins have changed."""
    folder = FOLDER / "tools"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "installed.txt"
    wanted = "\n".join(_TOOLS)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        result = subprocess.run([*command, *_TOOLS], capture_output=True, text=True)
        if result.returncode != 0:
            raise FetchFailed(f"pip could not install JupyterLite's build tool: {result.stderr.strip()}")
        stamp.write_text(wanted, encoding="utf-8")
    return python


def _add_notebooks() -> None:
    """Put the notebooks into files/, and list them for the file browser."""
    files = SITE / "files"
    files.mkdir()
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        shutil.copyfile(path, files / path.name)
    listing = SITE / "api" / "contents" / "all.json"
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text(json.dumps(_entry("", "directory", content=list(_listed(files)))), encoding="utf-8")


def _listed(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.iterdir()):
        yield _entry(path.name, "notebook", size=path.stat().st_size)


def _entry(name: str, kind: str, **more: Any) -> dict[str, Any]:
    """One entry of the contents interface of a Jupyter server, with a fixed time."""
    times = dict.fromkeys(("created", "last_modified"), "2026-01-01T00:00:00Z")
    entry = {"name": name, "path": name, "type": kind, "writable": True, "format": None, "mimetype": None}
    return {**entry, "content": None, "size": None, **times, **more}


def _configure() -> None:
    path = SITE / "jupyter-lite.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    settings = document["jupyter-config-data"]
    settings.update(_SETTINGS)
    kernel = settings.setdefault("litePluginSettings", {}).setdefault(_KERNEL, {})
    kernel["pyodideUrl"] = "./../pyodide/pyodide.mjs"
    kernel["disablePyPIFallback"] = True
    kernel["pipliteUrls"] = [f"./{NNJIT_INDEX}", *kernel.get("pipliteUrls", [])]
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _add_scripts(page: Path) -> None:
    up = "../" * len(page.relative_to(SITE).parts)
    scripts = f'<script src="{up}web/isolation.js"></script>\n{_WAIT_ASYNC}'
    text = page.read_text(encoding="utf-8")
    head, tag, rest = text.partition("<head>")
    if not tag:
        raise FetchFailed(f"JupyterLite wrote {page.name} without a <head> to put the isolation script into")
    page.write_text(f"{head}{tag}\n{scripts}{rest}", encoding="utf-8")
