"""The storage contract, kept by the decorator that encrypts.

What lies there is written and read by another implementation of the format, made from its description alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.contract.test_storage_archive import Timed
from tests.contract.test_storage_backends import OnLocal, OnMemory, OnS3
from tests.sealed_kit import KEY, reference_open, reference_seal
from wsistore.clock import SystemClock
from wsistore.storage.archive_sim import ArchiveStorage
from wsistore.storage.base import Storage
from wsistore.storage.encrypted import EncryptedStorage
from wsistore.storage.fault import FaultStorage
from wsistore.storage.limit import Limits, LimitStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.meter import MeterStorage
from wsistore.storage.retry import RetryStorage
from wsistore.testing.clock import ManualClock
from wsistore.testing.storage import RawGet, RawPut, StorageContract
from wsistore.testing.storage_archive import ArchiveContract


class OneKey:
    """Every object is encrypted, by one data key."""

    def covers(self, key: str) -> bool:
        return True

    def reading(self, key: str) -> bytes | None:
        return KEY

    def writing(self, key: str) -> bytes | None:
        return KEY

    def is_sealed(self, key: str) -> bool:
        return True

    def sealed_within(self, prefix: str, after: str) -> Callable[[str], bool]:
        return self.is_sealed


def _plain(inner: Storage) -> Storage:
    return EncryptedStorage(inner, OneKey())


def _outermost(inner: Storage) -> Storage:
    clock = ManualClock()
    limited = LimitStorage(MeterStorage(FaultStorage(inner)), Limits(10**9, 10**9, clock))
    return EncryptedStorage(RetryStorage(limited, clock=clock, rng=random.Random(1)), OneKey())


def _within(inner: Storage) -> Storage:
    return MeterStorage(RetryStorage(EncryptedStorage(inner, OneKey()), clock=SystemClock(), rng=random.Random(1)))


class Sealed:
    """The encrypting decorator, in several places of a stack; raw objects are sealed by the other implementation."""

    @pytest.fixture(params=[_plain, _outermost, _within], ids=["plain", "outermost", "within"])
    def storage(self, request: pytest.FixtureRequest, inner: Storage) -> Storage:
        made: Storage = request.param(inner)
        return made

    @pytest.fixture
    def raw_get(self, inner: Storage) -> RawGet:
        return lambda key: reference_open(KEY, key, inner.get(key))

    @pytest.fixture
    def raw_put(self, inner: Storage) -> RawPut:
        def put(key: str, data: bytes) -> None:
            inner.put(key, reference_seal(KEY, key, data))

        return put


class TestSealedLocal(Sealed, OnLocal, StorageContract):
    pass


class TestSealedMemory(Sealed, OnMemory, StorageContract):
    pass


class TestSealedMemoryWithVersions(Sealed, OnMemory, StorageContract):
    keeps_versions = True


class TestSealedS3(Sealed, OnS3, StorageContract):
    @pytest.fixture
    def storage(self, inner: Storage) -> Storage:
        return EncryptedStorage(RetryStorage(inner, clock=SystemClock(), rng=random.Random(1)), OneKey())


class TestSealedArchive(Timed, ArchiveContract):
    @pytest.fixture(params=[False, True], ids=["plain", "versions"])
    def storage(self, request: pytest.FixtureRequest, clock: ManualClock) -> Storage:
        return EncryptedStorage(ArchiveStorage(MemoryStorage(versions=request.param, clock=clock), clock), OneKey())
