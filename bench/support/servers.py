"""Servers on this machine for as long as a block lasts: any program that listens on a port, and nginx."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.support.environments import require_program
from bench.support.places import REPOSITORY
from bench.support.worker import WorkerError

_START_SECONDS = 120.0
_STOP_SECONDS = 30.0

_NGINX = """\
daemon off;
{user}
worker_processes {cores};
error_log stderr warn;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    # Nothing is written a request, and connections stay: as quick as it can be made without effort.
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    open_file_cache max=20000 inactive=600s;
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} reuseport;
        root {root};
    }}
}}
"""


def cores() -> int:
    """Return how many processors there are."""
    return os.cpu_count() or 1


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def listening(
    command: Sequence[str | Path], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a server until the block ends; return the id of its process once the port answers.

    Raises
    ------
    WorkerError
        If it ends, or does not listen within a minute.

    """
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=REPOSITORY,
            env=kept | {"PYTHONNOUSERSITE": "1"} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
    try:
        _wait(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    lines = log.read_text(errors="replace").strip().splitlines()
    msg = f"no server on port {port}: {lines[-1] if lines else 'it said nothing'} ({log})"
    raise WorkerError(msg)


@contextmanager
def nginx(root: Path, folder: Path) -> Iterator[str]:
    """Serve the files under `root` by nginx; return the URL.

    Raises
    ------
    UnavailableError
        If nginx is not there and cannot be installed.
    WorkerError
        If it does not start.

    """
    folder.mkdir()
    program = require_program("nginx", "nginx-light")
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(user=user, cores=cores(), folder=folder, port=port, root=root))
    with listening([program, "-c", configuration, "-p", folder], port, folder / "log"):
        yield f"http://127.0.0.1:{port}"


def family(process: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [process]
    for one in found:
        with suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def memory_bytes(process: int) -> int:
    """Return the memory of a process and its descendants; what they share counts once (PSS)."""
    total = 0
    for one in family(process):
        with suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def processor_seconds(process: int) -> float:
    """Return the processor time of a process and its descendants."""
    ticks = 0
    for one in family(process):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
