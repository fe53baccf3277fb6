"""The contract suite of storage back ends and decorators: every rule of `wsistore.storage.base`, as tests.

A back end is right if its tests subclass `StorageContract` (one that cannot write: `StorageReadContract`), give the
fixtures `storage`, `raw_get`, `raw_put` and `raw_keys`, and pass. The raw fixtures go past the class under test, so
that a mistake made both in writing and in reading shows::

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self) -> Storage: ...

        @pytest.fixture
        def raw_put(self) -> RawPut: ...

The module needs pytest, which is not installed with wsistore.
"""

# Tests: their names say what they test, and they assert.
# ruff: noqa: D102, S101

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from wsistore.errors import Kind, ObjectExistsError, ObjectMissingError, StorageError
from wsistore.storage.base import MAX_KEY_BYTES, ObjectInfo, Span, Storage, Tail
from wsistore.testing.storage_reading import (
    BAD_KEYS,
    DATA,
    TRICKY_KEYS,
    RawGet,
    RawKeys,
    RawPut,
    StorageReadContract,
    assert_absent,
)
from wsistore.testing.storage_uploading import StorageUploadContract

__all__ = ["RawGet", "RawKeys", "RawPut", "StorageContract", "StorageReadContract"]


def _assert_told(by_put: ObjectInfo, now: ObjectInfo) -> None:
    """See that `put` told what is known of the object; only the time may be this machine's."""
    assert replace(by_put, modified=now.modified) == now
    assert abs(by_put.modified - now.modified) < timedelta(hours=1)


