"""A server on this machine that gives files as real ones do: with ranges or without, cut off, changed or failing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One file, and how it is given.

    cuts: after how many bytes of the answer each of the first answers ends.
    statuses: with what each of the first answers fails; 0 for not at all.
    """

    content: bytes
    etag: str | None = '"first"'
    last_modified: str | None = None
    ranges: bool = True
    says_length: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    range_header: str | None = None


@dataclass
class Server:
    """The files by name, what was asked for (name, Range, If-Range), and how many bytes were sent in answer."""

    address: str = ""
    files: dict[str, Served] = field(default_factory=dict)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs inside the block."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            wanted = self.headers.get("Range")
            state.asked.append((name, wanted, self.headers.get("If-Range")))
            file = state.files.get(name)
            status = file.statuses.pop(0) if file and file.statuses else 0
            if file is None or status:
                self.send_error(status or 404)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and file.ranges else 0
            if self.headers.get("If-Range") not in (None, file.etag, file.last_modified):
                start = 0
            if start >= len(file.content):
                self.send_error(416)
                return
            body = file.content[start:]
            self.send_response(206 if start else 200)
            if file.says_length:
                self.send_header("Content-Length", str(len(body)))
            if start:
                total = len(file.content)
                self.send_header("Content-Range", file.range_header or f"bytes {start}-{total - 1}/{total}")
            if file.etag:
                self.send_header("ETag", file.etag)
            if file.last_modified:
                self.send_header("Last-Modified", file.last_modified)
            self.end_headers()
            body = body[: file.cuts.pop(0)] if file.cuts else body
            state.sent.append(len(body))  # before they go: who has them all looks here at once
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, format: str, *words: object) -> None:
            """Say nothing; what was asked is kept."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
