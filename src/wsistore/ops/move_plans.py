"""Moves that are only asked for: what would be done, and whether the tier may be given so much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from wsistore.compress.presets import Encoding
from wsistore.errors import ConflictError, Kind
from wsistore.model import CopyState
from wsistore.ops.early import early_ends
from wsistore.ops.holding import check_holds
from wsistore.ops.jobs import is_encoded
from wsistore.ops.move_orders import Order, bytes_needed, leaving_copies, result_of
from wsistore.ops.move_results import MoveResult, MoveStatus
from wsistore.ops.one_of_many import reported
from wsistore.ops.room import Room
from wsistore.ops.site import Site
from wsistore.ops.stored import current_copies
from wsistore.ops.tuning import encoding_for


def planned(site: Site, keys: Sequence[str], order: Order) -> Iterator[MoveResult]:
    """Yield what moving each of the slides would do; each is told the room that those before it leave."""
    with ExitStack() as kept:
        for key in keys:
            room = kept.enter_context(Room(site, order.tier))
            yield reported(site, key, order.tier, lambda key=key, room=room: _plan(site, key, order, room))  # type: ignore[misc]


def _plan(site: Site, key: str, order: Order, room: Room) -> MoveResult:
    leaving = leaving_copies(site, key, order)
    if leaving:
        check_holds(site, key)
    copies = [copy for copy in current_copies(site, key) if copy.state is not CopyState.SUSPECT]
    there = [copy for copy in copies if copy.tier == order.tier and order.preset in (None, copy.preset)]
    dropped, early = tuple(sorted({copy.tier for copy in leaving})), early_ends(site, leaving)
    if there:
        result = result_of(site, key, order, MoveStatus.PLANNED, there[0], "The tier has a good copy already.")
        return replace(result, dropped=dropped, early=early)
    preset = order.preset or site.tier_settings(order.tier).preset
    encoding: Encoding = encoding_for(site, key, order.tier, preset)
    if not copies:
        msg = f"No copy of slide {key} is good."
        raise ConflictError(msg, kind=Kind.LAST_COPY, remedy="Verify its copies, or ingest its source again.")
    first = min(copies, key=lambda copy: (not is_encoded(copy, encoding), copy not in leaving, copy.n))
    room.take(f"Slide {key}", bytes_needed(site, first, encoding))
    how = "Its objects are copied as they are." if is_encoded(first, encoding) else "It is encoded on the way."
    result = result_of(site, key, order, MoveStatus.PLANNED, first, how)
    return replace(result, preset=preset, dropped=dropped, early=early, warnings=room.warnings)
