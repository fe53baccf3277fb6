"""Packed copies: store and companion of an attempt as one zip file each, written from its objects and read in place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, cast

from typing_extensions import override

from wsistore.compress import bounded
from wsistore.compress.keys import Place
from wsistore.compress.reader import StoredSlide
from wsistore.compress.recording import Recorder
from wsistore.compress.zips import Entry, ListFile, ZipDirectory, write_ozx, write_zip
from wsistore.errors import IntegrityError, ObjectMissingError
from wsistore.model import ObjectRecord
from wsistore.storage.base import ByteRange, ObjectInfo, Properties, Span, Storage, SupportsLocalPath, Tail
from wsistore.storage.readonly import ReadOnlyStorage
from wsistore.units import MIB

SUFFIX = ".ozx"
"""Ends the key of a packed store."""
_BLOCK_BYTES = 4 * MIB
_TAIL_BYTES = MIB // 4
"""The list of a packed slide's entries mostly lies within as much of the archive's end."""


def store_archive(place: Place) -> str:
    """Return the key of a packed attempt's store."""
    return f"{place.store}{place.attempt}{SUFFIX}"


def private_archive(place: Place) -> str:
    """Return the key of a packed attempt's companion."""
    return f"{place.private}{place.attempt}.zip"


def pack(storage: Storage, place: Place, records: Sequence[ObjectRecord], recorder: Recorder) -> None:
    """Write an attempt's objects into its two archives; the objects stay.

    Parameters
    ----------
    storage, place
        Where the objects lie.
    records
        All objects of the attempt.
    recorder
        Writes the archives.

    Raises
    ------
    IntegrityError
        If an object is missing, or is not what was recorded of it.
    StorageError
        If the tier fails.

    """
    shared = [_entry(storage, record, place.store) for record in records if record.key.startswith(place.store)]
    with recorder.upload(store_archive(place)) as upload:
        write_ozx(upload, shared)
        upload.complete()
    private = [_entry(storage, record, place.private) for record in records if record.key.startswith(place.private)]
    with recorder.upload(private_archive(place)) as upload:
        write_zip(upload, sorted(private, key=lambda entry: entry.name))
        upload.complete()


def _entry(storage: Storage, record: ObjectRecord, prefix: str) -> Entry:
    return Entry(record.key.removeprefix(prefix), record.size_bytes, proven_blocks(storage, record))


def proven_blocks(storage: Storage, record: ObjectRecord) -> Iterator[memoryview]:
    """Yield an object's blocks; raise if they are not what was recorded."""
    digest = hashlib.sha256()
    try:
        for block in storage.stream(record.key, block_bytes=_BLOCK_BYTES):
            digest.update(block)
            yield block
    except ObjectMissingError as error:
        msg = f"{record.key} is missing from {storage.url}."
        raise IntegrityError(msg, remedy=bounded.REMEDY) from error
    if digest.hexdigest() != record.sha256:
        msg = f"{record.key} in {storage.url} is not what was recorded of it."
        raise IntegrityError(msg, remedy=bounded.REMEDY)


@dataclass(frozen=True, slots=True)
class _Archive:
    key: str
    prefix: str
    """Of the keys that its entries stand for."""
    entries: Mapping[str, tuple[int, int]]
    """Start and size by name."""


