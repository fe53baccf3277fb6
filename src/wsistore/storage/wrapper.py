"""What decorators of the storage contract have in common: a name for each verb, and passing everything on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from typing_extensions import Buffer

from wsistore.errors import Kind, StorageError
from wsistore.storage.archive import Retrieval, SupportsArchive, archive_of, no_archive
from wsistore.storage.base import (
    ArchiveState,
    ByteRange,
    DeletesMany,
    ObjectInfo,
    Properties,
    Span,
    Storage,
    SupportsLocalPath,
    Upload,
)


class Verb(StrEnum):
    """One kind of call; those of an `Upload` count as calls of the storage that it belongs to."""

    PUT = "put"
    UPLOAD = "upload"
    UPLOAD_WRITE = "upload.write"
    UPLOAD_COMPLETE = "upload.complete"
    UPLOAD_ABORT = "upload.abort"
    GET = "get"
    GET_MANY = "get_many"
    STREAM = "stream"
    HEAD = "head"
    LIST = "list"
    VERSIONS = "versions"
    DELETE = "delete"
    LOOK = "look"
    RESTORE = "begin_restore"
    TRANSITION = "transition"


def delete_many(storage: Storage, keys: Sequence[str]) -> None:
    """Delete objects, by as few requests as `storage` can."""
    if isinstance(storage, DeletesMany):
        storage.delete_many(keys)
        return
    for key in keys:
        storage.delete(key)


class WrappedStorage:
    """Passes every call on to `inner`; decorators override what they change.

    Parameters
    ----------
    inner
        What does the work.

    """

    def __init__(self, inner: Storage) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._inner!r})"

    @property
    def inner(self) -> Storage:
        """What does the work."""
        return self._inner

    @property
    def url(self) -> str:
        """Where it is; a decorator has no place of its own."""
        return self._inner.url

    @property
    def properties(self) -> Properties:
        """What the inner storage can do."""
        return self._inner.properties

    def local_path(self, key: str) -> Path:
        """Return the path of an object's file, where `Properties.local_files` says that there are files.

        Raises
        ------
        StorageError
            If the inner storage keeps no files.

        """
        if self.properties.local_files and isinstance(self._inner, SupportsLocalPath):
            return self._inner.local_path(key)
        msg = f"{self.url} does not keep {key!r} as a file of this machine."
        raise StorageError(msg, kind=Kind.INTERNAL, remedy="Ask Properties.local_files first, and read with get.")

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Write a whole object; see `wsistore.storage.base.Storage.put`."""
        return self._inner.put(key, data, if_absent=if_absent)

    def upload(self, key: str) -> Upload:
        """Start writing a large object in parts; see `wsistore.storage.base.Storage.upload`."""
        return self._inner.upload(key)

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it; see `wsistore.storage.base.Storage.get`."""
        return self._inner.get(key, byte_range, version=version)

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Return several parts of one object; see `wsistore.storage.base.Storage.get_many`."""
        return self._inner.get_many(key, spans)

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object in blocks; see `wsistore.storage.base.Storage.stream`."""
        return self._inner.stream(key, block_bytes=block_bytes, uncached=uncached)

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object; see `wsistore.storage.base.Storage.head`."""
        return self._inner.head(key)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects in order of their keys; see `wsistore.storage.base.Storage.list`."""
        return self._inner.list(prefix, after=after)

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every kept version, newest first; see `wsistore.storage.base.Storage.versions`."""
        return self._inner.versions(prefix)

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete one object or one version of it; see `wsistore.storage.base.Storage.delete`."""
        self._inner.delete(key, version=version)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete objects; see `wsistore.storage.base.DeletesMany`.

        One by one, so that what a decorator does to a deletion is done to each; those that do nothing pass it on.
        """
        for key in keys:
            self.delete(key)

    def retrievals(self, storage_class: str | None) -> tuple[Retrieval, ...]:
        """Return the ways back from a class, none where `Properties.archive` is false."""
        archive = archive_of(self._inner)
        return archive.retrievals(storage_class) if archive is not None else ()

    def look(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Return an object's class and state; see `wsistore.storage.archive.SupportsArchive.look`."""
        return self._archive(key).look(key, version=version)

    def begin_restore(self, key: str, *, days: int, retrieval: Retrieval, version: str | None = None) -> ArchiveState:
        """Ask for a temporary copy; see `wsistore.storage.archive.SupportsArchive.begin_restore`."""
        return self._archive(key).begin_restore(key, days=days, retrieval=retrieval, version=version)

    def transition(
        self, key: str, storage_class: str, *, version: str | None = None, etag: str | None = None
    ) -> ObjectInfo:
        """Move an object to another class; see `wsistore.storage.archive.SupportsArchive.transition`."""
        return self._archive(key).transition(key, storage_class, version=version, etag=etag)

    def _archive(self, key: str) -> SupportsArchive:
        archive = archive_of(self._inner)
        if archive is None:
            raise no_archive(self.url, key)
        return archive


class WrappedUpload:
    """Passes every call on to `inner`; decorators override what they change.

    Parameters
    ----------
    inner
        What does the work.

    """

    def __init__(self, inner: Upload) -> None:
        self._inner = inner
        self._is_over = False

    def write(self, data: Buffer) -> None:
        """Append `data`; see `wsistore.storage.base.Upload.write`."""
        self._inner.write(data)

    def complete(self) -> ObjectInfo:
        """Make the object visible and durable; see `wsistore.storage.base.Upload.complete`."""
        info = self._inner.complete()
        self._is_over = True
        return info

    def abort(self) -> None:
        """Give up; see `wsistore.storage.base.Upload.abort`."""
        self._inner.abort()
        self._is_over = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        # Through our own `abort`, so that what a decorator does to it is done here too.
        if not self._is_over:
            self.abort()
