"""Copies in archive classes, and copies that are there for a time: functions over an open catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from wsistore.catalog import events, schema
from wsistore.catalog.records import CopyRow
from wsistore.catalog.rows import copy_row
from wsistore.catalog.session import Session
from wsistore.events import NewEvent
from wsistore.model import CopyState, Evidence

_C = schema.copies
_STANDING = (str(CopyState.COMMITTED), str(CopyState.SUSPECT))


def unfrozen(catalog: Session, tiers: Sequence[str]) -> list[CopyRow]:
    """Return the good copies of tiers that were read back where they lie and are not in an archive class."""
    query = select(_C).where(
        _C.c.tier.in_(list(tiers)), _C.c.state == str(CopyState.COMMITTED), _C.c.evidence == str(Evidence.READ_BACK)
    )
    with catalog._database.read() as connection:
        return [copy_row(row) for row in connection.execute(query.order_by(_C.c.slide, _C.c.n))]


def frozen(catalog: Session, tier: str, before: str) -> list[CopyRow]:
    """Return the archived copies of a tier that it was last asked about, or that were read back, before a moment."""
    query = select(_C).where(
        _C.c.tier == tier, _C.c.state == str(CopyState.COMMITTED), _C.c.evidence == str(Evidence.ATTESTED)
    )
    with catalog._database.read() as connection:
        found = [copy_row(row) for row in connection.execute(query.order_by(_C.c.seen_at, _C.c.slide))]
    return [copy for copy in found if max(copy.verified_at, copy.seen_at or "") < before]


def set_frozen(catalog: Session, copy: str, at: str, event: NewEvent) -> None:
    """Note that all objects of a copy (named by its attempt) are archived; append `event`. May be repeated."""
    with catalog._database.write() as connection:
        row = _one(connection, copy)
        if row is None or row.evidence is Evidence.ATTESTED:
            return
        values = {"evidence": str(Evidence.ATTESTED), "seen_at": at}
        connection.execute(update(_C).where(_C.c.attempt == copy).values(values))
        events.append(connection, row.slide, event, catalog._clock.now())


def set_seen(catalog: Session, copy: str, at: str) -> None:
    """Note when a tier was asked about an archived copy and said that it is as it was."""
    with catalog._database.write() as connection:
        connection.execute(update(_C).where(_C.c.attempt == copy).values(seen_at=at))


def expired(catalog: Session, now: str) -> list[CopyRow]:
    """Return the temporary copies whose time is over."""
    query = select(_C).where(_C.c.expires_at.is_not(None), _C.c.expires_at <= now, _C.c.state.in_(_STANDING))
    with catalog._database.read() as connection:
        return [copy_row(row) for row in connection.execute(query.order_by(_C.c.expires_at, _C.c.slide))]


def set_expiry(catalog: Session, copy: str, expires_at: str | None, event: NewEvent) -> bool:
    """Let a temporary copy stay until a later moment, or for good (None); append `event`.

    Returns
    -------
    bool
        False, and nothing is noted, if it stays as long already, or is being dropped.

    """
    with catalog._database.write() as connection:
        row = _one(connection, copy)
        if row is None or row.state not in (CopyState.COMMITTED, CopyState.SUSPECT) or row.expires_at is None:
            return False
        if expires_at is not None and row.expires_at >= expires_at:
            return False
        connection.execute(update(_C).where(_C.c.attempt == copy).values(expires_at=expires_at))
        events.append(connection, row.slide, event, catalog._clock.now())
    return True


def _one(connection: Connection, copy: str) -> CopyRow | None:
    row = connection.execute(select(_C).where(_C.c.attempt == copy).with_for_update()).first()
    return None if row is None else copy_row(row)
