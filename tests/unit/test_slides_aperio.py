"""Aperio SVS: levels, pictures, properties, identity; JPEG as RGB, and the two kinds of JPEG 2000."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
from tifffile import TiffFile, TiffWriter

from tests import tiffs
from wsistore.model import Mode
from wsistore.slides import associated
from wsistore.slides.aperio import properties, scanned_at
from wsistore.slides.base import Codec, Color, Source
from wsistore.slides.decode import rgb_from_ycbcr
from wsistore.slides.registry import open_source

HEADER = "Aperio Image Library v12.0.15\r\n300x200 [0,0 300x200] (64x64) JPEG/RGB Q=70"
TEXT = (
    HEADER
    + "|AppMag = 20|MPP = 0.4990|ScanScope ID = SS-0001|Filename = CASE-0001|Title = PATIENT-0001|Date = 12/29/09"
    "|Time = 09:59:15|Time Zone = GMT-05:00|User = PERSON-0002|Barcode = B-0003|Never Seen Before = X-0004|Left = 25.6"
)


def write(path: Path, text: str = TEXT, **options: Any) -> Path:
    """Write two levels, thumbnail, label and macro in Aperio's order."""
    levels = tiffs.halves(tiffs.tissue(200, 300), 2)
    tiled: dict[str, Any] = {"photometric": "rgb", "metadata": None, "tile": (64, 64), "compression": "jpeg"} | options
    flat: dict[str, Any] = {"photometric": "rgb", "metadata": None, "compression": "lzw"}
    with TiffWriter(path) as writer:
        writer.write(levels[0], description=text, **tiled)
        writer.write(tiffs.tissue(60, 80, seed=1), description=HEADER, rowsperstrip=16, **flat)
        writer.write(levels[1], description=HEADER, **tiled)
        writer.write(tiffs.tissue(40, 30, seed=2), description=HEADER.split("\r")[0] + "\r\nlabel 30x40", subfiletype=1,
                     rowsperstrip=40, predictor=True, **flat)  # fmt: skip
        writer.write(tiffs.tissue(30, 90, seed=3), description=HEADER.split("\r")[0] + "\r\nmacro 90x30", subfiletype=9,
                     rowsperstrip=8, **flat)  # fmt: skip
    return path


def picture(source: Source, name: str) -> tiffs.Picture:
    (one,) = [a for a in source.associated if a.name == name]
    pixels = associated.read(one.locator, lambda i: source.files[i].path.open("rb"))
    assert pixels.shape == (one.height, one.width, 3)
    return pixels


def test_levels_pictures_and_properties(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "CASE-0001.svs"))
    assert (source.format, source.mode, source.mode_reason) == ("aperio-svs", Mode.TILES, "")
    assert [(level.height, level.width) for level in source.levels] == [(200, 300), (100, 150)]
    assert source.um_per_px == (0.499, 0.499)
    assert source.magnification == 20.0
    assert source.scanned_at == "2009-12-29T09:59:15-05:00"
    assert source.scanner.serial == "SS-0001"
    assert [one.name for one in source.associated] == ["thumbnail", "label", "macro"]
    np.testing.assert_array_equal(picture(source, "label"), tiffs.tissue(40, 30, seed=2))
    np.testing.assert_array_equal(picture(source, "macro"), tiffs.tissue(30, 90, seed=3))


def test_everything_but_technical_values_is_identifying(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "CASE-0001.svs"))
    assert source.identifying == {
        "ScanScope ID": "SS-0001", "Filename": "CASE-0001", "Title": "PATIENT-0001", "Date": "12/29/09",
        "Time": "09:59:15", "User": "PERSON-0002", "Barcode": "B-0003", "Never Seen Before": "X-0004",
        "File name": "CASE-0001.svs",
    }  # fmt: skip
    assert source.metadata["aperio"]["Left"] == "25.6"


def test_jpeg_that_is_rgb_without_saying_so(tmp_path: Path) -> None:
    """No JFIF, no Adobe marker, component numbers 0, 1, 2: only PhotometricInterpretation tells."""
    tiles = tiffs.jpeg_tiles(tiffs.tissue(128, 128), (64, 64), colorspace="rgb", outcolorspace="rgb")
    bare = []
    for tile in tiles:
        at = tile.index(b"\xff\xee")
        cut = tile[:at] + tile[at + 2 + int.from_bytes(tile[at + 2 : at + 4], "big") :]
        for old, new in ((b"R", b"\0"), (b"G", b"\1"), (b"B", b"\2")):
            sof = cut.index(b"\xff\xc0")
            frame = cut[sof : sof + 19].replace(old + b"\x11", new + b"\x11")
            sos = cut.index(b"\xff\xda")
            scan = cut[sos : sos + 11].replace(old + b"\0", new + b"\0").replace(old + b"\x11", new + b"\x11")
            cut = cut[:sof] + frame + cut[sof + 19 : sos] + scan + cut[sos + 11 :]
        bare.append(cut)
    path = tiffs.write_tiles(tmp_path / "a.svs", bare, (128, 128, 3), (64, 64), 7, description=TEXT)
    tiffs.set_tag(path, 0, 262, 2)
    source = open_source(path)
    level = source.levels[0]
    assert level.coding is not None
    assert level.coding.color is Color.RGB
    slide = openslide.OpenSlide(path)
    seen = np.asarray(slide.read_region((0, 0), 0, (128, 128)))[..., :3]
    np.testing.assert_array_equal(tiffs.assembled(source, level), seen)


