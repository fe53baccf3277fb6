"""The catalogue's part that parts slides from their patients for good: each method is one transaction.

What the catalogue says of whose a slide is goes in the transaction that begins it; the keys of the companions are
destroyed then, and a last event says so. What stays is what it shows: stain, organ, diagnoses, sizes, content hashes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, select, text, update
from sqlalchemy.orm import aliased

from wsistore.catalog import events, schema, slides
from wsistore.catalog.detached import KEPT
from wsistore.catalog.ending_checks import check_free, check_seen
from wsistore.catalog.records import CopyRow, SlideRow
from wsistore.catalog.schema_clinical import accesses
from wsistore.catalog.schema_ending import DETACHING
from wsistore.catalog.session import Session
from wsistore.events import EventKind, NewEvent

_E, _K, _S, _V = schema.events, schema.cases, schema.slides, schema.sources


class Detaching(Session):
    """Slides that are parted from their patients."""

    def begin_detaching(self, slide: str, seen: Collection[CopyRow], event: NewEvent) -> None:
        """Forget whose a slide is, if that may be and its copies are still as they were `seen`; append `event`.

        Parameters
        ----------
        slide
            Its key.
        seen
            All copies of which anything lies on a tier, those of older versions among them.
        event
            With the authorisation; `EventKind.IDENTITY_DETACHING`.

        Raises
        ------
        MissingError
            If there is no such slide.
        ConflictError
            If it is on hold (`Kind.HELD`), is being worked on or recalled, or its copies changed.

        """
        with self._database.write() as connection:
            row = slides.one(connection, slide)
            check_free(connection, slide, "parted from its patient")
            check_seen(connection, slide, seen)
            events.append(connection, slide, event, self._clock.now())
            _forget_patient(connection, row)

    def detachments(self) -> list[str]:
        """Return the slides that are being parted from their patients: whose keys may not all be destroyed yet."""
        later = aliased(_E)
        ended = select(later.c.number).where(
            later.c.slide == _E.c.slide,
            later.c.number > _E.c.number,
            later.c.kind == str(EventKind.IDENTITY_DETACHED),
        )
        query = select(_E.c.slide).where(text(f"events.{DETACHING.text}"), ~ended.exists())
        with self._database.read() as connection:
            return sorted({str(slide) for slide in connection.scalars(query)})


def _forget_patient(connection: Connection, row: SlideRow) -> None:
    """Forget a slide's name, case, patient and file names; what its case says of the tissue stays with the slide."""
    case = connection.scalar(select(_S.c.case_key).where(_S.c.slide == row.slide))
    kept = {name: row.metadata[name] for name in KEPT if row.metadata.get(name)}
    if case is not None:
        found = connection.execute(select(_K.c.organ, _K.c.diagnoses).where(_K.c.case_key == case)).first()
        if found is not None:
            kept |= {"organ": found.organ} if found.organ else {}
            kept |= {"diagnoses": " ".join(found.diagnoses)} if found.diagnoses else {}
    values: dict[str, Any] = {"name": row.slide, "series": None, "case_key": None, "metadata": kept}
    connection.execute(update(_S).where(_S.c.slide == row.slide).values(values))
    for version in connection.execute(select(_V.c.n, _V.c.files).where(_V.c.slide == row.slide)).all():
        files = [{**file, "name": f"file-{number}"} for number, file in enumerate(version.files, 1)]
        which = (_V.c.slide == row.slide) & (_V.c.n == version.n)
        connection.execute(update(_V).where(which).values(files=files, path="", record={}))
    connection.execute(accesses.delete().where(accesses.c.subject == "slide", accesses.c.key == row.slide))
    if case is not None:
        slides.settle_case(connection, case)
