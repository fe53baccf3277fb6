"""The life of an attempt around the catalogue: clean up after failures, finish what a crash cut short."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from wsistore.catalog.owner import is_alive
from wsistore.catalog.records import Attempt, AttemptState, SourceState
from wsistore.compress.keys import Place
from wsistore.errors import (
    ConflictError,
    IntegrityError,
    Kind,
    MissingError,
    ObjectExistsError,
    ObjectMissingError,
    WsistoreError,
)
from wsistore.events import EventKind, NewEvent
from wsistore.ops.adopting import adopt, copy_detail, find_commit
from wsistore.ops.site import Site
from wsistore.storage.base import Storage
from wsistore.storage.local import LocalStorage
from wsistore.storage.wrapper import WrappedStorage

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
    """Attempts that could not be dealt with now: their tier fails, or somebody else works on them."""


def remove_attempt(site: Site, storage: Storage, place: Place) -> int:
    """Delete all objects of an attempt that no commit names; return how many.

    Raises
    ------
    IntegrityError
        If a commit names the attempt: then nothing is deleted.

    """
    commit = find_commit(site, storage, place)
    if commit is not None:
        msg = f"{commit.key} names the attempt {place.attempt}, which was to be removed."
        raise IntegrityError(msg, kind=Kind.INTERNAL, remedy="Report this; nothing was deleted.")
    count = 0
    for prefix in (place.store, place.private):
        for info in list(storage.list(prefix)):
            storage.delete(info.key)
            count += 1
    return count


def give_up(site: Site, seen: Attempt, reason: str) -> bool:
    """Abandon an attempt and remove what it wrote; what cannot be removed now, a later recovery removes.

    Parameters
    ----------
    site
        An open site.
    seen
        The attempt as it was read just before. A claimed one is given up only by who knows that another attempt's
        commit stands in its place: its owner may be slow and not dead, and about to write its commit.
    reason
        Why.

    Returns
    -------
    bool
        False if it is no longer as it was seen: somebody works on it, so nothing was done.

    """
    try:
        site.catalog.abandon(seen.attempt, reason, seen=seen)
    except (ConflictError, MissingError) as error:
        _log.info("attempt %s is left alone: %s", seen.attempt, error)
        return False
    if _remove(site, seen):
        site.catalog.forget_attempt(seen.attempt)
    return True


def give_up_own(site: Site, attempt: Attempt, reason: str) -> None:
    """Give up an attempt of this process, whatever became of it since it was begun.

    Whether the commit of a claimed one is there is not known after a failure, and somebody may be finishing it: it is
    released, and finished by the next recovery.
    """
    try:
        now = site.catalog.attempt(attempt.attempt)
    except MissingError:
        # Somebody took us for dead and cleaned up; what was written since then is still to be removed.
        _log.warning("attempt %s was ended by somebody else's recovery", attempt.attempt)
        _remove(site, attempt)
        return
    if now.state is AttemptState.CLAIMED:
        site.catalog.release(now.attempt)
    elif now.state is not AttemptState.COMMITTED:
        give_up(site, now, reason)


def _remove(site: Site, attempt: Attempt) -> bool:
    """Remove what an attempt wrote, as far as that can be done now; say whether it was done."""
    try:
        remove_attempt(site, site.tier(attempt.tier), Place(attempt.slide, attempt.attempt))
    except WsistoreError as error:
        _log.warning("attempt %s is left for the next recovery: %s", attempt.attempt, error)
        return False
    return True


def finish(site: Site, attempt: Attempt) -> bool:
    """Write (or confirm) the commit of a claimed attempt and close its books.

    Returns
    -------
    bool
        False if another attempt's commit stands in its place: then this attempt must be given up.

    Raises
    ------
    ConflictError
        If the claim does not stand any more.

    """
    # The one look back before the commit is written. If the process sleeps after it, others can only have finished the
    # attempt meanwhile, with the same bytes under the same key.
    copy = site.catalog.copy_of_attempt(attempt.attempt)
    if copy is None:
        msg = f"The claim of attempt {attempt.attempt} on slide {attempt.slide} does not stand any more."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Run again.")
    storage = site.tier(attempt.tier)
    body = copy.commit_body.encode()
    try:
        storage.put(copy.commit_key, body, if_absent=True)
    except ObjectExistsError:
        if storage.get(copy.commit_key) != body:
            return False
    source = site.catalog.source(copy.slide, copy.version)
    detail: dict[str, str | int] = {**copy_detail(copy), "source": source.fingerprint}
    if source.state is SourceState.REPAIRING:
        detail["repairs"] = copy.version - 1
    site.catalog.commit(attempt.attempt, NewEvent(EventKind.INGESTED, site.actor, detail))
    return True


def _clean_temporary(site: Site, tier: str) -> None:
    """Remove objects that dead processes never finished, where a tier keeps such."""
    storage = site.tier(tier)
    while isinstance(storage, WrappedStorage):
        storage = storage.inner
    if isinstance(storage, LocalStorage):
        storage.clean_temporary(site.clock.now() - _FORGOTTEN, crashed_here=True)


def _complete(site: Site, attempt: Attempt) -> bool:
    """Bring an attempt of a dead process to its end if it was claimed, or its commit is there; say whether it was."""
    if attempt.state is AttemptState.CLAIMED:
        return finish(site, attempt)
    storage = site.tier(attempt.tier)
    commit = find_commit(site, storage, Place(attempt.slide, attempt.attempt))
    if commit is None:
        return False
    adopt(site, attempt, storage, commit)
    return True


def recover(site: Site) -> Recovered:
    """Finish or undo what dead processes left behind. Runs at the start of every operation that writes."""
    finished = removed = failed = 0
    now = site.clock.now()
    for attempt in site.catalog.open_attempts():
        if attempt.state is not AttemptState.ABANDONED and is_alive(attempt.owner, now, attempt.lease_until):
            continue
        try:
            if _complete(site, attempt):
                finished += 1
            else:
                removed += give_up(site, attempt, attempt.error or "its process died")
            _clean_temporary(site, attempt.tier)
        except ObjectMissingError:
            failed += 1
        except WsistoreError as error:
            failed += 1
            _log.warning("attempt %s cannot be recovered now: %s", attempt.attempt, error)
    return Recovered(finished, removed, failed)
