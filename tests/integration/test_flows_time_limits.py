"""A run whose time is up is ended on Prefect's server; others of it, and of other flows, go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient
from prefect.states import Running

from tests.prefect_kit import Server
from wsistore_flows.deployments import NIGHTS, Deployed
from wsistore_flows.time_limits import end_overdue

pytestmark = pytest.mark.slow


@flow(name="of-limited-time")
def of_limited_time() -> None:
    """Nobody calls it: its runs are made by hand."""


def test_runs_whose_time_is_up_are_ended(prefect_server: Server, tmp_path: Path) -> None:
    limited = Deployed(
        night=NIGHTS[0],
        flow=of_limited_time,
        name=f"site-{tmp_path.name}",
        cron=NIGHTS[0].cron,
        zone="UTC",
        paused=True,
        timeout=timedelta(hours=1),
        parameters={},
    )
    unlimited = replace(limited, name=f"{limited.name}-unlimited", timeout=None)
    now = datetime.now(UTC)

    async def ended_after(hours: float, *deployed: Deployed) -> list[str]:
        async with PrefectClient(prefect_server.api) as client:
            runs = []
            flow_id = await client.create_flow(of_limited_time)
            for one in deployed:
                identity = await client.create_deployment(flow_id, f"{one.name}-{hours}", paused=True)
                run = await client.create_flow_run_from_deployment(identity, state=Running())
                runs.append(run.id)
                await end_overdue(client, UUID(str(identity)), one, now + timedelta(hours=hours))
            return [prefect_server.run(str(run))["state_type"] for run in runs]

    assert asyncio.run(ended_after(0.9, limited, unlimited)) == ["RUNNING", "RUNNING"]
    assert asyncio.run(ended_after(1.1, limited, unlimited)) == ["CANCELLING", "RUNNING"]
