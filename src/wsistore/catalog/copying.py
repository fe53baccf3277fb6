"""The catalogue's part that makes copies of copies: each method is one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from wsistore.catalog import attempts, events, reencodes
from wsistore.catalog.dropping import drop_event
from wsistore.catalog.records import Attempt, AttemptKind, AttemptState, CopyRecord, CopyRow, DropRule
from wsistore.catalog.session import Session
from wsistore.clock import iso
from wsistore.events import NewEvent
from wsistore.model import random_key


class Copying(Session):
    """Attempts that encode a copy anew or bring it to another tier; see `wsistore.catalog.reencodes`."""

    def begin_reencode(
        self,
        slide: str,
        tier: str,
        owner: str,
        lease_until: datetime,
        job: Mapping[str, Any],
        kind: AttemptKind = AttemptKind.REENCODE,
    ) -> tuple[Attempt, bool]:
        """Note that a copy of `slide` is about to be made in `tier`, before its first byte is written.

        Parameters
        ----------
        slide, tier, owner, lease_until
            As for `begin_attempt`.
        job
            See `Attempt.job`.
        kind
            `AttemptKind.REENCODE` or `AttemptKind.MOVE`.

        Returns
        -------
        Attempt
            A new one; or that of a dead process that did the same, which is now `owner`'s. Its `fence` is asked for
            by all steps that follow.
        bool
            Whether it was taken over: some of its objects may be there.

        Raises
        ------
        ConflictError
            If another re-encoding or move of the slide is open.

        """
        new = Attempt(
            attempt=random_key(),
            slide=slide,
            tier=tier,
            state=AttemptState.WRITING,
            owner=owner,
            lease_until=iso(lease_until),
            started_at=self._now(),
            fingerprint=None,
            error="",
            kind=kind,
            job=dict(job),
        )
        with self._database.write() as connection:
            found = reencodes.begin(connection, new, self._clock.now())
        return found, found.attempt != new.attempt

    def mark_written(self, attempt: str, *, fence: int) -> None:
        """Note that all objects of an attempt are written; `ConflictError` if it has ended, or is somebody else's."""
        with self._database.write() as connection:
            attempts.mark_written(connection, attempt, fence)

    def claim_reencode(
        self,
        attempt: str,
        *,
        fence: int,
        fingerprint: str,
        version: int,
        copy: CopyRecord,
        figures: Mapping[str, Any],
    ) -> None:
        """Claim the place of a slide's copies in a tier, before the commit object is written; may be repeated.

        Parameters
        ----------
        attempt, copy
            What was written and verified.
        fence
            Of the attempt when it was begun.
        fingerprint, version
            Of the source, which must still be the current one.
        figures
            What the event will tell (JSON values); kept with the attempt's job.

        Raises
        ------
        ConflictError
            If the attempt has ended or is somebody else's, another commit of the slide is under way or took the
            number, or the copy that was read was replaced meanwhile.

        """
        with self._database.write() as connection:
            reencodes.claim(
                connection,
                attempt,
                fence=fence,
                fingerprint=fingerprint,
                version=version,
                copy=copy,
                figures=figures,
            )

    def commit_reencode(self, attempt: str, event: NewEvent, *, fence: int, rule: DropRule) -> None:
        """Put what was claimed in the place of the tier's other copies, and begin the drops; append `event`.

        After the commit object is on the tier; may be repeated. Copies that the attempt's job wants dropped and that
        must stay for now, leave the attempt in `AttemptState.DROPPING`.

        Raises
        ------
        ConflictError
            If the attempt was not claimed, or is somebody else's, or was abandoned meanwhile.

        """
        with self._database.write() as connection:
            done, begun = reencodes.commit(connection, attempt, fence, rule)
            if done is not None:
                events.append(connection, done.slide, event, self._clock.now())
                for copy, proof in begun:
                    events.append(connection, done.slide, drop_event(copy, proof, event.actor), self._clock.now())

    def adopt_reencode(
        self,
        seen: Attempt,
        *,
        fingerprint: str,
        version: int,
        copy: CopyRecord,
        event: NewEvent,
        rule: DropRule,
    ) -> None:
        """Claim and commit at once a copy whose commit object was found on the tier.

        Raises as `claim_reencode`, and `ConflictError` if the attempt is no longer as it was `seen`.

        """
        with self._database.write() as connection:
            begun = reencodes.adopt(connection, seen, fingerprint=fingerprint, version=version, copy=copy, rule=rule)
            events.append(connection, seen.slide, event, self._clock.now())
            for dropped, proof in begun:
                events.append(connection, seen.slide, drop_event(dropped, proof, event.actor), self._clock.now())

    def replaced_by(self, copy: CopyRow) -> list[CopyRow]:
        """Return the copies in whose place a claimed one comes when it is committed."""
        with self._database.read() as connection:
            return reencodes.replaced(connection, copy)

    def to_drop(self, attempt: Attempt) -> Sequence[CopyRow]:
        """Return the copies that an attempt's job wants dropped and whose drop has not begun."""
        with self._database.read() as connection:
            return reencodes.to_drop(connection, attempt)

    def close_attempt(self, attempt: str, *, fence: int, reason: str = "") -> None:
        """Note that nothing more is to be dropped for a committed attempt; with the reason if something stayed."""
        with self._database.write() as connection:
            reencodes.close(connection, attempt, fence, reason)
