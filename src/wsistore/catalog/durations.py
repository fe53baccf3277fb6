"""How long the site's latest copies took, as their attempts tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from wsistore.catalog import schema
from wsistore.catalog.records import AttemptKind, AttemptState
from wsistore.catalog.reencodes import FIGURES
from wsistore.catalog.session import Session

LOOKED_AT = 1000
"""Of the latest copies: they say how fast the site is these days."""
_KINDS = (str(AttemptKind.MOVE), str(AttemptKind.REENCODE))


@dataclass(frozen=True, slots=True)
class CopyDuration:
    """How one copy was made."""

    tier: str
    """Where it went."""
    preset: str
    bytes_read: int
    """Size of the copy that it was made of."""
    bytes_stored: int
    seconds: float
    cpu_seconds: float
    """Of all workers that encoded it; 0 if its objects were copied as they were."""
    resumed: bool
    """Whether a part of it had been made by an earlier run: its seconds are then too few."""


def copy_durations(catalog: Session) -> list[CopyDuration]:
    """Return how long the latest copies and re-encodings took, the latest first.

    Raises
    ------
    SiteError, ConflictError
        As every method of `wsistore.catalog.Catalog`.

    """
    table = schema.attempts
    query = (
        select(table.c.tier, table.c.job)
        .where(table.c.state == str(AttemptState.COMMITTED), table.c.kind.in_(_KINDS))
        .order_by(table.c.started_at.desc(), table.c.attempt)
        .limit(LOOKED_AT)
    )
    with catalog._database.read() as connection:
        found = [_duration(tier, job) for tier, job in connection.execute(query)]
    return [one for one in found if one is not None]


def _duration(tier: str, job: Mapping[str, Any]) -> CopyDuration | None:
    """Return what an attempt tells; None where it does not (a copy that was adopted has no figures)."""
    try:
        told = job[FIGURES]
        return CopyDuration(
            tier=tier,
            preset=str(job["preset"]),
            bytes_read=int(told["bytes_before"]),
            bytes_stored=int(told["bytes_after"]),
            seconds=float(told["seconds"]),
            cpu_seconds=float(told["cpu_seconds"]),
            resumed=bool(told["shards_resumed"]),
        )
    except (ValueError, TypeError, KeyError):
        return None
