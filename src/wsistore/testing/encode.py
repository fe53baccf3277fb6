"""Cuts pictures into tiles and encodes them as scanners do: the part that all synthetic slide files share."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image

from wsistore.errors import UnsupportedError

Picture = npt.NDArray[Any]
"""(y, x, 3) or (y, x); uint8, for lossless codecs also wider."""

CodecName = Literal["jpeg", "jp2k", "jp2k-ycbcr", "webp", "lzw", "deflate", "none"]
ColorName = Literal["rgb", "ycbcr"]
Subsampling = tuple[Literal[1, 2], Literal[1, 2]]
"""Horizontal and vertical distance of chroma samples."""

_WORKERS = min(4, os.cpu_count() or 1)
_TABLES = (0xDB, 0xC4)
_APPLICATION = (*range(0xE0, 0xF0), 0xFE)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How tiles are to be encoded."""

    codec: CodecName = "jpeg"
    quality: int = 80
    """Of JPEG and WebP, 1 to 100; for JPEG 2000 the PSNR aimed at is 20 dB more than half of it."""
    color: ColorName = "ycbcr"
    """What JPEG codes. Pictures in RGB are coded without any marker that says so, as Aperio does."""
    subsampling: Subsampling = (2, 2)
    """Of JPEG in YCbCr."""
    predictor: bool = False
    """LZW, deflate: horizontal differences."""


def encode(tile: Picture, encoding: Encoding) -> bytes:
    """Return one tile as a stream of its own.

    Raises
    ------
    UnsupportedError
        If the codec cannot hold the tile's sample type.

    """
    lossy = encoding.codec in {"jpeg", "jp2k", "jp2k-ycbcr", "webp"}
    if lossy and tile.dtype != np.uint8:
        msg = f"{encoding.codec} tiles are made of 8-bit samples, not of {tile.dtype}."
        raise UnsupportedError(msg, remedy="Use lzw, deflate or none.")
    if encoding.codec == "jpeg":
        return jpeg(tile, encoding)
    if encoding.codec == "webp":
        return bytes(imagecodecs.webp_encode(tile, level=encoding.quality, lossless=False))
    if encoding.codec.startswith("jp2k"):
        return _jpeg2000(tile, encoding)
    return _lossless(tile, encoding)


def jpeg(tile: Picture, encoding: Encoding) -> bytes:
    """Return `tile` as baseline JPEG with the standard Huffman tables and without application markers."""
    gray = tile.ndim == 2
    rgb = not gray and encoding.color == "rgb"
    down = (1, 1) if rgb or gray else encoding.subsampling
    data = imagecodecs.jpeg8_encode(
        tile,
        level=encoding.quality,
        outcolorspace="RGB" if rgb else None,
        subsampling=None if gray else {(1, 1): "444", (2, 1): "422", (2, 2): "420", (1, 2): "440"}[down],
    )
    return _without_application_markers(bytes(data), plain_ids=rgb)


def split_tables(stream: bytes) -> tuple[bytes, bytes]:
    """Split a JPEG into what a TIFF keeps as JPEGTables and the abbreviated stream without tables."""
    tables: list[bytes] = []
    rest: list[bytes] = []
    for marker, segment in segments(stream):
        (tables if marker in _TABLES else rest).append(segment)
    return b"\xff\xd8" + b"".join(tables) + b"\xff\xd9", b"\xff\xd8" + b"".join(rest)


def segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker code and bytes of each header segment after SOI; the last, SOS, holds all the rest."""
    position = 2
    while position < len(stream):
        marker = stream[position + 1]
        if marker == 0xDA:
            yield marker, stream[position:]
            return
        end = position + 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        yield marker, stream[position:end]
        position = end


def _without_application_markers(stream: bytes, *, plain_ids: bool) -> bytes:
    """Drop APPn and COM; with `plain_ids` number the components 0, 1, 2, so that nothing tells their colours."""
    parts = [b"\xff\xd8"]
    for marker, segment in segments(stream):
        if marker in _APPLICATION:
            continue
        head = bytearray(segment[:20])
        if plain_ids and marker == 0xC0:
            head[10:19:3] = b"\x00\x01\x02"
        if plain_ids and marker == 0xDA:
            head[5:11:2] = b"\x00\x01\x02"
        parts.append(bytes(head) + segment[20:])
    return b"".join(parts)


def _jpeg2000(tile: Picture, encoding: Encoding) -> bytes:
    """Return a raw codestream; RGB is transformed inside it, YCbCr before it (as Aperio's 33003)."""
    outside = encoding.codec == "jp2k-ycbcr" and tile.ndim == 3
    data = np.asarray(Image.fromarray(tile).convert("YCbCr")) if outside else tile
    return bytes(
        imagecodecs.jpeg2k_encode(
            data, level=20 + encoding.quality // 2, codecformat="J2K", mct=not outside and tile.ndim == 3, numthreads=1
        )
    )


def _lossless(tile: Picture, encoding: Encoding) -> bytes:
    data = np.ascontiguousarray(tile)
    if encoding.predictor:
        data = imagecodecs.delta_encode(data, axis=1)
    if encoding.codec == "lzw":
        return bytes(imagecodecs.lzw_encode(data.tobytes()))
    return zlib.compress(data.tobytes(), 6) if encoding.codec == "deflate" else data.tobytes()


def cut(picture: Picture, height: int, width: int) -> Iterator[list[Picture]]:
    """Yield rows of tiles; tiles at the right and lower edge are filled up by repeating the last column and row."""
    for top in range(0, picture.shape[0], height):
        band = picture[top : top + height]
        missing = (height - band.shape[0], -picture.shape[1] % width)
        if any(missing):
            band = np.pad(band, ((0, missing[0]), (0, missing[1]), *((0, 0),) * (picture.ndim - 2)), mode="edge")
        yield [band[:, left : left + width] for left in range(0, band.shape[1], width)]


def encoded_tiles(
    picture: Picture, tile: tuple[int, int], encoding: Encoding, *, missing: Collection[int] = ()
) -> Iterator[bytes]:
    """Yield the encoded tiles of `picture` row by row, ``b""`` for the missing ones; a row at a time is in memory."""
    number = 0
    with ThreadPoolExecutor(_WORKERS) as pool:
        for row in cut(picture, *tile):
            wanted = [None if number + k in missing else one for k, one in enumerate(row)]
            yield from pool.map(lambda one: b"" if one is None else encode(one, encoding), wanted)
            number += len(row)


def abbreviated(tiles: Iterator[bytes]) -> Iterator[bytes]:
    """Take the tables out of JPEG tiles (which all have the same, having been encoded the same way)."""
    for one in tiles:
        yield split_tables(one)[1] if one else one


def shared_tables(like: Picture, encoding: Encoding) -> bytes:
    """Return the JPEGTables of all tiles that are encoded in this way."""
    return split_tables(encode(np.ascontiguousarray(like[:16, :16]), encoding))[0]


def strips(picture: Picture, rows: int, encode_strip: Callable[[Picture], bytes]) -> list[bytes]:
    """Return `picture` as encoded strips of `rows` rows, the last as high as what is left."""
    return [encode_strip(np.ascontiguousarray(picture[top : top + rows])) for top in range(0, picture.shape[0], rows)]


def check_levels(levels: Sequence[Picture]) -> None:
    """Refuse what is not a pyramid: no level, or levels that do not get smaller."""
    sides = [level.shape[:2] for level in levels]
    if not sides or any(a[0] < b[0] or a[1] < b[1] for a, b in pairwise(sides)):
        msg = f"A slide needs levels that get smaller, not {sides}."
        raise UnsupportedError(msg, remedy="Give the largest level first.")
