"""Decorator: a rehearsed archive. It gives objects of a place that is always readable the manners of archive classes.

For rehearsals, demonstrations and tests: what is moved to one of its classes cannot be read until a restore was asked
for and its delay has passed, and the copy ends when its time is over. The state lies beside the objects, under
`FOLDER`, so that several processes see the same; bytes never change. It protects nothing and saves no money.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import Buffer

from wsistore.clock import Clock, iso
from wsistore.errors import Kind, ObjectMissingError, StorageError
from wsistore.storage._errors import object_archived, object_missing
from wsistore.storage.archive import Retrieval, check_restore
from wsistore.storage.base import ArchiveState, ByteRange, ObjectInfo, Properties, Readiness, Span, Storage, Upload
from wsistore.storage.erasing import erase
from wsistore.storage.wrapper import WrappedStorage

FOLDER = ".wsistore-archive/"
"""What the keys of the state start with; nothing else may."""

_STANDARD = "STANDARD"
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way back from a class."""

    seconds: float
    """From asking to reading."""
    eur_per_gb: float = 0.0
    eur_per_request: float = 0.0


Classes = Mapping[str, Mapping[Retrieval, Way]]

LIKE_S3: Classes = {
    "GLACIER": {
        Retrieval.EXPEDITED: Way(5 * 60.0, 0.03, 0.01),
        Retrieval.STANDARD: Way(5 * _HOUR, 0.01, 0.00005),
        Retrieval.BULK: Way(12 * _HOUR),
    },
    "DEEP_ARCHIVE": {
        Retrieval.STANDARD: Way(12 * _HOUR, 0.02, 0.0001),
        Retrieval.BULK: Way(48 * _HOUR, 0.0025, 0.000025),
    },
}
"""Delays as S3's reference states them at most; the prices are made up, of a real order of magnitude."""


@dataclass(frozen=True, slots=True)
class _Record:
    """What is remembered of one state of one version of an object."""

    identity: str
    storage_class: str
    ready: str | None = None
    until: str | None = None


