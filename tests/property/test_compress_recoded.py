"""Whatever tiles are, they encode and decode to themselves; whatever chunks are, they are tiles or an error."""

from __future__ import annotations

import zlib
from typing import Any

import imagecodecs
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import recoded_kit as kit
from wsistore.compress import recipes, tiff_lzw
from wsistore.compress.coding import CodingError
from wsistore.compress.pixel_codecs import CANDIDATES as FOR_PIXELS
from wsistore.compress.recoded import RecodedCoding, candidates_for
from wsistore.compress.recoded_chunk import pixels_of
from wsistore.compress.source_chain import SourceChain
from wsistore.slides.base import Codec, Color, TileCoding

PLAIN = st.sampled_from([Codec.NONE, Codec.LZW, Codec.DEFLATE])
NAMES = st.sampled_from([*FOR_PIXELS, "payload-zstd"])


@st.composite
def sources(draw: st.DrawFn) -> SourceChain:
    codec = draw(PLAIN)
    dtype = draw(st.sampled_from(["uint8", "uint16", "int16", "int8", "uint32"]))
    channels = draw(st.sampled_from([1, 2, 3, 4, 6]))
    coding = TileCoding(
        codec,
        Color.GRAY if channels == 1 else Color.RGB,
        predictor=codec is not Codec.NONE and draw(st.booleans()),
        planar=draw(st.booleans()),
        big_endian=np.dtype(dtype).itemsize > 1 and draw(st.booleans()),
    )
    return SourceChain(coding, (channels, draw(st.integers(1, 9)), draw(st.integers(1, 9))), dtype)


@st.composite
def tiles(draw: st.DrawFn) -> tuple[SourceChain, kit.Pixels, bytes]:
    source = draw(sources())
    channels, height, width = source.shape
    few = st.integers(0, 2) if draw(st.booleans()) else None
    pixels = draw(hnp.arrays(source.dtype, (height, width, channels), elements=few))
    tile = kit.compress(kit.samples(pixels, source.coding), source.coding.codec, draw(st.integers(0, 9)))
    return source, pixels, tile + draw(st.binary(max_size=5))


def chain(source: SourceChain, name: str) -> RecodedCoding:
    return RecodedCoding(source, (), name if name in candidates_for(source) else "zstd")


@settings(max_examples=300, deadline=None)
@given(tiles(), NAMES)
def test_any_tile_comes_back(case: tuple[SourceChain, kit.Pixels, bytes], name: str) -> None:
    source, pixels, tile = case
    how = chain(source, name)
    made = how.encode([tile])
    assert how.decode(made.data) == [tile]
    assert np.array_equal(pixels_of(source, made.data), pixels)
    assert len(made.data) <= len(tile) + 6
    assert sum(made.fallbacks.values()) <= 1
    assert how.encode([tile]) == made


@settings(max_examples=200, deadline=None)
@given(sources(), st.binary(max_size=600), NAMES)
def test_any_bytes_as_a_tile_come_back(source: SourceChain, tile: bytes, name: str) -> None:
    how = chain(source, name)
    assert how.decode(how.encode([tile]).data) == [tile]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([Codec.JPEG2000, Codec.WEBP]), st.binary(max_size=400) | st.binary(max_size=9).map(lambda b: b * 50)
)
def test_any_bytes_as_a_picture_come_back(codec: Codec, tile: bytes) -> None:
    how = RecodedCoding(SourceChain(TileCoding(codec, Color.RGB), (3, 8, 8), "uint8"), (), "payload-zstd")
    assert how.decode(how.encode([tile]).data) == [tile]


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def decoded(source: SourceChain, chunk: bytes) -> None:
    how = RecodedCoding(source, (), "zstd")
    for undo in (how.decode, lambda data: pixels_of(source, data)):
        try:
            undo(chunk)
        except CodingError:
            continue


@settings(max_examples=400, deadline=None)
@given(sources(), st.binary(max_size=200), st.integers(0, 6), st.booleans())
def test_any_bytes_are_a_chunk_or_an_error(source: SourceChain, body: bytes, kind: int, raw: bool) -> None:
    decoded(source, body if raw else sealed(bytes([1, kind]) + body))


@settings(max_examples=400, deadline=None)
@given(sources(), st.binary(max_size=60), st.binary(max_size=200), st.integers(2, 5), st.integers(0, 2))
def test_any_recipe_is_followed_or_an_error(
    source: SourceChain, body: bytes, content: bytes, kind: int, method: int
) -> None:
    recipe = recipes.Recipe(method, body, b"")
    decoded(source, sealed(bytes([1, kind]) + recipe.dump() + content))


@settings(max_examples=400, deadline=None)
@given(tiles(), NAMES, st.data())
def test_a_changed_chunk_is_a_chunk_or_an_error(
    case: tuple[SourceChain, kit.Pixels, bytes], name: str, data: st.DataObject
) -> None:
    """With its checksum mended, so that the decoders behind it see the damage."""
    source, _, tile = case
    chunk = bytearray(chain(source, name).encode([tile]).data[:-4])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(2, len(chunk)))
        chunk[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    decoded(source, sealed(bytes(chunk)))


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=3000) | st.binary(min_size=1, max_size=4).map(lambda b: b * 2500))
def test_lzw_is_made_again(raw: bytes) -> None:
    stream = bytes(imagecodecs.lzw_encode(raw))
    found: Any = tiff_lzw.resets(stream)
    assert found is not None
    runs, whole = found
    assert tiff_lzw.encode(raw, runs) == stream[:whole]
    assert len(stream) - whole < 8


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_are_lzw_or_not(stream: bytes) -> None:
    found = tiff_lzw.resets(stream)
    assert found is None or found[1] <= len(stream)
