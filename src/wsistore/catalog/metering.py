"""What reports are metered from, a portion of slides at a time: chains of events, the copies there are, departments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select, union

from wsistore.catalog import schema
from wsistore.catalog.session import Session
from wsistore.model import CopyState

AT_ONCE = 20_000
"""Slides of one portion."""
_C, _E, _K, _S = schema.copies, schema.events, schema.cases, schema.slides
_NOT_THERE = (str(CopyState.DROPPED), str(CopyState.CLAIMED))
"""States of copies that take no room any more, or of which no event tells yet."""


Columns = Sequence[Sequence[Any]]
"""One sequence per column; none at all where there are no rows."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Some slides, by key; as columns, as tables want them."""

    events: Columns
    """``slide``, ``number``, ``at``, ``kind``, ``detail`` (text), by slide and number."""
    slides: Columns
    """``slide``, ``bytes_source``, ``department``."""
    copies: Columns
    """Those that take room: ``slide``, ``tier``, ``commit_key``, ``preset``, ``bytes_stored``, ``objects``,
    ``attempt``, ``state``, ``commit_bytes``, ``since``."""


def part_bounds(catalog: Session, slides: int) -> list[str]:
    """Return keys that part all slides that ever were into runs of so many; the last run has no bound.

    Raises
    ------
    SiteError, ConflictError
        As every method of `wsistore.catalog.Catalog`.

    """
    every = union(select(_E.c.slide), select(_S.c.slide)).subquery()
    numbered = select(every.c.slide, func.row_number().over(order_by=every.c.slide).label("place")).subquery()
    query = select(numbered.c.slide).where(numbered.c.place % slides == 0).order_by(numbered.c.slide)
    with catalog._database.read() as connection:
        bounds = list(connection.scalars(query))
        last = connection.scalar(select(func.max(every.c.slide)))
    return bounds[:-1] if bounds and bounds[-1] == last else bounds


def read_chains(
    catalog: Session, *, at_once: int = AT_ONCE, after: str = "", until: str | None = None
) -> Iterator[Portion]:
    """Yield slides that ever were, by key, above `after` up to `until`; all of it was so at one moment.

    Raises
    ------
    SiteError, ConflictError
        As every method of `wsistore.catalog.Catalog`.

    """
    every = union(select(_E.c.slide), select(_S.c.slide)).subquery()
    with catalog._database.read() as connection:
        while True:
            query = select(every.c.slide).where(every.c.slide > after).order_by(every.c.slide).limit(at_once)
            if until is not None:
                query = query.where(every.c.slide <= until)
            keys = list(connection.scalars(query))
            if not keys:
                return
            yield _portion(connection, keys[0], keys[-1])
            after = keys[-1]


def _portion(connection: Connection, first: str, last: str) -> Portion:
    def of(query: Select[Any], table: Any) -> Columns:
        result = connection.execute(query.where(table.c.slide.between(first, last)))
        # The driver's own tuples: all columns are texts and numbers, for which SQLAlchemy's rows only take time.
        return list(zip(*result.cursor.fetchall(), strict=True))

    events = select(_E.c.slide, _E.c.number, _E.c.at, _E.c.kind, _E.c.detail).order_by(_E.c.slide, _E.c.number)
    slides = (
        select(_S.c.slide, _S.c.bytes_source, _K.c.department)
        .join(_K, _K.c.case_key == _S.c.case_key, isouter=True)
        .order_by(_S.c.slide)
    )
    copies = (
        select(
            _C.c.slide,
            _C.c.tier,
            _C.c.commit_key,
            _C.c.preset,
            _C.c.bytes_stored,
            _C.c.objects,
            _C.c.attempt,
            _C.c.state,
            func.length(_C.c.commit_body).label("commit_bytes"),
            func.coalesce(_C.c.created_at, _C.c.verified_at).label("since"),
        )
        .where(_C.c.state.not_in(_NOT_THERE))
        .order_by(_C.c.slide, _C.c.tier, _C.c.commit_key)
    )
    return Portion(of(events, _E), of(slides, _S), of(copies, _C))
