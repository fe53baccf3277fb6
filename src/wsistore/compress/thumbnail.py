"""A small picture of a slide, made from its pyramid only: the vendor's own may show the label."""

from __future__ import annotations

from itertools import pairwise

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image

from wsistore.compress.metadata import Json, array
from wsistore.compress.source_bytes import SourceBytes, Window
from wsistore.slides.base import Level, Source
from wsistore.slides.decode import decode_tile

EDGE = 512
"""Longest edge in pixels."""
_SAMPLED_EDGE = 4 * EDGE
"""Longest edge of what is averaged down to `EDGE`; larger levels are sampled, so that memory stays bounded."""
_QUALITY = 80
_REDUCING_GAP = 1.5
"""Down to so many times the size the picture is averaged by whole numbers, which takes a quarter of the time."""
_SHARE = 200
"""A thumbnail may take one part in `_SHARE` of the source's bytes …"""
_LEAST_BYTES = 2048
"""… or this many, whichever is more: small slides get smaller ones."""

Picture = npt.NDArray[np.uint8]


def overview(source: Source, files: SourceBytes, background: int) -> Picture:
    """Return the whole slide as (y, x, channels) uint8, no edge longer than `EDGE`.

    It is made from the smallest level that is at least that large.
    """
    large = [level for level in source.levels if max(level.height, level.width) >= EDGE]
    level = large[-1] if large else source.levels[0]
    step = -(-max(level.height, level.width) // _SAMPLED_EDGE)
    out = np.full((-(-level.height // step), -(-level.width // step), level.channels), background, np.uint8)
    rows = level.segments
    borders = [0, *(np.flatnonzero(np.diff(rows["tile"])) + 1).tolist(), len(rows)] if len(rows) else []
    window = files.window()
    for start, end in pairwise(borders):
        _place(out, level, rows[start:end], window, step)
    longest = max(out.shape[:2])
    return _resize(out, min(1.0, EDGE / longest))


def _place(out: Picture, level: Level, segments: npt.NDArray[np.void], window: Window, step: int) -> None:
    parts = [bytes(window.get(int(s["file"]), int(s["offset"]), int(s["length"]))) for s in segments]
    pixels = decode_tile(level, b"".join(parts))
    if pixels.dtype != np.uint8:
        pixels = (pixels >> (8 * (pixels.dtype.itemsize - 1))).astype(np.uint8)
    row, column = divmod(int(segments[0]["tile"]), level.grid[1])
    top, left = row * level.tile_height, column * level.tile_width
    # Samples at multiples of `step` of the level, so that tiles meet without seams whatever their size.
    skip_y, skip_x = -top % step, -left % step
    height, width = min(level.tile_height, level.height - top), min(level.tile_width, level.width - left)
    small = pixels[skip_y:height:step, skip_x:width:step]
    y, x = (top + skip_y) // step, (left + skip_x) // step
    out[y : y + small.shape[0], x : x + small.shape[1]] = small


def encode(picture: Picture, source_bytes: int) -> tuple[Json, bytes]:
    """Return the Zarr array document of the thumbnail and its only chunk, a JPEG."""
    limit = max(_LEAST_BYTES, source_bytes // _SHARE)
    while True:
        data = bytes(imagecodecs.jpeg8_encode(_plane(picture), level=_QUALITY))
        if len(data) <= limit or max(picture.shape[:2]) <= 64:
            break
        picture = _resize(picture, 0.5)
    height, width, channels = picture.shape
    space = "RGB" if channels == 3 else "GRAYSCALE"
    codecs: list[Json] = [
        {"name": "transpose", "configuration": {"order": [1, 2, 0]}},
        {
            "name": "imagecodecs_jpeg",
            "configuration": {
                "level": _QUALITY,
                "colorspace_data": space,
                "colorspace_jpeg": "YCBCR" if channels == 3 else space,
            },
        },
    ]
    shape = (channels, height, width)
    return array(shape, shape, "uint8", codecs, ["c", "thumbnail_y", "thumbnail_x"], fill=255), data


def _plane(picture: Picture) -> Picture:
    """Return a picture as encoders want it: without the last axis if that is grey, however thin the others are."""
    return np.ascontiguousarray(picture[..., 0] if picture.shape[2] == 1 else picture)


def _resize(picture: Picture, factor: float) -> Picture:
    if factor >= 1:
        return picture
    image = Image.fromarray(_plane(picture))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    small = image.resize(size, Image.Resampling.BOX, reducing_gap=_REDUCING_GAP)
    return np.asarray(small, np.uint8).reshape(size[1], size[0], picture.shape[2])
