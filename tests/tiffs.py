"""Synthetic slides in TIFF's family, for tests: pictures that look a little like tissue, written in every way."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image
from tifffile import TiffFile, TiffWriter

from wsistore.slides.base import Level, Source
from wsistore.slides.decode import decode_tile
from wsistore.slides.segments import read_tile

Picture = npt.NDArray[Any]


def tissue(height: int, width: int, *, seed: int = 0, channels: int = 3, dtype: str = "uint8") -> Picture:
    """Return a smooth bright picture, shape (y, x, c), or (y, x) for one channel."""
    rng = np.random.default_rng(seed)
    small = rng.integers(90, 255, (height // 8 + 2, width // 8 + 2, channels)).astype(np.uint8)
    planes = [np.asarray(Image.fromarray(small[..., c]).resize((width, height), 2)) for c in range(channels)]
    picture = np.stack(planes, axis=-1).astype(dtype)
    if dtype == "uint16":
        picture = (picture.astype(np.uint32) * 257 - np.uint32(seed % 7)).astype(np.uint16)
    return picture[..., 0] if channels == 1 else picture


def halves(picture: Picture, count: int) -> list[Picture]:
    """Return a pyramid of `count` levels by taking every second pixel."""
    return [picture[:: 2**i, :: 2**i] for i in range(count)]


def write_pyramid(
    path: Path,
    levels: Sequence[Picture],
    *,
    sub: bool = False,
    big: bool = False,
    order: Literal["<", ">"] = "<",
    **options: Any,
) -> Path:
    """Write levels as reduced pages, or as SubIFDs of the first."""
    options = {"tile": (64, 64), "photometric": "rgb" if levels[0].ndim == 3 else "minisblack"} | options
    first = {key: options.pop(key) for key in ("description", "resolution", "resolutionunit") if key in options}
    with TiffWriter(path, bigtiff=big, byteorder=order) as writer:
        writer.write(levels[0], subifds=len(levels) - 1 if sub else 0, metadata=None, **options, **first)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, metadata=None, **options)
    return path


def write_tiles(path: Path, tiles: Sequence[bytes], shape: tuple[int, ...], tile: tuple[int, int], compression: int,
                **options: Any) -> Path:  # fmt: skip
    """Write tiles that are compressed already."""

    def given() -> Iterator[bytes]:
        yield from tiles

    options = {"photometric": "rgb" if len(shape) == 3 else "minisblack", "metadata": None, "dtype": "uint8"} | options
    with TiffWriter(path) as writer:
        writer.write(given(), shape=shape, tile=tile, compression=compression, **options)
    return path


def cut_tiles(picture: Picture, tile: tuple[int, int]) -> list[Picture]:
    """Return full-size tiles of a picture, row by row, the edges repeated."""
    down, across = -(-picture.shape[0] // tile[0]), -(-picture.shape[1] // tile[1])
    pad = [(0, down * tile[0] - picture.shape[0]), (0, across * tile[1] - picture.shape[1])]
    full = np.pad(picture, pad + [(0, 0)] * (picture.ndim - 2), mode="edge")
    return [
        np.ascontiguousarray(full[y : y + tile[0], x : x + tile[1]])
        for y in range(0, full.shape[0], tile[0])
        for x in range(0, full.shape[1], tile[1])
    ]


def jpeg_tiles(picture: Picture, tile: tuple[int, int], **options: Any) -> list[bytes]:
    """Return the tiles of a picture as complete JPEGs."""
    return [bytes(imagecodecs.jpeg8_encode(one, **({"level": 85} | options))) for one in cut_tiles(picture, tile)]


def with_comment(jpeg: bytes, comment: bytes, code: int = 0xFE) -> bytes:
    """Return a JPEG with one more segment (a comment, or application data) behind SOI."""
    return jpeg[:2] + b"\xff" + bytes([code]) + struct.pack(">H", len(comment) + 2) + comment + jpeg[2:]


def set_tag(path: Path, page: int, code: int, value: Any) -> None:
    """Overwrite a tag's value in place."""
    with TiffFile(path, mode="r+") as tiff:
        tiff.pages[page].tags[code].overwrite(value)  # type: ignore[union-attr]


def edit_numbers(path: Path, page: int, code: int, change: Callable[[list[int]], None]) -> None:
    """Change the numbers of a tag (offsets, byte counts) in place."""
    with TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages[page].tags[code]  # type: ignore[union-attr]
        values = list(tag.value)
        change(values)
        tag.overwrite(tuple(values))


def tile_bytes(source: Source, level: Level) -> dict[int, bytes]:
    """Return every tile of a level that is there."""
    found = {}
    files = {i: io.BytesIO(file.path.read_bytes()) for i, file in enumerate(source.files)}
    for tile in np.unique(level.segments["tile"]):
        found[int(tile)] = read_tile(level.segments[level.segments["tile"] == tile], files)
    return found


