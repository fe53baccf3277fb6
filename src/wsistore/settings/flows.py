"""How the site's nights go: the table ``[flows]`` of its settings, and ``[flows.NAME]`` for each flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

FLOW_NAMES = (
    "ingest",
    "lifecycle",
    "lifecycle-apply",
    "re-encode",
    "recall",
    "scrub",
    "report",
    "catalog-backup",
    "expire",
)
"""What may stand after ``[flows.``: every flow, and what applies in between what people approve (`lifecycle-apply`)."""


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """What a site decides of one flow."""

    cron: str = ""
    """When it begins, as cron writes it, in the site's time zone; nothing: as it is delivered."""
    paused: bool = False
    """Whether it does not begin by itself."""
    timeout: timedelta | None = None
    """After which a run is ended, whatever it does; nothing: as it is delivered."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of its runs, by name; no identities, for Prefect shows them."""


@dataclass(frozen=True, slots=True)
class MailSettings:
    """Who is written to when somebody is needed."""

    to: tuple[str, ...]
    sender: str
    server: str = "localhost"
    port: int = 25
    tls: str = "none"
    """``none``, ``starttls`` or ``tls``."""
    login_file: str = ""
    """Absolute path of a file of two lines, a user and a password, that nobody else can read; nothing: no login."""


@dataclass(frozen=True, slots=True)
class FlowsSettings:
    """What a site decides of its nights."""

    time_zone: str = ""
    """Of the schedules, as ``Europe/Paris``; nothing: UTC."""
    api_url: str = ""
    """Of a Prefect server that is there already; nothing: one of the site's own."""
    scheduler: str = ""
    """Address of a Dask scheduler; nothing: workers are started where a flow runs, when they are needed."""
    workers: int = 0
    """How many are started then; 0: one per processor, fewer where memory does not suffice for that."""
    retry_seconds: tuple[int, ...] = (60, 300, 900)
    """Pauses after which what fails in passing is tried again within a run, beside the retries of single requests. A
    quarter of an hour outlasts a server's restart; what lasts longer is for the next run, and for people."""
    webhook: str = ""
    """Where notices are posted as JSON; nothing: nowhere."""
    webhook_file: str = ""
    """Absolute path of a file that holds this address, where it is a secret."""
    mail: MailSettings | None = None
    """Who gets notices as mail; None: nobody."""
    flows: Mapping[str, FlowSettings] = field(default_factory=dict)
    """By name; only those that the file tells of."""

    def flow(self, name: str) -> FlowSettings:
        """Return what the site decides of a flow."""
        return self.flows.get(name, FlowSettings())
