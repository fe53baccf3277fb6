"""Tiles of every kind that is recoded, as the writers of TIFF make them, with the level that they belong to."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import zarr
from PIL import Image
from tifffile import TiffFile

from wsistore.compress import metadata
from wsistore.compress.levels import codec_chain, plan_level
from wsistore.slides.base import Codec, Color, Level, TileCoding, empty_segments
from wsistore.testing.tissue import tissue

Pixels = npt.NDArray[Any]
Json = dict[str, Any]

TILE = 64


def picture(channels: int, dtype: str = "uint8", *, seed: int = 3, side: int = TILE) -> Pixels:
    """Return tissue, shape (y, x, c)."""
    plain = np.stack([tissue(side, side, seed=seed)[..., c % 3] for c in range(channels)], axis=-1).astype(dtype)
    if np.dtype(dtype).itemsize > 1:
        plain = plain * np.dtype(dtype).type(127) + np.arange(side, dtype=dtype)[:, None, None]
    return np.ascontiguousarray(plain)


def level(coding: TileCoding, channels: int = 3, dtype: str = "uint8", side: int = TILE) -> Level:
    return Level(side, side, side, side, coding, empty_segments(), channels, dtype)


def codecs_of(one: Level) -> tuple[list[Json], tuple[int, int, int]]:
    """Return inner codecs and chunk shape of a level in the preset `keep`."""
    plan = plan_level(one, 0)
    return codec_chain(plan), plan.grid.chunk_shape


def samples(pixels: Pixels, coding: TileCoding) -> bytes:
    """Lay samples out as TIFF does: written from TIFF's specification, not from our code."""
    if coding.predictor:
        pixels = imagecodecs.delta_encode(pixels, axis=1)
    if coding.planar:
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return bytes(pixels.astype(pixels.dtype.newbyteorder(">" if coding.big_endian else "<")).tobytes())


def compress(raw: bytes, codec: Codec, level_of_zlib: int = 6) -> bytes:
    if codec is Codec.LZW:
        return bytes(imagecodecs.lzw_encode(raw))
    return zlib.compress(raw, level_of_zlib) if codec is Codec.DEFLATE else raw


def libtiff(raw: bytes, compression: str, rows: int) -> bytes:
    """Return what libtiff compresses `raw` to."""
    file = io.BytesIO()
    with Image.frombytes("L", (len(raw) // rows, rows), raw) as grey:
        grey.save(file, "TIFF", compression=compression, tiffinfo={278: rows})
    file.seek(0)
    with TiffFile(file) as tiff:
        (offset,), (length,) = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
        file.seek(offset)
        return file.read(length)


def plain_cases() -> dict[str, tuple[Level, bytes]]:
    """Return tiles whose payload is samples, all shapes, one by one."""
    cases = {}
    for codec in (Codec.NONE, Codec.LZW, Codec.DEFLATE):
        for channels, dtype in ((1, "uint8"), (3, "uint8"), (4, "uint8"), (1, "uint16"), (2, "int16")):
            for planar in (False, True) if channels > 1 else (False,):
                for predictor in (False, True) if codec is not Codec.NONE else (False,):
                    for big in (False, True) if dtype != "uint8" else (False,):
                        color = Color.GRAY if channels == 1 else Color.RGB
                        coding = TileCoding(codec, color, predictor=predictor, planar=planar, big_endian=big)
                        one = level(coding, channels, dtype)
                        flags = "".join(
                            f"-{n}" for n, on in (("planar", planar), ("pred", predictor), ("big", big)) if on
                        )
                        tile = compress(samples(picture(channels, dtype), coding), codec)
                        cases[f"{codec.value}-{channels}-{dtype}{flags}"] = (one, tile)
    return cases  # fmt: skip


def picture_cases() -> dict[str, tuple[Level, bytes]]:
    """Return tiles of JPEG 2000 and WebP."""
    rgb, grey = picture(3), picture(1, "uint16")[..., 0]
    jp2k = bytes(imagecodecs.jpeg2k_encode(rgb, level=45, codecformat="J2K", mct=False, numthreads=1))
    deep = bytes(imagecodecs.jpeg2k_encode(grey, level=0, codecformat="J2K", numthreads=1))
    return {
        "jpeg2000": (level(TileCoding(Codec.JPEG2000, Color.RGB)), jp2k),
        "jpeg2000-ycbcr": (level(TileCoding(Codec.JPEG2000, Color.YCBCR)), jp2k),
        "jpeg2000-grey-16": (level(TileCoding(Codec.JPEG2000, Color.GRAY), 1, "uint16"), deep),
        "webp": (level(TileCoding(Codec.WEBP, Color.RGB)), bytes(imagecodecs.webp_encode(rgb, level=70))),
    }


def stored(one: Level, codecs: Sequence[Json], chunk: bytes) -> Pixels:
    """Return the pixels, (c, y, x), that Zarr reads from an array whose only chunk is `chunk`."""
    shape = (one.channels, one.height, one.width)
    chunk_shape = plan_level(one, 0).grid.chunk_shape
    document = metadata.array(shape, chunk_shape, one.dtype, list(codecs), ["c", "y", "x"])
    buffer = zarr.core.buffer.cpu.Buffer.from_bytes
    files = {"zarr.json": buffer(metadata.dump(document)), "c/0/0/0": buffer(chunk)}
    return np.asarray(zarr.open_array(zarr.storage.MemoryStore(files), mode="r")[:])  # type: ignore[arg-type]
