"""Synthetic SVS, TIFF and OME-TIFF: other software recognises them and gives the pixels that went in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.errors import StorageError, UnsupportedError
from wsistore.testing.encode import Encoding, cut, encode, segments, split_tables
from wsistore.testing.pictures import Rgb, label_image, macro_image, pyramid, srgb_profile
from wsistore.testing.tiffs import write_flat_tiff, write_generic_tiff, write_ome_tiff, write_svs
from wsistore.testing.tissue import tissue

MARKERS_OF_TABLES = {0xDB, 0xC4}


def opened(path: Path) -> Any:
    """Return the file; without types, since its pages may be of two."""
    return tifffile.TiffFile(path)


@pytest.fixture(scope="module")
def levels() -> list[Rgb]:
    return pyramid(tissue(700, 900, seed=1), 4, 2)


def far(found: Any, expected: Any) -> float:
    """Return the mean difference in grey levels."""
    assert found.shape == expected.shape
    return float(np.abs(found.astype(int) - expected.astype(int)).mean())


def seen_by_tifffile(path: Path, level: int) -> np.ndarray:
    with opened(path) as tiff:
        return tiff.series[0].levels[level].asarray()


def seen_by_openslide(path: Path, level: int) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB"))


# --- Aperio -----------------------------------------------------------------------------------------------------------

SVS: list[dict[str, Any]] = [
    {},
    {"tile": 256, "subsampling": (1, 1)},
    {"subsampling": (2, 1)},
    {"color": "rgb"},
    {"shared_tables": False},
    {"color": "rgb", "shared_tables": False, "bigtiff": True},
    {"codec": "jp2k-33005", "tile": 256},
]


@pytest.mark.parametrize("how", SVS, ids=str)
def test_svs_is_aperio_to_others_and_shows_the_picture(tmp_path: Path, levels: list[Rgb], how: dict[str, Any]) -> None:
    path = write_svs(tmp_path / "a.svs", levels, **how)

    with opened(path) as tiff:
        assert tiff.is_svs
        assert [level.shape for level in tiff.series[0].levels] == [level.shape for level in levels]
    assert openslide.OpenSlide.detect_format(path) == "aperio"
    for number, level in enumerate(levels):
        assert far(seen_by_tifffile(path, number), level) < 5
        assert far(seen_by_openslide(path, number), seen_by_tifffile(path, number)) < 0.6


def test_svs_33003_is_coded_in_ycbcr(tmp_path: Path, levels: list[Rgb]) -> None:
    path = write_svs(tmp_path / "a.svs", levels, codec="jp2k-33003")

    assert far(seen_by_openslide(path, 0), levels[0]) < 3  # which converts what 33003 marks
    raw = seen_by_tifffile(path, 0)  # which does not
    assert abs(raw[..., 0].mean() - (levels[0] @ [0.299, 0.587, 0.114]).mean()) < 2
    assert abs(raw[..., 1].mean() - 128) < 20


def test_svs_pages_lie_in_aperios_order(tmp_path: Path, levels: list[Rgb]) -> None:
    label, macro = label_image("CASE-1", height=200, width=180), macro_image(levels[1])
    path = write_svs(tmp_path / "a.svs", levels, label=label, macro=macro)

    with opened(path) as tiff:
        assert [page.is_tiled for page in tiff.pages] == [True, False, True, False, False]
        assert [page.compression.name for page in tiff.pages] == ["JPEG", "JPEG", "JPEG", "LZW", "JPEG"]
        assert [int(page.subfiletype) for page in tiff.pages] == [0, 0, 0, 1, 9]
        assert tiff.pages[3].predictor == 2
        assert all(len(tiff.pages[number].dataoffsets) > 5 for number in (1, 3, 4))
        assert np.array_equal(tiff.pages[3].asarray(), label)
        assert far(tiff.pages[4].asarray(), macro) < 3
        assert [one.name for one in tiff.series] == ["Baseline", "Thumbnail", "Label", "Macro"]
    with openslide.OpenSlide(path) as slide:
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
        assert np.array_equal(np.asarray(slide.associated_images["label"].convert("RGB")), label)


def test_svs_description_carries_the_fields_given(tmp_path: Path, levels: list[Rgb]) -> None:
    fields = {"AppMag": "40", "MPP": "0.2500", "Title": "PATIENT-0001", "ScanScope ID": "SS0007"}
    path = write_svs(tmp_path / "a.svs", levels, properties=fields, icc=srgb_profile())

    with openslide.OpenSlide(path) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == 0.25
        assert slide.properties["openslide.objective-power"] == "40"
        assert slide.properties["aperio.Title"] == "PATIENT-0001"
        assert slide.properties["aperio.ScanScope ID"] == "SS0007"
        assert slide.color_profile is not None
    with opened(path) as tiff:
        first, _, reduced = (page.description for page in tiff.pages)
    assert re.match(
        r"Aperio Image Library v\S+ \r\n900x700 \[0,0 900x700\] \(240x240\) JPEG/YCC Q=70\|AppMag = 40\|", first
    )
    assert "900x700 -> 225x175 (240x240)" in reduced


@pytest.mark.parametrize("color", ["rgb", "ycbcr"])
def test_shared_tables_are_taken_out_of_the_tiles(tmp_path: Path, levels: list[Rgb], color: Any) -> None:
    path = write_svs(tmp_path / "a.svs", levels, color=color)

    data = path.read_bytes()
    with opened(path) as tiff:
        page = tiff.pages[0]
        tables = page.tags[347].value
        assert {marker for marker, _ in segments(tables[:-2])} == MARKERS_OF_TABLES
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            tile = data[offset : offset + count]
            assert [marker for marker, _ in segments(tile)] == [0xC0, 0xDA]
            assert tile.endswith(b"\xff\xd9")
        assert tuple(page.tags[530].value) == (2, 2)  # for RGB wrong, as in the real thing
        assert page.photometric.name == color.upper()
    sof = dict(segments(tile))[0xC0]
    assert sof[10:19:3] == (b"\0\1\2" if color == "rgb" else b"\1\2\3")


def test_complete_tiles_need_no_tables(tmp_path: Path, levels: list[Rgb]) -> None:
    path = write_svs(tmp_path / "a.svs", levels, shared_tables=False, tile=256)

    with opened(path) as tiff:
        page = tiff.pages[0]
        assert 347 not in page.tags
        tile = path.read_bytes()[page.dataoffsets[5] :][: page.databytecounts[5]]
    alone = imagecodecs.jpeg8_decode(tile)
    assert np.array_equal(seen_by_tifffile(path, 0)[256:512, 256:512], alone)


@settings(max_examples=20)
@given(st.integers(1, 100), st.sampled_from(["rgb", "ycbcr"]), st.sampled_from([(1, 1), (2, 1), (2, 2)]))
def test_tables_and_abbreviated_stream_are_the_whole_stream(quality: int, color: Any, subsampling: Any) -> None:
    tile = tissue(48, 64, seed=quality)
    whole = encode(tile, Encoding("jpeg", quality, color, subsampling))
    tables, abbreviated = split_tables(whole)

    assert tables[:2] == abbreviated[:2] == b"\xff\xd8"
    space = {"colorspace": color.upper(), "outcolorspace": "RGB"}
    joined = imagecodecs.jpeg8_decode(abbreviated, tables=tables, **space)
    assert np.array_equal(joined, imagecodecs.jpeg8_decode(whole, **space))
    assert far(joined, tile) < 45


def test_edge_tiles_are_filled_up_with_the_last_column_and_row() -> None:
    picture = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7)
    rows = list(cut(picture, 4, 4))

    assert [[tile.shape for tile in row] for row in rows] == [[(4, 4)] * 2] * 2
    assert np.array_equal(rows[1][1], [[32, 33, 34, 34]] * 4)
    assert np.array_equal(np.block(rows)[:5, :7], picture)


# --- generic ----------------------------------------------------------------------------------------------------------

LOSSLESS: list[dict[str, Any]] = [
    {"codec": "lzw"},
    {"codec": "lzw", "predictor": True, "byteorder": ">"},
    {"codec": "deflate", "predictor": True, "planar": True},
    {"codec": "none", "bigtiff": True},
    {"codec": "none", "planar": True, "subifds": True},
    {"codec": "deflate", "byteorder": ">", "bigtiff": True, "tile": (64, 128)},
]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("how", LOSSLESS, ids=str)
def test_lossless_tiles_give_back_every_sample(
    tmp_path: Path, levels: list[Rgb], how: dict[str, Any], dtype: str
) -> None:
    wide = [level.astype(dtype) * (257 if dtype == "uint16" else 1) for level in levels]
    path = write_generic_tiff(tmp_path / "a.tiff", wide, **how)

    for number, level in enumerate(wide):
        found = seen_by_tifffile(path, number)
        assert np.array_equal(np.moveaxis(found, 0, -1) if how.get("planar") else found, level)


@settings(max_examples=25)
@given(
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(["lzw", "deflate", "none"]),
    st.booleans(),
)
def test_any_size_and_tile_is_cut_and_joined(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int], tile: tuple[int, int], codec: Any, gray: bool
) -> None:
    picture = np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = picture[..., 0] if gray else picture
    path = tmp_path_factory.mktemp("any") / "a.tiff"
    write_generic_tiff(path, [picture], codec=codec, predictor=codec != "none", tile=(16 * tile[0], 16 * tile[1]))

    assert np.array_equal(seen_by_tifffile(path, 0), picture)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"color": "rgb", "subsampling": (1, 1)},
        {"codec": "jp2k"},
        {"codec": "webp"},
        {"subifds": True},
        {"byteorder": ">"},
    ],
    ids=str,
)
def test_lossy_tiles_come_close(tmp_path: Path, levels: list[Rgb], how: dict[str, Any]) -> None:
    path = write_generic_tiff(tmp_path / "a.tiff", levels, **how)

    for number, level in enumerate(levels):
        assert 0 < far(seen_by_tifffile(path, number), level) < 6
    with opened(path) as tiff:
        assert len(tiff.pages) == (1 if how.get("subifds") else 2)


def test_openslide_reads_generic_tiff_and_its_scale(tmp_path: Path, levels: list[Rgb]) -> None:
    path = write_generic_tiff(tmp_path / "a.tiff", levels, um_per_px=0.25)

    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
    assert far(seen_by_openslide(path, 1), levels[1]) < 6


def test_missing_tiles_have_no_bytes(tmp_path: Path, levels: list[Rgb]) -> None:
    path = write_generic_tiff(tmp_path / "a.tiff", levels, missing_tiles=[(0, 0), (0, 7), (1, 0)])

    with opened(path) as tiff:
        first, second = tiff.series[0].levels
        counts, offsets = first.keyframe.databytecounts, first.keyframe.dataoffsets
        assert [number for number, count in enumerate(counts) if not count] == [0, 7]
        assert [number for number, offset in enumerate(offsets) if not offset] == [0, 7]
        assert second.keyframe.databytecounts == (0,)
    whole = write_generic_tiff(tmp_path / "b.tiff", levels)
    assert np.array_equal(seen_by_tifffile(path, 0)[:256, 256:], seen_by_tifffile(whole, 0)[:256, 256:])


# --- OME and flat -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["jp2k", "jpeg", "deflate"])
def test_ome_tiff_has_levels_scale_and_name(tmp_path: Path, levels: list[Rgb], codec: Any) -> None:
    path = write_ome_tiff(tmp_path / "a.ome.tiff", levels, codec=codec, um_per_px=0.25, name="CASE-9")

    with opened(path) as tiff:
        assert tiff.is_ome
        assert tiff.series[0].name == "CASE-9"
        assert len(tiff.pages) == 1
        assert 'PhysicalSizeX="0.25"' in (tiff.ome_metadata or "")
        assert int(tiff.pages[0].compression) == {"jp2k": 33003, "jpeg": 7, "deflate": 8}[codec]
    for number, level in enumerate(levels):
        assert far(seen_by_tifffile(path, number), level) < 6
    again = write_ome_tiff(tmp_path / "b.ome.tiff", levels, codec=codec, um_per_px=0.25, name="CASE-9")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("codec", ["lzw", "deflate", "none"])
def test_flat_tiff_has_strips_and_the_exact_picture(tmp_path: Path, levels: list[Rgb], codec: Any) -> None:
    path = write_flat_tiff(tmp_path / "a.tiff", levels[1], codec=codec)

    with opened(path) as tiff:
        assert not tiff.pages[0].is_tiled
        assert len(tiff.pages[0].dataoffsets) == -(-175 // 16)
    assert np.array_equal(seen_by_tifffile(path, 0), levels[1])


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_is_no_pyramid_is_refused(tmp_path: Path, levels: list[Rgb]) -> None:
    for wrong in ([], levels[::-1]):
        with pytest.raises(UnsupportedError, match="levels that get smaller"):
            write_svs(tmp_path / "a.svs", wrong)
    assert not list(tmp_path.iterdir())


def test_wide_samples_do_not_fit_into_jpeg(tmp_path: Path, levels: list[Rgb]) -> None:
    with pytest.raises(UnsupportedError, match="8-bit samples, not of uint16"):
        write_generic_tiff(tmp_path / "a.tiff", [levels[0].astype(np.uint16)])


@pytest.mark.parametrize("how", [{"tile": (100, 100)}, {"codec": "none", "predictor": True}], ids=str)
def test_settings_that_do_not_go_together_are_refused(tmp_path: Path, levels: list[Rgb], how: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match=r"a\.tiff cannot be made this way"):
        write_generic_tiff(tmp_path / "a.tiff", levels, **how)


def test_jpeg_is_not_kept_plane_by_plane(tmp_path: Path, levels: list[Rgb]) -> None:
    with pytest.raises(UnsupportedError, match=r"a\.tiff cannot keep jpeg samples"):
        write_generic_tiff(tmp_path / "a.tiff", levels, planar=True)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, levels: list[Rgb]) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        write_flat_tiff(tmp_path / "nowhere" / "a.tiff", levels[1])
