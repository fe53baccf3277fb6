"""Broken, truncated, lying, mixed and foreign DICOM input: an error that names the file, soon, in little memory."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import FileDataset

from tests.unit.dicom_tools import assign, edit, items, picture, put_pixels, read
from wsistore.errors import (
    BrokenError,
    IncompleteError,
    InputError,
    Kind,
    MissingError,
    UnsupportedError,
    WsistoreError,
)
from wsistore.slides.dicom import DicomReader, series_in
from wsistore.testing.dicom import write_series

IMAGE = picture(90, 110)
TILE = (64, 64)
PREAMBLE = bytes(128) + b"DICM"
MIB = 1024 * 1024


def one(folder: Path, **layout: Any) -> Path:
    (path,) = write_series(folder, [IMAGE], tile=TILE, **layout)
    return path


def meta(syntax: str) -> bytes:
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    element = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(value)) + value
    return PREAMBLE + b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<L", len(element)) + element


def error_of(path: Path) -> WsistoreError:
    with pytest.raises(WsistoreError) as caught:
        read(path)
    assert caught.value.remedy
    return caught.value


# --- no DICOM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["file", "folder"])
@pytest.mark.parametrize(
    ("content", "kind", "tree"),
    [
        (b"", Kind.SOURCE_EMPTY, BrokenError),
        (b"not DICOM at all", Kind.UNSUPPORTED_FORMAT, UnsupportedError),
        (b"\xff\xd8\xff\xe0" + bytes(500), Kind.UNSUPPORTED_FORMAT, UnsupportedError),
        (PREAMBLE, Kind.SOURCE_BROKEN, BrokenError),
        (PREAMBLE + b"garbage" * 100, Kind.SOURCE_BROKEN, BrokenError),
        (PREAMBLE + bytes(1000), Kind.SOURCE_BROKEN, BrokenError),
        (PREAMBLE + b"\xff" * 1000, Kind.SOURCE_BROKEN, BrokenError),
        (meta("1.2.840.10008.1.2.1"), Kind.SOURCE_BROKEN, BrokenError),
        (meta("1.2.840.10008.1.2.1") + b"\x99" * 1000, Kind.SOURCE_BROKEN, BrokenError),
        (meta("1.2.840.10008.1.2.1.99") + b"\x99" * 1000, Kind.SOURCE_BROKEN, BrokenError),
    ],
)
def test_what_is_no_dicom(tmp_path: Path, content: bytes, kind: Kind, tree: type, by: str) -> None:
    path = tmp_path / "slide.dcm"
    path.write_bytes(content)

    error = error_of(path if by == "file" else tmp_path)

    assert isinstance(error, tree)
    assert error.kind is kind
    assert "slide.dcm" in error.message


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"gone\.dcm") as caught:
        read(tmp_path / "gone.dcm")
    assert caught.value.kind is Kind.PATH_MISSING
    with pytest.raises(MissingError, match="nowhere"):
        series_in(tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    path = one(tmp_path)
    path.chmod(0)

    assert error_of(tmp_path).kind is Kind.SOURCE_UNREADABLE


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = one(tmp_path)
    plain_open = Path.open

    def failing(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == path:
            raise OSError(5, "Input/output error")
        return plain_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)

    error = error_of(path)
    assert error.kind is Kind.SOURCE_UNREADABLE
    assert "level-0.dcm" in error.message
    assert "Input/output error" in error.message


# --- no slide ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LABEL", "OVERVIEW", "THUMBNAIL"])
def test_a_label_alone_is_no_slide(tmp_path: Path, kind: str) -> None:
    assign(one(tmp_path), ImageType=["ORIGINAL", "PRIMARY", kind, "NONE"])

    with pytest.raises(UnsupportedError, match=f"only a {kind.lower()}; a slide needs its VOLUME images") as caught:
        read(tmp_path)
    assert caught.value.kind is Kind.NOT_A_SLIDE


@pytest.mark.parametrize("word", ["SpecimenLabelInImage", "BurnedInAnnotation"])
def test_a_volume_that_shows_an_identity_is_refused(tmp_path: Path, word: str) -> None:
    path = one(tmp_path)
    assign(path, **{word: "YES"})

    with pytest.raises(UnsupportedError, match=r"level-0\.dcm cannot become a level .* is YES") as caught:
        read(tmp_path)
    assert caught.value.kind is Kind.NOT_A_SLIDE
    assert "OVERVIEW" in caught.value.remedy
    assign(path, ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"])
    with pytest.raises(UnsupportedError, match="only a label"):
        read(tmp_path)


@pytest.mark.parametrize("kinds", [["ORIGINAL", "PRIMARY"], ["ORIGINAL", "PRIMARY", ""], []])
@pytest.mark.parametrize("label", ["YES", ""])
def test_what_does_not_say_that_it_shows_the_specimen_is_refused(tmp_path: Path, kinds: list[str], label: str) -> None:
    assign(one(tmp_path), ImageType=kinds, SpecimenLabelInImage=label)

    with pytest.raises(UnsupportedError, match="Image Type does not say") as caught:
        read(tmp_path)
    assert caught.value.kind is Kind.NOT_A_SLIDE


def test_many_frames_that_surely_show_no_label_are_a_level(tmp_path: Path) -> None:
    assign(one(tmp_path), ImageType=["ORIGINAL", "PRIMARY"])

    assert len(read(tmp_path).levels) == 1


def test_another_kind_of_image_is_no_slide(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage

    path = edit(one(tmp_path), change)

    with pytest.raises(UnsupportedError, match="CT Image Storage") as caught:
        read(path)
    assert caught.value.kind is Kind.NOT_A_SLIDE
    assert series_in(tmp_path) == {}


def test_a_directory_is_no_slide(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage

    path = edit(one(tmp_path), change)

    assert error_of(path).kind is Kind.NOT_A_SLIDE
    assert DicomReader().read(tmp_path) is None


# --- mixed ------------------------------------------------------------------------------------------------------------


def test_mixed_series_are_refused_by_name(tmp_path: Path) -> None:
    write_series(tmp_path / "a", [IMAGE], tile=TILE, seed=1)[0].rename(tmp_path / "a.dcm")
    write_series(tmp_path / "b", [IMAGE], tile=TILE, seed=2)[0].rename(tmp_path / "b.dcm")

    with pytest.raises(IncompleteError) as caught:
        read(tmp_path)

    assert caught.value.kind is Kind.SOURCE_MIXED
    for name in ("a.dcm", "b.dcm"):
        assert name in caught.value.message
        assert str(pydicom.dcmread(tmp_path / name, stop_before_pixels=True).SeriesInstanceUID) in caught.value.message


def test_different_files_of_one_instance_are_refused(tmp_path: Path) -> None:
    path = one(tmp_path)
    (tmp_path / "other.dcm").write_bytes(path.read_bytes() + bytes(2))

    with pytest.raises(IncompleteError, match="different files of the same instance") as caught:
        read(tmp_path)
    assert caught.value.kind is Kind.SOURCE_MIXED


@pytest.mark.parametrize(("keyword", "what"), [("PatientID", "patient"), ("ContainerIdentifier", "container")])
def test_two_identities_in_one_series_are_refused(tmp_path: Path, keyword: str, what: str) -> None:
    write_series(tmp_path, [IMAGE, IMAGE[::2, ::2]], tile=TILE)
    assign(tmp_path / "level-1.dcm", **{keyword: "ANOTHER-0002"})

    with pytest.raises(IncompleteError, match=f"different {what}s") as caught:
        read(tmp_path)
    assert caught.value.kind is Kind.SOURCE_MIXED


# --- truncated --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["jpeg", "none"])
def test_every_truncation_is_told(tmp_path: Path, codec: str) -> None:
    path = one(tmp_path, codec=codec)
    whole = path.read_bytes()
    pixels = whole.index(b"\xe0\x7f\x10\x00")
    # The last eight bytes of compressed data are only the mark at the end, without which nothing is lost.
    complete = len(whole) - (8 if codec == "jpeg" else 0)
    for length in [*range(0, pixels, 97), *range(pixels, complete, 1009), complete - 1]:
        path.write_bytes(whole[:length])

        error = error_of(tmp_path)

        assert isinstance(error, InputError)
        assert "level-0.dcm" in error.message
        if length > pixels + 12:
            assert error.kind is Kind.SOURCE_TRUNCATED


def test_a_truncated_instance_of_another_coding_is_told(tmp_path: Path) -> None:
    path = one(tmp_path, codec="rle")
    path.write_bytes(path.read_bytes()[:-100])

    assert error_of(tmp_path).kind is Kind.SOURCE_TRUNCATED


# --- lying ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"TotalPixelMatrixRows": 2**31, "TotalPixelMatrixColumns": 2**31, "NumberOfFrames": 1},
        {"TotalPixelMatrixRows": 2**32 - 1, "TotalPixelMatrixColumns": 1, "NumberOfFrames": 1},
        {"TotalPixelMatrixRows": 2**22, "TotalPixelMatrixColumns": 2**22, "Rows": 1, "Columns": 1},
        {"TotalPixelMatrixRows": 2**31, "Rows": 65535, "NumberOfFrames": 1},
        {"NumberOfFrames": 2**31 - 1},
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_bombs_are_refused_in_little_memory(tmp_path: Path, values: dict[str, int], sparse: bool) -> None:
    assign(one(tmp_path, sparse=sparse), **values)

    tracemalloc.start()
    try:
        error = error_of(tmp_path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert error.kind is Kind.SOURCE_IMPLAUSIBLE
    assert peak_bytes < 8 * MIB


@pytest.mark.parametrize(
    "values",
    [
        {"Rows": 0},
        {"Columns": 0},
        {"NumberOfFrames": 0},
        {"NumberOfFrames": -5},
        {"SamplesPerPixel": 0},
        {"BitsAllocated": 0},
        {"Rows": None},
        {"SamplesPerPixel": None},
        {"NumberOfFrames": 2},
        {"SeriesInstanceUID": None},
        {"SOPInstanceUID": None},
    ],
    ids=str,
)
def test_numbers_that_cannot_be_are_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    assign(one(tmp_path), **values)

    error = error_of(tmp_path)

    assert isinstance(error, BrokenError)
    assert "level-0.dcm" in error.message


def test_the_wrong_transfer_syntax_is_told(tmp_path: Path) -> None:
    path = one(tmp_path, codec="none")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    assert "do not lie in items" in error_of(tmp_path).message

    path = one(tmp_path, codec="rle")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"))
    assert "lie in items" in error_of(tmp_path).message


def test_frames_that_are_no_pictures_are_told(tmp_path: Path) -> None:
    path = one(tmp_path)
    put_pixels(path, items(*[b"no picture" * 20] * 4))
    assert "frame 1 does not start as a JPEG" in error_of(tmp_path).message

    put_pixels(path, items(*[b"\xff\xd8\xff\xe0"] * 4))
    assert "frame 1 ends inside its JPEG header" in error_of(tmp_path).message


def test_something_else_between_fragments_is_told(tmp_path: Path) -> None:
    path = one(tmp_path)
    put_pixels(path, items(end=False) + b"\x08\x00\x18\x00" + struct.pack("<L", 4) + bytes(100))

    assert "00080018 instead of an item" in error_of(tmp_path).message


# --- hostile ----------------------------------------------------------------------------------------------------------


def _deflated(data: bytes) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


LONG = struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 0xFFFFFFF0)
NESTED = struct.pack("<HH2sHL", 0x0009, 0x1001, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
HOSTILE: dict[str, Callable[[], bytes]] = {
    "a value of 4 GiB": lambda: meta("1.2.840.10008.1.2.1") + LONG + bytes(1000),
    "a value of 4 GiB in the file meta information": lambda: (
        PREAMBLE + struct.pack("<HH2sHL", 0x0002, 0x0102, b"OB", 0, 0xFFFFFFF0) + bytes(1000)
    ),
    "sequences nested without end": lambda: meta("1.2.840.10008.1.2.1") + NESTED * 20_000,
    "a value without end": lambda: (
        meta("1.2.840.10008.1.2.1") + struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 0xFFFFFFFF) + bytes(40 * MIB)
    ),
    "a deflated gigabyte": lambda: meta("1.2.840.10008.1.2.1.99") + _deflated(bytes(256 * MIB)) * 4,
    "many elements": lambda: meta("1.2.840.10008.1.2.1") + b"\x09\x00\x01\x10LO\x00\x00" * 100_000,
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused_in_time(tmp_path: Path, name: str) -> None:
    path = tmp_path / "slide.dcm"
    path.write_bytes(HOSTILE[name]())

    assert "slide.dcm" in error_of(path).message


@pytest.mark.parametrize("name", [name for name in HOSTILE if "value" in name])
def test_long_values_are_not_loaded(tmp_path: Path, name: str) -> None:
    path = tmp_path / "slide.dcm"
    path.write_bytes(HOSTILE[name]())

    tracemalloc.start()
    try:
        error_of(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 80 * MIB


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "item",
    [b"\xfe\xff\x00\xe0\0\0\0\0", b"\xfe\xff\x00\xe0\x08\0\0\0\x11\x00\x01\x10LO\0\0"],
    ids=["empty items", "tiny items"],
)
def test_a_sequence_of_countless_items_is_refused_in_time(tmp_path: Path, item: bytes) -> None:
    path = one(tmp_path)
    whole = path.read_bytes()
    at = whole.index(b"\x08\x00\x60\x00CS")
    body = item * (7 * MIB // len(item))
    path.write_bytes(whole[:at] + struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, len(body)) + body + whole[at:])

    assert error_of(tmp_path).kind is Kind.SOURCE_IMPLAUSIBLE


def test_positions_nested_without_end_are_refused(tmp_path: Path) -> None:
    path = one(tmp_path, sparse=True)
    whole = path.read_bytes()
    groups = struct.pack("<HH2sH", 0x5200, 0x9230, b"SQ", 0)
    at = whole.index(groups)
    inner = struct.pack("<HH2sHL", 0x0048, 0x021A, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(whole[:at] + groups + b"\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inner * 20_000)

    assert "nested too deeply" in error_of(tmp_path).message


def test_a_long_private_value_is_passed_over(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.private_block(0x0011, "MADE-UP", create=True).add_new(1, "OB", bytes(12 * MIB))

    edit(one(tmp_path), change)
    tracemalloc.start()
    try:
        source = read(tmp_path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert source.levels[0].segments.size == 4
    assert peak_bytes < 10 * MIB


def test_many_positions_are_read_in_little_memory(tmp_path: Path) -> None:
    """The functional groups of 1 500 frames take pydicom more than 10 MB; one by one they take next to nothing."""
    write_series(tmp_path, [picture(30, 50)], tile=(1, 1), sparse=True, codec="none")

    tracemalloc.start()
    try:
        source = read(tmp_path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert source.levels[0].segments.size == 1500
    assert peak_bytes < 2 * MIB
