"""Requests as bytes: in pieces, several in one block, again and again; known heads are answered as others are."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests import gateway_kit
from tests.attack_kit import ended
from tests.gateway_kit import PROJECT, TOKEN, Running
from tests.site_kit import ingest, new_site, tiny_svs
from wsistore import ops
from wsistore.serve import protocol, quick
from wsistore.serve.protocol import MOST_HEAD_BYTES
from wsistore.serve.quick import Quick

SLIDE = "aaaabbbbccccddddeeeeffff22"
KEY = "0/image/c/0/0/0"
_ENDLESS_BYTES = 4000 * MOST_HEAD_BYTES
"""Far more than what systems keep of what nobody reads."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ops.Site]:
    folder = tmp_path_factory.mktemp("site")
    with ops.open_site(new_site(folder)) as opened:
        ingest(opened, tiny_svs(folder / "slides" / "one.svs"))
        yield opened


@pytest.fixture
def gateway(site: ops.Site, tmp_path: Path) -> Iterator[Running]:
    (row,) = site.catalog.slides()
    with gateway_kit.running(site, gateway_kit.access_to({SLIDE: row.slide}), tmp_path) as started:
        yield started


@pytest.fixture
def wire(gateway: Running) -> Iterator[socket.socket]:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=240) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connected


@pytest.fixture
def stored(site: ops.Site) -> bytes:
    (row,) = site.catalog.slides()
    (copy,) = site.catalog.copies(row.slide)
    return site.tier("hot").get(f"store/{row.slide}/{copy.attempt}/{KEY}")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each block between two requests, whether it was answered as one whose bytes are known."""
    found: list[bool] = []
    repeat = Quick.repeat

    def watched(self: Quick, head: bytes, headers: object) -> bytes | None:
        said = repeat(self, head, headers)  # type: ignore[arg-type]
        found.append(said is not None)
        return said

    monkeypatch.setattr(quick, "_KEPT_SECONDS", 600.0)  # a second may go by between two requests
    monkeypatch.setattr(Quick, "repeat", watched)
    return found


def head(*more: str, wanted: str | None = "0-9", path: str = f"/projects/{PROJECT}/slides/{SLIDE}.zarr/{KEY}") -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {TOKEN}"]
    if wanted is not None:
        lines.append(f"Range: bytes={wanted}")
    return "\r\n".join([*lines, *more, "", ""]).encode()


class Replies:
    """Answers on one connection, one after the other."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire, self._file = wire, wire.makefile("rb")

    def makefile(self, _: str) -> object:
        return self._file

    def next(self) -> tuple[int, bytes]:
        answer = HTTPResponse(self)  # type: ignore[arg-type]
        answer.fp = _Kept(self._file)  # type: ignore[assignment]
        answer.begin()
        return answer.status, answer.read()


class _Kept:
    """A file that is not closed with the answer that was read from it."""

    def __init__(self, file: object) -> None:
        self._file = file

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def close(self) -> None:
        pass


def test_known_heads_are_answered_as_others(
    wire: socket.socket, stored: bytes, known: list[bool], gateway: Running
) -> None:
    replies = Replies(wire)
    for first, last in ((0, 9), (0, 9), (5, 99), (7, 7), (0, 9)):
        wire.sendall(head(wanted=f"{first}-{last}"))
        assert replies.next() == (206, stored[first : last + 1])
    assert known == [False, False, True, True, True] or known == [False, True, True, True]
    assert [line["bytes"] for line in gateway.lines(5)] == [10, 10, 95, 1, 10]
    assert {line["status"] for line in gateway.lines(5)} == {206}


def test_whole_objects_take_the_shorter_way_too(wire: socket.socket, stored: bytes, known: list[bool]) -> None:
    replies = Replies(wire)
    for _ in range(4):
        wire.sendall(head(wanted=None))
        assert replies.next() == (200, stored)
    assert known[-2:] == [True, True]


def test_a_part_and_the_whole_are_not_mistaken_for_each_other(wire: socket.socket, stored: bytes) -> None:
    replies = Replies(wire)
    for _ in range(3):
        wire.sendall(head(wanted="0-1"))
        assert replies.next() == (206, stored[:2])
        wire.sendall(head(wanted=None))
        assert replies.next() == (200, stored)
        wire.sendall(head(wanted=f"{len(stored)}-{len(stored) + 1}"))
        assert replies.next()[0] == 416
        wire.sendall(head(wanted="9-5"))
        assert replies.next() == (200, stored)
        wire.sendall(head("Range: bytes=3-4", wanted="0-1"))
        assert replies.next() == (200, stored)  # said twice, and so not at all


