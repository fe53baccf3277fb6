"""`LocalStorage` and `MemoryStorage` behave as a dictionary does, whatever is asked of them in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wsistore.errors import Kind, ObjectExistsError, ObjectMissingError, StorageError
from wsistore.storage._ranges import bounds, flat
from wsistore.storage.base import ByteRange, Span, Tail, check_key
from wsistore.storage.coalescing import coalesce
from wsistore.storage.local import TEMPORARY_FOLDER, LocalStorage
from wsistore.storage.memory import MemoryStorage

# Few names that sort around the slash, so that keys often meet: as neighbours and as one another's folders.
PARTS = st.sampled_from(["a", "a-", "a.", "a0", "b", "é"])
KEYS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
CONTENTS = st.binary(max_size=40)
NUMBERS = st.integers(0, 60)
RANGES: st.SearchStrategy[ByteRange] = st.builds(Span, NUMBERS, NUMBERS) | st.builds(Tail, NUMBERS)


def _cut(data: bytes, byte_range: ByteRange) -> bytes:
    """Say the contract's words in another way than the code does."""
    if isinstance(byte_range, Tail):
        return data[len(data) - min(byte_range.length_bytes, len(data)) :]
    return data[byte_range.start :][: byte_range.length_bytes]


class StorageMachine(RuleBasedStateMachine):
    """A storage beside the dictionary that it should be."""

    folders_are_folders = True

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.storage: LocalStorage | MemoryStorage = LocalStorage(self.folder, durable=False)
        self.model: dict[str, bytes] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def clashes(self, key: str) -> bool:
        near = (other for other in self.model if other != key)
        return self.folders_are_folders and any(
            other.startswith(f"{key}/") or key.startswith(f"{other}/") for other in near
        )

    @rule(key=KEYS, data=CONTENTS)
    def put(self, key: str, data: bytes) -> None:
        if self.clashes(key):
            with pytest.raises(StorageError) as caught:
                self.storage.put(key, data)
            assert caught.value.kind is Kind.KEY_INVALID
        else:
            assert self.storage.put(key, data).size_bytes == len(data)
            self.model[key] = data

    @rule(key=KEYS, data=CONTENTS)
    def put_if_absent(self, key: str, data: bytes) -> None:
        if self.clashes(key):
            with pytest.raises(StorageError) as caught:
                self.storage.put(key, data, if_absent=True)
            assert caught.value.kind is Kind.KEY_INVALID
        elif key in self.model:
            with pytest.raises(ObjectExistsError):
                self.storage.put(key, data, if_absent=True)
        else:
            self.storage.put(key, data, if_absent=True)
            self.model[key] = data

    @rule(key=KEYS, parts=st.lists(CONTENTS, max_size=3), completes=st.booleans())
    def upload(self, key: str, parts: list[bytes], completes: bool) -> None:
        with self.storage.upload(key) as upload:
            for part in parts:
                upload.write(part)
            if completes and self.clashes(key):
                with pytest.raises(StorageError):
                    upload.complete()
            elif completes:
                upload.complete()
                self.model[key] = b"".join(parts)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.storage.delete(key)
        self.model.pop(key, None)

    @rule(key=KEYS, ranges=st.lists(RANGES, max_size=4), block_bytes=st.integers(1, 50), uncached=st.booleans())
    def read(self, key: str, ranges: list[ByteRange], block_bytes: int, uncached: bool) -> None:
        if key not in self.model:
            with pytest.raises(ObjectMissingError):
                self.storage.get(key)
            with pytest.raises(ObjectMissingError):
                self.storage.head(key)
            return
        data = self.model[key]
        assert self.storage.get(key) == data
        assert [self.storage.get(key, r) for r in ranges] == [_cut(data, r) for r in ranges]
        spans = [r for r in ranges if isinstance(r, Span)]
        assert self.storage.get_many(key, spans) == [_cut(data, span) for span in spans]
        stream = self.storage.stream(key, block_bytes=block_bytes, uncached=uncached)
        assert b"".join(bytes(block) for block in stream) == data
        assert self.storage.head(key).size_bytes == len(data)

    @rule(prefix=st.just("") | KEYS | KEYS.map(lambda key: f"{key}/"), after=st.just("") | KEYS)
    def list(self, prefix: str, after: str) -> None:
        expected = [
            (key, len(self.model[key]))
            for key in sorted(self.model, key=str.encode)
            if key.startswith(prefix) and key.encode() > after.encode()
        ]
        assert [(info.key, info.size_bytes) for info in self.storage.list(prefix, after=after)] == expected

    @invariant()
    def nothing_else_is_left(self) -> None:
        if self.folders_are_folders:
            files = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}
            assert files == set(self.model)
            folders = [path for path in self.folder.rglob("*") if path.is_dir() and path.name != TEMPORARY_FOLDER]
            assert all(any(folder.iterdir()) for folder in folders)


class MemoryMachine(StorageMachine):
    """The same on memory, where no key is another's folder."""

    folders_are_folders = False

    @initialize(versions=st.booleans())
    def start(self, versions: bool) -> None:
        self.storage = MemoryStorage(versions=versions)


FEW = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestLocalStorage = StorageMachine.TestCase
TestLocalStorage.settings = FEW
TestMemoryStorage = MemoryMachine.TestCase
TestMemoryStorage.settings = FEW


@given(size=NUMBERS, byte_range=RANGES)
def test_bounds_lie_in_the_object(size: int, byte_range: ByteRange) -> None:
    data = bytes(range(size))
    start, length = bounds(byte_range, size)
    assert length >= 0
    assert length == 0 or start + length <= size
    assert data[start : start + length] == _cut(data, byte_range)


SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), max_size=12)


@given(spans=SPANS, gap=st.integers(0, 50), limit=st.integers(1, 200))
def test_runs_serve_each_span_once_and_read_little_for_nothing(
    spans: list[tuple[int, int]], gap: int, limit: int
) -> None:
    runs = coalesce(spans, gap_bytes=gap, limit_bytes=limit)
    served = [member for run in runs for member in run.members]
    assert sorted(served) == [n for n, (_, length) in enumerate(spans) if length]
    for run in runs:
        covered = set()
        for member in run.members:
            start, length = spans[member]
            assert run.start <= start
            assert start + length <= run.start + run.length_bytes
            covered |= set(range(start, start + length))
        unused = run.length_bytes - len(covered)
        assert unused <= gap * (len(run.members) - 1)
        assert run.length_bytes <= limit or run.length_bytes == max(spans[member][1] for member in run.members)
    assert [run.start for run in runs] == sorted(run.start for run in runs)


def test_part_inside_a_longer_one_costs_no_request() -> None:
    runs = coalesce([(10, 5), (0, 100), (95, 5), (99, 2)], gap_bytes=1, limit_bytes=10)
    assert [(run.start, run.length_bytes, run.members) for run in runs] == [(0, 100, (1, 0, 2)), (99, 2, (3,))]


@given(data=st.binary(max_size=60), start=st.integers(0, 10), step=st.sampled_from([-3, -1, 1, 2, 5]))
def test_flat_is_the_bytes_in_order(data: bytes, start: int, step: int) -> None:
    view = memoryview(data)[start::step]
    assert flat(view) == view.tobytes()
    assert flat(view).format == "B"


@given(key=st.text(max_size=12))
def test_key_is_refused_or_names_a_file_below_the_root(key: str) -> None:
    try:
        check_key(key)
    except StorageError:
        return
    root = Path("/tier")
    path = (root / key).resolve()
    assert path.is_relative_to(root)
    assert path.relative_to(root).as_posix() == key
    assert key.encode().decode() == key
