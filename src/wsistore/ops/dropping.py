"""Deleting a copy that others make dispensable: its commit first, then the objects that it names, no others."""

from __future__ import annotations

import logging

from wsistore.catalog.drops import Lack, NotProven
from wsistore.catalog.records import CopyRow, Proof
from wsistore.errors import ConflictError, IntegrityError, Kind, ObjectMissingError, WsistoreError
from wsistore.events import EventKind, NewEvent
from wsistore.ops.deleting import delete_exactly
from wsistore.ops.drop_rules import proven
from wsistore.ops.freezing import freeze, should_freeze
from wsistore.ops.side_by_side import side_by_side
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, place_of
from wsistore.storage.base import Storage
from wsistore.storage.erasing import versions_of
from wsistore.tiers import commits
from wsistore.tiers.keyring import remove_data_key

_log = logging.getLogger(__name__)


def begin_drop(site: Site, copy: CopyRow, via: str = "", *, at_least: int = 1) -> Proof:
    """Decide in one transaction that a copy may go: it counts for nothing from then on.

    Parameters
    ----------
    site
        An open site.
    copy
        The copy as it was seen.
    via
        The copy that came in its place by a move; it must have been read back a short time ago.
    at_least
        In how many tiers a good copy must remain, where somebody wants more than the settings do.

    Raises
    ------
    NotProven
        If it must stay.
    ConflictError
        If it is no longer as it was seen.

    """
    return proven(site, copy, lambda rule: site.catalog.start_drop(copy, rule, site.actor), via, at_least=at_least)


def drop_replaced(site: Site, slide: str) -> list[WsistoreError]:
    """Delete a slide's copies that are being dropped; return what failed, which a later recovery does."""
    tried = [_try(site, copy) for copy in site.catalog.open_drops(slide)]
    return [error for error in tried if error is not None]


def finish_drops(site: Site) -> int:
    """Finish the drops that were interrupted; return how many could not be finished now."""
    failures = side_by_side(site.catalog.open_drops(), lambda copy: _try(site, copy))
    return sum(error is not None for error in failures)


def _try(site: Site, copy: CopyRow) -> WsistoreError | None:
    try:
        _drop(site, copy)
    except WsistoreError as error:
        _log.warning("copy %s of slide %s cannot be dropped now: %s", copy.attempt, copy.slide, error)
        return error
    return None


def _drop(site: Site, copy: CopyRow) -> None:
    """Delete a copy whose drop has begun; may be repeated.

    Raises
    ------
    StorageError
        If the tier fails.
    ConflictError
        If the tier has another commit in the place of this copy's, or a hold was placed meanwhile.

    """
    storage = site.tier(copy.tier)
    try:
        proof = proven(site, copy, lambda rule: site.catalog.prove_drop(copy.attempt, rule), begun=True)
    except NotProven as error:
        if error.lack is not Lack.FEW:
            raise
        # What has taken its place turned out to be no good: whatever is left of this copy may be needed.
        _log.warning("copy %s of slide %s is kept: %s", copy.attempt, copy.slide, error)
        site.catalog.revive(copy.attempt)
        return
    if proof is None:
        return
    waiting = [other for other in proof.copies if should_freeze(site, other)]
    for other in waiting:
        freeze(site, other)
    if waiting:
        _drop(site, copy)  # what the proof rests on is in its archive class now: it is asked for once more
        return
    commit = commit_of(copy)
    delete_commit(storage, copy)
    place = place_of(copy)
    delete_exactly(storage, [record.key for record in commit.objects], (place.store, place.private))
    remove_data_key(storage, place)
    detail = {
        "tier": copy.tier,
        "version": copy.version,
        "attempt": copy.attempt,
        "commit": copy.commit_key,
        "objects": copy.objects,
        "bytes_stored": copy.bytes_stored,
        "remaining": proof.attempts,
        "proof": proof.to_json(),
    }
    site.catalog.finish_drop(copy.attempt, NewEvent(EventKind.DROPPED, site.actor, detail))


def delete_commit(storage: Storage, copy: CopyRow) -> None:
    """Delete a copy's commit with all its versions, if they are those of the copy, sound or damaged.

    Raises
    ------
    ConflictError
        If another one stands in its place, or lies beneath it: then nothing is deleted.

    """
    key, mine = copy.commit_key, []
    for version in versions_of(storage, key):
        try:
            data = storage.get(key, version=version)
        except ObjectMissingError:
            continue
        if data != copy.commit_body.encode() and _is_anothers(storage, data, copy):
            msg = f"{key} in {storage.url} is not what the catalogue recorded."
            raise ConflictError(msg, kind=Kind.BUSY, remedy="Find out who wrote there.")
        mine.append(version)
    for version in mine:
        storage.delete(key, version=version)


def _is_anothers(storage: Storage, data: bytes, copy: CopyRow) -> bool:
    """Say whether what lies in the place of a copy's commit may be another's, and not its own that was damaged.

    Keys of attempts are random and used once: what still names this one is this one's.
    """
    if copy.attempt.encode() in data:
        return False
    try:
        commit = commits.decode(data, where=copy.commit_key)
    except IntegrityError as error:
        return error.kind is Kind.FORMAT_UNKNOWN
    # A damaged name is nobody's: nothing lies under it.
    place = commit.place
    return any(True for prefix in (place.store, place.private) for _ in storage.list(prefix))
