"""The layout: with the gaps it covers every file exactly once, and what is stored gives every byte back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.compress import layout
from wsistore.compress.extents import map_source
from wsistore.compress.keys import Place
from wsistore.compress.levels import plan_level
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_file import SourceFileView
from wsistore.compress.verify import verify_copy
from wsistore.compress.writer import write_slide
from wsistore.errors import BrokenError, IntegrityError
from wsistore.model import Mode
from wsistore.slides.base import SEGMENT_DTYPE, Codec, Color, Level, Source, TileCoding, source_files
from wsistore.storage.memory import MemoryStorage

TILE = 8
BYTES = TILE * TILE


@st.composite
def sources(draw: st.DrawFn, folder: Path) -> Source:
    """Draw files of random bytes of which some runs are the (raw, grey) tiles of one to three levels.

    Tiles are missing, cut into fragments, spread over files, in any order, or share their bytes.
    """
    files = [draw(st.integers(0, 40)) for _ in range(draw(st.integers(1, 3)))]
    sizes = [draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in range(draw(st.integers(1, 3)))]
    tiles = [(level, tile) for level, (down, across) in enumerate(sizes) for tile in range(down * across)]
    rows: list[list[tuple[int, int, int, int]]] = [[] for _ in sizes]
    known: list[list[tuple[int, int, int]]] = []
    for level, tile in draw(st.permutations(tiles)):
        kind = draw(st.sampled_from(["there", "there", "there", "missing", "shared", "fragments"]))
        if kind == "missing":
            continue
        if kind == "shared" and known:
            rows[level] += [(tile, *part) for part in draw(st.sampled_from(known))]
            continue
        cuts = sorted(draw(st.sets(st.integers(1, BYTES - 1), max_size=3))) if kind == "fragments" else []
        parts = []
        for start, stop in zip([0, *cuts], [*cuts, BYTES], strict=True):
            file = draw(st.integers(0, len(files) - 1))
            files[file] += draw(st.sampled_from([0, 0, 1, 7]))
            parts.append((file, files[file], stop - start))
            files[file] += stop - start
        known.append(parts)
        rows[level] += [(tile, *part) for part in parts]
    for number in range(len(files)):
        files[number] += draw(st.integers(0, 20))
    paths = [folder / f"{number}.raw" for number in range(len(files))]
    for path, size in zip(paths, files, strict=True):
        path.write_bytes(os.urandom(size))
    coding = TileCoding(Codec.NONE, Color.GRAY)
    levels = tuple(
        Level(down * TILE, across * TILE, TILE, TILE, coding, in_order(mine), 1)
        for (down, across), mine in zip(sizes, rows, strict=True)
    )
    return Source("raw", Mode.TILES, "", source_files(folder, paths), levels, None, None)


def in_order(rows: list[tuple[int, int, int, int]]) -> np.ndarray:
    table = np.array(rows, SEGMENT_DTYPE) if rows else np.empty(0, SEGMENT_DTYPE)
    return table[np.argsort(table["tile"], kind="stable")]


@settings(max_examples=80)
@given(data=st.data())
def test_layout_and_gaps_cover_every_byte_once(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = data.draw(sources(tmp_path_factory.mktemp("source")))
    plans = [plan_level(level, number) for number, level in enumerate(source.levels)]
    table = layout.layout_of(plans)
    sizes = [file.size_bytes for file in source.files]
    counts = [np.zeros(size, int) for size in sizes]
    for row in table:
        counts[row["file"]][row["offset"] : row["offset"] + row["length"]] += 1
    for gap in layout.gaps(table, sizes):
        assert gap["length"] > 0
        counts[gap["file"]][gap["offset"] : gap["offset"] + gap["length"]] += 1
    assert all(np.all(count == 1) for count in counts)
    again = layout.decode(layout.encode(table), where="layout")
    assert again.dtype == table.dtype
    assert np.array_equal(again, table)


@settings(max_examples=40)
@given(data=st.data())
def test_the_files_come_back_from_any_layout(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = data.draw(sources(tmp_path_factory.mktemp("source")))
    storage, place = MemoryStorage(), Place("k", "a")
    draft = write_slide(source, storage, place, history=())
    verify_copy(storage, place, draft.objects, draft.files)
    slide = StoredSlide(storage, place)
    mapped = map_source(slide)
    for number, file in enumerate(source.files):
        extents = mapped.files[number]
        assert np.array_equal(extents["offset"], np.cumsum([0, *extents["length"].tolist()])[:-1])
        assert SourceFileView(slide, mapped, number).read() == file.path.read_bytes()


def raw_level(rows: list[tuple[int, int, int, int]]) -> Level:
    return Level(TILE, TILE * 4, TILE, TILE, TileCoding(Codec.NONE, Color.GRAY), in_order(rows), 1)


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 0, 0, 10), (1, 0, 5, 10)],
        [(0, 0, 0, 10), (1, 0, 0, 5)],
        [(0, 0, 0, 10), (1, 0, 9, 1)],
        [(0, 0, 5, 1), (1, 0, 0, 100), (2, 0, 5, 1)],
    ],
)
def test_tiles_that_overlap_in_part_are_refused(rows: list[tuple[int, int, int, int]]) -> None:
    with pytest.raises(BrokenError, match="overlap"):
        layout.layout_of([plan_level(raw_level(rows), 0)])


def test_tiles_that_meet_or_share_all_of_their_bytes_are_taken() -> None:
    rows = [(0, 0, 0, 10), (1, 0, 10, 10), (2, 0, 10, 10), (3, 1, 5, 10)]
    table = layout.layout_of([plan_level(raw_level(rows), 0)])
    assert [(row["file"], row["offset"]) for row in table] == [(0, 0), (0, 10), (1, 5)]


# --- damage -----------------------------------------------------------------------------------------------------------


def table_of(*rows: tuple[int, ...]) -> np.ndarray:
    return np.array(list(rows), layout.LAYOUT_DTYPE)


GOOD = (0, 10, 5, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "table",
    [
        table_of((0, 10, 0, 0, 0, 0, 0)),
        table_of((0, 10, -5, 0, 0, 0, 0)),
        table_of((0, -10, 5, 0, 0, 0, 0)),
        table_of((-1, 10, 5, 0, 0, 0, 0)),
        table_of((0, 10, 5, -1, 0, 0, 0)),
        table_of((0, 10, 5, 0, -1, 0, 0)),
        table_of((0, 10, 5, 0, 0, -1, 0)),
        table_of((0, 10, 5, 0, 0, 0, -1)),
        table_of((0, 2**63 - 2, 2**62, 0, 0, 0, 0)),
        table_of(GOOD, (0, 5, 2, 0, 1, 0, 0)),
        table_of(GOOD, (0, 12, 5, 0, 1, 0, 0)),
        table_of((1, 5, 2, 0, 1, 0, 0), GOOD),
    ],
)
def test_rows_that_no_writer_makes_are_refused(table: np.ndarray) -> None:
    with pytest.raises(IntegrityError, match="the/layout"):
        layout.decode(layout.encode(table), where="the/layout")


@settings(max_examples=150)
@given(st.data())
def test_a_garbled_layout_is_an_integrity_error_or_a_table(data: st.DataObject) -> None:
    garbled = bytearray(layout.encode(table_of(*((0, n * 10, 5, 0, n, 0, 0) for n in range(50)))))
    for _ in range(data.draw(st.integers(1, 3))):
        garbled[data.draw(st.integers(0, len(garbled) - 1))] = data.draw(st.integers(0, 255))
    part = bytes(garbled[: data.draw(st.integers(0, len(garbled)))]) if data.draw(st.booleans()) else bytes(garbled)
    with contextlib.suppress(IntegrityError):
        assert layout.decode(part, where="the/layout").dtype == layout.LAYOUT_DTYPE
