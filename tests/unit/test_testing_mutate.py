"""Bad and odd files: each differs from its model in exactly what its name says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from wsistore.errors import BrokenError, StorageError
from wsistore.testing import mutate
from wsistore.testing.encode import segments
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import tissue


def opened(path: Path) -> Any:
    """Return the file; without types, since its pages may be of two."""
    return tifffile.TiffFile(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    levels = pyramid(tissue(500, 600, seed=4), 4, 2)
    return write_svs(tmp_path_factory.mktemp("model") / "model.svs", levels, tile=256)


@pytest.fixture(autouse=True)
def _model_stays_as_it_is(model: Path) -> object:
    before = model.read_bytes()
    yield
    assert model.read_bytes() == before


def table(path: Path, page: int = 0) -> list[tuple[int, int]]:
    with opened(path) as tiff:
        one = tiff.pages[page]
        return list(zip(one.dataoffsets, one.databytecounts, strict=True))


def pixels(path: Path) -> np.ndarray:
    with opened(path) as tiff:
        return tiff.pages[0].asarray()


@pytest.mark.parametrize("at", [0, 1, 1000, -1])
def test_truncated(model: Path, tmp_path: Path, at: int) -> None:
    out = mutate.truncated(model, tmp_path / "a.svs", at)

    assert out.read_bytes() == model.read_bytes()[:at]


def test_zero_length(tmp_path: Path) -> None:
    assert mutate.zero_length(tmp_path / "a.svs").stat().st_size == 0


def test_jpeg_renamed(tmp_path: Path) -> None:
    out = mutate.jpeg_renamed(tmp_path / "a.svs")

    assert out.read_bytes()[:3] == b"\xff\xd8\xff"
    with pytest.raises(tifffile.TiffFileError):
        tifffile.TiffFile(out)


@pytest.mark.parametrize("at", [0, 77, -1])
def test_flipped_changes_one_byte(model: Path, tmp_path: Path, at: int) -> None:
    before = model.read_bytes()
    after = mutate.flipped(model, tmp_path / "a.svs", at % len(before)).read_bytes()

    assert [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [at % len(before)]
    assert after[at] == before[at] ^ 0xFF


def test_tile_offset_past_end(model: Path, tmp_path: Path) -> None:
    out = mutate.tile_offset_past_end(model, tmp_path / "a.svs", 2)

    before, after = table(model), table(out)
    assert after[2][0] > out.stat().st_size == model.stat().st_size
    assert [one for n, one in enumerate(after) if n != 2] == [one for n, one in enumerate(before) if n != 2]


def test_tile_offset_past_end_of_another_page(model: Path, tmp_path: Path) -> None:
    out = mutate.tile_offset_past_end(model, tmp_path / "a.svs", 0, page=2)

    assert table(out, 2)[0][0] > out.stat().st_size
    assert table(out) == table(model)


def test_shared_offsets_show_the_same_tile_twice(model: Path, tmp_path: Path) -> None:
    out = mutate.shared_offsets(model, tmp_path / "a.svs", (0, 4))

    after = table(out)
    assert after[4] == after[0] == table(model)[0]
    assert np.array_equal(pixels(out)[256:500, 256:512], pixels(model)[:244, :256])


def test_overlapping_tiles_show_the_same_pixels(model: Path, tmp_path: Path) -> None:
    out = mutate.overlapping(model, tmp_path / "a.svs", 1)

    after = table(out)
    assert after[2][0] < after[1][0] + after[1][1] < after[2][0] + after[2][1]
    assert np.array_equal(pixels(out), pixels(model))


def test_padding_changes_no_pixel(model: Path, tmp_path: Path) -> None:
    out = mutate.padded(model, tmp_path / "a.svs", 3, padding=b"\0\xff padding")

    offset, count = table(out)[3]
    assert offset + count == out.stat().st_size
    assert out.read_bytes()[offset : offset + count].endswith(b"\xff\xd9\0\xff padding")
    assert np.array_equal(pixels(out), pixels(model))


def test_sparse_tiles_are_missing(model: Path, tmp_path: Path) -> None:
    out = mutate.sparse(model, tmp_path / "a.svs", [0, 5])

    assert [n for n, one in enumerate(table(out)) if one == (0, 0)] == [0, 5]
    assert np.array_equal(pixels(out)[:256, 256:], pixels(model)[:256, 256:])


@pytest.mark.parametrize("overriding", [False, True])
def test_tiles_of_differing_tables_are_legal(tmp_path: Path, overriding: bool) -> None:
    picture = tissue(512, 768, seed=9)
    out = mutate.tiles_of_differing_tables(tmp_path / "a.tiff", overriding=overriding, picture=picture)

    data = out.read_bytes()
    tables = []
    for offset, count in table(out):
        tables.append(tuple(part for marker, part in segments(data[offset : offset + count]) if marker == 0xDB))
    assert len(set(tables)) == (2 if overriding else 3)
    assert (() in tables) is overriding
    with opened(out) as tiff:
        assert (347 in tiff.pages[0].tags) is overriding
    assert np.abs(pixels(out).astype(int) - picture).mean() < 6
    with openslide.OpenSlide(out) as slide:
        seen = np.asarray(slide.read_region((0, 0), 0, (768, 512)).convert("RGB"), int)
    assert np.abs(seen - pixels(out)).mean() < 0.6


@pytest.mark.parametrize("tiles", ["few", "claimed"])
def test_a_bomb_is_small_and_declares_much(tmp_path: Path, tiles: str) -> None:
    out = mutate.bomb(tmp_path / "a.svs", tiles=tiles)  # type: ignore[arg-type]

    data = out.read_bytes()
    assert 500 < len(data) < 2500
    assert data[:4] == b"II+\0"
    at = int.from_bytes(data[8:16], "little")
    count = int.from_bytes(data[at : at + 8], "little")
    entries = {}
    for number in range(count):
        entry = data[at + 8 + 20 * number :][:20]
        entries[int.from_bytes(entry[:2], "little")] = (
            int.from_bytes(entry[4:12], "little"),
            int.from_bytes(entry[12:], "little"),
        )
    assert sorted(entries) == list(entries)
    assert entries[256] == entries[257] == (1, 2**31)
    assert entries[324][0] == (2 if tiles == "few" else 2**46)
    if tiles == "few":
        with opened(out) as tiff:
            assert tiff.pages[0].shape == (2**31, 2**31, 3)


def test_dicom_without(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    for name in "cab":
        (folder / f"{name}.dcm").write_text(name)
    out = mutate.dicom_without(folder, tmp_path / "out", 1)

    assert {one.name: one.read_text() for one in out.iterdir()} == {"a.dcm": "a", "c.dcm": "c"}


def test_mixed_series_keeps_all_under_names_of_their_own(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "level-0.dcm").write_text(folder.name)
    out = mutate.mixed_series(folders, tmp_path / "out")

    assert {one.name: one.read_text() for one in out.iterdir()} == {"0-level-0.dcm": "one", "1-level-0.dcm": "two"}


def test_a_model_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        mutate.truncated(tmp_path / "nowhere.svs", tmp_path / "a.svs", 3)
    with pytest.raises(BrokenError, match="empty"):
        mutate.sparse(mutate.zero_length(tmp_path / "empty.svs"), tmp_path / "b.svs")
    with pytest.raises(StorageError, match="nowhere"):
        mutate.dicom_without(tmp_path / "nowhere", tmp_path / "out", 0)
