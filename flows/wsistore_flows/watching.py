"""What is scheduled, what runs and what ran, for those who do not open Prefect; starting and pausing by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectException

from wsistore.clock import Clock, SystemClock, iso
from wsistore.errors import ConflictError, Kind, MissingError, WorkersError
from wsistore.settings import FLOW_NAMES, Settings, find_site, load
from wsistore_flows.deployments import NIGHTS, UTC_NAME, Night, night_of
from wsistore_flows.environment import client_environment
from wsistore_flows.server import noted

_POLL_SECONDS = 1.0
_MOST = 200
"""Runs that Prefect's server gives at a time."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of a flow."""

    flow: str
    run: str
    """Prefect's name of it."""
    id: str
    state: str
    ended_well: bool | None
    """None while it has not ended."""
    due: str | None
    began: str | None
    seconds: float
    message: str
    url: str
    """Where Prefect shows it."""

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class NightRow:
    """One flow that begins by itself."""

    flow: str
    cron: str
    time_zone: str
    paused: bool
    next: str | None
    """When it begins next."""
    last: RunRow | None
    """The run that began last."""

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


class Watch:
    """A site's flows as its Prefect server knows them."""

    def __init__(self, settings: Settings, client: SyncPrefectClient, api_url: str, clock: Clock) -> None:
        self._settings = settings
        self._client = client
        self._api_url = api_url
        self._clock = clock

    @property
    def ui_url(self) -> str:
        """What to open in a browser."""
        return self._api_url.removesuffix("/api")

    @property
    def time_zone(self) -> str:
        """The site's."""
        return self._settings.flows.time_zone or UTC_NAME

    def nights(self) -> list[NightRow]:
        """Return what begins by itself."""
        return [self._night(night, found) for night in NIGHTS if (found := self._find(night)) is not None]

    def history(self, names: Sequence[str] = (), *, limit: int = 20) -> list[RunRow]:
        """Return the runs that began last, or are under way, the newest first.

        Raises
        ------
        MissingError
            If there is no flow of a name.

        """
        found = {
            deployment.id: night.name
            for night in (self._named(names) if names else NIGHTS)
            if (deployment := self._find(night)) is not None
        }
        return [
            self._row(found[run.deployment_id], run) for run in self._began(list(found), limit) if run.deployment_id
        ]

    def run(self, name: str, parameters: Mapping[str, Any] | None = None) -> RunRow:
        """Have a flow begin now.

        Raises
        ------
        MissingError
            If there is no flow of this name.
        ConflictError
            If the server does not take the parameters.

        """
        deployment = self._known(name)
        taken = set((deployment.parameter_openapi_schema or {}).get("properties", {}))
        if unknown := sorted(set(parameters or {}) - taken):  # of which the server says nothing, but the run would
            msg = f"The flow {name} does not take {', '.join(unknown)}."
            remedy = f"It takes: {', '.join(sorted(taken))}."
            raise ConflictError(msg, kind=Kind.SETTINGS_INVALID, remedy=remedy)
        try:
            run = self._client.create_flow_run_from_deployment(deployment.id, parameters=dict(parameters or {}))
        except httpx.HTTPStatusError as error:
            msg = f"The flow {name} does not take these parameters ({_detail(error)})."
            raise ConflictError(
                msg, kind=Kind.SETTINGS_INVALID, remedy="See docs/flows.md for what it takes."
            ) from error
        return self._row(name, run)

    def wait(self, row: RunRow, told: Callable[[RunRow], None] = lambda _row: None) -> RunRow:
        """Wait until a run has ended, and tell its states meanwhile."""
        before = ""
        while True:
            found = self._row(row.flow, self._client.read_flow_run(UUID(row.id)))
            if found.state != before:
                told(found)
                before = found.state
            if found.ended_well is not None:
                return found
            self._clock.sleep(_POLL_SECONDS)

    def pause(self, names: Sequence[str]) -> None:
        """Have flows begin no more by themselves, until `resume`; what runs goes on.

        Raises
        ------
        MissingError
            If there is no flow of a name.

        """
        for deployment in [self._known(night.name) for night in self._named(names)]:
            self._client.pause_deployment(deployment.id)

    def resume(self, names: Sequence[str]) -> None:
        """Have flows begin by themselves again.

        Raises
        ------
        MissingError
            If there is no flow of a name.
        ConflictError
            If the settings say that it is paused.

        """
        nights = self._named(names)
        for night in nights:
            if self._settings.flows.flow(night.name).paused:
                msg = f"The flow {night.name} is paused in wsistore.toml ([flows.{night.name}])."
                raise ConflictError(msg, kind=Kind.SETTINGS_INVALID, remedy="Change it there, and restart the service.")
        for deployment in [self._known(night.name) for night in nights]:
            self._client.resume_deployment(deployment.id)

    def _named(self, names: Sequence[str]) -> list[Night]:
        found = []
        for name in names:
            night = night_of(name)
            if night is None:
                msg = f"There is no flow {name!r}."
                raise MissingError(msg, kind=Kind.PATH_MISSING, remedy=f"There are: {', '.join(FLOW_NAMES)}.")
            found.append(night)
        return found

    def _find(self, night: Night) -> DeploymentResponse | None:
        try:
            return self._client.read_deployment_by_name(_full_name(night, self._settings))
        except ObjectNotFound:
            return None

    def _known(self, name: str) -> DeploymentResponse:
        night = self._named([name])[0]
        found = self._find(night)
        if found is None:
            msg = f"The Prefect server does not know the flow {name} of the site {self._settings.name}."
            raise MissingError(msg, kind=Kind.PATH_MISSING, remedy="Start the service: 'wsistore flows serve'.")
        return found

    def _night(self, night: Night, found: DeploymentResponse) -> NightRow:
        times = [one.schedule for one in found.schedules if isinstance(one.schedule, CronSchedule)]
        began = self._began([found.id], 1)
        return NightRow(
            flow=night.name,
            cron=", ".join(one.cron for one in times),
            time_zone=", ".join(sorted({one.timezone or "UTC" for one in times})),
            paused=found.paused,
            next=self._next(found.id),
            last=self._row(night.name, began[0]) if began else None,
        )

    def _next(self, deployment: UUID) -> str | None:
        runs = self._client.read_flow_runs(
            deployment_filter=_of([deployment]),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=1,
        )
        return _moment(runs[0].expected_start_time) if runs else None

    def _began(self, deployments: list[UUID], limit: int) -> list[FlowRun]:
        found: list[FlowRun] = []
        while deployments and len(found) < limit:
            size = min(_MOST, limit - len(found))
            page = self._client.read_flow_runs(
                deployment_filter=_of(deployments),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(not_any_=[StateType.SCHEDULED]))
                ),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=size,
                offset=len(found),
            )
            found += page
            if len(page) < size:
                break
        return found

    def _row(self, name: str, run: FlowRun) -> RunRow:
        state = run.state
        is_final = state is not None and state.is_final()
        seconds = run.total_run_time if is_final else run.estimated_run_time
        return RunRow(
            flow=name,
            run=run.name,
            id=str(run.id),
            state=(state.name or "") if state is not None else "",
            ended_well=state.is_completed() if is_final and state is not None else None,
            due=_moment(run.expected_start_time),
            began=_moment(run.start_time),
            seconds=round((seconds or timedelta()).total_seconds(), 1),
            message=(state.message or "") if state is not None else "",
            url=f"{self.ui_url}/runs/flow-run/{run.id}",
        )


