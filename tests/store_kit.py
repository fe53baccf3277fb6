"""What the tests of the store share: writing a source into a tier, and looking at what is stored as others would."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore

from wsistore.client.slide import Slide
from wsistore.compress.keys import Place
from wsistore.compress.writer import Draft, write_slide
from wsistore.slides.base import Level, Source
from wsistore.slides.decode import decode_tile
from wsistore.slides.registry import open_source
from wsistore.storage.local import LocalStorage

PLACE = Place("slide0key", "attempt0key")

REAL = (
    "aperio/CMU-1-Small-Region.svs",
    "aperio/hpylori-IHC.svs",
    "hamamatsu/test3-DAPI-2.ndpi",
    "dicom/CMU-1-Small-Region",
    "dicom/camelyon-j2k",
    "tiff/CMU-1-jpeg420.tiff",
    "tiff/CMU-1-webp.tiff",
    "tiff/wsic-bfconvert-XYC-JPEG.ome.tiff",
    "tiff/wsic-bfconvert-XYC-JPEG-2000.ome.tiff",
    "tiff/small.svs",
    "tiff/boxes.tiff",
)
"""Every good slide of the shared folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A source and its copy in a tier of its own."""

    source: Source
    storage: LocalStorage
    draft: Draft
    root: Path

    @property
    def store(self) -> Path:
        """Folder of the shared hierarchy."""
        return self.root / self.draft.place.store

    def group(self) -> zarr.Group:
        """Open the hierarchy with plain Zarr."""
        return zarr.open_group(LocalStore(self.store, read_only=True), mode="r")

    def image(self, level: int) -> zarr.Array[Any]:
        """Return the array of a level."""
        found = self.group()[f"{level}/image"]
        assert isinstance(found, zarr.Array)
        return found


def store(path: Path, root: Path, place: Place = PLACE) -> Stored:
    """Write the source at `path` into a new tier at `root`."""
    root.mkdir()
    source, storage = open_source(path), LocalStorage(root, durable=False)
    return Stored(source, storage, write_slide(source, storage, place, history=()), root)


def tiles_of(source: Source, level: Level) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of every tile of a level that is there, read from the source's files."""
    files = [file.path.open("rb") for file in source.files]
    try:
        parts: list[bytes] = []
        rows = level.segments.tolist()
        for at, (tile, file, offset, length) in enumerate(rows):
            files[file].seek(offset)
            parts.append(files[file].read(length))
            if at + 1 == len(rows) or rows[at + 1][0] != tile:
                yield tile, b"".join(parts)
                parts = []
    finally:
        for one in files:
            one.close()


def check_pixels(stored: Stored, number: int) -> int:
    """Compare every tile's pixels, read by plain Zarr, with the reference decoding; return how many there were."""
    level, array = stored.source.levels[number], stored.image(number)
    assert array.shape == (level.channels, level.height, level.width)
    assert array.dtype == np.dtype(level.dtype)
    across, rows = level.grid[1], array.chunks[1] // level.tile_height
    first, seen = -1, 0
    band, there = np.empty(0), np.empty(0)
    for tile, data in tiles_of(stored.source, level):
        row, column = divmod(tile, across)
        if row // rows != first:
            check_absent(band, there, array.fill_value)
            first = row // rows
            band = np.asarray(array[:, first * array.chunks[1] : (first + 1) * array.chunks[1]])
            there = np.zeros(band.shape[1:], bool)
        y, x = row % rows * level.tile_height, column * level.tile_width
        here = np.s_[y : y + level.tile_height, x : x + level.tile_width]
        expected, shown = np.moveaxis(decode_tile(level, data), -1, 0), band[:, *here]
        assert np.array_equal(shown, expected[:, : shown.shape[1], : shown.shape[2]]), f"level {number}, tile {tile}"
        there[here] = True
        seen += 1
    check_absent(band, there, array.fill_value)
    return seen


def check_absent(band: npt.NDArray[Any], there: npt.NDArray[Any], fill: Any) -> None:
    """Tiles that are missing read as the fill value."""
    if band.size:
        assert np.all(band[:, ~there] == fill)


def stored_chunks(stored: Stored, number: int) -> dict[tuple[int, int], bytes]:
    """Return every chunk of a level by (row, column), cut out of the shards as the Zarr specification says."""
    array = stored.image(number)
    assert array.shards is not None
    down, across = (array.shards[axis] // array.chunks[axis] for axis in (1, 2))
    found = {}
    for path in sorted((stored.store / f"{number}/image/c/0").glob("*/*")):
        top, left = int(path.parent.name) * down, int(path.name) * across
        shard = path.read_bytes()
        index = shard[-(down * across * 16 + 4) : -4]
        for slot, (offset, length) in enumerate(struct.iter_unpack("<QQ", index)):
            if length != 2**64 - 1:
                found[top + slot // across, left + slot % across] = shard[offset : offset + length]
    return found


def in_memory(folder: Path) -> Slide:
    """Open a copy in a store that is neither ours nor a folder."""
    files: dict[str, Any] = {}
    made = MemoryStore(files)
    buffer = default_buffer_prototype().buffer
    for path in folder.rglob("*"):
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = buffer.from_bytes(path.read_bytes())
    return Slide(made, "a slide in memory")
