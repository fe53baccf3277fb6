"""The servers that tests and the demonstration start: stopped, or left by their owner, they leave nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.execute_kit import wait_until
from tests.s3_kit import PROGRAMS, SCRIPTS, free_port

_NO_S3 = any(shutil.which(name) is None for name in PROGRAMS)
_NO_POSTGRESQL = not list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that the database's own user can enter, too."""
    with tempfile.TemporaryDirectory(prefix="wsistore-dev-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    """Give a process for which servers are started."""
    process = subprocess.Popen(["sleep", "3600"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("s3", marks=pytest.mark.skipif(_NO_S3, reason="no S3 server is installed")),
        pytest.param("pg", marks=pytest.mark.skipif(_NO_POSTGRESQL, reason="no PostgreSQL is installed")),
    ],
)
def test_nothing_is_left_of_a_server(kind: str, folder: Path, owner: subprocess.Popen[bytes]) -> None:
    port, place = free_port(), folder / "server"
    names = {"DIR": place, "PORT": port, "MON_PORT": port + 1, "STORE": "memstore", "SIZE_GB": 1, "OWNER": owner.pid}
    environment = {**os.environ, **{f"WSI_{kind.upper()}_{name}": str(value) for name, value in names.items()}}

    def script(name: str, *options: str) -> None:
        subprocess.run([str(SCRIPTS / f"{kind}-{name}.sh"), *options], env=environment, check=True, capture_output=True)

    def guards() -> int:
        return len({session for _, session, line in _seen(place) if " guard " in line})

    script("up")
    script("up")
    assert guards() == 1
    script("down")
    script("up")
    assert guards() == 1, "what it is guarded by has outlived the server, and goes on"
    script("down", "--wipe")
    assert _running(place) == []
    assert not place.exists()

    script("up")
    assert guards() == 1
    owner.kill()
    owner.wait()
    wait_until(lambda: not _running(place) and not place.exists())


def _running(place: Path) -> list[str]:
    """Return the command lines, of processes that run, in which the place is named; not of those just about to end."""
    before = _seen(place)
    time.sleep(0.2)
    return [line for _, _, line in before & _seen(place)]


def _seen(place: Path) -> set[tuple[int, int, str]]:
    """Return process, session and command line; a child that has just begun still has its parent's command line."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            line, number = path.read_text(errors="replace").replace("\0", " "), int(path.parent.name)
            if str(place) in line:
                found.add((number, os.getsid(number), line))
    return found