@contextmanager
def watch(folder: Path | None = None, *, clock: Clock | None = None) -> Iterator[Watch]:
    """Yield a site's flows.

    Raises
    ------
    SiteError
        If there is no site, or its settings are wrong.
    WorkersError
        If the site's Prefect server does not answer.

    """
    settings = load(find_site(folder, os.environ))
    address = noted(settings.folder)
    api_url = settings.flows.api_url or (address.api_url if address else "")
    if not api_url:
        raise _not_served(settings, "")
    os.environ.update(client_environment(settings.folder, api_url))
    try:
        with SyncPrefectClient(api_url, auth_string=os.environ.get("PREFECT_API_AUTH_STRING")) as client:
            yield Watch(settings, client, api_url, clock or SystemClock())
    except httpx.TransportError as error:
        raise _not_served(settings, api_url) from error
    except (httpx.HTTPError, PrefectException) as error:
        msg = f"Prefect's server at {api_url} does not do what it was asked ({error})."
        raise WorkersError(msg, kind=Kind.CLUSTER_UNREACHABLE, remedy="Look at its log, and try again.") from error


def _not_served(settings: Settings, api_url: str) -> WorkersError:
    where = f": {api_url} does not answer" if api_url else ""
    msg = f"The flows of the site {settings.name} are not served{where}."
    remedy = "Start the service: 'wsistore flows serve'."
    return WorkersError(msg, kind=Kind.CLUSTER_UNREACHABLE, remedy=remedy)


def _of(deployments: Sequence[UUID]) -> DeploymentFilter:
    return DeploymentFilter(id=DeploymentFilterId(any_=list(deployments)))


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)


def _full_name(night: Night, settings: Settings) -> str:
    return f"{night.flow_name}/{night.deployment_name(settings.name)}"


def _detail(error: httpx.HTTPStatusError) -> str:
    try:
        return str(error.response.json().get("detail", error))
    except ValueError:
        return str(error)
