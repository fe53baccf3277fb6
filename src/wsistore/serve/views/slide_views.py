"""One slide as a project sees it: documents, stored objects, chunks of the views, tiles for the viewer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from wsistore.compress.archive import PackedView
from wsistore.compress.chunk_bytes import Indexes
from wsistore.compress.lru import BytesLru
from wsistore.errors import IntegrityError, MissingError, WsistoreError
from wsistore.model import Mode
from wsistore.ops.serving import ServedCopy
from wsistore.serve.views import documents
from wsistore.serve.views.levels import Folds, LevelSource, as_bytes, folds, level_source
from wsistore.serve.views.tiles import Tiles
from wsistore.storage.base import ByteRange, Span, SupportsLocalPath
from wsistore.units import MIB

_INDEX_BYTES = 8 * MIB
"""Of shard indexes that a slide keeps."""
_FORM = b"views-1"
"""Part of every ETag: another version of this code may encode pixels in another way."""
_NUMBER = "(?:0|[1-9][0-9]{0,8})"
_KEY = re.compile(rf"({_NUMBER}/(?:image|y|x)|thumbnail|icc)/c((?:/{_NUMBER}){{1,3}})")
_DOCUMENT = "zarr.json"


class View(StrEnum):
    """How a slide is shown; the value is what stands before ``.zarr`` in a path, empty for as it lies."""

    RAW = ""
    """As it lies: sharded, in the vendor's codec or folded."""
    JPEG = "jpeg"
    """One complete JPEG per chunk."""
    ZSTD = "zstd"
    """Pixels, with codecs that every Zarr has."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that may be read as it lies."""

    size_bytes: int
    etag: str
    """Strong, with its quotes; tells nothing of content or key."""
    path: Path | None
    """Of the file that holds it from byte `start` on, where it is one of this machine."""
    start: int


