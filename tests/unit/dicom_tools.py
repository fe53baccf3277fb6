"""What the tests of the DICOM reader share: small pictures, edits of written instances, tiles by segments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import config
from pydicom.dataset import FileDataset
from pydicom.encaps import itemize_fragment

from wsistore.slides.base import Source
from wsistore.slides.decode import decode_tile
from wsistore.slides.dicom import DicomReader

Image = npt.NDArray[np.uint8]


def picture(height: int, width: int, seed: int = 0) -> Image:
    """Return a picture with gentle colours, a bright corner and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(y / 17 + x / 23 + phase) for phase in (0.0, 1.0, 2.5)], axis=-1)
    return np.clip(170 + 60 * waves + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


def read(path: Path) -> Source:
    source = DicomReader().read(path)
    assert source is not None
    return source


def edit(path: Path, change: Callable[[FileDataset], Any]) -> Path:
    """Change an instance in place, whatever the standard says to it."""
    with config.disable_value_validation():
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path, enforce_file_format=True, overwrite=True)
    return path


def assign(path: Path, **values: Any) -> Path:
    """Set elements of an instance; None deletes."""

    def change(dataset: FileDataset) -> None:
        for keyword, value in values.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)

    return edit(path, change)


def items(*fragments: bytes, table: bytes = b"", end: bool = True) -> bytes:
    """Return encapsulated pixel data of exactly these fragments (of even length each)."""
    data = b"".join(b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in (table, *fragments))
    return data + (b"\xfe\xff\xdd\xe0\0\0\0\0" if end else b"")


def put_pixels(path: Path, data: bytes) -> Path:
    """Replace everything behind the header of compressed pixel data by `data`; it is not checked."""
    old = path.read_bytes()
    start = old.index(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff") + 12
    path.write_bytes(old[:start] + data)
    return path


def fragments(*frames: bytes) -> bytes:
    """Return one item per frame without table and end, padded as the standard says."""
    return b"".join(itemize_fragment(frame) for frame in frames)


def tile_bytes(source: Source, level: int, tile: int) -> bytes:
    """Return the bytes that the source says are a tile's."""
    found = b""
    segments = source.levels[level].segments
    for segment in segments[segments["tile"] == tile]:
        data = source.files[segment["file"]].path.read_bytes()
        part = data[segment["offset"] : segment["offset"] + segment["length"]]
        assert len(part) == segment["length"]
        found += part
    return found


def pixels(source: Source, number: int) -> Image:
    """Decode a level tile by tile."""
    level = source.levels[number]
    down, across = level.grid
    canvas = np.zeros((down * level.tile_height, across * level.tile_width, level.channels), np.uint8)
    for tile in range(down * across):
        top, left = tile // across * level.tile_height, tile % across * level.tile_width
        decoded = decode_tile(level, tile_bytes(source, number, tile))
        canvas[top : top + level.tile_height, left : left + level.tile_width] = decoded
    return canvas[: level.height, : level.width]
