"""The catalogue as the operations see it: each method is one transaction."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from wsistore.catalog import attempts, events, slides, tiers
from wsistore.catalog.attempting import Attempting
from wsistore.catalog.clinical import Clinical
from wsistore.catalog.copying import Copying
from wsistore.catalog.dropping import Dropping
from wsistore.catalog.eliminating import Eliminating
from wsistore.catalog.intake import Intaking
from wsistore.catalog.ledgering import Ledgering
from wsistore.catalog.plans_applied import AppliedPlans
from wsistore.catalog.plans_noted import NotedPlans
from wsistore.catalog.records import CopyRow, SlideRow, SourceRow, TierRecord
from wsistore.clock import iso
from wsistore.errors import Kind, MissingError
from wsistore.events import Event, EventKind, NewEvent
from wsistore.model import CopyState

_SAID = re.compile(r"patient_id|metadata", re.IGNORECASE)
"""Columns that a condition cannot ask without the keys that open identities: what is unknown would look like nothing.

A condition has no way to name a column but by its letters."""


class Catalog(Attempting, Clinical, Copying, Dropping, Eliminating, Intaking, Ledgering, NotedPlans, AppliedPlans):
    """What is where and what is in flight.

    May be used from several threads, and by several processes that each open it. Every method raises `SiteError` where
    the database fails and `ConflictError` (`Kind.BUSY`) where it stays locked; those that write raise `SiteError`
    (`Kind.SITE_READ_ONLY`) where it was opened for reading. Moments that go in are timezone-aware, those that come out
    are ISO 8601 texts in UTC.

    Parameters
    ----------
    database
        See `Catalog.open`.
    clock
        Where the time comes from.

    """

    # --- slides

    def find_current(self, fingerprint: str) -> SlideRow | None:
        """Return the slide whose current version has this content."""
        with self._database.read() as connection:
            return slides.find_current(connection, fingerprint)

    def has_source_of_size(self, size_bytes: int) -> bool:
        """Say whether a current source has this size: only then can it have the same content."""
        with self._database.read() as connection:
            return slides.has_source_of_size(connection, size_bytes)

    def current_of_series(self, series: str) -> list[tuple[SlideRow, SourceRow]]:
        """Return the slides of a series (DICOM), each with its current version."""
        with self._database.read() as connection:
            return slides.current_of_series(connection, series)

    def slides(self, where: str | None = None) -> list[SlideRow]:
        """Return the slides that are there, oldest first; with `where`, those for which the SQL condition is true.

        Raises
        ------
        InputError
            If the condition is wrong or does more than is allowed (`Kind.CONDITION_INVALID`).

        """
        if where is None:
            with self._database.read() as connection:
                return slides.every(connection)
        from wsistore.catalog import conditions

        condition = conditions.parse(where)
        with self._database.read() as connection:
            if _SAID.search(where):
                slides.is_readable(connection)
            found = slides.every(connection)
            table = conditions.slide_table(connection, found)
        chosen = condition.select(table, self._clock.now())
        return [row for row in found if row.slide in chosen]

    def slide(self, slide: str) -> SlideRow:
        """Return the slide with this key; `MissingError` if there is none."""
        with self._database.read() as connection:
            return slides.one(connection, slide)

    def resolve(self, text: str) -> str:
        """Return the key of the slide meant by a key, a unique beginning of one (4 characters or more), or a name.

        Raises
        ------
        MissingError
            `Kind.SLIDE_MISSING`, or `Kind.SLIDE_AMBIGUOUS` naming the candidates.

        """
        with self._database.read() as connection:
            return slides.resolve(connection, text)

    def source(self, slide: str, version: int | None = None) -> SourceRow:
        """Return a version of a slide's source, the current one by default; `MissingError` if there is none."""
        with self._database.read() as connection:
            return slides.source(connection, slide, version)

    def copies(self, slide: str, *, with_past: bool = False) -> list[CopyRow]:
        """Return a slide's committed copies, newest version first, then those of older versions (superseded).

        With `with_past` also those that are being dropped, and those that were.
        """
        with self._database.read() as connection:
            return slides.copies(connection, slide, with_past=with_past)

    def current_copies(self) -> dict[str, list[CopyRow]]:
        """Return the committed copies of the current versions of all slides, by slide."""
        with self._database.read() as connection:
            return slides.current_copies(connection)

    def last_number(self, slide: str, tier: str) -> int:
        """Return the highest number of the commits that a slide ever had in a tier, as far as is known; 0 for none."""
        with self._database.read() as connection:
            return slides.last_number(connection, slide, tier)

    def put_metadata(self, changes: Mapping[str, Mapping[str, str]], event: NewEvent | None = None) -> Sequence[str]:
        """Set what the site says of slides (key to values), all or nothing; empty values are removed, others stay.

        Returns
        -------
        sequence of str
            The slides that changed; `event` is appended to the chain of each.

        Raises
        ------
        MissingError
            If there is no such slide.
        InputError
            If a case would have slides of two patients (`Kind.METADATA_INVALID`).

        """
        with self._database.write() as connection:
            changed = slides.put_metadata(connection, changes)
            if event is not None:
                for slide in changed:
                    events.append(connection, slide, event, self._clock.now())
        return changed

    # --- events

    def record_verification(self, copy: str, verified_at: datetime, event: NewEvent) -> None:
        """Note that a copy (named by its attempt) was verified again, and append `event` to its slide's chain."""
        with self._database.write() as connection:
            found = attempts.copy_of(connection, copy)
            if found is None:
                msg = f"There is no copy {copy!r}."
                raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="'wsistore show' lists a slide's copies.")
            attempts.set_verified(connection, found, iso(verified_at))
            events.append(connection, found.slide, event, self._clock.now())

    def record_failure(self, copy: str, event: NewEvent, *, suspect: bool = True) -> bool:
        """Note that a copy (named by its attempt) failed its verification, and append `event` to its slide's chain.

        Parameters
        ----------
        copy
            The copy's attempt.
        event
            What went wrong.
        suspect
            Whether the copy is `CopyState.SUSPECT` now; False if it could only not be reached.

        Returns
        -------
        bool
            False, and nothing is noted, if the copy is not one of its slide's current version any more.

        """
        with self._database.write() as connection:
            found = attempts.copy_of(connection, copy)
            if found is None or found.state not in {CopyState.COMMITTED, CopyState.SUSPECT}:
                return False
            if suspect:
                attempts.set_suspect(connection, copy)
            events.append(connection, found.slide, event, self._clock.now())
        return True

    def append_event(self, slide: str, kind: EventKind, actor: str, detail: Mapping[str, Any]) -> Event:
        """Append to a slide's chain; concurrent appends follow one another. `MissingError` if there is no slide."""
        with self._database.write() as connection:
            return events.append(connection, slide, NewEvent(kind, actor, detail), self._clock.now())

    def events(self, slide: str | None = None) -> list[Event]:
        """Return a slide's chain, or all events as they happened."""
        with self._database.read() as connection:
            return events.latest(connection) if slide is None else events.of_slide(connection, slide)

    def check_chains(self) -> list[str]:
        """Return what is wrong with the chains of events, in words; nothing if they are whole."""
        with self._database.read() as connection:
            return events.problems(connection)

    # --- tiers

    def put_tier(self, tier: TierRecord) -> None:
        """Note a tier's identity; its URL may change, its id never.

        Raises
        ------
        SiteError
            If the name or the id belongs to another tier.

        """
        with self._database.write() as connection:
            tiers.put(connection, tier)

    def tiers(self) -> list[TierRecord]:
        """Return the tiers that were ever noted, by name."""
        with self._database.read() as connection:
            return tiers.every(connection)
