"""Prefect servers for tests of flows, on SQLite and on PostgreSQL, flows as processes, and none of it on the network.

The servers are programs of their own on free ports of 127.0.0.1, one of each kind for a whole test run: the first test
that asks starts it. Tests share them; one that stops a server or takes its database away has it for itself meanwhile.
What Prefect shows is asked of its API over HTTP, without the code under test and without Prefect's client.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from tests.execute_kit import alive, children
from tests.s3_kit import Run
from wsistore_flows.environment import client_environment

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = REPOSITORY / "deploy" / "dev"
PATIENCE = 240.0
"""Seconds that something may take on a machine that is busy with other tests."""
SQLITE, POSTGRESQL = "sqlite", "postgresql"

Json = dict[str, Any]

_GUARD = '''"""Refuses, and writes down, whatever would leave this machine."""

import ipaddress
import os
import socket
import sys

_LOG = os.environ["TEST_NETWORK_LOG"]
_HOSTS = {None, "", "localhost", socket.gethostname()}


def _is_local(host):
    host = host.decode() if isinstance(host, bytes) else host
    if host in _HOSTS:
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _guard(event, arguments):
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        its, address = arguments
        if its.family not in {socket.AF_INET, socket.AF_INET6} or not address:
            return
        if event == "socket.connect" and its.type & 0xF == socket.SOCK_DGRAM:
            return  # sends nothing: so a machine's own address is found
        host = address[0]
    elif event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}:
        host = arguments[0]
    else:
        return
    if not _is_local(host):
        with open(_LOG, "a") as log:
            log.write(f"{event} {host!r} {sys.argv!r}\\n")
        raise ConnectionRefusedError(f"The network is cut: {host!r}.")


sys.addaudithook(_guard)

# What a test has the processes of flow runs do first.
_FIRST = os.environ.get("TEST_FIRST", "")
if _FIRST and os.path.exists(_FIRST) and "PREFECT__FLOW_RUN_ID" in os.environ:
    with open(_FIRST) as _file:
        exec(_file.read(), {})
'''

_WATCH = """
started() { cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null || echo gone; }
owner=$(started "$1") server=$(started "$2")
while [ "$(started "$2")" = "$server" ]; do
    if [ "$(started "$1")" != "$owner" ]; then kill -KILL -- "-$2"; rm -rf "$3"; exit; fi
    sleep 1
done
"""
"""Ends a server, which leads a group of processes, and removes all files when its owner is gone, however it went. Both
are known by their number and the time they started: a number alone may be another process's by then."""


# --- where a run's servers are ----------------------------------------------------------------------------------------


def folder_of(run: Run) -> Path:
    """Return where the servers of a test run keep their files; others than this user's may pass through it."""
    return Path(f"{run.folder}-prefect")


