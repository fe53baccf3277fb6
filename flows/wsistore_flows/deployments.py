"""The hospital's nights as one table: which flow, when, how often at once; and what Prefect is told of it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Schedule
from prefect.types.entrypoint import EntrypointType

from wsistore.settings import Settings

UTC_NAME = "Etc/UTC"
ALL_TAG = "wsistore"
GRACE_SECONDS = 180
"""For how long a run holds its place while its process starts: 10 seconds, on a busy machine minutes."""
SLUG = "site"
"""Of the one schedule of each deployment, so that Prefect knows it again when its time changes."""


@dataclass(frozen=True, slots=True)
class Night:
    """One row of the table: a flow that begins by itself."""

    name: str
    """In ``[flows.NAME]`` of ``wsistore.toml`` and on the command line."""
    entrypoint: str
    """Module and function of the flow."""
    cron: str
    """When it begins, in the site's time zone.

    What runs once a day does so outside 22:30 to 04:00: in these hours clocks are changed somewhere, and a time that
    there is not, or twice, would be a night without the flow, or with two."""
    tags: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ""
    """Of the deployment's name, where a flow has two."""
    goes_on: bool = True
    """Whether a run that was interrupted is begun again at once; False where the schedule does that within minutes."""

    @property
    def flow_name(self) -> str:
        """Prefect's name of the flow."""
        return self.name.removesuffix(self.suffix)

    def deployment_name(self, site: str) -> str:
        """Return the name of its deployment for a site."""
        return site + self.suffix


NIGHTS = (
    Night("ingest", "wsistore_flows.ingest.ingest", "*/5 * * * *", ("day", "night"), goes_on=False),
    Night("recall", "wsistore_flows.recall.recall", "*/10 * * * *", ("day", "night"), goes_on=False),
    Night("expire", "wsistore_flows.expire.expire", "30 19 * * *", ("night",)),
    Night("lifecycle", "wsistore_flows.lifecycle.lifecycle", "5 20 * * *", ("night",)),
    Night(
        "lifecycle-apply",
        "wsistore_flows.lifecycle.lifecycle",
        "*/15 20-23,0-5 * * *",
        ("night",),
        parameters={"plan": False},
        suffix="-apply",
        goes_on=False,
    ),
    Night("re-encode", "wsistore_flows.reencode.reencode", "45 21 * * *", ("night",), parameters={"hours": 7}),
    Night("scrub", "wsistore_flows.scrub.scrub", "15 4 * * *", ("night",)),
    Night("catalog-backup", "wsistore_flows.backup.backup", "20 6 * * *", ("night",)),
    Night("report", "wsistore_flows.report.report", "40 6 2 * *", ("month",)),
)
"""All that runs by itself. Room is made before the night's moves, and the catalogue is copied after them."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A row of the table with what a site decides of it."""

    night: Night
    flow: Flow[Any, Any]
    name: str
    """Of the deployment."""
    cron: str
    zone: str
    paused: bool
    """As the settings say."""
    timeout: timedelta | None
    """After which a run is ended, whatever it does."""
    parameters: Mapping[str, Any]

    @property
    def full_name(self) -> str:
        """Flow and deployment, as Prefect joins them."""
        return f"{self.flow.name}/{self.name}"

    @property
    def tags(self) -> list[str]:
        """How it is found in Prefect's lists."""
        return [ALL_TAG, *self.night.tags]

    async def for_prefect(self, *, paused: bool) -> RunnerDeployment:
        """Return it as Prefect's runner takes it: never two at once, a second one is cancelled with that reason.

        Parameters
        ----------
        paused
            Whether it does not begin by itself.

        """
        one = ConcurrencyLimitConfig(
            limit=1,
            collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW,
            grace_period_seconds=GRACE_SECONDS,
        )
        made = await self.flow.ato_deployment(
            self.name,
            schedules=[Schedule(cron=self.cron, timezone=self.zone, slug=SLUG)],
            paused=paused,
            concurrency_limit=one,
            parameters=dict(self.parameters),
            tags=self.tags,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        # Said in so many words, that a deployment which a work pool had is told of its end there.
        made.work_pool_name = made.work_queue_name = None
        return made


def deployed(settings: Settings) -> list[Deployed]:
    """Return all that runs by itself in a site."""
    return [_deployed(night, settings) for night in NIGHTS]


def night_of(name: str) -> Night | None:
    """Return the row called `name`."""
    return next((night for night in NIGHTS if night.name == name), None)


def flow_of(night: Night) -> Flow[Any, Any]:
    """Return the flow of a row."""
    module, _, name = night.entrypoint.rpartition(".")
    found: Flow[Any, Any] = getattr(importlib.import_module(module), name)
    return found


def _deployed(night: Night, settings: Settings) -> Deployed:
    said = settings.flows.flow(night.name)
    return Deployed(
        night=night,
        flow=flow_of(night),
        name=night.deployment_name(settings.name),
        cron=said.cron or night.cron,
        zone=settings.flows.time_zone or UTC_NAME,
        paused=said.paused,
        timeout=said.timeout,
        parameters={**night.parameters, **said.parameters, "site": str(settings.folder)},
    )
