"""A gateway of a few lines for tests of the client: the URL space over folders, with faults to order."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

TOKEN = "wst_test_0123456789abcdef"
Json = dict[str, Any]
_counting = threading.Lock()
GATHER_SECONDS = 60.0


@dataclass
class Gateway:
    """What is served, what shall fail, and what was asked."""

    slides: dict[str, Path] = field(default_factory=dict)
    """Folder of each slide's store, by pseudonym."""
    rows: dict[str, Json] = field(default_factory=dict)
    projects: list[str] = field(default_factory=lambda: ["study"])
    page: int = 1000
    faults: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    """Answers to the next requests for Zarr keys, before they are answered well."""
    many: bool = True
    """Whether several ranges in one request are answered."""
    ranges: bool = True
    salt: str = ""
    """Of ETags: another one means that all was written anew."""
    login: Any = None
    """What is told of a login."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, target and Range of every request."""
    sent: int = 0
    """Bytes of bodies of Zarr keys."""
    gather: int = 1
    """Requests for Zarr keys are not answered before so many are under way at once; later ones are, at once."""
    gathered: threading.Event = field(default_factory=threading.Event)
    under_way: int = 0
    most_under_way: int = 0
    """Requests for Zarr keys at once."""
    url: str = ""

    def row(self, slide: str) -> Json:
        known: Json = {"slide": slide, "patient": f"p-{slide}", "readiness": "ready", "mode": "tiles", "preset": "keep"}
        return known | self.rows.get(slide, {})

    def chunk_requests(self) -> list[tuple[str, str, str]]:
        """Return the requests for Zarr keys."""
        return [one for one in self.asked if ".zarr/" in one[1]]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gateway: Gateway

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def do_GET(self) -> None:
        self.gateway.asked.append((self.command, self.path, self.headers.get("Range", "")))
        parts = urlsplit(self.path)
        if parts.path == "/health":
            self._json({"status": "ok", "login": self.gateway.login})
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "unauthorized", "message": "A valid token is needed.", "remedy": "Get one."}, 401)
            return
        path = [unquote(one) for one in parts.path.split("/")[1:]]
        match path:
            case ["projects"]:
                self._json({"projects": [{"name": name, "purpose": "research"} for name in self.gateway.projects]})
            case ["projects", name, "slides"] if name in self.gateway.projects:
                self._slides(dict(parse_qsl(parts.query)))
            case ["projects", name, "slides", slide, "recall"] if name in self.gateway.projects:
                self._json({"state": "asked", "slide": slide}, 202)
            case ["projects", name, "slides", slide] if name in self.gateway.projects and slide in self.gateway.slides:
                self._json(self.gateway.row(slide))
            case ["projects", name, "slides", store, *key] if name in self.gateway.projects:
                self._key(store.split(".", 1)[0], "/".join(key))
            case _:
                self._missing()

    def _slides(self, query: dict[str, str]) -> None:
        names = sorted(name for name in self.gateway.slides if name > query.get("after", ""))
        for column in ("organ", "patient"):
            if column in query:
                names = [name for name in names if str(self.gateway.row(name).get(column)) == query[column]]
        if "ssn" in query:
            self._json({"error": "invalid", "message": "No such column.", "remedy": "See the columns."}, 400)
            return
        page = names[: min(int(query["limit"]), self.gateway.page)]
        following = page[-1] if len(page) < len(names) else None
        self._json({"slides": [self.gateway.row(name) for name in page], "next": following, "total": len(names)})

    def _key(self, slide: str, key: str) -> None:
        with _counting:
            self.gateway.under_way += 1
            self.gateway.most_under_way = max(self.gateway.most_under_way, self.gateway.under_way)
            if self.gateway.under_way >= self.gateway.gather:
                self.gateway.gathered.set()
        self.gateway.gathered.wait(GATHER_SECONDS)
        try:
            self._object(slide, key)
        finally:
            with _counting:
                self.gateway.under_way -= 1

    def _object(self, slide: str, key: str) -> None:
        if self.gateway.faults:
            status, headers, body = self.gateway.faults.pop(0)
            self._send(status, headers, body)
            return
        if self.gateway.row(slide)["readiness"] == "cold":
            self._json({"error": "cold", "recall": f"{slide}/recall", "expected_hours": 12}, 409)
            return
        folder = self.gateway.slides.get(slide)
        if folder is None or not (folder / key).is_file():
            self._missing()
            return
        data = (folder / key).read_bytes()
        tag = f'"{hashlib.sha256(data + self.gateway.salt.encode()).hexdigest()[:16]}"'
        if self.headers.get("If-None-Match") == tag:
            self._send(304, {"ETag": tag, "Content-Length": "0"}, b"")
            return
        spans = self._spans(len(data))
        if spans is None:
            self._send(200, {"ETag": tag}, data)
        elif not spans:
            self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        elif len(spans) == 1:
            start, end = spans[0]
            self._send(206, {"ETag": tag, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}, data[start:end])
        else:
            body = b"".join(
                b"--mark\r\nContent-Type: x/y\r\nContent-Range: bytes %d-%d/%d\r\n\r\n%b\r\n"
                % (start, end - 1, len(data), data[start:end])
                for start, end in spans
            )
            kind = "multipart/byteranges; boundary=mark"
            self._send(206, {"ETag": tag, "Content-Type": kind}, body + b"--mark--\r\n")

    def _spans(self, size: int) -> list[tuple[int, int]] | None:
        """Return starts and ends of what is asked for; None: all of it."""
        text = self.headers.get("Range")
        if text is None or not self.gateway.ranges:
            return None
        found = []
        for first, last in re.findall(r"(\d*)-(\d*)", text.removeprefix("bytes=")):
            start = int(first) if first else max(0, size - int(last))
            end = min(size, int(last) + 1) if first and last else size
            if start < end:
                found.append((start, end))
        return None if len(found) > 1 and not self.gateway.many else found

    def _missing(self) -> None:
        self._json({"error": "missing", "message": "There is no such thing here.", "remedy": "Look."}, 404)

    def _json(self, document: Any, status: int = 200) -> None:
        self._send(status, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if ".zarr/" in self.path:  # counted before the client has it, and may look
            with _counting:
                self.gateway.sent += len(body)
        if self.command != "HEAD":
            self.wfile.write(body)
        if headers.get("Connection") == "close":
            self.close_connection = True


@contextmanager
def serving(gateway: Gateway) -> Iterator[Gateway]:
    """Serve until the block ends."""
    handler = type("Handler", (_Handler,), {"gateway": gateway})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield gateway
        finally:
            server.shutdown()
            thread.join()
