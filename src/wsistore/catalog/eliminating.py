"""The catalogue's part that lets whole slides go for good: each method is one transaction.

::

    current ──begin_elimination──> deleting ──(copy by copy: commit, then objects)──finish_elimination──> deleted

No proof is asked for, as it is where one copy of several is dropped: nothing is to remain. What has to be so is asked
in the transaction that begins it, and nothing takes that back: from there on the slide is shown to nobody, its content
may be ingested again (as another slide), and every recovery goes on until nothing of it lies on any tier.

The slide's rows stay as the mark that it was deleted: without its name, its metadata, its case and the names of its
files. The ledgers tell the tiers of it, so a catalogue that is made anew from them knows it, too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, delete, or_, select, update

from wsistore.catalog import events, schema, slides
from wsistore.catalog.detaching import Detaching
from wsistore.catalog.ending_checks import check_free, check_holds, check_seen
from wsistore.catalog.records import AttemptState, CopyRow, SourceState
from wsistore.catalog.rows import copy_row
from wsistore.catalog.schema_clinical import accesses, labels
from wsistore.catalog.schema_ending import DELETING
from wsistore.errors import ConflictError, Kind, MissingError
from wsistore.events import NewEvent
from wsistore.model import CopyState

_A, _C, _P, _S, _V = schema.attempts, schema.copies, schema.pins, schema.slides, schema.sources
_DELETING = str(CopyState.DELETING)


class Eliminating(Detaching):
    """Slides that are deleted for good, and those that are parted from their patients."""

    def begin_elimination(self, slide: str, seen: Collection[CopyRow], event: NewEvent) -> None:
        """Let a slide go, if it may and its copies are still as they were `seen`; append `event`.

        Parameters
        ----------
        slide
            Its key.
        seen
            All copies of which anything lies on a tier, those of older versions among them.
        event
            With the authorisation.

        Raises
        ------
        MissingError
            If there is no such slide, or it is being deleted already.
        ConflictError
            If it is on hold (`Kind.HELD`), is being worked on or recalled, or its copies changed.

        """
        with self._database.write() as connection:
            slides.one(connection, slide)
            check_free(connection, slide, "deleted")
            check_seen(connection, slide, seen)
            events.append(connection, slide, event, self._clock.now())
            mine = select(_C.c.attempt).where(_C.c.slide == slide)
            connection.execute(delete(_P).where(or_(_P.c.dropping.in_(mine), _P.c.cited.in_(mine))))
            lying = (_C.c.slide == slide) & (_C.c.state != str(CopyState.DROPPED))
            connection.execute(update(_C).where(lying).values(state=_DELETING))
            connection.execute(update(_V).where(_V.c.slide == slide).values(state=str(SourceState.DELETING)))

    def eliminations(self) -> list[str]:
        """Return the slides that are being deleted for good."""
        query = select(_V.c.slide).where(DELETING).distinct().order_by(_V.c.slide)
        with self._database.read() as connection:
            return [str(slide) for slide in connection.scalars(query)]

    def doomed_copies(self, slide: str) -> list[CopyRow]:
        """Return the copies of a slide that are still to be deleted for good."""
        query = select(_C).where(_C.c.slide == slide, _C.c.state == _DELETING).order_by(_C.c.tier, _C.c.n)
        with self._database.read() as connection:
            return [copy_row(row) for row in connection.execute(query)]

    def is_doomed(self, attempt: str) -> bool:
        """Say whether a copy (named by its attempt) is still to be deleted for good: asked before it is.

        Raises
        ------
        ConflictError
            If its slide is on hold (`Kind.HELD`).

        """
        with self._database.write() as connection:
            row = connection.execute(select(_C).where(_C.c.attempt == attempt).with_for_update()).first()
            if row is None or row.state != _DELETING:
                return False
            check_holds(connection, row.slide, "deleted")
            return True

    def end_doomed_copy(self, attempt: str) -> None:
        """Note that a copy's objects are gone; may be repeated."""
        with self._database.write() as connection:
            which = (_C.c.attempt == attempt) & (_C.c.state == _DELETING)
            connection.execute(update(_C).where(which).values(state=str(CopyState.DROPPED)))

    def finish_elimination(self, slide: str, event: NewEvent) -> bool:
        """Note that nothing of a slide lies on any tier; forget what names it, and append `event`.

        Returns
        -------
        bool
            False if that was noted before.

        Raises
        ------
        ConflictError
            If something of it still lies somewhere.

        """
        with self._database.write() as connection:
            query = select(_V.c.n).where(_V.c.slide == slide, _V.c.state == str(SourceState.DELETING))
            if connection.execute(query).first() is None:
                return False
            _check_gone(connection, slide)
            events.append(connection, slide, event, self._clock.now())
            _forget(connection, slide)
        return True

    def deletion_of(self, slide: str) -> SourceState | None:
        """Return whether a slide is being deleted for good, or was; None if neither, or there never was one."""
        wanted = (SourceState.DELETING, SourceState.DELETED)
        query = select(_V.c.state).where(_V.c.slide == slide, _V.c.state.in_([str(state) for state in wanted]))
        with self._database.read() as connection:
            found = connection.scalar(query.limit(1))
        return None if found is None else SourceState(found)


def _check_gone(connection: Connection, slide: str) -> None:
    left = connection.execute(select(_C.c.tier).where(_C.c.slide == slide, _C.c.state == _DELETING)).first()
    if left is not None:
        msg = f"A copy of slide {slide} still lies in tier {left.tier}."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="'wsistore recover' goes on when the tier is there.")
    attempt = (_A.c.slide == slide) & (_A.c.state != str(AttemptState.COMMITTED))
    row = connection.execute(select(_A.c.attempt, _A.c.tier).where(attempt)).first()
    if row is not None:
        msg = f"What attempt {row.attempt} at slide {slide} wrote still lies in tier {row.tier}."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="'wsistore recover' goes on.")


def _forget(connection: Connection, slide: str) -> None:
    """Forget what names a slide, its files and its case."""
    row = connection.execute(select(_S).where(_S.c.slide == slide).with_for_update()).first()
    if row is None:
        msg = f"There is no slide {slide!r}."
        raise MissingError(msg, kind=Kind.SLIDE_MISSING)
    nameless: dict[str, Any] = {"name": "", "series": None, "case_key": None, "metadata": {}}
    connection.execute(update(_S).where(_S.c.slide == slide).values(nameless))
    gone: dict[str, Any] = {"state": str(SourceState.DELETED), "files": [], "path": "", "record": {}}
    connection.execute(update(_V).where(_V.c.slide == slide).values(gone))
    connection.execute(labels.delete().where(labels.c.slide == slide))
    connection.execute(accesses.delete().where(accesses.c.subject == "slide", accesses.c.key == slide))
    if row.case_key is not None:
        slides.settle_case(connection, row.case_key)
