"""Slides that are kept whole: their files, pixels, thumbnails; and generic pyramids, levels and pictures sorted out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from tifffile import TiffWriter

from tests import tiffs
from wsistore.errors import BrokenError, IncompleteError, InputError, Kind, MissingError, UnsupportedError
from wsistore.model import Mode
from wsistore.slides import associated
from wsistore.slides.base import Content
from wsistore.slides.regions import WholeReader
from wsistore.slides.registry import open_source
from wsistore.slides.whole import files_of, identifying_properties

FLAT: list[dict[str, Any]] = [
    {"rowsperstrip": 16},
    {"rowsperstrip": 16, "compression": "lzw", "predictor": True},
    {"compression": "zlib"},
    {"rowsperstrip": 16, "compression": "jpeg"},
    {"rowsperstrip": 32, "planarconfig": "separate"},
    {"tile": (64, 64), "planarconfig": "separate", "compression": "zlib"},
    {"tile": (64, 48), "compression": "zstd"},
]


@pytest.mark.parametrize("options", FLAT, ids=str)
def test_flat_tiffs_are_read_by_region(tmp_path: Path, options: dict[str, Any]) -> None:
    picture = tiffs.tissue(150, 200)
    path = tmp_path / "a.tif"
    with TiffWriter(path) as writer:
        given = np.moveaxis(picture, -1, 0) if "planarconfig" in options else picture
        writer.write(given, photometric="rgb", metadata=None, **options)
    source = open_source(path)
    assert (source.mode, source.format) == (Mode.WHOLE, "generic-tiff")
    assert source.mode_reason
    with WholeReader(path) as reader:
        assert reader.levels == ((150, 200),)
        whole = reader.read_region(0, 0, 0, 150, 200)
        if options.get("compression") != "jpeg":
            np.testing.assert_array_equal(whole, picture)
        np.testing.assert_array_equal(reader.read_region(0, 37, 61, 50, 70), whole[37:87, 61:131])
        over = reader.read_region(0, 140, -10, 30, 40)
        np.testing.assert_array_equal(over[:10, 10:], whole[140:, :30])
        assert (over[10:] == 255).all()
        assert (over[:, :10] == 255).all()
        assert reader.read_thumbnail(50).shape == (38, 50, 3)


@pytest.mark.parametrize(
    ("picture", "options", "expected"),
    [
        (np.full((64, 64), 1 << 15, np.uint16), {}, 128),
        (np.full((64, 64), 0.5, np.float32), {}, 128),
        (np.full((64, 64), 30, np.uint8), {"photometric": "miniswhite"}, 225),
        (np.full((64, 64), 30, np.uint32), {}, 30),
        (np.ones((64, 64), bool), {}, 255),
        (
            np.full((64, 64), 7, np.uint8),
            {"photometric": "palette", "colormap": np.full((3, 256), 0x4242, np.uint16)},
            66,
        ),
    ],
)
def test_other_samples_are_shown_as_8_bit_rgb(
    tmp_path: Path, picture: tiffs.Picture, options: dict[str, Any], expected: int
) -> None:
    path = tmp_path / "a.tif"
    with TiffWriter(path) as writer:
        writer.write(picture, metadata=None, **({"photometric": "minisblack"} | options))
    assert open_source(path).mode is Mode.WHOLE
    with WholeReader(path) as reader:
        assert (reader.read_region(0, 0, 0, 64, 64) == expected).all()


def test_cmyk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with TiffWriter(path) as writer:
        writer.write(tiffs.tissue(64, 64, channels=4), photometric="separated", metadata=None)
    with pytest.raises(UnsupportedError, match="photometric interpretation 5") as caught:
        open_source(path)
    assert caught.value.kind is Kind.UNSUPPORTED_PIXELS


def test_a_philips_tiff_is_kept_whole(tmp_path: Path) -> None:
    text = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="DICOM_MANUFACTURER" Group="0x0008" Element="0x0070" PMSVR="IString">Maker</Attribute>'
        '<Attribute Name="PIM_DP_UFS_BARCODE" Group="0x301D" Element="0x1002" PMSVR="IString">QjAwMDE=</Attribute>'
        "</DataObject>"
    )
    path = tiffs.write_pyramid(
        tmp_path / "a.tiff", [tiffs.tissue(128, 128)], compression="jpeg", description=text, software="Philips DP v1.0"
    )
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert source.mode_reason


def test_a_qptiff_is_kept_whole_with_its_levels(tmp_path: Path) -> None:
    path = tmp_path / "a.qptiff"
    options: dict[str, Any] = {"tile": (64, 64), "photometric": "rgb", "metadata": None, "compression": "lzw"}
    with TiffWriter(path) as writer:
        for i, level in enumerate(tiffs.halves(tiffs.tissue(256, 256), 3)):
            more = {"software": "PerkinElmer-QPI"} if i == 0 else {"subfiletype": 1}
            writer.write(level, description="<PerkinElmer-QPI-ImageDescription/>", **options, **more)
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert [(level.height, level.width) for level in source.levels] == [(256, 256), (128, 128), (64, 64)]
    with WholeReader(path) as reader:
        np.testing.assert_array_equal(reader.read_region(1, 5, 7, 40, 30), tiffs.tissue(256, 256)[::2, ::2][5:45, 7:37])


@pytest.mark.parametrize("compression", [7, 33003])
def test_a_damaged_tile_makes_a_whole_slide_fail_with_its_name(tmp_path: Path, compression: int) -> None:
    path = tiffs.write_tiles(tmp_path / "a.tif", [b"garbage" * 9], (64, 64, 3), (64, 64), compression)
    with pytest.raises(BrokenError, match=r"a\.tif is damaged: tile 0 of (page|level) 0"):
        open_source(path)


def test_truncated_strips(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with TiffWriter(path) as writer:
        writer.write(tiffs.tissue(150, 200), photometric="rgb", metadata=None, rowsperstrip=16)
    tiffs.edit_numbers(path, 0, 273, lambda values: values.__setitem__(-1, 10**6))
    with pytest.raises(BrokenError, match="ends too early") as caught:
        open_source(path)
    assert caught.value.kind is Kind.SOURCE_TRUNCATED


# --- generic pyramids -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sub", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_pyramids_as_reduced_pages_or_subifds(tmp_path: Path, sub: bool, big: bool) -> None:
    levels = tiffs.halves(tiffs.tissue(201, 303), 3)
    path = tiffs.write_pyramid(tmp_path / "a.tif", levels, sub=sub, big=big, compression="zlib")
    source = open_source(path)
    assert source.mode is Mode.TILES
    assert len(source.levels) == 3
    for level, picture in zip(source.levels, levels, strict=True):
        np.testing.assert_array_equal(tiffs.assembled(source, level), picture)


def test_other_pictures_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with TiffWriter(path) as writer:
        writer.write(tiffs.tissue(128, 128), tile=(64, 64), photometric="rgb", metadata=None)
        writer.write(tiffs.tissue(30, 40), photometric="rgb", metadata=None, description="the Label", subfiletype=1)
        writer.write(tiffs.tissue(30, 90), photometric="rgb", metadata=None, subfiletype=9)
        writer.write(tiffs.tissue(30, 30), photometric="rgb", metadata=None)
    source = open_source(path)
    assert source.mode is Mode.TILES
    assert [one.name for one in source.associated] == ["label", "macro", "page-3"]


def test_several_full_pictures_are_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with TiffWriter(path) as writer:
        for seed in range(3):
            writer.write(tiffs.tissue(128, 128, seed=seed), tile=(64, 64), photometric="rgb", metadata=None)
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert "picture of its own" in source.mode_reason


def test_a_dark_border_means_fluorescence(tmp_path: Path) -> None:
    dark = np.zeros((200, 200, 3), np.uint8)
    dark[80:120, 80:120] = 200
    assert open_source(tiffs.write_pyramid(tmp_path / "a.tif", [dark])).content is Content.FLUORESCENCE
    light = open_source(tiffs.write_pyramid(tmp_path / "b.tif", [tiffs.tissue(200, 200)]))
    assert light.content is Content.BRIGHTFIELD


# --- which files belong -----------------------------------------------------------------------------------------------


def test_mirax_needs_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a.mrxs"
    path.write_bytes(imagecodecs.jpeg8_encode(tiffs.tissue(32, 32)))
    with pytest.raises(IncompleteError, match="needs the folder a"):
        open_source(path)
    for name in ("Slidedat.ini", "Data0000.dat", "more/Index.dat"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_bytes(b"x")
    assert {file.name for file in files_of(path)} == {"a.mrxs", "a/Slidedat.ini", "a/Data0000.dat", "a/more/Index.dat"}


def test_vms_names_its_files(tmp_path: Path) -> None:
    text = (
        "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=2\nNoJpegRows=1\n"
        "ImageFile=a.jpg\nImageFile(1,0)=b.jpg\n"
        "MapFile=map.jpg\nOptimisationFile=a.opt\nMacroImage=macro.jpg\nAuthCode=x\n"
    )
    path = tmp_path / "a.vms"
    path.write_text(text)
    with pytest.raises(IncompleteError, match=r"a\.jpg, b\.jpg, macro\.jpg, map\.jpg"):
        files_of(path)
    for name in ("a.jpg", "b.jpg", "map.jpg", "macro.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert {file.name for file in files_of(path)} == {"a.vms", "a.jpg", "b.jpg", "map.jpg", "macro.jpg"}


def test_vms_cannot_reach_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    path = tmp_path / "x" / "a.vms"
    path.write_text("[Virtual Microscope Specimen]\nImageFile=../secret.jpg\nMapFile=/etc/hostname\n")
    assert [file.name for file in files_of(path)] == ["a.vms"]


def test_which_properties_identify() -> None:
    values = {
        "openslide.mpp-x": "0.25", "openslide.vendor": "mirax", "openslide.comment": "PATIENT-0001",
        "mirax.GENERAL.SLIDE_ID": "S-0001", "mirax.GENERAL.SLIDE_NAME": "CASE-0002",
        "mirax.GENERAL.IMAGENUMBER_X": "12",
        "hamamatsu.SlideLabel": "L-3", "leica.barcode": "B-4",
    }  # fmt: skip
    assert set(identifying_properties(values).values()) == {"PATIENT-0001", "S-0001", "CASE-0002", "L-3", "B-4"}


# --- pictures by locator ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "locator",
    [
        {},
        {"reader": "nobody"},
        {"reader": "tiff", "file": 0},
        {"reader": "tiff", "file": -1, "page": [0]},
        {"reader": "tiff", "file": 0, "page": [9]},
        {"reader": "tiff", "file": 0, "page": [0, 3]},
        {"reader": "tiff", "file": 0, "page": ["x"]},
        {"reader": "tiff", "file": True, "page": [0]},
    ],
)
def test_locators_that_point_to_nothing(tmp_path: Path, locator: dict[str, Any]) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(64, 64)])
    with pytest.raises(MissingError):
        associated.read(locator, lambda _: path.open("rb"))


def test_pictures_can_be_read_from_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with TiffWriter(path) as writer:
        writer.write(tiffs.tissue(64, 64), photometric="rgb", metadata=None, tile=(64, 64))
        planes = np.moveaxis(tiffs.tissue(30, 40, seed=5), -1, 0)
        writer.write(planes, photometric="rgb", metadata=None, planarconfig="separate")
    data = path.read_bytes()
    pixels = associated.read({"reader": "tiff", "file": 0, "page": [1]}, lambda _: io.BytesIO(data))
    np.testing.assert_array_equal(pixels, tiffs.tissue(30, 40, seed=5))


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(64, 64)], compression="zlib")
    tiffs.edit_numbers(path, 0, 325, lambda values: values.__setitem__(0, values[0] // 2))
    with pytest.raises(InputError, match="damaged"):
        associated.read({"reader": "tiff", "file": 0, "page": [0]}, lambda _: path.open("rb"))


def test_openslide_pictures_need_real_files(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="real files"):
        associated.read({"reader": "openslide", "file": 0, "name": "label"}, lambda _: io.BytesIO(b""))


def test_a_thumbnail_keeps_the_proportions(tmp_path: Path) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", tiffs.halves(tiffs.tissue(400, 200), 3), compression="zlib")
    with WholeReader(path) as reader:
        thumbnail = reader.read_thumbnail(64)
        assert thumbnail.shape == (64, 32, 3)
        expected = np.asarray(Image.fromarray(tiffs.tissue(400, 200)).resize((32, 64), 4)).astype(int)
        assert np.abs(thumbnail - expected).mean() < 12
        assert reader.read_thumbnail(1000).shape == (400, 200, 3)
