from __future__ import annotations

from typing import TYPE_CHECKING

from nnjit_build.server import SiteServer
from nnjit_build.site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGE = b'<!doctype html><script src="/web/isolation.js"></script><title>x</title>'


def test_the_server_isolates_pages_by_its_headers(page: Page, site: SiteServer) -> None:
    page.goto(site.publish("page.html", b"<!doctype html><title>x</title>"))
    assert page.evaluate("self.crossOriginIsolated")


def test_on_a_host_without_headers_the_service_worker_isolates_the_page(page: Page) -> None:
    host = SiteServer(Site(), isolated=False)
    host.start()
    try:
        page.goto(host.publish("page.html", PAGE))
        page.wait_for_function("self.crossOriginIsolated", timeout=20_000)
    finally:
        host.stop()


def test_webgpu_has_an_adapter(page: Page, site: SiteServer) -> None:
    page.goto(site.publish("page.html", b"<!doctype html><title>x</title>"))
    assert page.evaluate("navigator.gpu.requestAdapter().then((adapter) => adapter !== null)")


def test_pyodide_starts_in_a_worker_with_numpy_and_the_wheel(page: Page, site: SiteServer) -> None:
    script = site.publish(
        "worker.js",
        b"""
        const siteUrl = new URL("/runtime/site.json", location.href);
        const site = await (await fetch(siteUrl)).json();
        const indexURL = new URL(site.pyodide, siteUrl).href;
        const { loadPyodide } = await import(indexURL + "pyodide.mjs");
        const pyodide = await loadPyodide({ indexURL });
        await pyodide.loadPackage("numpy");
        pyodide.unpackArchive(await (await fetch(new URL(site.wheel, siteUrl))).arrayBuffer(), "wheel");
        postMessage(pyodide.runPython("import numpy, nnjit; f'{nnjit.__version__} {numpy.arange(4).sum()}'"));
        """,
    )
    page.goto(site.publish("page.html", b"<!doctype html><title>x</title>"))
    answer = page.evaluate(
        """(url) => new Promise((resolve, reject) => {
            const worker = new Worker(url, { type: "module" });
            worker.onmessage = (event) => resolve(event.data);
            worker.onerror = (event) => reject(new Error(event.message));
        })""",
        script,
    )
    assert answer == "0.1.0 6"
