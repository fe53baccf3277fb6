"""Tiled TIFF: every codec and layout that is kept as tiles, and every one that is kept whole, with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import pytest
from tifffile import TiffFile

from tests import tiffs
from wsistore.errors import BrokenError, Kind, UnsupportedError
from wsistore.model import Mode
from wsistore.slides.base import Codec, Color
from wsistore.slides.icc import shareable
from wsistore.slides.registry import open_source
from wsistore.testing.pictures import srgb_profile


def page_pixels(path: Path, page: int = 0) -> np.ndarray[Any, Any]:
    with TiffFile(path) as tiff:
        pixels = np.asarray(tiff.pages[page].asarray())
    return pixels if pixels.ndim == 3 else pixels[..., None]


CODED = [
    ("jpeg", {"compressionargs": {"level": 85}}, Codec.JPEG, Color.YCBCR),
    ("jpeg", {"compressionargs": {"level": 85, "outcolorspace": "rgb"}}, Codec.JPEG, Color.RGB),
    ("webp", {}, Codec.WEBP, Color.RGB),
    ("aperio_jp2000_rgb", {}, Codec.JPEG2000, Color.RGB),
    ("aperio_jp2000_ycbc", {}, Codec.JPEG2000, Color.RGB),
    ("jpeg2000", {}, Codec.JPEG2000, Color.RGB),
    ("lzw", {}, Codec.LZW, Color.RGB),
    ("lzw", {"predictor": True}, Codec.LZW, Color.RGB),
    ("zlib", {}, Codec.DEFLATE, Color.RGB),
    ("deflate", {"predictor": True}, Codec.DEFLATE, Color.RGB),
    (None, {}, Codec.NONE, Color.RGB),
]


@pytest.mark.parametrize(("compression", "options", "codec", "color"), CODED)
def test_each_codec_gives_tiles_that_decode_alone_to_the_page(
    tmp_path: Path, compression: str | None, options: dict[str, Any], codec: Codec, color: Color
) -> None:
    path = tiffs.write_pyramid(
        tmp_path / "a.tiff", tiffs.halves(tiffs.tissue(200, 300), 2), compression=compression, **options
    )
    source = open_source(path)
    assert (source.mode, source.format) == (Mode.TILES, "generic-tiff")
    assert [(level.height, level.width) for level in source.levels] == [(200, 300), (100, 150)]
    for i, level in enumerate(source.levels):
        assert level.coding is not None
        assert (level.coding.codec, level.coding.color) == (codec, color)
        assert (level.tile_height, level.tile_width, level.channels) == (64, 64, 3)
        assert len(level.segments) == level.grid[0] * level.grid[1]
        np.testing.assert_array_equal(tiffs.assembled(source, level), page_pixels(path, i))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_grey_of_both_depths_and_orders(
    tmp_path: Path, order: Literal["<", ">"], big: bool, dtype: str, compression: str
) -> None:
    picture = tiffs.tissue(100, 130, channels=1, dtype=dtype)
    options = {"predictor": True} if compression else {}
    path = tiffs.write_pyramid(tmp_path / "a.tif", [picture], order=order, big=big, compression=compression, **options)
    source = open_source(path)
    level = source.levels[0]
    assert level.coding is not None
    assert (source.mode, level.dtype, level.channels, level.coding.color) == (Mode.TILES, dtype, 1, Color.GRAY)
    assert level.coding.big_endian == (order == ">" and dtype == "uint16")
    np.testing.assert_array_equal(tiffs.assembled(source, level)[..., 0], picture)


def test_grey_jpeg_and_16_bit_jpeg_2000(tmp_path: Path) -> None:
    for name, dtype, compression in (("a.tif", "uint8", "jpeg"), ("b.tif", "uint16", "jpeg2000")):
        picture = tiffs.tissue(100, 130, channels=1, dtype=dtype)
        path = tiffs.write_pyramid(tmp_path / name, [picture], compression=compression)
        source = open_source(path)
        assert source.mode is Mode.TILES
        np.testing.assert_array_equal(tiffs.assembled(source, source.levels[0]), page_pixels(path))


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_jpeg_with_shared_and_own_tables(tmp_path: Path, subsampling: str) -> None:
    tiles = tiffs.jpeg_tiles(tiffs.tissue(128, 128), (64, 64), subsampling=subsampling)
    path = tiffs.write_tiles(tmp_path / "a.tif", tiles, (128, 128, 3), (64, 64), 7, photometric="ycbcr")
    source = open_source(path)
    assert source.mode is Mode.TILES
    assert tiffs.tile_bytes(source, source.levels[0]) == dict(enumerate(tiles))


def test_tiles_of_differing_tables_are_kept_as_they_are(tmp_path: Path) -> None:
    picture = tiffs.tissue(128, 128)
    tiles = [tiffs.jpeg_tiles(picture, (64, 64), level=60 + 10 * i)[i] for i in range(4)]
    path = tiffs.write_tiles(tmp_path / "a.tif", tiles, (128, 128, 3), (64, 64), 7, photometric="ycbcr")
    source = open_source(path)
    assert source.mode is Mode.TILES
    np.testing.assert_array_equal(tiffs.assembled(source, source.levels[0]), page_pixels(path))


@pytest.mark.parametrize("which", [324, 325])
def test_missing_tiles_have_no_segment(tmp_path: Path, which: int) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(128, 192)], compression="lzw")
    tiffs.edit_numbers(path, 0, which, lambda values: values.__setitem__(slice(1, 3), [0, 0]))
    source = open_source(path)
    assert source.mode is Mode.TILES
    assert source.levels[0].segments["tile"].tolist() == [0, 3, 4, 5]


def test_tiles_may_share_the_same_bytes(tmp_path: Path) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(128, 128)], compression="zlib")
    for code in (324, 325):
        tiffs.edit_numbers(path, 0, code, lambda values: values.__setitem__(3, values[0]))
    source = open_source(path)
    assert source.mode is Mode.TILES
    segments = source.levels[0].segments
    assert segments["tile"].tolist() == [0, 1, 2, 3]
    assert segments["offset"][3] == segments["offset"][0]
    assert segments["length"][3] == segments["length"][0]


def test_tiles_that_overlap_in_part_are_kept_whole(tmp_path: Path) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(128, 128)], compression=None)
    tiffs.edit_numbers(path, 0, 324, lambda values: values.__setitem__(1, values[0] + 100))
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert "overlaps" in source.mode_reason


WHOLE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"tile": None}, "strips"),
    ({}, {"planarconfig": "separate", "photometric": "rgb"}, "plane by plane"),
    ({"dtype": "float32", "channels": 1}, {}, "32 bits in format 3"),
    ({"dtype": "uint16"}, {}, "16 bits"),
    ({"dtype": "uint32", "channels": 1}, {}, "32 bits"),
    ({"channels": 4}, {"extrasamples": ["unassalpha"]}, "transparency"),
    ({"channels": 1}, {"photometric": "miniswhite"}, "neither grey nor RGB"),
    ({}, {"compression": "zstd"}, "method 50000"),
    ({}, {"compression": "lerc"}, "method 34887"),
    ({}, {"compression": "png"}, "method 34933"),
    ({"dtype": "float32", "channels": 1}, {"predictor": 3, "compression": "zlib"}, "format 3"),
    ({"channels": 1}, {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}, "neither grey nor RGB"),
]


@pytest.mark.parametrize(("picture", "options", "reason"), WHOLE, ids=[reason for *_, reason in WHOLE])
def test_what_has_no_usable_tiles_is_kept_whole_with_the_reason(
    tmp_path: Path, picture: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    if "planarconfig" in options:
        pixels = np.moveaxis(tiffs.tissue(150, 200), -1, 0)
    elif picture.get("dtype") in {"float32", "uint32"}:
        pixels = tiffs.tissue(150, 200, channels=1).astype(picture["dtype"])
    else:
        pixels = tiffs.tissue(150, 200, **picture)
    path = tiffs.write_pyramid(tmp_path / "a.tif", [pixels], **options)
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert reason in source.mode_reason
    assert [(level.height, level.width) for level in source.levels] == [(150, 200)]
    assert all(level.coding is None and not len(level.segments) for level in source.levels)
    assert [file.name for file in source.files] == ["a.tif"]


def test_jpeg_of_another_size_than_the_tile_is_kept_whole(tmp_path: Path) -> None:
    tiles = tiffs.jpeg_tiles(tiffs.tissue(48, 48), (48, 48)) * 4
    path = tiffs.write_tiles(tmp_path / "a.tif", tiles, (128, 128, 3), (64, 64), 7, photometric="ycbcr")
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert "48×48 pixels where 64×64" in source.mode_reason


def test_lossless_jpeg_is_kept_whole(tmp_path: Path) -> None:
    tile = bytes(imagecodecs.jpeg8_encode(tiffs.tissue(64, 64, channels=1), lossless=True))
    path = tiffs.write_tiles(tmp_path / "a.tif", [tile], (64, 64), (64, 64), 7)
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert "SOF3" in source.mode_reason


# --- bad input --------------------------------------------------------------------------------------------------------


def broken_with(path: Path, kind: Kind, *words: str) -> None:
    with pytest.raises(BrokenError) as caught:
        open_source(path)
    assert caught.value.kind is kind
    assert str(path) in caught.value.message
    assert caught.value.remedy
    for word in words:
        assert word in caught.value.message


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    levels = tiffs.halves(tiffs.tissue(256, 256), 2)
    return tiffs.write_pyramid(tmp_path / "a.tif", levels, compression="jpeg")


def test_a_tile_past_the_end(slide: Path) -> None:
    tiffs.edit_numbers(slide, 1, 324, lambda values: values.__setitem__(2, 1 << 30))
    broken_with(slide, Kind.SOURCE_TRUNCATED, "tile 2 of page 1")


def test_a_tile_beyond_any_file(tmp_path: Path) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(128, 128)], big=True, compression="jpeg")
    tiffs.edit_numbers(path, 0, 324, lambda values: values.__setitem__(1, (1 << 64) - 16))
    broken_with(path, Kind.SOURCE_BROKEN, "page 0")


def test_a_tile_over_the_directory(slide: Path) -> None:
    tiffs.edit_numbers(slide, 0, 324, lambda values: values.__setitem__(5, 8))
    broken_with(slide, Kind.SOURCE_BROKEN, "tile 5 of page 0", "directory")


def test_a_damaged_tile_in_the_sample(slide: Path) -> None:
    with TiffFile(slide) as tiff:
        page = tiff.pages[0]
        offset, length = page.dataoffsets[-1], page.databytecounts[-1]
    data = bytearray(slide.read_bytes())
    data[offset : offset + length] = bytes(length)
    slide.write_bytes(data)
    broken_with(slide, Kind.SOURCE_BROKEN, "tile 15 of level 0")


def test_a_truncated_file(slide: Path) -> None:
    data = slide.read_bytes()
    slide.write_bytes(data[: len(data) - 100])
    broken_with(slide, Kind.SOURCE_TRUNCATED, "ends too early")


@pytest.mark.parametrize("edge", [1000, 1 << 21, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
def test_a_bomb(tmp_path: Path, edge: int) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(64, 64)], compression="lzw")
    for code in (256, 257):
        tiffs.set_tag(path, 0, code, edge)
    broken_with(path, Kind.SOURCE_IMPLAUSIBLE, "page 0", str(edge))


def test_an_unknown_compression(tmp_path: Path) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(64, 64)], compression="lzw")
    tiffs.set_tag(path, 0, 259, 52479)
    with pytest.raises(UnsupportedError, match="method 52479") as caught:
        open_source(path)
    assert caught.value.kind is Kind.UNSUPPORTED_PIXELS
    assert str(path) in caught.value.message


# --- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "unit", "um_per_px"),
    [
        ((20_000, 40_000), "centimeter", (0.25, 0.5)),
        ((50_800, 50_800), "inch", (0.5, 0.5)),
        ((2_000_000, 2_000_000), "centimeter", None),
        ((72, 72), "inch", None),
        ((20_000, 20_000), "none", None),
    ],
)
def test_scale(tmp_path: Path, resolution: tuple[int, int], unit: str, um_per_px: tuple[float, float] | None) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(64, 64)], resolution=resolution, resolutionunit=unit)
    source = open_source(path)
    assert source.um_per_px == um_per_px
    assert bool(source.warnings) == (um_per_px is None and unit != "none")


def test_texts_are_identifying(tmp_path: Path) -> None:
    path = tiffs.write_pyramid(
        tmp_path / "CASE-0007.tif",
        [tiffs.tissue(64, 64)],
        description="from PATIENT-0001",
        software="Writer 1.0",
        datetime="2024:02:03 04:05:06",
        extratags=[(315, 2, 0, "PERSON-0002", True), (316, 2, 0, "HOST-0003", True)],
        iccprofile=srgb_profile(),
    )
    source = open_source(path)
    assert source.identifying == {
        "File name": "CASE-0007.tif", "ImageDescription": "from PATIENT-0001", "DateTime": "2024:02:03 04:05:06",
        "Artist": "PERSON-0002", "HostComputer": "HOST-0003",
    }  # fmt: skip
    assert source.scanned_at == "2024-02-03T04:05:06"
    assert source.scanner.software == "Writer 1.0"
    assert source.icc_profile == shareable(srgb_profile())
