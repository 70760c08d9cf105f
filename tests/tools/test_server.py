from __future__ import annotations

import http.client
import io
import json
import urllib.parse
import zipfile

import pytest

from nnjit_build.server import SiteServer


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("GET", parts.path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, dict(response.headers), body


@pytest.mark.parametrize("path", ["/runtime/site.json", "/pyodide/pyodide.mjs", "/nothing-here"])
def test_every_answer_isolates_the_page(site: SiteServer, path: str) -> None:
    _, headers, _ = get(site.url + path)
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/pyodide/pyodide.mjs", "text/javascript; charset=utf-8"),
        ("/pyodide/pyodide.asm.wasm", "application/wasm"),
        ("/pyodide/pyodide-lock.json", "application/json"),
        ("/sw.js", "text/javascript; charset=utf-8"),
    ],
)
def test_content_types_are_those_browsers_insist_on(site: SiteServer, path: str, kind: str) -> None:
    status, headers, _ = get(site.url + path)
    assert (status, headers["Content-Type"]) == (200, kind)


def test_site_json_leads_to_the_wheel(site: SiteServer) -> None:
    base = site.url + "/runtime/site.json"
    where = json.loads(get(base)[2])
    status, _, body = get(urllib.parse.urljoin(base, where["wheel"]))
    assert status == 200
    assert "nnjit/__init__.py" in zipfile.ZipFile(io.BytesIO(body)).namelist()


def test_the_lock_names_only_wheels_that_are_served(site: SiteServer) -> None:
    lock = json.loads(get(site.url + "/pyodide/pyodide-lock.json")[2])
    statuses = {
        entry["file_name"]: get(f"{site.url}/pyodide/{entry['file_name']}")[0]
        for entry in lock["packages"].values()
    }
    assert statuses
    assert set(statuses.values()) == {200}


@pytest.mark.parametrize(
    ("wanted", "body", "span"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
    ],
)
def test_a_range_gives_that_part(site: SiteServer, wanted: str, body: bytes, span: str) -> None:
    status, headers, got = get(site.publish("digits.bin", b"0123456789"), Range=wanted)
    assert (status, got, headers["Content-Range"]) == (206, body, span)


def test_a_range_past_the_end_is_refused(site: SiteServer) -> None:
    assert get(site.publish("digits.bin", b"0123456789"), Range="bytes=10-")[0] == 416


def test_an_unchanged_file_is_not_sent_again(site: SiteServer) -> None:
    url = site.publish("model.onnx", b"weights")
    tag = get(url)[1]["ETag"]
    assert get(url, **{"If-None-Match": tag})[0] == 304


def test_files_published_into_one_folder_lie_side_by_side(site: SiteServer) -> None:
    model = site.publish("model.onnx", b"graph", folder="pair")
    site.publish("model.onnx.data", b"weights", folder="pair")
    assert get(urllib.parse.urljoin(model, "model.onnx.data"))[2] == b"weights"


@pytest.mark.parametrize(
    "path", ["/web/../pyproject.toml", "/web/%2e%2e/pyproject.toml", "/pyodide/../../x", "//etc/passwd"]
)
def test_nothing_outside_the_site_is_served(site: SiteServer, path: str) -> None:
    assert get(site.url + path)[0] == 404


def test_a_page_can_send_something_and_is_answered(site: SiteServer) -> None:
    parts = urllib.parse.urlsplit(site.receive("echo", lambda body: body[::-1]))
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("POST", parts.path, b"12")
    assert connection.getresponse().read() == b"21"
    connection.request("POST", "/nobody-listens", b"12")
    assert connection.getresponse().status == 404
    connection.close()
