"""The guards of conftest.py work: a test that cannot fail by them proves nothing about the others."""

from __future__ import annotations

import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wsistore.testing.clock import ManualClock


@pytest.mark.parametrize("host", ["192.0.2.1", "slides.example"])
def test_the_network_is_out_of_reach(host: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="reaches for the network"):
        socket.create_connection((host, 80), timeout=1)


def test_a_raw_socket_does_not_get_out_either() -> None:
    with socket.socket() as plain, pytest.raises(pytest.fail.Exception, match="192\\.0\\.2\\.1"):
        plain.connect(("192.0.2.1", 80))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        pytest.raises(pytest.fail.Exception, match="192\\.0\\.2\\.1"),
    ):
        datagram.sendto(b"x", ("192.0.2.1", 53))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_works(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answerer = threading.Thread(target=lambda: server.accept()[0].close())
        answerer.start()
        with socket.create_connection((host, server.getsockname()[1]), timeout=150) as connection:
            assert connection.recv(1) == b""
        answerer.join()


def test_unix_sockets_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a unix socket may have some 100 bytes only
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        server.listen()
        client.connect("s")


def test_new_files_have_the_same_mode_everywhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_local_time_is_not_utc() -> None:
    offset = datetime(2025, 1, 1, tzinfo=UTC).astimezone().utcoffset()

    assert offset is not None
    assert offset.total_seconds() == -9.5 * 3600


def test_no_site_of_the_user_is_seen() -> None:
    assert "WSISTORE_HOME" not in os.environ


def test_the_manual_clock_goes_only_when_told(manual_clock: ManualClock) -> None:
    before = manual_clock.now()
    assert manual_clock.now() == before

    manual_clock.sleep(3600)

    assert manual_clock.now() == before + timedelta(hours=1)


def test_a_flush_of_what_is_not_open_fails_as_it_would(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fsync(descriptor)
