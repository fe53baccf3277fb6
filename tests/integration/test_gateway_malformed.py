"""What is no HTTP, or more than there is room for: the server answers itself, and has its access line, too."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import gateway_kit
from tests.gateway_kit import TOKEN, Running
from tests.site_kit import memory_site
from wsistore.serve import server as serving

SECRET = b"PATIENT-0001"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Running]:
    with (
        memory_site(tmp_path / "site") as site,
        gateway_kit.running(site, gateway_kit.access_to({}), tmp_path / "gateway") as started,
    ):
        yield started


def connected(gateway: Running) -> socket.socket:
    parts = urlsplit(gateway.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=240)


def said(gateway: Running, data: bytes) -> bytes:
    """Send bytes; return all that comes until the server ends the connection."""
    with connected(gateway) as connection:
        connection.sendall(data)
        found = b""
        while block := connection.recv(65536):
            found += block
    return found


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00" + SECRET,  # TLS
        SECRET + b"\r\n\r\n",
        b"GET /" + SECRET + b" HTTP/9.9\r\n\r\n",
        b"GET /projects/" + SECRET + b" HTTP/1.1\r\nHost: x\r\n" + SECRET + b"\r\n\r\n",
        b"GET /\xff" + SECRET + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /session HTTP/1.1\r\nHost: x\r\nContent-Length: " + SECRET + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + SECRET + b"x" * 70000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_has_a_line_that_tells_nothing_of_it(gateway: Running, data: bytes) -> None:
    answer = said(gateway, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    (line,) = gateway.lines(1)
    assert (line["what"], line["status"]) == ("malformed", 400)
    assert line["bytes"] == len(answer.partition(b"\r\n\r\n")[2])
    assert {line[name] for name in ("user", "token", "project", "pseudonym", "view")} == {None}
    assert SECRET not in gateway.log.read_bytes()


def test_a_request_before_it_has_its_own_line(gateway: Running) -> None:
    good = f"GET /projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    with connected(gateway) as connection:
        connection.sendall(good)
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        answer.read()
        connection.sendall(b"\0" + SECRET)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    first, second = gateway.lines(2)
    assert (first["what"], first["status"], first["user"]) == ("projects", 200, "researcher-1")
    assert (second["what"], second["status"], second["user"]) == ("malformed", 400, None)


def test_requests_for_which_there_is_no_room_have_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_MOST_CONNECTIONS", 1)
    with (
        memory_site(tmp_path / "site") as site,
        gateway_kit.running(site, gateway_kit.access_to({}), tmp_path / "gateway") as gateway,
    ):
        answer = said(gateway, b"GET /projects/" + SECRET + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        (line,) = gateway.lines(1)
        assert (line["what"], line["status"]) == ("too-many-connections", 503)
        assert SECRET not in gateway.log.read_bytes()
