"""Which coding a level has, by its zarr.json; and which it gets in another preset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wsistore.compress import bounded
from wsistore.compress.coding import ChunkCoding, CodingError, Payload, PlainCoding
from wsistore.compress.folding import FoldCoding, StripsCoding
from wsistore.compress.grid import ArrayGrid
from wsistore.compress.presets import MOST_FOLD_HEIGHT, Encoding
from wsistore.compress.recoded import RecodedCoding
from wsistore.errors import IntegrityError, Kind

Json = dict[str, Any]

_TILE_PIXELS = 256 * 256
"""What a fold height counts: strips are counted by how many of them make as many pixels."""
_MOST_ROWS = 65_535
"""Of a JPEG."""


def coding_of(document: Json, *, where: str) -> ChunkCoding:
    """Return the coding of a level.

    Parameters
    ----------
    document
        The zarr.json of its image.
    where
        The document's key, for messages.

    Raises
    ------
    IntegrityError
        If it has codecs, or settings of them, that this version does not know.

    """
    try:
        config = document["codecs"][0]["configuration"]
        codecs, (channels, height, width) = config["codecs"], (bounded.count(n, 1) for n in config["chunk_shape"])
        names, chunk = [bounded.text(codec["name"]) for codec in codecs], (channels, height, width)
        if "wsistore.recoded" in names:
            return RecodedCoding.from_codecs(codecs, chunk, np.dtype(bounded.text(document["data_type"])))
        if "wsistore.fold" not in names:
            return PlainCoding(tuple(codecs), (height, width))
        return FoldCoding.from_codecs(codecs, chunk)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = str(error) if isinstance(error, CodingError) else f"{error!r:.200}"
        msg = f"The codecs of the array {where} are not those that this version of wsistore knows ({reason})."
        raise IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="A newer wsistore may read it.") from error


def coding_for(
    keep: Json, grid: ArrayGrid, coding: ChunkCoding, encoding: Encoding, sample: Sequence[Payload]
) -> ChunkCoding:
    """Return the coding that a level gets.

    Parameters
    ----------
    keep
        The zarr.json of its image in the preset `keep`.
    grid, coding
        What that document says.
    encoding
        What is wanted.
    sample
        Some payloads of the level, by which a candidate is chosen where there are several.

    """
    names = [codec["name"] for codec in coding.codecs]
    if names[-1] not in {"imagecodecs_jpeg", "wsistore.fold"}:
        dtype, fill = np.dtype(keep["data_type"]), keep["fill_value"]
        chunk_shape = (grid.shape[0], *coding.tile_shape)
        return RecodedCoding.for_source(coding.codecs, chunk_shape, dtype, fill, encoding, sample)
    height, width = coding.tile_shape
    tiles = min(encoding.fold_height, MOST_FOLD_HEIGHT)
    if isinstance(coding, StripsCoding):
        tiles = max(coding.tiles, round(tiles * _TILE_PIXELS / (height * width)))
    rows = -(-grid.shape[1] // height)
    whole_mcus = -(-height // 16) * 16
    tiles = max(1, min(tiles, rows, _MOST_ROWS // whole_mcus))
    return FoldCoding.for_source(coding.codecs, coding.tile_shape, tiles)
