"""The one way in: what is refused and how, which reader is asked, which files of a folder are slides."""

from __future__ import annotations

import os
import random
from pathlib import Path

import imagecodecs
import pytest

from tests import tiffs
from wsistore.errors import BrokenError, InputError, Kind, MissingError, UnsupportedError, WsistoreError
from wsistore.slides.registry import READERS, find_slides, open_source


def refused(path: Path, error: type[WsistoreError], kind: Kind, words: str = "") -> None:
    with pytest.raises(error) as caught:
        open_source(path)
    assert caught.value.kind is kind
    assert str(path) in caught.value.message
    assert words in caught.value.message
    assert caught.value.remedy


def test_readers_in_their_order() -> None:
    names = [reader.name for reader in READERS]
    assert names == [
        "DICOM", "Hamamatsu NDPI", "Aperio SVS", "OME-TIFF", "generic tiled TIFF", "OpenSlide or tifffile",
    ]  # fmt: skip


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "none.svs", MissingError, Kind.PATH_MISSING)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.touch()
    refused(path, BrokenError, Kind.SOURCE_EMPTY, "empty")


def test_a_file_of_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(bytes(100_000))
    refused(path, BrokenError, Kind.SOURCE_TRUNCATED, "zeros")


def test_an_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path, UnsupportedError, Kind.NOT_A_SLIDE)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (imagecodecs.jpeg8_encode(tiffs.tissue(64, 64)), "a JPEG picture"),
        (imagecodecs.png_encode(tiffs.tissue(64, 64)), "a PNG picture"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"%PDF-1.7\n" + bytes(100), "a PDF document"),
        (b"just some text", "no slide format"),
        (b"\x01" + random.Random(1).randbytes(4999), "no slide format"),
    ],
)
def test_other_files_renamed(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(data)
    refused(path, UnsupportedError, Kind.NOT_A_SLIDE, words)


@pytest.mark.parametrize(
    "head", [b"II*\0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0", b"II*\0\xff\xff\xff\xff"]
)
def test_only_the_start_of_a_tiff(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(head)
    with pytest.raises(InputError, match=r"a\.svs"):
        open_source(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(64, 64)])
    path.chmod(0)
    refused(path, InputError, Kind.SOURCE_UNREADABLE)


def test_an_unreadable_file_by_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiffs.write_pyramid(tmp_path / "a.tif", [tiffs.tissue(64, 64)])

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    refused(path, InputError, Kind.SOURCE_UNREADABLE, "Permission denied")


def test_a_device_is_no_slide() -> None:
    refused(Path(os.devnull), InputError, Kind.SOURCE_UNREADABLE)


# --- finding ----------------------------------------------------------------------------------------------------------


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(folder: Path, *, recursive: bool = False) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_slides(folder, recursive=recursive)]


def test_images_by_name_and_by_content(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.svs",
        "a.ndpi",
        "c.TIFF",
        "d.mrxs",
        "photo.jpg",
        "README.md",
        "slides.csv",
        "SHA256SUMS",
        ".hidden.svs",
    )
    tiffs.write_pyramid(tmp_path / "no-ending", [tiffs.tissue(64, 64)])
    assert found(tmp_path) == ["a.ndpi", "b.svs", "c.TIFF", "d.mrxs", "no-ending", "photo.jpg"]


def test_a_file_is_yielded_whatever_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    assert list(find_slides(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]


def test_subfolders_only_when_asked(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "x/b.svs", "x/y/c.svs", ".hidden/d.svs")
    assert found(tmp_path) == ["a.svs"]
    assert found(tmp_path, recursive=True) == ["a.svs", "x/b.svs", "x/y/c.svs"]


def test_links_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.svs")
    (tmp_path / "x" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert found(tmp_path, recursive=True) == ["x/a.svs"]


def test_what_belongs_to_another_slide_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.mrxs", "a/Slidedat.ini", "a/Data.tif", "v.jpg", "map.jpg", "macro.jpg", "photo.jpg")
    (tmp_path / "v.vms").write_text(
        "[Virtual Microscope Specimen]\nImageFile=v.jpg\nMapFile=map.jpg\nMacroImage=macro.jpg\n"
    )
    assert found(tmp_path, recursive=True) == ["a.mrxs", "photo.jpg", "v.vms"]


def test_a_file_that_promises_dicom_and_is_none_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.dcm", "b.svs")
    assert found(tmp_path) == ["b.svs", "a.dcm"]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        list(find_slides(tmp_path / "none"))