class PackedView(ReadOnlyStorage):
    """A tier in which the objects of one packed attempt seem to lie as those of an attempt that is not packed.

    All other keys, also those of the archives themselves, are passed on. Of `list` and `versions`, prefixes within the
    attempt are answered from the archives; wider ones are passed on. Threads may share it, and it pickles.

    Parameters
    ----------
    inner
        The tier.
    place
        The packed attempt.

    Raises
    ------
    IntegrityError
        From every method: if an archive is missing or damaged.

    """

    def __init__(self, inner: Storage, place: Place) -> None:
        super().__init__(inner)
        self.place = place
        self._lock = Lock()
        self._archives: dict[str, _Archive] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it is made of."""
        return (PackedView, (self.inner, self.place))

    @override
    @property
    def properties(self) -> Properties:
        """Those of the tier; but objects are no files, and their streams may come from a cache."""
        return replace(self.inner.properties, local_files=False, uncached_reads=False)

    def resolve(self, key: str) -> tuple[str, int]:
        """Return the key of the object that holds the bytes of `key`, and where in it they start.

        Raises
        ------
        ObjectMissingError
            If there is no such entry.

        """
        found = self._find(key)
        return (key, 0) if found is None else (found[0], found[1])

    @override
    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        found = self._find(key)
        if found is None:
            return self.inner.get(key, byte_range, version=version)
        archive, start, size = found
        first, length = _bounds(byte_range, size)
        return self.inner.get(archive, Span(start + first, length)) if length else b""

    @override
    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        found = self._find(key)
        if found is None:
            return self.inner.get_many(key, spans)
        archive, start, size = found
        within = [_bounds(span, size) for span in spans]
        return self.inner.get_many(archive, [Span(start + first, length) for first, length in within])

    @override
    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        found = self._find(key)
        if found is None:
            yield from self.inner.stream(key, block_bytes=block_bytes, uncached=uncached)
            return
        archive, start, size = found
        for first in range(0, size, max(1, block_bytes)):
            yield memoryview(self.inner.get(archive, Span(start + first, min(block_bytes, size - first))))

    @override
    def head(self, key: str) -> ObjectInfo:
        found = self._find(key)
        if found is None:
            return self.inner.head(key)
        return replace(self.inner.head(found[0]), key=key, size_bytes=found[2], etag=None, version=None)

    @override
    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        archive = self._archive_of(prefix)
        if archive is None:
            yield from self.inner.list(prefix, after=after)
            return
        whole = self.inner.head(archive.key)
        keys = sorted((archive.prefix + name for name in archive.entries), key=lambda key: key.encode())
        for key in keys:
            if key.startswith(prefix) and key.encode() > after.encode():
                size = archive.entries[key.removeprefix(archive.prefix)][1]
                yield replace(whole, key=key, size_bytes=size, etag=None, version=None)

    @override
    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.inner.versions(prefix) if self._archive_of(prefix) is None else self.list(prefix)

    @override
    def local_path(self, key: str) -> Path:
        return self.inner.local_path(key) if isinstance(self.inner, SupportsLocalPath) else super().local_path(key)

    def _find(self, key: str) -> tuple[str, int, int] | None:
        """Return the archive that an object lies in, and its start and size there; None if it lies in none."""
        archive = self._archive_of(key)
        if archive is None or key == archive.key:
            return None
        entry = archive.entries.get(key.removeprefix(archive.prefix))
        if entry is None:
            msg = f"There is no {key} in {self.url}: {archive.key} has no such entry."
            raise ObjectMissingError(msg, remedy=bounded.REMEDY)
        return archive.key, *entry

    def _archive_of(self, key: str) -> _Archive | None:
        named = {self.place.store: store_archive(self.place), self.place.private: private_archive(self.place)}
        prefix = next((prefix for prefix in named if key.startswith(prefix)), None)
        if prefix is None:
            return None
        with self._lock:
            known = self._archives.get(prefix)
            if known is None:
                known = self._archives[prefix] = _read_archive(self.inner, named[prefix], prefix)
            return known


def _read_archive(storage: Storage, key: str, prefix: str) -> _Archive:
    """Read the list of an archive's entries."""

    def broken(what: str) -> IntegrityError:
        return IntegrityError(f"{key} in {storage.url} is damaged ({what}).", remedy=bounded.REMEDY)

    def ranges(start: int, length: int) -> bytes:
        return storage.get(key, Span(start, length))

    try:
        size, tail = storage.head(key).size_bytes, storage.get(key, Tail(_TAIL_BYTES))
        directory = ZipDirectory(cast(BinaryIO, ListFile(size, tail, ranges)), ranges, broken)
    except ObjectMissingError as error:
        msg = f"{key} is missing from {storage.url}."
        raise IntegrityError(msg, remedy=bounded.REMEDY) from error
    starts = directory.starts()
    entries = {name: (starts[name], entry.file_size) for name, entry in directory.entries.items()}
    directory.close()
    return _Archive(key, prefix, entries)


def _bounds(byte_range: ByteRange | None, size: int) -> tuple[int, int]:
    """Return start and length of the part of an entry of `size` bytes that is asked for."""
    if byte_range is None:
        return 0, size
    if isinstance(byte_range, Tail):
        length = min(byte_range.length_bytes, size)
        return size - length, length
    return byte_range.start, max(0, min(byte_range.length_bytes, size - byte_range.start))


def open_stored(storage: Storage, place: Place, *, packed: bool | None = None) -> StoredSlide:
    """Open a copy of a slide, packed or not.

    Parameters
    ----------
    storage, place
        Where it lies.
    packed
        Whether it is packed; by default that is found out, for one request more where it is.

    Raises
    ------
    IntegrityError
        If companion or archive are damaged or missing, or of an unknown format.
    StorageError
        If the tier fails.

    """
    if packed:
        return StoredSlide(PackedView(storage, place), place)
    try:
        return StoredSlide(storage, place)
    except IntegrityError as error:
        if packed is not None or not isinstance(error.__cause__, ObjectMissingError):
            raise
        try:
            storage.head(private_archive(place))
        except ObjectMissingError:
            raise error from error.__cause__
    return StoredSlide(PackedView(storage, place), place)
