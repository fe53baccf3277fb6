"""Folds as JPEG XL: any sequence of tiles comes back, with its pixels, and garbage is nothing but a `CodingError`."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import jpegs
from tests.jpegs import Sampling, folding, tile_of
from tests.property import fuzz_folding
from wsistore.compress.codecs import Fold
from wsistore.compress.coding import Payload
from wsistore.compress.fold_container import FIRST_PART, MISSING, REPEATED, Kind, Part, pack, unpack
from wsistore.compress.folding import FoldCoding
from wsistore.testing.tissue import tissue

SHAPES = [(16, 16), (32, 48), (40, 24), (64, 64), (17, 33)]


@cache
def section() -> jpegs.Pixels:
    return tissue(512, 64, seed=31)


@cache
def tile(sampling: Sampling, shape: tuple[int, int], number: int, options: tuple[tuple[str, Any], ...]) -> bytes:
    start = (number * 24) % (512 - shape[0])
    return tile_of(section()[start : start + shape[0], : shape[1]], sampling, **dict(options))


OPTIONS: list[tuple[tuple[str, Any], ...]] = [
    (), (), (), (("quality", 40),), (("quality", 95),), (("optimize", True),), (("restart_marker_blocks", 1),),
    (("restart_marker_rows", 1),), (("progressive", True),),
]  # fmt: skip


@st.composite
def sequences(draw: st.DrawFn) -> tuple[FoldCoding, Sampling, list[Payload | None], bytes | None]:
    """Draw the tiles of a chunk: all of one shape and colour, else of any kind."""
    shape = draw(st.sampled_from(SHAPES))
    sampling = draw(st.sampled_from(jpegs.SAMPLINGS))
    tables = draw(st.sampled_from([None, *(jpegs.abbreviated(tile(sampling, shape, 0, o))[0] for o in OPTIONS[2:5])]))
    payloads: list[Payload | None] = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["tile", "tile", "tile", "short", "again", "padded", "missing"]))
        one = tile(sampling, shape, draw(st.integers(0, 20)), draw(st.sampled_from(OPTIONS)))
        if kind == "short" and tables is not None:
            stream, short = jpegs.abbreviated(tile(sampling, shape, draw(st.integers(0, 20)), ()))
            one = short if stream == tables else one
        before = next((payload for payload in payloads[::-1] if payload is not None), one)
        made = {"again": before, "padded": one + bytes(draw(st.integers(1, 300))), "missing": None}
        payloads.append(made.get(kind, one))
    if all(payload is None for payload in payloads):
        payloads[0] = tile(sampling, shape, 0, ())
    return folding(shape, 12, sampling, tables), sampling, payloads, tables


@settings(max_examples=150)
@given(sequences())
def test_any_sequence_of_tiles_comes_back_with_its_pixels(
    made: tuple[FoldCoding, Sampling, list[Payload | None], bytes | None],
) -> None:
    coding, sampling, payloads, tables = made
    encoded = coding.encode(payloads)
    assert coding.decode(encoded.data) == payloads
    assert sum(encoded.fallbacks.values()) <= len(payloads)
    codec = Fold.from_dict(dict(coding.codecs[1]))
    (height, width), channels = coding.tile_shape, () if sampling == "grey" else (3,)
    out = np.full((12 * height, width, *channels), 9, np.uint8)
    codec.decode_into(encoded.data, out)
    for number in range(12):
        rows = out[number * height : (number + 1) * height]
        payload = payloads[number] if number < len(payloads) else None
        if payload is None:
            assert np.all(rows == 9)
        else:
            assert np.array_equal(rows, jpegs.decoded(payload, sampling, tables))


@settings(max_examples=100)
@given(st.lists(st.none() | st.binary(max_size=80) | st.just(b"\xff\xd8\xff\xd9"), min_size=1, max_size=12))
def test_any_sequence_of_bytes_comes_back(payloads: list[Payload | None]) -> None:
    """What is no JPEG at all is kept too."""
    if any(payload is not None for payload in payloads):
        coding = folding((16, 16), 12)
        assert coding.decode(coding.encode(payloads).data) == payloads


@settings(max_examples=100)
@given(st.data())
def test_any_garbled_tile_comes_back(data: st.DataObject) -> None:
    """Whatever libjxl makes of a damaged tile, the tile is there again, and its neighbours."""
    payloads = [tile("4:2:0", (32, 48), number, ()) for number in range(4)]
    bent = bytearray(payloads[2])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(bent) - 1))
        if data.draw(st.booleans()):
            bent[at] = data.draw(st.sampled_from([0, 0xFF, 0xD0, 0xD9, 0xDA]) | st.integers(0, 255))
        else:
            del bent[at : at + data.draw(st.integers(1, 60))]
            bent = bent or bytearray(1)
    payloads[2] = bytes(bent)
    coding = folding((32, 48), 4)
    assert coding.decode(coding.encode(payloads).data) == payloads


numbers = st.integers(0, 2**32 - 1) | st.integers(0, 200)


@st.composite
def containers(draw: st.DrawFn) -> tuple[list[int], list[Part]]:
    parts: list[Part] = []
    codes: list[int] = []
    for _ in range(draw(st.integers(1, 6))):
        code = draw(st.sampled_from([MISSING, FIRST_PART + len(parts), *([REPEATED] if parts else [])]))
        count = draw(st.integers(1, 5))
        if code >= FIRST_PART:
            data, verbatim = draw(st.binary(max_size=20)), draw(st.booleans())
            count = 1 if verbatim else count
            zeros = draw(st.just(()) | st.tuples(*[numbers] * count))
            own = draw(st.sampled_from([Kind(0), Kind.OWN_DQT, Kind.OWN_DHT, Kind.OWN_DQT | Kind.OWN_DHT]))
            parts.append(Part(data) if verbatim else Part(data, draw(numbers), zeros, own))
        codes += [code] * count
    return (codes, parts) if parts else ([FIRST_PART], [Part(b"")])


@given(containers())
def test_containers_unpack_to_what_was_packed(made: tuple[list[int], list[Part]]) -> None:
    codes, parts = made
    assert unpack(pack(codes, parts), len(codes)) == (codes, parts)


@settings(max_examples=400)
@given(st.integers(0, 2**63))
def test_damaged_chunks_are_refused_or_decoded(seed: int) -> None:
    """See `fuzz_folding`, which does this for as long as one likes."""
    fuzz_folding.attempt(*fuzz_folding.damaged(random.Random(seed)))
