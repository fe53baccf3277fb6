"""The real DICOM slides: our segments are the frames that pydicom finds, and decode to what they show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.encaps import generate_frames

from tests.unit.dicom_tools import pixels, read, tile_bytes
from wsistore.errors import Kind, UnsupportedError
from wsistore.model import Mode
from wsistore.slides.base import Codec, Color
from wsistore.slides.decode import decode_tile
from wsistore.slides.dicom import series_in

# The real files have values that the standard does not allow, and pydicom says so.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SERIES = ["CMU-1-Small-Region", "camelyon-j2k"]


@pytest.fixture
def dicom(real_slides: Path) -> Path:
    return real_slides / "dicom"


def frames_of(dataset: Any) -> list[bytes]:
    """Return the frames as pydicom finds them, without the padding that makes their length even."""
    frames = generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames))
    return [frame[:-1] if frame.endswith(b"\xff\xd9\0") else frame for frame in frames]


@pytest.mark.parametrize("name", SERIES)
def test_segments_are_pydicoms_frames(dicom: Path, name: str) -> None:
    source = read(dicom / name)

    assert source.mode is Mode.TILES, source.mode_reason
    for number, level in enumerate(source.levels):
        (file,) = set(level.segments["file"].tolist())
        dataset = pydicom.dcmread(source.files[file].path)
        frames = frames_of(dataset)
        assert (level.height, level.width) == (dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns)
        assert (level.tile_height, level.tile_width) == (dataset.Rows, dataset.Columns)
        assert [tile_bytes(source, number, tile) for tile in range(len(frames))] == frames


@pytest.mark.parametrize("name", SERIES)
def test_tiles_decode_as_pydicom_decodes_them(dicom: Path, name: str) -> None:
    source = read(dicom / name)

    for number, level in enumerate(source.levels):
        dataset = pydicom.dcmread(source.files[int(level.segments["file"][0])].path)
        expected = dataset.pixel_array.reshape(-1, level.tile_height, level.tile_width, 3)
        for tile, shown in enumerate(expected):
            decoded = decode_tile(level, tile_bytes(source, number, tile))
            # Two builds of libjpeg-turbo: how they smooth halved chroma may differ by a grey level or two.
            tolerance = 2 if level.coding is not None and level.coding.codec is Codec.JPEG else 0
            assert np.abs(decoded.astype(int) - shown).max() <= tolerance


def test_the_jpeg_frames_show_the_slide_that_they_were_made_from(dicom: Path, real_slides: Path) -> None:
    """The header says RGB and the frames say YCbCr (JFIF); the Aperio file of the same slide says who is right."""
    source = read(dicom / "CMU-1-Small-Region")
    original = tifffile.imread(real_slides / "aperio" / "CMU-1-Small-Region.svs", key=0)

    level = source.levels[0]
    assert level.coding is not None
    assert level.coding.color is Color.YCBCR
    assert np.abs(pixels(source, 0).astype(int) - original).mean() < 5
    mistaken = replace(source, levels=(replace(level, coding=replace(level.coding, color=Color.RGB)),))
    assert np.abs(pixels(mistaken, 0).astype(int) - original).mean() > 30


def test_the_jpeg2000_frames_are_wsidicoms(dicom: Path) -> None:
    wsidicom = pytest.importorskip("wsidicom")
    source = read(dicom / "camelyon-j2k")

    with wsidicom.WsiDicom.open(dicom / "camelyon-j2k") as slide:
        shown = np.asarray(slide.read_region((0, 0), 0, (1696, 812)).convert("RGB"))

    assert np.array_equal(pixels(source, 0), shown)


def test_geometry_of_the_jpeg_series(dicom: Path) -> None:
    source = read(dicom / "CMU-1-Small-Region")

    sizes = [(level.height, level.width) for level in source.levels]
    assert sizes[:3] == [(2967, 2220), (1483, 1110), (741, 555)]
    assert sizes[-1] == (1, 1)
    assert len(sizes) == 12
    assert [level.grid for level in source.levels[:3]] == [(6, 5), (3, 3), (2, 2)]
    assert source.um_per_px == pytest.approx((0.499, 0.499))
    assert source.scanned_at == "2021-07-20T13:38:42"
    assert len(source.files) == 12
    assert source.warnings == ()
    scales = [one["um_per_px"][0] for one in source.metadata["instances"] if one["width"] in {1110, 555}]
    assert scales == pytest.approx([0.998, 1.996])


def test_geometry_of_the_jpeg2000_series(dicom: Path) -> None:
    source = read(dicom / "camelyon-j2k")

    (level,) = source.levels
    assert (level.height, level.width, level.grid) == (812, 1696, (4, 7))
    assert level.coding is not None
    assert (level.coding.codec, level.coding.color) == (Codec.JPEG2000, Color.RGB)
    assert source.um_per_px == pytest.approx((28.968, 28.969))
    assert source.scanner.manufacturer == "GOOGLE"
    assert source.scanner.software is not None
    assert any("numbered up to 7" in warning for warning in source.warnings)


def test_the_whole_made_up_identity_is_found(dicom: Path) -> None:
    source = read(dicom / "camelyon-j2k")
    dataset = pydicom.dcmread(source.files[0].path, stop_before_pixels=True)
    named = ["PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "ReferringPhysicianName"]
    named += ["InstitutionName", "ContainerIdentifier", "BarcodeValue", "StudyDate", "StudyTime", "ContentDate"]
    named += ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "StudyDescription"]
    specimen = dataset.SpecimenDescriptionSequence[0]
    private = [str(dataset[0x3021, number].value) for number in (0x1001, 0x1003, 0x1004)]
    issuer = dataset.IssuerOfAccessionNumberSequence[0]

    expected = {str(dataset[keyword].value) for keyword in named}
    expected |= {specimen.SpecimenIdentifier, specimen.SpecimenUID, *private, source.files[0].name}
    expected |= {issuer.LocalNamespaceEntityID, issuer.UniversalEntityID}

    assert expected <= set(source.identifying.values())
    assert json.loads(json.dumps(source.metadata))["dataset"]["PatientID"] == str(dataset.PatientID)


def test_the_label_alone_is_no_slide(dicom: Path) -> None:
    with pytest.raises(UnsupportedError, match="only a label; a slide needs its VOLUME images") as caught:
        read(dicom / "label-only")
    assert caught.value.kind is Kind.NOT_A_SLIDE
    assert "test_wsi2.dcm" in caught.value.message


def test_each_folder_is_one_series(dicom: Path) -> None:
    assert {name: len(series_in(dicom / name)) for name in (*SERIES, "label-only")} == {
        "CMU-1-Small-Region": 1,
        "camelyon-j2k": 1,
        "label-only": 1,
    }
