"""Any place that fsspec knows (``sftp://``, ``gs://``, ``abfs://``, ``hdfs://``…): the slower, general path.

What can be promised differs by file system (docs/s3.md says what was tried):

* Object stores write an object at once; elsewhere it is written into a hidden folder first and then renamed.
* A conditional write needs a way to create a file only if it is absent. It is offered where such a way is known to
  hold; elsewhere `Properties.conditional_put` is False, and such a place can keep no commits.
* A large object is collected in a temporary file of this machine before it is sent, so that a connection that is lost
  leaves nothing half behind: the one place where local scratch space of an object's size is needed.
* Listings are taken whole, a folder's objects in memory, and sorted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from secrets import token_hex
from typing import Any, TypeVar

import fsspec
from typing_extensions import Buffer

from wsistore.clock import Clock, SystemClock
from wsistore.errors import Kind, ObjectMissingError, StorageError, TransientError
from wsistore.storage._errors import key_clash, object_exists, object_missing, translate
from wsistore.storage._fsspec_upload import FsspecUpload
from wsistore.storage._ranges import bounds, check_block_bytes, flat
from wsistore.storage.base import ByteRange, ObjectInfo, Properties, Span, check_key
from wsistore.storage.coalescing import coalesce
from wsistore.units import MIB

T = TypeVar("T")

TEMPORARY_FOLDER = ".wsistore-tmp"

_AT_ONCE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"}
"""Protocols that write an object whole or not at all."""

_EXCLUSIVE = {"s3", "s3a", "memory"}
"""Protocols whose ``mode="create"`` was seen to let one of many racing writers through."""

_EXCLUSIVE_BYTES = 4 * MIB
"""Largest object that they create with one request; several requests are not guarded."""

_POSIX = {"file", "local", "sftp", "ssh"}
"""Protocols whose ``rmdir`` removes empty folders only; others would take what lies in them along."""

_ATTEMPTS = 20
_WHOLE_BYTES = MIB
_GAP_BYTES = MIB
_RUN_BYTES = 8 * MIB
_MEMORY_LOCK = threading.Lock()
"""fsspec's memory is one for the process, and looks before it writes."""


