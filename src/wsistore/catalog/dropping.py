"""The catalogue's part that lets copies go, and keeps them: each method is one transaction."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select

from wsistore.catalog import drops, events, holds, schema
from wsistore.catalog.records import AttemptState, CopyRow, DropRule, Hold, Proof
from wsistore.catalog.session import Session
from wsistore.catalog.slides import one as slide_row
from wsistore.events import EventKind, NewEvent
from wsistore.model import CopyState


def drop_event(copy: CopyRow, proof: Proof, actor: str) -> NewEvent:
    """Return what tells of the beginning of a drop."""
    detail = {"tier": copy.tier, "attempt": copy.attempt, "version": copy.version, "proof": proof.to_json()}
    return NewEvent(EventKind.DROPPING, actor, detail)


class Dropping(Session):
    """Drops and holds; see `wsistore.catalog.drops`."""

    def open_drops(self, slide: str | None = None) -> list[CopyRow]:
        """Return the copies, or those of one slide, whose drop has begun and not ended."""
        with self._database.read() as connection:
            return drops.unfinished(connection, slide)

    def start_drop(self, seen: CopyRow, rule: DropRule, actor: str) -> Proof:
        """Begin to drop a copy, if it may be and is still as it was `seen`; append an event with the proof.

        Raises
        ------
        NotProven
            If it must stay.
        ConflictError
            If it is no longer as it was seen.

        """
        with self._database.write() as connection:
            proof = drops.start(connection, seen, rule)
            events.append(connection, seen.slide, drop_event(seen, proof, actor), self._clock.now())
        return proof

    def prove_drop(self, copy: str, rule: DropRule) -> Proof | None:
        """Decide again whether a copy (named by its attempt) that is being dropped may go.

        Returns
        -------
        Proof or None
            None if it is not being dropped any more.

        Raises
        ------
        NotProven
            If it must stay.

        """
        with self._database.write() as connection:
            return drops.prove_again(connection, copy, rule)

    def finish_drop(self, copy: str, event: NewEvent) -> None:
        """Note that a copy's objects are gone, and append `event`; may be repeated."""
        with self._database.write() as connection:
            dropped = drops.finish(connection, copy)
            if dropped is not None:
                events.append(connection, dropped.slide, event, self._clock.now())

    def revive(self, copy: str) -> None:
        """Take back the drop of a copy: it is suspect from then on, and good again once it is verified."""
        with self._database.write() as connection:
            drops.revive(connection, copy)

    # --- holds

    def hold(self, slide: str, reason: str, actor: str) -> bool:
        """Keep all copies of a slide from being dropped, for a reason; False if it is held for that reason already.

        Raises
        ------
        MissingError
            If there is no such slide.

        """
        with self._database.write() as connection:
            slide_row(connection, slide)
            placed = holds.place(connection, Hold(slide=slide, reason=reason, actor=actor, placed_at=self._now()))
            if placed:
                event = NewEvent(EventKind.HELD, actor, {"reason": reason})
                events.append(connection, slide, event, self._clock.now())
        return placed

    def release_holds(self, slide: str, reason: str | None, actor: str) -> list[Hold]:
        """End a slide's hold for a reason, or all of them; return those that were there."""
        with self._database.write() as connection:
            ended = holds.release(connection, slide, reason)
            for hold in ended:
                event = NewEvent(EventKind.RELEASED, actor, {"reason": hold.reason, "held_since": hold.placed_at})
                events.append(connection, slide, event, self._clock.now())
        return ended

    def holds(self, slide: str) -> list[Hold]:
        """Return a slide's holds, oldest first."""
        with self._database.read() as connection:
            return holds.of_slide(connection, slide)

    def all_holds(self) -> list[Hold]:
        """Return the holds of all slides, oldest first."""
        with self._database.read() as connection:
            return holds.every(connection)

    # --- what lies on a tier

    def known_attempts(self, attempts: Collection[str]) -> set[str]:
        """Return those of `attempts` that are open, or whose copies are there as far as the catalogue knows."""
        copies, tried = schema.copies, schema.attempts
        with self._database.read() as connection:
            gone = copies.c.state != str(CopyState.DROPPED)
            known = set(connection.scalars(select(copies.c.attempt).where(copies.c.attempt.in_(attempts), gone)))
            is_open = tried.c.state != str(AttemptState.COMMITTED)
            known |= set(connection.scalars(select(tried.c.attempt).where(tried.c.attempt.in_(attempts), is_open)))
        return known

    def dropped_copies(self, tier: str, commit_keys: Collection[str]) -> list[CopyRow]:
        """Return the dropped copies of a tier whose commits were under one of these keys."""
        with self._database.read() as connection:
            return drops.dropped(connection, tier, commit_keys)
