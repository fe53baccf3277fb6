"""The part of the storage contract suite on large objects; `wsistore.testing.storage` is the whole."""

# Tests: their names say what they test, and they assert.
# ruff: noqa: D102, S101

from __future__ import annotations

import numpy as np
import pytest

from wsistore.errors import StorageError
from wsistore.storage.base import Span, Storage
from wsistore.testing.storage_reading import DATA, RawGet, RawKeys, assert_absent
from wsistore.units import MIB


class StorageUploadContract:
    """What holds of objects that are written in parts."""

    def test_upload_joins_its_parts(self, storage: Storage, raw_get: RawGet, raw_keys: RawKeys) -> None:
        least = storage.properties.min_part_bytes
        parts = [b"one" + b"." * least, b"two" + b"." * least, b"three"]
        with storage.upload("a/b") as upload:
            for part in parts:
                upload.write(part)
            info = upload.complete()
        assert raw_get("a/b") == b"".join(parts)
        assert info == storage.head("a/b")
        assert raw_keys() == {"a/b"}

    def test_upload_of_nothing(self, storage: Storage, raw_get: RawGet) -> None:
        with storage.upload("a") as upload:
            assert upload.complete().size_bytes == 0
        assert raw_get("a") == b""

    def test_upload_leaves_the_buffer_to_the_caller(self, storage: Storage, raw_get: RawGet) -> None:
        least = storage.properties.min_part_bytes
        buffer = bytearray(least + 3)
        with storage.upload("a") as upload:
            for value in (1, 2):
                buffer[:] = bytes([value]) * len(buffer)
                upload.write(memoryview(buffer))
            buffer[:] = bytes(len(buffer))
            upload.complete()
        assert raw_get("a") == b"\1" * (least + 3) + b"\2" * (least + 3)

    def test_upload_takes_every_kind_of_buffer(self, storage: Storage, raw_get: RawGet) -> None:
        array = np.arange(2 * (storage.properties.min_part_bytes + 8), dtype="<u2")
        with storage.upload("a") as upload:
            upload.write(array[::2].data)
            upload.write(array[:2].reshape(2, 1).data)
            upload.complete()
        assert raw_get("a") == array[::2].tobytes() + array[:2].tobytes()

    def test_upload_is_not_seen_before_it_is_complete(self, storage: Storage) -> None:
        with storage.upload("a/b") as upload:
            upload.write(DATA)
            assert_absent(storage, "a/b")
            upload.complete()
        assert storage.get("a/b") == DATA

    def test_upload_replaces_when_it_is_complete(self, storage: Storage, raw_get: RawGet) -> None:
        storage.put("a", b"old")
        with storage.upload("a") as upload:
            upload.write(DATA)
            assert storage.get("a") == b"old"
            upload.complete()
        assert raw_get("a") == DATA

    def test_aborted_upload_leaves_nothing(self, storage: Storage, raw_keys: RawKeys) -> None:
        with storage.upload("a/b") as upload:
            upload.write(DATA)
            upload.abort()
            upload.abort()
        upload.abort()
        assert_absent(storage, "a/b")
        assert raw_keys() == set()

    def test_upload_that_is_left_incomplete_leaves_nothing(self, storage: Storage, raw_keys: RawKeys) -> None:
        with storage.upload("a/b") as upload:
            upload.write(DATA)
        assert_absent(storage, "a/b")
        assert raw_keys() == set()

    def test_upload_that_is_interrupted_leaves_nothing(self, storage: Storage, raw_keys: RawKeys) -> None:
        with pytest.raises(KeyboardInterrupt), storage.upload("a/b") as upload:  # noqa: PT012 - it is about the block
            upload.write(DATA)
            raise KeyboardInterrupt
        assert_absent(storage, "a/b")
        assert raw_keys() == set()

    def test_aborted_upload_leaves_what_was_there(self, storage: Storage, raw_get: RawGet, raw_keys: RawKeys) -> None:
        storage.put("a/b", b"old")
        with storage.upload("a/b") as upload:
            upload.write(DATA)
        assert raw_get("a/b") == b"old"
        assert raw_keys() == {"a/b"}

    def test_nothing_follows_an_aborted_upload(self, storage: Storage, raw_keys: RawKeys) -> None:
        upload = storage.upload("a")
        upload.write(DATA)
        upload.abort()
        with pytest.raises(StorageError):
            upload.write(DATA)
        with pytest.raises(StorageError):
            upload.complete()
        assert raw_keys() == set()

    def test_complete_may_be_repeated_and_is_final(self, storage: Storage, raw_get: RawGet) -> None:
        with storage.upload("a") as upload:
            upload.write(DATA)
            info = upload.complete()
            assert upload.complete() == info  # after a lost reply the caller asks again
            upload.abort()
            with pytest.raises(StorageError):
                upload.write(DATA)
        assert raw_get("a") == DATA

    def test_big_object_in_odd_parts(self, storage: Storage, raw_get: RawGet, raw_keys: RawKeys) -> None:
        data = np.random.default_rng(0).bytes(24 * MIB + 12_345)
        least = max(storage.properties.min_part_bytes, 1)
        sizes, done = iter([1, 999_983, 8 * MIB + 1, 65_537, 3 * MIB - 1, 24 * MIB]), 0
        with storage.upload("store/big") as upload:
            while done < len(data):
                size = max(next(sizes), least)
                upload.write(memoryview(data)[done : done + size])
                done += size
            assert upload.complete().size_bytes == len(data)
        assert raw_get("store/big") == data
        assert b"".join(bytes(b) for b in storage.stream("store/big", block_bytes=5 * MIB + 3, uncached=True)) == data
        assert storage.get("store/big", Span(9 * MIB - 7, 2 * MIB)) == data[9 * MIB - 7 : 11 * MIB - 7]
        assert raw_keys() == {"store/big"}

    def test_uploads_at_once_do_not_mix(self, storage: Storage, raw_get: RawGet) -> None:
        least = storage.properties.min_part_bytes
        with storage.upload("a") as one, storage.upload("a") as other, storage.upload("b") as third:
            for upload, letter in ((one, b"1"), (other, b"2"), (third, b"3"), (one, b"1"), (other, b"2")):
                upload.write(letter * (least + 10))
            other.complete()
            third.complete()
            assert storage.get("a") == b"2" * 2 * (least + 10)
            one.complete()
        assert raw_get("a") == b"1" * 2 * (least + 10)
        assert raw_get("b") == b"3" * (least + 10)