class ArchiveStorage(WrappedStorage):
    """Archives objects of `inner` by remembering that they are archived; see `wsistore.storage.archive`.

    Parameters
    ----------
    inner
        Where objects and state lie. Never the same place without this decorator: there all of it can be read.
    clock
        Decides when a restore is done and a copy ends.
    classes
        Archive classes and their ways back. All other names are of classes that are read at once.
    speed
        How many times faster than the clock the archive's time runs: with 3600 hours take seconds.

    """

    def __init__(self, inner: Storage, clock: Clock, classes: Classes = LIKE_S3, *, speed: float = 1.0) -> None:
        super().__init__(inner)
        self._clock = clock
        self._classes = classes
        self._speed = speed
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.inner, self._clock, self._classes, self._speed))

    @property
    def properties(self) -> Properties:
        """What the inner storage can do, but for local files, which could be read whatever their state."""
        return replace(self.inner.properties, local_files=False, archive=True)

    # --- objects -----------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Write a whole object, readable at once; see `wsistore.storage.base.Storage.put`."""
        return self.inner.put(self._checked(key), data, if_absent=if_absent)

    def upload(self, key: str) -> Upload:
        """Start writing a large object, readable at once; see `wsistore.storage.base.Storage.upload`."""
        return self.inner.upload(self._checked(key))

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it; see `wsistore.storage.base.Storage.get`."""
        self._require_readable(key, version)
        return self.inner.get(key, byte_range, version=version)

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Return several parts of one object; see `wsistore.storage.base.Storage.get_many`."""
        self._require_readable(key, None)
        return self.inner.get_many(key, spans)

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object in blocks; see `wsistore.storage.base.Storage.stream`."""
        self._require_readable(key, None)
        yield from self.inner.stream(key, block_bytes=block_bytes, uncached=uncached)

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object, its class and state too."""
        return self.look(key)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects in order of their keys; see `wsistore.storage.base.Storage.list`."""
        return (info for info in self.inner.list(prefix, after=after) if not info.key.startswith(FOLDER))

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every kept version; see `wsistore.storage.base.Storage.versions`."""
        return (info for info in self.inner.versions(prefix) if not info.key.startswith(FOLDER))

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete one object or version; archived ones too, as everywhere."""
        self.inner.delete(self._checked(key), version=version)
        with self._lock:
            records = self._records(key)
            if version is None and self.inner.properties.versions:
                return  # it is only hidden
            if records.pop(version or "", None) is not None:
                self._remember(key, records)

    # --- the archive -------------------------------------------------------------------------------------------------

    def retrievals(self, storage_class: str | None) -> tuple[Retrieval, ...]:
        """Return the ways back from a class; see `wsistore.storage.archive.SupportsArchive.retrievals`."""
        ways = self._classes.get(storage_class or _STANDARD, {})
        return tuple(sorted(ways, key=lambda way: ways[way].seconds))

    def look(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Return an object's class and state; see `wsistore.storage.archive.SupportsArchive.look`."""
        info = self._plain(self._checked(key), version)
        record = self._records(key).get(info.version or "")
        if record is None or record.identity != _identity(info):
            return info
        storage_class = None if record.storage_class == _STANDARD else record.storage_class
        return replace(info, storage_class=storage_class, archive=self._state(record))

    def begin_restore(self, key: str, *, days: int, retrieval: Retrieval, version: str | None = None) -> ArchiveState:
        """Ask for a temporary copy; see `wsistore.storage.archive.SupportsArchive.begin_restore`."""
        with self._lock:
            info = self.look(key, version=version)
            state, now = info.archive, self._clock.now()
            if state.readiness is Readiness.READABLE:
                return state
            check_restore(self.url, key, days, retrieval, self.retrievals(info.storage_class))
            if state.readiness is Readiness.RESTORING:
                return state
            end = now + timedelta(days=days) / self._speed
            if state.readiness is Readiness.RESTORED:
                if state.until is None or state.until >= end:
                    return state
                return self._restored(key, info, now, end)
            storage_class = info.storage_class or _STANDARD
            way = self._classes[storage_class][retrieval]
            delay = timedelta(seconds=way.seconds) / self._speed
            self._charge(key, info, retrieval, way)
            return self._restored(key, info, now + delay, end + delay)

    def transition(
        self, key: str, storage_class: str, *, version: str | None = None, etag: str | None = None
    ) -> ObjectInfo:
        """Move an object to another class; see `wsistore.storage.archive.SupportsArchive.transition`."""
        with self._lock:
            info = self.look(key, version=version)
            if etag is not None and etag != info.etag:
                msg = f"{key!r} in {self.url} is no longer what it was: its ETag is {info.etag}, not {etag}."
                raise StorageError(msg, remedy="Look at what replaced it; nothing was moved.")
            if (info.storage_class or _STANDARD) == storage_class:
                return info
            if not info.archive.is_readable:
                raise object_archived(self.url, key)
            records = self._records(key)
            self._remember(key, records | {info.version or "": _Record(_identity(info), storage_class)})
            return self.look(key, version=version)

    def bill_eur(self) -> float:
        """Return what all restores so far would have cost, in euros."""
        return sum(float(json.loads(self.inner.get(info.key))["eur"]) for info in self.inner.list(f"{FOLDER}bill/"))

    # --- how ---------------------------------------------------------------------------------------------------------

    def _checked(self, key: str) -> str:
        if key.startswith(FOLDER):
            msg = f"The key {key!r} cannot be stored in {self.url}: the rehearsed archive keeps its state there."
            raise StorageError(msg, kind=Kind.KEY_INVALID, remedy="Choose another name.")
        return key

    def _require_readable(self, key: str, version: str | None) -> None:
        if not self._records(self._checked(key)):
            return  # never archived, or not there, which the inner storage says
        if not self.look(key, version=version).archive.is_readable:
            raise object_archived(self.url, key)

    def _plain(self, key: str, version: str | None) -> ObjectInfo:
        if version is None:
            return self.inner.head(key)
        found = (info for info in self.inner.versions(key) if (info.key, info.version) == (key, version))
        info = next(found, None)
        if info is None:
            raise object_missing(self.url, key, version)
        return info

    def _state(self, record: _Record) -> ArchiveState:
        if record.storage_class not in self._classes:
            return ArchiveState()
        now = iso(self._clock.now())  # of one length and zone: texts compare as times do
        if record.ready is None or record.until is None or now >= record.until:
            return ArchiveState(Readiness.ARCHIVED)
        if now < record.ready:
            return ArchiveState(Readiness.RESTORING)
        return ArchiveState(Readiness.RESTORED, datetime.fromisoformat(record.until))

    def _restored(self, key: str, info: ObjectInfo, ready: datetime, until: datetime) -> ArchiveState:
        record = _Record(_identity(info), info.storage_class or _STANDARD, iso(ready), iso(until))
        self._remember(key, self._records(key) | {info.version or "": record})
        return self._state(record)

    def _charge(self, key: str, info: ObjectInfo, retrieval: Retrieval, way: Way) -> None:
        eur = way.eur_per_request + way.eur_per_gb * info.size_bytes / 1e9
        line = {"key": key, "retrieval": retrieval, "bytes": info.size_bytes, "eur": eur, "at": iso(self._clock.now())}
        self.inner.put(f"{FOLDER}bill/{secrets.token_hex(16)}.json", json.dumps(line).encode())

    def _records(self, key: str) -> dict[str, _Record]:
        """Return what is remembered of an object, by versions; the empty one where there are none."""
        try:
            text = self.inner.get(_state_key(key))
        except ObjectMissingError:
            return {}
        try:
            return {version: _Record(**record) for version, record in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError, RecursionError):
            msg = f"What the rehearsed archive {self.url} remembers of {key!r} cannot be understood."
            raise StorageError(msg, kind=Kind.FORMAT_UNKNOWN, remedy=f"Delete {_state_key(key)!r}.") from None

    def _remember(self, key: str, records: Mapping[str, _Record]) -> None:
        if not records:
            erase(self.inner, _state_key(key))
            return
        plain = {
            version: {name: getattr(record, name) for name in _Record.__slots__} for version, record in records.items()
        }
        self.inner.put(_state_key(key), json.dumps(plain).encode())


def _rebuild(inner: Storage, clock: Clock, classes: Classes, speed: float) -> ArchiveStorage:
    return ArchiveStorage(inner, clock, classes, speed=speed)


def _state_key(key: str) -> str:
    # Hashed, for a key may be as long as any may be, and be the folder of another.
    return f"{FOLDER}state/{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}.json"


def _identity(info: ObjectInfo) -> str:
    """Return what tells this state of the object from what may replace it."""
    return f"{info.size_bytes} {iso(info.modified)} {info.etag}"
