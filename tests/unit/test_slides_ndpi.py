"""NDPI: levels cut at their restart markers, of all samplings; what does not fit is kept whole with the reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import tiffs
from wsistore.errors import BrokenError
from wsistore.model import Mode
from wsistore.slides import associated
from wsistore.slides.base import Codec, Color, Content
from wsistore.slides.registry import open_source


def plain_jpeg(picture: tiffs.Picture, subsampling: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=85, subsampling=subsampling)
    return file.getvalue()


def slide(path: Path, *, subsampling: int, height: int = 200, width: int = 256, blocks: int = 8, **more: Any) -> Path:
    """Write a slide of two levels and a macro."""
    pages, blobs = [], []
    picture = tiffs.tissue(height, width)
    for i, level in enumerate(tiffs.halves(picture, 2)):
        data, starts = tiffs.restart_jpeg(np.ascontiguousarray(level), blocks // (i + 1), subsampling=subsampling)
        pages.append(tiffs.ndpi_page(level, 20 / 2**i, starts, **more))
        blobs.append(data)
    macro = tiffs.tissue(40, 90, seed=3)
    return tiffs.write_ndpi(path, [*pages, tiffs.ndpi_page(macro, -1.0)], [*blobs, plain_jpeg(macro)])


@pytest.mark.parametrize(("subsampling", "mcu"), [(0, (8, 8)), (1, (8, 16)), (2, (16, 16))])
def test_levels_are_cut_into_strips(tmp_path: Path, subsampling: int, mcu: tuple[int, int]) -> None:
    path = slide(tmp_path / "a.ndpi", subsampling=subsampling)
    source = open_source(path)
    assert (source.mode, source.format, source.magnification) == (Mode.TILES, "hamamatsu-ndpi", 20.0)
    assert source.um_per_px == (0.25, 0.25)
    for i, level in enumerate(source.levels):
        assert (level.height, level.width) == (200 >> i, 256 >> i)
        assert (level.tile_height, level.tile_width) == (mcu[0], 8 // (i + 1) * mcu[1])
        assert level.coding is not None
        assert (level.coding.codec, level.coding.color) == (Codec.JPEG_STRIPS, Color.YCBCR)
        assert len(level.segments) == level.grid[0] * level.grid[1]


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_each_strip_decodes_alone_to_what_libjpeg_makes_of_it(tmp_path: Path, subsampling: int) -> None:
    """Without chroma subsampling down the rows, that is the very picture; with it, only strip borders may differ."""
    path = slide(tmp_path / "a.ndpi", subsampling=subsampling)
    source = open_source(path)
    data, _ = tiffs.restart_jpeg(tiffs.tissue(200, 256), 8, subsampling=subsampling)
    whole = np.asarray(Image.open(io.BytesIO(data)))
    strips = tiffs.assembled(source, source.levels[0])
    if subsampling == 0:
        np.testing.assert_array_equal(strips, whole)
    else:
        inner = np.abs(strips.astype(int) - whole)[1:15, 2:30]
        assert inner.max() == 0


def test_segments_hold_neither_markers_nor_headers(tmp_path: Path) -> None:
    path = slide(tmp_path / "a.ndpi", subsampling=2)
    source = open_source(path)
    for level in source.levels:
        for tile in tiffs.tile_bytes(source, level).values():
            after_ff = {tile[i + 1] for i in range(len(tile) - 1) if tile[i] == 0xFF}
            assert after_ff <= {0}


def test_the_strip_header_has_no_comment_and_no_restart_interval(tmp_path: Path) -> None:
    picture = tiffs.tissue(64, 64)
    data, starts = tiffs.restart_jpeg(picture, 8, subsampling=0, comment=b"PATIENT-0001")
    path = tiffs.write_ndpi(tmp_path / "a.ndpi", [tiffs.ndpi_page(picture, 20.0, starts)], [data])
    coding = open_source(path).levels[0].coding
    assert coding is not None
    assert coding.header is not None
    assert b"PATIENT" in data
    assert b"PATIENT" not in coding.header
    assert b"\xff\xdd" not in coding.header


def test_padding_behind_the_jpeg_is_left_out(tmp_path: Path) -> None:
    picture = tiffs.tissue(64, 64)
    data, starts = tiffs.restart_jpeg(picture, 8, subsampling=0)
    pages = [tiffs.ndpi_page(picture, 20.0, starts)]
    bare = open_source(tiffs.write_ndpi(tmp_path / "a.ndpi", pages, [data]))
    padded = open_source(tiffs.write_ndpi(tmp_path / "b.ndpi", pages, [data + bytes(20)]))
    assert tiffs.tile_bytes(bare, bare.levels[0]) == tiffs.tile_bytes(padded, padded.levels[0])


def test_a_small_level_without_restart_markers_is_one_tile(tmp_path: Path) -> None:
    picture = tiffs.tissue(100, 120)
    data = plain_jpeg(picture)
    path = tiffs.write_ndpi(tmp_path / "a.ndpi", [tiffs.ndpi_page(picture, 20.0)], [data])
    source = open_source(path)
    level = source.levels[0]
    assert (source.mode, level.tile_height, level.tile_width) == (Mode.TILES, 100, 120)
    assert tiffs.tile_bytes(source, level) == {0: data}


def test_macro_and_content(tmp_path: Path) -> None:
    source = open_source(slide(tmp_path / "a.ndpi", subsampling=0))
    assert source.content is Content.BRIGHTFIELD
    (macro,) = source.associated
    assert (macro.name, macro.height, macro.width) == ("macro", 40, 90)
    pixels = associated.read(macro.locator, lambda i: source.files[i].path.open("rb"))
    assert pixels.shape == (40, 90, 3)
    lit = open_source(slide(tmp_path / "b.ndpi", subsampling=0, t65434=(2, "DAPI"), t65442=(2, "SERIAL-7")))
    assert lit.content is Content.FLUORESCENCE
    assert lit.scanner.serial == "SERIAL-7"
    assert "SERIAL-7" in lit.identifying.values()


def test_an_ndpi_by_another_name(tmp_path: Path) -> None:
    assert open_source(slide(tmp_path / "a.tif", subsampling=0)).format == "hamamatsu-ndpi"


# --- what does not fit ------------------------------------------------------------------------------------------------


def odd(path: Path, change: Any, **more: Any) -> Path:
    """Write one level whose list of interval starts was changed."""
    picture = tiffs.tissue(64, 64)
    data, starts = tiffs.restart_jpeg(picture, 8, subsampling=0)
    page = tiffs.ndpi_page(picture, 20.0, change(starts), **more)
    return tiffs.write_ndpi(path, [page], [data])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s[:-1], "lists 7 restart intervals where its size needs 8"),
        (lambda s: [s[0], s[1] + 1, *s[2:]], "does not end with the marker that is due"),
        (lambda s: [s[0] + 2, *s[1:]], "do not fit"),
        (lambda s: [s[0], s[2], s[1], *s[3:]], "do not fit"),
        (lambda s: [*s[:-1], 1 << 30], "do not fit"),
    ],
)
def test_starts_that_do_not_fit_make_it_whole(tmp_path: Path, change: Any, reason: str) -> None:
    source = open_source(odd(tmp_path / "a.ndpi", change))
    assert source.mode is Mode.WHOLE
    assert reason in source.mode_reason
    assert source.levels[0].height == 64


def test_intervals_that_cross_rows_make_it_whole(tmp_path: Path) -> None:
    picture = tiffs.tissue(64, 64)
    data, starts = tiffs.restart_jpeg(picture, 5, subsampling=0)
    path = tiffs.write_ndpi(tmp_path / "a.ndpi", [tiffs.ndpi_page(picture, 20.0, starts)], [data])
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert "run on into the next row" in source.mode_reason


def test_several_focal_planes_make_it_whole(tmp_path: Path) -> None:
    picture = tiffs.tissue(64, 64)
    data, starts = tiffs.restart_jpeg(picture, 8, subsampling=0)
    pages = [tiffs.ndpi_page(picture, 20.0, starts, t65424=(9, z)) for z in (0, 500)]
    source = open_source(tiffs.write_ndpi(tmp_path / "a.ndpi", pages, [data, data]))
    assert source.mode is Mode.WHOLE
    assert "focal planes" in source.mode_reason


def test_a_level_past_the_end(tmp_path: Path) -> None:
    path = odd(tmp_path / "a.ndpi", lambda s: s)
    data = path.read_bytes()
    path.write_bytes(data[:-40])
    with pytest.raises(BrokenError, match=r"a\.ndpi ends too early"):
        open_source(path)
