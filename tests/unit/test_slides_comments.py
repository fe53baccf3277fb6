"""Comments in tiles that may identify somebody do not become part of any chunk, wherever they are."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from tests import tiffs
from wsistore.model import Mode
from wsistore.slides.check import TileChecker
from wsistore.slides.decode import decode_tile
from wsistore.slides.registry import open_source

IDENTITY = b"PATIENT-0001"
GRID = 10


def slide(path: Path, told: set[int]) -> tuple[Path, list[bytes]]:
    """Write 100 tiles of which some carry a comment; return the tiles without."""
    picture = tiffs.tissue(16 * GRID, 16 * GRID)
    plain = tiffs.jpeg_tiles(picture, (16, 16))
    tiles = [tiffs.with_comment(t, IDENTITY + b"-%d" % i) if i in told else t for i, t in enumerate(plain)]
    shape = (16 * GRID, 16 * GRID, 3)
    return tiffs.write_tiles(path, tiles, shape, (16, 16), 7, photometric="ycbcr"), plain


def test_comments_in_every_tile_are_cut_at_once(tmp_path: Path) -> None:
    path, plain = slide(tmp_path / "a.tif", set(range(GRID * GRID)))
    source = open_source(path)
    assert source.mode is Mode.TILES
    assert tiffs.tile_bytes(source, source.levels[0]) == dict(enumerate(plain))


def test_one_comment_in_the_sample_has_all_tiles_looked_at(tmp_path: Path) -> None:
    path, plain = slide(tmp_path / "a.tif", {0, 37})
    source = open_source(path)
    assert tiffs.tile_bytes(source, source.levels[0]) == dict(enumerate(plain))


def test_a_comment_outside_the_sample_is_seen_in_passing_and_cut_by_a_full_scan(tmp_path: Path) -> None:
    path, plain = slide(tmp_path / "a.tif", {37})
    source = open_source(path)
    level = source.levels[0]
    check = TileChecker(level)
    found = {tile for tile, data in tiffs.tile_bytes(source, level).items() if not check(data).good}
    assert found == {37}
    again = open_source(path, scan_all=True)
    assert tiffs.tile_bytes(again, again.levels[0]) == dict(enumerate(plain))
    recheck = TileChecker(again.levels[0])
    assert all(recheck(data).good for data in tiffs.tile_bytes(again, again.levels[0]).values())


def test_what_is_left_out_is_in_the_file_between_the_segments(tmp_path: Path) -> None:
    path, plain = slide(tmp_path / "a.tif", {0, 1, 2})
    segments = open_source(path).levels[0].segments
    assert (segments["tile"] == 1).sum() == 2
    data = path.read_bytes()
    covered = np.zeros(len(data), bool)
    for row in segments:
        covered[row["offset"] : row["offset"] + row["length"]] = True
    assert IDENTITY not in bytes(np.frombuffer(data, np.uint8)[covered])
    assert covered.sum() == sum(map(len, plain))


def test_tables_that_carry_a_comment_lose_it(tmp_path: Path) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(64, 64)], compression="jpeg")
    plain = open_source(path)
    tile = tiffs.tile_bytes(plain, plain.levels[0])[0]
    tables = tiffs.with_comment(b"\xff\xd8" + tile[20 : tile.index(b"\xff\xc0")] + b"\xff\xd9", IDENTITY)
    other = tiffs.write_tiles(tmp_path / "b.tif", [tile], (64, 64, 3), (64, 64), 7, photometric="ycbcr",
                              extratags=[(347, 7, len(tables), tables, True)])  # fmt: skip
    coding = open_source(other).levels[0].coding
    assert coding is not None
    assert coding.tables is not None
    assert IDENTITY not in coding.tables
    np.testing.assert_array_equal(decode_tile(open_source(other).levels[0], tile), imagecodecs.jpeg8_decode(tile))


def test_a_whole_slide_keeps_its_bytes(tmp_path: Path) -> None:
    tiles = [t[:-2] + b"\xff\xdc\0\x06DOE1\xff\xd9" for t in tiffs.jpeg_tiles(tiffs.tissue(64, 64), (64, 64))]
    path = tiffs.write_tiles(tmp_path / "a.tif", tiles, (64, 64, 3), (64, 64), 7, photometric="ycbcr")
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert "FFDC" in source.mode_reason


@pytest.mark.parametrize("scan_all", [False, True])
@pytest.mark.parametrize("told", [0, 37])
def test_what_is_behind_uncompressed_tiles_is_left_out(tmp_path: Path, told: int, scan_all: bool) -> None:
    plain = [tiffs.tissue(16, 16).tobytes()] * 100
    tiles = [t + IDENTITY if i == told else t for i, t in enumerate(plain)]
    path = tiffs.write_tiles(tmp_path / "a.tif", tiles, (160, 160, 3), (16, 16), 1, photometric="rgb")
    source = open_source(path, scan_all=scan_all)
    assert source.mode is Mode.TILES
    if scan_all or told == 0:
        assert tiffs.tile_bytes(source, source.levels[0]) == dict(enumerate(plain))
