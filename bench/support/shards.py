"""Where the tiles of a stored level lie in its shards, as any reader of Zarr v3 finds them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_NOTHING = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Tile:
    """A stored tile."""

    row: int
    column: int
    key: str
    """Of its shard, in the store."""
    start: int
    """In the shard."""
    size: int


def tiles_of(store: Path, array: str) -> tuple[list[Tile], int]:
    """Return the tiles of an image (y, x, samples), and their edge in pixels.

    Indexes are at the end of their shards, followed by four bytes of a checksum, as wsistore writes them.
    """
    document = json.loads((store / array / "zarr.json").read_text())
    (sharding,) = (codec for codec in document["codecs"] if codec["name"] == "sharding_indexed")
    shard = document["chunk_grid"]["configuration"]["chunk_shape"]
    chunk = sharding["configuration"]["chunk_shape"]
    inside = [math.ceil(a / b) for a, b in zip(shard, chunk, strict=True)]
    y, x = (axis for axis, edge in enumerate(chunk) if edge > 4)
    found = []
    for path in sorted((store / array / "c").rglob("*")):
        if not path.is_file():
            continue
        at = [int(part) for part in path.relative_to(store / array / "c").parts]
        entries = np.frombuffer(path.read_bytes()[-(math.prod(inside) * 16 + 4) : -4], "<u8").reshape(*inside, 2)
        for place in np.argwhere(entries[..., 0] != _NOTHING):
            start, size = (int(value) for value in entries[tuple(place)])
            row, column = (at[axis] * inside[axis] + int(place[axis]) for axis in (y, x))
            found.append(Tile(row, column, path.relative_to(store).as_posix(), start, size))
    return found, chunk[y]
