"""The service of the nights, as Prefect sees it: deployments told to a server, their runs begun as processes."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runner import Runner

from wsistore.clock import Clock
from wsistore.errors import Kind, WorkersError, WsistoreError
from wsistore.settings import Settings
from wsistore_flows.catching_up import AT_WORK, catch_up, go_on, runs_in, show_as_ended
from wsistore_flows.deployments import Deployed, deployed
from wsistore_flows.server import Server
from wsistore_flows.time_limits import keep_time

_WATCH_SECONDS = 2.0
_PAUSE_SECONDS = 10.0
"""Before a server that died is started again, so that one that cannot live does not keep the machine busy."""

_log = logging.getLogger(__name__)

Served = Sequence[tuple[UUID, Deployed]]


def run_service(settings: Settings, server: Server | None, clock: Clock, ready: Callable[[list[str]], None]) -> None:
    """Serve a site's flows until a signal ends it.

    Parameters
    ----------
    settings
        The site's.
    server
        The server to watch over; None: others do.
    clock
        The machine's.
    ready
        Called once all is told to the server, with what was missed or interrupted before.

    Raises
    ------
    WorkersError
        If the server cannot be worked with.

    """
    try:
        asyncio.run(_serve(settings, server, clock, ready))
    except (PrefectException, httpx.HTTPError) as error:
        msg = f"Prefect's server refused what it was told, or went away ({error})."
        raise WorkersError(msg, kind=Kind.CLUSTER_UNREACHABLE, remedy="Look at its log, and start again.") from error


async def _serve(settings: Settings, server: Server | None, clock: Clock, ready: Callable[[list[str]], None]) -> None:
    wanted = deployed(settings)
    runner = Runner(name=f"wsistore {settings.name}", pause_on_shutdown=False, limit=2 * len(wanted))
    async with get_client() as client:
        served = [(await _tell(client, runner, one), one) for one in wanted]
        missed = await catch_up(client, served, settings.folder, clock.now())
        working = asyncio.create_task(runner.start(webserver=False))
        ended = await _begun(runner, working)
        ready(missed)
        try:
            keeping = asyncio.create_task(keep_time(client, served, clock))
            await _watch(working, ended, server)
            keeping.cancel()
        finally:
            await _stop(client, runner, working, served, clock)
    if working.done() and not working.cancelled() and (error := working.exception()) is not None:
        raise error


async def _tell(client: PrefectClient, runner: Runner, one: Deployed) -> UUID:
    """Tell the server of a deployment; one that people paused stays so."""
    try:
        paused = (await client.read_deployment_by_name(one.full_name)).paused
    except ObjectNotFound:
        paused = False
    # Runs are processes that import their flow: pickled, it would lack what its module imports.
    return await runner.aadd_deployment(await one.for_prefect(paused=paused or one.paused))


async def _begun(runner: Runner, working: asyncio.Task[None]) -> asyncio.Event:
    """Wait until the runner has put up its own handlers of signals, and put up ours, which end it in order."""
    while not runner.started and not working.done():
        await asyncio.sleep(0.05)
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    return ended


async def _watch(working: asyncio.Task[None], ended: asyncio.Event, server: Server | None) -> None:
    while not ended.is_set() and not working.done():
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), _WATCH_SECONDS)
        if server is not None and not server.running() and not ended.is_set():
            _log.warning("Prefect's server has ended; it is started again")
            try:
                await asyncio.to_thread(server.start)
            except WsistoreError as error:
                _log.error("%s", error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), _PAUSE_SECONDS)


async def _stop(
    client: PrefectClient, runner: Runner, working: asyncio.Task[None], served: Served, clock: Clock
) -> None:
    """End runs in order, and have those begin again with the next service that would not do so by themselves soon."""
    interrupted = await _interrupted(client, served)
    began = clock.now()
    with suppress(RuntimeError, PrefectException, httpx.HTTPError):
        await runner.astop()
    await asyncio.wait([working])
    with suppress(PrefectException, httpx.HTTPError):
        await show_as_ended(client, [identity for identity, _ in served], began)
    if interrupted:
        try:
            await go_on(client, interrupted)
        except (PrefectException, httpx.HTTPError) as error:
            _log.warning("what was interrupted begins again at its next time only (%s)", error)


async def _interrupted(client: PrefectClient, served: Served) -> list[FlowRun]:
    going_on = [identity for identity, one in served if one.night.goes_on]
    try:
        return await runs_in(client, going_on, AT_WORK) if going_on else []
    except (PrefectException, httpx.HTTPError):
        return []
