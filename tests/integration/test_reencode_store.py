"""Every kind of source through the presets: same pixels, same files, and the same store again in `keep`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.made_slides import TILES, WHOLE
from tests.store_kit import PLACE, REAL, Stored, check_pixels, store
from wsistore.client.opening import open_path
from wsistore.compress.archive import open_stored, store_archive
from wsistore.compress.extents import map_source
from wsistore.compress.finishing import finish_reencode, sweep
from wsistore.compress.keys import Place
from wsistore.compress.presets import ENCODINGS, Encoding
from wsistore.compress.reencoding import plan_reencode
from wsistore.compress.shard_task import ShardNote, run_task
from wsistore.compress.source_file import open_view
from wsistore.compress.verify import verify_copy
from wsistore.model import Preset
from wsistore.slides.base import Codec
from wsistore.storage.base import Storage

KEEP, FOLD, PACK = (ENCODINGS[preset] for preset in (Preset.KEEP, Preset.FOLD, Preset.PACK))
TALL = replace(FOLD, fold_height=3)
"""A height that nothing divides by."""


_SMALL_BYTES = 500_000


@dataclass(frozen=True)
class Opened:
    """Hands the tasks a storage that is open already."""

    storage: Storage

    def __call__(self) -> Storage:
        return self.storage

    def __hash__(self) -> int:
        return id(self.storage)


def reencoded(stored: Stored, encoding: Encoding, attempt: str) -> tuple[Stored, list[ShardNote]]:
    """Write a copy in another encoding beside the one that is there, and verify it."""
    ref, place = Opened(stored.storage), Place(PLACE.slide, attempt)
    before = open_stored(stored.storage, stored.draft.place)
    plan = plan_reencode(before, ref, place, ref, encoding, stored.draft.objects)
    notes = [note for task in plan.tasks for note in run_task(task)]
    draft = finish_reencode(before, stored.storage, plan, notes, {"action": "re-encoded"})
    verify_copy(stored.storage, place, draft.objects, draft.files)
    sweep(stored.storage, draft)
    assert {r.key for r in draft.objects} == {
        info.key for prefix in (place.store, place.private) for info in stored.storage.list(prefix)
    }, "nothing else is left of the attempt"
    return replace(stored, draft=draft), notes


def store_hashes(stored: Stored) -> dict[str, str]:
    prefix = stored.draft.place.store
    return {r.key.removeprefix(prefix): r.sha256 for r in stored.draft.objects if r.key.startswith(prefix)}


def check_files(stored: Stored) -> None:
    """Each file reads back as it was."""
    slide = open_stored(stored.storage, stored.draft.place)
    mapped = map_source(slide)
    for number, file in enumerate(stored.source.files):
        with open_view(slide, mapped, number) as view:
            assert hashlib.file_digest(view, "sha256").hexdigest() == stored.draft.files[number].sha256
        assert file.size_bytes == stored.draft.files[number].size_bytes


def check_packed(packed: Stored, plain: Stored) -> None:
    """The archive opens as it is, and shows the pixels that the unpacked store shows."""
    path = packed.root / store_archive(packed.draft.place)
    assert len(packed.draft.objects) == 2
    with open_path(path) as slide:
        for number, level in enumerate(plain.source.levels):
            shown = np.moveaxis(np.asarray(slide.group[f"{number}/image"][:]), 0, -1)  # type: ignore[index]
            expected = np.moveaxis(np.asarray(plain.image(number)[:]), 0, -1)
            assert np.array_equal(shown, expected), f"level {number} of {level.height} rows"


@pytest.mark.parametrize("kind", sorted(TILES))
def test_made_up_slides_go_through_all_presets(kind: str, tmp_path: Path) -> None:
    maker, _ = TILES[kind]
    (tmp_path / "source").mkdir()
    kept = store(maker(tmp_path / "source"), tmp_path / "tier")
    folded, _ = reencoded(kept, FOLD, "fold")
    tall, _ = reencoded(folded, TALL, "tall")
    packed, _ = reencoded(tall, PACK, "pack")
    again, _ = reencoded(packed, KEEP, "keep")
    for one in (folded, tall, again):
        for number, level in enumerate(one.source.levels):
            assert check_pixels(one, number) == len(np.unique(level.segments["tile"]))
    for one in (folded, tall, packed, again):
        check_files(one)
    check_packed(packed, kept)
    assert store_hashes(again) == store_hashes(kept)


@pytest.mark.parametrize("name", REAL)
def test_real_slides_come_back_from_the_cold_as_they_were(name: str, tmp_path: Path, real_slides: Path) -> None:
    kept = store(real_slides / name, tmp_path / "tier")
    packed, _ = reencoded(kept, PACK, "pack")
    again, _ = reencoded(packed, KEEP, "keep")
    check_files(packed)
    assert store_hashes(again) == store_hashes(kept)
    sizes = [sum(record.size_bytes for record in one.draft.objects) for one in (kept, packed)]
    codecs = {level.coding.codec for level in kept.source.levels if level.coding}
    if codecs <= {Codec.JPEG, Codec.JPEG_STRIPS} and sizes[0] > _SMALL_BYTES:
        assert sizes[1] < 0.85 * sizes[0]
    else:  # what does not get smaller takes the archives' lists and the record of `keep` on top
        assert sizes[1] < sizes[0] + 8192


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_slides_without_tiles_go_through_all_presets(kind: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    kept = store(WHOLE[kind](tmp_path / "source"), tmp_path / "tier")
    packed, _ = reencoded(kept, PACK, "pack")
    again, _ = reencoded(packed, KEEP, "keep")
    for one in (packed, again):
        check_files(one)
    assert store_hashes(again) == store_hashes(kept)


def test_a_task_that_is_begun_anew_does_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    kept = store(TILES["svs-420"][0](tmp_path / "source"), tmp_path / "tier")
    ref, place = Opened(kept.storage), Place(PLACE.slide, "fold")
    before = open_stored(kept.storage, PLACE)
    plan = plan_reencode(before, ref, place, ref, FOLD, kept.draft.objects)
    first = [note for task in plan.tasks for note in run_task(task)]
    second = [note for task in plan.tasks for note in run_task(task)]
    assert not any(note.resumed for note in first)
    assert [replace(note, resumed=True) for note in first] == second
    lost = next(note.record for note in first if note.record)
    kept.storage.delete(lost.key)
    third = [note for task in plan.tasks for note in run_task(task)]
    assert [note.record for note in third] == [note.record for note in first], "a shard that is gone is written again"
    assert [note.resumed for note in third] == [note.record != lost for note in third]


@pytest.mark.parametrize("encoding", [FOLD, PACK], ids=["fold", "pack"])
def test_shards_are_kept_until_the_copy_is_verified(encoding: Encoding, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    kept = store(TILES["svs-420"][0](tmp_path / "source"), tmp_path / "tier")
    ref, place = Opened(kept.storage), Place(PLACE.slide, "next")
    before = open_stored(kept.storage, PLACE)
    plan = plan_reencode(before, ref, place, ref, encoding, kept.draft.objects)
    made = []
    for turn in range(2):  # the second one goes on after a verification that was interrupted
        notes = [note for task in plan.tasks for note in run_task(task)]
        assert all(note.resumed is (turn > 0) for note in notes)
        made.append(finish_reencode(before, kept.storage, plan, notes, {"action": "re-encoded"}))
    assert made[0].objects == made[1].objects
    verify_copy(kept.storage, place, made[1].objects, made[1].files)
    sweep(kept.storage, made[1])
    there = {info.key for prefix in (place.store, place.private) for info in kept.storage.list(prefix)}
    assert there == {record.key for record in made[1].objects}
