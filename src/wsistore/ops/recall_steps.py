"""What is done for one slide of a recall after the other: looked at, asked for, found ready."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from wsistore.catalog import recalls
from wsistore.catalog.recalls import RecallRow, RecallState, SlideRecall
from wsistore.clock import iso
from wsistore.errors import WsistoreError
from wsistore.events import EventKind
from wsistore.model import CopyState
from wsistore.ops.moving import keep_longer
from wsistore.ops.recall_asking import ask, was_refused
from wsistore.ops.recall_plans import Ways, choose
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of
from wsistore.storage.archive import archive_of
from wsistore.storage.base import Readiness

_log = logging.getLogger(__name__)


def without_ready(site: Site, row: RecallRow, waiting: Sequence[SlideRecall]) -> list[SlideRecall]:
    """Note which slides are there by now, and return the others; temporary copies stay as long as they are needed."""
    copies = recalls.copies_of(site.catalog, [one.slide for one in waiting])
    found = recalls.found_slides(site.catalog, [one.slide for one in waiting])
    ways, now, rest = Ways(site, row.tier), site.clock.now(), []
    for one in waiting:
        if one.slide not in found:
            recalls.note(site.catalog, replace(one, state=RecallState.FAILED, error="It is not in the site any more."))
            continue
        chosen = choose(ways, found[one.slide], copies.get(one.slide, ()), None, now)
        if not chosen.is_ready or chosen.copy is None:
            rest.append(one)
            continue
        copy = site.catalog.copy_of_attempt(chosen.copy.attempt)
        if copy is not None:
            keep_longer(site, copy, until_of(row, now))
            ready(site, row, replace(one, attempt=copy.attempt), copy.tier)
    return rest


def ready(site: Site, row: RecallRow, one: SlideRecall, tier: str) -> None:
    """Note that a slide is there."""
    copy = next((copy for copy in site.catalog.copies(one.slide) if copy.tier == tier), None)
    until = None if copy is None else copy.expires_at
    asked = one.asked_at is not None
    recalls.note(site.catalog, replace(one, state=RecallState.READY, tier=tier, expected_at=None, error=""))
    if asked or until is not None:
        site.note(one.slide, EventKind.RECALLED, {"recall": row.name, "tier": tier, "expires_at": until})


def until_of(row: RecallRow, now: datetime) -> datetime:
    """Return how long the copies of a recall stay."""
    start = now if row.by is None else max(now, datetime.fromisoformat(row.by))
    return start + timedelta(seconds=row.keep_seconds)


def look_and_ask(site: Site, row: RecallRow, one: SlideRecall, ways: Ways) -> SlideRecall | None:
    """Look at a slide's objects, and ask for those that nobody asked for; return it if all can be read now."""
    try:
        return _looked(site, row, one, ways)
    except WsistoreError as error:
        _log.warning("slide %s cannot be asked for now: %s", one.slide, error)
        recalls.note_error(site.catalog, one, error.message)
        return None


def _looked(site: Site, row: RecallRow, one: SlideRecall, ways: Ways) -> SlideRecall | None:
    copy = site.catalog.copy_of_attempt(one.attempt)
    if copy is None or copy.state is not CopyState.COMMITTED:
        return _another(site, row, one, ways)
    storage = site.tier(copy.tier)
    archive = archive_of(storage)
    if archive is None:
        return one
    objects = commit_of(copy).objects
    states = {record.key: archive.look(record.key).archive for record in objects}
    archived = [record for record in objects if states[record.key].readiness is Readiness.ARCHIVED]
    if archived:
        ask(site, row, one, ways, copy, archive, archived)
        return None
    if all(state.is_readable for state in states.values()):
        return one
    if one.state is RecallState.PLANNED or (one.error and not was_refused(one)):
        recalls.note(site.catalog, _on_its_way(site, one))
    return None


def _on_its_way(site: Site, one: SlideRecall) -> SlideRecall:
    """Return a slide that somebody asked for before, expected when it was then."""
    before = recalls.asked_before(site.catalog, one.attempt)
    expected = one.expected_at if before is None else before.expected_at
    asked = one.asked_at or iso(site.clock.now())
    error = one.error if was_refused(one) else ""
    return replace(one, state=RecallState.ASKED, asked_at=asked, expected_at=expected, error=error)


def _another(site: Site, row: RecallRow, one: SlideRecall, ways: Ways) -> SlideRecall | None:
    """Turn to another copy where the one that was asked for is not good any more."""
    found = recalls.found_slides(site.catalog, [one.slide])[one.slide]
    copies = recalls.copies_of(site.catalog, [one.slide]).get(one.slide, ())
    by = None if row.by is None else datetime.fromisoformat(row.by)
    chosen = choose(ways, found, copies, by, site.clock.now())
    if chosen.copy is None:
        recalls.note(site.catalog, replace(one, state=RecallState.FAILED, error=chosen.error))
        return None
    again = replace(one, state=RecallState.PLANNED, tier=chosen.copy.tier, attempt=chosen.copy.attempt, asked_at=None)
    return _looked(site, row, again, ways)
