"""The tiles of a slide for the tuner: from a vendor's file, or from a stored copy in whatever encoding."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.compress import grid as grids
from wsistore.compress import layout, metadata, skeleton
from wsistore.compress.coding import Payload
from wsistore.compress.codings import coding_of
from wsistore.compress.levels import plan_level
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_bytes import SourceBytes
from wsistore.errors import Kind, UnsupportedError
from wsistore.model import Mode
from wsistore.slides.base import Source

Json = dict[str, Any]
Ints = npt.NDArray[np.int64]


def _refuse_whole(what: str, reason: str) -> UnsupportedError:
    msg = f"{what} is kept whole ({reason}): there are no tiles to choose an encoding for."
    return UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS, remedy="Tune with slides that are kept as tiles.")


class VendorTiles:
    """The tiles of a vendor's file.

    Parameters
    ----------
    source
        What its reader says of it.
    files
        Its open files; the caller closes them.

    Raises
    ------
    UnsupportedError
        If it has no tiles.

    """

    def __init__(self, source: Source, files: SourceBytes) -> None:
        if source.mode is Mode.WHOLE:
            raise _refuse_whole(str(source.files[0].path), source.mode_reason)
        self._source, self._files = source, files
        self._documents = [
            metadata.image(plan_level(level, number), source) for number, level in enumerate(source.levels)
        ]
        self._sizes = [
            np.bincount(level.segments["tile"], level.segments["length"], minlength=level.grid[0] * level.grid[1])
            .astype(np.int64)
            .reshape(level.grid)
            for level in source.levels
        ]

    @property
    def documents(self) -> Sequence[Json]:
        """The zarr.json of every level's image in the preset `keep`."""
        return self._documents

    @property
    def source_bytes(self) -> int:
        """Bytes of the source's files."""
        return sum(file.size_bytes for file in self._source.files)

    @cached_property
    def other_bytes(self) -> int:
        """Stored bytes of what is no tile: what the skeleton would be."""
        plans = [plan_level(level, number) for number, level in enumerate(self._source.levels)]
        gaps = layout.gaps(layout.layout_of(plans), [file.size_bytes for file in self._source.files])
        rows = layout.rows_of(gaps, "file", "offset", "length")
        blocks = (block for file, start, length in rows for block in self._files.blocks(file, start, length))
        return sum(len(frame) for frame in skeleton.compress(blocks))

    def sizes(self, level: int) -> Ints:
        """Return the payload bytes of every tile, (rows, columns)."""
        return self._sizes[level]

    def read(self, level: int, rows: range, column: int) -> list[Payload | None]:
        """Return the payloads of adjacent tiles from top to bottom.

        Raises
        ------
        InputError
            If the file cannot be read.
        ConflictError
            If it was cut meanwhile.

        """
        segments = self._source.levels[level].segments
        columns = self._sizes[level].shape[1]
        found: list[Payload | None] = []
        for row in rows:
            tile = row * columns + column
            first, last = np.searchsorted(segments["tile"], [tile, tile + 1]).tolist()
            parts = [
                self._files.exactly(int(part["file"]), int(part["offset"]), int(part["length"]))
                for part in segments[first:last]
            ]
            found.append(b"".join(parts) or None)
        return found


class StoredTiles:
    """The tiles of a stored copy.

    Parameters
    ----------
    stored
        The copy.

    Raises
    ------
    UnsupportedError
        If it has no tiles.
    IntegrityError, StorageError
        If it cannot be read.

    """

    def __init__(self, stored: StoredSlide) -> None:
        if stored.companion.mode is Mode.WHOLE:
            what = f"Slide {stored.place.slide}"
            raise _refuse_whole(what, stored.companion.mode_reason)
        self._stored = stored
        keep = stored.companion.keep
        count = len(stored.companion.levels)
        found = [stored.document(f"{number}/image") for number in range(count)] if keep is None else keep.arrays
        self._documents = [copy.deepcopy(dict(document)) for document in found]
        table = stored.layout()
        self._sizes = []
        for number, document in enumerate(self._documents):
            where = f"{stored.place.private} (level {number})"
            coding = coding_of(document, where=where)
            keep_grid = grids.from_metadata(f"{number}/image", document, where=where)
            rows = table[table["level"] == number]
            here = stored.coding(number).tiles
            stored_grid, _ = stored.array(number)
            tiles = stored_grid.tiles_of_chunks(rows["chunk"], rows["piece"].astype(np.int64), here)
            down = -(-keep_grid.shape[1] // coding.tile_shape[0])
            across = keep_grid.chunk_grid[1]
            weights = np.bincount(tiles, rows["length"], minlength=down * across)[: down * across]
            self._sizes.append(weights.astype(np.int64).reshape(down, across))

    @property
    def documents(self) -> Sequence[Json]:
        """The zarr.json of every level's image in the preset `keep`."""
        return self._documents

    @property
    def source_bytes(self) -> int:
        """Bytes of the source's files."""
        return sum(file.size_bytes for file in self._stored.companion.files)

    @property
    def other_bytes(self) -> int:
        """Stored bytes of what is no tile: the skeleton."""
        index = self._stored.companion.skeleton
        return 0 if index is None else sum(index.frames)

    def sizes(self, level: int) -> Ints:
        """Return the payload bytes of every tile, (rows, columns)."""
        return self._sizes[level]

    def read(self, level: int, rows: range, column: int) -> list[Payload | None]:
        """Return the payloads of adjacent tiles from top to bottom.

        Raises
        ------
        IntegrityError, StorageError
            If they cannot be read.

        """
        height = self._stored.coding(level).tiles
        columns = self._sizes[level].shape[1]
        found: list[Payload | None] = []
        chunk, payloads = -1, list[Payload | None]()
        for row in rows:
            if not self._sizes[level][row, column]:
                found.append(None)
                continue
            wanted = row // height * columns + column
            if wanted != chunk:
                chunk, payloads = wanted, list(self._stored.payloads(level, wanted))
            found.append(payloads[row % height] if row % height < len(payloads) else None)
        return found