def assembled(source: Source, level: Level, fill: int = 0) -> Picture:
    """Return a level put together from tiles decoded alone, shape (y, x, c)."""
    down, across = level.grid
    shape = (down * level.tile_height, across * level.tile_width, level.channels)
    out = np.full(shape, fill, level.dtype)
    for tile, data in tile_bytes(source, level).items():
        y, x = (n * size for n, size in zip(divmod(tile, across), (level.tile_height, level.tile_width), strict=True))
        out[y : y + level.tile_height, x : x + level.tile_width] = decode_tile(level, data)
    return out[: level.height, : level.width]


def restart_jpeg(picture: Picture, blocks: int, *, subsampling: int, comment: bytes = b"") -> tuple[bytes, list[int]]:
    """Return a JPEG with a restart marker every `blocks` MCUs, and where each interval starts."""
    file = io.BytesIO()
    Image.fromarray(picture).save(
        file, "jpeg", quality=85, subsampling=subsampling, restart_marker_blocks=blocks, comment=comment
    )
    data = file.getvalue()
    sos = data.index(b"\xff\xda")
    starts = [sos + 2 + struct.unpack(">H", data[sos + 2 : sos + 4])[0]]
    at = starts[0]
    while (at := data.find(b"\xff", at)) >= 0 and data[at + 1] != 0xD9:
        if 0xD0 <= data[at + 1] <= 0xD7:
            starts.append(at + 2)
        at += 2
    return data, starts


def write_ndpi(path: Path, pages: Sequence[dict[int, tuple[int, Any]]], blobs: Sequence[bytes]) -> Path:
    """Write an NDPI: little-endian classic TIFF with 64-bit links and the high halves of values behind each directory.

    Parameters
    ----------
    pages
        By tag: type and value (int, float, text, or sequence of int). Tags 273 and 279 are added.
    blobs
        The pixel data of each page.

    """
    out = bytearray(b"II*\0" + bytes(8))
    offsets = []
    for blob in blobs:
        offsets.append(len(out))
        out += blob + bytes(len(blob) % 2)
    link_at = 4
    for tags, offset, blob in zip(pages, offsets, blobs, strict=True):
        entries, payload_at = dict(tags) | {273: (4, offset), 279: (4, len(blob))}, len(out)
        encoded = {code: _encode(*entry) for code, entry in sorted(entries.items())}
        places = {}
        for code, (_, _, raw) in encoded.items():
            if len(raw) > 4:
                places[code] = len(out)
                out += raw + bytes(len(raw) % 2)
        assert len(out) >= payload_at
        struct.pack_into("<Q", out, link_at, len(out))
        out += struct.pack("<H", len(encoded))
        for code, (kind, count, raw) in encoded.items():
            value = struct.pack("<I", places[code]) if code in places else raw.ljust(4, b"\0")
            out += struct.pack("<HHI", code, kind, count) + value
        link_at = len(out)
        out += bytes(8) + bytes(4 * len(encoded))
    path.write_bytes(out)
    return path


def _encode(kind: int, value: Any) -> tuple[int, int, bytes]:
    if kind == 2:
        raw = value.encode() + b"\0"
        return kind, len(raw), raw
    values = value if isinstance(value, list | tuple) else [value]
    if kind == 5:
        return kind, 1, struct.pack("<II", *values)
    form = {1: "B", 3: "H", 4: "I", 11: "f", 9: "i"}[kind]
    return kind, len(values), struct.pack(f"<{len(values)}{form}", *values)


def ndpi_page(picture: Picture, lens: float, starts: Sequence[int] = (), **more: tuple[int, Any]) -> dict[int, Any]:
    """Return the tags of an NDPI page; further tags as ``t65434=(2, "text")``."""
    channels = 3 if picture.ndim == 3 else 1
    tags: dict[int, Any] = {
        256: (4, picture.shape[1]), 257: (4, picture.shape[0]), 258: (3, [8] * channels), 259: (3, 7),
        262: (3, 6 if channels == 3 else 1), 271: (2, "Hamamatsu"), 272: (2, "C13210"), 277: (3, channels),
        278: (4, picture.shape[0]), 282: (5, (40_000, 1)), 283: (5, (40_000, 1)), 284: (3, 1), 296: (3, 3),
        65420: (4, 1), 65421: (11, lens), 65422: (9, 0), 65423: (9, 0), 65424: (9, 0),
    }  # fmt: skip
    if starts:
        tags[65426] = (4, list(starts))
    return tags | {int(key[1:]): value for key, value in more.items()}
