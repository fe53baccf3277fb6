"""The reference decoding of one tile alone: what every other way to its pixels must agree with."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from wsistore.errors import BrokenError
from wsistore.slides import jpeg, jpeg2000, webp
from wsistore.slides.base import Codec, Color, Level, TileCoding

Pixels = npt.NDArray[Any]

_JPEG_SPACES = {Color.RGB: "RGB", Color.YCBCR: "YCBCR", Color.GRAY: "GRAYSCALE"}
_SCALE_BITS = 16
_HALF = 1 << (_SCALE_BITS - 1)


def decode_tile(level: Level, tile: bytes) -> Pixels:
    """Decode one tile alone.

    Parameters
    ----------
    level
        A level in `tiles` mode.
    tile
        The tile's bytes, its segments joined.

    Returns
    -------
    numpy.ndarray
        Shape (tile_height, tile_width, channels), axes y, x, c, of the level's dtype in native byte order. Colours are
        RGB: JPEG by libjpeg-turbo, JPEG 2000 by OpenJPEG and, where its components are YCbCr, `rgb_from_ycbcr`.

    Raises
    ------
    BrokenError
        If the bytes cannot be decoded to that shape. The message does not name the file: the caller knows it.

    """
    coding = level.coding
    if coding is None:
        msg = "A slide that is kept whole has no tiles to decode."
        raise BrokenError(msg)
    try:
        pixels = _DECODERS[coding.codec](level, coding, tile)
    except Exception as error:  # codecs raise errors of their own on damaged data, and they always mean the same
        msg = f"The tile cannot be decoded: {str(error)[:200] or type(error).__name__}."
        raise BrokenError(msg) from error
    shape = (level.tile_height, level.tile_width, level.channels)
    if pixels.shape != shape or pixels.dtype != np.dtype(level.dtype):
        msg = f"The tile decodes to {pixels.dtype} {pixels.shape} where {level.dtype} {shape} is declared."
        raise BrokenError(msg)
    return pixels


def _jpeg(level: Level, coding: TileCoding, tile: bytes) -> Pixels:
    # the size is checked first, so that a forged header cannot make the decoder allocate
    reason = jpeg.unfit(jpeg.parse(tile).frame, level.tile_height, level.tile_width, level.channels)
    if reason:
        raise ValueError(reason)
    space = _JPEG_SPACES[coding.color]
    out = "GRAYSCALE" if coding.color is Color.GRAY else "RGB"
    pixels: Pixels = imagecodecs.jpeg8_decode(tile, tables=coding.tables, colorspace=space, outcolorspace=out)
    return pixels.reshape(*pixels.shape[:2], -1)


def _strip(level: Level, coding: TileCoding, tile: bytes) -> Pixels:
    return _jpeg(level, coding, (coding.header or b"") + tile + jpeg.EOI_BYTES)


def _jpeg2000(level: Level, coding: TileCoding, tile: bytes) -> Pixels:
    stream = jpeg2000.parse(tile)
    if (stream.height, stream.width, len(stream.depths)) != (level.tile_height, level.tile_width, level.channels):
        msg = f"JPEG 2000 of {stream.width}×{stream.height} pixels and {len(stream.depths)} components"
        raise ValueError(msg)
    pixels: Pixels = imagecodecs.jpeg2k_decode(tile, numthreads=1)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return rgb_from_ycbcr(pixels) if coding.color is Color.YCBCR else pixels


def _webp(level: Level, _coding: TileCoding, tile: bytes) -> Pixels:
    if webp.size_of(tile) != (level.tile_height, level.tile_width):
        msg = "a WebP picture of another size"
        raise ValueError(msg)
    pixels: Pixels = imagecodecs.webp_decode(tile, hasalpha=False)
    return pixels


def _lzw(level: Level, coding: TileCoding, tile: bytes) -> Pixels:
    return _arranged(level, coding, bytes(imagecodecs.lzw_decode(tile, out=_tile_bytes(level))))


def _deflate(level: Level, coding: TileCoding, tile: bytes) -> Pixels:
    return _arranged(level, coding, bytes(imagecodecs.zlib_decode(tile, out=_tile_bytes(level))))


def _plain(level: Level, coding: TileCoding, tile: bytes) -> Pixels:
    return _arranged(level, coding, tile[: _tile_bytes(level)])  # what is more is padding


def _tile_bytes(level: Level) -> int:
    return level.tile_height * level.tile_width * level.channels * np.dtype(level.dtype).itemsize


def _arranged(level: Level, coding: TileCoding, raw: bytes) -> Pixels:
    """Turn decompressed bytes into pixels: byte order, planes, horizontal differencing."""
    if len(raw) != _tile_bytes(level):
        msg = f"{len(raw)} bytes come out where {_tile_bytes(level)} are needed"
        raise ValueError(msg)
    dtype = np.dtype(level.dtype)
    flat = np.frombuffer(raw, dtype.newbyteorder(">" if coding.big_endian else "<")).astype(dtype, copy=False)
    if coding.planar:
        pixels = flat.reshape(level.channels, level.tile_height, level.tile_width).transpose(1, 2, 0)
    else:
        pixels = flat.reshape(level.tile_height, level.tile_width, level.channels)
    if coding.predictor:
        pixels = np.cumsum(pixels, axis=1, dtype=dtype)
    return pixels


def rgb_from_ycbcr(pixels: Pixels) -> Pixels:
    """Convert full-range YCbCr to RGB exactly as libjpeg does: fixed point, 16 fraction bits.

    OpenSlide's own conversion of Aperio's JPEG 2000 rounds green differently by 1 for a few pixels in 100 000.

    Parameters
    ----------
    pixels
        uint8, shape (y, x, 3): Y, Cb, Cr.

    Returns
    -------
    numpy.ndarray
        uint8, shape (y, x, 3): R, G, B.

    """
    luma = pixels[..., 0].astype(np.int32)
    blue = pixels[..., 1].astype(np.int32) - 128
    red = pixels[..., 2].astype(np.int32) - 128
    rgb = np.empty(pixels.shape, np.int32)
    rgb[..., 0] = luma + ((_fixed(1.40200) * red + _HALF) >> _SCALE_BITS)
    rgb[..., 1] = luma + ((-_fixed(0.34414) * blue - _fixed(0.71414) * red + _HALF) >> _SCALE_BITS)
    rgb[..., 2] = luma + ((_fixed(1.77200) * blue + _HALF) >> _SCALE_BITS)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def _fixed(factor: float) -> int:
    return int(factor * (1 << _SCALE_BITS) + 0.5)


_DECODERS = {
    Codec.JPEG: _jpeg,
    Codec.JPEG_STRIPS: _strip,
    Codec.JPEG2000: _jpeg2000,
    Codec.WEBP: _webp,
    Codec.LZW: _lzw,
    Codec.DEFLATE: _deflate,
    Codec.NONE: _plain,
}
