"""Opening a slide by path or URL: an OME-Zarr store, a zipped one, or a vendor's file read in place."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from wsistore.client.remote import RemoteStore, reached
from wsistore.client.slide import Loader, Slide
from wsistore.client.zipped import ZippedStore
from wsistore.compress.source_bytes import SourceBytes
from wsistore.compress.virtual import LibraryStore, TileStore
from wsistore.errors import Kind, MissingError
from wsistore.model import Mode
from wsistore.slides import associated
from wsistore.slides.base import Associated, OpenFile, Source
from wsistore.slides.boundary import translated
from wsistore.slides.regions import WholeReader
from wsistore.slides.registry import open_source

_ZIPPED = (".ozx", ".zip")


def is_url(text: str) -> bool:
    """Say whether `text` is a URL rather than a path or a slide's key."""
    return "://" in text


def open_url(url: str) -> Slide:
    """Open an OME-Zarr store, or an ``.ozx``, through fsspec.

    Raises
    ------
    StorageError
        If there is no such place, or fsspec cannot reach it.
    IntegrityError, BrokenError
        If what lies there is not a slide.

    """
    reopen = partial(open_url, url)
    if url.lower().endswith(_ZIPPED):
        archive = ZippedStore.remote(url)
        return Slide(archive, url, close=archive.close, reopen=reopen)
    with reached(url):
        store = RemoteStore(FsspecStore.from_url(url, read_only=True))
    return Slide(store, url, reopen=reopen)


def open_path(path: Path) -> Slide:
    """Open a store, an ``.ozx`` or a vendor's file.

    Raises
    ------
    MissingError
        If there is nothing at `path`.
    InputError
        If it is a file or folder, but no slide, or cannot be read.
    IntegrityError
        If it is a hierarchy, but not a slide's.

    """
    with translated(path):
        if not path.exists():
            msg = f"There is nothing at {path}."
            raise MissingError(msg, kind=Kind.PATH_MISSING, remedy="Check the path.")
        is_store = path.is_dir() and (path / "zarr.json").is_file()
        is_archive = path.is_file() and path.suffix.lower() in _ZIPPED
    reopen = partial(open_path, path.absolute())
    if is_store:
        return Slide(LocalStore(path, read_only=True), str(path), reopen=reopen)
    if is_archive:
        archive = ZippedStore.local(path)
        return Slide(archive, str(path), close=archive.close, reopen=reopen)
    return open_vendor(open_source(path), str(path)).reopening_with(reopen)


def open_vendor(source: Source, name: str) -> Slide:
    """Open a source that is not stored; its files are read in place."""
    pictures = loaders(source.associated, lambda index: source.files[index].path.open("rb"))
    with ExitStack() as cleanup:
        if source.mode is Mode.WHOLE:
            store: Store = LibraryStore(source, cleanup.enter_context(WholeReader(source.files[0].path)))
        else:
            store = TileStore(source, cleanup.enter_context(SourceBytes(source.files)))
        return Slide(store, name, associated=pictures).closing_with(cleanup.pop_all().close)


def loaders(pictures: Iterable[Associated], open_file: OpenFile) -> dict[str, Loader]:
    """Return for each associated picture a function that reads it."""
    return {picture.name: partial(associated.read, picture.locator, open_file) for picture in pictures}
