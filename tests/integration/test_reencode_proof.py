"""What a new copy takes over is proven, also what the vendor's files say nothing of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.integration.test_reencode_store import FOLD, KEEP, PACK, Opened, reencoded, store_hashes
from tests.made_slides import TILES, WHOLE
from tests.store_kit import PLACE, Stored, store
from wsistore.compress import shards
from wsistore.compress.archive import open_stored, store_archive
from wsistore.compress.keys import Place
from wsistore.compress.presets import Encoding
from wsistore.compress.reencoding import plan_reencode
from wsistore.compress.shard_task import ShardNote, ShardTask, note_key, run_task
from wsistore.errors import IntegrityError


def kept(kind: str, folder: Path) -> Stored:
    (folder / "source").mkdir()
    maker = TILES[kind][0] if kind in TILES else WHOLE[kind]
    return store(maker(folder / "source"), folder / "tier")


def flip(path: Path, at: int) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def shared_tile(stored: Stored) -> tuple[str, int]:
    """Return the shard in which the second of two tiles of the same bytes lies, and where it ends."""
    slide = open_stored(stored.storage, stored.draft.place)
    grid, _ = slide.array(0)
    listed = slide.layout()
    chunks = np.setdiff1d(np.arange(np.prod(grid.chunk_grid)), listed[listed["level"] == 0]["chunk"])
    shard, slot = (int(numbers[0]) for numbers in grid.shard_of_chunk(chunks[:1]))
    entry = slide.index(0, shard)[slot]
    return stored.draft.place.store + grid.shard_key(shard), int(entry["offset"] + entry["nbytes"])


@pytest.mark.parametrize("encoding", [FOLD, PACK, KEEP], ids=["fold", "pack", "keep"])
def test_a_tile_that_shares_its_bytes_is_proven_too(encoding: Encoding, tmp_path: Path) -> None:
    stored = kept("shared-offsets", tmp_path)
    key, stop = shared_tile(stored)
    flip(stored.root / key, stop - 200)
    with pytest.raises(IntegrityError, match=key):
        reencoded(stored, encoding, "other")


@pytest.mark.parametrize("kind", ["shared-offsets", "svs-420"])
def test_such_a_tile_is_proven_by_the_archive_that_it_lies_in(kind: str, tmp_path: Path) -> None:
    packed, _ = reencoded(kept(kind, tmp_path), PACK, "pack")
    key = store_archive(packed.draft.place)
    flip(packed.root / key, 10)  # the time of the first entry, which nobody reads
    if kind == "svs-420":
        reencoded(packed, FOLD, "fold")  # the files prove all of its tiles
        return
    with pytest.raises(IntegrityError, match=key):
        reencoded(packed, FOLD, "fold")


@pytest.mark.parametrize("kind", ["svs-420", "flat-lzw"])
@pytest.mark.parametrize("encoding", [FOLD, PACK, KEEP], ids=["fold", "pack", "keep"])
def test_documents_are_proven(kind: str, encoding: Encoding, tmp_path: Path) -> None:
    stored = kept(kind, tmp_path)
    names = sorted(name for name in store_hashes(stored) if "/image/c/" not in name)
    assert {"zarr.json", "thumbnail/zarr.json", "thumbnail/c/0/0/0"} <= set(names)
    for number, name in enumerate(names):
        path = stored.store / name
        before = path.read_bytes()
        flip(path, before.index(b"1") if b"1" in before and name.endswith("json") else len(before) // 2)
        with pytest.raises(IntegrityError):
            reencoded(stored, encoding, f"other{number}")
        path.write_bytes(before)
    reencoded(stored, encoding, "good")


@pytest.mark.parametrize("kind", ["svs-420", "flat-lzw"])
def test_what_is_not_the_slides_is_not_taken_over(kind: str, tmp_path: Path) -> None:
    stored = kept(kind, tmp_path)
    for folder in (stored.store, stored.store / "thumbnail"):
        (folder / "of-another-program").write_bytes(b"PATIENT-0001")
    packed, _ = reencoded(stored, PACK, "pack")
    assert b"of-another-program" not in (packed.root / store_archive(packed.draft.place)).read_bytes()
    again, _ = reencoded(packed, KEEP, "keep")
    assert store_hashes(again) == store_hashes(stored)


def begun(stored: Stored) -> tuple[tuple[ShardTask, ...], list[ShardNote], list[str]]:
    """Write the shards of a copy; return its tasks, and their notes with the keys of these."""
    ref, place = Opened(stored.storage), Place(PLACE.slide, "fold")
    before = open_stored(stored.storage, PLACE)
    plan = plan_reencode(before, ref, place, ref, FOLD, stored.draft.objects)
    notes = [note for task in plan.tasks for note in run_task(task)]
    keys = sorted(info.key for info in stored.storage.list(f"{place.private}notes/"))
    assert len(keys) == len(notes)
    return plan.tasks, notes, keys


LIES: dict[str, Callable[[dict[str, object]], object]] = {
    "a setting of a newer version": lambda note: {**note, "colour": 1},
    "no tiles": lambda note: {**note, "tiles": None},
    "fallbacks of another kind": lambda note: {**note, "fallbacks": ["refused"]},
    "seconds of another kind": lambda note: {**note, "cpu_seconds": [1]},
    "another object": lambda note: {**note, "record": {"key": "wsistore-tier.json", "size_bytes": 1, "sha256": "0"}},
    "half a record": lambda note: {**note, "record": {"key": "a"}},
    "a list": lambda note: [note],
    "nothing": lambda note: {},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_note_that_is_not_as_we_write_it_is_no_note(lie: str, tmp_path: Path) -> None:
    stored = kept("svs-420", tmp_path)
    tasks, notes, keys = begun(stored)
    for key in keys:
        told = json.loads(stored.storage.get(key))
        stored.storage.put(key, json.dumps(LIES[lie](told)).encode())
    again = [note for task in tasks for note in run_task(task)]
    assert [note.record for note in again] == [note.record for note in notes]
    assert all(type(note.tiles) is int and isinstance(note.fallbacks, dict) for note in again)
    assert [note.resumed for note in again] == [lie == "a setting of a newer version"] * len(notes)


def test_an_index_of_impossible_chunks_is_refused_when_the_work_is_planned(tmp_path: Path) -> None:
    stored = kept("svs-420", tmp_path)
    slide = open_stored(stored.storage, PLACE)
    grid, _ = slide.array(0)
    index = slide.index(0, 0).copy()
    index["nbytes"][index["nbytes"] != shards.ABSENT] = 2**40
    path = stored.store / grid.shard_key(0)
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - shards.index_bytes(len(index))] + shards.encode_index(index))
    with pytest.raises(IntegrityError, match="too large"):
        reencoded(stored, FOLD, "fold")


def test_the_note_of_a_shard_is_private(tmp_path: Path) -> None:
    stored = kept("svs-420", tmp_path)
    tasks, _, _ = begun(stored)
    slide = open_stored(stored.storage, PLACE)
    assert note_key(tasks[0], slide.array(0)[0], 0).startswith(tasks[0].target_place.private)
