"""Thumbnails of slides of every shape: small enough, readable by plain Zarr, and of the slide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr

from tests.store_kit import store
from wsistore.compress import thumbnail
from wsistore.testing.tiffs import write_generic_tiff

Pixels = npt.NDArray[Any]

THIN = [(1, 1), (1, 700), (700, 1), (1, 20_000), (16, 20_000), (20_000, 16), (300, 200)]
"""Heights and widths in pixels."""


def gradient(height: int, width: int, channels: int) -> Pixels:
    """Return a picture that goes from dark to bright along its longer side, (y, x, 3) or (y, x)."""
    ramp = (40 + 180 * np.linspace(0, 1, max(height, width))).astype(np.uint8)
    plane = np.ascontiguousarray(np.broadcast_to(ramp[:, None] if height > width else ramp, (height, width)))
    return plane if channels == 1 else np.stack([plane, plane // 2, 255 - plane], axis=-1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), THIN)
def test_a_slide_of_any_shape_has_a_thumbnail_that_zarr_reads(
    tmp_path: Path, height: int, width: int, channels: int
) -> None:
    picture = gradient(height, width, channels)
    write_generic_tiff(tmp_path / "a.tiff", [picture], tile=(256, 256), codec="deflate")
    group = store(tmp_path / "a.tiff", tmp_path / "tier").group()

    array = group["thumbnail"]
    assert isinstance(array, zarr.Array)
    pixels = np.asarray(array[:])

    assert pixels.dtype == np.uint8
    assert pixels.shape[0] == channels
    assert max(pixels.shape[1:]) <= thumbnail.EDGE
    assert min(pixels.shape[1:]) >= 1
    assert pixels.shape[1] / pixels.shape[2] == pytest.approx(height / width, rel=0.1) or min(pixels.shape[1:]) == 1
    means = picture.reshape(-1, channels).mean(axis=0)
    assert np.abs(pixels.reshape(channels, -1).mean(axis=1) - means).max() < 12, "the picture is another one"


@pytest.mark.parametrize("shape", [(1, 512, 1), (512, 1, 1), (1, 1, 1), (1, 512, 3), (512, 1, 3), (1, 1, 3), (3, 1, 3)])
def test_only_the_axis_of_channels_may_go(shape: tuple[int, int, int]) -> None:
    document, data = thumbnail.encode(np.full(shape, 77, np.uint8), source_bytes=0)

    assert list(document["shape"]) == [shape[2], shape[0], shape[1]]
    assert data[:3] == b"\xff\xd8\xff"


def test_a_thumbnail_takes_a_small_share_of_the_source() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)

    document, data = thumbnail.encode(noise, source_bytes=4_000_000)

    assert len(data) <= 20_000
    assert document["shape"][1] < 512
