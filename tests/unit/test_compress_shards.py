"""The binary form of shards, and the writer that assembles them from tile bytes."""

from __future__ import annotations

from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from wsistore.compress import metadata, shard_writer, shards
from wsistore.compress.levels import plan_level
from wsistore.compress.recording import Recorder
from wsistore.compress.source_bytes import SourceBytes
from wsistore.errors import BrokenError, ConflictError, IntegrityError
from wsistore.model import Mode
from wsistore.slides.base import SEGMENT_DTYPE, Codec, Color, Level, Source, TileCoding, source_files
from wsistore.storage.memory import MemoryStorage

TILE = 16
BYTES = TILE * TILE * 3


def raw_source(folder: Path, down: int, across: int, *, missing: set[int] = frozenset(), seed: int = 1) -> Source:  # type: ignore[assignment]
    """Return a source of uncompressed tiles that lie in a file in a random order, with bytes between them."""
    rng = np.random.default_rng(seed)
    rows, data = [], bytearray(b"head")
    for tile in rng.permutation(down * across).tolist():
        if tile in missing:
            continue
        rows.append((tile, 0, len(data), BYTES))
        data += rng.integers(0, 255, BYTES, np.uint8).tobytes() + bytes(rng.integers(0, 9))
    path = folder / "slide.raw"
    path.write_bytes(data)
    segments = np.array(sorted(rows), SEGMENT_DTYPE)
    level = Level(
        down * TILE - 3, across * TILE - 5, TILE, TILE, TileCoding(Codec.NONE, Color.RGB), segments, 3, "uint8"
    )
    return Source("raw", Mode.TILES, "", source_files(folder, [path]), (level,), None, None)


