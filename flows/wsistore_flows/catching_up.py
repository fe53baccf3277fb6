"""After a power cut, a reboot or a stop: what was interrupted is told and begun again, what was missed is done once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import PrefectException
from prefect.states import Cancelled, Crashed, Scheduled

from wsistore.ops.process_lock import process_lock
from wsistore_flows.deployments import Deployed
from wsistore_flows.notes import ensure_folder, lock_path

AT_WORK = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
DOWN = "The machine or the flows' service went down during this run. What it was at goes on in the next one."
GOES_ON_TAG = "goes-on"
_LATE = timedelta(minutes=1)
_LEAVING = timedelta(minutes=2)
"""Within which a process that has ended its run ends itself."""
_PAGE = 200

_log = logging.getLogger(__name__)


async def catch_up(
    client: PrefectClient, served: Sequence[tuple[UUID, Deployed]], folder: Path, now: datetime
) -> list[str]:
    """Put right what a server remembers of the time before this service began; return sentences for people.

    Parameters
    ----------
    client
        Of the server.
    served
        Deployments by their identities.
    folder
        The site's.
    now
        The time.

    """
    said = []
    for identity, deployed in served:
        lost = [run for run in await runs_in(client, [identity], AT_WORK) if not _alive(folder, deployed)]
        for run in lost:
            await _crashed(client, run, deployed)
            said.append(f"{deployed.night.name}: the run {run.name} had been interrupted")
        await go_on(client, [run for run in lost if deployed.night.goes_on][:1])
        late = await _late(client, identity, now)
        for run in late[:-1]:
            due = late[-1].expected_start_time
            message = f"Missed while the service was down; caught up by the run due at {due:%Y-%m-%d %H:%M} UTC."
            await client.set_flow_run_state(run.id, Cancelled(name="Skipped", message=message), force=True)
        if late:
            missed = "a run was missed and is" if len(late) == 1 else f"{len(late)} runs were missed; one is"
            said.append(f"{deployed.night.name}: {missed} done now")
    return said


async def go_on(client: PrefectClient, interrupted: Iterable[FlowRun]) -> None:
    """Begin interrupted runs again, each once, whoever asks how often."""
    for run in interrupted:
        if run.deployment_id is None:
            continue
        await client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters=run.parameters,
            state=Scheduled(message=f"Goes on where {run.name} was interrupted."),
            tags=[*run.tags, GOES_ON_TAG],
            idempotency_key=f"{GOES_ON_TAG}-{run.id}",
        )


async def show_as_ended(client: PrefectClient, deployments: Sequence[UUID], since: datetime) -> None:
    """Show runs as they ended whose processes were just leaving when the runner stopped: it calls them cancelled."""
    cancelled = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=list(deployments))),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLED])),
            end_time=FlowRunFilterEndTime.model_validate({"after_": since - _LEAVING}),
        ),
        limit=_PAGE,
    )
    for run in cancelled:
        states = sorted(await client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
        ended = [state for state in states if state.is_completed() or state.is_failed()]
        if ended:
            state: State[Any] = State(type=ended[-1].type, name=ended[-1].name, message=ended[-1].message)
            await client.set_flow_run_state(run.id, state, force=True)


async def runs_in(client: PrefectClient, deployments: Sequence[UUID], states: Sequence[StateType]) -> list[FlowRun]:
    """Return the runs of deployments that are in one of some states, the first due first."""
    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=list(deployments))),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE:
            return found


async def _late(client: PrefectClient, deployment: UUID, now: datetime) -> list[FlowRun]:
    found = await runs_in(client, [deployment], (StateType.SCHEDULED,))
    return [
        run
        for run in found
        if run.auto_scheduled and run.expected_start_time is not None and run.expected_start_time < now - _LATE
    ]


def _alive(folder: Path, deployed: Deployed) -> bool:
    """Say whether a process works on: the service alone may have been killed."""
    ensure_folder(folder)
    with process_lock(lock_path(folder, deployed.flow.name)) as is_free:
        return not is_free


async def _crashed(client: PrefectClient, run: FlowRun, deployed: Deployed) -> None:
    state: State[Any] = Crashed(message=DOWN)
    with suppress(PrefectException):
        await client.set_flow_run_state(run.id, state, force=True)
    for hook in deployed.flow.on_crashed_hooks:
        try:
            hook(deployed.flow, run, state)
        except Exception:
            _log.exception("the notice of an interrupted run could not be sent")
