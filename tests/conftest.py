"""What all tests share: Hypothesis profiles, fixed surroundings, no network, the real slides, the manual clock."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import prefect_kit, s3_kit
from wsistore.catalog import sqlite
from wsistore.testing.clock import ManualClock

REPOSITORY = Path(__file__).resolve().parent.parent

# --- Hypothesis: the profiles are set here and nowhere else; a test may lower max_examples, with the reason ----------

# No deadline and no speed check: other work on the machine must not fail a test; pytest's time-out ends what hangs.
_COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=50, stateful_step_count=30, **_COMMON)
# The same examples on each run, as Hypothesis' own profile of this name: a change is judged by what it changes. New
# examples are sought by everybody's own runs, and by those of a night (what fails is printed as a blob to replay).
settings.register_profile("ci", max_examples=50, stateful_step_count=30, derandomize=True, print_blob=True, **_COMMON)
settings.register_profile("nightly", max_examples=2000, stateful_step_count=100, print_blob=True, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the real slides, so that they can be chosen or left out."""
    for item in items:
        if "real_slides" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_slides)


# --- a real S3 server for those who ask for it: one for the whole run, shared by its workers -------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Choose where the run's S3 server would be; workers of pytest-xdist are told by `pytest_configure_node`."""
    told = getattr(config, "workerinput", {}).get("s3_run")
    config.stash[s3_kit.RUN] = s3_kit.Run(*told) if told else s3_kit.new_run()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    run = node.config.stash[s3_kit.RUN]
    node.workerinput["s3_run"] = (run.folder, run.owner)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server, if one was started. (A watch beside it does, when this process is killed.)"""
    if not hasattr(config, "workerinput") and s3_kit.RUN in config.stash:
        s3_kit.stop(config.stash[s3_kit.RUN])
        prefect_kit.stop_all(config.stash[s3_kit.RUN])


@pytest.fixture(scope="session")
def s3_server(pytestconfig: pytest.Config) -> s3_kit.S3Server:
    """Return a real S3 server, started by the first who asks; the test is skipped where its programs are not there."""
    return s3_kit.start(pytestconfig.stash[s3_kit.RUN])


@pytest.fixture
def s3_bucket(s3_server: s3_kit.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3_kit.S3Bucket]:
    """Return an empty bucket of the test's own; the environment holds the credentials."""
    with s3_server.bucket() as bucket, s3_server.credentials(monkeypatch):
        yield bucket


# --- real Prefect servers, in the same way ----------------------------------------------------------------------------


@pytest.fixture
def prefect_server(pytestconfig: pytest.Config) -> Iterator[prefect_kit.Server]:
    """Return a Prefect server on SQLite, which other tests use, too."""
    with prefect_kit.server(pytestconfig.stash[s3_kit.RUN], prefect_kit.SQLITE) as server:
        yield server


@pytest.fixture
def lone_postgresql_server(pytestconfig: pytest.Config) -> Iterator[prefect_kit.Server]:
    """Return a Prefect server on PostgreSQL that nobody else uses meanwhile; skipped where there is no PostgreSQL."""
    with prefect_kit.server(pytestconfig.stash[s3_kit.RUN], prefect_kit.POSTGRESQL, alone=True) as server:
        yield server


# --- surroundings -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _surroundings() -> Iterator[None]:
    """Fix what differs between machines, so that no test passes or fails by it.

    The time zone is one that nobody expects (half an hour, far from UTC): code that uses local time shows.
    """
    before = os.umask(0o022)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Pacific/Marquesas")
        for name in [name for name in os.environ if name.startswith("WSISTORE_") and name != "WSISTORE_TEST_SLIDES"]:
            patch.delenv(name)
        time.tzset()
        yield
    time.tzset()
    os.umask(before)


# --- the disk ---------------------------------------------------------------------------------------------------------


_flushed: list[bool] = []
"""Whether the test that runs wants what it writes to reach the disk; see `real_flushes`."""


@pytest.fixture(scope="session", autouse=True)
def _no_flushes() -> Iterator[None]:
    """Leave what this process flushes in the system's memory, where every process sees it, also after a kill.

    Only a machine that fails could tell the difference, and a flush takes some milliseconds, of which a test that makes
    a site waits for dozens. That a flush is asked for, of what and in which order, is tested by whoever puts its own
    `os.fsync` over this one. Processes that a test starts flush, but for those of `site_kit.command`.
    """
    fsync, prepare = os.fsync, sqlite._prepare

    def checked(descriptor: Any) -> None:
        if _flushed:
            fsync(descriptor)
        else:
            os.fstat(descriptor if isinstance(descriptor, int) else descriptor.fileno())

    def prepared(connection: Any, record: Any) -> None:
        prepare(connection, record)
        if not _flushed:
            connection.execute("PRAGMA synchronous = OFF")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", checked)
        patch.setattr(sqlite, "_prepare", prepared)
        yield


@pytest.fixture
def real_flushes() -> Iterator[None]:
    """Let what this test writes reach the disk."""
    _flushed.append(True)
    yield
    _flushed.clear()


# --- network ----------------------------------------------------------------------------------------------------------


def _is_local(host: object) -> bool:
    if host in {None, "", "localhost", b"localhost", socket.gethostname()}:
        return True
    try:
        address = ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse_remote(family: int, address: Any) -> None:
    """Fail the test if `address` is not on this machine.

    `pytest.fail` raises what no ``except Exception`` swallows.
    """
    if family in {socket.AF_INET, socket.AF_INET6} and not _is_local(address[0]):
        pytest.fail(f"The test reaches for the network: {address!r}. Tests talk to this machine only.")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Keep tests on this machine: loopback and unix sockets work, everything else fails the test."""
    plain_connect, plain_connect_ex = socket.socket.connect, socket.socket.connect_ex
    plain_sendto, plain_getaddrinfo = socket.socket.sendto, socket.getaddrinfo

    def connect(self: socket.socket, address: Any, /) -> None:
        # Connecting a datagram socket sends nothing; Dask finds the machine's own address that way.
        if self.type != socket.SOCK_DGRAM:
            _refuse_remote(self.family, address)
        plain_connect(self, address)

    def connect_ex(self: socket.socket, address: Any, /) -> int:
        _refuse_remote(self.family, address)
        return plain_connect_ex(self, address)

    def sendto(self: socket.socket, *args: Any) -> int:
        _refuse_remote(self.family, args[-1])
        return plain_sendto(self, *args)

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_remote(socket.AF_INET, (host,))
        return plain_getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)
        patch.setattr(socket.socket, "sendto", sendto)
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


# --- shared things ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def real_slides() -> Path:
    """Return the folder of real slides, to be read only; the test is skipped where there is none."""
    named = os.environ.get("WSISTORE_TEST_SLIDES")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "slides"
    if not folder.is_dir():
        pytest.skip(f"no real slides at {folder}: name their folder in WSISTORE_TEST_SLIDES")
    return folder


@pytest.fixture
def manual_clock() -> ManualClock:
    """Return a clock that goes only when the test says so."""
    return ManualClock()
