"""The storage contract: what every back end and every decorator of one promises.

Rules that hold for all of them, and that `wsistore.testing.storage` checks:

* **Atomic.** An object is there whole or not at all; a reader never sees a part of one, and `list` never names one.
* **Durable.** When `put` or `Upload.complete` returns, the object survives a power cut.
* **Idempotent.** `put` of the same bytes and `delete` may be repeated; `delete` of an absent key is no error.
  After a lost reply the caller may repeat either.
* **Conditional.** ``put(..., if_absent=True)`` writes or raises `ObjectExistsError`; of many racing calls exactly
  one writes. It is the only guard there is: multipart uploads offer none (measured on real S3 servers).
* **Errors** are those of `wsistore.errors`; nothing else leaves a back end. `TransientError` may be retried,
  every other error is permanent.
* **Threads.** Every method may be called from several threads at once.
* **Keys** are relative, with forward slashes; see `check_key`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from typing_extensions import Buffer

from wsistore.errors import Kind, StorageError

MAX_KEY_BYTES = 1024
"""The longest key in UTF-8, as S3 allows."""

MARKER_KEY = "wsistore-tier.json"
"""The object at a tier's root that says which tier it is; see `wsistore.storage.open`."""

_SEGMENT = re.compile(r"[^/\\\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Span:
    """`length_bytes` bytes from `start`; fewer where the object ends before."""

    start: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Tail:
    """The last `length_bytes` bytes of an object, or all of it where it is shorter."""

    length_bytes: int


ByteRange = Span | Tail


class Readiness(StrEnum):
    """Whether an object's bytes can be read, and if not, whether they are on their way."""

    READABLE = "readable"
    """At once, for as long as it is there."""
    ARCHIVED = "archived"
    """Only after a restore; nobody asked for one."""
    RESTORING = "restoring"
    """Asked for; not yet."""
    RESTORED = "restored"
    """At once, from a temporary copy."""


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """Whether an object can be read, and until when."""

    readiness: Readiness = Readiness.READABLE
    until: datetime | None = None
    """End of a temporary copy (`Readiness.RESTORED`), in UTC; None where the back end does not say."""

    @property
    def is_readable(self) -> bool:
        """Whether a read would be answered now."""
        return self.readiness in {Readiness.READABLE, Readiness.RESTORED}


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a back end says of one object."""

    key: str
    size_bytes: int
    modified: datetime
    etag: str | None = None
    version: str | None = None
    """Version identity where the bucket keeps versions."""
    storage_class: str | None = field(default=None, compare=False)
    """Where the back end has classes and says which; None for its standard class. Like `archive` no part of the
    object's identity: listings may not know it."""
    archive: ArchiveState = field(default=ArchiveState(), compare=False)
    """Whether it can be read now. Where `Properties.archive` is true only `look` of
    `wsistore.storage.archive.SupportsArchive` is sure to know."""
    locked_until: datetime | None = field(default=None, compare=False)
    """Until when the service refuses to delete it (Object Lock), `datetime.max` for a legal hold; None where it is not
    locked. Only `look` tells it."""


@dataclass(frozen=True, slots=True)
class Properties:
    """What a back end can do. Callers read these; they never probe with ``hasattr``."""

    conditional_put: bool
    versions: bool
    local_files: bool
    """Objects are files; the back end offers `SupportsLocalPath`."""
    uncached_reads: bool
    """`stream(uncached=True)` really reads the medium, not a cache of this machine."""
    min_part_bytes: int = 0
    """Least size of a part of an `Upload`, except the last."""
    archive: bool = False
    """There may be objects that must be restored before they can be read; the back end offers
    `wsistore.storage.archive.SupportsArchive`."""
    deletes_many: bool = False
    """Many objects are deleted by one request; the back end offers `DeletesMany`."""


class Upload(Protocol):
    """One large object being written: `write` in order, then `complete` or `abort`.

    Leaving the ``with`` block without `complete` aborts. Until `complete` returns nothing is visible.
    """

    def write(self, data: Buffer) -> None:
        """Append `data`; the buffer may be reused when this returns."""
        ...

    def complete(self) -> ObjectInfo:
        """Make the object visible and durable.

        May be repeated after it succeeded, and then returns the same: after a lost reply the caller asks again. After
        a `write` that failed nothing can be completed any more.
        """
        ...

    def abort(self) -> None:
        """Give up and leave nothing behind. May be repeated."""
        ...

    def __enter__(self) -> Self:
        """Start."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Abort unless completed."""
        ...


class Storage(Protocol):
    """One tier's bytes. See the module docstring for the rules."""

    @property
    def url(self) -> str:
        """Where it is, without credentials, for messages."""
        ...

    @property
    def properties(self) -> Properties:
        """What it can do."""
        ...

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Write a whole object; replaces what was there unless `if_absent`.

        What is returned is what `head` would tell; but without `if_absent` a back end that would have to ask for it may
        tell this machine's time as `ObjectInfo.modified`.

        Raises
        ------
        ObjectExistsError
            If `if_absent` and the key is taken.
        FullError
            If there is no space left; nothing is left behind.

        """
        ...

    def upload(self, key: str) -> Upload:
        """Start writing a large object in parts. Replaces what was there when completed."""
        ...

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it. A `Span` that starts at or past the end gives ``b""``.

        Raises
        ------
        ObjectMissingError
            If there is no such object or version.
        ObjectArchivedError
            If it must be restored first; so do `get_many` and `stream`. It never waits for an archive.

        """
        ...

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Return several parts of one object, in the order asked, with as few requests as pays."""
        ...

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object from start to end in blocks; each block is valid until the next is asked for.

        With `uncached` the bytes come from the medium, not from a cache of this machine, where
        `Properties.uncached_reads` says that this can be had.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object; `ObjectMissingError` if there is none."""
        ...

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with `prefix` and sort after `after`, in order of their keys' UTF-8.

        Exactly once each for objects that neither appear nor vanish meanwhile.
        """
        ...

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every kept version under `prefix`, newest first within a key; as `list` where there are none."""
        ...

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete one object (or one version of it). No error if it is not there."""
        ...


@runtime_checkable
class SupportsLocalPath(Protocol):
    """Ability of back ends whose objects are files of this machine."""

    def local_path(self, key: str) -> Path:
        """Return the path of an object's file; it is read, never written, by the caller."""
        ...


@runtime_checkable
class OneState(Protocol):
    """Ability of streams: all that one yields is of one state of its object, and it tells which."""

    @property
    def etag(self) -> str | None:
        """ETag of that state, once the first block came; None before, or where the service tells none."""
        ...

    def __iter__(self) -> Iterator[memoryview]:
        """Return itself."""
        ...

    def __next__(self) -> memoryview:
        """Return the next block."""
        ...


@runtime_checkable
class DeletesMany(Protocol):
    """Ability of back ends that delete many objects for the price of one."""

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete objects, those that are there; may be repeated.

        Raises
        ------
        StorageError
            If one of them cannot be deleted, naming it; others may be gone then.

        """
        ...


@runtime_checkable
class KeepsParts(Protocol):
    """Ability of back ends where an upload that never ended leaves parts, which are paid for and in no listing."""

    def abort_uploads(
        self, prefix: str, older_than: datetime | None = None, spares: Callable[[str], bool] = lambda _: False
    ) -> int:
        """Throw away the parts of uploads of keys that start with `prefix`; one that still goes on fails.

        Parameters
        ----------
        prefix
            As for `Storage.list`.
        older_than
            Uploads that were started since then are left alone; the time is the service's.
        spares
            Says of a key whether its uploads are left alone.

        Returns
        -------
        int
            Number of uploads.

        Raises
        ------
        StorageError
            If they cannot be listed or thrown away.

        """
        ...


def check_key(key: str) -> str:
    """Return `key` if every back end can keep it, else raise.

    Raises
    ------
    StorageError
        If the key is empty, absolute, too long, no UTF-8 (lone surrogates), or has empty, ``.`` or ``..`` segments,
        backslashes or control characters.

    """
    segments = key.split("/")
    good = all(_SEGMENT.fullmatch(part) and part not in {".", ".."} for part in segments)
    if not good or not _is_short_utf8(key):
        msg = f"The key {key!r} cannot be stored."
        raise StorageError(
            msg, kind=Kind.KEY_INVALID, remedy="Keys are relative paths without empty, '.' or '..' parts."
        )
    return key


def _is_short_utf8(key: str) -> bool:
    try:
        return len(key.encode("utf-8")) <= MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False