def stop_all(run: Run) -> None:
    """Stop a test run's servers and remove their files."""
    folder = folder_of(run)
    if folder.exists():
        for kind in (SQLITE, POSTGRESQL):
            Server(kind, folder, run.owner).close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server(run: Run, kind: str, *, alone: bool = False) -> Iterator[Server]:
    """Give a running server; `alone`: nobody else uses it meanwhile, so that it and its database may be stopped."""
    folder = folder_of(run)
    folder.mkdir(mode=0o755, exist_ok=True)
    with (folder / f"{kind}.lock").open("w") as use, (folder / f"{kind}-start.lock").open("w") as start:
        fcntl.flock(use, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(start, fcntl.LOCK_EX)  # of all the workers of the run one starts it
        found = Server(kind, folder, run.owner)
        found.start()
        fcntl.flock(start, fcntl.LOCK_UN)
        yield found
        assert found.network_log.read_text() == "", "something reached for the network"


# --- what servers show ------------------------------------------------------------------------------------------------


class Api:
    """What a Prefect server shows, and is told, at an address such as ``http://127.0.0.1:4200/api``."""

    def __init__(self, api: str) -> None:
        self.api = api
        self._http = build_opener(ProxyHandler({}))

    def ask(self, method: str, path: str, body: Json | list[Json] | None = None) -> Any:
        """Call the API."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.api}/{path}", data, {"Content-Type": "application/json"}, method=method)
        limit = time.monotonic() + PATIENCE / 4
        while True:
            try:
                with self._http.open(request, timeout=240) as answer:
                    text = answer.read()
                return json.loads(text) if text else None
            except HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > limit:
                    raise
            time.sleep(0.5)  # its database is busy: it asks for patience

    def run(self, run: str) -> Json:
        """Return what is shown of a flow run."""
        found: Json = self.ask("GET", f"flow_runs/{run}")
        return found

    def runs(self, **filters: Any) -> list[Json]:
        """Return flow runs, the earliest first, such as ``tags={"all_": ["a"]}``."""
        found: list[Json] = self.ask(
            "POST", "flow_runs/filter", {"flow_runs": filters, "sort": "EXPECTED_START_TIME_ASC", "limit": 200}
        )
        return found

    def runs_of(self, deployment: str) -> list[Json]:
        """Return the flow runs of a deployment, by its id, the earliest first."""
        return self.runs(deployment_id={"any_": [deployment]})

    def task_runs(self, run: str) -> list[Json]:
        """Return the task runs of a flow run."""
        found: list[Json] = self.ask("POST", "task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run]}}})
        return found

    def logs(self, run: str) -> list[str]:
        """Return what was logged in a flow run and its tasks."""
        lines: list[Json] = self.ask(
            "POST", "logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        )
        return [str(line["message"]) for line in lines]

    def artifacts(self, run: str) -> list[Json]:
        """Return the artifacts of a flow run."""
        found: list[Json] = self.ask("POST", "artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
        return found


# --- servers ----------------------------------------------------------------------------------------------------------


class Server(Api):
    """A Prefect server as an administrator would set it up; see `server`."""

    def __init__(self, kind: str, folder: Path, owner: int) -> None:
        self.kind, self.folder, self.owner = kind, folder, owner
        port = folder / f"{kind}.port"
        if not port.exists():
            port.write_text(str(free_port()))
        self.port = int(port.read_text())
        super().__init__(f"http://127.0.0.1:{self.port}/api")

    @property
    def network_log(self) -> Path:
        return self.folder / "network.log"

    @property
    def pid(self) -> int:
        return int((self.folder / f"{self.kind}.pid").read_text())

    @property
    def log(self) -> Path:
        return self.folder / f"{self.kind}.log"

    def start(self) -> None:
        """Start it, if it does not run: on the port, and with the data, that it had before."""
        self.network_log.touch()
        if self._answers():
            return
        environment = guarded(self.folder, self.folder / "home" / self.kind) | self._production()
        if self.kind == POSTGRESQL:
            environment |= self.start_database()
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port), "--no-ui"]
        pid = _detached([sys.executable, "-m", *command], self.log, environment)
        (self.folder / f"{self.kind}.pid").write_text(str(pid))
        _detached(["bash", "-c", _WATCH, "watch", str(self.owner), str(pid), str(self.folder)], Path(os.devnull))
        until(self._answers, self.log, alive=lambda: alive(pid))

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server; its database and what it knows stay."""
        with suppress(FileNotFoundError, ProcessLookupError):
            end(self.pid, sign)
        (self.folder / f"{self.kind}.pid").unlink(missing_ok=True)

    def start_database(self) -> dict[str, str]:
        """Start PostgreSQL, if it does not run; the test is skipped where it is not installed."""
        if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
            pytest.skip("no PostgreSQL here: run scripts/install-test-packages")
        port = self.folder / "database.port"
        if not port.exists():
            port.write_text(str(free_port()))
        options = self._database() | {"WSI_PG_PORT": port.read_text(), "WSI_PG_OWNER": str(self.owner)}
        script = [str(SCRIPTS / "pg-up.sh")]
        done = subprocess.run(script, env=os.environ | options, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        said = dict(line.split("=", 1) for line in done.stdout.splitlines())
        return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": said["PREFECT_SERVER_DATABASE_CONNECTION_URL"]}

    def stop_database(self, *options: str) -> None:
        """Take the database away; what is in it stays, without ``--wipe``."""
        subprocess.run(
            [str(SCRIPTS / "pg-down.sh"), *options], env=os.environ | self._database(), check=True, capture_output=True
        )

    def close(self) -> None:
        """End all."""
        self.stop(signal.SIGKILL)
        if self.kind == POSTGRESQL:
            self.stop_database("--wipe")

    def _database(self) -> dict[str, str]:
        return {"WSI_PG_DIR": str(self.folder / "database")}

    def _production(self) -> dict[str, str]:
        """Return what an administrator sets for a server; the loops look often, for tests do not wait for minutes."""
        loops = ("SCHEDULER_LOOP_SECONDS", "SCHEDULER_RECENT_DEPLOYMENTS_INTERVAL", "LATE_RUNS_LOOP_SECONDS")
        return {
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            **{f"PREFECT_SERVER_SERVICES_{name}": "2" for name in loops},
        }

    def _answers(self) -> bool:
        with suppress(OSError, ValueError):
            return self.ask("GET", "health") is True
        return False


# --- flows ------------------------------------------------------------------------------------------------------------

_CALLS = """
import importlib, json, sys
for name, parameters in json.loads(sys.argv[1]):
    module, _, function = name.rpartition(".")
    flow = getattr(importlib.import_module(module), function)
    state = flow(**parameters, return_state=True)
    told = {"type": state.type.value, "name": state.name, "message": state.message or "", "flow": flow.name}
    print(json.dumps({**told, "run": str(state.state_details.flow_run_id)}), flush=True)
"""


@dataclass
class Process:
    """A program that was started; what it prints goes to files."""

    popen: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def lines(self) -> list[Json]:
        return [json.loads(line) for line in self.out.read_text().splitlines() if line.startswith("{")]

    @property
    def said(self) -> str:
        return self.out.read_text()[-4000:] + self.err.read_text()[-6000:]

    def wait(self, seconds: float = PATIENCE) -> list[Json]:
        """Wait for its end; return the lines of JSON that it printed."""
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.close()
            pytest.fail(f"it does not end: {self.said}")
        return self.lines

    def kill(self) -> None:
        """End it as the system does when there is no memory left: it alone, and without a word."""
        self.popen.kill()
        self.popen.wait()

    def close(self) -> None:
        """End it and all that it has started."""
        if self.popen.poll() is None:
            end(self.popen.pid, signal.SIGKILL)
            self.popen.wait()


class Shell:
    """Starts programs beside a server, all of them cut off from the network, and ends what is left of them."""

    def __init__(self, folder: Path, server: Server | None = None) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.server = server
        self.network_log = server.network_log if server else folder / "network.log"
        self.network_log.touch()
        self.environment = guarded(self.network_log.parent, folder / "prefect")
        self.started: list[Process] = []

    def start(self, *command: object, **environment: str) -> Process:
        """Start a program."""
        number = len(self.started)
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        with out.open("wb") as to_out, err.open("wb") as to_err:
            popen = subprocess.Popen(
                [str(part) for part in command],
                env=self.environment | environment, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=to_out, stderr=to_err,
            )  # fmt: skip
        self.started.append(Process(popen, out, err))
        return self.started[-1]

    def flows(self, *calls: tuple[str, Mapping[str, object]], before: str = "", **environment: str) -> Process:
        """Start flows, one after the other, in a process as a worker does: ``("…ingest.ingest", {"site": …})``."""
        assert self.server is not None
        told = client_environment(Path(str(calls[0][1]["site"])), self.server.api, self.environment)
        return self.start(sys.executable, "-c", before + _CALLS, json.dumps(calls), **told, **environment)

    def run(self, flow: str, **parameters: object) -> Json:
        """Run a flow ``wsistore_flows.<module>`` to its end; return its last state."""
        process = self.flows((f"wsistore_flows.{flow}.{flow}", parameters))
        lines = process.wait()
        assert len(lines) == 1, process.said
        return lines[0]

    def command(self, site: Path, *arguments: object) -> Process:
        """Start the command ``wsistore``."""
        program = (sys.executable, "-c", "from wsistore.cli.main import main; main()", "-C", site)
        return self.start(*program, *arguments)

    def close(self) -> None:
        for process in self.started:
            process.close()


@contextmanager
def shell(folder: Path, server: Server | None = None) -> Iterator[Shell]:
    """Give a `Shell`; whatever it has started ends with the block."""
    made = Shell(folder, server)
    try:
        yield made
    finally:
        made.close()
    assert made.network_log.read_text() == "", "something reached for the network"


# --- processes --------------------------------------------------------------------------------------------------------


def guarded(folder: Path, home: Path) -> dict[str, str]:
    """Return the environment of programs that may not leave the machine; what they try is in ``network.log``."""
    guard = folder / "guard"
    guard.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    if not (guard / "sitecustomize.py").exists():
        temporary = guard / f"{os.getpid()}.tmp"
        temporary.write_text(_GUARD)
        temporary.replace(guard / "sitecustomize.py")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "DASK_", "WSISTORE_")) and "proxy" not in name.lower()
    }
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # Prefect is large: compiled once, not by every process anew
    return inherited | {
        "PYTHONPATH": f"{guard}:{REPOSITORY}",
        "TEST_NETWORK_LOG": str(folder / "network.log"),
        "PREFECT_HOME": str(home),
        "PREFECT_LOGGING_LEVEL": "INFO",
    }


