"""What lies on a tier though nobody knows it: found by its names, and removed after a time of grace.

Such objects are left by a process that slept for so long that its attempt was ended, and then wrote on; by a catalogue
that was put back from a backup; and by a drop that was interrupted in the same moment as its catalogue was lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import TypeVar

from wsistore.compress.keys import PRIVATE, STORE, Place
from wsistore.errors import Kind, WsistoreError
from wsistore.ops.adopting import find_commit
from wsistore.ops.attempts import Recovered, clean_temporary, recover
from wsistore.ops.deleting import delete_all
from wsistore.ops.dropping import delete_commit
from wsistore.ops.freezing import freeze_waiting
from wsistore.ops.recall_ends import expire
from wsistore.ops.recalling import advance
from wsistore.ops.site import Site, read_only_error
from wsistore.storage.base import ObjectInfo, Storage
from wsistore.storage.erasing import lying
from wsistore.tiers import commits
from wsistore.tiers.keyring import remove_data_key

GRACE = timedelta(days=7)
"""How old all objects of an unknown attempt must be: its writer may be at work for another catalogue of the site."""

_MUST_STAY = frozenset({Kind.HELD, Kind.LAST_COPY})
"""Why temporary copies stay though their time is over: that is no failure."""
_BATCH = 400
"""Attempts asked of the catalogue at a time."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    """What was found on one tier."""

    removed: int
    """Objects that were deleted."""
    failed: int
    """Attempts whose objects could not be deleted now; or the tier as a whole."""


def recover_all(site: Site, *, found: Callable[[str, int], None] = lambda *_: None) -> Recovered:
    """Finish or undo what dead processes left, move recalls on, and remove from all tiers what nobody knows.

    Parameters
    ----------
    site
        An open site.
    found
        Gets the name of a tier and the number of objects seen on it, now and then.

    Raises
    ------
    SiteError
        If the site cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    done = recover(site)
    done = replace(done, failed=done.failed + freeze_waiting(site, everything=True))
    stuck = sum(1 for one in expire(site) if one.error is not None and one.error.kind not in _MUST_STAY)
    done = replace(done, failed=done.failed + stuck + advance(site))
    for tier in site.settings.tiers:
        swept = sweep(site, tier.name, seen=lambda count, name=tier.name: found(name, count))  # type: ignore[misc]
        done = replace(done, orphans=done.orphans + swept.removed, failed=done.failed + swept.failed)
    return done


def sweep(site: Site, tier: str, *, seen: Callable[[int], None] = lambda _: None) -> Swept:
    """Remove what lies on a tier without a commit and without an attempt that the catalogue knows, after `GRACE`.

    So are commits removed that were written by a process which slept until its copy was finished and dropped by others.
    """
    removed = failed = 0
    try:
        storage = site.tier(tier)
        clean_temporary(site, tier)
        removed += remove_late_commits(site, tier, storage, commits.find(storage))
        for places in _batches(_places(storage, seen)):
            known = site.catalog.known_attempts([place.attempt for place in places])
            for place in places:
                if place.attempt in known:
                    continue
                try:
                    removed += remove_unknown(site, tier, place)
                except WsistoreError as error:
                    failed += 1
                    _log.warning("attempt %s in tier %s cannot be removed now: %s", place.attempt, tier, error)
    except WsistoreError as error:
        failed += 1
        _log.warning("tier %s cannot be looked through now: %s", tier, error)
    return Swept(removed, failed)


def remove_late_commits(site: Site, tier: str, storage: Storage, commit_keys: Iterable[str]) -> int:
    """Delete those of the commits that are of copies which were dropped; return how many."""
    count = 0
    for keys in _batches(commit_keys):
        for copy in site.catalog.dropped_copies(tier, keys):
            if storage.get(copy.commit_key) == copy.commit_body.encode():
                delete_commit(storage, copy)
                _log.warning("commit %s in tier %s was of a copy that is dropped", copy.commit_key, tier)
                count += 1
    return count


def _places(storage: Storage, seen: Callable[[int], None]) -> Iterator[Place]:
    """Yield the attempts of which something lies on a tier."""
    count = 0
    for tree in (STORE, PRIVATE):
        last: Place | None = None
        for info in lying(storage, f"{tree}/"):
            count += 1
            if count % 1000 == 0:
                seen(count)
            parts = info.key.split("/", 3)
            if len(parts) < 4 or (last is not None and (last.slide, last.attempt) == (parts[1], parts[2])):
                continue
            last = Place(parts[1], parts[2])
            yield last


def remove_unknown(site: Site, tier: str, place: Place) -> int:
    """Delete what lies of an attempt, if nobody knows it and all is older than `GRACE`; return how many objects."""
    if find_commit(site, tier, place) is not None:
        return 0  # a copy that this catalogue lost: it can be taken in again
    storage = site.tier(tier)
    objects = [info for prefix in (place.store, place.private) for info in lying(storage, prefix)]
    if not _all_old(site, objects):
        return 0
    # The commit may have come while the objects were listed, or the attempt have begun in this very moment.
    if place.attempt in site.catalog.known_attempts([place.attempt]) or find_commit(site, tier, place) is not None:
        return 0
    count = delete_all(storage, objects)
    remove_data_key(storage, place)
    return count


def _all_old(site: Site, objects: list[ObjectInfo]) -> bool:
    before = site.clock.now() - GRACE
    return all(info.modified < before for info in objects)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
