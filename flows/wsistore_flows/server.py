"""Prefect's own server for one site and machine: on SQLite in the site's folder, for loopback only."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from wsistore.clock import Clock, SystemClock
from wsistore.errors import ConflictError, Kind, SiteError, WorkersError
from wsistore_flows.environment import PATIENCE_SECONDS, prefect_home, server_environment

HOST = "127.0.0.1"
PORT = 4200
"""Prefect's own, which its documents name."""
_NOTE = "server.json"
_LOG = "server.log"
_LOG_BYTES = 10_000_000
_POLL_SECONDS = 0.5
_STOP_SECONDS = 30

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a site's server answers, as noted in the site's folder while it runs."""

    port: int
    pid: int

    @property
    def ui_url(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        """What Prefect's clients are given."""
        return f"{self.ui_url}/api"


class Server:
    """Prefect's server as a process of its own, which is started again when it dies.

    Parameters
    ----------
    folder
        The site's folder.
    port
        Where to listen; None: where it listened last, else `PORT`; 0: anywhere.

    """

    def __init__(self, folder: Path, port: int | None = None, *, clock: Clock | None = None) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()
        before = noted(folder)
        if before is not None and before.pid:
            _end_left_over(folder, before, self._clock)
        self._port = _port(port, before)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        """Where it answers."""
        return Address(self._port, self._process.pid if self._process else 0)

    def start(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Start it, and wait until it answers.

        Raises
        ------
        SiteError
            If the site's folder cannot be written, or the server ends at once; the message has its last words.
        WorkersError
            If it does not answer in time.

        """
        home = prefect_home(self._folder)
        try:
            home.mkdir(mode=0o700, exist_ok=True)
            self._process = self._spawn(home)
            _note(home, self.address)
        except OSError as error:
            msg = f"{home} cannot be written ({error.strerror or error})."
            raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Make the site's folder writable.") from error
        self._wait(patience_seconds)

    def running(self) -> bool:
        """Return whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it, gently at first."""
        if self._process is not None:
            _end(self._process, self._clock)
            self._process = None
        with suppress(OSError):  # the port is kept: bookmarks name it
            _note(prefect_home(self._folder), self.address)

    def _spawn(self, home: Path) -> subprocess.Popen[bytes]:
        log = home / _LOG
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(self._port)]
        environment = {**os.environ, **server_environment(self._folder, self.address.api_url)}
        # A session of its own: Ctrl-C in the terminal is for the service, whose last messages the server still takes.
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - the command is ours
                command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def _wait(self, patience_seconds: float) -> None:
        end = self._clock.monotonic_seconds() + patience_seconds
        while not answers(self.address.api_url):
            log = prefect_home(self._folder) / _LOG
            if not self.running():
                msg = f"Prefect's server ended as it was started; {log} ends with: {_last_words(log)}"
                raise SiteError(msg, remedy="Mend what it complains of, and start again.")
            if self._clock.monotonic_seconds() > end:
                self.stop()
                msg = f"Prefect's server has not answered at {self.address.api_url} for {patience_seconds:.0f} seconds."
                raise WorkersError(msg, kind=Kind.CLUSTER_UNREACHABLE, remedy=f"See {log}, and start again.")
            self._clock.sleep(_POLL_SECONDS)


def answers(api_url: str) -> bool:
    """Return whether a Prefect server is ready to work at `api_url`."""
    try:
        # No proxy of the hospital's, whatever the environment says, where the server is on this machine.
        trusting = not any(host in api_url for host in (HOST, "localhost"))
        return httpx.get(f"{api_url}/health", timeout=10, trust_env=trusting).status_code == httpx.codes.OK
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        return False


def wait_for(api_url: str, patience_seconds: float = PATIENCE_SECONDS, *, clock: Clock | None = None) -> None:
    """Wait for a server that others run: after a power cut its machine may start later than this one.

    Raises
    ------
    WorkersError
        If it does not answer in time.

    """
    clock = clock or SystemClock()
    end = clock.monotonic_seconds() + patience_seconds
    while not answers(api_url):
        if clock.monotonic_seconds() > end:
            msg = f"Prefect's server has not answered at {api_url} for {patience_seconds:.0f} seconds."
            remedy = "Start it, or mend api_url in [flows] of wsistore.toml."
            raise WorkersError(msg, kind=Kind.CLUSTER_UNREACHABLE, remedy=remedy)
        clock.sleep(_POLL_SECONDS)


def noted(folder: Path) -> Address | None:
    """Return where the server of the site in `folder` answers, or did when its machine went down."""
    try:
        document = json.loads((prefect_home(folder) / _NOTE).read_bytes())
        return Address(port=int(document["port"]), pid=int(document["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note(home: Path, address: Address) -> None:
    scratch = home / f".{_NOTE}.{os.getpid()}"
    scratch.write_text(json.dumps(asdict(address)) + "\n")
    scratch.replace(home / _NOTE)


def _port(wanted: int | None, before: Address | None) -> int:
    """Choose a port; browsers' bookmarks and flows that outlived their service look for the old one."""
    port = wanted if wanted is not None else before.port if before else PORT
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            msg = f"Port {port} of this machine cannot be had for Prefect's server ({error.strerror})."
            raise ConflictError(msg, remedy="Name another with --port; 0 takes any that is free.") from error
        return int(probe.getsockname()[1])


def _end_left_over(folder: Path, address: Address, clock: Clock) -> None:
    """End a server whose service was killed: only one may work on a database."""
    try:
        environment = Path(f"/proc/{address.pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return  # no such process, or another account's
    if os.fsencode(f"PREFECT_HOME={prefect_home(folder)}") not in environment:
        return  # the number was given to another process since
    _log.warning("Prefect's server of this site had been left over (process %d): it is ended", address.pid)
    end = clock.monotonic_seconds() + _STOP_SECONDS
    with suppress(ProcessLookupError):
        os.kill(address.pid, signal.SIGTERM)
        while clock.monotonic_seconds() < end:
            os.kill(address.pid, 0)
            clock.sleep(_POLL_SECONDS)
        os.kill(address.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes], clock: Clock) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    end = clock.monotonic_seconds() + _STOP_SECONDS
    while process.poll() is None and clock.monotonic_seconds() < end:
        clock.sleep(_POLL_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_words(log: Path) -> str:
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "(nothing)"
    return lines[-1] if lines else "(nothing)"
