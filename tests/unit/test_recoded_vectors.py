"""The vectors of recoded tiles hold for our code, and for a reader written from docs/codecs.md alone."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numcodecs
import numpy as np
import pytest

from tests.recoded_kit import Pixels
from wsistore.compress.recoded import RecodedCoding
from wsistore.compress.recoded_chunk import pixels_of

VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "recoded.json").read_text(encoding="utf-8"))


@pytest.fixture(params=VECTORS, ids=[v["name"] for v in VECTORS])
def vector(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def coding(vector: dict[str, Any]) -> RecodedCoding:
    return RecodedCoding.from_codecs(vector["codecs"], tuple(vector["chunk_shape"]), vector["data_type"])


def expected(vector: dict[str, Any]) -> Pixels:
    dtype = np.dtype(vector["data_type"])
    flat = np.frombuffer(bytes.fromhex(vector["pixels"]), dtype.newbyteorder(">")).astype(dtype)
    return flat.reshape(vector["chunk_shape"])


def test_the_tile_comes_back(vector: dict[str, Any]) -> None:
    assert coding(vector).decode(bytes.fromhex(vector["chunk"])) == [bytes.fromhex(vector["tile"])]


def test_the_pixels_are_those(vector: dict[str, Any]) -> None:
    pixels = pixels_of(coding(vector).source, bytes.fromhex(vector["chunk"]))
    np.testing.assert_array_equal(np.moveaxis(pixels, -1, 0), expected(vector))


def test_all_kinds_are_there() -> None:
    assert {bytes.fromhex(v["chunk"])[1] for v in VECTORS} == {0, 1, 2, 3, 4, 5}


def leb128(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def as_documented(vector: dict[str, Any]) -> Pixels | None:
    """Decode the pixels of kinds 2 to 5 by the words of docs/codecs.md, without any of our code."""
    data = bytes.fromhex(vector["chunk"])
    assert data[0] == 1
    assert zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    if data[1] < 2:
        return None
    length, at = leb128(data, 3)
    length, at = leb128(data, at + length)
    body = data[at + length : -4]
    c, height, width = vector["chunk_shape"]
    dtype = np.dtype(vector["data_type"])
    if data[1] == 2:
        color = np.frombuffer(body, dtype.newbyteorder("<"))
        return np.broadcast_to(color[:, None, None], (c, height, width)).astype(dtype)
    if data[1] == 3:
        raw = numcodecs.Zstd().decode(body[1:])
        if body[0] & 2:
            raw = bytes(
                raw[i + j * c * height * width] for i in range(c * height * width) for j in range(dtype.itemsize)
            )
        samples = np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype)
        wide = dtype.itemsize > 1
        planes = samples.reshape(c, height, width) if wide else np.moveaxis(samples.reshape(height, width, c), -1, 0)
        return np.cumsum(planes, axis=2, dtype=dtype) if body[0] & 1 else planes
    picture = imagecodecs.jpegxl_decode(body) if data[1] == 4 else imagecodecs.htj2k_decode(body)
    return np.moveaxis(picture, -1, 0) if c == 3 else picture.reshape(c, height, width)


def test_a_stranger_decodes_the_pixels(vector: dict[str, Any]) -> None:
    found = as_documented(vector)
    if found is None:
        pytest.skip("the tile itself, decoded by the source's codecs")
    np.testing.assert_array_equal(found, expected(vector))
