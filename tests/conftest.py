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

from wsistore.testing.clock import ManualClock

REPOSITORY = Path(__file__).resolve().parent.parent

# --- Hypothesis: the profiles are set here and nowhere else; a test may lower max_examples, with the reason ----------

# No deadline and no speed check: other work on the machine must not fail a test; pytest's time-out ends what hangs.
_COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=50, stateful_step_count=30, **_COMMON)
# New examples on each run (what fails is printed as a blob to replay), unlike Hypothesis' own profile of this name.
settings.register_profile("ci", max_examples=50, stateful_step_count=30, derandomize=False, print_blob=True, **_COMMON)
settings.register_profile("nightly", max_examples=2000, stateful_step_count=100, print_blob=True, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the real slides, so that they can be chosen or left out."""
    for item in items:
        if "real_slides" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_slides)


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
