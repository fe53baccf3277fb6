"""Folds of the real slides: byte for byte, pixel for pixel, and as much smaller as the design promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from wsistore.compress.codecs import Fold
from wsistore.compress.coding import Payload
from wsistore.compress.fold_container import unpack
from wsistore.compress.folding import FoldCoding
from wsistore.compress.levels import codec_chain, plan_level
from wsistore.slides.base import Codec, Level, Source
from wsistore.slides.decode import decode_tile
from wsistore.slides.registry import open_source
from wsistore.slides.segments import read_tile


def payloads_of(source: Source, level: Level) -> dict[tuple[int, int], bytes]:
    """Return the payloads of a level by row and column."""
    with ExitStack() as stack:
        files = {number: stack.enter_context(file.path.open("rb")) for number, file in enumerate(source.files)}
        tiles = level.segments["tile"]
        groups = np.split(level.segments, np.flatnonzero(np.diff(tiles)) + 1) if len(tiles) else []
        columns = level.grid[1]
        return {divmod(int(rows["tile"][0]), columns): read_tile(rows, files) for rows in groups}


def columns_of(payloads: dict[tuple[int, int], bytes], level: Level, height: int) -> Iterator[list[Payload | None]]:
    """Yield the payloads of each chunk that has any."""
    rows, columns = level.grid
    for column in range(columns):
        for top in range(0, rows, height):
            chunk = [payloads.get((row, column)) for row in range(top, min(rows, top + height))]
            if any(chunk):
                yield chunk


def folded(source: Source, number: int, height: int) -> Iterator[tuple[FoldCoding, list[Payload | None], bytes, int]]:
    """Yield coding, payloads, chunk and fall-backs of each chunk of a level; each came back."""
    level = source.levels[number]
    coding = FoldCoding.for_source(
        codec_chain(plan_level(level, number)), (level.tile_height, level.tile_width), height
    )
    for payloads in columns_of(payloads_of(source, level), level, height):
        made = coding.encode(payloads)
        assert coding.decode(made.data) == payloads
        yield coding, payloads, made.data, sum(made.fallbacks.values())


def saved(source: Source, height: int) -> float:
    """Return the part of the tile bytes that folding saves, over all levels."""
    size: Counter[str] = Counter()
    for number in range(len(source.levels)):
        for _, payloads, data, fallbacks in folded(source, number, height):
            size["before"] += sum(len(payload) for payload in payloads if payload)
            size["after"] += len(data)
            size["fallbacks"] += fallbacks
    assert not size["fallbacks"]
    return 1 - size["after"] / size["before"]


@pytest.mark.parametrize(
    ("path", "height", "least"),
    [
        ("aperio/CMU-1-Small-Region.svs", 16, 0.33),
        ("aperio/CMU-1-Small-Region.svs", 1, 0.25),
        ("tiff/CMU-1-jpeg420.tiff", 8, 0.27),
        ("tiff/wsic-bfconvert-XYC-JPEG.ome.tiff", 8, 0.28),
        ("hamamatsu/test3-DAPI-2.ndpi", 64, 0.26),
    ],
)
def test_folds_save_what_was_measured(path: str, height: int, least: float, real_slides: Path) -> None:
    assert saved(open_source(real_slides / path), height) > least


@pytest.mark.slow
def test_the_whole_ihc_slide_saves_a_quarter_of_its_file(real_slides: Path) -> None:
    """Not of its tiles only: 25 % of the file, of which all else is kept too."""
    source = open_source(real_slides / "aperio/hpylori-IHC.svs")
    tiles = sum(int(level.segments["length"].sum()) for level in source.levels)
    assert saved(source, 64) * tiles > 0.25 * source.files[0].size_bytes


@pytest.mark.parametrize(
    ("path", "number", "height"),
    [
        ("aperio/CMU-1-Small-Region.svs", 0, 8),
        ("tiff/CMU-1-jpeg420.tiff", 0, 8),
        ("aperio/hpylori-IHC.svs", 2, 8),
        ("hamamatsu/test3-DAPI-2.ndpi", 3, 16),
        ("dicom/CMU-1-Small-Region", 1, 4),
    ],
)
def test_pixels_are_those_of_the_source(path: str, number: int, height: int, real_slides: Path) -> None:
    source = open_source(real_slides / path)
    level = source.levels[number]
    assert level.coding is not None
    for coding, payloads, data, _ in folded(source, number, height):
        out = np.zeros((height * level.tile_height, level.tile_width, 3), np.uint8)
        Fold.from_dict(dict(coding.codecs[1])).decode_into(data, out)
        for place, payload in enumerate(payloads):
            rows = out[place * level.tile_height : (place + 1) * level.tile_height]
            if payload is not None:
                assert np.array_equal(rows, decode_tile(level, payload))


@pytest.mark.parametrize("path", ["aperio/CMU-1-Small-Region.svs", "aperio/hpylori-IHC.svs", "tiff/CMU-1-jpeg420.tiff"])
def test_both_traps_are_real(path: str, real_slides: Path) -> None:
    """What the design says of decoding JPEG XL straight, and a fold as one picture, holds on these slides."""
    source = open_source(real_slides / path)
    number = len(source.levels) - 1
    level = source.levels[number]
    assert level.coding is not None
    assert level.coding.codec is Codec.JPEG
    straight = tall = 0
    bias = []
    for coding, payloads, data, _ in folded(source, number, 8):
        (part,) = unpack(data, 8)[1]
        alone = np.concatenate([decode_tile(level, payload) for payload in payloads if payload is not None])
        pixels = imagecodecs.jpegxl_decode(part.data)[: len(alone)].astype(int)
        whole = imagecodecs.jpeg8_decode(
            imagecodecs.jpegxl_decode_jpeg(part.data, numthreads=1), colorspace=coding.settings.colorspace_jpeg,
            outcolorspace="RGB",
        )  # fmt: skip
        straight += not np.array_equal(pixels, alone)
        tall += not np.array_equal(whole, alone)
        bias.append(float((pixels - alone).mean()))
    assert straight == len(bias)
    if coding.settings.colorspace_jpeg == "RGB":
        # Darker by three grey levels at least; and these tiles do not say that they are RGB, so libjxl takes YCbCr.
        assert np.mean(bias) < -2.5
        assert not tall, "4:4:4 has no chroma to upsample"
    else:
        assert tall > len(bias) / 2, "all but glass differs"
