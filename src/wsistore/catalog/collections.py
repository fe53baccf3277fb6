"""Collections and tags: names that people give to slides, with who and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select

from wsistore.catalog import events, schema, schema_clinical, slides
from wsistore.catalog.records import SourceState
from wsistore.catalog.session import Session
from wsistore.events import EventKind, NewEvent
from wsistore.model import LabelKind

_L, _V = schema_clinical.labels, schema.sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One slide's collection or tag."""

    kind: LabelKind
    name: str
    slide: str
    actor: str
    at: str


class Collecting(Session):
    """Collections and tags of slides."""

    def add_label(self, kind: LabelKind, name: str, chosen: Iterable[str], actor: str) -> list[str]:
        """Give slides a collection or a tag, all or nothing; return those that did not have it.

        Raises
        ------
        MissingError
            If there is no such slide.

        """
        new = []
        with self._database.write() as connection:
            for slide in dict.fromkeys(chosen):
                slides.one(connection, slide)
                mine = (_L.c.kind == str(kind)) & (_L.c.name == name) & (_L.c.slide == slide)
                if connection.execute(select(_L.c.slide).where(mine)).first() is not None:
                    continue
                values = {"kind": str(kind), "name": name, "slide": slide, "actor": actor, "at": self._now()}
                connection.execute(_L.insert(), values)
                event = NewEvent(EventKind.LABELLED, actor, {str(kind): name})
                events.append(connection, slide, event, self._clock.now())
                new.append(slide)
        return new

    def remove_label(self, kind: LabelKind, name: str, chosen: Iterable[str] | None, actor: str) -> list[str]:
        """Take a collection or a tag from slides, or from all that have it; return those that had it."""
        gone = []
        with self._database.write() as connection:
            named = (_L.c.kind == str(kind)) & (_L.c.name == name)
            having = list(connection.scalars(select(_L.c.slide).where(named).order_by(_L.c.slide)))
            wanted = set(having if chosen is None else chosen)
            for slide in (slide for slide in having if slide in wanted):
                connection.execute(delete(_L).where(named, _L.c.slide == slide))
                event = NewEvent(EventKind.UNLABELLED, actor, {str(kind): name})
                events.append(connection, slide, event, self._clock.now())
                gone.append(slide)
        return gone

    def labels(self, kind: LabelKind, name: str | None = None) -> list[Label]:
        """Return which slides that are there have a collection or a tag, or any; by name and slide."""
        query = (
            select(_L)
            .join(_V, _V.c.slide == _L.c.slide)
            .where(_L.c.kind == str(kind), _V.c.state == str(SourceState.CURRENT))
            .order_by(_L.c.name, _L.c.slide)
        )
        with self._database.read() as connection:
            rows = connection.execute(query if name is None else query.where(_L.c.name == name))
            return [Label(**{**row._mapping, "kind": kind}) for row in rows]

    def label_counts(self, kind: LabelKind) -> Sequence[tuple[str, int, str]]:
        """Return the names that are in use, with how many slides have each, and when the last got it."""
        query = (
            select(_L.c.name, func.count().label("slides"), func.max(_L.c.at).label("last"))
            .join(_V, _V.c.slide == _L.c.slide)
            .where(_L.c.kind == str(kind), _V.c.state == str(SourceState.CURRENT))
            .group_by(_L.c.name)
            .order_by(_L.c.name)
        )
        with self._database.read() as connection:
            return [(row.name, row.slides, row.last) for row in connection.execute(query)]
