"""Verified copies moved into the archive class of their tier, by the tier itself, object by object.

A copy is written in a class that can be read, read back and committed as everywhere. What the tier says of its objects
in that moment (size, and ETag or time of the last change) is kept before the first of them is moved; only if it says
the same of all of them afterwards is the copy's evidence ``attested-before-freeze``. Whatever dies in between, a
recovery goes on: an object that is in the class already is only compared.

The commit, which is never written again, says what the evidence was when it was written; the catalogue's row and the
events ``freezing`` and ``frozen`` say what became of it. Commits, the tier's marker, its ledger and its key ring stay
readable.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wsistore.catalog import archived
from wsistore.catalog.records import CopyRow
from wsistore.clock import iso
from wsistore.compress.verify import verify_copy
from wsistore.errors import IntegrityError, Kind, MissingError, ObjectMissingError, StorageError, WsistoreError
from wsistore.events import EventKind, NewEvent
from wsistore.model import CopyState, Evidence, ObjectRecord
from wsistore.ops.own_work import lives
from wsistore.ops.side_by_side import side_by_side
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, note_failure, place_of
from wsistore.settings import TierSettings
from wsistore.storage.archive import SupportsArchive, archive_of
from wsistore.storage.base import ObjectInfo, Storage
from wsistore.storage.tape import TAPE

SEALED = "sealed"
"""Where the figures of an attempt and the event ``freezing`` hold the seals of a copy's objects."""

Seals = dict[str, list[Any]]
"""By key: size, ETag (or none), time of the last change where there is no ETag."""

_log = logging.getLogger(__name__)


def archive_class(tier: TierSettings) -> str:
    """Return the class that a tier's verified objects are moved to; nothing if they stay as they are.

    Where a key of a key service encrypts, ETags are not of the bytes: nothing would prove that they stayed the same.
    """
    if tier.archive is None or (tier.encryption is not None and tier.encryption.method == "aws:kms"):
        return ""
    if tier.archive.tape is not None:
        return TAPE if tier.archive.tape.release else ""
    return tier.archive.storage_class


def seals_of(site: Site, tier: str, objects: Iterable[ObjectRecord]) -> Seals:
    """Return what a tier says of objects that are to be archived there; nothing if it archives none."""
    if not archive_class(site.tier_settings(tier)):
        return {}
    archive = _archive(site.tier(tier), tier)
    return {record.key: _seal(archive.look(record.key)) for record in objects}


def check_seals(before: Seals, after: Seals) -> None:
    """Refuse a copy that changed while it was read back.

    Raises
    ------
    IntegrityError
        If it did.

    """
    changed = [key for key, seal in before.items() if after.get(key) != seal]
    if changed:
        msg = f"{changed[0]} changed while it was read back."
        raise IntegrityError(msg, remedy="Find out who wrote there.")


def should_freeze(site: Site, copy: CopyRow) -> bool:
    """Say whether a copy's objects are still to be moved into the archive class of its tier."""
    known = {tier.name: tier for tier in site.settings.tiers}
    return (
        copy.state is CopyState.COMMITTED
        and copy.evidence is Evidence.READ_BACK
        and copy.tier in known
        and bool(archive_class(known[copy.tier]))
    )


def freeze(site: Site, seen: CopyRow) -> bool:
    """Move a copy's objects into the archive class of its tier; may be repeated, and goes on where it was cut short.

    Returns
    -------
    bool
        Whether something was done.

    Raises
    ------
    StorageError
        If the tier fails; what was moved stays moved.
    IntegrityError
        If an object is not what was read back: then the copy is suspect.

    """
    if not any(tier.name == seen.tier and archive_class(tier) for tier in site.settings.tiers):
        return False
    copy = site.catalog.copy_of_attempt(seen.attempt)
    if copy is None or not should_freeze(site, copy):
        return False
    storage = site.tier(copy.tier)
    target = archive_class(site.tier_settings(copy.tier))
    try:
        seals = _begun(site, copy) or _begin(site, copy, storage)
        work = [(key, seal) for key, seal in sorted(seals.items())]
        for _ in side_by_side(work, lambda one: _transition(storage, copy.tier, target, *one)):
            pass
    except IntegrityError as error:
        note_failure(site, copy, error)
        raise
    detail = {"tier": copy.tier, "attempt": copy.attempt, "class": target, "verified_at": copy.verified_at}
    event = NewEvent(EventKind.FROZEN, site.actor, {**detail, "evidence": str(Evidence.ATTESTED)})
    archived.set_frozen(site.catalog, copy.attempt, iso(site.clock.now()), event)
    return True


def try_freeze(site: Site, copy: CopyRow) -> str:
    """Do what `freeze` does; return in words why it could not be finished now, which a later recovery does."""
    try:
        freeze(site, copy)
    except WsistoreError as error:
        _log.warning("copy %s of slide %s is not all in its archive class yet: %s", copy.attempt, copy.slide, error)
        return f"Not all of it is in the archive class yet, 'wsistore recover' goes on: {error.message}"
    return ""


def freeze_waiting(site: Site, *, everything: bool = False) -> int:
    """Go on with what dead processes were archiving; return how many copies could not be dealt with now.

    Parameters
    ----------
    site
        An open site.
    everything
        Also copies that nobody began to archive: those that came before the tier's settings named a class. They are
        read back first.

    """
    tiers = [tier.name for tier in site.settings.tiers if archive_class(tier)]
    waiting = archived.unfrozen(site.catalog, tiers) if tiers else []
    mine = [copy for copy in waiting if not _is_anothers(site, copy) and (everything or _is_begun(site, copy))]
    return sum(bool(problem) for problem in side_by_side(mine, lambda copy: try_freeze(site, copy)))