@dataclass(frozen=True, slots=True)
class ViewLevel:
    """One level as a viewer shows it."""

    number: int
    """As in the URLs of its tiles."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    tile_height: int
    """Pixels of every tile, also of those at the edges, which are padded."""
    tile_width: int
    """Pixels."""
    um_per_px: tuple[float, float] | None
    """Height and width of a pixel in micrometres."""


class SlideViews:
    """A slide as one project may see it. Threads share it; every method may block for a read or a decode.

    Parameters
    ----------
    copy
        The opened copy.
    first_level
        Levels with smaller numbers are not shown in any view.
    kept
        Folds that were undone, of all slides of the process.

    Raises
    ------
    MissingError
        If the slide has no level that may be shown.
    IntegrityError
        If what is stored of it is not as wsistore writes it.

    """

    def __init__(self, copy: ServedCopy, *, first_level: int = 0, kept: Folds | None = None) -> None:
        self.copy, self.first_level = copy, first_level
        shown = range(first_level, len(copy.slide.levels))
        if not shown:
            msg = f"Slide {copy.place.slide} has {len(copy.slide.levels)} levels, none of which may be shown."
            raise MissingError(msg, remedy="Let the project see more levels.")
        kept, attempt = folds() if kept is None else kept, copy.place.attempt
        indexes: Indexes = BytesLru(_INDEX_BYTES)
        with _understood(copy):
            self._sources: dict[int, LevelSource] = {
                number: level_source(copy.slide, number, copy.store, indexes, kept, attempt) for number in shown
            }
            raw = documents.stored(copy, shown)
            self._documents = {View.RAW: raw, View.ZSTD: documents.pixels(copy, raw, self._sources)}
            if all(source.jpeg_shape is not None for source in self._sources.values()):
                self._documents[View.JPEG] = documents.jpeg(copy, raw, self._sources)
        self._keyed = {view: documents.keyed(found) for view, found in self._documents.items()}
        self._tiles = {number: Tiles(copy.slide, number, source) for number, source in self._sources.items()}
        self._seed = hashlib.blake2b(f"{attempt}/{first_level}".encode(), key=_FORM)

    @property
    def views(self) -> tuple[View, ...]:
        """The views that show pixels of this slide: not `View.RAW` if it is kept whole, `View.JPEG` only of 8 bits."""
        shown = [View.RAW] if self.copy.mode is Mode.TILES else []
        return (*shown, *(view for view in (View.JPEG, View.ZSTD) if view in self._documents))

    @property
    def levels(self) -> tuple[ViewLevel, ...]:
        """The levels that are shown, the largest first."""
        return tuple(self._level(number) for number in self._sources)

    def _level(self, number: int) -> ViewLevel:
        size, shape = self.copy.slide.levels[number], self._tiles[number].shape
        return ViewLevel(number, size.height, size.width, *shape, size.um_per_px)

    @property
    def magnification(self) -> float | None:
        """Of the objective at level 0; None if it is not known."""
        return self.copy.slide.magnification

    def etag(self, view: View, key: str) -> str:
        """Return the strong ETag, with its quotes, of a key that there is; cheap, reads nothing."""
        digest = self._seed.copy()
        digest.update(f"/{view}/{key}".encode())
        return f'"{digest.hexdigest()[:32]}"'

    def document(self, view: View, key: str) -> bytes | None:
        """Return the ``zarr.json`` at a canonical key of a view, from memory; None if there is none that may be shown.

        That at the root holds all others too (consolidated metadata).
        """
        return self._keyed.get(view, {}).get(key)

    def stored(self, key: str) -> StoredObject | None:
        """Return where the object of a canonical key of `View.RAW` lies (no ``zarr.json``); None if there is none.

        Reads nothing where the copy is open; for HEAD, for ranges, and to send a file as it is.
        """
        if not self._is_shown(View.RAW, key):
            return None
        size = self.copy.sizes.get(key)
        if size is None:
            return None
        storage, name, start = self.copy.storage, self.copy.place.store + key, 0
        if isinstance(storage, PackedView):
            name, start = storage.resolve(name)
            storage = storage.inner
        is_file = storage.properties.local_files and isinstance(storage, SupportsLocalPath)
        path = storage.local_path(name) if is_file and isinstance(storage, SupportsLocalPath) else None
        return StoredObject(size, self.etag(View.RAW, key), path, start)

    def raw(self, key: str, byte_range: ByteRange | None = None) -> bytes | None:
        """Return the bytes of an object of `View.RAW`, or a part; None as of `stored`.

        Raises
        ------
        ObjectArchivedError
            If it must be recalled first.
        StorageError, IntegrityError
            If it cannot be read. Messages name keys: they are for the log, not for the caller.

        """
        if key not in self.copy.sizes or not self._is_shown(View.RAW, key):
            return None
        return self.copy.storage.get(self.copy.place.store + key, byte_range)

    def raw_parts(self, key: str, spans: Sequence[Span]) -> list[bytes] | None:
        """Return several parts of an object of `View.RAW`, read side by side; else as `raw`."""
        if key not in self.copy.sizes or not self._is_shown(View.RAW, key):
            return None
        return self.copy.storage.get_many(self.copy.place.store + key, spans)

    def chunk(self, view: View, array: str, index: tuple[int, ...]) -> bytes | None:
        """Return a chunk of a decoded view, complete; None if there is none.

        Parameters
        ----------
        view
            `View.JPEG` or `View.ZSTD`.
        array
            Path within the view: ``0/image``, ``0/y``, ``0/x``, ``thumbnail`` or ``icc``.
        index
            Of the chunk: (c, y, x), or one number where the array has one axis.

        Raises
        ------
        ObjectArchivedError, StorageError, IntegrityError
            As of `raw`.

        """
        document = self._documents.get(view, {}).get(array)
        if document is None or view is View.RAW or not _within(index, documents.grid_of(document)):
            return None
        level, _, name = array.rpartition("/")
        if name == "image":
            return self._image(view, self._sources[int(level)], index[1], index[2])
        if name in {"y", "x"}:
            return as_bytes(self._whole(array))
        if name == "thumbnail" and view is View.ZSTD:
            return self._thumbnail
        return self.raw(f"{array}/c/{'/'.join(map(str, index))}")

    def _image(self, view: View, source: LevelSource, row: int, column: int) -> bytes | None:
        if view is View.JPEG:
            return source.jpeg(row, column)
        pixels = source.pixels(row, column)
        return None if pixels is None else as_bytes(np.moveaxis(pixels, -1, 0))

    @cached_property
    def _thumbnail(self) -> bytes:
        with _understood(self.copy):
            return as_bytes(np.asarray(zarr.open_array(self.copy.store, path="thumbnail", mode="r")[:]))

    def _whole(self, array: str) -> Any:
        with _understood(self.copy):
            return np.asarray(self.copy.slide.group[array][:])  # type: ignore[index]

    def read(self, view: View, key: str) -> bytes | None:
        """Return what lies at a key of any view, whole: document, object or chunk; None for all that is not shown."""
        found = self.document(view, key)
        if found is not None or view is View.RAW:
            return self.raw(key) if found is None else found
        named = _KEY.fullmatch(key)
        if named is None:
            return None
        return self.chunk(view, named[1], tuple(int(part) for part in named[2].split("/")[1:]))

    def tile(self, level: int, y: int, x: int) -> bytes | None:
        """Return one tile as a JPEG that any browser shows; None outside of the level's grid, or of what is shown.

        Raises
        ------
        ObjectArchivedError, StorageError, IntegrityError
            As of `raw`.

        """
        tiles = self._tiles.get(level)
        return None if tiles is None else tiles.get(y, x)

    def close(self) -> None:
        """Free what is held open; waits for those who read."""
        self.copy.close()

    def _is_shown(self, view: View, key: str) -> bool:
        """Say whether a key is that of a chunk of an array that may be shown, written as Zarr writes it."""
        named = _KEY.fullmatch(key)
        document = None if named is None else self._documents[view].get(named[1])
        if named is None or document is None:
            return False
        return _within(tuple(int(part) for part in named[2].split("/")[1:]), documents.grid_of(document))


def _within(index: tuple[int, ...], grid: tuple[int, ...]) -> bool:
    return len(index) == len(grid) and all(0 <= one < most for one, most in zip(index, grid, strict=True))


@contextmanager
def _understood(copy: ServedCopy) -> Iterator[None]:
    """Turn what Zarr raises of strange documents into errors of ours."""
    try:
        yield
    except WsistoreError:
        raise
    except Exception as error:  # Zarr and its codecs raise what they like
        what = f"{type(error).__name__}: {error!s:.200}"
        msg = f"Slide {copy.place.slide} in {copy.tier} cannot be understood ({what})."
        raise IntegrityError(msg, remedy="Verify the slide, and restore it from another copy.") from error
