"""Which tile each frame of an instance is: by order (TILED_FULL) or by the positions that the frames carry."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsistore.slides.dicom.instance import Instance, Pixels
from wsistore.slides.dicom.raw import Element, Encoding, Raw, broken, children

_PLANE_POSITION = 0x0048021A
_COLUMN_POSITION = 0x0048021E
_ROW_POSITION = 0x0048021F
_Z_OFFSET = 0x0040074A
_OPTICAL_PATH = 0x00480207
_OPTICAL_PATH_ID = 0x00480106
_SEQUENCES = frozenset({_PLANE_POSITION, _OPTICAL_PATH})

_MAX_VALUE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Placement:
    """The tile number of each frame; or why frames are no tiles."""

    tile: npt.NDArray[np.int64]
    layers: int
    """Different optical paths times focal planes that the frames name."""
    reason: str = ""


def in_order(pixels: Pixels, first_frame: int) -> Placement:
    """Place the frames of one TILED_FULL image with a single layer, the first being number `first_frame`."""
    return Placement(np.arange(first_frame, first_frame + pixels.frames, dtype=np.int64), 1)


def by_position(raw: Raw, instance: Instance) -> Placement:
    """Place frames by their positions in the total pixel matrix.

    Raises
    ------
    BrokenError
        If positions are missing or lie outside.

    """
    pixels = instance.image
    if instance.per_frame is None:
        if pixels.frames == 1 and math.prod(pixels.grid) == 1:
            return Placement(np.zeros(1, np.int64), 1)
        raise broken(raw.name, "its frames are said to be sparse but have no positions")
    across = pixels.grid[1]
    tiles = np.empty(pixels.frames, np.int64)
    layers = set()
    aligned, count = True, 0
    for item in children(raw, instance.per_frame, instance.encoding):
        if count == pixels.frames:
            raise broken(raw.name, f"it has more positions than its {pixels.frames} frames")
        row, column, *layer = _position(raw, item, instance.encoding)
        if not (1 <= row <= pixels.height and 1 <= column <= pixels.width):
            raise broken(raw.name, f"frame {count + 1} lies at row {row}, column {column}, outside the image")
        aligned = aligned and (row - 1) % pixels.tile_height == 0 and (column - 1) % pixels.tile_width == 0
        tiles[count] = (row - 1) // pixels.tile_height * across + (column - 1) // pixels.tile_width
        layers.add(tuple(layer))
        count += 1
    if count < pixels.frames:
        raise broken(raw.name, f"it has positions for {count} of its {pixels.frames} frames")
    return Placement(tiles, len(layers), "" if aligned else "its frames do not lie on one tile grid")


def _position(raw: Raw, item: Element, encoding: Encoding) -> tuple[int, int, bytes, bytes]:
    """Return row and column, both from 1, optical path and z of one frame's functional groups."""
    found: dict[int, bytes] = {}
    for group in children(raw, item, encoding):
        if group.tag not in _SEQUENCES:
            continue
        for entry in children(raw, group, encoding):
            for element in children(raw, entry, encoding):
                if not element.undefined and element.length_bytes <= _MAX_VALUE_BYTES:
                    found[element.tag] = raw.peek(element.start, element.length_bytes)
    order = ">" if encoding.big_endian else "<"
    row, column = found.get(_ROW_POSITION, b""), found.get(_COLUMN_POSITION, b"")
    if len(row) != 4 or len(column) != 4:
        raise broken(raw.name, "one of its frames has no position in the total pixel matrix")
    (y,), (x,) = struct.unpack(order + "l", row), struct.unpack(order + "l", column)
    return y, x, found.get(_OPTICAL_PATH_ID, b"").strip(b" \0"), found.get(_Z_OFFSET, b"").strip(b" \0")
