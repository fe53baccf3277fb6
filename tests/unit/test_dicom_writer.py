"""The writer of made-up DICOM slides: deterministic, and what other libraries accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pydicom
import pytest
from pydicom.encaps import generate_frames

from tests.unit.dicom_tools import picture
from wsistore.testing.dicom import write_series
from wsistore.testing.dicomframes import code_frames

IMAGE = picture(150, 170)
LEVELS = [IMAGE, IMAGE[::2, ::2]]
LABEL = picture(40, 50, 1)
TILE = (64, 64)


def contents(paths: list[Path]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("layout", [{}, {"codec": "jpeg2000"}, {"sparse": True, "concatenation": 2}], ids=str)
def test_same_arguments_same_bytes(tmp_path: Path, layout: dict[str, Any]) -> None:
    first = contents(write_series(tmp_path / "a", LEVELS, tile=TILE, label=LABEL, **layout))
    second = contents(write_series(tmp_path / "b", LEVELS, tile=TILE, label=LABEL, **layout))

    assert first == second


def test_another_seed_is_another_series(tmp_path: Path) -> None:
    (first,) = write_series(tmp_path / "a", [IMAGE], tile=TILE, seed=1)
    (second,) = write_series(tmp_path / "b", [IMAGE], tile=TILE, seed=2)

    one, two = pydicom.dcmread(first), pydicom.dcmread(second)
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert one.PixelData == two.PixelData


@pytest.mark.parametrize(
    "layout",
    [
        {"codec": "jpeg"},
        {"codec": "jpeg", "photometric": "RGB"},
        {"codec": "jpeg", "offset_table": "empty"},
        {"codec": "jpeg", "offset_table": "extended"},
        {"codec": "jpeg", "fragments_per_frame": 3},
        {"codec": "jpeg", "sparse": True},
        {"codec": "jpeg2000"},
        {"codec": "jpeg2000-lossy"},
        {"codec": "none"},
    ],
    ids=str,
)
def test_openslide_opens_it(tmp_path: Path, layout: dict[str, Any]) -> None:
    paths = write_series(tmp_path, LEVELS, tile=TILE, label=LABEL, um_per_px=0.25, magnification=40, **layout)

    with openslide.OpenSlide(paths[0]) as slide:
        assert slide.level_dimensions == ((170, 150), (85, 75))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert float(slide.properties["openslide.objective-power"]) == 40
        assert slide.associated_images["label"].size == (50, 40)
        shown = np.asarray(slide.read_region((0, 0), 0, (170, 150)))[..., :3]
    assert np.abs(shown.astype(int) - IMAGE).mean() < 6


def test_pydicom_finds_the_frames(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [IMAGE], tile=TILE, fragments_per_frame=2)

    dataset = pydicom.dcmread(path)

    frames = list(generate_frames(dataset.PixelData, number_of_frames=9))
    expected = code_frames(IMAGE, TILE, "jpeg", None, 85).data
    assert [frame[: len(want)] for frame, want in zip(frames, expected, strict=True)] == expected
    assert dataset.pixel_array.shape == (9, 64, 64, 3)


def test_run_lengths_are_pydicoms(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [IMAGE[:64, :64]], tile=TILE, codec="rle")

    assert np.array_equal(pydicom.dcmread(path).pixel_array, IMAGE[:64, :64])


def test_sparse_series_keep_one_frame(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, [np.full((128, 128, 3), 255, np.uint8)], tile=TILE, sparse=True)

    assert pydicom.dcmread(path).NumberOfFrames == 1
