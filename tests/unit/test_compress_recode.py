"""Other encodings for export: folds taken apart into single JPEG tiles, and plain pixels; the pixels stay the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from tests.store_kit import PLACE, Stored, store
from wsistore.compress import recode
from wsistore.compress.reader import StoredSlide
from wsistore.errors import UnsupportedError
from wsistore.testing.ndpi import write_ndpi
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_generic_tiff, write_svs
from wsistore.testing.tissue import tissue


def levels() -> list[np.ndarray]:
    return list(pyramid(tissue(320, 384, seed=61), 2, 2))


Maker = Callable[[Path], Path]
NDPI: dict[str, Maker] = {
    "420-narrow": lambda f: write_ndpi(f / "a.ndpi", levels(), restart_mcus=4),
    "420": lambda f: write_ndpi(f / "a.ndpi", levels()),
    "444-dark": lambda f: write_ndpi(f / "a.ndpi", levels(), subsampling="444", content="fluorescence"),
}


def exported(stored: Stored, folder: Path) -> zarr.Group:
    shutil.copytree(stored.store, folder)
    recode.unfold(StoredSlide(stored.storage, PLACE), folder)
    return zarr.open_group(LocalStore(folder), mode="r")


@pytest.mark.parametrize("kind", sorted(NDPI))
@pytest.mark.parametrize("shard_bytes", [32 * 2**20, 40_000])
def test_folds_taken_apart_have_the_same_pixels(
    tmp_path: Path, kind: str, shard_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsistore.compress.levels.SHARD_BYTES", shard_bytes)
    monkeypatch.setattr("wsistore.compress.levels.FOLD_PIXELS", 96 * 384)  # the last fold of a column is not full
    stored = store(NDPI[kind](tmp_path), tmp_path / "tier")
    group = exported(stored, tmp_path / "out")
    for number, level in enumerate(stored.source.levels):
        array = group[f"{number}/image"]
        assert isinstance(array, zarr.Array)
        assert array.chunks == (3, level.tile_height, level.tile_width)
        assert "wsistore.fold" not in str(array.metadata.to_dict())
        assert np.array_equal(array[:], stored.image(number)[:])


def test_a_chunk_of_what_was_taken_apart_is_header_and_data_and_eoi(tmp_path: Path) -> None:
    """So that any reader of `imagecodecs_jpeg` decodes it."""
    stored = store(NDPI["420"](tmp_path), tmp_path / "tier")
    array = exported(stored, tmp_path / "out")["0/image"]
    assert isinstance(array, zarr.Array)
    level = stored.source.levels[0]
    assert level.coding is not None
    assert level.coding.header is not None
    tile, _, offset, length = level.segments[3].tolist()
    with stored.source.files[0].path.open("rb") as file:
        file.seek(offset)
        scan = file.read(length)
    decoded = imagecodecs.jpeg8_decode(level.coding.header + scan + b"\xff\xd9")
    top = tile // level.grid[1] * level.tile_height
    assert np.array_equal(np.moveaxis(np.asarray(array[:, top : top + 16]), 0, -1), decoded[:, : level.width])


@pytest.mark.parametrize("kind", ["svs", "ndpi", "grey-16", "none"])
def test_pixels_written_anew_are_the_same(tmp_path: Path, kind: str) -> None:
    wide = [one[..., 0].astype(np.uint16) * 257 for one in levels()]
    makers: dict[str, Maker] = {
        "svs": lambda f: write_svs(f / "a.svs", levels(), tile=112),
        "ndpi": NDPI["420-narrow"],
        "grey-16": lambda f: write_generic_tiff(f / "a.tiff", wide, codec="lzw"),
        "none": lambda f: write_generic_tiff(f / "a.tiff", levels(), codec="none", missing_tiles=[(0, 1)]),
    }
    stored = store(makers[kind](tmp_path), tmp_path / "tier")
    written: list[int] = []
    recode.write_pixels(stored.group(), tmp_path / "out", written.append)
    group = zarr.open_group(LocalStore(tmp_path / "out"), mode="r")
    assert sorted(group) == sorted(stored.group())
    assert group.attrs.asdict() == stored.group().attrs.asdict()
    total = 0
    for number in range(len(stored.source.levels)):
        array, original = group[f"{number}/image"], stored.image(number)
        assert isinstance(array, zarr.Array)
        assert "imagecodecs" not in str(array.metadata.to_dict())
        assert array.metadata.dimension_names == original.metadata.dimension_names  # type: ignore[union-attr]
        assert array.fill_value == original.fill_value
        assert np.array_equal(array[:], original[:])
        for axis in "yx":
            one, other = group[f"{number}/{axis}"], stored.group()[f"{number}/{axis}"]
            assert np.array_equal(np.asarray(one[:]), np.asarray(other[:]))  # type: ignore[index]
            assert one.attrs.asdict() == other.attrs.asdict()
        total += int(np.prod(original.shape)) * original.dtype.itemsize
    assert sum(written) == total


def test_only_jpeg_is_exported_as_jpeg(tmp_path: Path) -> None:
    jpeg = store(write_svs(tmp_path / "a.svs", levels()), tmp_path / "tier")
    recode.jpeg_only(StoredSlide(jpeg.storage, PLACE))
    other = store(write_svs(tmp_path / "b.svs", levels(), codec="jp2k-33005"), tmp_path / "tier2")
    with pytest.raises(UnsupportedError, match="jpeg2k"):
        recode.jpeg_only(StoredSlide(other.storage, PLACE))
