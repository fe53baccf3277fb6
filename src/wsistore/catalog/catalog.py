"""The catalogue as the operations see it: each method is one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy.exc import IntegrityError

from wsistore.catalog import attempts, claims, events, slides, tiers
from wsistore.catalog.engine import BUSY_TIMEOUT_SECONDS, Database, open_database
from wsistore.catalog.records import (
    Attempt,
    AttemptState,
    CopyRecord,
    CopyRow,
    SlideRecord,
    SlideRow,
    SourceRecord,
    SourceRow,
    TierRecord,
)
from wsistore.clock import Clock, SystemClock, iso
from wsistore.errors import ConflictError, Kind, MissingError
from wsistore.events import Event, EventKind, NewEvent
from wsistore.model import CopyState, random_key


class Catalog:
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

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Clock | None = None,
        read_only: bool = False,
        busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
    ) -> Self:
        """Open the catalogue at `url` (``sqlite:///`` and a path, to the letter).

        Raises
        ------
        SiteError
            If it is not there, damaged, of another release's schema, or not writable though `read_only` is false.

        """
        database = open_database(url, read_only=read_only, busy_timeout_seconds=busy_timeout_seconds)
        return cls(database, clock or SystemClock())

    def close(self) -> None:
        """Close idle connections. The catalogue may be used again."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    @property
    def read_only(self) -> bool:
        """Whether writing is refused."""
        return self._database.read_only

    # --- the life of an attempt; see wsistore.catalog.attempts for the order

    def begin_attempt(self, slide: str, tier: str, owner: str, lease_until: datetime) -> Attempt:
        """Note that a copy of `slide` is about to be written to `tier`, before its first byte is."""
        attempt = Attempt(
            attempt=random_key(),
            slide=slide,
            tier=tier,
            state=AttemptState.WRITING,
            owner=owner,
            lease_until=iso(lease_until),
            started_at=self._now(),
            fingerprint=None,
            error="",
        )
        with self._database.write() as connection:
            attempts.begin(connection, attempt)
        return attempt

    def extend_lease(self, attempt: str, until: datetime) -> None:
        """Move the end of an attempt's lease; `ConflictError` if the attempt has ended meanwhile."""
        with self._database.write() as connection:
            attempts.extend_lease(connection, attempt, iso(until))

    def mark_verified(self, attempt: str, fingerprint: str) -> None:
        """Note that what the attempt wrote is verified; may be left out."""
        with self._database.write() as connection:
            attempts.mark_verified(connection, attempt, fingerprint)

    def release(self, attempt: str) -> None:
        """Let go of an attempt whose outcome is not known: whoever recovers next deals with it, without waiting."""
        with self._database.write() as connection:
            attempts.release(connection, attempt)

    def claim(
        self,
        attempt: str,
        *,
        fingerprint: str,
        slide: SlideRecord,
        source: SourceRecord,
        copy: CopyRecord,
        supersedes: int | None,
    ) -> None:
        """Claim a content for a slide, before the commit object is written; may be repeated.

        Parameters
        ----------
        attempt, slide, source, copy
            What was written and verified.
        fingerprint
            Of the source's content.
        supersedes
            The version that is current as far as the caller knows; None for a new slide.

        Raises
        ------
        AlreadyClaimed
            If the content is claimed or current, or another claim on this slide is open.
        ConflictError
            If the attempt has ended, or `supersedes` is not the current version.
        InputError
            If a case would have slides of two patients.

        """
        try:
            with self._database.write() as connection:
                attempts.claim(
                    connection,
                    attempt,
                    fingerprint=fingerprint,
                    slide=slide,
                    source=source,
                    copy=copy,
                    supersedes=supersedes,
                    now=self._now(),
                )
        except ConflictError as error:
            # Where several transactions write at once, it is the unique index that decides between two claims.
            if isinstance(error.__cause__, IntegrityError):
                with self._database.read() as connection:
                    claims.state_of_claim(connection, fingerprint, slide.slide)
            raise

    def commit(self, attempt: str, event: NewEvent) -> None:
        """Make what was claimed current, and append `event`, after the commit object is on the tier; may be repeated.

        Raises
        ------
        ConflictError
            If the attempt was not claimed, or abandoned meanwhile.

        """
        with self._database.write() as connection:
            done = attempts.commit(connection, attempt)
            if done is not None:
                events.append(connection, done.slide, event, self._clock.now())

    def abandon(self, attempt: str, reason: str, *, seen: Attempt | None = None) -> None:
        """Undo an attempt's claim; its row stays until `forget_attempt`.

        Raises
        ------
        ConflictError
            If it was committed, or is no longer in the state, or with the owner or lease, that was `seen`.

        """
        with self._database.write() as connection:
            attempts.abandon(connection, attempt, reason, seen)

    def adopt(
        self, seen: Attempt, *, slide: SlideRecord, source: SourceRecord, copy: CopyRecord, event: NewEvent
    ) -> None:
        """Claim and commit at once an attempt whose commit object was found on the tier; see `claim` and `commit`.

        Raises
        ------
        ConflictError
            If the attempt is no longer as it was `seen`, or its content or version is another attempt's.

        """
        with self._database.write() as connection:
            attempts.adopt(connection, seen, slide=slide, source=source, copy=copy, now=self._now())
            events.append(connection, slide.slide, event, self._clock.now())

    def forget_attempt(self, attempt: str) -> None:
        """Delete an abandoned attempt's row, after its objects are gone from the tier; may be repeated."""
        with self._database.write() as connection:
            attempts.forget(connection, attempt)

    def attempt(self, attempt: str) -> Attempt:
        """Return an attempt; `MissingError` if there is none."""
        with self._database.read() as connection:
            return attempts.one(connection, attempt)

    def open_attempts(self, tier: str | None = None) -> list[Attempt]:
        """Return the attempts that were not committed, oldest first; abandoned ones until they are forgotten."""
        with self._database.read() as connection:
            return attempts.unfinished(connection, tier)

    def copy_of_attempt(self, attempt: str) -> CopyRow | None:
        """Return the copy that an attempt claimed or committed: what is needed to finish it after a crash."""
        with self._database.read() as connection:
            return attempts.copy_of(connection, attempt)

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

    def copies(self, slide: str) -> list[CopyRow]:
        """Return a slide's committed copies, newest version first, then those of older versions (superseded)."""
        with self._database.read() as connection:
            return slides.copies(connection, slide)

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

    def _now(self) -> str:
        return iso(self._clock.now())
