"""A Prefect server of a site's own, and runs of the lifecycle flow by it, each as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wsistore.errors import WorkersError
from wsistore_flows.environment import client_environment
from wsistore_flows.server import Server

_RUN_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, as Prefect shows it."""

    name: str
    message: str


class Nights:
    """Runs of a site's lifecycle.

    Parameters
    ----------
    home
        The site's folder.
    server
        Prefect's.
    started
        Done when it answers.

    """

    def __init__(self, home: Path, server: Server, started: Future[None]) -> None:
        self._home, self._server, self._started = home, server, started

    @property
    def where(self) -> str:
        """Where the runs are shown."""
        return self._server.address.ui_url

    def run(self, *arguments: str) -> Ended:
        """Run the lifecycle: plan, and apply what may be; with ``apply`` only the latter."""
        self._started.result()
        environment = {**os.environ, **client_environment(self._home, self._server.address.api_url)}
        done = subprocess.run(
            [sys.executable, "-m", "demo.flow_run", str(self._home), *arguments],
            cwd=Path(__file__).parents[1],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
        )
        said = done.stdout.strip().splitlines()
        if done.returncode or not said:
            msg = f"The flow's process ended with {done.returncode}: {done.stderr.strip()[-400:]}"
            raise WorkersError(msg, remedy="Run it by hand: python -m demo.flow_run SITE.")
        return Ended(**json.loads(said[-1]))


@contextmanager
def prefect_nights(home: Path) -> Iterator[Nights]:
    """Start a server for the site in `home` while other work goes on; stop it at the end."""
    server = Server(home, port=0)
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(server.start)
        try:
            yield Nights(home, server, started)
        finally:
            started.exception()  # it is stopped when it has been started
            server.stop()
