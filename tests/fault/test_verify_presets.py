"""Verification and restoring of copies whose chunks have to be undone, and of packed ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.made_slides import TILES, WHOLE
from wsistore.compress import single_pass
from wsistore.compress.archive import open_stored, pack, private_archive, store_archive
from wsistore.compress.extents import map_source
from wsistore.compress.finishing import finish_reencode, sweep
from wsistore.compress.keys import Place
from wsistore.compress.presets import ENCODINGS, Encoding
from wsistore.compress.reader import ChunkRange
from wsistore.compress.recording import Recorder
from wsistore.compress.reencoding import plan_reencode
from wsistore.compress.shard_task import run_task
from wsistore.compress.shards import encode_index
from wsistore.compress.source_file import open_view
from wsistore.compress.verify import verify_copy
from wsistore.compress.writer import Draft, write_slide
from wsistore.errors import IntegrityError
from wsistore.model import ObjectRecord, Preset
from wsistore.ops.restoring import source_blocks
from wsistore.slides.registry import open_source
from wsistore.storage.base import ByteRange, Span, Storage
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.wrapper import WrappedStorage

PLACE = Place("slide0key", "attempt0key")
FOLD = replace(ENCODINGS[Preset.FOLD], fold_height=3)
PACK = ENCODINGS[Preset.PACK]
COPIES: dict[str, tuple[str, Encoding | None]] = {
    "strips": ("ndpi-420", None),
    "fold": ("svs-420", FOLD),
    "fold-strips": ("ndpi-420-narrow", FOLD),
    "fold-fragments": ("dicom-fragments", FOLD),
    "fold-several-files": ("dicom-concatenated", FOLD),
    "pack": ("svs-420", PACK),
    "pack-strips": ("ndpi-420", PACK),
    "pack-sparse": ("dicom-sparse", PACK),
    "pack-as-it-was": ("webp", None),
    "pack-whole": ("flat-deflate", None),
}


@dataclass(frozen=True)
class Opened:
    """Hands the tasks a storage that is open already."""

    storage: Storage

    def __call__(self) -> Storage:
        return self.storage

    def __hash__(self) -> int:
        return id(self.storage)


@dataclass(frozen=True)
class Copy:
    """The objects of one copy, and the source's files."""

    draft: Draft
    objects: dict[str, bytes]
    files: list[bytes]

    def tier(self, changed: dict[str, bytes | None] | None = None) -> MemoryStorage:
        storage = MemoryStorage()
        for key, data in {**self.objects, **(changed or {})}.items():
            if data is not None:
                storage.put(key, data)
        return storage

    def verify(self, storage: Storage) -> None:
        verify_copy(storage, self.draft.place, self.draft.objects, self.draft.files)


