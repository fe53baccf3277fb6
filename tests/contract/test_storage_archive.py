"""The contract of archives, kept by the rehearsed one and by S3; what nobody archived keeps the storage contract."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.test_storage_backends import OnLocal, OnMemory
from tests.s3_archive_stub import archive_service
from wsistore.errors import Kind, StorageError
from wsistore.storage.archive import Retrieval
from wsistore.storage.archive_sim import FOLDER, ArchiveStorage, Way
from wsistore.storage.base import Readiness, Storage
from wsistore.storage.fault import FaultStorage
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.meter import MeterStorage
from wsistore.storage.retry import RetryStorage
from wsistore.storage.s3 import S3Storage
from wsistore.testing.clock import ManualClock
from wsistore.testing.storage import StorageContract
from wsistore.testing.storage_archive import KEY, ArchiveContract

DAY = 86_400.0


class Timed:
    """On a manual clock: 48 hours are longer than any restore."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture(params=["GLACIER", "DEEP_ARCHIVE"])
    def archive_class(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def finish(self, clock: ManualClock, archive_class: str) -> Callable[[], None]:
        return lambda: clock.advance({"GLACIER": 12, "DEEP_ARCHIVE": 48}[archive_class] * 3600.0)

    @pytest.fixture
    def expire(self, clock: ManualClock) -> Callable[[], None]:
        return lambda: clock.advance(1.5 * DAY)


class TestRehearsed(Timed, ArchiveContract):
    @pytest.fixture(params=["memory", "versions", "local", "decorated"])
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Storage:
        kinds: dict[str, Callable[[], Storage]] = {
            "memory": lambda: MemoryStorage(clock=clock),
            "versions": lambda: MemoryStorage(versions=True, clock=clock),
            "local": lambda: LocalStorage(tmp_path),
            "decorated": MemoryStorage,
        }
        found: Storage = ArchiveStorage(kinds[request.param](), clock)
        if request.param == "decorated":
            found = RetryStorage(MeterStorage(FaultStorage(found)), clock=clock, rng=random.Random(1))
        return found


class TestS3(Timed, ArchiveContract):
    @pytest.fixture(params=[False, True], ids=["plain", "versions"])
    def storage(
        self, request: pytest.FixtureRequest, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Storage]:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up-key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-secret")
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
        with archive_service(clock, versions=request.param) as (_, options):
            yield S3Storage(options, clock=clock)


class Rehearsing:
    """The decorator around objects that nobody archives."""

    @pytest.fixture
    def storage(self, inner: Storage) -> Storage:
        return ArchiveStorage(inner, ManualClock())


class TestReadableLocal(Rehearsing, OnLocal, StorageContract):
    pass


class TestReadableMemory(Rehearsing, OnMemory, StorageContract):
    pass


class TestReadableVersions(Rehearsing, OnMemory, StorageContract):
    keeps_versions = True


class TestState:
    def test_other_processes_see_the_same(self, tmp_path: Path) -> None:
        clock = ManualClock()
        one = ArchiveStorage(LocalStorage(tmp_path), clock)
        one.put(KEY, b"1")
        one.transition(KEY, "GLACIER")
        one.begin_restore(KEY, days=1, retrieval=Retrieval.BULK)
        other = ArchiveStorage(LocalStorage(tmp_path), clock)
        assert other.look(KEY).archive.readiness is Readiness.RESTORING
        again = pickle.loads(pickle.dumps(one))
        assert again.look(KEY).archive.readiness is Readiness.RESTORING

    def test_deleting_forgets(self) -> None:
        inner = MemoryStorage()
        storage = ArchiveStorage(inner, ManualClock())
        storage.put(KEY, b"1")
        storage.transition(KEY, "GLACIER")
        storage.delete(KEY)
        assert list(inner.list()) == []

    def test_restores_are_charged_once(self) -> None:
        classes = {"COLD": {Retrieval.STANDARD: Way(60.0, eur_per_gb=100.0, eur_per_request=1.0)}}
        storage = ArchiveStorage(MemoryStorage(), ManualClock(), classes)
        storage.put(KEY, bytes(10_000_000))
        storage.transition(KEY, "COLD")
        assert storage.bill_eur() == 0
        for _ in range(3):
            storage.begin_restore(KEY, days=1, retrieval=Retrieval.STANDARD)
        assert storage.bill_eur() == pytest.approx(2.0)

    def test_time_can_run_faster(self) -> None:
        clock = ManualClock()
        storage = ArchiveStorage(MemoryStorage(), clock, speed=3600.0)
        storage.put(KEY, b"1")
        storage.transition(KEY, "DEEP_ARCHIVE")
        storage.begin_restore(KEY, days=1, retrieval=Retrieval.BULK)
        clock.advance(47)
        assert not storage.look(KEY).archive.is_readable
        clock.advance(1)
        assert storage.get(KEY) == b"1"
        clock.advance(24)
        assert not storage.look(KEY).archive.is_readable

    def test_its_own_keys_are_refused_and_damage_is_told(self) -> None:
        inner = MemoryStorage()
        storage = ArchiveStorage(inner, ManualClock())
        with pytest.raises(StorageError) as caught:
            storage.put(f"{FOLDER}x", b"")
        assert caught.value.kind is Kind.KEY_INVALID
        storage.put(KEY, b"1")
        storage.transition(KEY, "GLACIER")
        (state,) = [info.key for info in inner.list(FOLDER)]
        for text in (b"", b"[]", b'{"": 1}', b'{"": {"x": 1}}', b"\xff"):
            inner.put(state, text)
            with pytest.raises(StorageError, match="cannot be understood"):
                storage.get(KEY)
