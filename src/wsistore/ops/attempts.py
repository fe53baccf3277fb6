"""The life of an attempt around the catalogue: clean up after failures, finish what a crash cut short."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from wsistore.catalog.owner import is_alive
from wsistore.catalog.records import Attempt, AttemptState
from wsistore.compress.keys import Place
from wsistore.errors import (
    IntegrityError,
    Kind,
    MissingError,
    ObjectExistsError,
    ObjectMissingError,
    WsistoreError,
)
from wsistore.events import EventKind, NewEvent
from wsistore.ops.site import Site
from wsistore.storage.base import Storage
from wsistore.storage.local import LocalStorage
from wsistore.storage.wrapper import WrappedStorage
from wsistore.tiers import commits

LEASE = timedelta(minutes=15)
"""How long an attempt of another machine counts as alive after its last sign of life."""

_FORGOTTEN = timedelta(days=1)
"""Age from which unfinished files of other machines are taken for left behind."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery did."""

    finished: int
    """Attempts whose commit was written or confirmed."""
    removed: int
    """Attempts whose objects were deleted."""
    failed: int
    """Attempts that could not be dealt with now, because their tier fails."""


def remove_attempt(storage: Storage, place: Place) -> int:
    """Delete all objects of an attempt that no commit names; return how many.

    Raises
    ------
    IntegrityError
        If a commit names the attempt: then nothing is deleted.

    """
    for key in commits.find(storage, place.slide):
        if commits.read(storage, key).attempt == place.attempt:
            msg = f"{key} names the attempt {place.attempt}, which was to be removed."
            raise IntegrityError(msg, kind=Kind.INTERNAL, remedy="Report this; nothing was deleted.")
    count = 0
    for prefix in (place.store, place.private):
        for info in list(storage.list(prefix)):
            storage.delete(info.key)
            count += 1
    return count


def give_up(site: Site, attempt: Attempt, reason: str) -> None:
    """Abandon an attempt and remove what it wrote; what cannot be removed now, a later recovery removes."""
    try:
        site.catalog.abandon(attempt.attempt, reason)
    except MissingError:
        # Somebody took us for dead and cleaned up; what was written since then is still to be removed.
        _log.warning("attempt %s was ended by somebody else's recovery", attempt.attempt)
    try:
        remove_attempt(site.tier(attempt.tier), Place(attempt.slide, attempt.attempt))
    except WsistoreError as error:
        _log.warning("attempt %s is left for the next recovery: %s", attempt.attempt, error)
        return
    site.catalog.forget_attempt(attempt.attempt)


def finish(site: Site, attempt: Attempt) -> bool:
    """Write (or confirm) the commit of a claimed attempt and close its books.

    Returns
    -------
    bool
        False if another attempt's commit stands in its place: then this attempt must be given up.

    """
    copy = site.catalog.copy_of_attempt(attempt.attempt)
    if copy is None:
        return False
    storage = site.tier(attempt.tier)
    body = copy.commit_body.encode()
    try:
        storage.put(copy.commit_key, body, if_absent=True)
    except ObjectExistsError:
        if storage.get(copy.commit_key) != body:
            return False
    detail = {
        "tier": copy.tier,
        "version": copy.version,
        "commit": copy.commit_key,
        "bytes_stored": copy.bytes_stored,
        "objects": copy.objects,
        "evidence": str(copy.evidence),
        "verified_at": copy.verified_at,
        "source": attempt.fingerprint or site.catalog.attempt(attempt.attempt).fingerprint,
    }
    site.catalog.commit(attempt.attempt, NewEvent(EventKind.INGESTED, site.actor, detail))
    return True


def _clean_temporary(site: Site, tier: str) -> None:
    """Remove objects that dead processes never finished, where a tier keeps such."""
    storage = site.tier(tier)
    while isinstance(storage, WrappedStorage):
        storage = storage.inner
    if isinstance(storage, LocalStorage):
        storage.clean_temporary(site.clock.now() - _FORGOTTEN, crashed_here=True)


def recover(site: Site) -> Recovered:
    """Finish or undo what dead processes left behind. Runs at the start of every operation that writes."""
    finished = removed = failed = 0
    now = site.clock.now()
    for attempt in site.catalog.open_attempts():
        if attempt.state is not AttemptState.ABANDONED and is_alive(attempt.owner, now, attempt.lease_until):
            continue
        try:
            if attempt.state is AttemptState.CLAIMED and finish(site, attempt):
                _clean_temporary(site, attempt.tier)
                finished += 1
                continue
            _clean_temporary(site, attempt.tier)
            give_up(site, attempt, attempt.error or "its process died")
            removed += 1
        except ObjectMissingError:
            failed += 1
        except WsistoreError as error:
            failed += 1
            _log.warning("attempt %s cannot be recovered now: %s", attempt.attempt, error)
    return Recovered(finished, removed, failed)
