"""The test vectors of docs/codecs.md hold for our code, and for a reader written from the document alone."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from wsistore.compress import fold
from wsistore.compress.codecs import Fold
from wsistore.compress.folding import TRANSPOSE, FoldCoding

FOLDER = Path(__file__).parents[2] / "docs" / "vectors"
VECTORS = json.loads((FOLDER / "fold.json").read_text(encoding="utf-8"))
CHUNKS = json.loads((FOLDER / "fold-jpegxl.json").read_text(encoding="utf-8"))


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


# --- jpegxl inside ----------------------------------------------------------------------------------------------------


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def _segments(jpeg: bytes) -> list[tuple[int, bytes]]:
    """Return code and bytes of the segments between SOI and entropy-coded data (or EOI)."""
    at, found = 2, []
    while jpeg[at + 1] != 0xD9:
        stop = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        found.append((jpeg[at + 1], jpeg[at:stop]))
        at = stop
        if found[-1][0] == 0xDA:
            break
    return found


def _apart(jpeg: bytes, config: dict[str, Any], kind: int, count: int) -> list[bytes]:
    """Return the payloads of a part by section 3.3 of docs/store-format.md, without any of our code."""
    own = _segments(jpeg)
    scan = jpeg[2 + sum(len(data) for _, data in own) : -2]
    if count > 1:
        assert own[-2][0] == 0xDD
        height = config["tile_shape"][0].to_bytes(2, "big")
        own = [(c, d[:5] + height + d[7:] if 0xC0 <= c <= 0xC2 else d) for c, d in own if c != 0xDD]
    scans = re.split(rb"\xff[\xd0-\xd7]", scan) if count > 1 else [scan]
    if "header" in config:
        wanted = [d for c, d in _segments(base64.b64decode(config["header"])) if c in {0xDB, 0xC4, 0xC0, 0xDA}]
        assert [d for _, d in own] == wanted
        return scans
    shared = _segments(base64.b64decode(config["tables"])) if "tables" in config else []
    lead = [d for c, d in shared if c == 0xDB and not kind & 4] + [d for c, d in shared if c == 0xC4 and not kind & 8]
    assert [d for _, d in own[: len(lead)]] == lead
    header = b"\xff\xd8" + b"".join(d for _, d in own[len(lead) :])
    return [header + scan + b"\xff\xd9" for scan in scans]


def _payloads_as_documented(data: bytes, config: dict[str, Any]) -> list[bytes | None]:
    assert data[0] == 1
    count, at = _number(data, 1)
    codes: list[int] = []
    for _ in range(count):
        code, at = _number(data, at)
        many, at = _number(data, at)
        codes += [code] * many
    heads = []
    for code in range(2, max(codes) + 1):
        kind = data[at]
        length, at = _number(data, at + 1)
        size, zeros = 0, [0] * codes.count(code)
        if kind:
            size, at = _number(data, at)
        for place in range(len(zeros) if kind & 2 else 0):
            zeros[place], at = _number(data, at)
        heads.append((kind, length, size, zeros))
    parts: dict[int, list[bytes]] = {}
    for code, (kind, length, size, zeros) in enumerate(heads, 2):
        content, at = data[at : at + length], at + length
        jpeg = bytes(imagecodecs.jpegxl_decode_jpeg(content, numthreads=1)) if kind else content
        assert len(jpeg) == size or not kind
        tiles = _apart(jpeg, config, kind, len(zeros)) if kind else [content]
        parts[code] = [tile + bytes(padding) for tile, padding in zip(tiles, zeros, strict=True)]
    assert at == len(data)
    out: list[bytes | None] = []
    for code in codes:
        last = next((payload for payload in out[::-1] if payload is not None), None)
        out.append(None if code == 0 else last if code == 1 else parts[code].pop(0))
    return out


@pytest.fixture(params=CHUNKS, ids=[v["name"] for v in CHUNKS])
def chunk(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def _payloads(chunk: dict[str, Any]) -> list[bytes | None]:
    return [None if payload is None else bytes.fromhex(payload) for payload in chunk["payloads"]]


def test_chunks_give_their_payloads(chunk: dict[str, Any]) -> None:
    config = chunk["configuration"]
    codecs = [TRANSPOSE, {"name": "wsistore.fold", "configuration": config}]
    coding = FoldCoding.from_codecs(codecs, (3, chunk["tiles"] * config["tile_shape"][0], config["tile_shape"][1]))
    assert coding.codecs == codecs
    assert coding.decode(bytes.fromhex(chunk["chunk"])) == _payloads(chunk)
    assert coding.decode(coding.encode(_payloads(chunk)).data) == _payloads(chunk)


def test_chunks_are_read_as_documented(chunk: dict[str, Any]) -> None:
    assert _payloads_as_documented(bytes.fromhex(chunk["chunk"]), chunk["configuration"]) == _payloads(chunk)


def test_chunks_decode_as_documented(chunk: dict[str, Any]) -> None:
    config = chunk["configuration"]
    height, width = config["tile_shape"]
    channels = () if config["colorspace_jpeg"] == "GRAYSCALE" else (3,)
    tables, header = (base64.b64decode(config[key]) if key in config else None for key in ("tables", "header"))
    expected = np.full((chunk["tiles"] * height, width, *channels), 200, np.uint8)
    for number, payload in enumerate(_payloads(chunk)):
        if payload is not None:
            whole = payload if header is None else header + payload + b"\xff\xd9"
            space = {"colorspace": config["colorspace_jpeg"], "outcolorspace": "RGB" if channels else "GRAYSCALE"}
            rows = imagecodecs.jpeg8_decode(whole, tables=tables, **space)
            expected[number * height : (number + 1) * height] = rows
    decoded = np.full_like(expected, 200)
    Fold.from_dict({"name": "wsistore.fold", "configuration": config}).decode_into(
        bytes.fromhex(chunk["chunk"]), decoded
    )
    np.testing.assert_array_equal(decoded, expected)
