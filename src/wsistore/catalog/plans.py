"""Plans as the catalogue knows them: what was made, approved and applied, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class PlanState(StrEnum):
    """How far a plan is."""

    MADE = "made"
    APPLYING = "applying"
    """It was begun; what was interrupted goes on."""
    APPLIED = "applied"
    """It was applied: no plan is applied twice."""
    SUPERSEDED = "superseded"
    """Another plan was applied since it was made, or it was given up."""


class RowState(StrEnum):
    """How far a row of a plan is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    """It was not done, for a reason that lies in the slide or in the rules: nothing was changed."""
    FAILED = "failed"
    """It was tried."""


ENDED = frozenset({RowState.DONE, RowState.REFUSED, RowState.FAILED})
"""States that a row does not leave by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """A plan that was just made."""

    digest: str
    """SHA-256 of the plan's file, in hexadecimal digits."""
    made_at: datetime
    expires_at: datetime
    author: str
    """Who made it: the operating system's account (`wsistore.ops.site.account`), which may not approve it."""
    header: Mapping[str, Any]
    """What the file says of itself, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """A plan that the catalogue knows."""

    digest: str
    author: str
    made_at: str
    expires_at: str
    header: Mapping[str, Any]
    noted_at: str
    state: PlanState
    actor: str = ""
    """Who began to apply it."""
    begun_at: str | None = None
    ended_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRow:
    """An approval as it was given; whether it counts is another question."""

    plan: str
    person: str
    """As the roster names them."""
    at: str
    statement: str
    """What was signed, to the byte."""
    signer: str
    """The id of the key that signed, or the issuer of the token."""
    proof: str
    """The signature in hexadecimal digits, or the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisaRow:
    """A visa as it was recorded; whether it counts is another question."""

    plan: str
    role: str
    """Whose visa it is."""
    person: str
    """Who recorded it, as the roster names them."""
    at: str
    statement: str
    signer: str
    proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterRow:
    """One entry of the roster's log."""

    number: int
    at: str
    statement: str
    signer: str
    signature: str
    countersigner: str = ""
    countersignature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideStep:
    """A row of a plan that is being applied."""

    plan: str
    slide: str
    number: int
    """Its place in the order, from 0."""
    action: str
    state: RowState
    reason: str = ""
    owner: str = ""
    """The process that is at it, as `wsistore.catalog.owner` names processes."""
    lease_until: str | None = None
    begun_at: str | None = None
    ended_at: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What became of it, for the receipt; JSON, and no identities."""
