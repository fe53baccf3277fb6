"""Opening slides and their files: by key from a site, by path, by URL."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

from wsistore.client import opening
from wsistore.client.slide import Slide
from wsistore.compress.archive import PackedView
from wsistore.compress.extents import map_source
from wsistore.compress.keys import Place
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_file import open_view
from wsistore.compress.zarr_store import TierStore
from wsistore.errors import InputError, Kind, MissingError, SiteError, StorageError, UnsupportedError
from wsistore.model import Mode, Preset
from wsistore.ops.restoring import source_blocks
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, current_copies, open_copy, place_of, safe_target, site_or_default
from wsistore.ops.targets import translated
from wsistore.slides.registry import open_source as open_vendor_source
from wsistore.storage.base import Storage, SupportsLocalPath


def open_slide(path_or_url_or_id: str | Path, *, site: Site | None = None) -> Slide:
    """Open a slide for reading.

    Parameters
    ----------
    path_or_url_or_id
        Path of an OME-Zarr folder, an ``.ozx`` or a vendor's file; a URL of one of the first two; or a slide's key (or
        the unique beginning of one, or its name) in a site.
    site
        Where keys are looked up; by default the site that WSISTORE_HOME or the current folder tells.

    Returns
    -------
    Slide
        Close it when done, or use it in a ``with`` statement.

    Raises
    ------
    MissingError
        If there is no such path or slide.
    InputError
        If the file is no slide.
    StorageError, IntegrityError
        If it cannot be read.

    """
    text = str(path_or_url_or_id)
    if opening.is_url(text):
        return opening.open_url(text)
    path = Path(text)
    if os.path.lexists(path):
        return opening.open_path(path)
    try:
        with site_or_default(site) as found:
            return open_stored(found, text)
    except SiteError as error:
        if site is not None or error.kind is not Kind.SITE_MISSING:
            raise
        msg = f"There is nothing at {path}, and no site to look a slide up in."
        remedy = "Check the path, or set WSISTORE_HOME to the site's folder."
        raise MissingError(msg, kind=Kind.PATH_MISSING, remedy=remedy) from error


def open_stored(site: Site, slide: str) -> Slide:
    """Open a slide of a site, with label and macro from its companion."""
    key = site.catalog.resolve(slide)
    try:
        copy, _, stored = open_copy(site, key)
    except StorageError as error:
        if error.kind is not Kind.KEY_DESTROYED:
            raise
        return _open_pixels(site, key, error)
    required = frozenset(record.key for record in commit_of(copy).objects)
    # Through `stored.storage`: in a packed copy the objects lie within others.
    return _opened(stored, stored.storage, key, required)


def _open_pixels(site: Site, key: str, error: StorageError) -> Slide:
    """Open a slide whose companion was erased: its store is whole, and all that there is."""
    copy = current_copies(site, key)[0]
    commit = commit_of(copy)
    if commit.mode is Mode.WHOLE:
        raise error  # its pixels were in the companion
    place, storage = place_of(copy), site.tier(copy.tier)
    view = PackedView(storage, place) if copy.preset is Preset.PACK else storage
    return _pixels(view, place, key, frozenset(record.key for record in commit.objects))


def _pixels(storage: Storage, place: Place, key: str, required: frozenset[str]) -> Slide:
    reopen = partial(_pixels, storage, place, key, required)
    return Slide(TierStore(storage, place.store, required=required), key, reopen=reopen)


def _opened(stored: StoredSlide, storage: Storage, key: str, required: frozenset[str]) -> Slide:
    reopen = partial(_reopen, storage, stored.place, key, required)
    if stored.companion.mode is Mode.WHOLE:
        return _open_whole(stored, key).reopening_with(reopen)
    mapped = cache(lambda: map_source(stored))  # reads every shard's index: only for those who want a picture

    def open_file(index: int) -> BinaryIO:
        return open_view(stored, mapped(), index)

    pictures = opening.loaders(stored.companion.associated, open_file)
    store = TierStore(storage, stored.place.store, required=required)
    return Slide(store, key, associated=pictures, reopen=reopen)


def _reopen(storage: Storage, place: Place, key: str, required: frozenset[str]) -> Slide:
    """Open a copy in another process, which asks its tier only: it may not see the site."""
    return _opened(StoredSlide(storage, place), storage, key, required)


def open_source(slide: str, name: str | None = None, *, site: Site | None = None) -> io.BufferedReader:
    """Open a stored slide's vendor file: seekable, read-only, any byte range, answered from the tiles in place.

    Parameters
    ----------
    slide
        Key, unique beginning of one, or name.
    name
        Which of its files; may be left out where there is only one.
    site
        By default the site that WSISTORE_HOME or the current folder tells.

    Raises
    ------
    MissingError
        If there is no such slide or file.
    StorageError, IntegrityError
        If it cannot be read; also from reads later on.

    """
    with site_or_default(site) as found:
        _, _, stored = open_copy(found, found.catalog.resolve(slide))
    names = [file.name for file in stored.companion.files]
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        msg = f"Slide {stored.place.slide} has no file {name!r}." if name else f"Slide {slide} has several files."
        raise MissingError(msg, remedy=f"Name one of: {', '.join(names[:10])}.")
    return open_view(stored, map_source(stored), names.index(name))


def _open_whole(stored: StoredSlide, name: str) -> Slide:
    """Open a slide that is kept whole through its vendor's library, which needs files with their own names."""
    with ExitStack() as cleanup:
        with translated(Path(tempfile.gettempdir())):
            folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="wsistore-")))
        for number, file in enumerate(stored.companion.files):
            _place_file(stored, number, safe_target(folder, file.name))
        try:
            source = open_vendor_source(folder / stored.companion.files[0].name)
            slide = opening.open_vendor(source, name)
        except InputError as error:
            msg = f"Slide {name} is kept whole ({stored.companion.mode_reason}), and nothing here decodes its pixels."
            remedy = "Restore its files and open them with the vendor's software."
            raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS, remedy=remedy) from error
        return slide.closing_with(cleanup.pop_all().close)


def _place_file(stored: StoredSlide, number: int, target: Path) -> None:
    storage, key = stored.storage, stored.place.source(number)
    with translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        as_it_is = stored.companion.skeleton is None
        if as_it_is and storage.properties.local_files and isinstance(storage, SupportsLocalPath):
            target.symlink_to(storage.local_path(key).resolve())
            return
        with target.open("wb") as out:
            for block in source_blocks(stored, map_source(stored), number):
                out.write(block)
