"""Folds of JPEG tiles: joined and split to themselves, decoded tile by tile, and nothing but `FoldError` on garbage."""

from __future__ import annotations

import contextlib
import io
import struct
from functools import cache
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsistore.compress import fold
from wsistore.compress.codecs import Fold
from wsistore.slides.base import Codec, Color, Level, TileCoding, empty_segments
from wsistore.slides.check import TileChecker
from wsistore.testing.tissue import tissue

Pixels = npt.NDArray[Any]

MCU = {"4:4:4": (8, 8), "4:2:2": (8, 16), "4:2:0": (16, 16), "grey": (8, 8)}


def jpeg_of(pixels: Pixels, sampling: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture = Image.fromarray(pixels if sampling != "grey" else pixels[..., 1])
    if sampling != "grey":
        options["subsampling"] = sampling
    picture.save(out, "JPEG", **{"quality": 80} | options)
    return out.getvalue()


def cut_jpeg(data: bytes) -> tuple[bytes, bytes]:
    """Return header (SOI to SOS) and entropy-coded data of a JPEG, found by its markers alone."""
    at = 2
    while data[at + 1] != 0xDA:
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    assert data[-2:] == b"\xff\xd9"
    return data[:at], data[at:-2]


@cache
def section() -> Pixels:
    return tissue(512, 256, seed=11)


@cache
def tiles(sampling: str, height: int, width: int) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the header that all tiles of one size share, and their scans."""
    picture = section()
    headers, scans = set(), []
    for y in range(0, picture.shape[0] - height + 1, height):
        header, scan = cut_jpeg(jpeg_of(picture[y : y + height, :width], sampling))
        headers.add(header)
        scans.append(scan)
    assert len(headers) == 1, "an encoder with fixed tables gives tiles of one size one header"
    return headers.pop(), tuple(scans)


@st.composite
def folds(draw: st.DrawFn) -> tuple[str, int, int, bytes, list[bytes]]:
    sampling = draw(st.sampled_from(sorted(MCU)))
    height = MCU[sampling][0] * draw(st.integers(1, 4))
    width = draw(st.sampled_from([8, 16, 24, 40, 64, 200, 256]))
    header, scans = tiles(sampling, height, width)
    chosen = draw(st.lists(st.sampled_from(range(len(scans))), min_size=1, max_size=20))
    return sampling, height, width, header, [scans[number] for number in chosen]


@settings(max_examples=80)
@given(folds())
def test_folds_split_into_what_was_joined(made: tuple[str, int, int, bytes, list[bytes]]) -> None:
    _, _, _, header, scans = made
    assert fold.split(fold.join(header, scans)) == scans


@settings(max_examples=60)
@given(folds())
def test_a_fold_with_its_tables_is_one_tall_jpeg(made: tuple[str, int, int, bytes, list[bytes]]) -> None:
    """What the fold says of itself is true: any JPEG decoder takes it, given the tables, and finds the tiles' pixels.

    Luma never crosses the borders of tiles, so a grey decoding is the same to the bit.
    """
    _, height, width, header, scans = made
    whole = imagecodecs.jpeg8_decode(fold.join(header, scans), tables=header_tables(header), outcolorspace="GRAYSCALE")
    assert whole.shape == (height * len(scans), width)
    for number, scan in enumerate(scans):
        alone = imagecodecs.jpeg8_decode(header + scan + fold.EOI, outcolorspace="GRAYSCALE")
        assert np.array_equal(whole[number * height : (number + 1) * height], alone)


def header_tables(header: bytes) -> bytes:
    """Return the tables of a header as an abbreviated stream."""
    at, out = 2, b"\xff\xd8"
    while header[at + 1] != 0xDA:
        stop = at + 2 + int(struct.unpack_from(">H", header, at + 2)[0])
        if header[at + 1] in {0xDB, 0xC4}:
            out += header[at:stop]
        at = stop
    return out + b"\xff\xd9"


@settings(max_examples=60)
@given(folds())
def test_the_codec_decodes_every_tile_alone(made: tuple[str, int, int, bytes, list[bytes]]) -> None:
    sampling, height, width, header, scans = made
    channels = 1 if sampling == "grey" else 3
    codec = Fold((height, width), header, "GRAYSCALE" if channels == 1 else "YCBCR")
    out = np.full((height * (len(scans) + 1), width, channels), 7, np.uint8)
    codec.decode_into(fold.join(header, scans), out[..., 0] if channels == 1 else out)
    for number, scan in enumerate(scans):
        alone = imagecodecs.jpeg8_decode(header + scan + fold.EOI).reshape(height, width, channels)
        assert np.array_equal(out[number * height : (number + 1) * height], alone)
    assert np.all(out[height * len(scans) :] == 7), "rows of tiles that are not there stay at the fill value"


def test_decoding_a_tall_420_fold_as_one_jpeg_gives_other_pixels() -> None:
    """The trap: chroma is upsampled across the borders of the tiles, so a fold is split before it is decoded."""
    header, scans = tiles("4:2:0", 16, 256)
    folded = fold.join(header, scans)
    whole = imagecodecs.jpeg8_decode(folded, tables=header_tables(header))
    alone = np.concatenate([imagecodecs.jpeg8_decode(fold.tile(header, scan)) for scan in scans])
    out = np.zeros_like(alone)
    Fold((16, 256), header, "YCBCR").decode_into(folded, out)
    assert np.array_equal(out, alone)
    differing = np.flatnonzero((whole != alone).any(axis=(1, 2)))
    assert len(differing) > 0
    assert set((differing % 16).tolist()) <= {0, 15}, "only rows at the borders of tiles differ"


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_progressive_jpeg_is_refused() -> None:
    header, scan = cut_jpeg(jpeg_of(section()[:64], "4:2:0", progressive=True))
    with pytest.raises(fold.FoldError, match="SOF2"):
        fold.join(header, [scan, scan])


@pytest.mark.parametrize(("code", "name"), [(0xC9, "SOF9"), (0xCA, "SOF10"), (0xC3, "SOF3"), (0xC5, "SOF5")])
def test_arithmetic_lossless_and_hierarchical_jpeg_are_refused(code: int, name: str) -> None:
    header, scans = tiles("4:2:0", 16, 64)
    at = header.index(b"\xff\xc0")
    with pytest.raises(fold.FoldError, match=name):
        fold.join(header[: at + 1] + bytes([code]) + header[at + 2 :], scans[:2])


def test_jpeg_of_12_bits_is_refused() -> None:
    pixels = (section()[:64, :64].astype(np.uint16)) * 16
    header, scan = cut_jpeg(bytes(imagecodecs.jpeg8_encode(pixels, bitspersample=12)))
    with pytest.raises(fold.FoldError, match="8-bit"):
        fold.join(header, [scan])


def sized(header: bytes, height: int, width: int) -> bytes:
    at = header.index(b"\xff\xc0")
    return header[: at + 5] + struct.pack(">HH", height, width) + header[at + 9 :]


def test_a_fold_has_at_most_65535_rows() -> None:
    header, scans = tiles("4:2:0", 64, 64)
    assert len(fold.split(fold.join(header, [scans[0]] * (65_535 // 64)))) == 1023
    with pytest.raises(fold.FoldError, match="do not fit"):
        fold.join(header, [scans[0]] * (65_535 // 64 + 1))


def test_a_tile_has_at_most_65535_mcus() -> None:
    """A restart interval has 16 bits: 4:4:4 tiles of 2048 × 2040 pixels just go, larger ones do not."""
    header, scans = tiles("4:4:4", 8, 64)
    assert fold.join(sized(header, 2040, 2048), scans[:2])
    with pytest.raises(fold.FoldError, match="65536 MCUs"):
        fold.join(sized(header, 2048, 2048), scans[:2])


def test_rows_are_counted_in_whole_mcus() -> None:
    """500 rows of 4:2:0 take 512 each: 127 tiles are 65 024 rows, 128 do not fit though 128 · 500 would."""
    header, scans = tiles("4:2:0", 16, 64)
    odd = sized(header, 500, 64)
    assert fold.split(fold.join(odd, [scans[0]] * 127)) == [scans[0]] * 127
    with pytest.raises(fold.FoldError, match="do not fit"):
        fold.join(odd, [scans[0]] * 128)


def test_nothing_cannot_be_folded() -> None:
    with pytest.raises(fold.FoldError, match="nothing"):
        fold.join(tiles("4:2:0", 16, 64)[0], [])


def test_tiles_with_restart_markers_of_their_own_are_refused() -> None:
    """They would be split at the wrong places."""
    header, scan = cut_jpeg(jpeg_of(section()[:64], "4:2:0", restart_marker_blocks=2))
    with pytest.raises(fold.FoldError, match="restart markers of their own"):
        fold.join(header, [scan])


def test_fill_bytes_before_markers_are_legal() -> None:
    header, scans = tiles("4:2:0", 16, 64)
    at = header.index(b"\xff\xc0")
    filled = header[:at] + b"\xff\xff" + header[at:]
    folded = fold.join(filled, scans[:3])
    assert fold.split(folded) == list(scans[:3])
    assert imagecodecs.jpeg8_decode(folded, tables=header_tables(header)).shape == (48, 64, 3)


# --- garbage ----------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: b"\xff\xd8\xff" + tail + b"\xff\xd9"))
def test_splitting_arbitrary_bytes_gives_scans_or_a_fold_error(data: bytes) -> None:
    with contextlib.suppress(fold.FoldError):
        assert all(isinstance(scan, bytes) for scan in fold.split(data))


@settings(max_examples=300)
@given(st.data())
def test_splitting_a_garbled_fold_gives_scans_or_a_fold_error(data: st.DataObject) -> None:
    header, scans = tiles("4:2:0", 16, 64)
    folded = bytearray(fold.join(header, scans[: data.draw(st.integers(1, 12))]))
    early = st.integers(0, 60) | st.integers(0, len(folded) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(early) % len(folded)
        if data.draw(st.booleans()):
            folded[at] = data.draw(st.sampled_from([0, 1, 2, 0xFF, 0xD8, 0xD9, 0xDA, 0xC0]) | st.integers(0, 255))
        else:
            del folded[at : at + data.draw(st.integers(1, 30))]
            folded = folded or bytearray(b"\0")
    with contextlib.suppress(fold.FoldError):
        assert b"".join(fold.split(bytes(folded))) is not None


@settings(max_examples=300)
@given(st.data())
def test_joining_under_a_garbled_header_gives_a_fold_or_a_fold_error(data: st.DataObject) -> None:
    good, scans = tiles("4:2:0", 16, 64)
    header = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(header[: data.draw(st.integers(0, len(header)))])
    for one in (bytes(header), cut):
        with contextlib.suppress(fold.FoldError):
            fold.join(one, list(scans[:2]))


def test_a_scan_marker_without_a_body_is_no_fold_and_no_tile() -> None:
    header, _ = tiles("4:2:0", 16, 64)
    cut = header[: header.index(b"\xff\xda")] + b"\xff\xda\x00\x02"
    for data in (cut, cut + fold.EOI):
        with pytest.raises(fold.FoldError, match="too short"):
            fold.split(data)
        level = Level(16, 64, 16, 64, TileCoding(Codec.JPEG, Color.YCBCR), empty_segments())
        assert "too short" in TileChecker(level)(data).problem
