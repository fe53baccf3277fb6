"""Regions and patches read straight from chunks are what Zarr reads, in every kind of slide, preset and place."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.integration.test_reencode_store import reencoded
from tests.made_slides import TILES
from tests.store_kit import Stored, in_memory, store
from wsistore.client.opening import open_path, open_url
from wsistore.client.slide import Slide
from wsistore.compress import jpeg_rows
from wsistore.compress.archive import store_archive
from wsistore.compress.lru import BytesLru
from wsistore.compress.presets import ENCODINGS
from wsistore.model import Preset
from wsistore.testing.tissue import tissue

Pixels = npt.NDArray[Any]

KINDS = sorted(set(TILES) - {"no-tile-at-all", "svs-big", "dicom-extended-offsets", "dicom-concatenated"})
"""Those left out differ from others in how the source is written only."""
FOLDED = ("svs-420", "svs-rgb", "jpeg-grey", "missing-tiles", "ndpi-420", "ndpi-444-dark", "padded", "differing-tables")
TALL = replace(ENCODINGS[Preset.FOLD], fold_height=3)


class Shelf:
    """Slides made when a test first asks for them; they stay open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: list[Slide] = []
        self.slide = cache(self._slide)
        self._stored = cache(self._store)

    def _store(self, kind: str) -> Stored:
        folder = self._folder / kind
        (folder / "source").mkdir(parents=True)
        return store(TILES[kind][0](folder / "source"), folder / "tier")

    def _slide(self, kind: str, way: str) -> tuple[Slide, list[Pixels]]:
        """Return a slide opened in one way, and the pixels of its levels as Zarr reads them from the preset `keep`."""
        kept = self._stored(kind)
        expected = [np.moveaxis(np.asarray(kept.image(n)[:]), 0, -1) for n in range(len(kept.source.levels))]
        self._opened.append(self._open(kept, kind, way))
        return self._opened[-1], expected

    def close(self) -> None:
        for slide in self._opened:
            slide.close()

    def _open(self, kept: Stored, kind: str, way: str) -> Slide:
        if way == "fold":
            folded, _ = reencoded(kept, TALL, "fold")
            return open_path(folded.store)
        if way == "pack":
            packed, _ = reencoded(kept, ENCODINGS[Preset.PACK], "pack")
            return open_path(packed.root / store_archive(packed.draft.place))
        ways: dict[str, Callable[[], Slide]] = {
            "keep": lambda: open_path(kept.store),
            "in place": lambda: open_path(next((self._folder / kind / "source").glob("[!g]*"))),
            "url": lambda: open_url(kept.store.as_uri()),
            "memory": lambda: in_memory(kept.store),
        }
        return ways[way]()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    made = Shelf(tmp_path_factory.mktemp("shelf"))
    yield made
    made.close()


def cut(pixels: Pixels, fill: Any, y: int, x: int, height: int, width: int) -> Pixels:
    """Return a region of pixels that go on as background in all directions."""
    out = np.full((height, width, pixels.shape[2]), fill, pixels.dtype)
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + height, pixels.shape[0]), min(x + width, pixels.shape[1])
    if top < bottom and left < right:
        out[top - y : bottom - y, left - x : right - x] = pixels[top:bottom, left:right]
    return out


WAYS = [*((kind, "keep") for kind in KINDS), *((kind, way) for kind in FOLDED for way in ("fold", "pack")),
        *((kind, "in place") for kind in ("svs-420", "ndpi-420-narrow", "webp", "dicom-sparse")),
        ("grey-16-none-big-endian", "fold"), ("svs-33003", "fold"),
        ("svs-420", "url"), ("svs-420", "memory")]  # fmt: skip


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_any_region_is_what_zarr_reads(shelf: Shelf, kind: str, way: str) -> None:
    slide, expected = shelf.slide(kind, way)
    rng = np.random.default_rng(len(kind))
    for number in range(12):
        level = number % len(expected)
        pixels, fill = expected[level], slide._arrays[level].fill_value
        rows, columns, _ = pixels.shape
        height, width = int(rng.integers(1, rows + 80)), int(rng.integers(1, 200))
        if number % 3 == 0:
            height, width = (rows, columns) if number == 0 else (1, int(rng.integers(1, columns)))
        y, x = int(rng.integers(-60, rows + 10)), int(rng.integers(-60, columns + 10))
        if number == 0:
            y = x = 0
        region = slide.read_region(level, y, x, height, width)
        assert region.dtype == pixels.dtype
        assert np.array_equal(region, cut(pixels, fill, y, x, height, width)), (level, y, x, height, width)


PLACES = st.tuples(st.integers(-200, 600), st.integers(-200, 800))