class StorageContract(StorageReadContract, StorageUploadContract):
    """What holds of reading and writing."""

    # --- put ---------------------------------------------------------------------------------------------------------

    def test_put_lays_down_the_bytes(self, storage: Storage, raw_get: RawGet, raw_keys: RawKeys) -> None:
        info = storage.put("a/b", DATA)
        assert raw_get("a/b") == DATA
        assert raw_keys() == {"a/b"}
        _assert_told(info, storage.head("a/b"))

    def test_put_of_nothing(self, storage: Storage, raw_get: RawGet) -> None:
        assert storage.put("empty", b"").size_bytes == 0
        assert raw_get("empty") == b""

    @pytest.mark.parametrize("shorter", [False, True])
    def test_put_replaces(self, storage: Storage, raw_get: RawGet, raw_put: RawPut, shorter: bool) -> None:
        raw_put("a/b", DATA if shorter else b"x")
        storage.put("a/b", b"y" if shorter else DATA * 2)
        assert raw_get("a/b") == (b"y" if shorter else DATA * 2)

    def test_put_may_be_repeated(self, storage: Storage, raw_get: RawGet, raw_keys: RawKeys) -> None:
        storage.put("a/b", DATA)
        storage.put("a/b", DATA)
        assert raw_get("a/b") == DATA
        assert raw_keys() == {"a/b"}

    def test_put_takes_every_kind_of_buffer(self, storage: Storage, raw_get: RawGet) -> None:
        array = np.arange(24, dtype="<u2").reshape(4, 6)
        for data in (
            bytearray(DATA),
            memoryview(DATA)[3:9],
            memoryview(DATA)[::2],
            array.data,
            array[:, ::2].data,
            array[:0].data,
        ):
            expected = memoryview(data).tobytes()
            assert storage.put("a", data).size_bytes == len(expected)
            assert raw_get("a") == expected

    def test_put_leaves_the_buffer_to_the_caller(self, storage: Storage, raw_get: RawGet) -> None:
        data = bytearray(b"before")
        storage.put("a", data)
        data[:] = b"behind"
        data += b"grown"
        assert raw_get("a") == b"before"

    # --- conditional put ---------------------------------------------------------------------------------------------

    def test_conditional_put_writes_what_is_absent(self, conditional: Storage, raw_get: RawGet) -> None:
        info = conditional.put("a/b", DATA, if_absent=True)
        assert raw_get("a/b") == DATA
        assert info == conditional.head("a/b")

    def test_conditional_put_leaves_what_is_there(
        self, conditional: Storage, raw_put: RawPut, raw_get: RawGet, raw_keys: RawKeys
    ) -> None:
        raw_put("a/b", b"first")
        for data in (b"second", b"first"):
            with pytest.raises(ObjectExistsError) as caught:
                conditional.put("a/b", data, if_absent=True)
            assert caught.value.kind is Kind.OBJECT_EXISTS
            assert "'a/b'" in caught.value.message
        assert raw_get("a/b") == b"first"
        assert raw_keys() == {"a/b"}

    def test_conditional_put_after_a_delete(self, conditional: Storage, raw_get: RawGet) -> None:
        conditional.put("a/b", b"first")
        conditional.delete("a/b")
        conditional.put("a/b", b"second", if_absent=True)
        assert raw_get("a/b") == b"second"

    def test_of_racing_conditional_puts_one_writes(
        self, conditional: Storage, raw_get: RawGet, raw_keys: RawKeys
    ) -> None:
        racers = 8
        for turn in range(10):
            key = f"commits/{turn}/1.json"
            start = threading.Barrier(racers)

            def race(number: int, key: str = key, start: threading.Barrier = start) -> int | None:
                start.wait()
                with suppress(ObjectExistsError):
                    conditional.put(key, f"{number}".encode() * 100, if_absent=True)
                    return number
                return None

            with ThreadPoolExecutor(racers) as pool:
                winners = [number for number in pool.map(race, range(racers)) if number is not None]
            assert len(winners) == 1
            assert raw_get(key) == f"{winners[0]}".encode() * 100
        assert raw_keys() == {f"commits/{turn}/1.json" for turn in range(10)}

    # --- delete ------------------------------------------------------------------------------------------------------

    def test_delete(self, storage: Storage) -> None:
        storage.put("a/b/c", DATA)
        storage.put("a/d", DATA)
        storage.delete("a/b/c")
        assert_absent(storage, "a/b/c")
        assert [info.key for info in storage.list()] == ["a/d"]

    def test_delete_may_be_repeated(self, storage: Storage) -> None:
        storage.put("a/b", DATA)
        for _ in range(3):
            storage.delete("a/b")
        storage.delete("never/was/there")
        assert list(storage.list()) == []

    def test_delete_of_a_part_of_a_key_deletes_nothing(self, storage: Storage, raw_keys: RawKeys) -> None:
        storage.put("a/b/c", DATA)
        for key in ("a", "a/b", "a/b/c/d", "a/b/cc"):
            storage.delete(key)
        assert raw_keys() == {"a/b/c"}

    def test_delete_of_an_unknown_version_deletes_nothing(self, storage: Storage, raw_get: RawGet) -> None:
        storage.put("a", DATA)
        storage.delete("a", version="no-such-version")
        storage.delete("b", version="no-such-version")
        assert raw_get("a") == DATA

    def test_key_can_be_used_again_after_a_delete(self, storage: Storage, raw_get: RawGet) -> None:
        storage.put("a/b", b"old")
        storage.delete("a/b")
        storage.put("a/b", b"new")
        assert raw_get("a/b") == b"new"
        # No trace of a folder either: on every back end the key "a" is free again.
        storage.delete("a/b")
        storage.put("a", DATA)
        assert raw_get("a") == DATA

    # --- versions ----------------------------------------------------------------------------------------------------

    def test_versions_where_there_are_none(self, storage: Storage) -> None:
        if storage.properties.versions:
            pytest.skip("keeps versions")
        storage.put("a", b"1")
        storage.put("a", b"2")
        assert list(storage.versions()) == list(storage.list())

    def test_versions_stay_readable(self, versioned: Storage) -> None:
        infos = [versioned.put("a", data) for data in (b"1", b"22", b"333")]
        versioned.put("b", b"x")
        assert [info.version for info in versioned.versions("a")] == [info.version for info in reversed(infos)]
        assert [versioned.get("a", version=info.version) for info in infos] == [b"1", b"22", b"333"]
        assert versioned.get("a", Tail(1), version=infos[1].version) == b"2"
        assert versioned.get("a") == b"333"
        _assert_told(infos[2], versioned.head("a"))
        assert [info.key for info in versioned.list()] == ["a", "b"]

    def test_delete_hides_and_deleting_versions_removes(self, versioned: Storage) -> None:
        first, second = versioned.put("a", b"1"), versioned.put("a", b"2")
        versioned.delete("a")
        assert_absent(versioned, "a")
        assert versioned.get("a", version=second.version) == b"2"
        versioned.delete("a", version=second.version)
        assert_absent(versioned, "a")  # what was deleted is not uncovered by removing what lay above it
        (left,) = versioned.versions()
        _assert_told(first, left)
        for _ in range(2):
            versioned.delete("a", version=first.version)
        assert list(versioned.versions()) == []
        with pytest.raises(ObjectMissingError):
            versioned.get("a", version=first.version)

    def test_deleting_the_newest_version_uncovers_the_one_before(self, versioned: Storage) -> None:
        first, second = versioned.put("a", b"1"), versioned.put("a", b"2")
        versioned.delete("a", version=second.version)
        assert versioned.get("a") == b"1"
        (left,) = versioned.list()
        _assert_told(first, left)

    # --- keys --------------------------------------------------------------------------------------------------------

    def test_writing_a_bad_key_is_refused_and_changes_nothing(self, storage: Storage, raw_keys: RawKeys) -> None:
        storage.put("a/b", DATA)
        acts: list[Callable[[str], object]] = [
            lambda key: storage.put(key, b"x"),
            lambda key: storage.put(key, b"x", if_absent=True),
            storage.upload,
            storage.delete,
        ]
        for key in BAD_KEYS:
            for act in acts:
                with pytest.raises(StorageError) as caught:
                    act(key)
                assert caught.value.kind is Kind.KEY_INVALID, key
                assert caught.value.remedy
        assert raw_keys() == {"a/b"}
        assert storage.get("a/b") == DATA

    def test_writing_tricky_keys(self, storage: Storage, raw_get: RawGet, raw_keys: RawKeys) -> None:
        for key in TRICKY_KEYS:
            storage.put(key, key.encode())
        assert raw_keys() == set(TRICKY_KEYS)
        for key in TRICKY_KEYS:
            assert raw_get(key) == key.encode()
            storage.delete(key)
        assert list(storage.list()) == []

    def test_writing_the_longest_keys(self, storage: Storage, raw_get: RawGet) -> None:
        for letter in ("k", "ü", "🔬"):
            part = letter * (200 // len(letter.encode()))
            key = "/".join([part] * 5)
            key += "/" + "z" * (MAX_KEY_BYTES - len(key.encode()) - 1)
            assert len(key.encode()) == MAX_KEY_BYTES
            storage.put(key, DATA)
            assert raw_get(key) == DATA
            assert [info.key for info in storage.list(part)] == [key]

    # --- readers and writers at once ---------------------------------------------------------------------------------

    def test_reader_sees_whole_objects_only(self, storage: Storage) -> None:
        contents = [bytes([n]) * (300_000 + n) for n in range(3)]
        storage.put("a/b", contents[0])
        stop = threading.Event()

        def write(use_upload: bool) -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                data = contents[turn % 3]
                if use_upload:
                    with storage.upload("a/b") as upload:
                        upload.write(data)
                        upload.complete()
                else:
                    storage.put("a/b", data)

        with ThreadPoolExecutor(2) as pool:
            writers = [pool.submit(write, use_upload) for use_upload in (False, True)]
            try:
                for _ in range(60):
                    assert storage.get("a/b") in contents
                    assert b"".join(bytes(b) for b in storage.stream("a/b", block_bytes=100_000)) in contents
                    head, tail = storage.get_many("a/b", [Span(0, 1), Span(299_999, 1)])
                    assert head == tail
                    assert [info.key for info in storage.list()] == ["a/b"]
                    assert storage.head("a/b").size_bytes in {len(content) for content in contents}
            finally:
                stop.set()
            for writer in writers:
                writer.result()

    def test_writers_and_deleters_of_one_folder_do_not_harm_each_other(
        self, storage: Storage, raw_keys: RawKeys
    ) -> None:
        def work(number: int) -> None:
            for turn in range(25):
                key = f"a/b/c/{number}"
                storage.put(key, b"x", if_absent=storage.properties.conditional_put and turn % 2 == 0)
                assert storage.get(key) == b"x"
                storage.delete(key)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        if not storage.properties.versions:
            assert raw_keys() == set()
        assert list(storage.list()) == []

    # --- fixtures of the suite ---------------------------------------------------------------------------------------

    @pytest.fixture
    def conditional(self, storage: Storage) -> Storage:
        """Return the storage, where it can write conditionally."""
        if not storage.properties.conditional_put:
            pytest.skip("has no conditional writes")
        return storage

    @pytest.fixture
    def versioned(self, storage: Storage) -> Storage:
        """Return the storage, where it keeps versions."""
        if not storage.properties.versions:
            pytest.skip("keeps no versions")
        return storage
