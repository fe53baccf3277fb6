"""Synthetic tissue: right shape, the same for a seed, and what a stained section has."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.testing.pictures import label_image, macro_image, pyramid
from wsistore.testing.tissue import Stain, tissue

STAINS: list[Stain] = ["he", "ihc", "dapi"]


@settings(max_examples=15)  # each draws a picture
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32), st.sampled_from(STAINS))
def test_any_size_and_seed_gives_a_picture_of_that_size(height: int, width: int, seed: int, stain: Stain) -> None:
    image = tissue(height, width, seed=seed, stain=stain)

    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8


def test_the_same_seed_gives_the_same_picture_and_another_seed_another() -> None:
    first = tissue(400, 350, seed=7)

    assert np.array_equal(first, tissue(400, 350, seed=7))
    assert not np.array_equal(first, tissue(400, 350, seed=8))


@pytest.mark.parametrize("seed", range(4))
def test_brightfield_has_glass_around_tissue_and_nuclei_in_it(seed: int) -> None:
    image = tissue(1024, 1280, seed=seed).astype(int)
    brightness = image.sum(axis=2)
    corner = image[:16, :16].reshape(-1, 3).mean(axis=0)

    assert np.all(corner > 230)
    assert corner[0] > corner[2]  # slightly warm
    assert 0.15 < (brightness < 650).mean() < 0.9
    nuclei = brightness < 340
    assert 0.01 < nuclei.mean() < 0.3
    purple = image[nuclei].mean(axis=0)
    assert purple[2] > purple[0] > purple[1]
    pink = image[(brightness > 480) & (brightness < 640)].mean(axis=0)
    assert pink[0] > pink[2] > pink[1]


def test_immune_stain_has_brown_and_blue_cells() -> None:
    image = tissue(1500, 1500, seed=5, stain="ihc").astype(int)
    dark = image.sum(axis=2) < 480
    brown = dark & (image[..., 0] > image[..., 2] + 20)
    blue = dark & (image[..., 2] > image[..., 0] + 20)

    assert brown.mean() > 0.002
    assert blue.mean() > 0.005


def test_fluorescence_is_black_with_blue_nuclei() -> None:
    image = tissue(1000, 1000, seed=3, stain="dapi")

    assert np.median(image) <= 3
    assert (image[..., 2] > 90).mean() > 0.01
    assert image[..., 0].max() < 30


def test_bands_join_without_a_seam() -> None:
    image = tissue(520, 700, seed=11).astype(int)
    steps = np.abs(np.diff(image, axis=0)).mean(axis=(1, 2))

    for seam in (63, 127, 191, 383):
        assert steps[seam] < 1.5 * max(steps[seam - 20 : seam].mean(), steps[seam + 1 : seam + 20].mean())


def test_memory_beside_the_result_is_a_fraction_of_it() -> None:
    tissue(64, 64, seed=0)  # what is kept from call to call
    tracemalloc.start()
    try:
        image = tissue(3000, 2000, seed=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < image.nbytes + 25e6


def test_a_level_is_the_mean_of_the_one_above() -> None:
    image = tissue(301, 202, seed=1)
    levels = pyramid(image, 2, 4)

    assert [level.shape[:2] for level in levels] == [(301, 202), (151, 101), (76, 51), (38, 26)]
    even = image[:300, :202].astype(float).reshape(150, 2, 101, 2, 3).mean(axis=(1, 3))
    assert np.abs(levels[1][:150] - even).max() <= 0.5


def test_a_pyramid_ends_before_nothing_is_left() -> None:
    assert [level.shape[:2] for level in pyramid(np.zeros((17, 40, 3), np.uint8), 4, 9)] == [(17, 40), (5, 10), (2, 3)]


def ink(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return picture.max(axis=2) < 110


def test_a_label_has_text_above_a_square_code_and_differs_by_text() -> None:
    label = label_image("PATIENT-0001\nCASE-1 A1", height=300, width=320)
    dark = ink(label)

    assert label.shape == (300, 320, 3)
    assert 0.01 < dark[:120].mean() < 0.4
    code = dark[300 - 120 - 15 : 300 - 15, 15 : 15 + 120]
    assert code[:, :3].mean() > 0.95  # the solid line at the left
    assert code[-3:].mean() > 0.95  # and below
    assert 0.35 < code.mean() < 0.75
    assert not np.array_equal(label, label_image("PATIENT-0002\nCASE-1 A1", height=300, width=320))


def test_a_macro_has_the_label_at_the_left_and_the_tissue_at_the_right() -> None:
    slide = tissue(800, 900, seed=4)
    macro = macro_image(slide, label=label_image("CASE-1"), height=215, width=640)

    assert macro.shape == (215, 640, 3)
    assert ink(macro[:, :190]).mean() > 0.02
    right = macro[:, 200:].astype(int)
    assert ((right[..., 0] - right[..., 1]) > 15).mean() > 0.05
    assert not ink(macro_image(slide, height=215, width=640)[:, 3:190]).any()