def j2k(path: Path, compression: int, *, mct: bool) -> Path:
    tiles = [
        bytes(imagecodecs.jpeg2k_encode(tile, codecformat="j2k", mct=mct, reversible=True))
        for tile in tiffs.cut_tiles(tiffs.tissue(128, 192), (64, 64))
    ]
    return tiffs.write_tiles(path, tiles, (128, 192, 3), (64, 64), compression, description=TEXT)


def test_jpeg_2000_33003_is_ycbcr_and_converted_as_libjpeg_does(tmp_path: Path) -> None:
    path = j2k(tmp_path / "a.svs", 33003, mct=False)
    source = open_source(path)
    level = source.levels[0]
    assert source.mode is Mode.TILES
    assert level.coding is not None
    assert (level.coding.codec, level.coding.color) == (Codec.JPEG2000, Color.YCBCR)
    seen = np.asarray(openslide.OpenSlide(path).read_region((0, 0), 0, (192, 128)))[..., :3]
    difference = tiffs.assembled(source, level).astype(int) - seen
    assert not difference[..., [0, 2]].any()
    assert np.abs(difference[..., 1]).max() <= 1  # OpenSlide rounds green in its own way
    assert np.count_nonzero(difference) < 20


@pytest.mark.parametrize(("compression", "mct"), [(33005, True), (33005, False), (33003, True)])
def test_jpeg_2000_that_decodes_to_rgb(tmp_path: Path, compression: int, mct: bool) -> None:
    source = open_source(j2k(tmp_path / "a.svs", compression, mct=mct))
    level = source.levels[0]
    assert level.coding is not None
    assert level.coding.color is Color.RGB
    np.testing.assert_array_equal(tiffs.assembled(source, level), tiffs.tissue(128, 192))


def test_ycbcr_is_converted_as_libjpeg_does() -> None:
    """Every Y, Cb, Cr that a coarse grid gives, against libjpeg-turbo on a flat block: one value per 8×8 block."""
    values = np.array([(y, b, r) for y in range(0, 256, 17) for b in range(0, 256, 51) for r in range(0, 256, 51)])
    picture = np.repeat(values.astype(np.uint8).reshape(1, -1, 3), 1, axis=0)
    blocks = np.kron(picture, np.ones((8, 8, 1), np.uint8))
    coded = imagecodecs.jpeg8_encode(blocks, level=100, colorspace="ycbcr", outcolorspace="ycbcr", subsampling="444")
    raw = imagecodecs.jpeg8_decode(coded, colorspace="ycbcr", outcolorspace="ycbcr")
    rgb = imagecodecs.jpeg8_decode(coded, colorspace="ycbcr", outcolorspace="rgb")
    np.testing.assert_array_equal(rgb_from_ycbcr(raw), rgb)


def test_several_pictures_of_one_size_are_no_pyramid(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    with TiffWriter(path) as writer:
        for _ in range(2):
            writer.write(tiffs.tissue(128, 128), description=TEXT, tile=(64, 64), photometric="rgb", metadata=None)
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert source.format == "aperio-svs"
    assert "several pictures" in source.mode_reason
    assert "PATIENT-0001" in source.identifying.values()


def test_a_tile_over_the_label_is_not_taken_as_a_tile(tmp_path: Path) -> None:
    """Else the label's bytes would become part of what may be shared."""
    path = write(tmp_path / "a.svs")
    with TiffFile(path) as tiff:
        label = tiff.pages[3].dataoffsets[0]
    tiffs.edit_numbers(path, 0, 324, lambda values: values.__setitem__(2, label + 20))
    tiffs.edit_numbers(path, 0, 325, lambda values: values.__setitem__(2, 50))
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert "another picture" in source.mode_reason


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"Date": "12/29/09", "Time": "09:59:15"}, "2009-12-29T09:59:15"),
        ({"Date": "1/2/2021"}, "2021-01-02"),
        ({"Date": "06/16/99", "Time": "nonsense"}, "1999-06-16"),
        ({"Date": "29/12/09"}, None),
        ({}, None),
    ],
)
def test_dates(values: dict[str, str], expected: str | None) -> None:
    assert scanned_at(values) == expected


def test_properties_keep_repeated_keys_and_text_without_key() -> None:
    found = properties("Aperio v1\r\nx|A = 1|A = 2|no equals sign|B = c = d|= e")
    assert found == {"Header": "Aperio v1\r\nx", "A": "1", "A-2": "2", "Text": "no equals sign", "B": "c = d", "": "e"}
