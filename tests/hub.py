"""A Hugging Face of one's own on the loopback: serves files with ranges, redirects to storage, and can misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """`faults` are taken one by one for each request for bytes: an HTTP status, or after how many bytes to hang up."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)  # path -> content
    faults: list[int] = field(default_factory=list)
    takes_ranges: bool = True
    tells_sha256: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range of every request for bytes


@contextlib.contextmanager
def open_hub() -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        path = self.path.removeprefix("http://hub.invalid")  # what a proxy is asked for
        stored = path.startswith("/storage")
        path = path.removeprefix("/storage")
        if path not in self.hub.files:
            self._answer(404)
        elif stored:
            self._bytes(path, self.hub.files[path])
        else:
            sha256 = hashlib.sha256(self.hub.files[path]).hexdigest()
            told = {"X-Linked-ETag": f'"{sha256}"'} if self.hub.tells_sha256 else {}
            self._answer(302, {"Location": f"/storage{path}", **told})

    def _bytes(self, path: str, content: bytes) -> None:
        wanted = self.headers.get("Range", "")
        self.hub.asked.append((path, wanted))
        fault = self.hub.faults.pop(0) if self.hub.faults else 0
        if 400 <= fault < 600:
            self._answer(fault)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.hub.takes_ranges else 0
        if start and start >= len(content):
            self._answer(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:fault] if fault else body)
        self.close_connection = bool(fault)

    def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers if headers else {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass
