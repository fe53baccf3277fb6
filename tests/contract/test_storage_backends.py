"""The storage contract, kept by every back end and by every decorator around them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest

from tests.s3_kit import S3Bucket, S3Server
from wsistore.clock import SystemClock
from wsistore.storage.base import ObjectInfo, Storage
from wsistore.storage.fault import FaultStorage
from wsistore.storage.fsspec_store import FsspecStorage
from wsistore.storage.local import TEMPORARY_FOLDER, LocalStorage
from wsistore.storage.memory import MemoryStorage, _Kept
from wsistore.storage.meter import MeterStorage
from wsistore.storage.readonly import ReadOnlyStorage
from wsistore.storage.retry import RetryStorage
from wsistore.storage.s3 import S3Storage
from wsistore.testing.clock import ManualClock
from wsistore.testing.storage import RawGet, RawKeys, RawPut, StorageContract, StorageReadContract


def _plain(inner: Storage) -> Storage:
    return inner


def _retrying(inner: Storage) -> Storage:
    return RetryStorage(inner, clock=ManualClock(), rng=random.Random(1))


def _stacked(inner: Storage) -> Storage:
    return MeterStorage(_retrying(FaultStorage(inner)))


DECORATORS: list[Callable[[Storage], Storage]] = [
    _plain,
    MeterStorage,
    FaultStorage,
    _retrying,
    _stacked,
]


class OnLocal:
    """Files of a folder, looked at without the class under test."""

    survives_pickling = True

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        folder = tmp_path / "tier with ü and %20"
        folder.mkdir()
        return folder

    @pytest.fixture
    def inner(self, root: Path) -> Storage:
        return LocalStorage(root)

    @pytest.fixture
    def raw_get(self, root: Path) -> RawGet:
        return lambda key: (root / key).read_bytes()

    @pytest.fixture
    def raw_put(self, root: Path) -> RawPut:
        def put(key: str, data: bytes) -> None:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(data)

        return put

    @pytest.fixture
    def raw_keys(self, root: Path) -> RawKeys:
        # Empty folders are leavings too; only the hidden folder itself may stay.
        return lambda: {
            path.relative_to(root).as_posix()
            for path in root.rglob("*")
            if (path.is_file() or not any(path.iterdir())) and path != root / TEMPORARY_FOLDER
        }


class OnMemory:
    """The dictionary of a memory storage, looked at without its methods."""

    survives_pickling = False
    keeps_versions = False

    @pytest.fixture
    def inner(self) -> MemoryStorage:
        return MemoryStorage(versions=self.keeps_versions)

    @pytest.fixture
    def raw_get(self, inner: MemoryStorage) -> RawGet:
        def get(key: str) -> bytes:
            data = inner._kept[key][-1].data
            assert data is not None
            return data

        return get

    @pytest.fixture
    def raw_put(self, inner: MemoryStorage) -> RawPut:
        def put(key: str, data: bytes) -> None:
            version = f"raw-{len(inner._kept.get(key, []))}" if self.keeps_versions else None
            kept = _Kept(ObjectInfo(key, len(data), datetime.now(UTC), version=version), data)
            inner._kept[key] = [*inner._kept.get(key, []), kept] if self.keeps_versions else [kept]

        return put

    @pytest.fixture
    def raw_keys(self, inner: MemoryStorage) -> RawKeys:
        return lambda: set(inner._kept)


class OnS3:
    """A bucket of a real server, looked at through another library."""

    survives_pickling = True
    keeps_versions = False

    @pytest.fixture
    def bucket(self, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
        with s3_server.bucket(versions=self.keeps_versions) as bucket, s3_server.credentials(monkeypatch):
            yield bucket

    @pytest.fixture
    def inner(self, bucket: S3Bucket) -> Storage:
        return S3Storage(bucket.options())

    @pytest.fixture
    def raw_get(self, bucket: S3Bucket) -> RawGet:
        return bucket.get

    @pytest.fixture
    def raw_put(self, bucket: S3Bucket) -> RawPut:
        return bucket.put

    @pytest.fixture
    def raw_keys(self, bucket: S3Bucket) -> RawKeys:
        return bucket.keys


class Decorated:
    """The back end inside each decorator in turn."""

    @pytest.fixture(params=DECORATORS, ids=lambda decorate: decorate.__name__.lstrip("_"))
    def storage(self, request: pytest.FixtureRequest, inner: Storage) -> Storage:
        decorated: Storage = request.param(inner)
        return decorated


class TestLocal(OnLocal, Decorated, StorageContract):
    pass


class TestMemory(OnMemory, Decorated, StorageContract):
    pass


class TestMemoryWithVersions(OnMemory, Decorated, StorageContract):
    keeps_versions = True


class TestLocalNotDurable(OnLocal, StorageContract):
    @pytest.fixture
    def storage(self, root: Path) -> Storage:
        return LocalStorage(root, durable=False)


class TestReadOnlyLocal(OnLocal, StorageReadContract):
    @pytest.fixture
    def storage(self, inner: Storage) -> Storage:
        return ReadOnlyStorage(inner)


class TestReadOnlyMemory(OnMemory, StorageReadContract):
    @pytest.fixture
    def storage(self, inner: Storage) -> Storage:
        return ReadOnlyStorage(inner)


class TestS3(OnS3, StorageContract):
    """As a site uses it: through decorators, of which one repeats what a busy server could not do at once."""

    @pytest.fixture
    def storage(self, inner: Storage) -> Storage:
        return MeterStorage(RetryStorage(FaultStorage(inner), clock=SystemClock(), rng=random.Random(1)))


class TestS3WithVersions(TestS3):
    keeps_versions = True


class TestReadOnlyS3(OnS3, StorageReadContract):
    @pytest.fixture
    def storage(self, inner: Storage) -> Storage:
        return ReadOnlyStorage(inner)


class TestFsspecMemory(StorageContract):
    """fsspec's own memory: an object store of one process."""

    @pytest.fixture
    def place(self) -> Iterator[str]:
        name = f"wsistore-{random.SystemRandom().getrandbits(64):x}"
        yield name
        system = fsspec.filesystem("memory")
        if system.exists(name):
            system.rm(name, recursive=True)

    @pytest.fixture
    def storage(self, place: str) -> Storage:
        return FsspecStorage(f"memory://{place}")

    @pytest.fixture
    def raw_get(self, place: str) -> RawGet:
        return lambda key: fsspec.filesystem("memory").store[f"/{place}/{key}"].getvalue()

    @pytest.fixture
    def raw_put(self, place: str, storage: Storage) -> RawPut:
        return lambda key, data: fsspec.filesystem("memory").pipe_file(f"/{place}/{key}", data)

    @pytest.fixture
    def raw_keys(self, place: str) -> RawKeys:
        return lambda: {
            path.removeprefix(f"/{place}/")
            for path in fsspec.filesystem("memory").store
            if path.startswith(f"/{place}/")
        }


class TestFsspecLocal(OnLocal, StorageContract):
    """A file system where an object is written aside and renamed, and where nothing can be written conditionally."""

    @pytest.fixture
    def storage(self, root: Path) -> Storage:
        return RetryStorage(FsspecStorage(f"local://{root}"), clock=ManualClock(), rng=random.Random(1))


class TestFsspecS3(OnS3, StorageContract):
    """A bucket through s3fs."""

    @pytest.fixture
    def storage(self, bucket: S3Bucket) -> Storage:
        inner = FsspecStorage(f"s3a://{bucket.name}", {"endpoint_url": bucket.server.endpoint})
        return RetryStorage(inner, clock=SystemClock(), rng=random.Random(1))
