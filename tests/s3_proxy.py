"""A proxy before an S3 server that fails as networks and busy services do, by rules, and counts what it saw."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """The proxy answers by itself; the server never hears of the request."""

    status: int
    code: str = ""
    retry_after: str | None = None
    body: bytes = b""
    """Instead of an error of that code."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The connection is cut before the server hears of the request."""


@dataclass(frozen=True, slots=True)
class LoseReply:
    """The server does it, and the connection is cut before it can say so."""


@dataclass(frozen=True, slots=True)
class CutBody:
    """The connection is cut in the middle of the answer's body."""


@dataclass(frozen=True, slots=True)
class FlipSent:
    """One bit of the request's body is another when it reaches the server."""


@dataclass(frozen=True, slots=True)
class CutSent:
    """The connection is cut in the middle of the request's body."""


@dataclass(frozen=True, slots=True)
class FlipReceived:
    """One bit of the answer's body is another when it reaches the client, and no connection noticed."""


@dataclass(frozen=True, slots=True)
class Call:
    """Something happens elsewhere at this moment."""

    act: Callable[[], object]
    after: bool = False
    """When the server has done what it was asked, and before it can say so; else before it hears of it."""
    cut: bool = False
    """Then the connection is cut."""


@dataclass(frozen=True, slots=True)
class Delay:
    """The request reaches the server late."""

    seconds: float


Action = Answer | Refuse | LoseReply | CutBody | CutSent | FlipSent | FlipReceived | Call | Delay


@dataclass(slots=True)
class Rule:
    """What to do to the next `times` requests whose first line matches."""

    pattern: str
    """Searched for in ``METHOD /bucket/key?query``."""
    action: Action
    times: int = 1
    skip: int = 0
    """Requests to let pass first."""


@dataclass(slots=True)
class Proxy:
    """A running proxy."""

    endpoint: str
    rules: list[Rule] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """First lines of all requests, without the version of HTTP."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, pattern: str) -> int:
        """Return how many requests matched."""
        return sum(bool(re.search(pattern, line)) for line in self.seen)

    def action(self, line: str) -> Action | None:
        with self.lock:
            self.seen.append(line)
            for rule in self.rules:
                if rule.times and re.search(rule.pattern, line):
                    if rule.skip:
                        rule.skip -= 1
                        continue
                    rule.times -= 1
                    return rule.action
        return None


@contextmanager
def proxy(endpoint: str, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy before the server at `endpoint`, for as long as the block runs."""
    parts = urlsplit(endpoint)
    assert parts.hostname is not None
    server = (parts.hostname, parts.port or 80)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        running = Proxy(f"{'https' if tls else 'http'}://127.0.0.1:{port}")
        thread = threading.Thread(target=_accept, args=(listening, running, server, tls), daemon=True)
        thread.start()
        try:
            yield running
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _accept(listening: socket.socket, running: Proxy, server: tuple[str, int], tls: ssl.SSLContext | None) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, running, server, tls), daemon=True).start()


def _serve(client: socket.socket, running: Proxy, server: tuple[str, int], tls: ssl.SSLContext | None) -> None:
    with suppress(OSError, ConnectionError), client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(60)
        wrapped = tls.wrap_socket(client, server_side=True) if tls else client
        with wrapped, socket.create_connection(server) as upstream:
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (head := _head(wrapped)) and _handle(head, wrapped, upstream, running):
                pass


def _handle(request: tuple[bytes, bytes], client: socket.socket, upstream: socket.socket, running: Proxy) -> bool:
    """Pass one request on; return whether the connection goes on."""
    head, rest = request
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
    if _EXPECT.search(head):
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = _EXPECT.sub(b"", head)
    body = _exactly(client, rest, _length(head))
    action = running.action(f"{method} {target}")
    if isinstance(action, Refuse):
        return False
    if isinstance(action, Answer):
        text = f"<Error><Code>{action.code}</Code></Error>".encode() if action.code else action.body
        text = b"" if method == "HEAD" else text
        more = f"Retry-After: {action.retry_after}\r\n" if action.retry_after else ""
        client.sendall(f"HTTP/1.1 {action.status} No\r\n{more}Content-Length: {len(text)}\r\n\r\n".encode() + text)
        return True
    if isinstance(action, Delay):
        time.sleep(action.seconds)
    if isinstance(action, FlipSent) and body:
        body = body[:-1] + bytes([body[-1] ^ 1])
    if isinstance(action, CutSent):
        upstream.sendall(head + body[: len(body) // 2])
        return False
    if isinstance(action, Call) and not action.after:
        action.act()
        if action.cut:
            return False
    upstream.sendall(head + body)
    found = _head(upstream)
    if found is None:
        return False
    answered, rest = found
    is_bodyless = method == "HEAD" or answered.split(b" ", 2)[1] in {b"204", b"304"}
    if _CHUNKED.search(answered):
        content = _chunks(upstream, rest)
    else:
        content = b"" if is_bodyless else _exactly(upstream, rest, _length(answered))
    if isinstance(action, Call) and action.after:
        action.act()
    if isinstance(action, FlipReceived) and content:
        content = content[:-1] + bytes([content[-1] ^ 1])
    if isinstance(action, LoseReply) or (isinstance(action, Call) and action.cut):
        return False
    if isinstance(action, CutBody):
        client.sendall(answered + content[: len(content) // 2])
        return False
    client.sendall(answered + content)
    return True


def _head(connection: socket.socket) -> tuple[bytes, bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65_536)):
            return None
        data += more
    head, mark, rest = data.partition(b"\r\n\r\n")
    return head + mark, rest


def _length(head: bytes) -> int:
    found = _LENGTH.search(head)
    return int(found[1]) if found else 0


def _exactly(connection: socket.socket, data: bytes, length: int) -> bytes:
    parts, got = [data], len(data)
    while got < length:
        if not (more := connection.recv(1 << 20)):
            raise ConnectionError
        parts.append(more)
        got += len(more)
    return b"".join(parts)


def _chunks(connection: socket.socket, data: bytes) -> bytes:
    while not data.endswith(b"0\r\n\r\n"):
        if not (more := connection.recv(1 << 20)):
            raise ConnectionError
        data += more
    return data