class FsspecStorage:
    """The storage contract on a file system of fsspec.

    Parameters
    ----------
    url
        A URL that fsspec understands, without credentials.
    options
        What the file system takes beside; no secrets, for it is pickled.

    Raises
    ------
    StorageError
        If there is no such file system, its package is not installed, or the options do not fit.

    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None, *, clock: Clock | None = None) -> None:
        self._options = dict(options or {})
        self._url = url
        self._clock = clock or SystemClock()
        try:
            # Of listings that were kept nobody could say how old they are.
            fixed = {"use_listings_cache": False, "skip_instance_cache": True}
            self._system, root = fsspec.core.url_to_fs(url, **{**self._options, **fixed})
        except ImportError as error:
            msg = f"{url} needs a package that is not installed: {error}."
            raise StorageError(msg, kind=Kind.DEPENDENCY_MISSING, remedy="Install it beside wsistore.") from error
        except Exception as error:
            msg = f"{url} cannot be opened ({type(error).__name__})."
            raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Check the tier's url and options.") from None
        self._root = str(root).rstrip("/")
        protocol = self._system.protocol
        names = {protocol} if isinstance(protocol, str) else set(protocol)
        self._is_at_once = bool(names & _AT_ONCE)
        self._is_posix = bool(names & _POSIX)
        self._is_exclusive = bool(names & _EXCLUSIVE)
        # Those that are not made for several threads get one request at a time.
        self._lock = _MEMORY_LOCK if "memory" in names else threading.Lock()
        self._is_parallel = bool(self._system.async_impl)

    def __repr__(self) -> str:
        return f"FsspecStorage({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (FsspecStorage, (self._url, self._options))

    @property
    def url(self) -> str:
        """The URL that it was opened by."""
        return self._url

    @property
    def properties(self) -> Properties:
        """Conditional where the file system is known to be; never versions."""
        return Properties(
            conditional_put=self._is_exclusive, versions=False, local_files=False, uncached_reads=self._is_at_once
        )

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Write a whole object; see `wsistore.storage.base.Storage.put`."""
        path, content = self._path(key), bytes(flat(data))
        if if_absent:
            self._create(key, path, content)
        elif self._is_at_once:
            self._call(key, "written", lambda: self._system.pipe_file(path, content))
        else:
            self._rename_into(key, path, lambda temporary: self._system.pipe_file(temporary, content))
        return self.head(key)

    def upload(self, key: str) -> FsspecUpload:
        """Start writing a large object in parts; see `wsistore.storage.base.Storage.upload`."""
        self._path(key)
        return FsspecUpload(self.url, key, partial(self._send, key))

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete one object; see `wsistore.storage.base.Storage.delete`."""
        path = self._path(key)
        if version is None:
            with suppress(ObjectMissingError):
                self._call(key, "deleted", lambda: self._remove(path))

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it; see `wsistore.storage.base.Storage.get`."""
        self._path(key)
        if version is not None:
            raise object_missing(self.url, key, version)
        if byte_range is None:
            return self._whole(key)
        info = self.head(key)
        return self._parts(key, info, [bounds(byte_range, info.size_bytes)])[0]

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Return several parts of one object; see `wsistore.storage.base.Storage.get_many`."""
        info = self.head(key)
        wanted = [bounds(span, info.size_bytes) for span in spans]
        runs = coalesce(wanted, gap_bytes=_GAP_BYTES, limit_bytes=_RUN_BYTES)
        parts = [b""] * len(wanted)
        for run, data in zip(runs, self._parts(key, info, [(r.start, r.length_bytes) for r in runs]), strict=True):
            for member in run.members:
                offset = wanted[member][0] - run.start
                parts[member] = data[offset : offset + wanted[member][1]]
        return parts

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object in blocks; see `wsistore.storage.base.Storage.stream`.

        Raises
        ------
        TransientError
            If the object was replaced meanwhile, as far as its size, time and ETag tell.

        """
        check_block_bytes(block_bytes)
        info = self.head(key)
        step = max(block_bytes, _RUN_BYTES // block_bytes * block_bytes)
        if info.size_bytes <= step:
            data = memoryview(self._whole(key))
            for place in range(0, len(data), block_bytes):
                yield data[place : place + block_bytes]
            return
        for start in range(0, info.size_bytes, step):
            data = memoryview(self._parts(key, info, [(start, min(step, info.size_bytes - start))])[0])
            for place in range(0, len(data), block_bytes):
                yield data[place : place + block_bytes]

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object; see `wsistore.storage.base.Storage.head`."""
        path = self._path(key)
        found = self._call(key, "looked at", lambda: self._system.info(path))
        if found.get("type") != "file":
            raise object_missing(self.url, key)
        return self._info(key, found)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects in order of their keys; see `wsistore.storage.base.Storage.list`."""
        folder, _, _ = prefix.rpartition("/")
        if folder and not _is_key(folder):
            return
        top = f"{self._root}/{folder}" if folder else self._root
        found = self._call(prefix, "listed", lambda: self._found(top))
        low = after.encode("utf-8", "surrogatepass")
        strip = len(self._root) + 1
        named = ((str(path)[strip:], entry) for path, entry in found.items() if entry.get("type") == "file")
        wanted = {key: entry for key, entry in named if key.startswith(prefix) and _is_key(key)}
        for key in sorted(wanted, key=str.encode):
            if key.encode() > low and not key.startswith(f"{TEMPORARY_FOLDER}/"):
                yield self._info(key, wanted[key])

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects, for no versions are known here; see `wsistore.storage.base.Storage.versions`."""
        return self.list(prefix)

    # --- how ---------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        check_key(key)
        if key.partition("/")[0] == TEMPORARY_FOLDER:
            msg = f"The key {key!r} cannot be stored in {self.url}: the name is wsistore's own."
            raise StorageError(msg, kind=Kind.KEY_INVALID, remedy="Choose another name.")
        return f"{self._root}/{key}"

    def _send(self, key: str, local_path: str) -> ObjectInfo:
        """Write an object from a file of this machine."""
        path = self._path(key)
        if self._is_at_once:
            self._call(key, "written", lambda: self._system.put_file(local_path, path))
        else:
            self._rename_into(key, path, lambda temporary: self._system.put_file(local_path, temporary))
        return self.head(key)

    def _create(self, key: str, path: str, content: bytes) -> None:
        if not self._is_exclusive or len(content) > _EXCLUSIVE_BYTES:
            msg = f"{self.url} cannot write {key!r} only if it is absent."
            raise StorageError(msg, remedy="Keep commits on a tier that can: a folder, or a bucket through s3://.")

        def act() -> None:
            try:
                self._system.pipe_file(path, content, mode="create")
            except OSError as error:
                answer = getattr(error.__cause__, "response", {})  # s3fs has no errno for a failed precondition
                code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
                if isinstance(error, FileExistsError) or code == "PreconditionFailed":
                    raise object_exists(self.url, key) from None
                raise

        self._call(key, "written", act)

    def _rename_into(self, key: str, path: str, write: Callable[[str], object]) -> None:
        """Write under a temporary name, then give the object its own."""
        temporary = f"{self._root}/{TEMPORARY_FOLDER}/{token_hex(16)}"

        def act() -> None:
            self._system.makedirs(self._system._parent(temporary), exist_ok=True)
            try:
                write(temporary)
                self._rename(key, temporary, path)
            except BaseException:
                with suppress(Exception):  # the first error tells more
                    self._system.rm_file(temporary)
                raise

        self._call(key, "written", act)

    def _rename(self, key: str, temporary: str, path: str) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._system.makedirs(self._system._parent(path), exist_ok=True)
                if self._system.isdir(path):  # some would put the file into it
                    raise key_clash(self.url, key)
                self._system.mv(temporary, path)
            except (FileExistsError, NotADirectoryError):
                raise key_clash(self.url, key) from None
            except FileNotFoundError:  # a deletion has just removed the folder that it emptied
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return

    def _remove(self, path: str) -> None:
        if self._system.info(path).get("type") == "file":
            self._system.rm_file(path)
            if self._is_posix:
                with suppress(OSError):  # not empty
                    while (path := self._system._parent(path)) != self._root:
                        self._system.rmdir(path)

    def _found(self, top: str) -> Mapping[str, Any]:
        """Return all objects below a folder by their paths."""
        try:
            found: Mapping[str, Any] = self._system.find(top, detail=True, withdirs=False)
        except FileNotFoundError:
            return {}
        return found

    def _parts(self, key: str, info: ObjectInfo, wanted: Sequence[tuple[int, int]]) -> tuple[bytes, ...]:
        """Return parts (start, length) of the object that `info` was said of; an error if it is another by then."""
        if info.size_bytes <= _WHOLE_BYTES:  # as one request, which sees one state of the object
            whole = self._whole(key)
            return tuple(whole[start : start + length] for start, length in wanted)
        path = self._path(key)
        parts: tuple[bytes, ...] = ()
        for start, length in wanted:
            ask = partial(self._system.cat_file, path, start=start, end=start + length)
            data = bytes(self._call(key, "read", ask)) if length else b""
            if len(data) != length:
                msg = f"{key!r} could not be read in {self.url}: {len(data)} of {length} bytes came."
                raise TransientError(msg)
            parts = (*parts, data)
        if self.head(key) != info:
            msg = f"{key!r} in {self.url} was replaced while it was read."
            raise TransientError(msg)
        return parts

    def _whole(self, key: str) -> bytes:
        path = self._path(key)
        return bytes(self._call(key, "read", lambda: self._system.cat_file(path)))

    def _info(self, key: str, found: Mapping[str, Any]) -> ObjectInfo:
        etag = found.get("ETag") or found.get("etag")
        # Listings and single answers differ in the fraction of the second.
        modified = _modified(found, self._clock).replace(microsecond=0)
        return ObjectInfo(key, int(found["size"]), modified, str(etag) if etag else None)

    def _call(self, key: str, act: str, work: Callable[[], T]) -> T:
        try:
            if self._is_parallel:
                return work()
            with self._lock:
                return work()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise object_missing(self.url, key) from None
        except StorageError:
            raise
        except (TimeoutError, ConnectionError) as error:
            msg = f"{key!r} could not be {act} in {self.url}: the connection failed ({type(error).__name__})."
            raise TransientError(msg) from None
        except OSError as error:
            if error.errno is not None:
                raise translate(error, self.url, key, act) from None
            raise self._failed(key, act, error) from None
        except Exception as error:  # whatever libraries below fsspec raise
            raise self._failed(key, act, error) from None

    def _failed(self, key: str, act: str, error: Exception) -> StorageError:
        msg = f"{key!r} could not be {act} in {self.url} ({type(error).__name__})."
        return StorageError(msg, remedy="Look at the service and the tier's options, then run the same again.")


def _modified(found: Mapping[str, Any], clock: Clock) -> datetime:
    """Return the time of change; file systems of fsspec call it by many names, and keep it in several types."""
    for name in ("LastModified", "last_modified", "updated", "mtime", "modified", "created"):
        value = found.get(name)
        if isinstance(value, str):
            with suppress(ValueError):
                value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    return clock.now()


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except StorageError:
        return False
    return True
