"""The catalogue's part that tells the tiers what it knows: each method is one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter

from wsistore.catalog import changes
from wsistore.catalog.changes import Cursor, Pending
from wsistore.catalog.events import from_numbers
from wsistore.catalog.session import Session
from wsistore.catalog.states import ChainHead, State, all_slides, states
from wsistore.events import Event


class Ledgering(Session):
    """What the tiers' ledgers do not say yet; see `wsistore.catalog.changes`."""

    def ledger_cursor(self, tier_id: str) -> Cursor | None:
        """Return how far a tier's ledger has come; None if nothing was ever written there."""
        with self._database.read() as connection:
            return changes.cursor(connection, tier_id)

    def ledger_is_due(self, tier_id: str) -> bool:
        """Say whether a tier's ledger should be told now: of a change that is urgent, or of very many."""
        with self._database.read() as connection:
            return changes.is_due(connection, tier_id)

    def ledger_pending(self, tier_id: str) -> Pending | None:
        """Return what the next segment of a tier's ledger is to say; None if it says all."""
        with self._database.read() as connection:
            return changes.pending(connection, tier_id)

    def ledger_advance(self, tier_id: str, seen: Cursor | None, new: Cursor) -> bool:
        """Note that a segment was written; False if another process has noted one since `seen`."""
        with self._database.write() as connection:
            return changes.advance(connection, tier_id, seen, new)

    def ledger_forget(self, tier_id: str, seen: Cursor) -> bool:
        """Note that a tier's ledger is gone: it begins anew; False if another process has written since `seen`."""
        with self._database.write() as connection:
            return changes.forget(connection, tier_id, seen)

    def ledger_heads(self, tier_id: str) -> tuple[Cursor, list[ChainHead]] | None:
        """Return how far a tier's ledger has come, and the last event of every slide's chain, sorted by slide.

        None if the ledger does not know all of them.
        """
        with self._database.read() as connection:
            return changes.heads(connection, tier_id)

    def all_states(self) -> Iterator[tuple[State, list[Event]]]:
        """Yield the state of every slide that anything happened to, with its chain, by slide; in one transaction."""
        with self._database.read() as connection:
            after = ""
            while some := all_slides(connection, after, changes.SLIDES_PER_SEGMENT):
                after = some[-1]
                chains = groupby(from_numbers(connection, dict.fromkeys(some, 1)), key=attrgetter("slide"))
                events = {slide: list(chain) for slide, chain in chains}
                for slide, state in states(connection, some).items():
                    yield state, events[slide]

    def last_change(self) -> int:
        """Return the number of the last change; 0 if there was none."""
        with self._database.read() as connection:
            return changes.last_seq(connection)
