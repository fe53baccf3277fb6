"""Big slides by repetition: valid, consistent from level to level, bytes of their own, little memory."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from wsistore.errors import BrokenError, StorageError, UnsupportedError
from wsistore.testing.big import write_big_svs
from wsistore.testing.pictures import label_image, macro_image, pyramid
from wsistore.testing.tiffs import write_flat_tiff, write_generic_tiff, write_svs
from wsistore.testing.tissue import tissue


def opened(path: Path) -> Any:
    """Return the file; without types, since its pages may be of two."""
    return tifffile.TiffFile(path)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    levels = pyramid(tissue(1100, 1400, seed=3), 2, 3)
    path = tmp_path_factory.mktemp("template") / "template.svs"
    return write_svs(path, levels, tile=64, label=label_image("CASE-1"), macro=macro_image(levels[2]))


def test_it_is_as_big_as_asked_and_opens(template: Path, tmp_path: Path) -> None:
    path = write_big_svs(tmp_path / "big.svs", template=template, at_least_bytes=5_000_000)

    assert 5_000_000 <= path.stat().st_size < 12_000_000
    with opened(path) as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_svs
        assert [one.name for one in tiff.series] == ["Baseline", "Thumbnail", "Label", "Macro"]
        sides = [level.shape[:2] for level in tiff.series[0].levels]
        height, width = sides[0]
        assert sides == [(height, width), (height // 2, width // 2), (height // 4, width // 4)]
        assert f"{width}x{height} [0,0 {width}x{height}]" in tiff.pages[0].description
        assert f"{width}x{height} -> {width // 2}x{height // 2}" in tiff.pages[2].description
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert slide.level_count == 3
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}


def test_every_tile_has_its_own_place(template: Path, tmp_path: Path) -> None:
    path = write_big_svs(tmp_path / "big.svs", template=template, at_least_bytes=3_000_000)

    runs = []
    with opened(path) as tiff:
        for page in tiff.pages:
            assert len(page.dataoffsets) == len(page.databytecounts)
            runs += list(zip(page.dataoffsets, page.databytecounts, strict=True))
    runs.sort()
    for (offset, count), (following, _) in pairwise(runs):
        assert offset + count <= following
    assert runs[-1][0] + runs[-1][1] <= path.stat().st_size


def test_each_repetition_shows_the_template_on_every_level(template: Path, tmp_path: Path) -> None:
    path = write_big_svs(tmp_path / "big.svs", template=template, at_least_bytes=2_500_000)

    with opened(path) as tiff, opened(template) as model:
        for number, factor in enumerate((1, 2, 4)):
            found = tiff.series[0].levels[number].asarray()
            high, wide = 1100 // 256 * 256 // factor, 1400 // 256 * 256 // factor
            block = model.series[0].levels[number].asarray()[:high, :wide]
            times = (found.shape[0] // high, found.shape[1] // wide)
            assert times[0] * times[1] > 3
            assert np.array_equal(found, np.tile(block, (*times, 1)))


def test_memory_does_not_grow_with_it(template: Path, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        write_big_svs(tmp_path / "big.svs", template=template, at_least_bytes=60_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 20_000_000


def test_missing_tiles_stay_missing(tmp_path: Path) -> None:
    model = write_generic_tiff(tmp_path / "m.tiff", [tissue(200, 200, seed=1)], tile=(64, 64), missing_tiles=[(0, 1)])
    path = write_big_svs(tmp_path / "big.tiff", template=model, at_least_bytes=100_000)

    with opened(path) as tiff:
        page = tiff.pages[0]
        missing = [number for number, count in enumerate(page.databytecounts) if count == 0]
        assert len(missing) == len(page.databytecounts) // 9
        assert all(page.dataoffsets[number] == 0 for number in missing)


def test_the_real_template_repeats(real_slides: Path, tmp_path: Path) -> None:
    model = real_slides / "aperio" / "hpylori-IHC.svs"
    path = write_big_svs(tmp_path / "big.svs", template=model, at_least_bytes=40_000_000)

    with openslide.OpenSlide(path) as slide, openslide.OpenSlide(model) as small:
        height = 96 * 256
        assert slide.level_count == small.level_count
        assert slide.dimensions[1] % height == 0
        for level in range(slide.level_count):
            found = slide.read_region((3000, slide.dimensions[1] - height + 9000), level, (300, 300))
            expected = small.read_region((3000, 9000), level, (300, 300))
            # The template's levels are not exactly a quarter of each other, so places drift by less than a pixel.
            assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).mean() < 4


def test_what_cannot_be_repeated_is_refused(tmp_path: Path) -> None:
    flat = write_flat_tiff(tmp_path / "flat.tiff", tissue(100, 100, seed=1))
    small = write_generic_tiff(tmp_path / "small.tiff", [tissue(100, 100, seed=1)])
    text = tmp_path / "text.svs"
    text.write_text("no TIFF at all")
    for model, error in ((flat, UnsupportedError), (small, UnsupportedError), (text, BrokenError)):
        with pytest.raises(error, match=model.name):
            write_big_svs(tmp_path / "big.svs", template=model, at_least_bytes=1)
    with pytest.raises(StorageError, match="nowhere"):
        write_big_svs(tmp_path / "big.svs", template=tmp_path / "nowhere.svs", at_least_bytes=1)
    assert not (tmp_path / "big.svs").exists()
