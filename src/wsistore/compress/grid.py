"""Where a chunk of a sharded array lies: chunk and shard grids, keys and places in the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.compress import bounded
from wsistore.errors import IntegrityError, Kind

Ints = npt.NDArray[np.int64]

_MOST_EDGE = 2**31
"""Pixels; no scanner comes near, and products of two stay whole numbers of 64 bits."""


@dataclass(frozen=True, slots=True)
class ArrayGrid:
    """The grids of one (c, y, x) array whose chunks and shards span all channels. Grids are (down, across)."""

    path: str
    """Of the array within the store: ``0/image``."""
    shape: tuple[int, int, int]
    chunk_shape: tuple[int, int, int]
    chunks_per_shard: tuple[int, int]

    @property
    def chunk_grid(self) -> tuple[int, int]:
        """Chunks down and across."""
        return -(-self.shape[1] // self.chunk_shape[1]), -(-self.shape[2] // self.chunk_shape[2])

    @property
    def shard_grid(self) -> tuple[int, int]:
        """Shards down and across."""
        (rows, columns), (down, across) = self.chunk_grid, self.chunks_per_shard
        return -(-rows // down), -(-columns // across)

    @property
    def index_length(self) -> int:
        """Entries of a shard's index."""
        return self.chunks_per_shard[0] * self.chunks_per_shard[1]

    @property
    def shard_shape(self) -> tuple[int, int, int]:
        """(c, y, x) of a shard."""
        channels, height, width = self.chunk_shape
        return channels, height * self.chunks_per_shard[0], width * self.chunks_per_shard[1]

    def shard_of_chunk(self, chunk: Ints) -> tuple[Ints, Ints]:
        """Return the shard number (row-major over the shard grid) and the place in its index of chunks."""
        columns = self.chunk_grid[1]
        row, column = chunk // columns, chunk % columns
        down, across = self.chunks_per_shard
        shard = (row // down) * self.shard_grid[1] + column // across
        return shard, (row % down) * across + column % across

    def shard_key(self, shard: int) -> str:
        """Return the key of a shard relative to the store: Zarr's default chunk key encoding."""
        row, column = divmod(shard, self.shard_grid[1])
        return f"{self.path}/c/0/{row}/{column}"

    def chunks_of_tiles(self, tile: Ints, height: int) -> tuple[Ints, Ints]:
        """Return the chunks of tiles, `height` of which are one above another in a chunk, and positions within these.

        Tiles are numbered row-major over the grid of tiles, which has as many columns as that of chunks.
        """
        columns = self.chunk_grid[1]
        row, column = tile // columns, tile % columns
        return (row // height) * columns + column, row % height

    def tiles_of_chunks(self, chunk: Ints, piece: Ints, height: int) -> Ints:
        """Return tile numbers: the inverse of `chunks_of_tiles`."""
        columns = self.chunk_grid[1]
        return ((chunk // columns) * height + piece) * columns + chunk % columns


def from_metadata(path: str, document: dict[str, Any], *, where: str) -> ArrayGrid:
    """Return the grid of the array at `path` from its zarr.json; `where` is the document's key, for messages.

    Raises
    ------
    IntegrityError
        If it is not an array as this version of the format writes them.

    """
    try:
        (sharding,) = document["codecs"]
        shape, chunk = _three(document["shape"]), _three(sharding["configuration"]["chunk_shape"])
        shard = _three(document["chunk_grid"]["configuration"]["chunk_shape"])
        known = sharding["name"] == "sharding_indexed"
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise _unknown(where, f"{error!r:.200}") from error
    across = [whole // part for whole, part in zip(shard, chunk, strict=True)]
    if not known or across[0] != 1 or any(whole % part for whole, part in zip(shard, chunk, strict=True)):
        raise _unknown(where, f"shards of {shard}, chunks of {chunk}")
    return ArrayGrid(path, shape, chunk, (across[1], across[2]))


def _unknown(where: str, what: str) -> IntegrityError:
    msg = f"The array {where} is not laid out as this version of wsistore knows it ({what})."
    return IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="A newer wsistore may read it.")


def _three(values: Any) -> tuple[int, int, int]:
    channels, height, width = (bounded.count(value, 1) for value in values)
    if max(channels, height, width) >= _MOST_EDGE:
        msg = f"{values} is too large"
        raise ValueError(msg)
    return channels, height, width
