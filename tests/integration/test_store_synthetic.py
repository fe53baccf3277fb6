"""Made-up slides of every kind in the store: the pixels of each tile, the bytes of each file, odd but legal layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.made_slides import TILES, WHOLE, Maker
from tests.store_kit import PLACE, Stored, check_pixels, store, stored_chunks
from wsistore.compress.extents import map_source
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_file import open_view
from wsistore.compress.verify import verify_copy
from wsistore.model import Mode
from wsistore.slides.base import Color
from wsistore.slides.icc import shareable
from wsistore.testing.pictures import srgb_profile


def made(folder: Path, maker: Maker) -> Stored:
    (folder / "source").mkdir()
    return store(maker(folder / "source"), folder / "tier")


def check_whole(stored: Stored) -> None:
    """The copy verifies, and each file reads back as it was."""
    verify_copy(stored.storage, PLACE, stored.draft.objects, stored.draft.files)
    slide = StoredSlide(stored.storage, PLACE)
    mapped = map_source(slide)
    for number, file in enumerate(stored.source.files):
        with open_view(slide, mapped, number) as view:
            assert view.read() == file.path.read_bytes()


@pytest.mark.parametrize("kind", sorted(TILES))
def test_tiles_of_every_kind(kind: str, tmp_path: Path) -> None:
    maker, codec = TILES[kind]
    stored = made(tmp_path, maker)
    assert stored.source.mode is Mode.TILES, stored.source.mode_reason
    assert {level.coding.codec for level in stored.source.levels if level.coding} == {codec}
    for number, level in enumerate(stored.source.levels):
        assert check_pixels(stored, number) == len(np.unique(level.segments["tile"]))
    check_whole(stored)
    with xr.open_datatree(stored.store, engine="zarr", consolidated=False) as tree:
        assert tree["0/image"].dims == ("c", "y", "x")


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_what_has_no_tiles_to_take_is_kept_whole(kind: str, tmp_path: Path) -> None:
    stored = made(tmp_path, WHOLE[kind])
    assert stored.source.mode is Mode.WHOLE
    assert stored.source.mode_reason
    check_whole(stored)
    group = stored.group()
    assert sorted(group) == ["thumbnail"]
    assert group.attrs["wsistore"]["mode"] == "whole"  # type: ignore[index, call-overload]
    assert "ome" not in group.attrs


def test_a_strip_that_is_narrower_than_its_level_makes_columns_of_folds(tmp_path: Path) -> None:
    stored = made(tmp_path, TILES["ndpi-420-narrow"][0])
    level = stored.source.levels[0]
    assert (level.tile_height, level.tile_width) == (16, 128)
    assert len(stored_chunks(stored, 0)) == level.grid[1] * -(-level.height // stored.image(0).chunks[1])
    assert level.coding is not None
    assert level.coding.color is Color.YCBCR


def test_missing_tiles_stay_missing(tmp_path: Path) -> None:
    stored = made(tmp_path, TILES["missing-tiles"][0])
    for number, level in enumerate(stored.source.levels):
        assert {row * level.grid[1] + column for row, column in stored_chunks(stored, number)} == set(
            level.segments["tile"].tolist()
        )
    assert len(stored_chunks(stored, 0)) < np.prod(stored.source.levels[0].grid)
    assert np.all(np.asarray(stored.image(0)[:, :128, :128]) == 255), "what is missing is glass"


def test_what_is_missing_from_a_fluorescence_slide_is_black(tmp_path: Path) -> None:
    stored = made(tmp_path, TILES["ndpi-444-dark"][0])
    assert stored.image(0).fill_value == 0


def test_what_hides_behind_a_tile_goes_into_the_companion(tmp_path: Path) -> None:
    stored = made(tmp_path, TILES["hidden-bytes-behind-a-tile"][0])
    assert b"PATIENT-0001" in stored.source.files[0].path.read_bytes()
    for path in (stored.root / "store").rglob("*"):
        assert not path.is_file() or b"PATIENT-0001" not in path.read_bytes()


def test_a_level_without_any_tile_is_kept(tmp_path: Path) -> None:
    stored = made(tmp_path, TILES["no-tile-at-all"][0])
    assert len(stored.source.levels[0].segments) == 0
    assert not list((stored.store / "0/image").glob("c/**/*"))
    assert np.all(np.asarray(stored.image(0)[:]) == 255)


def test_tiles_that_share_their_bytes_are_stored_twice_and_restored_once(tmp_path: Path) -> None:
    stored = made(tmp_path, TILES["shared-offsets"][0])
    chunks = stored_chunks(stored, 0)
    assert chunks[0, 0] == chunks[divmod(5, stored.source.levels[0].grid[1])]


def test_every_color_profile_and_word_of_the_label_stays_where_it_belongs(tmp_path: Path) -> None:
    stored = made(tmp_path, TILES["svs-420"][0])
    assert np.asarray(stored.group()["icc"][:]).tobytes() == shareable(srgb_profile())  # type: ignore[index]
    for path in (stored.root / "store").rglob("*"):
        assert not path.is_file() or b"SLIDE-0001" not in path.read_bytes()
