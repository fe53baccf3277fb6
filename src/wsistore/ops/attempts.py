"""The life of an attempt around the catalogue: clean up after failures, finish what a crash cut short."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from wsistore.catalog.records import Attempt, AttemptKind, AttemptState, CopyRow, SourceState
from wsistore.catalog.reencodes import COPIES
from wsistore.clock import iso
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
from wsistore.model import CopyState
from wsistore.ops.adopting import adopt, copy_detail, find_commit
from wsistore.ops.deleting import delete_all
from wsistore.ops.detaching_keys import finish_detachments
from wsistore.ops.drop_rules import drop_rule
from wsistore.ops.dropping import begin_drop, delete_commit, drop_replaced, finish_drops
from wsistore.ops.eliminating_copies import finish_eliminations
from wsistore.ops.freezing import SEALED, freeze_waiting, try_freeze
from wsistore.ops.looking import Look, abort_uploads, innermost
from wsistore.ops.own_work import lives
from wsistore.ops.side_by_side import side_by_side
from wsistore.ops.site import Site
from wsistore.storage.base import KeepsParts
from wsistore.storage.erasing import lying
from wsistore.storage.local import LocalStorage
from wsistore.tiers.keyring import remove_data_key

LEASE = timedelta(minutes=15)
"""How long an attempt of another machine counts as alive after its last sign of life."""

RESUMABLE = timedelta(days=7)
"""How long after its last sign of life a re-encoding that was cut short is kept to be continued."""

_STANDING = frozenset({CopyState.COMMITTED, CopyState.SUSPECT})
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
    orphans: int = 0
    """Objects that nobody knew any more and that were deleted; see `wsistore.ops.orphans`."""
    waiting: int = field(default=0, compare=False)
    """Attempts that wait for the command that continues them."""


def remove_attempt(site: Site, tier: str, place: Place, look: Look | None = None) -> int:
    """Delete all objects of an attempt that no commit names; return how many.

    Where many are removed, a `look` at the tier that was begun after the attempt was abandoned serves all of them.

    Raises
    ------
    IntegrityError
        If a commit names the attempt: then nothing is deleted.

    """
    commit = find_commit(site, tier, place, None if look is None else look.commits_of(tier, place.slide))
    if commit is not None:
        msg = f"{commit.key} names the attempt {place.attempt}, which was to be removed."
        raise IntegrityError(msg, kind=Kind.INTERNAL, remedy="Report this; nothing was deleted.")
    storage = site.tier(tier)
    if look is None:
        abort_uploads(site, tier, place)
    else:
        look.abort_uploads(tier, place)
    count = delete_all(storage, (info for prefix in (place.store, place.private) for info in lying(storage, prefix)))
    remove_data_key(storage, place)
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
    if not _abandon(site, seen, reason):
        return False
    _clear(site, seen)
    return True


def _abandon(site: Site, seen: Attempt, reason: str) -> bool:
    """Let nobody go on with an attempt; False if it is no longer as it was seen."""
    try:
        site.catalog.abandon(seen.attempt, reason, seen=seen)
    except (ConflictError, MissingError) as error:
        _log.info("attempt %s is left alone: %s", seen.attempt, error)
        return False
    return True


def _clear(site: Site, abandoned: Attempt, look: Look | None = None) -> None:
    """Remove what an abandoned attempt wrote, and forget it if nothing more can come."""
    if _remove(site, abandoned, look) and not _may_write_still(site, abandoned):
        site.catalog.forget_attempt(abandoned.attempt)


def _may_write_still(site: Site, seen: Attempt) -> bool:
    """Say whether workers of an attempt whose process died may still be at their last shards.

    They are other processes, perhaps of other machines: what they leave is removed by a recovery after the lease.
    """
    mine = seen.owner == site.owner
    now = site.clock.now()
    return seen.kind in COPIES and not mine and iso(now) < seen.lease_until < iso(now + RESUMABLE)


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
    if now.fence != attempt.fence:
        _log.warning("attempt %s is somebody else's by now", attempt.attempt)
    elif now.state in (AttemptState.CLAIMED, AttemptState.DROPPING):
        site.catalog.release(now.attempt, fence=now.fence)
    elif now.state is not AttemptState.COMMITTED:
        give_up(site, now, reason)


def _remove(site: Site, attempt: Attempt, look: Look | None = None) -> bool:
    """Remove what an attempt wrote, as far as that can be done now; say whether it was done."""
    try:
        remove_attempt(site, attempt.tier, Place(attempt.slide, attempt.attempt), look)
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
    if copy is not None and attempt.kind in COPIES and not _may_commit(site, attempt):
        return True
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
    detail = {**copy_detail(copy, copy.version), "source": source.fingerprint}
    if attempt.kind in COPIES:
        _finish_copy(site, attempt, copy, detail)
        return True
    if source.state is SourceState.REPAIRING:
        detail["repairs"] = copy.version - 1
    site.catalog.commit(attempt.attempt, NewEvent(EventKind.INGESTED, site.actor, detail))
    try_freeze(site, copy)
    return True


def _may_commit(site: Site, attempt: Attempt) -> bool:
    """Say whether the commit of a claimed copy is still to be written; False if somebody has finished the attempt.

    Raises
    ------
    ConflictError
        If the attempt is somebody else's by now.

    """
    now = site.catalog.attempt(attempt.attempt)
    if now.fence != attempt.fence:
        msg = f"Attempt {attempt.attempt} of slide {attempt.slide} was taken over."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Run again.")
    return now.state is AttemptState.CLAIMED


def _finish_copy(site: Site, attempt: Attempt, copy: CopyRow, detail: dict[str, Any]) -> None:
    figures = site.catalog.attempt(attempt.attempt).job.get("figures", {})
    replaced = site.catalog.replaced_by(copy)
    figures = {name: value for name, value in figures.items() if name != SEALED}
    detail |= {**figures, "attempt": copy.attempt, "replaces": [other.attempt for other in replaced]}
    kind = EventKind.REENCODED if attempt.kind is AttemptKind.REENCODE else EventKind.COPIED
    tiers = {other.tier for other in site.catalog.to_drop(attempt)}
    event, rule = NewEvent(kind, site.actor, detail), drop_rule(site, tiers, via=copy.attempt)
    site.catalog.commit_reencode(attempt.attempt, event, fence=attempt.fence, rule=rule)
    _take_back_late_commit(site, attempt)
    try_freeze(site, copy)  # before anything is deleted that the new copy is to replace
    settle(site, attempt)


def _take_back_late_commit(site: Site, attempt: Attempt) -> None:
    """Delete the commit again if its copy was finished and dropped by others while this process slept before it."""
    copy = site.catalog.copy_of_attempt(attempt.attempt)
    if copy is not None and copy.state in (CopyState.DROPPING, CopyState.DROPPED):
        delete_commit(site.tier(copy.tier), copy)


def settle(site: Site, attempt: Attempt) -> bool:
    """Drop what a committed copy makes dispensable: the copy that it replaces, the copy that was moved.

    A copy that must stay, stays; the attempt keeps the reason. May be repeated.

    Returns
    -------
    bool
        True: the attempt has ended.

    Raises
    ------
    StorageError
        If a tier fails where a copy has to be verified first.

    """
    now = site.catalog.attempt(attempt.attempt)
    if now.state is AttemptState.DROPPING:
        reasons = []
        for copy in site.catalog.to_drop(now):
            try:
                begin_drop(site, copy, via=now.attempt)
            except ConflictError as error:
                reasons.append(f"The copy in tier {copy.tier} stays: {error}")
                _log.warning("slide %s: %s", now.slide, reasons[-1])
        site.catalog.close_attempt(now.attempt, fence=now.fence, reason=" ".join(reasons))
    drop_replaced(site, now.slide)
    return True


def clean_temporary(site: Site, tier: str) -> None:
    """Remove objects that dead processes never finished, where a tier keeps such.

    Raises
    ------
    StorageError
        If the tier fails.

    """
    storage, before = innermost(site, tier), site.clock.now() - _FORGOTTEN
    if isinstance(storage, LocalStorage):
        storage.clean_temporary(before, crashed_here=True)
    elif isinstance(storage, KeepsParts):
        storage.abort_uploads("", before, lambda key: _is_written(site, key))


def _is_written(site: Site, key: str) -> bool:
    """Say whether a key is under an attempt that somebody works on."""
    now = site.clock.now()
    return any(attempt.attempt in key.split("/") for attempt in site.catalog.open_attempts() if _lives(attempt, now))


def _complete(site: Site, attempt: Attempt, look: Look) -> bool:
    """Bring an attempt of a dead process to its end if it was claimed, or its commit is there; say whether it was."""
    if attempt.state is AttemptState.CLAIMED:
        return finish(site, attempt)
    if attempt.state is AttemptState.DROPPING:
        return settle(site, attempt)
    there = look.commits_of(attempt.tier, attempt.slide)
    commit = find_commit(site, attempt.tier, Place(attempt.slide, attempt.attempt), there)
    if commit is None:
        return False
    adopt(site, attempt, site.tier(attempt.tier), commit)
    if attempt.kind in COPIES:
        settle(site, attempt)
    return True


def _is_kept(site: Site, attempt: Attempt, now: datetime) -> bool:
    """Say whether what a re-encoding wrote before its process died waits for one that continues it."""
    if attempt.kind not in COPIES or attempt.state is AttemptState.ABANDONED:
        return False
    sources = {copy.attempt for copy in site.catalog.copies(attempt.slide) if copy.state in _STANDING}
    # A lease that ends much later than any that could be given now was given while the clock was wrong.
    is_recent = iso(now - RESUMABLE) < attempt.lease_until < iso(now + RESUMABLE)
    return attempt.job.get("source") in sources and is_recent


def recover(site: Site) -> Recovered:
    """Finish or undo what dead processes left behind. Runs at the start of every operation that writes.

    What a re-encoding left is kept for a while (`RESUMABLE`): the same command continues it.
    """
    failed = freeze_waiting(site) + finish_drops(site)
    now = site.clock.now()
    dead = [attempt for attempt in site.catalog.open_attempts() if not _lives(attempt, now)]
    look = Look(site, dead)
    ends = list(side_by_side(dead, lambda attempt: _recover(site, attempt, now, look)))
    abandoned = [attempt for attempt, end in zip(dead, ends, strict=True) if end == "removed"]
    after = Look(site, abandoned)
    for _ in side_by_side(abandoned, lambda attempt: _clear(site, attempt, after)):
        pass
    outcomes = Counter(ends)
    # Also of attempts that live: a worker that is killed leaves a file behind though its shard is written by another.
    local = {tier.name for tier in site.settings.tiers if tier.path is not None and tier.path.is_dir()}
    for tier in sorted(local | {attempt.tier for attempt in dead}):
        try:
            clean_temporary(site, tier)
        except WsistoreError as error:
            _log.info("tier %s cannot be cleaned now: %s", tier, error)
    failed += finish_detachments(site)
    failed += finish_eliminations(site)  # last: what dead processes wrote of such slides is gone by now
    return Recovered(
        outcomes["finished"], outcomes["removed"], failed + outcomes["failed"], waiting=outcomes["waiting"]
    )


def _lives(attempt: Attempt, now: datetime) -> bool:
    return attempt.state is not AttemptState.ABANDONED and lives(attempt, now)


def _recover(site: Site, attempt: Attempt, now: datetime, look: Look) -> str:
    """Finish an attempt of a dead process, or abandon it, so that what it wrote can be removed; return which."""
    try:
        if _complete(site, attempt, look):
            return "finished"
        if _is_kept(site, attempt, now):
            return "waiting"
        return "removed" if _abandon(site, attempt, attempt.error or "its process died") else "left"
    except ObjectMissingError:
        return "failed"
    except WsistoreError as error:
        _log.warning("attempt %s cannot be recovered now: %s", attempt.attempt, error)
        return "failed"
