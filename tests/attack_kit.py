"""What an attacker of the gateway has: sockets that say whatever they like, and an eye for differences in answers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, Self

PASSING = frozenset({"date", "x-request-id"})
"""Headers that differ from one answer to the next by nature."""

Told = tuple[int, frozenset[tuple[str, str]], bytes]
"""What of an answer somebody could tell it by: status, headers, body."""


@dataclass(frozen=True)
class Reply:
    """An answer, as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def head(self) -> dict[str, str]:
        """Headers by lower-case name; the last of those that come twice."""
        return {name.lower(): value for name, value in self.headers}

    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)

    @property
    def told(self) -> Told:
        """All by which somebody could tell this answer from another one."""
        names = {(name.lower(), value) for name, value in self.headers if name.lower() not in PASSING}
        return self.status, frozenset(names), self.body

    @property
    def all_bytes(self) -> bytes:
        """Headers and body together, for those who look for something."""
        return "\n".join(f"{name}: {value}" for name, value in self.headers).encode("latin-1") + b"\n\n" + self.body


class Wire:
    """A connection on which anything can be said; made anew when the server has ended it."""

    def __init__(self, address: tuple[str, int], *, timeout_seconds: float = 150.0) -> None:
        self._address, self._timeout = address, timeout_seconds
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def open(self) -> socket.socket:
        """Return the connection's socket."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=self._timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def ask(
        self,
        target: str | bytes,
        headers: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] = (),
        *,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Reply:
        """Send one request, its target just as it is given, and return the answer."""
        data = request_bytes(target, headers, method=method, body=body)
        if self._socket is not None:
            # The server may have ended the connection behind its last answer; then nothing of this one was heard.
            with suppress(ConnectionError, HTTPException):
                return self._told(data, method)
            self.close()
        return self._told(data, method)

    def raw(self, data: bytes) -> Reply | None:
        """Send bytes that need not be a request; None if the server ends the connection without a word."""
        self.close()
        try:
            return self._told(data, "GET")
        except (ConnectionError, HTTPException):
            return None
        finally:
            self.close()

    def _told(self, data: bytes, method: str) -> Reply:
        connection = self.open()
        connection.sendall(data)
        answer = HTTPResponse(connection, method=method)
        try:
            answer.begin()
            reply = Reply(answer.status, tuple(answer.getheaders()), answer.read())
            ends = answer.will_close
        finally:
            answer.close()
        if ends:
            self.close()
        return reply


def request_bytes(
    target: str | bytes,
    headers: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] = (),
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> bytes:
    """Return the bytes of a request."""
    line = target if isinstance(target, bytes) else target.encode("utf-8")
    given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    if body is not None:
        given.append(("Content-Length", str(len(body))))
    out = bytearray(method.encode() + b" " + line + b" HTTP/1.1\r\nHost: gateway\r\n")
    for name, value in given:
        out += name.encode() + b": " + (value if isinstance(value, bytes) else value.encode("latin-1")) + b"\r\n"
    return bytes(out + b"\r\n" + (body or b""))


@contextmanager
def stalled(address: tuple[str, int], data: bytes, *, window_bytes: int = 4096) -> Any:
    """Be a client that says `data` and never reads a byte of what it is answered."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        client.settimeout(120.0)
        client.connect(address)
        client.sendall(data)
        yield client


def until(holds: Callable[[], bool], what: str, *, seconds: float = 150.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def ended(connection: socket.socket, *, seconds: float) -> bool:
    """Read a connection to its end and say whether the other side ended it in time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True