def make(name: str, folder: Path) -> Copy:
    kind, encoding = COPIES[name]
    folder.mkdir(exist_ok=True)
    source = open_source(WHOLE[kind](folder) if kind in WHOLE else TILES[kind][0](folder))
    storage = MemoryStorage()
    draft = write_slide(source, storage, PLACE, history=())
    if encoding is not None:
        ref, place = Opened(storage), Place(PLACE.slide, "attempt1key")
        before = open_stored(storage, PLACE)
        plan = plan_reencode(before, ref, place, ref, encoding, draft.objects)
        notes = [note for task in plan.tasks for note in run_task(task)]
        draft = finish_reencode(before, storage, plan, notes, {"action": "re-encoded"})
        sweep(storage, draft)
    elif name.startswith("pack"):
        with Recorder(storage) as recorder:
            pack(storage, PLACE, draft.objects, recorder)
        draft = replace(draft, objects=recorder.records)
    objects = {record.key: storage.get(record.key) for record in draft.objects}
    return Copy(draft, objects, [file.path.read_bytes() for file in source.files])


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Copy]:
    made: dict[str, Copy] = {}

    def get(name: str) -> Copy:
        if name not in made:
            made[name] = make(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


class Recording(WrappedStorage):
    """Remembers what was read, and how."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.streams: list[tuple[str, bool]] = []
        self.gets: list[tuple[str, ByteRange | None]] = []
        self.bytes_got = 0

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        data = super().get(key, byte_range, version=version)
        self.gets.append((key, byte_range))
        self.bytes_got += len(data) if isinstance(byte_range, Span) else 0  # ends are indexes, or lists of entries
        return data

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        self.streams.append((key, uncached))
        return super().stream(key, block_bytes=block_bytes, uncached=uncached)


# --- what is sound ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("block", [700, 4 * 1024 * 1024])
def test_every_object_is_streamed_once_and_the_files_are_rebuilt_of_what_was_streamed(
    copies: Callable[[str], Copy], name: str, block: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(single_pass, "BLOCK_BYTES", block)
    copy, local = copies(name), LocalStorage(tmp_path, durable=False)
    for key, data in copy.objects.items():
        local.put(key, data)
    storage = Recording(local)
    copy.verify(storage)
    assert sorted(storage.streams) == [(key, True) for key in sorted(copy.objects)]
    chunks = sum(len(data) for key, data in copy.objects.items() if "/image/c/" in key or key.endswith(".ozx"))
    assert storage.bytes_got < max(12_000, chunks // 3), "no chunk is read a second time"


@pytest.mark.parametrize("name", COPIES)
def test_files_and_any_range_of_them_are_as_they_were(copies: Callable[[str], Copy], name: str) -> None:
    copy = copies(name)
    slide = open_stored(copy.tier(), copy.draft.place)
    mapped = map_source(slide)
    for number, content in enumerate(copy.files):
        assert b"".join(source_blocks(slide, mapped, number)) == content
        with open_view(slide, mapped, number) as view:
            for start in range(0, len(content), max(1, len(content) // 37)):
                view.seek(start)
                assert view.read(997) == content[start : start + 997]


@settings(max_examples=150)
@given(st.data())
def test_any_range_reads_as_it_was(copies: Callable[[str], Copy], data: st.DataObject) -> None:
    copy = copies(data.draw(st.sampled_from(["fold", "fold-fragments", "pack-strips", "pack"])))
    slide = open_stored(copy.tier(), copy.draft.place)
    number = data.draw(st.integers(0, len(copy.files) - 1))
    content = copy.files[number]
    with open_view(slide, map_source(slide), number) as view:
        for _ in range(4):
            start = data.draw(st.integers(0, len(content)))
            length = data.draw(st.integers(0, 60_000))
            view.seek(start)
            assert view.read(length) == content[start : start + length]


def test_a_packed_copy_is_two_objects(copies: Callable[[str], Copy]) -> None:
    for name in ("pack", "pack-strips", "pack-whole"):
        copy = copies(name)
        assert set(copy.objects) == {store_archive(copy.draft.place), private_archive(copy.draft.place)}


# --- what is not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("change", ["flip", "truncate", "empty", "extend", "remove"])
def test_damage_is_found_and_named_and_nothing_wrong_is_given_out(
    copies: Callable[[str], Copy], name: str, change: str
) -> None:
    copy = copies(name)
    for key, data in copy.objects.items():
        if key.endswith("zarr.json") or "/thumbnail/" in key or "/icc/" in key:
            continue  # not what the files are rebuilt of: as in a copy that is neither folded nor packed
        for at in sorted({0, len(data) // 3, len(data) // 2, len(data) - 30, len(data) - 10, len(data) - 2}):
            changed: dict[str, bytes | None] = {
                key: {
                    "flip": data[: max(at, 0)] + bytes([data[max(at, 0)] ^ 4]) + data[max(at, 0) + 1 :],
                    "truncate": data[: max(at, 0)],
                    "empty": b"",
                    "extend": data + b"\0",
                    "remove": None,
                }[change]
            }
            with pytest.raises(IntegrityError) as caught:
                copy.verify(copy.tier(changed))
            assert key in caught.value.message, f"byte {at} of {key}: {caught.value}"
            check_restore(copy, copy.tier(changed))
            if change in {"empty", "extend", "remove"}:
                break


def check_restore(copy: Copy, storage: Storage) -> None:
    """What is rebuilt has the recorded hash, or an `IntegrityError` comes instead."""
    try:
        slide = open_stored(storage, copy.draft.place)
        mapped = map_source(slide)
        made = [b"".join(source_blocks(slide, mapped, number)) for number in range(len(slide.companion.files))]
    except IntegrityError:
        return
    for data, file in zip(made, slide.companion.files, strict=True):
        if hashlib.sha256(data).hexdigest() == file.sha256:
            assert data in copy.files


@pytest.mark.parametrize("name", ["strips", "fold", "fold-strips", "pack"])
def test_forged_indexes_are_refused(copies: Callable[[str], Copy], name: str) -> None:
    """With a sound crc32c: chunks of a hostile size, outside of the shard, and absent ones."""
    copy = copies(name)
    slide = open_stored(copy.tier(), copy.draft.place)
    grid, _ = slide.array(0)
    key, start = slide.locate(slide.place.store + grid.shard_key(0))
    size = slide.storage.head(slide.place.store + grid.shard_key(0)).size_bytes
    good = slide.index(0, 0)
    for offset, length in ((0, 2**40), (2**63, 10), (2**62, 2**62), (size, 10), (0, 2**64 - 1), (2**64 - 2, 5)):
        index = good.copy()
        index[0] = (offset, length)
        forged = encode_index(index)
        data = bytearray(copy.objects[key])
        data[start + size - len(forged) : start + size] = forged
        records = [_record(key, bytes(data)) if one.key == key else one for one in copy.draft.objects]
        with pytest.raises(IntegrityError):
            verify_copy(copy.tier({key: bytes(data)}), copy.draft.place, records, copy.draft.files)


def _record(key: str, data: bytes) -> ObjectRecord:
    return ObjectRecord(key, len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("name", ["fold", "pack"])
def test_a_copy_that_is_as_recorded_but_not_the_source_is_found(copies: Callable[[str], Copy], name: str) -> None:
    copy = copies(name)
    key = next(key for key in copy.objects if "/0/image/c/" in key or key.endswith(".ozx"))
    data = bytearray(copy.objects[key])
    data[len(data) // 3] ^= 1
    records = [_record(key, bytes(data)) if one.key == key else one for one in copy.draft.objects]
    with pytest.raises(IntegrityError):
        verify_copy(copy.tier({key: bytes(data)}), copy.draft.place, records, copy.draft.files)


def test_a_record_that_leaves_an_object_out_is_no_proof(copies: Callable[[str], Copy]) -> None:
    for name in ("fold", "pack"):
        copy = copies(name)
        for record in copy.draft.objects:
            needed = record.key.endswith((".ozx", ".zip", "skeleton.zst", "layout.parquet"))
            if not needed and "image/c" not in record.key:
                continue
            rest = [one for one in copy.draft.objects if one != record]
            with pytest.raises(IntegrityError):
                verify_copy(copy.tier(), copy.draft.place, rest, copy.draft.files)


# --- chunks that pass before they are due -----------------------------------------------------------------------------


@pytest.mark.parametrize("held", [0, 3_000, 10**9])
def test_chunks_that_lie_in_another_order_are_held_or_read_again(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_pass, "HELD_BYTES", held)
    monkeypatch.setattr(single_pass, "BLOCK_BYTES", 512)
    inner = MemoryStorage()
    parts = [bytes([number]) * 400 for number in range(40)]
    inner.put("shard", b"".join(parts))
    storage = Recording(inner)
    ranges = [ChunkRange("shard", number * 400, 400) for number in range(40)]
    order = [*range(30, 40), *range(0, 30, 2), *range(29, 0, -2)]
    record = _record("shard", b"".join(parts))
    with single_pass.SinglePass(storage, [record], {"shard": len(order)}, ranges) as reading:
        for number in order:
            assert reading.chunk(ranges[number]) == parts[number]
        reading.finish()
    assert storage.streams == [("shard", True)]
    again = len(storage.gets)
    assert (again == 0) if held == 10**9 else again > 0
