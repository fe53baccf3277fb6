"""Whatever bytes a reader is fed: it describes a slide or raises an error of ours, and soon."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Literal

import imagecodecs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import tiffs
from tests.unit import test_slides_aperio as aperio
from tests.unit import test_slides_ndpi as ndpi
from tests.unit import test_slides_ome as ome
from wsistore.errors import BrokenError, WsistoreError
from wsistore.slides import jpeg, jpeg2000, webp
from wsistore.slides.base import Codec, Color, Level, TileCoding, empty_segments
from wsistore.slides.check import TileChecker
from wsistore.slides.decode import decode_tile
from wsistore.slides.registry import open_source

SECONDS = 60.0
PICTURE = tiffs.tissue(32, 32)


def written(folder: Path) -> dict[str, bytes]:
    """Return small slides of every format."""
    levels = tiffs.halves(tiffs.tissue(64, 64), 2)
    made = [
        tiffs.write_pyramid(folder / "classic.tif", levels, compression="jpeg", tile=(32, 32)),
        tiffs.write_pyramid(folder / "big.tif", levels, compression="lzw", tile=(32, 32), big=True, sub=True),
        tiffs.write_pyramid(
            folder / "motorola.tif", levels, compression="zlib", tile=(32, 32), order=">", predictor=True
        ),
        tiffs.write_pyramid(folder / "webp.tif", levels[:1], compression="webp", tile=(32, 32)),
        tiffs.write_pyramid(folder / "j2k.tif", levels[:1], compression="jpeg2000", tile=(32, 32)),
        tiffs.write_pyramid(folder / "flat.tif", levels[:1], compression="lzw", tile=None),
        aperio.write(folder / "a.svs"),
        ome.write(folder / "a.ome.tif", ome.xml(), compression="zlib"),
        ndpi.slide(folder / "a.ndpi", subsampling=2, height=32, width=64, blocks=2),
    ]
    return {path.name: path.read_bytes() for path in made}


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return written(tmp_path_factory.mktemp("slides"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("garbage")


MAGIC = [b"", b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"\xff\xd8", b"\0" * 128 + b"DICM"]
NAMES = ["classic.tif", "big.tif", "motorola.tif", "webp.tif", "j2k.tif", "flat.tif", "a.svs", "a.ome.tif", "a.ndpi"]
WITH_FIXTURES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def opened(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    start = time.monotonic()
    source, message = None, ""
    try:
        source = open_source(path)
    except WsistoreError as error:
        message = error.message
    assert source is not None or path.name in message
    for level in source.levels if source is not None else ():
        assert (level.segments["offset"] + level.segments["length"] <= len(data)).all()
        assert (level.segments["tile"] < level.grid[0] * level.grid[1]).all()
    assert time.monotonic() - start < SECONDS


@WITH_FIXTURES
@given(st.sampled_from(NAMES), st.floats(0, 1, exclude_max=True))
def test_truncated_anywhere(slides: dict[str, bytes], folder: Path, name: str, part: float) -> None:
    opened(folder / name, slides[name][: int(len(slides[name]) * part)])


@WITH_FIXTURES
@given(st.sampled_from(NAMES), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_bytes_changed_anywhere(
    slides: dict[str, bytes], folder: Path, name: str, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(slides[name])
    for part, value in changes:
        data[int((len(data) - 1) * part)] = value
    opened(folder / name, bytes(data))


@WITH_FIXTURES
@given(st.sampled_from(NAMES), st.data())
def test_directories_changed(slides: dict[str, bytes], folder: Path, name: str, data: st.DataObject) -> None:
    """Most bytes are pixels: aim at the numbers in directory entries instead."""
    content = bytearray(slides[name])
    order: Literal["little", "big"] = "little" if content[:2] == b"II" else "big"
    codes = data.draw(
        st.lists(st.sampled_from([256, 257, 258, 259, 262, 277, 284, 317, 322, 323, 324, 325, 330, 65426]))
    )
    for code in [*codes, 256]:
        at = content.find(code.to_bytes(2, order), 8)
        if 0 <= at < len(content) - 12:
            where = at + data.draw(st.integers(2, 11))
            content[where] = data.draw(st.sampled_from([0, 1, 2, 3, 7, 16, 127, 128, 255]))
    opened(folder / name, bytes(content))


@WITH_FIXTURES
@given(st.sampled_from(MAGIC), st.binary(max_size=300), st.sampled_from(["a.svs", "a.ndpi", "a.tif", "a", "a.dcm"]))
def test_random_bytes(folder: Path, head: bytes, tail: bytes, name: str) -> None:
    opened(folder / name, head + tail)


CODED = {
    Codec.JPEG: bytes(imagecodecs.jpeg8_encode(PICTURE)),
    Codec.JPEG2000: bytes(imagecodecs.jpeg2k_encode(PICTURE, codecformat="j2k")),
    Codec.WEBP: bytes(imagecodecs.webp_encode(PICTURE)),
    Codec.LZW: bytes(imagecodecs.lzw_encode(PICTURE.tobytes())),
    Codec.DEFLATE: bytes(imagecodecs.zlib_encode(PICTURE.tobytes())),
    Codec.NONE: PICTURE.tobytes(),
}


@given(st.sampled_from(sorted(CODED)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
       st.floats(0, 1), st.booleans())  # fmt: skip
def test_damaged_tiles(codec: Codec, changes: list[tuple[float, int]], keep: float, cut: bool) -> None:
    """The checker never raises, and says good only of what keeps its frame; the decoder raises nothing but ours."""
    color = Color.YCBCR if codec is Codec.JPEG else Color.RGB
    level = Level(32, 32, 32, 32, TileCoding(codec, color), empty_segments())
    data = bytearray(CODED[codec])
    for part, value in changes:
        data[int((len(data) - 1) * part)] = value
    tile = bytes(data[: int(len(data) * keep)] if cut else data)
    check = TileChecker(level)
    check(CODED[codec])
    assert check(tile) == TileChecker(level)(tile), "what was seen before must not change the verdict"
    with contextlib.suppress(BrokenError):
        assert decode_tile(level, tile).shape == (32, 32, 3)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xc0\0\x11", b"\xff\x4f\xff\x51\0\x2f", b"RIFF"]),
)
def test_parsers_raise_value_errors_only(tail: bytes, head: bytes) -> None:
    for parse in (jpeg.parse, jpeg2000.parse, webp.size_of, jpeg.shared_tables, jpeg.bare_tables):
        try:
            parse(head + tail)
        except ValueError:
            continue
