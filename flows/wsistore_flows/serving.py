"""The service of one site's nights: its Prefect server, its deployments, and processes for their runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsistore.clock import Clock, SystemClock
from wsistore.errors import ConflictError, Kind, SiteError
from wsistore.ops.process_lock import process_lock
from wsistore.settings import Settings, find_site, load
from wsistore_flows.environment import client_environment, prefect_home
from wsistore_flows.server import Server, wait_for

_LOCK = "service.lock"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    """What people are told when the service is ready."""

    site: str
    api_url: str
    caught_up: tuple[str, ...]
    """What was missed or interrupted before, in sentences."""

    @property
    def ui_url(self) -> str:
        """What to open in a browser."""
        return self.api_url.removesuffix("/api")


def serve(
    folder: Path | None = None,
    *,
    port: int | None = None,
    ready: Callable[[Serving], None] = lambda _serving: None,
    clock: Clock | None = None,
) -> None:
    """Run a site's nights until a signal ends the service; to be called in a process of its own.

    Parameters
    ----------
    folder
        The site's; by default the one that WSISTORE_HOME tells.
    port
        Of the site's own Prefect server; None: the one it had last, at first 4200; 0: any.
    ready
        Called when flows are served.
    clock
        The machine's.

    Raises
    ------
    SiteError
        If there is no site, its settings are wrong, or its server cannot live.
    ConflictError
        If the site is served already, or the port is taken.
    WorkersError
        If the server does not answer.

    """
    clock = clock or SystemClock()
    settings = load(find_site(folder, os.environ))
    home = prefect_home(settings.folder)
    try:
        home.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        msg = f"{home} cannot be written ({error.strerror or error})."
        raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Make the site's folder writable.") from error
    with process_lock(home / _LOCK) as is_alone:
        if not is_alone:
            msg = f"The flows of the site {settings.name} are served already, by another process."
            raise ConflictError(msg, remedy="'wsistore flows ls' shows them; end the other service first.")
        _served(settings, port, clock, ready)


def _served(settings: Settings, port: int | None, clock: Clock, ready: Callable[[Serving], None]) -> None:
    if settings.flows.api_url:
        _work(settings, None, settings.flows.api_url, clock, ready)
        return
    server = Server(settings.folder, port, clock=clock)
    try:
        server.start()
        _work(settings, server, server.address.api_url, clock, ready)
    finally:
        server.stop()


def _work(
    settings: Settings, server: Server | None, api_url: str, clock: Clock, ready: Callable[[Serving], None]
) -> None:
    os.environ.update(client_environment(settings.folder, api_url))
    if server is None:
        wait_for(api_url, clock=clock)
    # Prefect reads its settings from the environment when it is imported, which takes seconds besides.
    from wsistore_flows.service import run_service

    run_service(settings, server, clock, lambda caught_up: ready(Serving(settings.name, api_url, tuple(caught_up))))
