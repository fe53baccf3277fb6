"""What the DICOM reader says of a slide: scale, colours, modes, pictures, metadata, identity, and which files it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO, cast

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from tests.unit.dicom_tools import assign, edit, picture, pixels, put_pixels, read
from wsistore.errors import BrokenError, MissingError
from wsistore.model import Mode
from wsistore.slides.associated import read as read_any
from wsistore.slides.base import Color, Content, Source
from wsistore.slides.dicom import DicomReader, instances_in, read_associated, series_in
from wsistore.slides.icc import shareable
from wsistore.testing.dicom import PATIENT, write_series
from wsistore.testing.pictures import srgb_profile

IMAGE = picture(90, 110)
TILE = (64, 64)


def one(folder: Path, **layout: Any) -> Path:
    (path,) = write_series(folder, [IMAGE], tile=TILE, **layout)
    return path


def open_file(source: Source) -> Any:
    return lambda index: cast(BinaryIO, source.files[index].path.open("rb"))


# --- the slide --------------------------------------------------------------------------------------------------------


def test_what_the_header_says(tmp_path: Path) -> None:
    profile = srgb_profile()
    write_series(tmp_path, [IMAGE, IMAGE[::2, ::2]], tile=TILE, um_per_px=0.25, magnification=40, icc=profile)

    source = read(tmp_path)

    assert source.format == "dicom"
    assert (source.mode, source.mode_reason) == (Mode.TILES, "")
    assert source.um_per_px == pytest.approx((0.25, 0.25))
    assert source.magnification == 40
    assert source.icc_profile == shareable(profile)
    assert source.content is Content.BRIGHTFIELD
    assert source.scanner.manufacturer == "Made-up Scanners"
    assert (source.scanner.model, source.scanner.serial, source.scanner.software) == ("Model 1", "SERIAL-0001", "1.0")
    assert source.scanned_at == "2020-01-02T10:11:12"
    assert source.series == str(pydicom.dcmread(source.files[0].path, stop_before_pixels=True).SeriesInstanceUID)
    assert [file.name for file in source.files] == ["level-0.dcm", "level-1.dcm"]
    assert [file.size_bytes for file in source.files] == [file.path.stat().st_size for file in source.files]
    assert source.warnings == ()


def test_rows_come_before_columns_in_pixel_spacing(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.0003, 0.0005]

    edit(one(tmp_path), change)

    assert read(tmp_path).um_per_px == pytest.approx((0.3, 0.5))


@pytest.mark.parametrize("spacing", [None, [0, 0], [-1, 1], ["nan", "nan"]])
def test_scale_from_the_imaged_volume(tmp_path: Path, spacing: list[Any] | None) -> None:
    def change(dataset: FileDataset) -> None:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        del measures.PixelSpacing
        if spacing is not None:
            measures.add_new(0x00280030, "DS", "\\".join(str(part) for part in spacing))
        dataset.ImagedVolumeHeight, dataset.ImagedVolumeWidth = 0.9, 2.2

    edit(one(tmp_path), change)

    assert read(tmp_path).um_per_px == pytest.approx((10.0, 20.0))


def test_no_scale_is_none(tmp_path: Path) -> None:
    assign(one(tmp_path), SharedFunctionalGroupsSequence=None, ImagedVolumeHeight=None, OpticalPathSequence=None)
    source = read(tmp_path)

    assert source.um_per_px is None
    assert source.magnification is None


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("20200102101112.5", "2020-01-02T10:11:12.5"),
        ("20200102101112+0130", "2020-01-02T10:11:12+01:30"),
        ("2020010210", "2020-01-02T10:00:00"),
        ("20200102", "2020-01-02"),
        ("20201302", "2019-08-09T07:06:05"),
        ("nonsense", "2019-08-09T07:06:05"),
    ],
)
def test_when_it_was_scanned(tmp_path: Path, stamp: str, expected: str) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.AcquisitionDateTime = stamp
        dataset.ContentDate, dataset.ContentTime = "20190809", "070605"

    edit(one(tmp_path), change)

    assert read(tmp_path).scanned_at == expected


def test_epifluorescence_is_black_where_there_is_nothing(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.OpticalPathSequence[0].IlluminationTypeCodeSequence[0].CodeValue = "111743"

    edit(one(tmp_path), change)

    assert read(tmp_path).content is Content.FLUORESCENCE


def test_gray_slides_have_one_channel(tmp_path: Path) -> None:
    one(tmp_path, photometric="MONOCHROME2")

    level = read(tmp_path).levels[0]

    assert (level.channels, level.dtype) == (1, "uint8")
    assert level.coding is not None
    assert level.coding.color is Color.GRAY


def test_a_label_that_lies_about_its_colours_does_not_change_them(tmp_path: Path) -> None:
    """JFIF frames that are called RGB, as in a real series: their markers are right."""
    assign(one(tmp_path), PhotometricInterpretation="RGB")

    source = read(tmp_path)

    assert source.levels[0].coding is not None
    assert source.levels[0].coding.color is Color.YCBCR
    assert np.abs(pixels(source, 0).astype(int) - IMAGE).mean() < 6


# --- kept whole -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("syntax", "says"),
    [
        ("1.2.840.10008.1.2.4.57", "JPEG Lossless"),
        ("1.2.840.10008.1.2.4.80", "JPEG-LS"),
        ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2"),
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL"),
        ("1.2.3.4.5", "1.2.3.4.5"),
    ],
)
def test_other_codings_are_kept_whole(tmp_path: Path, syntax: str, says: str) -> None:
    path = one(tmp_path)
    old, new = b"1.2.840.10008.1.2.4.50", syntax.encode()
    data = path.read_bytes()
    at = data.index(old)
    value = new + b"\0" * (len(new) % 2)
    head = bytearray(data[: at - 2] + len(value).to_bytes(2, "little") + value + data[at + len(old) :])
    group = int.from_bytes(head[140:144], "little") + len(value) - len(old)
    head[140:144] = group.to_bytes(4, "little")
    path.write_bytes(bytes(head))

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert says in source.mode_reason
    assert [(level.height, level.width, level.coding) for level in source.levels] == [(90, 110, None)]


def test_run_lengths_are_kept_whole(tmp_path: Path) -> None:
    one(tmp_path, codec="rle")

    assert "RLE" in read(tmp_path).mode_reason


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"], ids=["deflated", "big endian"])
def test_deflated_and_big_endian_are_kept_whole(tmp_path: Path, syntax: str) -> None:
    path = one(tmp_path, codec="none", patient={"PatientID": "ID-0042"})
    old = pydicom.dcmread(path)
    assert str(old), "every element is converted, so that it can be written in another byte order"
    dataset = Dataset()
    for element in old:
        dataset.add(element)
    dataset.file_meta = old.file_meta
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    little = syntax != "1.2.840.10008.1.2.2"
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=little, enforce_file_format=True)

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert ("Deflated" if little else "Big Endian") in source.mode_reason
    assert (source.levels[0].height, source.levels[0].width) == (90, 110)
    assert source.identifying["PatientID"] == "ID-0042"


def test_sixteen_bits_are_kept_whole(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.SamplesPerPixel = 15, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelData = bytes(4 * 64 * 64 * 2)

    edit(one(tmp_path, codec="none"), change)
    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert "16 in 16 bits" in source.mode_reason
    assert (source.levels[0].dtype, source.levels[0].channels) == ("uint16", 1)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"PhotometricInterpretation": "YBR_FULL"}, "uncompressed YBR_FULL"),
        ({"PixelRepresentation": 1}, "signed"),
        ({"BitsStored": 7}, "7 in 8 bits"),
        ({"PhotometricInterpretation": "MONOCHROME2"}, "MONOCHROME2"),
    ],
)
def test_other_pixels_are_kept_whole(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    assign(one(tmp_path, codec="none"), **values)

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert says in source.mode_reason


def test_frames_of_another_size_are_kept_whole(tmp_path: Path) -> None:
    path = one(tmp_path)
    frames = [bytes(imagecodecs.jpeg8_encode(IMAGE[:48, :48])) for _ in range(4)]
    edit(path, lambda dataset: setattr(dataset, "PixelData", encapsulate(frames)))

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert "48 × 48" in source.mode_reason


def test_frames_of_different_colours_are_kept_whole(tmp_path: Path) -> None:
    path = one(tmp_path)
    tile = IMAGE[:64, :64]
    spaces = ["YCBCR", "YCBCR", "RGB", "YCBCR"]
    frames = [bytes(imagecodecs.jpeg8_encode(tile, colorspace="RGB", outcolorspace=space)) for space in spaces]
    edit(path, lambda dataset: setattr(dataset, "PixelData", encapsulate(frames)))

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert "different colour coding" in source.mode_reason


def test_contradicting_jpeg2000_is_kept_whole(tmp_path: Path) -> None:
    assign(one(tmp_path, codec="jpeg2000", photometric="RGB"), PhotometricInterpretation="YBR_RCT")

    source = read(tmp_path)

    assert source.mode is Mode.WHOLE
    assert "YBR_RCT" in source.mode_reason


def test_the_reason_names_no_file(tmp_path: Path) -> None:
    path = one(tmp_path, codec="rle")
    path.rename(path.with_name("PATIENT-0001.dcm"))

    assert "PATIENT-0001" not in read(tmp_path).mode_reason


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_that_come_with_the_slide(tmp_path: Path) -> None:
    label, macro, thumbnail = picture(40, 50, 1), picture(30, 80, 2), picture(45, 55, 3)
    write_series(tmp_path, [IMAGE], tile=TILE, label=label, macro=macro, thumbnail=thumbnail)

    source = read(tmp_path)

    assert len(source.levels) == 1
    expected = {"label": label, "macro": macro, "thumbnail": thumbnail}
    assert {one.name: (one.height, one.width) for one in source.associated} == {
        name: image.shape[:2] for name, image in expected.items()
    }
    for found in source.associated:
        assert json.loads(json.dumps(dict(found.locator))) == found.locator
        shown = read_associated(found.locator, open_file(source))
        assert np.array_equal(read_any(found.locator, open_file(source)), shown)
        assert shown.dtype == np.uint8
        assert shown.shape == (found.height, found.width, 3)
        assert np.abs(shown.astype(int) - expected[found.name]).mean() < 6


def test_a_tiled_picture_is_put_together(tmp_path: Path) -> None:
    write_series(tmp_path, [IMAGE, IMAGE], tile=TILE, codec="jpeg2000")
    assign(tmp_path / "level-1.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"])

    source = read(tmp_path)

    assert [found.name for found in source.associated] == ["macro"]
    assert np.array_equal(read_associated(source.associated[0].locator, open_file(source)), IMAGE)


def test_gray_and_uncompressed_pictures_are_shown(tmp_path: Path) -> None:
    write_series(tmp_path, [IMAGE, IMAGE], tile=TILE, codec="none", photometric="MONOCHROME2")
    assign(tmp_path / "level-1.dcm", ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"])

    source = read(tmp_path)

    shown = read_associated(source.associated[0].locator, open_file(source))
    assert np.array_equal(shown, np.repeat(IMAGE[..., 1:2], 3, axis=2))


def test_pictures_of_one_kind_are_numbered(tmp_path: Path) -> None:
    write_series(tmp_path, [IMAGE, IMAGE, IMAGE], tile=TILE)
    for name in ("level-1.dcm", "level-2.dcm"):
        assign(tmp_path / name, ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"])

    assert [found.name for found in read(tmp_path).associated] == ["label", "label-2"]


def test_a_picture_that_cannot_be_shown_is_kept_and_told(tmp_path: Path) -> None:
    write_series(tmp_path, [IMAGE, IMAGE], tile=TILE, codec="rle")
    assign(tmp_path / "level-1.dcm", ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"])

    source = read(tmp_path)

    assert source.associated == ()
    assert len(source.files) == 2
    assert any("label is kept, but cannot be shown" in warning for warning in source.warnings)


def test_a_picture_that_is_gone_is_an_error(tmp_path: Path) -> None:
    write_series(tmp_path, [IMAGE], tile=TILE, label=picture(40, 50))
    source = read(tmp_path)
    put_pixels(tmp_path / "label.dcm", b"\xfe\xff\x00\xe0\0\0\0\0")

    with pytest.raises(BrokenError):
        read_associated(source.associated[0].locator, open_file(source))
    with pytest.raises(MissingError):
        read_associated({}, open_file(source))


# --- metadata and identity --------------------------------------------------------------------------------------------


def test_identity_is_found_wherever_it_stands(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        block = dataset.private_block(0x0011, "MADE-UP", create=True)
        block.add_new(1, "LO", "PRIVATE-TEXT-1")
        block.add_new(2, "UN", b"PRIVATE-TEXT-2")
        inner = Dataset()
        inner.private_block(0x0013, "MADE-UP", create=True).add_new(5, "LT", "PRIVATE-TEXT-3")
        inner.PersonName = "PERSON-0001"
        block.add_new(3, "SQ", Sequence([inner]))
        block.add_new(4, "US", 7)
        block.add_new(6, "UN", b"\xff\xfe\x00\x01")
        specimen = Dataset()
        specimen.SpecimenIdentifier = "SPECIMEN-0001"
        dataset.SpecimenDescriptionSequence = [specimen]
        dataset.OperatorsName = ["OPERATOR-0001", "OPERATOR-0002"]
        dataset.LabelText = "LABEL-TEXT-0001"

    path = edit(one(tmp_path), change)
    found = read(tmp_path).identifying

    values = set(found.values())
    named = [value for key, value in PATIENT.items() if key != "PatientSex"]
    assert values >= set(named)
    assert values >= {"PRIVATE-TEXT-1", "PRIVATE-TEXT-2", "PRIVATE-TEXT-3", "PERSON-0001", "SPECIMEN-0001"}
    assert values >= {"OPERATOR-0001", "OPERATOR-0002", "LABEL-TEXT-0001", path.name, "20200102", "101112"}
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    assert values >= {dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID}
    assert found["SpecimenDescriptionSequence.SpecimenIdentifier"] == "SPECIMEN-0001"
    assert not any(value.startswith("1.2.840.10008.") for value in values)
    assert "7" not in values


@pytest.mark.parametrize("codec", ["jpeg", "none"])
def test_identity_behind_the_pixels_is_found(tmp_path: Path, codec: str) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.private_block(0x7FE1, "MADE-UP", create=True).add_new(1, "LO", "BEHIND-THE-PIXELS")

    edit(one(tmp_path, codec=codec), change)

    assert "BEHIND-THE-PIXELS" in read(tmp_path).identifying.values()


def test_identities_of_all_instances_are_found(tmp_path: Path) -> None:
    write_series(tmp_path, [IMAGE], tile=TILE, label=picture(40, 50))
    assign(tmp_path / "label.dcm", BarcodeValue="BARCODE-OF-THE-LABEL")

    values = set(read(tmp_path).identifying.values())

    assert values >= {"BARCODE-0001", "BARCODE-OF-THE-LABEL", "label.dcm", "level-0.dcm"}


def test_metadata_are_json_without_pixels(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.private_block(0x0011, "MADE-UP", create=True).add_new(1, "OB", bytes(5000))
        dataset.add_new(0x00189073, "FD", float("nan"))

    write_series(tmp_path, [IMAGE, IMAGE[::2, ::2]], tile=TILE, label=picture(40, 50))
    edit(tmp_path / "level-0.dcm", change)
    metadata = read(tmp_path).metadata

    again = json.loads(json.dumps(metadata, allow_nan=False))
    assert again["dataset"]["PatientID"] == PATIENT["PatientID"]
    assert again["dataset"]["OpticalPathSequence"][0]["OpticalPathIdentifier"] == "1"
    assert again["dataset"]["(0011,1001)"] == {"length_bytes": 5000}
    assert "PixelData" not in again["dataset"]
    assert [(one["file"], one["kind"]) for one in again["instances"]] == [
        ("level-0.dcm", "VOLUME"),
        ("level-1.dcm", "VOLUME"),
        ("label.dcm", "LABEL"),
    ]
    assert again["instances"][0]["um_per_px"] == pytest.approx([0.5, 0.5])
    assert again["instances"][1]["um_per_px"] == pytest.approx([1.0, 1.0])


def test_gaps_in_the_numbers_are_told(tmp_path: Path) -> None:
    write_series(tmp_path, [IMAGE, IMAGE[::2, ::2], IMAGE[::4, ::4]], tile=TILE)
    (tmp_path / "level-1.dcm").unlink()

    source = read(tmp_path)

    assert len(source.levels) == 2
    assert any("numbered up to 3 and 1 of them" in warning for warning in source.warnings)


# --- which files ------------------------------------------------------------------------------------------------------


def test_one_instance_stands_for_its_series(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_series(tmp_path / str(seed), [IMAGE, IMAGE[::2, ::2]], tile=TILE, seed=seed)
        for path in sorted((tmp_path / str(seed)).iterdir()):
            path.rename(tmp_path / f"{seed}-{path.name}")

    source = read(tmp_path / "2-level-1.dcm")

    assert [file.name for file in source.files] == ["2-level-0.dcm", "2-level-1.dcm"]
    assert source.levels[0].height == 90


def test_series_of_a_folder(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_series(tmp_path / str(seed), [IMAGE, IMAGE[::2, ::2]], tile=TILE, seed=seed)
        for path in sorted((tmp_path / str(seed)).iterdir()):
            path.rename(tmp_path / f"{seed}-{path.name}")
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)
    (tmp_path / "notes.txt").write_text("no instance")

    series = series_in(tmp_path)

    assert [[path.name for path in paths] for paths in series.values()] == [
        ["1-level-0.dcm", "1-level-1.dcm"],
        ["2-level-0.dcm", "2-level-1.dcm"],
        ["broken.dcm"],
    ]
    assert "unreadable:broken.dcm" in series
    assert [found.path.name for found in instances_in(tmp_path)] == [
        "1-level-0.dcm",
        "1-level-1.dcm",
        "2-level-0.dcm",
        "2-level-1.dcm",
    ]
    with pytest.raises(BrokenError):
        read(series["unreadable:broken.dcm"][0])
    assert any("broken.dcm" in warning for warning in read(tmp_path / "1-level-0.dcm").warnings)


def test_files_without_a_suffix_are_found(tmp_path: Path) -> None:
    path = one(tmp_path)
    path.rename(tmp_path / "IM000001")

    assert [file.name for file in read(tmp_path).files] == ["IM000001"]


def test_a_hidden_file_is_read_when_it_is_named(tmp_path: Path) -> None:
    hidden = one(tmp_path).rename(tmp_path / ".level-0.dcm")

    assert [file.name for file in read(hidden).files] == [".level-0.dcm"]
    assert series_in(tmp_path) == {}


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    path = one(tmp_path)
    (tmp_path / "notes.txt").write_text("no instance")
    (tmp_path / "folder").mkdir()
    (tmp_path / "._level-0.dcm").write_bytes(b"\0\5\x16\7" + bytes(100))
    directory = edit(path.rename(tmp_path / "copy.dcm"), _make_directory)
    directory.rename(tmp_path / "DICOMDIR")
    one(tmp_path)

    source = read(tmp_path)

    assert [file.name for file in source.files] == ["level-0.dcm"]
    assert sum("is not kept" in warning for warning in source.warnings) == 2
    assert list(series_in(tmp_path).values()) == [[tmp_path / "level-0.dcm"]]


def _make_directory(dataset: FileDataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage


def test_another_kind_of_instance_of_the_series_is_kept_as_a_file(tmp_path: Path) -> None:
    write_series(tmp_path, [IMAGE, IMAGE[::2, ::2]], tile=TILE)
    annotations = pydicom.uid.MicroscopyBulkSimpleAnnotationsStorage
    edit(tmp_path / "level-1.dcm", lambda dataset: _make_annotations(dataset, annotations))

    source = read(tmp_path)

    assert len(source.levels) == 1
    assert [file.name for file in source.files] == ["level-0.dcm", "level-1.dcm"]
    assert source.levels[0].segments["file"].tolist() == [0] * 4


def _make_annotations(dataset: FileDataset, sop_class: str) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.UID(sop_class)
    for keyword in ("PixelData", "TotalPixelMatrixRows", "Rows", "Columns"):
        del dataset[keyword]


def test_a_copy_of_an_instance_is_passed_over(tmp_path: Path) -> None:
    path = one(tmp_path)
    (tmp_path / "other.dcm").write_bytes(path.read_bytes())

    source = read(tmp_path)

    assert [file.name for file in source.files] == ["level-0.dcm"]
    assert any("other.dcm is a copy of level-0.dcm" in warning for warning in source.warnings)


def test_what_the_reader_claims(tmp_path: Path) -> None:
    reader = DicomReader()
    path = one(tmp_path / "slide")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("no instance")
    bare = path.with_suffix("")
    bare.write_bytes(path.read_bytes())

    assert reader.claims(path, path.read_bytes()[:4096])
    assert reader.claims(bare, bare.read_bytes()[:4096])
    assert reader.claims(path.parent, b"")
    assert not reader.claims(tmp_path / "empty", b"")
    assert not reader.claims(tmp_path / "text", b"")
    assert not reader.claims(tmp_path / "slide.svs", b"II*\0" + bytes(500))
    assert reader.read(tmp_path / "text") is None
    assert reader.read(tmp_path / "empty") is None