def end(pid: int, sign: signal.Signals) -> None:
    """End a process, then whatever it has started and left."""
    started = children(pid)
    os.kill(pid, sign)
    limit = time.monotonic() + 120
    while alive(pid) and time.monotonic() < limit:
        time.sleep(0.05)
    for one in {pid, *started}:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    while any(map(alive, started)) and time.monotonic() < limit:  # they may still write
        time.sleep(0.05)


def free_port() -> int:
    """Return a port that is free, outside the range of outgoing ones and that of S3 servers."""
    while True:
        port = random.SystemRandom().randrange(20_000, 25_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def until(
    true: Callable[[], Any],
    log: Path | None = None,
    *,
    alive: Callable[[], bool] = lambda: True,
    seconds: float = PATIENCE,
) -> Any:
    """Wait until something is true, and return it; who does it has to be alive meanwhile."""
    limit = time.monotonic() + seconds
    while True:
        with suppress(OSError, HTTPException):  # a server that is busy, or just starting
            if found := true():
                return found
        if not alive() or time.monotonic() > limit:
            pytest.fail(f"It did not come to be: {log.read_text()[-6000:] if log else ''}")
        time.sleep(0.1)


def _detached(command: list[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
    """Start a program that leads a group of its own and is nobody's child; return its number."""
    script = 'log=$1; shift; cd /; setsid nohup "$@" </dev/null >>"$log" 2>&1 & echo $!'
    done = subprocess.run(
        ["bash", "-c", script, "start", str(log), *command], env=environment, check=True, capture_output=True, text=True
    )
    return int(done.stdout)