@given(
    way=st.sampled_from([("svs-420", "keep"), ("missing-tiles", "fold"), ("ndpi-420", "keep"), ("webp", "in place")]),
    positions=st.lists(PLACES, max_size=12),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    threads=st.sampled_from([None, 1, 3]),
    cache_bytes=st.sampled_from([0, 40_000, 2**26]),
)
def test_patches_are_regions(
    shelf: Shelf, way: tuple[str, str], positions: Any, height: int, width: int, threads: int | None, cache_bytes: int
) -> None:
    slide, expected = shelf.slide(*way)
    slide.cache_bytes, slide.threads = cache_bytes, threads
    patches = slide.read_patches(0, positions, height, width)
    assert patches.shape == (len(positions), height, width, 3)
    for patch, (y, x) in zip(patches, positions, strict=True):
        assert np.array_equal(patch, cut(expected[0], slide._arrays[0].fill_value, y, x, height, width))
    assert slide._kept.chunks.size_bytes <= cache_bytes


# --- the upper rows of a JPEG -----------------------------------------------------------------------------------------


@cache
def jpeg(height: int, subsampling: str, color: str, optimize: bool) -> bytes:
    picture = np.random.default_rng(height).integers(0, 256, (height, 80, 3), np.uint8)  # no row is like the next
    picture = np.ascontiguousarray(picture[..., 0]) if color == "GRAYSCALE" else picture
    given: dict[str, Any] = {} if color == "GRAYSCALE" else {"subsampling": subsampling, "outcolorspace": color}
    return bytes(imagecodecs.jpeg8_encode(picture, level=80, optimize=optimize, **given))


@given(
    height=st.sampled_from([16, 40, 64, 97, 256]),
    share=st.floats(0, 1),
    subsampling=st.sampled_from(["444", "422", "420", "440"]),
    color=st.sampled_from(["YCBCR", "RGB", "GRAYSCALE"]),
    optimize=st.booleans(),
)
def test_upper_rows_are_those_of_the_whole(
    height: int, share: float, subsampling: str, color: str, optimize: bool
) -> None:
    stream = jpeg(height, "444" if color == "RGB" else subsampling, color, optimize)
    rows = 1 + round(share * (height - 1))
    shorter, has = jpeg_rows.shortened(stream, rows, height)
    assert rows <= has <= height
    assert (shorter == stream) == (has == height)
    whole, upper = imagecodecs.jpeg8_decode(stream), imagecodecs.jpeg8_decode(shorter)
    assert len(upper) == has
    assert np.array_equal(upper[:rows], whole[:rows])


@given(data=st.binary(max_size=60), rows=st.integers(1, 100), height=st.integers(1, 100), is_jpeg=st.booleans())
def test_what_is_no_jpeg_stays_as_it_is(data: bytes, rows: int, height: int, is_jpeg: bool) -> None:
    stream = jpeg(40, "420", "YCBCR", False)[: 20 + len(data) * 3] if is_jpeg else b"\xff\xd8" + data
    shorter, has = jpeg_rows.shortened(stream, rows, height)
    assert len(shorter) == len(stream)
    assert has == height or (shorter != stream and has < height)


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 3}])
def test_kinds_that_are_cut_or_not(options: dict[str, Any]) -> None:
    out = io.BytesIO()
    Image.fromarray(tissue(128, 96, seed=3)).save(out, "JPEG", quality=80, **options)
    stream = out.getvalue()
    shorter, has = jpeg_rows.shortened(stream, 20, 128)
    assert (has == 128) == ("progressive" in options)
    assert np.array_equal(imagecodecs.jpeg8_decode(shorter)[:20], imagecodecs.jpeg8_decode(stream)[:20])


# --- what is kept -----------------------------------------------------------------------------------------------------


@given(
    most=st.integers(0, 30),
    calls=st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 12)), max_size=60),
)
def test_what_was_used_last_is_kept_as_far_as_it_fits(most: int, calls: list[tuple[bool, int, int]]) -> None:
    lru: BytesLru[int, int] = BytesLru(most)
    model: list[tuple[int, int]] = []  # least recently used first
    for is_put, key, size in calls:
        if is_put:
            lru.put(key, size, size)
            if most and size <= most:
                model = [one for one in model if one[0] != key] + [(key, size)]
                while sum(size for _, size in model) > most:
                    model.pop(0)
        else:
            known = dict(model).get(key)
            assert lru.get(key) == known
            if known is not None:
                model = [one for one in model if one[0] != key] + [(key, known)]
        assert lru.size_bytes == sum(size for _, size in model) <= most
        assert len(lru) == len(model)
