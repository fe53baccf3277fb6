"""The catalogue's part that takes slides in: each method is one transaction."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.exc import IntegrityError

from wsistore.catalog import attempts, claims, events
from wsistore.catalog.records import (
    Attempt,
    AttemptState,
    CopyRecord,
    CopyRow,
    SlideRecord,
    SourceRecord,
)
from wsistore.catalog.session import Session
from wsistore.clock import iso
from wsistore.errors import ConflictError
from wsistore.events import NewEvent
from wsistore.model import random_key


class Attempting(Session):
    """Attempts at writing a copy; see `wsistore.catalog.attempts` for the order of the calls."""

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

    def extend_lease(self, attempt: str, until: datetime, *, fence: int = 0) -> None:
        """Move the end of an attempt's lease; `ConflictError` if it has ended, or is somebody else's (by its fence)."""
        with self._database.write() as connection:
            attempts.extend_lease(connection, attempt, iso(until), fence)

    def mark_verified(self, attempt: str, fingerprint: str) -> None:
        """Note that what the attempt wrote is verified; may be left out."""
        with self._database.write() as connection:
            attempts.mark_verified(connection, attempt, fingerprint)

    def release(self, attempt: str, *, fence: int = 0) -> None:
        """Let go of an attempt whose outcome is not known: whoever recovers next deals with it, without waiting.

        Nothing is done to one that has ended, or is somebody else's (by its fence).
        """
        with self._database.write() as connection:
            attempts.release(connection, attempt, self._now(), fence)

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
