"""The pictures that come with a DICOM slide: label, macro, thumbnail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsistore.errors import Kind, MissingError, UnsupportedError
from wsistore.slides.base import Associated, Json, Level, OpenFile
from wsistore.slides.decode import decode_tile
from wsistore.slides.dicom.header import read_header
from wsistore.slides.dicom.instance import make
from wsistore.slides.dicom.levels import Built, Image, build
from wsistore.slides.dicom.raw import Raw

MAX_PIXELS = 100_000_000
"""A picture is decoded in memory."""

_NAMES = {"LABEL": "label", "OVERVIEW": "macro", "LOCALIZER": "macro", "THUMBNAIL": "thumbnail"}

_Pixels = npt.NDArray[np.uint8]


def describe(pictures: Sequence[tuple[int, str, Built]]) -> tuple[tuple[Associated, ...], list[str]]:
    """Return the pictures of a slide, and a warning for each that cannot be shown.

    Parameters
    ----------
    pictures
        Index of the file, third value of Image Type, and what was found of each.

    """
    found: list[Associated] = []
    warnings: list[str] = []
    counts: dict[str, int] = {}
    for number, kind, built in pictures:
        name = _NAMES.get(kind, kind.lower())
        reason = built.reason or _unshown(built.level)
        if reason:
            warnings.append(f"The {name} is kept, but cannot be shown: {reason}")
            continue
        counts[name] = counts.get(name, 0) + 1
        name = name if counts[name] == 1 else f"{name}-{counts[name]}"
        locator = {"reader": "dicom", "file": number}
        found.append(Associated(name, built.level.height, built.level.width, locator))
    return tuple(found), warnings


def _unshown(level: Level) -> str:
    size = f"{level.width} × {level.height}"
    return f"it has {size} pixels" if level.height * level.width > MAX_PIXELS else ""


def read_associated(locator: Mapping[str, Json], open_file: OpenFile) -> _Pixels:
    """Decode one of the pictures that a `Source` of this reader names.

    Parameters
    ----------
    locator
        As in `Associated.locator`.
    open_file
        Opens a file of the source by its index.

    Returns
    -------
    ndarray
        uint8, (y, x, 3), RGB.

    Raises
    ------
    InputError
        If the file is not what it was, or a frame cannot be decoded.
    MissingError
        If the locator is none of this reader's.

    """
    number = locator.get("file")
    if not isinstance(number, int):
        msg = f"{dict(locator)!r} names no picture of a DICOM slide."
        raise MissingError(msg, kind=Kind.PATH_MISSING)
    with open_file(number) as file:
        name = f"file {number} of the slide"
        instance = make(Path(name), read_header(file, name))
        raw = Raw(file, name)
        built = build(Image((instance,)), [raw], [number])
        reason = built.reason or _unshown(built.level)
        if reason:
            msg = f"The picture cannot be shown: {reason}."
            raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS, remedy="It can be taken from the restored file.")
        return _compose(raw, built.level)


def _compose(raw: Raw, level: Level) -> _Pixels:
    """Decode all tiles of a level into one RGB picture; missing tiles are white."""
    across = level.grid[1]
    picture = np.full((level.height, level.width, 3), 255, np.uint8)
    for tile in range(math.prod(level.grid)):
        segments = level.segments[level.segments["tile"] == tile]
        if not segments.size:
            continue
        parts = zip(segments["offset"].tolist(), segments["length"].tolist(), strict=True)
        data = b"".join(raw.read(offset, length) for offset, length in parts)
        pixels = decode_tile(level, data)
        top, left = tile // across * level.tile_height, tile % across * level.tile_width
        window = picture[top : top + level.tile_height, left : left + level.tile_width]
        window[...] = pixels[: window.shape[0], : window.shape[1]]
    return picture
