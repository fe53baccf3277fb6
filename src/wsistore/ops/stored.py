"""From a slide's name to the copy that answers for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from wsistore.catalog.records import CopyRow
from wsistore.compress.archive import open_stored
from wsistore.compress.keys import Place
from wsistore.compress.reader import StoredSlide
from wsistore.errors import IntegrityError, Kind, MissingError, ObjectMissingError, StorageError
from wsistore.events import EventKind, NewEvent
from wsistore.model import CopyState, Evidence, Preset
from wsistore.ops.site import Site, open_site
from wsistore.storage.base import Storage
from wsistore.tiers import commits
from wsistore.tiers.commits import Commit

T = TypeVar("T")

UNREADABLE = (IntegrityError, ObjectMissingError)
"""What reading a copy raises that is damaged, or that somebody else has dropped meanwhile."""

_UNREACHABLE = frozenset(
    {Kind.TIER_MISSING, Kind.STORAGE_TRANSIENT, Kind.STORAGE_DENIED, Kind.KEY_DESTROYED, Kind.OBJECT_ARCHIVED}
)
"""What says nothing of the bytes themselves."""

_log = logging.getLogger(__name__)


@contextmanager
def site_or_default(site: Site | None) -> Iterator[Site]:
    """Yield `site`, or the site that WSISTORE_HOME or the current folder tells, opened for reading and closed after."""
    if site is not None:
        yield site
        return
    with open_site(read_only=True) as opened:
        yield opened


def current_copies(site: Site, slide: str) -> list[CopyRow]:
    """Return the copies of a slide's current version, those that are suspect last, before them those in archives."""
    wanted = (CopyState.COMMITTED, CopyState.SUSPECT)
    found = [copy for copy in site.catalog.copies(slide) if copy.state in wanted]
    return sorted(found, key=lambda copy: (wanted.index(copy.state), copy.evidence is Evidence.ATTESTED))


def in_turn(site: Site, slide: str) -> Iterator[CopyRow]:
    """Yield the current copies one after the other, read anew each time: another may have taken one's place by then."""
    done: set[str] = set()
    while waiting := [copy for copy in current_copies(site, slide) if copy.attempt not in done]:
        done.add(waiting[0].attempt)
        yield waiting[0]


def is_current(site: Site, copy: CopyRow) -> bool:
    """Say whether a copy still counts; if not, it is no wonder that its objects are gone."""
    return any(other.attempt == copy.attempt for other in current_copies(site, copy.slide))


def sound_copy(site: Site, slide: str) -> CopyRow | None:
    """Return a copy of a slide's current version whose objects are all there; None if there is none.

    Looked at are the commit and the names and sizes of the objects: their content is what `verify` reads. A copy that
    lacks something becomes suspect.

    Raises
    ------
    StorageError
        If no copy could be found sound because a tier cannot be asked.

    """
    failure: StorageError | None = None
    for copy in in_turn(site, slide):
        if copy.state is CopyState.SUSPECT:
            continue
        try:
            check_copy(site.tier(copy.tier), copy)
        except IntegrityError as error:
            note_failure(site, copy, error)
        except StorageError as error:
            failure = error
        else:
            return copy
    if failure is not None:
        raise failure
    return None


def check_commit(storage: Storage, copy: CopyRow) -> None:
    """Raise `IntegrityError` if a copy's commit is not on its tier as the catalogue recorded it."""
    try:
        found = storage.get(copy.commit_key)
    except ObjectMissingError as error:
        msg = f"{copy.commit_key} is missing from {storage.url}."
        raise IntegrityError(msg, remedy="Restore the slide from another copy, or ingest its source again.") from error
    if found != copy.commit_body.encode():
        msg = f"{copy.commit_key} in {storage.url} is not what the catalogue recorded."
        raise IntegrityError(msg, remedy="Find out who wrote there; restore the slide from another copy.")