def test_requests_in_one_block_are_all_answered_in_turn(wire: socket.socket, stored: bytes) -> None:
    replies = Replies(wire)
    for _ in range(3):
        wire.sendall(head(wanted="0-1") + head(wanted="2-4") + head(wanted="5-9"))
        assert [replies.next() for _ in range(3)] == [(206, stored[:2]), (206, stored[2:5]), (206, stored[5:10])]
        wire.sendall(head(wanted="0-1"))
        assert replies.next() == (206, stored[:2])


@pytest.mark.parametrize("at", [1, 40, -2, -1])
def test_a_known_head_in_two_pieces(wire: socket.socket, stored: bytes, at: int) -> None:
    replies, whole = Replies(wire), head(wanted="3-8")
    for _ in range(3):
        wire.sendall(whole)
        assert replies.next() == (206, stored[3:9])
    wire.sendall(whole[:at])
    time.sleep(0.05)
    wire.sendall(whole[at:])
    assert replies.next() == (206, stored[3:9])
    # What is a known request where one is expected is a part of a head where that is expected.
    wire.sendall(b"GET /health HTTP/1.1\r\nHost: gateway\r\nX-Part: ")
    time.sleep(0.05)
    wire.sendall(whole)
    assert replies.next()[0] in {200, 400}


def test_a_body_that_looks_like_a_known_request_is_a_body(wire: socket.socket, known: list[bool]) -> None:
    replies, whole = Replies(wire), head()
    for _ in range(3):
        wire.sendall(whole)
        assert replies.next()[0] == 206
    before = len(known)
    opening = f"POST /session HTTP/1.1\r\nHost: gateway\r\nContent-Length: {2 * len(whole)}\r\n\r\n".encode()
    wire.sendall(opening)
    time.sleep(0.05)
    wire.sendall(whole)
    time.sleep(0.05)
    wire.sendall(whole)
    assert replies.next()[0] == 400
    assert known[before:] == [False], "the body was not looked at"


def test_who_was_revoked_is_refused_by_the_next_request(
    wire: socket.socket, gateway: Running, known: list[bool]
) -> None:
    replies = Replies(wire)
    for _ in range(4):
        wire.sendall(head())
        assert replies.next()[0] == 206
    assert known[-1]
    del gateway.access.tokens[TOKEN]
    wire.sendall(head())
    assert replies.next()[0] == 401


def test_the_end_that_a_client_asks_for(wire: socket.socket) -> None:
    replies = Replies(wire)
    for _ in range(3):
        wire.sendall(head())
        assert replies.next()[0] == 206
    wire.sendall(head("Connection: close"))
    assert replies.next()[0] == 206
    assert ended(wire, seconds=240)


@pytest.mark.parametrize("piece", [700, 5000, 1 << 20])
@pytest.mark.parametrize("lines", [1, 50])
def test_long_heads_are_cut_however_they_come(gateway: Running, piece: int, lines: int) -> None:
    each = (MOST_HEAD_BYTES + 4096) // lines
    data = head(*[f"X-{number}: {'x' * each}" for number in range(lines)])
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=240) as wire:
        try:
            for start in range(0, len(data), piece):
                wire.sendall(data[start : start + piece])
            assert wire.recv(12) in {b"HTTP/1.1 400", b""}
        except ConnectionError:
            return
        assert ended(wire, seconds=240)


def test_an_endless_header_is_not_waited_for(wire: socket.socket) -> None:
    wire.sendall(b"GET /health HTTP/1.1\r\nX-Long: ")
    sent = 0
    with suppress(ConnectionError):
        while sent < _ENDLESS_BYTES:
            wire.sendall(b"x" * 4096)
            sent += 4096
            time.sleep(0.001)
    assert sent < _ENDLESS_BYTES


def test_a_head_that_stops_is_not_waited_for_for_ever(wire: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = Replies(wire)
    wire.sendall(head())
    assert replies.next()[0] == 206
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    for _ in range(3):
        wire.sendall(head())
        assert replies.next()[0] == 206
    wire.sendall(head()[:-1])
    assert ended(wire, seconds=240)
