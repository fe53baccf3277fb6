"""The test vectors of docs/codecs.md hold for our code, and for a reader written from the document alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from wsistore.compress import fold
from wsistore.compress.codecs import Fold

VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "vectors" / "fold.json").read_text(encoding="utf-8"))


@pytest.fixture(params=VECTORS, ids=[v["name"] for v in VECTORS])
def vector(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def test_join_gives_the_fold(vector: dict[str, Any]) -> None:
    scans = [bytes.fromhex(scan) for scan in vector["scans"]]
    assert fold.join(bytes.fromhex(vector["header"]), scans) == bytes.fromhex(vector["fold"])


def test_split_gives_the_scans(vector: dict[str, Any]) -> None:
    assert [scan.hex() for scan in fold.split(bytes.fromhex(vector["fold"]))] == vector["scans"]


def _read_as_documented(vector: dict[str, Any]) -> np.ndarray:
    """Decode a fold by the words of docs/codecs.md, without any of our code."""
    data, header = bytes.fromhex(vector["fold"]), bytes.fromhex(vector["header"])
    sos = data.index(b"\xff\xda")
    start = sos + 2 + int.from_bytes(data[sos + 2 : sos + 4], "big")
    parts = re.split(rb"\xff[\xd0-\xd7]", data[start:-2])
    space = vector["colorspace_jpeg"]
    out = "GRAYSCALE" if space == "GRAYSCALE" else "RGB"
    tiles = [
        imagecodecs.jpeg8_decode(header + part + b"\xff\xd9", colorspace=space, outcolorspace=out) for part in parts
    ]
    return np.concatenate(tiles)


def test_codec_decodes_as_documented(vector: dict[str, Any]) -> None:
    expected = _read_as_documented(vector)
    height, width = vector["tile_shape"]
    codec = Fold(
        tile_shape=(height, width),
        header=bytes.fromhex(vector["header"]),
        colorspace_jpeg=vector["colorspace_jpeg"],
    )
    decoded = np.zeros((height * len(vector["scans"]), width, *expected.shape[2:]), np.uint8)
    codec.decode_into(bytes.fromhex(vector["fold"]), decoded)
    np.testing.assert_array_equal(decoded, expected)