def check_copy(storage: Storage, copy: CopyRow) -> None:
    """Raise `IntegrityError` if a copy's commit or one of its objects is not there, or has another size."""
    check_commit(storage, copy)
    place = place_of(copy)
    there = {info.key: info.size_bytes for prefix in (place.store, place.private) for info in storage.list(prefix)}
    for record in commit_of(copy).objects:
        size = there.get(record.key)
        if size != record.size_bytes:
            size = _size(storage, record.key)  # a listing may lag behind
        if size != record.size_bytes:
            what = "is missing" if size is None else f"has {size} bytes, not the {record.size_bytes} recorded"
            msg = f"{record.key} {what} in {storage.url}."
            raise IntegrityError(msg, remedy="Restore the slide from another copy, or ingest its source again.")


def _size(storage: Storage, key: str) -> int | None:
    try:
        return storage.head(key).size_bytes
    except ObjectMissingError:
        return None


def note_failure(site: Site, copy: CopyRow, error: StorageError | IntegrityError) -> bool:
    """Let the catalogue know that a copy failed; False if it is none of its slide's current version any more.

    A copy that could only not be reached is no worse for that.
    """
    detail = {"tier": copy.tier, "attempt": copy.attempt, "kind": str(error.kind), "message": error.message}
    event = NewEvent(EventKind.VERIFICATION_FAILED, site.actor, detail)
    return site.catalog.record_failure(copy.attempt, event, suspect=error.kind not in _UNREACHABLE)


def place_of(copy: CopyRow) -> Place:
    """Return where a copy lies."""
    return Place(copy.slide, copy.attempt)


def commit_of(copy: CopyRow) -> Commit:
    """Return what a copy's commit says, as the catalogue keeps it."""
    return commits.decode(copy.commit_body.encode(), where=copy.commit_key)


def open_copy(site: Site, slide: str) -> tuple[CopyRow, Storage, StoredSlide]:
    """Open the first copy of a slide that can be opened and that describes the source which the catalogue knows.

    Raises
    ------
    MissingError
        If the slide has no copy.
    StorageError, IntegrityError
        If no copy can be opened: what is wrong with the last one.

    """
    failure: StorageError | IntegrityError | None = None
    for copy in in_turn(site, slide):
        try:
            storage = site.tier(copy.tier)
            stored = open_stored(storage, place_of(copy), packed=copy.preset is Preset.PACK)
            _check_files(site, copy, stored)
        except (StorageError, IntegrityError) as error:
            failure = error
        else:
            return copy, storage, stored
    if failure is not None:
        raise failure
    msg = f"The slide {slide} has no committed copy."
    raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="Ingest its source again.")


def from_open_copy(site: Site, slide: str, act: Callable[[CopyRow, StoredSlide], T]) -> T:
    """Return what `act` makes of a copy that can be opened (`open_copy`).

    Should that one be dropped on the way, for another has taken its place, `act` is called again with the other.

    Raises
    ------
    WsistoreError
        As `open_copy` does, and what else `act` raises.

    """
    while True:
        copy, _, stored = open_copy(site, slide)
        try:
            return act(copy, stored)
        except UNREADABLE as error:
            if is_current(site, copy):
                raise
            _log.info("slide %s is read from another copy, %s is gone: %s", slide, copy.attempt, error)


def _check_files(site: Site, copy: CopyRow, stored: StoredSlide) -> None:
    if stored.companion.files != site.catalog.source(copy.slide, copy.version).files:
        msg = f"The companion of slide {copy.slide} in {stored.storage.url} describes another source."
        raise IntegrityError(msg, remedy="Find out who wrote there; restore the slide from another copy.")


def safe_target(folder: Path, name: str) -> Path:
    """Return the path of a restored file; a stored name never leads out of `folder`.

    Raises
    ------
    IntegrityError
        If it would.

    """
    target = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).parts or "\0" in name:
        msg = f"The stored file name {name!r} leads out of its folder."
        raise IntegrityError(msg, remedy="Restore the slide from another copy.")
    return target
