"""The walk through a TIFF's directories: loops, huge counts, values beyond the file; nothing allocated on its word."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Literal

import pytest

from tests import tiffs
from wsistore.errors import BrokenError, InputError, Kind
from wsistore.slides.registry import open_source
from wsistore.slides.tiffscan import scan


def classic(path: Path, entries: list[tuple[int, int, int, int]], link: int = 0, *, tail: bytes = b"") -> Path:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", link) + tail)
    return path


def refused(path: Path, kind: Kind, words: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BrokenError, match=words) as caught:
            open_source(path)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.kind is kind
    assert str(path) in caught.value.message


def test_a_directory_that_is_its_own_next(tmp_path: Path) -> None:
    refused(classic(tmp_path / "a.tif", [(256, 3, 1, 64)], 8), Kind.SOURCE_BROKEN, "circle")


def test_directories_in_a_circle(tmp_path: Path) -> None:
    path = classic(tmp_path / "a.tif", [(256, 3, 1, 64)], 26, tail=struct.pack("<HI", 0, 8))
    refused(path, Kind.SOURCE_BROKEN, "circle")


def test_a_subifd_that_points_back(tmp_path: Path) -> None:
    refused(classic(tmp_path / "a.tif", [(330, 4, 1, 8)]), Kind.SOURCE_BROKEN, "circle")


def test_a_tag_with_more_values_than_the_file_has_bytes(tmp_path: Path) -> None:
    for count in (1 << 31, (1 << 32) - 1):
        path = classic(tmp_path / "a.tif", [(256, 3, 1, 64), (324, 4, count, 8)])
        refused(path, Kind.SOURCE_IMPLAUSIBLE, "tag 324")


def test_too_many_directories_below(tmp_path: Path) -> None:
    path = classic(tmp_path / "a.tif", [(330, 4, 5000, 40)], tail=bytes(30_000))
    refused(path, Kind.SOURCE_IMPLAUSIBLE, "5000 directories")


def test_a_directory_with_too_many_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\x08\0\0\0" + b"\xff\xff" + bytes(1_000_000))
    refused(path, Kind.SOURCE_IMPLAUSIBLE, "65535 tags")


def test_a_big_tiff_with_too_many_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 1 << 62) + bytes(100))
    refused(path, Kind.SOURCE_IMPLAUSIBLE, "tags")


@pytest.mark.parametrize(
    ("entry", "words"), [((256, 4, 20, 1 << 20), "ends too early"), ((256, 12, 3, 0xFFFFFFF0), "early")]
)
def test_values_beyond_the_end(tmp_path: Path, entry: tuple[int, int, int, int], words: str) -> None:
    refused(classic(tmp_path / "a.tif", [entry], tail=bytes(200)), Kind.SOURCE_TRUNCATED, words)


def test_a_link_beyond_the_end(tmp_path: Path) -> None:
    refused(classic(tmp_path / "a.tif", [(256, 3, 1, 64)], 1 << 20), Kind.SOURCE_TRUNCATED, "ends too early")


def test_no_directory_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + bytes(30))
    refused(path, Kind.SOURCE_BROKEN, "no directory")


def test_a_directory_without_sizes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.tif"):
        open_source(classic(tmp_path / "a.tif", [(305, 3, 1, 64)]))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_what_the_walk_finds(tmp_path: Path, big: bool, order: Literal["<", ">"]) -> None:
    levels = tiffs.halves(tiffs.tissue(128, 128), 3)
    path = tiffs.write_pyramid(tmp_path / "a.tif", levels, sub=True, big=big, order=order)
    found = scan(path, path.stat().st_size)
    assert len(found.directories) == 3
    assert {256, 257, 324, 325, 330} <= found.codes
    assert (found.flavour.big, found.flavour.order) == (big, order)
    assert found.extents[0, 0] == 0
    assert found.extents[:, 1].max() <= path.stat().st_size
