"""Segments: cutting, overlap and bounds against the plain way of doing it, byte by byte."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import BrokenError
from wsistore.slides.base import SEGMENT_DTYPE
from wsistore.slides.boundary import NoTileGridError
from wsistore.slides.segments import check_apart, check_bounds, extents, from_table, read_tile, without

SIZE = 60
PATH = Path("a.tif")

ranges = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, 12)), max_size=6)


@st.composite
def cuts_of(draw: st.DrawFn, length: int) -> list[tuple[int, int]]:
    marks = sorted(draw(st.sets(st.integers(0, length), max_size=6)))
    return list(zip(marks[::2], marks[1::2], strict=False))


@given(st.data(), st.lists(st.lists(st.integers(1, 9), max_size=4), min_size=1, max_size=5))
def test_without_is_cutting_the_joined_bytes(data: st.DataObject, shape: list[list[int]]) -> None:
    rows, cuts, expected, blob = [], {}, {}, bytearray()
    for tile, lengths in enumerate(shape):
        joined = b""
        for length in lengths:
            blob += b"--"
            part = bytes((len(blob) + i) % 251 for i in range(length))
            rows.append((tile, 0, len(blob), length))
            blob += part
            joined += part
        cut = data.draw(cuts_of(len(joined)))
        if cut:
            cuts[tile] = cut
        kept = np.ones(len(joined), bool)
        for start, stop in cut:
            kept[start:stop] = False
        expected[tile] = bytes(np.frombuffer(joined, np.uint8)[kept])
    left = without(np.array(rows, SEGMENT_DTYPE), cuts)
    assert (np.diff(left["tile"]) >= 0).all()
    assert (left["length"] > 0).all()
    files = {0: io.BytesIO(bytes(blob))}
    for tile, content in expected.items():
        assert read_tile(left[left["tile"] == tile], files) == content


@given(ranges, ranges, ranges)
def test_apart_agrees_with_painting_bytes(
    tiles: list[tuple[int, int]], structure: list[tuple[int, int]], pictures: list[tuple[int, int]]
) -> None:
    segments = from_table([offset for offset, _ in tiles], [length for _, length in tiles])
    painted = {
        name: {byte for start, length in found for byte in range(start, start + length)}
        for name, found in (("structure", structure), ("pictures", pictures))
    }
    own = sorted({(int(r["offset"]), int(r["offset"] + r["length"])) for r in segments})
    count = sum(stop - start for start, stop in own)
    bytes_of_tiles = {byte for start, stop in own for byte in range(start, stop)}
    try:
        check_apart(segments, PATH, extents(*split(structure)), extents(*split(pictures)), "page 0")
        verdict: type[Exception] | None = None
    except (BrokenError, NoTileGridError) as error:
        verdict = type(error)
    if bytes_of_tiles & painted["structure"]:
        assert verdict is BrokenError
    elif bytes_of_tiles & painted["pictures"] or count != len(bytes_of_tiles):
        assert verdict is NoTileGridError
    else:
        assert verdict is None


def split(found: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [start for start, _ in found], [length for _, length in found]


@given(st.lists(st.tuples(st.integers(0, 1 << 63), st.integers(0, 1 << 63)), max_size=5), st.integers(0, 1 << 62))
def test_bounds(tiles: list[tuple[int, int]], size: int) -> None:
    try:
        segments = from_table(*split(tiles))
        check_bounds(segments, PATH, size, "page 0")
    except (ValueError, BrokenError):
        assert any(start and length and start + length > size for start, length in tiles) or max(
            max(pair) for pair in tiles
        ) >= (1 << 60)
    else:
        assert all(not start or not length or start + length <= size for start, length in tiles)
        assert len(segments) == sum(bool(start and length) for start, length in tiles)
