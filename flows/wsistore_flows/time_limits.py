"""Runs that take longer than the site allows are ended: nothing is lost by it, for the next run goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.states import Cancelling

from wsistore.clock import Clock
from wsistore_flows.catching_up import runs_in
from wsistore_flows.deployments import Deployed

_LOOK_SECONDS = 30.0

_log = logging.getLogger(__name__)


async def keep_time(client: PrefectClient, served: Sequence[tuple[UUID, Deployed]], clock: Clock) -> None:
    """End runs whose time is up, as ``timeout_minutes`` of their flow says, until this is cancelled."""
    while any(one.timeout is not None for _, one in served):
        with suppress(PrefectException, httpx.HTTPError):  # a server that restarts is asked again
            for identity, one in served:
                await end_overdue(client, identity, one, clock.now())
        await asyncio.sleep(_LOOK_SECONDS)


async def end_overdue(client: PrefectClient, identity: UUID, deployed: Deployed, now: datetime) -> None:
    """End the runs of one deployment whose time is up."""
    if deployed.timeout is None:
        return
    for run in await runs_in(client, [identity], (StateType.RUNNING,)):
        if run.start_time is not None and now - run.start_time > deployed.timeout:
            minutes = deployed.timeout.total_seconds() / 60
            message = f"Its time was up after {minutes:.0f} minutes (timeout_minutes); the next run goes on."
            _log.warning("%s: %s", deployed.night.name, message)
            await client.set_flow_run_state(run.id, Cancelling(message=message), force=True)
