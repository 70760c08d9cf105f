"""The loopback server: the site, live from the working tree, with the headers that shared memory needs."""

from __future__ import annotations

import hashlib
import sys
import threading
import urllib.parse
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from .site import Content, Folder, Site

HOST = "127.0.0.1"
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Written out, because the standard table differs from one operating system to the next.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".ipynb": "application/json",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
    ".zip": "application/zip",
}
_BINARY = "application/octet-stream"


class SiteServer(ThreadingHTTPServer):
    """Serves a Site on the loopback interface; `headers` go with every answer.

    `isolated=False` leaves the isolation headers out, as a plain static host does.
    """

    daemon_threads = True
    request_queue_size = 64  # a browser opens many connections at once

    def __init__(self, site: Site, port: int = 0, *, isolated: bool = True) -> None:
        self.site = site
        self.headers = dict(ISOLATION) if isolated else {}
        self.published: dict[str, Content] = {}
        self.published_folders: dict[str, Folder] = {}
        self.receivers: dict[str, Callable[[bytes], bytes]] = {}
        self._folders = 0
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The site's root, without a trailing slash."""
        return f"http://{HOST}:{self.server_address[1]}"

    def publish(self, name: str, content: Content, folder: str | None = None) -> str:
        """Serve `content` as a file called `name` and return its URL; files of one `folder` lie side by side."""
        if folder is None:
            self._folders += 1
            folder = str(self._folders)
        path = f"t/{folder}/{name}"
        self.published[path] = content
        return f"{self.url}/{urllib.parse.quote(path)}"

    def publish_folder(self, source: Path) -> str:
        """Serve every file below a folder; returns the URL that their names are appended to."""
        self._folders += 1
        prefix = f"t/{self._folders}/"
        self.published_folders[prefix] = Folder(source)
        return f"{self.url}/{prefix}"

    def receive(self, name: str, answer: Callable[[bytes], bytes]) -> str:
        """Let pages POST to the URL that is returned: `answer` makes the response of the request's body, JSON both."""
        self._folders += 1
        path = f"t/{self._folders}/{name}"
        self.receivers[path] = answer
        return f"{self.url}/{path}"

    def start(self) -> None:
        """Answer requests in a thread of its own until `stop`."""
        threading.Thread(target=self.serve_forever, name="site", daemon=True).start()

    def stop(self) -> None:
        """Stop answering and give the port back."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Let a browser hang up; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def find(self, name: str) -> Content | None:
        """What lies at a URL path without its leading slash."""
        if name in self.published:
            return self.published[name]
        for prefix, folder in self.published_folders.items():
            if name.startswith(prefix):
                return folder.find(name.removeprefix(prefix))
        return self.site.find(name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SiteServer

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        receiver = self.server.receivers.get(urllib.parse.urlsplit(self.path).path.lstrip("/"))
        if receiver is None:
            self._send_head(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return
        answer = receiver(body)
        head = {
            "Content-Type": _TYPES[".json"],
            "Content-Length": str(len(answer)),
            "Cache-Control": "no-store",
        }
        self._send_head(HTTPStatus.OK, head)
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the page shows what it loads."""

    def _answer(self, body: bool) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        content = self.server.find(path.lstrip("/"))
        if content is None:
            self._send_head(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return
        if isinstance(content, Path) and content.name == "index.html" and not path.endswith(("/", ".html")):
            self._send_head(HTTPStatus.MOVED_PERMANENTLY, {"Location": path + "/", "Content-Length": "0"})
            return
        size, tag, modified = _facts(content)
        suffix = (content.suffix if isinstance(content, Path) else PurePosixPath(path).suffix).lower()
        headers = {
            "Content-Type": _TYPES.get(suffix, _BINARY),
            "Accept-Ranges": "bytes",
            "Cache-Control": "no-cache",  # kept, but asked about each time: the sources are live
            "ETag": tag,
        }
        if modified is not None:
            headers["Last-Modified"] = formatdate(modified, usegmt=True)
        if self.headers.get("If-None-Match") == tag:
            self._send_head(HTTPStatus.NOT_MODIFIED, headers)
            return
        start, end, status = 0, size, HTTPStatus.OK
        if requested := self.headers.get("Range"):
            span = _range(requested, size)
            if span is None:
                unsatisfiable = {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
                self._send_head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, unsatisfiable)
                return
            start, end = span
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers["Content-Length"] = str(end - start)
        self._send_head(status, headers)
        if body:
            self._send_body(content, start, end - start)

    def _send_head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (self.server.headers | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def _send_body(self, content: Content, start: int, count: int) -> None:
        with content.open("rb") if isinstance(content, Path) else BytesIO(content) as file:
            file.seek(start)
            try:
                self._copy(file, count)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the browser gave up on the file

    def _copy(self, file: BinaryIO, count: int) -> None:
        while count and (piece := file.read(min(count, 1 << 20))):
            self.wfile.write(piece)
            count -= len(piece)


def _facts(content: Content) -> tuple[int, str, float | None]:
    """Size in bytes, entity tag and time of change of a file or of bytes made on the fly."""
    if isinstance(content, bytes):
        return len(content), f'"{hashlib.sha256(content).hexdigest()[:16]}"', None
    state = content.stat()
    return state.st_size, f'"{state.st_mtime_ns:x}-{state.st_size:x}"', state.st_mtime


def _range(header: str, size: int) -> tuple[int, int] | None:
    """The half-open span that a Range header of one range asks for, or None when it cannot be satisfied."""
    unit, _, spans = header.partition("=")
    first, dash, last = spans.split(",")[0].strip().partition("-")
    if unit.strip() != "bytes" or not dash or not (first + last).isdigit():
        return None
    if not first:
        return (max(0, size - int(last)), size) if int(last) and size else None
    start, end = int(first), min(int(last) + 1 if last else size, size)
    return (start, end) if start < end else None
