"""Verification: whatever happens to any byte of a copy is found, and what is damaged is named."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.zstd import Zstd

from wsistore.compress import single_pass
from wsistore.compress.keys import Place
from wsistore.compress.verify import verify_copy
from wsistore.compress.writer import Draft, write_slide
from wsistore.errors import IntegrityError, Kind, StorageError, TransientError
from wsistore.model import Mode, ObjectRecord
from wsistore.slides.base import SEGMENT_DTYPE, Codec, Color, Level, Source, TileCoding, source_files
from wsistore.slides.registry import open_source
from wsistore.storage.base import ByteRange, Properties, Storage
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.wrapper import WrappedStorage
from wsistore.testing.ndpi import write_ndpi
from wsistore.testing.pictures import label_image, pyramid
from wsistore.testing.tiffs import write_flat_tiff, write_svs
from wsistore.testing.tissue import tissue

PLACE = Place("slide0key", "attempt0key")
KINDS = ("svs", "ndpi", "whole")
Objects = dict[str, bytes]


def make(kind: str, folder: Path, seed: int = 31) -> Path:
    levels = pyramid(tissue(256, 384, seed=seed), 2, 2)
    if kind == "svs":
        return write_svs(folder / "a.svs", levels, tile=64, label=label_image("CASE-0001"))
    if kind == "ndpi":
        return write_ndpi(folder / "a.ndpi", levels, restart_mcus=4)
    return write_flat_tiff(folder / "a.tiff", levels[1], codec="none")


class Copy:
    """The objects of one verified copy, to be put into a tier with something done to them."""

    def __init__(self, path: Path, place: Place = PLACE) -> None:
        storage = MemoryStorage()
        self.draft: Draft = write_slide(open_source(path), storage, place, history=())
        self.objects: Objects = {info.key: storage.get(info.key) for info in storage.list()}

    def verify(self, objects: Objects, *, recorded: bool = False) -> None:
        """Verify what became of the copy; `recorded`: the commit records these very objects."""
        storage = MemoryStorage()
        for key, data in objects.items():
            storage.put(key, data)
        records = [ObjectRecord(k, len(d), hashlib.sha256(d).hexdigest()) for k, d in objects.items()]
        verify_copy(storage, self.draft.place, records if recorded else self.draft.objects, self.draft.files)

    def verify_in(self, storage: Storage) -> None:
        verify_copy(storage, self.draft.place, self.draft.objects, self.draft.files)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Copy]:
    return {kind: Copy(make(kind, tmp_path_factory.mktemp(kind))) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_copy_verifies(copies: dict[str, Copy], kind: str) -> None:
    copies[kind].verify(copies[kind].objects)


# --- damage to one object ---------------------------------------------------------------------------------------------


def flips(data: bytes) -> list[int]:
    """Return places in an object: first, last, middle, into the index and its crc32c where it is a shard."""
    return sorted({0, len(data) - 1, len(data) // 2, max(0, len(data) - 3), max(0, len(data) - 10), len(data) // 3})


@pytest.mark.parametrize("kind", KINDS)
def test_one_bit_anywhere_is_found_and_its_object_named(copies: dict[str, Copy], kind: str) -> None:
    copy = copies[kind]
    for key, data in copy.objects.items():
        for at in flips(data):
            changed = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
            with pytest.raises(IntegrityError) as caught:
                copy.verify({**copy.objects, key: changed})
            assert key in caught.value.message, f"byte {at} of {key}: {caught.value}"
            assert caught.value.remedy


@settings(max_examples=120)
@given(st.data())
def test_any_change_of_any_object_is_found_and_named(copies: dict[str, Copy], data: st.DataObject) -> None:
    copy = copies[data.draw(st.sampled_from(KINDS))]
    key = data.draw(st.sampled_from(sorted(copy.objects)))
    content = bytearray(copy.objects[key])
    at = data.draw(st.integers(0, len(content)))
    what = data.draw(st.sampled_from(["flip", "cut", "insert", "zero", "swap"]))
    if what == "flip":
        content[at % len(content)] ^= data.draw(st.integers(1, 255))
    elif what == "cut":
        del content[at : at + data.draw(st.integers(1, 40))]
    elif what == "insert":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=40))
    elif what == "zero":
        content[at:] = bytes(len(content) - at)
    else:
        content = content[at:] + content[:at]
    if bytes(content) == copy.objects[key]:
        return
    with pytest.raises(IntegrityError) as caught:
        copy.verify({**copy.objects, key: bytes(content)})
    assert key in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["truncated", "emptied", "extended", "deleted"])
def test_objects_that_end_early_or_late_or_are_gone_are_named(copies: dict[str, Copy], kind: str, change: str) -> None:
    copy = copies[kind]
    for key, data in copy.objects.items():
        changed = {**copy.objects, key: {"truncated": data[:-1], "emptied": b"", "extended": data + b"\0"}.get(change)}
        with pytest.raises(IntegrityError) as caught:
            copy.verify({k: v for k, v in changed.items() if v is not None})
        assert key in caught.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_two_objects_that_changed_places_are_found(copies: dict[str, Copy], kind: str) -> None:
    copy = copies[kind]
    keys = sorted(copy.objects)
    for first, second in zip(keys, keys[1:] + keys[:1], strict=True):
        if copy.objects[first] == copy.objects[second]:
            continue
        with pytest.raises(IntegrityError) as caught:
            copy.verify({**copy.objects, first: copy.objects[second], second: copy.objects[first]})
        assert first in caught.value.message or second in caught.value.message


def test_the_companion_of_another_slide_is_found(copies: dict[str, Copy], tmp_path: Path) -> None:
    """Also where it describes the very same files."""
    for other in (
        Copy(make("svs", tmp_path, seed=32), Place("another0key", "attempt0key")),
        Copy(make("svs", tmp_path), Place(PLACE.slide, "attempt1key")),
    ):
        private = {
            key.replace(other.draft.place.private, PLACE.private): data
            for key, data in other.objects.items()
            if key.startswith("private/")
        }
        with pytest.raises(IntegrityError, match="another"):
            copies["svs"].verify({**copies["svs"].objects, **private}, recorded=True)


def test_other_files_than_recorded_at_ingest_are_found(copies: dict[str, Copy]) -> None:
    """The catalogue says one thing and the companion another."""
    copy, other = copies["svs"], copies["ndpi"]
    storage = MemoryStorage()
    for key, data in copy.objects.items():
        storage.put(key, data)
    with pytest.raises(IntegrityError, match="another source"):
        verify_copy(storage, PLACE, copy.draft.objects, other.draft.files)


def test_a_record_that_leaves_an_object_out_is_no_proof(copies: dict[str, Copy]) -> None:
    for kind in KINDS:
        copy = copies[kind]
        storage = MemoryStorage()
        for key, data in copy.objects.items():
            storage.put(key, data)
        for record in copy.draft.objects:
            if record.key.endswith(("zarr.json", "/c/0", "/c/0/0/0")):
                continue  # metadata that could be made anew
            rest = [one for one in copy.draft.objects if one != record]
            with pytest.raises(IntegrityError, match="leaves it out"):
                verify_copy(storage, PLACE, rest, copy.draft.files)


@pytest.mark.parametrize("kind", KINDS)
def test_objects_that_are_as_recorded_but_not_the_source_are_found(copies: dict[str, Copy], kind: str) -> None:
    """Say, written from a source that changed: every object is what the commit says, and the file is another."""
    copy = copies[kind]
    payload = "/source/" if kind == "whole" else "/image/c/"
    for key in [key for key in copy.objects if payload in key]:
        data = bytearray(copy.objects[key])
        data[len(data) // 4] ^= 1
        with pytest.raises(IntegrityError, match="is not what was ingested"):
            copy.verify({**copy.objects, key: bytes(data)}, recorded=True)


# --- formats of a newer wsistore --------------------------------------------------------------------------------------


def test_a_companion_of_a_newer_format_is_said_to_be_newer(copies: dict[str, Copy]) -> None:
    copy, key = copies["svs"], PLACE.private + "files.json.zst"
    document = json.loads(Zstd().decode(copy.objects[key]))
    newer = Zstd().encode(json.dumps({**document, "format": 2}).encode())
    with pytest.raises(IntegrityError, match="format 2") as caught:
        copy.verify({**copy.objects, key: bytes(newer)}, recorded=True)
    assert caught.value.kind is Kind.FORMAT_UNKNOWN
    assert key in caught.value.message


def test_an_array_of_a_newer_format_is_said_to_be_newer(copies: dict[str, Copy]) -> None:
    copy, key = copies["svs"], PLACE.store + "0/image/zarr.json"
    document = json.loads(copy.objects[key])
    changes: list[dict[str, object]] = [
        {"codecs": []}, {"codecs": [{"name": "sharding_next"}]}, {"shape": [3, -1, 5]}, {"shape": "?"}, {"shape": None}
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(IntegrityError, match="0/image") as caught:
            copy.verify({**copy.objects, key: json.dumps({**document, **change}).encode()}, recorded=True)
        assert caught.value.kind is Kind.FORMAT_UNKNOWN


# --- forged documents: errors of the tree, and memory that stays bounded ----------------------------------------------

BOMB = Zstd(level=9).encode(bytes(64 * 1024 * 1024))
DECLARED = b"\x28\xb5\x2f\xfd\xe0" + (2**50).to_bytes(8, "little") + b"\x01\x00\x00"

FORGED_JSON = [
    b"", b"null", b"[]", b"7", b'"x"', b"{", b"[" * 100_000, b'{"format":1}', b'{"format":1e999}', b"\xff\xfe{}",
    b'{"format":1,"files":[[]]}', b"{" + b'"a":{' * 50_000,
]  # fmt: skip


@pytest.mark.parametrize(
    "data", [bytes(BOMB), DECLARED, b"\x28\xb5\x2f\xfd", b"no zstd", *map(Zstd().encode, FORGED_JSON)]
)
def test_forged_companions_are_refused(copies: dict[str, Copy], data: bytes) -> None:
    key = PLACE.private + "files.json.zst"
    with pytest.raises(IntegrityError, match=key):
        copies["svs"].verify({**copies["svs"].objects, key: bytes(data)}, recorded=True)


@pytest.mark.parametrize("data", FORGED_JSON)
def test_forged_metadata_is_refused(copies: dict[str, Copy], data: bytes) -> None:
    with pytest.raises(IntegrityError, match="0/image"):
        copies["svs"].verify({**copies["svs"].objects, PLACE.store + "0/image/zarr.json": data}, recorded=True)


@settings(max_examples=120)
@given(st.data())
def test_companions_with_wrong_values_are_refused_or_read(copies: dict[str, Copy], data: st.DataObject) -> None:
    """Whatever a field of the document is changed to, nothing but an `IntegrityError` comes out."""
    copy, key = copies["svs"], PLACE.private + "files.json.zst"
    document = json.loads(Zstd().decode(copy.objects[key]))
    wrong: st.SearchStrategy[object] = st.sampled_from(
        [None, -1, 2**70, 1.5, "x", [], {}, [[]], [None], [-5], {"a": 1}, True]
    )
    name = data.draw(st.sampled_from(sorted(document)))
    document[name] = data.draw(wrong)
    if data.draw(st.booleans()):
        document["skeleton"] = {"frames": data.draw(st.lists(wrong, max_size=3)), "size_bytes": data.draw(wrong)}
    with contextlib.suppress(IntegrityError):  # some values are as good as the true ones
        copy.verify({**copy.objects, key: bytes(Zstd().encode(json.dumps(document).encode()))}, recorded=True)


def test_a_skeleton_frame_that_holds_too_much_is_refused(copies: dict[str, Copy]) -> None:
    copy, key = copies["svs"], PLACE.private + "skeleton.zst"
    with pytest.raises(IntegrityError, match="skeleton"):
        copy.verify({**copy.objects, key: bytes(BOMB)}, recorded=True)


# --- the tier ---------------------------------------------------------------------------------------------------------


class Recording(WrappedStorage):
    """Remembers how it was read, and may stream other bytes than it has."""

    def __init__(self, inner: Storage, change: Callable[[str, bytes], bytes] | None = None) -> None:
        super().__init__(inner)
        self.streams: list[tuple[str, bool]] = []
        self.gets: list[str] = []
        self.most_open = self._open = 0
        self._change = change

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        self.gets.append(key)
        return super().get(key, byte_range, version=version)

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        self.streams.append((key, uncached))
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        try:
            for block in super().stream(key, block_bytes=block_bytes, uncached=uncached):
                yield memoryview(self._change(key, bytes(block))) if self._change else block
        finally:
            self._open -= 1

    @property
    def properties(self) -> Properties:
        return super().properties


@pytest.mark.parametrize("kind", KINDS)
def test_every_object_is_streamed_once_and_uncached(copies: dict[str, Copy], kind: str, tmp_path: Path) -> None:
    local = LocalStorage(tmp_path, durable=False)
    for key, data in copies[kind].objects.items():
        local.put(key, data)
    storage = Recording(local)
    copies[kind].verify_in(storage)
    assert sorted(storage.streams) == [(key, True) for key in sorted(copies[kind].objects)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_medium_that_gives_other_bytes_than_the_cache_is_found(copies: dict[str, Copy], kind: str) -> None:
    copy = copies[kind]
    inner = MemoryStorage()
    for key, data in copy.objects.items():
        inner.put(key, data)
    for bad in copy.objects:
        storage = Recording(inner, lambda key, data, bad=bad: data[:-1] + b"?" if key == bad else data)  # type: ignore[misc]
        if inner.get(bad)[-1:] == b"?":
            continue
        with pytest.raises(IntegrityError) as caught:
            copy.verify_in(storage)
        assert bad in caught.value.message


class Failing(WrappedStorage):
    """A tier that cannot be reached while one object is streamed."""

    def __init__(self, inner: Storage, key: str) -> None:
        super().__init__(inner)
        self._key = key

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        if key == self._key:
            raise TransientError("the line is cut")
        return super().stream(key, block_bytes=block_bytes, uncached=uncached)


def test_a_tier_that_fails_proves_nothing_about_the_copy(copies: dict[str, Copy]) -> None:
    copy = copies["svs"]
    inner = MemoryStorage()
    for key, data in copy.objects.items():
        inner.put(key, data)
    for key in copy.objects:
        with pytest.raises(StorageError, match="line is cut"):
            copy.verify_in(Failing(inner, key))


# --- sources that jump ------------------------------------------------------------------------------------------------

TILE, DOWN, ACROSS = 16, 40, 6


def jumping(folder: Path) -> Source:
    """Return a source whose tiles lie in the file in a random order, so that reading it jumps between all shards."""
    rng, size = np.random.default_rng(7), TILE * TILE * 3
    places = rng.permutation(DOWN * ACROSS)
    path = folder / "jumping.raw"
    path.write_bytes(rng.integers(0, 255, 9 + size * len(places), np.uint8).tobytes())
    rows = np.zeros(len(places), SEGMENT_DTYPE)
    rows["tile"], rows["offset"], rows["length"] = np.arange(len(places)), 9 + places * size, size
    coding = TileCoding(Codec.NONE, Color.RGB)
    level = Level(DOWN * TILE, ACROSS * TILE, TILE, TILE, coding, rows)
    return Source("raw", Mode.TILES, "", source_files(folder, [path]), (level,), None, None)


def test_a_source_that_jumps_between_more_shards_than_are_streamed_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsistore.compress.levels.SHARD_BYTES", 12 * TILE * TILE * 3)
    monkeypatch.setattr(single_pass, "BLOCK_BYTES", 1000)
    inner = MemoryStorage()
    draft = write_slide(jumping(tmp_path), inner, PLACE, history=())
    shards = [record for record in draft.objects if "/image/c/" in record.key]
    assert len(shards) > 2 * single_pass.OPEN_STREAMS
    storage = Recording(inner)
    verify_copy(storage, PLACE, draft.objects, draft.files)
    assert sorted(storage.streams) == [(record.key, True) for record in draft.objects]
    for record in shards[:: len(shards) // 4]:
        data = bytearray(inner.get(record.key))
        data[len(data) // 2] ^= 1
        inner.put(record.key, data)
        with pytest.raises(IntegrityError, match=record.key):
            verify_copy(inner, PLACE, draft.objects, draft.files)
        data[len(data) // 2] ^= 1
        inner.put(record.key, data)


def test_an_ordinary_source_reads_every_shard_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are closed when their last tile has passed: however many there are, their tiles are not read again."""
    monkeypatch.setattr("wsistore.compress.levels.SHARD_BYTES", 1_000)
    inner = MemoryStorage()
    draft = write_slide(open_source(make("svs", tmp_path)), inner, PLACE, history=())
    storage = Recording(inner)
    shards = [record.key for record in draft.objects if "/image/c/" in record.key]
    assert len(shards) > single_pass.OPEN_STREAMS + 2
    verify_copy(storage, PLACE, draft.objects, draft.files)
    assert [key for key in storage.gets if "/image/c/" in key] == shards, "only their indexes are read apart"
