"""What a scrub asks of the catalogue: copies by the time they wait to be read again, and all that a tier should hold.

Everything comes in pages, each a short transaction of its own: a scrub takes hours, and others write meanwhile. So what
is yielded may be out of date; who acts on it looks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, literal, select, tuple_

from wsistore.catalog import schema
from wsistore.catalog.records import CopyRow
from wsistore.catalog.rows import copy_row
from wsistore.catalog.session import Session
from wsistore.model import CopyState

_C = schema.copies
_COMMITTED, _SUSPECT, _DROPPED = str(CopyState.COMMITTED), str(CopyState.SUSPECT), str(CopyState.DROPPED)
_AGES, _PLACES, _COMMITS = 1000, 20, 1000
"""Rows per page; a copy's row has its whole commit, which may be a megabyte."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A copy of a slide's current version that is to be read again."""

    attempt: str
    slide: str
    verified_at: str
    """When it was last found good."""
    bytes_stored: int


@dataclass(frozen=True, slots=True)
class CommitRow:
    """A commit that lies in a tier, or did."""

    key: str
    size_bytes: int
    attempt: str
    slide: str
    version: int
    state: CopyState


@dataclass(frozen=True, slots=True)
class Twice:
    """Copies of one version of a slide in one tier; one of them is too many."""

    slide: str
    version: int
    attempts: tuple[str, ...]


def waiting_bytes(catalog: Session, tier: str) -> int:
    """Return the bytes of all copies that `waiting` yields."""
    with catalog._database.read() as connection:
        return int(connection.scalar(select(func.sum(_C.c.bytes_stored)).where(*_committed(tier))) or 0)


def waiting(catalog: Session, tier: str, until: str) -> Iterator[Waiting]:
    """Yield the committed copies of a tier, those first that were read longest ago.

    Parameters
    ----------
    catalog
        An open catalogue.
    tier
        Name.
    until
        Copies that were read after this moment (ISO 8601) are left out: they are done, or their clock was wrong.

    """
    last: tuple[str, str] | None = None
    while True:
        query = _waiting(tier).where(_C.c.state == _COMMITTED, _C.c.verified_at <= until)
        if last is not None:
            query = query.where(tuple_(_C.c.verified_at, _C.c.attempt) > tuple_(*map(literal, last)))
        with catalog._database.read() as connection:
            page = [Waiting(*row) for row in connection.execute(query.limit(_AGES))]
        yield from page
        if len(page) < _AGES:
            return
        last = page[-1].verified_at, page[-1].attempt


def urgent(catalog: Session, tier: str, until: str) -> list[Waiting]:
    """Return the copies of a tier that are suspect, and those that were verified after `until`, which nobody can know.

    Suspect ones come first.
    """
    query = _waiting(tier).where((_C.c.state == _SUSPECT) | ((_C.c.state == _COMMITTED) & (_C.c.verified_at > until)))
    with catalog._database.read() as connection:
        return [
            Waiting(*row) for row in connection.execute(query.order_by(None).order_by(_C.c.state.desc(), _C.c.slide))
        ]


def copies_by_place(catalog: Session, tier: str) -> Iterator[CopyRow]:
    """Yield all copies whose objects may lie in a tier, in the order of the keys of their objects."""
    last: tuple[str, str] | None = None
    while True:
        query = select(_C).where(_C.c.tier == tier, _C.c.state != _DROPPED).order_by(_C.c.slide, _C.c.attempt)
        if last is not None:
            query = query.where(tuple_(_C.c.slide, _C.c.attempt) > tuple_(*map(literal, last)))
        with catalog._database.read() as connection:
            page = [copy_row(row) for row in connection.execute(query.limit(_PLACES))]
        yield from page
        if len(page) < _PLACES:
            return
        last = page[-1].slide, page[-1].attempt


def commits_by_key(catalog: Session, tier: str) -> Iterator[CommitRow]:
    """Yield the commits that may lie in a tier, in the order of their keys."""
    last = ""
    while True:
        query = _commits(tier).where(_C.c.state != _DROPPED, _C.c.commit_key > last).order_by(_C.c.commit_key)
        with catalog._database.read() as connection:
            page = [_commit_row(row) for row in connection.execute(query.limit(_COMMITS))]
        yield from page
        if len(page) < _COMMITS:
            return
        last = page[-1].key


def commits_under(catalog: Session, tier: str, key: str) -> list[CommitRow]:
    """Return what the catalogue ever knew of a commit; those of dropped copies too."""
    with catalog._database.read() as connection:
        return [_commit_row(row) for row in connection.execute(_commits(tier).where(_C.c.commit_key == key))]


def has_copy(catalog: Session, tier: str, slide: str, version: int) -> bool:
    """Say whether a version of a slide has a copy in a tier."""
    query = select(_C.c.attempt).where(
        _C.c.tier == tier, _C.c.slide == slide, _C.c.version == version, _C.c.state != _DROPPED
    )
    with catalog._database.read() as connection:
        return connection.execute(query.limit(1)).first() is not None


def twice(catalog: Session, tier: str) -> list[Twice]:
    """Return the slides that have several good copies of one version in a tier."""
    where = (_C.c.tier == tier, _C.c.state.in_((_COMMITTED, str(CopyState.SUPERSEDED))))
    query = select(_C.c.slide, _C.c.version).where(*where).group_by(_C.c.slide, _C.c.version)
    found = []
    with catalog._database.read() as connection:
        for slide, version in connection.execute(query.having(func.count() > 1).order_by(_C.c.slide)).all():
            mine = select(_C.c.attempt).where(*where, _C.c.slide == slide, _C.c.version == version)
            found.append(Twice(slide, version, tuple(connection.scalars(mine.order_by(_C.c.n)))))
    return found


def _committed(tier: str) -> tuple[Any, ...]:
    return _C.c.tier == tier, _C.c.state == _COMMITTED


def _waiting(tier: str) -> Select[Any]:
    columns = (_C.c.attempt, _C.c.slide, _C.c.verified_at, _C.c.bytes_stored)
    return select(*columns).where(_C.c.tier == tier).order_by(_C.c.verified_at, _C.c.attempt)


def _commits(tier: str) -> Select[Any]:
    # A commit is ASCII, so its characters are its bytes.
    size = func.length(_C.c.commit_body)
    columns = (_C.c.commit_key, size, _C.c.attempt, _C.c.slide, _C.c.version, _C.c.state)
    return select(*columns).where(_C.c.tier == tier)


def _commit_row(row: Any) -> CommitRow:
    key, size, attempt, slide, version, state = row
    return CommitRow(key, size, attempt, slide, version, CopyState(state))
