"""The gateway's processes: one socket, some workers that answer, one parent that looks after them."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from typing_extensions import override
from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from wsistore.clock import Clock, SystemClock
from wsistore.errors import Kind, SiteError
from wsistore.serve.limits import PROCESSES, new_table
from wsistore.serve.making import Shared, make
from wsistore.serve.protocol import PatientProtocol
from wsistore.serve.sessions import new_key

_BACKLOG = 2048
_DOORS = 16
"""Descriptors of the socket in each worker. uvloop lets one connection in by each, a round of its loop: by one alone
hundreds that come while it is busy would wait for seconds."""
_MOST_CONNECTIONS = 4096
"""Of one process; more are answered 503 at once."""
_KEEP_ALIVE_SECONDS = 30
_SHUTDOWN_SECONDS = 30
"""How long answers that have begun may take after the end was asked for."""
_STALLED_MS = 60_000
"""A client that takes nothing for so long is cut off by the system."""
_USUAL_WORKERS = 4
_TELL_SECONDS = 5.0
"""How long a worker may take to say whether it has begun; then it is asked again."""
_HUNG_SECONDS = 120
"""A worker that says nothing for so long is ended; on a busy machine it takes a while to start."""
_LISTEN_SECONDS = 0.2
"""How long a worker is listened for at a time: who asks for the end waits no longer for one that has yet to start."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A gateway that listens."""

    url: str
    workers: int


def serve(
    folder: Path, *, address: str, port: int, workers: int = 0, ready: Callable[[Serving], None] = lambda _: None
) -> None:
    """Serve a site until the process is told to end (SIGTERM, SIGINT); what has begun is finished then.

    Parameters
    ----------
    folder
        Of the site.
    address, port
        Where to listen; port 0 is any that is free.
    workers
        Processes; 0: one for each processor, four at most.
    ready
        Called once all workers answer. Who connects before waits for them.

    Raises
    ------
    SiteError
        If it cannot listen there.

    """
    count = min(workers or min(os.cpu_count() or 1, _USUAL_WORKERS), PROCESSES)
    listening = _listen(address, port)
    with listening, tempfile.TemporaryDirectory(prefix="wsistore-serve-") as scratch:
        shared = Shared(folder.absolute(), new_table(Path(scratch, "limits")), new_key())
        config = configured(partial(make, shared), workers=count)
        host, chosen = listening.getsockname()[:2]
        serving = Serving(f"http://{f'[{host}]' if ':' in host else host}:{chosen}", count)
        run(config, listening, partial(ready, serving))


def run(config: Config, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Run the workers of `config` over a socket until the process is told to end; `ready` is called once all answer."""
    with ExitStack() as stack:
        doors = [stack.enter_context(listening.dup()) for _ in range(_DOORS)]
        # One worker has a parent too: it starts another one should it die.
        _Workers(config, doors, ready).run()


class _Workers(Multiprocess):
    """Looks after the workers, and tells once when all of them answer."""

    def __init__(self, config: Config, sockets: list[socket.socket], ready: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._ready: Callable[[], None] | None = ready
        self._clock: Clock = SystemClock()
        self._silent_since: dict[int | None, float] = {}

    @override
    def keep_subprocess_alive(self) -> None:
        if self._is_one_to_be_waited_for():
            return
        super().keep_subprocess_alive()
        if self._ready is None or self.should_exit.is_set():
            return
        if all(process.is_ready(_TELL_SECONDS) for process in self.processes):
            ready, self._ready = self._ready, None
            ready()

    def _is_one_to_be_waited_for(self) -> bool:
        """Tell whether a worker lives that says nothing yet; one that has said nothing for too long is ended.

        The parent's own loop would stand still until it answers, and hear of no end that is asked for meanwhile.
        """
        now = self._clock.monotonic_seconds()
        silent = [one.process for one in self.processes if one.process.is_alive() and not _answers(one)]
        self._silent_since = {process.pid: self._silent_since.get(process.pid, now) for process in silent}
        for process in silent:
            if now - self._silent_since[process.pid] < _HUNG_SECONDS:
                return True
            process.kill()
            process.join()
        return False


def _answers(worker: Process) -> bool:
    """Tell whether a worker answers at once; what it said to earlier questions does not count."""
    with suppress(OSError, EOFError):
        while worker.parent_conn.poll():
            worker.parent_conn.recv()
    return worker.ping(_LISTEN_SECONDS)


def configured(make_app: Callable[[], object], *, workers: int = 1) -> Config:
    """Return how uvicorn runs a gateway."""
    return Config(
        make_app,
        factory=True,
        workers=workers,
        loop="uvloop",
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        timeout_worker_healthcheck=_HUNG_SECONDS,
    )


def server(config: Config) -> Server:
    """Return a server that runs in this process, for tests and programs of one's own."""
    return Server(config)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            # Accepted connections inherit both.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind((address, port))
        # From here on who connects waits for the workers, and is not refused.
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        msg = f"The gateway cannot listen at {address}, port {port} ({error.strerror or error})."
        raise SiteError(msg, kind=Kind.SETTINGS_INVALID, remedy="Choose another --address or --port.") from error
    listening.set_inheritable(True)
    return listening
