"""Opening slides and their files: by key from a site, by path, by URL."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import BinaryIO

from wsistore.client import opening
from wsistore.client.slide import Slide
from wsistore.compress.extents import map_source
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_file import open_view
from wsistore.compress.zarr_store import TierStore
from wsistore.errors import InputError, Kind, MissingError, SiteError, UnsupportedError
from wsistore.model import Mode
from wsistore.ops.restoring import source_blocks
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, open_copy, safe_target, site_or_default
from wsistore.ops.targets import translated
from wsistore.slides.registry import open_source as open_vendor_source
from wsistore.storage.base import SupportsLocalPath


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
    copy, storage, stored = open_copy(site, key)
    if stored.companion.mode is Mode.WHOLE:
        return _open_whole(stored, key)
    mapped = cache(lambda: map_source(stored))  # reads every shard's index: only for those who want a picture

    def open_file(index: int) -> BinaryIO:
        return open_view(stored, mapped(), index)

    pictures = opening.loaders(stored.companion.associated, open_file)
    required = [record.key for record in commit_of(copy).objects]
    return Slide(TierStore(storage, stored.place.store, required=required), key, associated=pictures)


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
        if storage.properties.local_files and isinstance(storage, SupportsLocalPath):
            target.symlink_to(storage.local_path(key).resolve())
            return
        with target.open("wb") as out:
            for block in source_blocks(stored, map_source(stored), number):
                out.write(block)
