"""Made-up slides of every kind in the store: the pixels of each tile, the bytes of each file, odd but legal layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

from tests.store_kit import PLACE, Stored, check_pixels, store, stored_chunks
from wsistore.compress.extents import map_source
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_file import open_view
from wsistore.compress.verify import verify_copy
from wsistore.model import Mode
from wsistore.slides.base import Codec, Color
from wsistore.slides.icc import shareable
from wsistore.testing import mutate
from wsistore.testing.dicom import write_series
from wsistore.testing.ndpi import write_ndpi
from wsistore.testing.pictures import label_image, pyramid, srgb_profile
from wsistore.testing.tiffs import write_flat_tiff, write_generic_tiff, write_ome_tiff, write_svs
from wsistore.testing.tissue import tissue

Pixels = npt.NDArray[Any]
Maker = Callable[[Path], Path]


def levels(height: int = 500, width: int = 700, count: int = 2) -> list[Pixels]:
    return list(pyramid(tissue(height, width, seed=21), 2, count))


def wide(picture: Pixels) -> Pixels:
    """Return a picture in 16 bits."""
    ramp = np.arange(picture.shape[1], dtype=np.uint16)
    return picture.astype(np.uint16) * 257 - (ramp if picture.ndim == 2 else ramp[:, None])


def generic(name: str, **options: Any) -> Maker:
    return lambda folder: write_generic_tiff(folder / name, levels(), tile=(128, 96 + 32), **options)


def grey(name: str, dtype: str = "uint8", **options: Any) -> Maker:
    def make(folder: Path) -> Path:
        planes = [one[..., 1] for one in levels()]
        return write_generic_tiff(folder / name, planes if dtype == "uint8" else [wide(p) for p in planes], **options)

    return make


def dicom(**layout: Any) -> Maker:
    def make(folder: Path) -> Path:
        write_series(folder / "series", levels(), label=label_image("PATIENT-0001"), **layout)
        return folder / "series"

    return make


def changed(change: Callable[..., Path], *arguments: Any) -> Maker:
    def make(folder: Path) -> Path:
        good = write_svs(folder / "good.svs", levels(), tile=128)
        return change(good, folder / "odd.svs", *arguments)

    return make


TILES: dict[str, tuple[Maker, Codec]] = {
    "svs-420": (lambda f: write_svs(f / "a.svs", levels(), tile=128, icc=srgb_profile()), Codec.JPEG),
    "svs-422": (lambda f: write_svs(f / "a.svs", levels(), tile=128, subsampling=(2, 1)), Codec.JPEG),
    "svs-rgb": (lambda f: write_svs(f / "a.svs", levels(), tile=240, color="rgb"), Codec.JPEG),
    "svs-tables-in-tiles": (lambda f: write_svs(f / "a.svs", levels(), shared_tables=False), Codec.JPEG),
    "svs-33003": (lambda f: write_svs(f / "a.svs", levels(), codec="jp2k-33003"), Codec.JPEG2000),
    "svs-33005": (lambda f: write_svs(f / "a.svs", levels(), codec="jp2k-33005"), Codec.JPEG2000),
    "svs-big": (lambda f: write_svs(f / "a.svs", levels(), bigtiff=True), Codec.JPEG),
    "jpeg-subifds": (generic("a.tiff", subifds=True), Codec.JPEG),
    "jpeg-grey": (grey("a.tiff"), Codec.JPEG),
    "webp": (generic("a.tiff", codec="webp"), Codec.WEBP),
    "lzw-predictor": (generic("a.tiff", codec="lzw", predictor=True), Codec.LZW),
    "lzw-big-endian": (generic("a.tiff", codec="lzw", byteorder=">"), Codec.LZW),
    "deflate": (generic("a.tiff", codec="deflate"), Codec.DEFLATE),
    "none": (generic("a.tiff", codec="none"), Codec.NONE),
    "grey-16-lzw-predictor": (grey("a.tiff", "uint16", codec="lzw", predictor=True), Codec.LZW),
    "grey-16-deflate-predictor-big-endian": (
        grey("a.tiff", "uint16", codec="deflate", predictor=True, byteorder=">"), Codec.DEFLATE
    ),
    "grey-16-none-big-endian": (grey("a.tiff", "uint16", codec="none", byteorder=">"), Codec.NONE),
    "missing-tiles": (generic("a.tiff", missing_tiles=[(0, 0), (1, 2), (3, 3)]), Codec.JPEG),
    "ome-jpeg2000": (lambda f: write_ome_tiff(f / "a.ome.tiff", levels()), Codec.JPEG2000),
    "ome-jpeg": (lambda f: write_ome_tiff(f / "a.ome.tiff", levels(), codec="jpeg"), Codec.JPEG),
    "ndpi-420-narrow": (lambda f: write_ndpi(f / "a.ndpi", levels(512, 768), restart_mcus=8), Codec.JPEG_STRIPS),
    "ndpi-420": (lambda f: write_ndpi(f / "a.ndpi", levels(500, 700)), Codec.JPEG_STRIPS),
    "ndpi-422": (lambda f: write_ndpi(f / "a.ndpi", levels(512, 768), subsampling="422"), Codec.JPEG_STRIPS),
    "ndpi-444-dark": (
        lambda f: write_ndpi(f / "a.ndpi", levels(), subsampling="444", content="fluorescence"), Codec.JPEG_STRIPS
    ),
    "dicom-jpeg": (dicom(), Codec.JPEG),
    "dicom-fragments": (dicom(fragments_per_frame=3), Codec.JPEG),
    "dicom-no-offsets": (dicom(offset_table="empty"), Codec.JPEG),
    "dicom-extended-offsets": (dicom(offset_table="extended"), Codec.JPEG),
    "dicom-sparse": (dicom(sparse=True), Codec.JPEG),
    "dicom-concatenated": (dicom(concatenation=3), Codec.JPEG),
    "dicom-jpeg2000": (dicom(codec="jpeg2000"), Codec.JPEG2000),
    "dicom-native": (dicom(codec="none"), Codec.NONE),
    "dicom-native-planar": (dicom(codec="none", planar=True, implicit=True), Codec.NONE),
    "shared-offsets": (changed(mutate.shared_offsets, (0, 5)), Codec.JPEG),
    "sparse": (changed(mutate.sparse, (0, 7)), Codec.JPEG),
    "padded": (changed(mutate.padded), Codec.JPEG),
    "hidden-bytes-behind-a-tile": (
        changed(lambda good, out: mutate.padded(good, out, padding=b"PATIENT-0001")), Codec.JPEG
    ),
    "no-tile-at-all": (changed(mutate.sparse, range(4 * 6)), Codec.JPEG),
    "differing-tables": (lambda f: mutate.tiles_of_differing_tables(f / "a.tiff"), Codec.JPEG),
    "overriding-tables": (lambda f: mutate.tiles_of_differing_tables(f / "a.tiff", overriding=True), Codec.JPEG),
}  # fmt: skip

WHOLE: dict[str, Maker] = {
    "flat-lzw": lambda f: write_flat_tiff(f / "a.tiff", levels(count=1)[0]),
    "flat-deflate": lambda f: write_flat_tiff(f / "a.tiff", levels(count=1)[0], codec="deflate"),
    "planar-tiff": generic("a.tiff", codec="deflate", planar=True),
    "overlapping": changed(mutate.overlapping),
}


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
