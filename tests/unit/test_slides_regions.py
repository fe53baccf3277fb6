"""Pixels of slides that are kept whole: from several threads, while they are closed, within a bounded memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests import tiffs
from wsistore.errors import InputError, UnsupportedError
from wsistore.model import Mode
from wsistore.slides import regions
from wsistore.slides.pixels import Rgb
from wsistore.slides.regions import WholeReader
from wsistore.slides.registry import open_source
from wsistore.slides.tiffregions import TiffRegions

PICTURE = tiffs.tissue(1024, 512)


@pytest.fixture(params=["zlib", None])
def flat(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, PICTURE, rowsperstrip=16, compression=request.param, photometric="rgb", metadata=None)
    return path


def test_threads_that_share_a_reader_get_the_right_pixels(flat: Path) -> None:
    boxes = [(y, x) for y in range(0, 1024, 64) for x in range(0, 512, 64)] * 4
    with WholeReader(flat) as reader, ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda box: reader.read_region(0, box[0], box[1], 64, 64), boxes)
        for (y, x), pixels in zip(boxes, found, strict=True):
            np.testing.assert_array_equal(pixels, PICTURE[y : y + 64, x : x + 64])


def test_a_reader_may_be_closed_while_others_read(flat: Path) -> None:
    reader = WholeReader(flat)
    messages: list[str] = []

    def read(place: int) -> bool:
        try:
            pixels = reader.read_region(0, 0, 0, 1024, 512)
        except InputError as error:
            messages.append(error.message)
            return False
        np.testing.assert_array_equal(pixels, PICTURE)
        if place == 5:
            reader.close()
        return True

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(read, range(40)))
    assert done[5]
    assert not read(0)
    assert all("was closed" in message for message in messages)
    reader.close()


def test_a_thumbnail_is_the_same_band_by_band(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.asarray(Image.fromarray(PICTURE).resize((50, 101), Image.Resampling.BOX))
    monkeypatch.setattr(regions, "_BAND_PIXELS", 512 * 37)
    sizes: list[int] = []
    with WholeReader(flat) as reader:
        read = reader.read_region

        def watched(level: int, y: int, x: int, height: int, width: int) -> Rgb:
            sizes.append(height)
            return read(level, y, x, height, width)

        monkeypatch.setattr(reader, "read_region", watched)
        found = reader.read_thumbnail(101)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert max(sizes) <= 40
    assert sum(sizes) >= 1024


def test_pieces_too_large_for_a_thumbnail_are_left_until_somebody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, PICTURE, rowsperstrip=1024, compression="zlib", photometric="rgb", metadata=None)
    monkeypatch.setattr(regions, "_MOST_PIECE_BYTES", PICTURE.nbytes - 1)
    asked: list[int] = []
    read = TiffRegions.read_region

    def watched(self: TiffRegions, level: int, y: int, x: int, height: int, width: int) -> Rgb:
        asked.append(height)
        return read(self, level, y, x, height, width)

    monkeypatch.setattr(TiffRegions, "read_region", watched)
    assert open_source(path).mode is Mode.WHOLE
    with WholeReader(path) as reader:
        with pytest.raises(UnsupportedError, match=r"flat\.tif .* too large for a thumbnail"):
            reader.read_thumbnail(100)
        assert not asked
        np.testing.assert_array_equal(reader.read_region(0, 0, 0, 1024, 512), PICTURE)
