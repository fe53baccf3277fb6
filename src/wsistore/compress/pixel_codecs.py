"""Candidates: what the pixels of a tile can be kept as, without loss. Decoding checks sizes before it spends memory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from wsistore.compress.coding import CodingError
from wsistore.slides import jpeg2000

Pixels = npt.NDArray[Any]

ZSTD, JPEGXL, HTJ2K = 3, 4, 5
"""Kinds of chunks; 0 to 2 hold no pixels of this module."""
_DELTA, _SHUFFLE = 1, 2
"""Filters of zstd: differences to the left neighbour, bytes of a sample apart."""
_ZSTD_LEVEL = 19
_JPEGXL_SIGNATURE = b"\xff\x0a"
_JPEGXL_HEADER_BYTES = 12
_SIZE_BITS = (9, 13, 18, 30)
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to keep pixels."""

    kind: int
    encode: Callable[[Pixels], bytes]
    """Of unsigned (y, x, c) pixels of 1, 2 or 4 bytes each."""
    most_sample_bytes: int


def decode(kind: int, data: bytes, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Pixels:
    """Return the pixels that a candidate of this kind encoded.

    Parameters
    ----------
    kind, data
        ZSTD, JPEGXL or HTJ2K, and what was made.
    shape
        (y, x, c) of the pixels.
    dtype
        Unsigned type of the samples, native byte order.

    Returns
    -------
    numpy.ndarray
        Of this shape and type.

    Raises
    ------
    CodingError
        If `data` does not hold such pixels, or is of a kind that is not known.

    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        msg = f"holds tiles of kind {kind}; a newer wsistore may know it"
        raise CodingError(msg)
    try:
        pixels = decoder(data, shape, dtype)
    except CodingError:
        raise
    except Exception as error:  # codecs raise errors of their own on damaged data, and they always mean the same
        msg = f"is damaged ({str(error)[:200] or type(error).__name__})"
        raise CodingError(msg) from error
    if pixels.shape != shape or pixels.dtype != dtype:
        msg = f"decodes to {pixels.dtype} {pixels.shape} where {dtype} {shape} is due"
        raise CodingError(msg)
    return pixels


def _picture(pixels: Pixels) -> Pixels:
    """Return RGB as it is, all else as one grey picture, channel below channel."""
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).reshape(-1, pixels.shape[1])


def _from_picture(picture: Pixels, shape: tuple[int, int, int]) -> Pixels:
    height, width, channels = shape
    if channels == 3:
        return picture
    return np.ascontiguousarray(picture.reshape(channels, height, width).transpose(1, 2, 0))


def _picture_size(shape: tuple[int, int, int]) -> tuple[int, int]:
    height, width, channels = shape
    return (height, width) if channels == 3 else (height * channels, width)


def _room(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Pixels:
    """Return an array for the picture: decoders refuse others by their headers, before they decode them."""
    return np.zeros((*_picture_size(shape), 3) if shape[2] == 3 else _picture_size(shape), dtype)


# --- zstd -------------------------------------------------------------------------------------------------------------


def _zstd(pixels: Pixels, filtering: int) -> bytes:
    """Bytes lie pixel by pixel; wider samples plane by plane, their bytes together or apart, whichever is smaller."""
    if pixels.dtype.itemsize == 1:
        return _filtered(np.ascontiguousarray(pixels), filtering, axis=1)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return min((_filtered(planes, filtering | how, axis=2) for how in (_SHUFFLE, 0)), key=len)


def _filtered(data: Pixels, filtering: int, axis: int) -> bytes:
    if filtering & _DELTA:
        data = imagecodecs.delta_encode(data, axis=axis)
    raw: Pixels = data.astype(data.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    if filtering & _SHUFFLE:  # all lowest bytes, then all next ones
        raw = raw.reshape(-1, data.dtype.itemsize).T
    return bytes([filtering]) + bytes(imagecodecs.zstd_encode(raw.tobytes(), level=_ZSTD_LEVEL))


def _from_zstd(data: bytes, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Pixels:
    height, width, channels = shape
    size = height * width * channels * dtype.itemsize
    if not data or data[0] > _DELTA | _SHUFFLE:
        msg = f"has zstd tiles with filter {data[:1].hex() or 'none'}; a newer wsistore may know it"
        raise CodingError(msg)
    raw = np.frombuffer(bytes(imagecodecs.zstd_decode(data[1:], out=size)), np.uint8)
    if raw.size != size:
        msg = f"holds {raw.size} bytes of samples where {size} are due"
        raise CodingError(msg)
    if data[0] & _SHUFFLE:
        raw = np.ascontiguousarray(raw.reshape(dtype.itemsize, -1).T).reshape(-1)
    wide = dtype.itemsize > 1
    pixels = raw.view(dtype.newbyteorder("<")).astype(dtype).reshape((channels, height, width) if wide else shape)
    if data[0] & _DELTA:
        pixels = np.cumsum(pixels, axis=2 if wide else 1, dtype=dtype)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)) if wide else pixels


# --- JPEG XL ----------------------------------------------------------------------------------------------------------


def _jpegxl(pixels: Pixels, effort: int) -> bytes:
    picture = _picture(pixels)
    return bytes(imagecodecs.jpegxl_encode(picture, lossless=True, effort=effort, usecontainer=False, numthreads=1))


def _from_jpegxl(data: bytes, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Pixels:
    size = jpegxl_size(data)
    if size != _picture_size(shape):
        msg = f"holds a JPEG XL picture of {size} pixels where {_picture_size(shape)} are due"
        raise CodingError(msg)
    picture: Pixels = imagecodecs.jpegxl_decode(data, numthreads=1, out=_room(shape, dtype))
    return _from_picture(picture, shape)


def jpegxl_size(data: bytes) -> tuple[int, int]:
    """Return height and width that a JPEG XL file or bare codestream declares.

    Raises
    ------
    CodingError
        If it is neither.

    """
    start = _codestream_start(data)
    head = data[start : start + _JPEGXL_HEADER_BYTES]
    if head[:2] != _JPEGXL_SIGNATURE or len(head) < _JPEGXL_HEADER_BYTES:
        msg = "holds no JPEG XL codestream where one is due"
        raise CodingError(msg)
    bits = int.from_bytes(head[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    def edge(small: int) -> int:
        return (take(5) + 1) * 8 if small else take(_SIZE_BITS[take(2)]) + 1

    small = take(1)
    height = edge(small)
    ratio = take(3)
    width = height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1] if ratio else edge(small)
    return height, width


def _codestream_start(data: bytes) -> int:
    """Return where the codestream starts: samples of 16 bits come in boxes, all of it in one."""
    at = 0
    while data[:2] != _JPEGXL_SIGNATURE and at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name == b"jxlc":
            return at + 8
        at += length if length >= 8 else len(data)
    return at


# --- HTJ2K ------------------------------------------------------------------------------------------------------------


def _htj2k(pixels: Pixels) -> bytes:
    """Encode without the comment that names OpenJPH's version: the header is then the same for all pictures."""
    data = bytes(imagecodecs.htj2k_encode(_picture(pixels), reversible=True))
    out, at, stop = bytearray(data[:2]), 2, jpeg2000.parse(data).header_stop
    while at < stop:
        code, length = struct.unpack_from(">HH", data, at)
        if code != jpeg2000.COM:
            out += data[at : at + 2 + length]
        at += 2 + length
    return bytes(out) + data[stop:]


@lru_cache(maxsize=16)
def _htj2k_header(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> bytes:
    """Return the main header of all pictures of this shape: OpenJPH can hang on others that are forged."""
    data = _htj2k(np.zeros(shape, dtype))
    return data[: jpeg2000.parse(data).header_stop]


def _from_htj2k(data: bytes, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Pixels:
    stream = jpeg2000.parse(data)
    size = (stream.height, stream.width)
    if size != _picture_size(shape):
        msg = f"holds an HTJ2K picture of {size} pixels where {_picture_size(shape)} are due"
        raise CodingError(msg)
    if data[: stream.header_stop] != _htj2k_header(shape, dtype) or not jpeg2000.single_part(data, stream.header_stop):
        msg = "holds an HTJ2K picture that is coded in another way than is due"
        raise CodingError(msg)
    picture: Pixels = imagecodecs.htj2k_decode(data, out=_room(shape, dtype))
    return _from_picture(picture, shape)


_DECODERS: Mapping[int, Callable[[bytes, tuple[int, int, int], np.dtype[Any]], Pixels]] = {
    ZSTD: _from_zstd,
    JPEGXL: _from_jpegxl,
    HTJ2K: _from_htj2k,
}

CANDIDATES: Mapping[str, Candidate] = {
    "jpegxl": Candidate(JPEGXL, lambda pixels: _jpegxl(pixels, 7), 2),
    "jpegxl-fast": Candidate(JPEGXL, lambda pixels: _jpegxl(pixels, 3), 2),
    "htj2k": Candidate(HTJ2K, _htj2k, 2),
    "zstd-delta": Candidate(ZSTD, lambda pixels: _zstd(pixels, _DELTA), 4),
    "zstd": Candidate(ZSTD, lambda pixels: _zstd(pixels, 0), 4),
}
"""By name; those that mostly win come first."""
