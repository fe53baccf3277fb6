"""The skeleton's zstd frames: any range comes back, damage is told, and only what gets smaller is worth them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.compress import skeleton
from wsistore.compress.skeleton import FRAME_BYTES, SkeletonIndex, SkeletonReader, compress, is_worth_it
from wsistore.errors import IntegrityError
from wsistore.storage.base import Span
from wsistore.storage.memory import MemoryStorage

KEY = "private/a/b/skeleton.zst"


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def text(size: int) -> bytes:
    return (b"a slide of %d bytes, " % size * (size // 10 + 1))[:size]


def stored(frames: list[bytes], size: int) -> SkeletonReader:
    storage = MemoryStorage()
    storage.put(KEY, b"".join(frames))
    return SkeletonReader(storage, KEY, SkeletonIndex(tuple(map(len, frames)), size))


DATA = text(FRAME_BYTES + 77) + noise(FRAME_BYTES) + text(1000)


PACKED = list(compress([DATA]))


@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, len(DATA)), length=st.integers(0, len(DATA)))
def test_any_range_comes_back(start: int, length: int) -> None:
    length = min(length, len(DATA) - start)
    assert stored(PACKED, len(DATA)).read(start, length) == DATA[start : start + length]


def test_what_lies_behind_the_end_is_an_error() -> None:
    with pytest.raises(IntegrityError, match="ends before byte"):
        stored(PACKED, len(DATA)).read(len(DATA) - 5, 10)


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1])
def test_frames_hold_a_mebibyte_each_and_are_zstd(size: int) -> None:
    data = noise(size)
    frames = [numcodecs.Zstd().decode(frame) for frame in compress([data])]
    assert b"".join(frames) == data
    assert [len(frame) for frame in frames] == [min(FRAME_BYTES, size - at) for at in range(0, size, FRAME_BYTES)]


def test_threads_and_blocks_make_no_difference() -> None:
    blocks = [memoryview(DATA)[a:b] for a, b in pairwise([0, 1, 500_000, 2_000_000, len(DATA)])]
    with ThreadPoolExecutor(2) as pool:
        assert list(compress(blocks, pool)) == list(compress([DATA]))


def test_memory_does_not_grow_with_the_file() -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(FRAME_BYTES)

    tracemalloc.start()
    with ThreadPoolExecutor(2) as pool:
        assert sum(1 for _ in compress(blocks(), pool)) == 64
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * FRAME_BYTES


def test_a_source_that_fails_ends_it() -> None:
    def blocks() -> Iterator[bytes]:
        yield bytes(3 * FRAME_BYTES)
        raise OSError("gone")

    with ThreadPoolExecutor(2) as pool, pytest.raises(OSError, match="gone"):
        list(compress(blocks(), pool))


@pytest.mark.parametrize(
    ("data", "worth"),
    [(text(3 * FRAME_BYTES), True), (noise(3 * FRAME_BYTES), False), (b"", False), (noise(10), False)],
    ids=["text", "noise", "empty", "tiny"],
)
def test_only_what_gets_smaller_is_packed(data: bytes, worth: bool) -> None:
    assert is_worth_it(lambda start, length: data[start : start + length], len(data)) is worth


def test_a_huge_file_is_judged_by_a_few_frames_of_all_of_it() -> None:
    asked = []

    def read(start: int, length: int) -> bytes:
        asked.append(start)
        return noise(length) if start else text(length)

    assert is_worth_it(read, 5000 * FRAME_BYTES + 5)
    assert len(asked) == skeleton._SAMPLES
    assert asked[-1] == 5000 * FRAME_BYTES
    assert len(set(asked)) == len(asked)


def test_damage_is_told() -> None:
    frames = list(compress([DATA]))
    flipped = bytearray(frames[0])
    flipped[len(flipped) // 2] ^= 4
    with pytest.raises(IntegrityError, match=r"Frame 0 of .*skeleton.zst.*damaged"):
        stored([bytes(flipped), *frames[1:]], len(DATA)).read(0, 10)
    with pytest.raises(IntegrityError, match="ends before byte"):
        stored(frames[:2], len(DATA)).read(0, len(DATA))
    with pytest.raises(IntegrityError, match="where 1048576 are due"):
        stored([frames[-1], *frames[1:]], len(DATA)).read(0, 10)
    with pytest.raises(IntegrityError, match="missing"):
        SkeletonReader(MemoryStorage(), KEY, SkeletonIndex((10,), 10)).read(0, 1)


def test_a_frame_that_holds_too_much_is_refused() -> None:
    bomb = bytes(numcodecs.Zstd(level=1).encode(bytes(200 * FRAME_BYTES)))
    with pytest.raises(IntegrityError, match="damaged"):
        stored([bomb], FRAME_BYTES).read(0, 1)


def test_frames_are_read_once_for_neighbouring_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = stored(list(compress([DATA])), len(DATA))
    spans: list[Span] = []
    get = reader._storage.get

    def counted(key: str, span: Span) -> bytes:
        spans.append(span)
        return get(key, span)

    monkeypatch.setattr(reader._storage, "get", counted)
    assert reader.read(5, 10) + reader.read(15, 10) == DATA[5:25]
    assert len(spans) == 1
