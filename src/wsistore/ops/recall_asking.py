"""Asking an archive for a slide's objects: by which way, at what price, and by the next one where a way is refused.

Services refuse their fastest way where they have no room for it. Then the cheapest of the others that is fast enough is
taken (or one that typically is), priced again within the recall's limit, and told. Where there is none nothing is asked
for yet: the next look tries the refused way again, until that would be too late as well, and the fastest of the others
is what there is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from wsistore.catalog import recalls
from wsistore.catalog.recalls import CopyLine, RecallRow, RecallState, SlideRecall
from wsistore.catalog.records import CopyRow
from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind, StorageError, TransientError
from wsistore.events import EventKind
from wsistore.model import ObjectRecord
from wsistore.ops.recall_plans import COPIED_BYTES_PER_SECOND, Ways
from wsistore.ops.site import Site
from wsistore.storage.archive import Retrieval, SupportsArchive
from wsistore.tiers.retrievals import RetrievalOption

_REFUSED = "No room for "
"""How the reason begins of a slide that comes by another way than was planned."""
_TOO_MUCH = "Asking again would cost too much."

_log = logging.getLogger(__name__)


def was_refused(one: SlideRecall) -> bool:
    """Say whether a slide's error only tells that it comes by another way than was planned."""
    return one.error.startswith(_REFUSED)


def ask(
    site: Site,
    row: RecallRow,
    one: SlideRecall,
    ways: Ways,
    copy: CopyRow,
    archive: SupportsArchive,
    archived: Sequence[ObjectRecord],
) -> None:
    """Ask for the archived objects of a copy and note it; or note that it would cost too much.

    Raises
    ------
    TransientError
        If a way was refused, and no other is fast enough (`Kind.RETRIEVAL_REFUSED`).
    StorageError
        If there is no way back, or the archive fails.

    """
    line, left = _line(site, copy), list(archived)
    told = ""
    while left:
        with ways.pricing:  # slides of a recall are asked for side by side, and share its limit
            option = _option(row, ways, line, site.clock.now())
            # Where another slide was refused just now, this one comes by another way than was planned, too.
            if not told and option.retrieval != one.retrieval and ways.is_refused(copy.tier, one.retrieval):
                told = _no_room(copy, one.retrieval)
            chosen = _way(_now(site, row), one, option, line, site.clock.now(), again=bool(told))
            if chosen is None:
                error = f"{told} It would cost more." if told else _TOO_MUCH
                recalls.note(site.catalog, replace(one, state=RecallState.CONFIRM, error=error))
                return
            asked, eur = chosen
            eur *= _bytes(left) / max(1, _bytes(archived))
            recalls.note(site.catalog, asked, eur=eur)  # before the act: what died in between is asked for again
        before, left = left, _begin(site, archive, copy, left, Retrieval(asked.retrieval))
        if len(left) < len(before):
            _tell(site, row, asked, copy, before[: len(before) - len(left)], told)
        if left:
            told = _no_room(copy, asked.retrieval)
            _log.warning("slide %s: %s", one.slide, told)
            ways.refuse(copy.tier, Retrieval(asked.retrieval))
            one = replace(one, state=RecallState.PLANNED, asked_at=None, error=told)
            # What was refused is not paid for.
            recalls.note(site.catalog, one, eur=-eur * _bytes(left) / max(1, _bytes(before)))
    told = f"{told} It comes by {asked.retrieval}." if told else ""
    recalls.note(site.catalog, replace(asked, state=RecallState.ASKED, error=told))


def _no_room(copy: CopyRow, way: str) -> str:
    return f"{_REFUSED}{way} retrieval in tier {copy.tier} now."


def _bytes(records: Sequence[ObjectRecord]) -> int:
    return sum(record.size_bytes for record in records)


def _now(site: Site, row: RecallRow) -> RecallRow:
    """Return the recall with what it costs by now."""
    return next(iter(recalls.recalls(site.catalog, [row.name])), row)


def _begin(
    site: Site, archive: SupportsArchive, copy: CopyRow, records: Sequence[ObjectRecord], way: Retrieval
) -> list[ObjectRecord]:
    """Ask for objects, one after the other; return those from the first on that was refused for want of room."""
    settings = site.tier_settings(copy.tier).archive
    days = 7 if settings is None else settings.restore_days
    for number, record in enumerate(records):
        try:
            archive.begin_restore(record.key, days=days, retrieval=way)
        except TransientError as error:
            if error.kind is not Kind.RETRIEVAL_REFUSED:
                raise
            return list(records[number:])
    return []


def _tell(
    site: Site, row: RecallRow, asked: SlideRecall, copy: CopyRow, objects: Sequence[ObjectRecord], refused: str
) -> None:
    detail = {"recall": row.name, "tier": copy.tier, "attempt": copy.attempt, "retrieval": asked.retrieval}
    detail |= {"by": row.by or "", "objects": str(len(objects))} | ({"reason": refused} if refused else {})
    site.note(asked.slide, EventKind.RECALL_BEGUN, detail | {"bytes_asked": _bytes(objects)})


def _option(row: RecallRow, ways: Ways, copy: CopyLine, now: datetime) -> RetrievalOption:
    """Return the way that is to be taken now."""
    left = None if row.by is None else (datetime.fromisoformat(row.by) - now - _copying(copy)).total_seconds()
    option = ways.option(copy, left)
    if ways.is_worth_waiting(copy, left):
        msg = f"{_REFUSED}a retrieval from tier {copy.tier} that is fast enough: it is tried again."
        raise TransientError(msg, kind=Kind.RETRIEVAL_REFUSED, remedy="A slower one would come too late.")
    if option is None:
        msg = f"There is no way back from tier {copy.tier}."
        raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Look at its table 'archive' in wsistore.toml.")
    return option


def _copying(copy: CopyLine) -> timedelta:
    return timedelta(seconds=copy.bytes_stored / COPIED_BYTES_PER_SECOND)


def _way(
    row: RecallRow, one: SlideRecall, option: RetrievalOption, copy: CopyLine, now: datetime, *, again: bool
) -> tuple[SlideRecall, float] | None:
    """Return how a slide is asked for now, and what that adds to the cost; None if it would be too much.

    What is asked for once more, because its restored copy ended before it was copied, may have to come faster now, and
    is paid for again. `again`: another way was just refused.
    """
    is_paid = one.state is RecallState.PLANNED and one.asked_at is not None
    eur = 0.0 if is_paid else option.eur.high
    is_limited = one.state is RecallState.ASKED or again
    if row.max_eur is not None and is_limited and row.eur + eur > row.max_eur:
        return None
    at = now + timedelta(seconds=option.most_seconds) + _copying(copy)
    if one.asked_at is None and one.expected_at is not None and not again:
        at = max(at, datetime.fromisoformat(one.expected_at))  # it comes after others
    state = RecallState.PLANNED
    asked = replace(one, state=state, retrieval=str(option.retrieval), asked_at=iso(now), expected_at=iso(at), error="")
    return asked, eur


def _line(site: Site, copy: CopyRow) -> CopyLine:
    copies = recalls.copies_of(site.catalog, [copy.slide]).get(copy.slide, ())
    found = next((one for one in copies if one.attempt == copy.attempt), None)
    if found is None:
        msg = f"The copy of slide {copy.slide} in tier {copy.tier} was replaced just now."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Run again.")
    return found
