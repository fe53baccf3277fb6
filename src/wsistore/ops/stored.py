"""From a slide's name to the copy that answers for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsistore.catalog.records import CopyRow
from wsistore.compress.keys import Place
from wsistore.compress.reader import StoredSlide
from wsistore.errors import IntegrityError, Kind, MissingError, StorageError
from wsistore.model import CopyState
from wsistore.ops.site import Site, open_site
from wsistore.storage.base import Storage
from wsistore.tiers import commits
from wsistore.tiers.commits import Commit


@contextmanager
def site_or_default(site: Site | None) -> Iterator[Site]:
    """Yield `site`, or the site that WSISTORE_HOME or the current folder tells, opened for reading and closed after."""
    if site is not None:
        yield site
        return
    with open_site(read_only=True) as opened:
        yield opened


def current_copies(site: Site, slide: str) -> list[CopyRow]:
    """Return the committed copies of a slide's current version."""
    return [copy for copy in site.catalog.copies(slide) if copy.state is CopyState.COMMITTED]


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
    for copy in current_copies(site, slide):
        try:
            storage = site.tier(copy.tier)
            stored = StoredSlide(storage, place_of(copy))
            _check_files(site, copy, stored)
        except (StorageError, IntegrityError) as error:
            failure = error
        else:
            return copy, storage, stored
    if failure is not None:
        raise failure
    msg = f"The slide {slide} has no committed copy."
    raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="Ingest its source again.")


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