def look_at_frozen(site: Site, copy: CopyRow) -> ObjectInfo | None:
    """Ask a tier about an archived copy: class, size and ETag of every object are to be as they were.

    Returns
    -------
    ObjectInfo or None
        One of the objects that cannot be read now; None if all of them can.

    Raises
    ------
    IntegrityError
        If one is missing, or is not what it was.
    StorageError
        If the tier fails.

    """
    archive, seals = _archive(site.tier(copy.tier), copy.tier), _begun(site, copy)
    waiting: ObjectInfo | None = None
    for record in commit_of(copy).objects:
        try:
            info = archive.look(record.key)
        except ObjectMissingError as error:
            msg = f"{record.key} is missing from tier {copy.tier}."
            raise IntegrityError(msg, remedy="Restore the slide from another copy.") from error
        seal = seals.get(record.key)
        if info.size_bytes != record.size_bytes or (seal is not None and seal != _seal(info)):
            raise _changed(copy.tier, record.key)
        waiting = waiting if info.archive.is_readable else info
    return waiting


def seen(site: Site, copy: CopyRow) -> str:
    """Note that a tier was asked about an archived copy and found it as it was; return when.

    That proves less than reading it: it renews how fresh the evidence is, not when the copy was read back.
    """
    now = iso(site.clock.now())
    archived.set_seen(site.catalog, copy.attempt, now)
    return now


# --- how --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _State:
    """Versions of an object, the newest first."""

    newest: ObjectInfo
    others: tuple[str, ...]


def _archive(storage: Storage, tier: str) -> SupportsArchive:
    archive = archive_of(storage)
    if archive is None:
        msg = f"Tier {tier} has no archive classes."
        raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy=f"Mend the table [tiers.{tier}.archive].")
    return archive


def _seal(info: ObjectInfo) -> list[Any]:
    return [info.size_bytes, info.etag, None if info.etag else iso(info.modified)]


def _changed(tier: str, key: str) -> IntegrityError:
    msg = f"{key} in tier {tier} is not what it was when it was read back."
    return IntegrityError(msg, remedy="Find out who wrote there; recall the slide and verify it.")


def _figures(site: Site, copy: CopyRow) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = site.catalog.attempt(copy.attempt).job.get("figures", {})
    except MissingError:  # the catalogue was lost since
        return {}
    return found


def _begun(site: Site, copy: CopyRow) -> Seals:
    """Return the seals that were written down before the first object of the copy was moved."""
    for event in reversed(site.catalog.events(copy.slide)):
        if event.kind == EventKind.FREEZING and event.detail.get("attempt") == copy.attempt:
            found: Seals = dict(event.detail[SEALED])
            return found
    return {}


def _begin(site: Site, copy: CopyRow, storage: Storage) -> Seals:
    """Write down what is about to be moved, as it was when it was read back; read back anew if that is not known."""
    commit = commit_of(copy)
    seals: Seals = dict(_figures(site, copy).get(SEALED, {}))
    if not seals:
        seals = seals_of(site, copy.tier, commit.objects)
        files = site.catalog.source(copy.slide, copy.version).files
        verify_copy(storage, place_of(copy), commit.objects, files)
        check_seals(seals, seals_of(site, copy.tier, commit.objects))
        detail = {"tier": copy.tier, "attempt": copy.attempt, "evidence": str(copy.evidence)}
        verified = NewEvent(EventKind.VERIFIED, site.actor, detail)
        site.catalog.record_verification(copy.attempt, site.clock.now(), verified)
    site.note(copy.slide, EventKind.FREEZING, {"tier": copy.tier, "attempt": copy.attempt, SEALED: seals})
    return seals


def _transition(storage: Storage, tier: str, target: str, key: str, seal: list[Any]) -> None:
    """Move one object, if it is not there yet, and let the versions go that the move leaves behind."""
    archive = _archive(storage, tier)
    try:
        info = archive.look(key)
    except ObjectMissingError as error:
        raise _changed(tier, key) from error
    if _seal(info) != seal:
        raise _changed(tier, key)
    if info.storage_class != target:
        info = archive.transition(key, target, etag=info.etag)
        # A service whose ETags are not of the bytes says another one now: then nothing is attested.
        if _seal(info)[:2] != seal[:2]:
            raise _changed(tier, key)
    if storage.properties.versions:
        _delete_before(storage, archive, info, seal)


def _delete_before(storage: Storage, archive: SupportsArchive, now: ObjectInfo, seal: list[Any]) -> None:
    """Delete the versions from which the archived one was made: they are the same bytes, and are paid for."""
    for other in list(storage.versions(now.key)):
        if other.key != now.key or other.version in (None, now.version):
            continue
        found = archive.look(other.key, version=other.version)
        if (found.size_bytes, found.etag) == (seal[0], seal[1]):
            storage.delete(other.key, version=other.version)


def _is_begun(site: Site, copy: CopyRow) -> bool:
    return SEALED in _figures(site, copy) or bool(_begun(site, copy))


def _is_anothers(site: Site, copy: CopyRow) -> bool:
    """Say whether the process that made a copy still works, and so archives it itself."""
    try:
        attempt = site.catalog.attempt(copy.attempt)
    except MissingError:
        return False
    return attempt.owner != site.owner and lives(attempt, site.clock.now())
