"""The deletion of what lies of slides that are to go for good; may be repeated until nothing is left."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from contextlib import suppress

from wsistore.catalog.records import CopyRow
from wsistore.errors import ConflictError, Kind, ObjectMissingError, WsistoreError
from wsistore.events import Event, EventKind, NewEvent
from wsistore.model import CopyState
from wsistore.ops.certificates import make_certificate
from wsistore.ops.deleting import delete_all, delete_exactly
from wsistore.ops.dropping import delete_commit
from wsistore.ops.ledgers import tell
from wsistore.ops.side_by_side import side_by_side
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, place_of
from wsistore.storage.base import Storage
from wsistore.storage.erasing import erase, lying
from wsistore.tiers.keyring import keys_of, remove_data_key

_log = logging.getLogger(__name__)


def lying_copies(site: Site, slide: str) -> tuple[CopyRow, ...]:
    """Return all copies of a slide of which anything lies on a tier, also of older versions and half dropped."""
    return tuple(copy for copy in site.catalog.copies(slide, with_past=True) if copy.state is not CopyState.DROPPED)


def tell_tiers(site: Site, tiers: Iterable[str]) -> set[str]:
    """Bring the ledgers of tiers up to date; return the tiers whose ledger knows all now."""
    told = set()
    for tier in tiers:
        try:
            tell(site, tier)
        except WsistoreError as error:
            _log.warning("the ledger of tier %s was not brought up to date: %s", tier, error)
        else:
            told.add(tier)
    return told


def finish_eliminations(site: Site) -> int:
    """Go on with the slides that are being deleted for good; return how many could not be finished now."""
    waiting = site.catalog.eliminations()
    if not waiting:
        return 0
    tiers = {copy.tier for slide in waiting for copy in site.catalog.doomed_copies(slide)}
    ready = tell_tiers(site, sorted(tiers))

    def one(slide: str) -> bool:
        try:
            finish_elimination(site, slide, ready)
        except WsistoreError as error:
            _log.warning("slide %s cannot be deleted wholly now: %s", slide, error)
            return False
        return True

    return sum(not done for done in side_by_side(waiting, one))


def finish_elimination(site: Site, slide: str, ready: Collection[str]) -> None:
    """Delete what is left of a slide whose deletion has begun, and close its books; may be repeated.

    Parameters
    ----------
    site
        An open site.
    slide
        Its key.
    ready
        Tiers whose ledgers know that it is being deleted; in others nothing is touched.

    Raises
    ------
    StorageError
        If a tier is away or fails; what lies in the others is deleted all the same.
    ConflictError
        If a tier has another commit in the place of a copy's, or somebody still writes.

    """
    failures = [error for copy in site.catalog.doomed_copies(slide) if (error := _try(site, copy, ready)) is not None]
    if failures:
        raise failures[0]
    _remove_data_keys(site, slide)
    begun = _begun(site, slide)
    copies = site.catalog.copies(slide, with_past=True)
    detail = {"certificate": make_certificate(site, begun, copies)}
    site.catalog.finish_elimination(slide, NewEvent(EventKind.DELETED, site.actor, detail))


def _try(site: Site, copy: CopyRow, ready: Collection[str]) -> WsistoreError | None:
    try:
        _delete(site, copy, ready)
    except WsistoreError as error:
        return error
    return None


def _delete(site: Site, copy: CopyRow, ready: Collection[str]) -> None:
    storage = site.tier(copy.tier)
    if copy.tier not in ready:
        msg = f"The ledger of tier {copy.tier} could not be told that slide {copy.slide} is deleted."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="'wsistore recover' tries again.")
    if not site.catalog.is_doomed(copy.attempt):
        return
    place = place_of(copy)
    if copy.commit_body:
        delete_commit(storage, copy)
        delete_exactly(storage, [record.key for record in commit_of(copy).objects], (place.store, place.private))
    else:
        _delete_unread(storage, copy)
    remove_data_key(storage, place)
    site.catalog.end_doomed_copy(copy.attempt)


def _delete_unread(storage: Storage, copy: CopyRow) -> None:
    """Delete a copy whose commit a catalogue that was made anew did not see: all that lies under its attempt's keys.

    The commit may be gone already, or lie on a tier that was not read then.
    """
    place = place_of(copy)
    with suppress(ObjectMissingError):
        if copy.attempt.encode() in storage.get(copy.commit_key):
            erase(storage, copy.commit_key)
    delete_all(storage, (info for prefix in (place.store, place.private) for info in lying(storage, prefix)))


def _remove_data_keys(site: Site, slide: str) -> None:
    """Remove what is left of the slide's data keys, of attempts that nobody knows any more."""
    for tier in site.settings.tiers:
        with suppress(WsistoreError):  # no copy lies there: what is left of keys opens nothing
            ring = keys_of(site.tier(tier.name))
            for place in [] if ring is None else list(ring.places(slide)):
                if ring is not None:
                    ring.remove(place)


def _begun(site: Site, slide: str) -> Event:
    """Return the event that began a slide's deletion, with the authorisation."""
    for event in reversed(site.catalog.events(slide)):
        if event.kind == EventKind.DELETING:
            return event
    msg = f"Nothing says by which plan slide {slide} is being deleted."
    raise ConflictError(msg, kind=Kind.CHAIN_BROKEN, remedy="Look at 'wsistore events': its chain was cut.")