def write(source: Source, storage: MemoryStorage) -> list[str]:
    plan = plan_level(source.levels[0], 0)
    with SourceBytes(source.files) as files, Recorder(storage) as recorder:
        for job in shard_writer.jobs(plan, lambda: None):
            shard_writer.write_shard(job, files, recorder, "s/", lambda _: None)
        recorder.put("s/zarr.json", metadata.dump(metadata.group()))
        recorder.put("s/0/zarr.json", metadata.dump(metadata.group()))
        recorder.put("s/0/image/zarr.json", metadata.dump(metadata.image(plan, source)))
    return [info.key for info in storage.list("s/0/image/c")]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a few tiles, so that a small picture has many."""
    monkeypatch.setattr("wsistore.compress.levels.SHARD_BYTES", 7 * BYTES)


def copied(storage: MemoryStorage, folder: Path) -> zarr.Array:
    for info in storage.list("s/"):
        path = folder / info.key[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(storage.get(info.key))
    array = zarr.open_group(LocalStore(folder), mode="r")["0/image"]
    assert isinstance(array, zarr.Array)
    return array


@pytest.mark.parametrize("grid", [(5, 3), (3, 11), (1, 1), (9, 1)])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.95])
def test_zarr_reads_from_the_shards_what_the_tiles_hold(
    tmp_path: Path, small_shards: None, grid: tuple[int, int], share: float
) -> None:
    down, across = grid
    absent = set(np.flatnonzero(np.random.default_rng(2).random(down * across) < share).tolist())
    (tmp_path / "a").mkdir()
    source = raw_source(tmp_path / "a", down, across, missing=absent)
    storage = MemoryStorage()
    keys = write(source, storage)
    array = copied(storage, tmp_path / "z")
    data, level = source.files[0].path.read_bytes(), source.levels[0]
    expected = np.full((down * TILE, across * TILE, 3), 255, np.uint8)
    for tile, _, offset, length in level.segments.tolist():
        y, x = tile // across * TILE, tile % across * TILE
        expected[y : y + TILE, x : x + TILE] = np.frombuffer(data, np.uint8, length, offset).reshape(TILE, TILE, 3)
    assert np.array_equal(np.moveaxis(np.asarray(array[:]), 0, -1), expected[: level.height, : level.width])
    assert len(keys) == len(shards_with_tiles(source)), "a shard without tiles is not written"


def shards_with_tiles(source: Source) -> set[int]:
    plan = plan_level(source.levels[0], 0)
    chunk, _ = plan.chunk_of_tile(source.levels[0].segments["tile"])
    return set(plan.grid.shard_of_chunk(chunk)[0].tolist())


def test_every_index_has_its_crc32c_and_marks_what_is_absent(tmp_path: Path, small_shards: None) -> None:
    source = raw_source(tmp_path, 4, 3, missing={1, 5})
    storage = MemoryStorage()
    keys = write(source, storage)
    length = plan_level(source.levels[0], 0).grid.index_length
    absent = 0
    for key in keys:
        shard = storage.get(key)
        body, crc = shard[-shards.index_bytes(length) : -4], shard[-4:]
        assert int.from_bytes(crc, "little") == google_crc32c.value(body)
        index = np.frombuffer(body, "<u8").reshape(-1, 2)
        there = index[index[:, 1] != 2**64 - 1]
        absent += len(index) - len(there)
        assert np.array_equal(np.sort(there[:, 0]), np.cumsum([0, *[BYTES] * (len(there) - 1)])), "no gaps"
        assert len(shard) == len(there) * BYTES + shards.index_bytes(length)
        assert np.all(index[index[:, 1] == 2**64 - 1, 0] == 2**64 - 1)
    assert absent == len(keys) * length - 10


def test_chunks_lie_in_the_order_of_the_source(tmp_path: Path) -> None:
    """So that rebuilding the file reads every shard from start to end."""
    source = raw_source(tmp_path, 4, 4)
    storage = MemoryStorage()
    (key,) = write(source, storage)
    rows = np.sort(source.levels[0].segments, order="offset")
    data = source.files[0].path.read_bytes()
    stored = storage.get(key)[: 16 * BYTES]
    assert stored == b"".join(data[offset : offset + length] for _, _, offset, length in rows.tolist())


def test_a_shorter_file_than_described_is_a_changed_source(tmp_path: Path) -> None:
    source = raw_source(tmp_path, 2, 2)
    source.files[0].path.write_bytes(source.files[0].path.read_bytes()[:-BYTES])
    with pytest.raises(ConflictError, match="changed"):
        write(source, MemoryStorage())


def test_what_a_check_refuses_leaves_no_shard(tmp_path: Path) -> None:
    source, storage = raw_source(tmp_path, 2, 2), MemoryStorage()

    def check(tile: int, data: memoryview) -> None:
        assert len(data) == BYTES
        if tile == 2:
            raise BrokenError("tile 2 is bad")

    plan = plan_level(source.levels[0], 0)
    with SourceBytes(source.files) as files, Recorder(storage) as recorder:
        (job,) = shard_writer.jobs(plan, lambda: check)
        with pytest.raises(BrokenError):
            shard_writer.write_shard(job, files, recorder, "s/", lambda _: None)
        assert recorder.records == ()
    assert list(storage.list()) == []


# --- the index --------------------------------------------------------------------------------------------------------


def index_of(count: int) -> bytes:
    index = shards.empty_index(count)
    index["offset"][1:], index["nbytes"][1:] = np.arange(count - 1) * 10, 10
    return shards.encode_index(index)


def test_an_index_comes_back() -> None:
    decoded = shards.decode_index(index_of(5), 5, where="k")
    assert decoded["nbytes"].tolist() == [shards.ABSENT, 10, 10, 10, 10]
    assert decoded["offset"].tolist() == [shards.ABSENT, 0, 10, 20, 30]


@pytest.mark.parametrize("bit", range(0, 84 * 8, 13))
def test_a_damaged_index_is_named(bit: int) -> None:
    data = bytearray(index_of(5))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError, match="the/shard"):
        shards.decode_index(bytes(data), 5, where="the/shard")


@pytest.mark.parametrize("cut", [1, 4, 80, 84])
def test_a_shard_that_is_too_short_for_its_index_is_named(cut: int) -> None:
    with pytest.raises(IntegrityError, match="the/shard"):
        shards.decode_index(index_of(5)[cut:], 5, where="the/shard")


def test_zarr_refuses_a_damaged_index_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    storage = MemoryStorage()
    (key,) = write(raw_source(tmp_path / "a", 2, 2), storage)
    array = copied(storage, tmp_path / "z")
    path = tmp_path / "z" / key[2:]
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"(?i)checksum"):
        array[:]
