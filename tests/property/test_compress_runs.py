"""The shard writer's fast path gives what the slow one gives, and no tile passes that the checker would stop."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.compress import shard_writer, shards
from wsistore.compress.levels import plan_level
from wsistore.compress.recording import Recorder
from wsistore.compress.source_bytes import SourceBytes
from wsistore.slides.base import SEGMENT_DTYPE, Codec, Color, Level, TileCoding, source_files
from wsistore.slides.check import TileChecker
from wsistore.slides.screen import TileScreen
from wsistore.storage.memory import MemoryStorage

EDGE = 16
CODING = TileCoding(Codec.JPEG, Color.YCBCR)
COMMENT = b"\xff\xfe\x00\x0ePATIENT-0001"


def _jpeg(seed: int, quality: int = 80) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (EDGE, EDGE, 3), np.uint8)
    return bytes(imagecodecs.jpeg8_encode(pixels, level=quality))


def _mutated(tile: bytes, how: str) -> bytes:
    return {
        "good": tile,
        "comment behind the scan": tile[:-2] + COMMENT + tile[-2:],
        "comment in the header": tile[:2] + COMMENT + tile[2:],
        "bytes behind the end": tile + b"PATIENT-0001",
        "hidden bytes before a second end": tile + b"PATIENT-0001\xff\xd9",
        "no end": tile[:-2],
        "restart marker": tile[:-4] + b"\xff\xd0" + tile[-2:],
        "only a header": tile[:40],
        "empty": b"",
    }[how]


HOWS = (
    "good",
    "comment behind the scan",
    "comment in the header",
    "bytes behind the end",
    "hidden bytes before a second end",
    "no end",
    "restart marker",
    "only a header",
    "empty",
)
TILES = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from((50, 80)), st.sampled_from(HOWS)), min_size=1, max_size=24
)


def _level(count: int, segments: Any) -> Level:
    return Level(EDGE * count, EDGE, EDGE, EDGE, CODING, segments)


@given(TILES)
def test_screen_passes_only_what_the_checker_finds_good(tiles: list[tuple[int, int, str]]) -> None:
    data = [_mutated(_jpeg(seed, quality), how) for seed, quality, how in tiles]
    level = _level(len(data), np.empty(0, SEGMENT_DTYPE))
    screen = TileScreen()
    for quality in (50, 80):
        screen.learn(memoryview(_jpeg(0, quality)))
    stops = np.cumsum([len(tile) for tile in data])
    starts = stops - [len(tile) for tile in data]
    suspects = set(screen.suspects(np.frombuffer(b"".join(data) + b"\0", np.uint8), starts, stops).tolist())
    checker = TileChecker(level)
    for number, tile in enumerate(data):
        if number not in suspects:
            assert tiles[number][2] == "good"
            assert checker(memoryview(tile)).good


def test_screen_passes_good_tiles() -> None:
    data = [_jpeg(seed) for seed in range(20)]
    screen = TileScreen()
    screen.learn(memoryview(data[0]))
    stops = np.cumsum([len(tile) for tile in data])
    starts = stops - [len(tile) for tile in data]
    assert screen.suspects(np.frombuffer(b"".join(data), np.uint8), starts, stops).tolist() == []


@given(
    st.permutations(range(12)),
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.sets(st.integers(0, 11), max_size=6),
    st.booleans(),
)
def test_runs_are_what_chunks_are(order: list[int], gaps: list[int], missing: set[int], shared: bool) -> None:
    """Tiles in any order, with gaps, missing ones and shared ranges: both paths write the same chunks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiles"
        rows, blob = [], bytearray()
        for tile, gap in zip(order, gaps, strict=True):
            blob += bytes(gap * 40_000)
            data = _jpeg(tile)
            if tile not in missing:
                rows.append((tile, 0, len(blob), len(data)))
            blob += data
        if shared and len(rows) > 1:
            rows[1] = (rows[1][0], *rows[0][1:])
        path.write_bytes(blob)
        segments = np.array(sorted(rows), SEGMENT_DTYPE)
        level = _level(12, segments)
        fast, slow = (_chunks(path, level, plain=plain) for plain in (True, False))
        assert fast == slow
        assert fast == {tile: bytes(blob[offset : offset + length]) for tile, _, offset, length in rows}


def _chunks(path: Path, level: Level, *, plain: bool) -> dict[int, bytes]:
    plan = plan_level(level, 0)
    storage = MemoryStorage()
    with pytest.MonkeyPatch.context() as patch, SourceBytes(source_files(path.parent, [path])) as source:
        if not plain:
            patch.setattr(shard_writer, "_is_plain", lambda _: False)
        checker = TileChecker(level)

        def check(tile: int, data: memoryview) -> None:
            assert checker(data).good, tile

        with Recorder(storage) as recorder:
            for job in shard_writer.jobs(plan, lambda: check):
                shard_writer.write_shard(job, source, recorder, "", lambda _: None)
    found = {}
    for info in storage.list():
        data = storage.get(info.key)
        length = plan.grid.index_length
        index = shards.decode_index(data[-shards.index_bytes(length) :], length, where=info.key)
        for slot, (offset, nbytes) in enumerate(zip(index["offset"].tolist(), index["nbytes"].tolist(), strict=True)):
            if nbytes != shards.ABSENT:
                found[slot] = data[offset : offset + nbytes]
    return found
