"""A copy made as it is, byte for byte, under another attempt's keys: in the same tier or another.

Every object is compared with what the commit of the copy that is read says of it, while it passes. Only the companion's
description names the attempt, so it alone is written anew; the same comes out each time, and a second run goes on where
the first was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass, field, replace
from threading import Semaphore

from wsistore.compress import archive, bounded, companion
from wsistore.compress.archive import PackedView
from wsistore.compress.crew import Crew
from wsistore.compress.keys import FILES, Place
from wsistore.compress.reader import StoredSlide
from wsistore.compress.recording import Recorder
from wsistore.compress.writer import Draft
from wsistore.compress.zips import Entry, write_zip
from wsistore.errors import IntegrityError, ObjectMissingError, TransientError
from wsistore.model import ObjectRecord
from wsistore.storage.base import Storage
from wsistore.units import MIB

_COPIERS = 6
"""Objects on their way at a time: each waits for its durable end most of the time."""
_LARGE = 2
"""Of these, those written in parts: over a network several parts of one are on their way already."""
_BLOCK_BYTES = 4 * MIB
_SMALL_BYTES = 2 * MIB
"""What is no larger than this is written by one call."""
_TRIES = 3
"""How often an object is taken on its way, if the connection fails or its bytes do not arrive as they were."""

_HELD_BYTES = 80 * MIB
"""Of one large object at most, by both tiers: from S3 and to S3 five pieces of 8 MiB each."""

MEMORY_BYTES = _LARGE * (_HELD_BYTES + 2 * _BLOCK_BYTES) + _COPIERS * 2 * _SMALL_BYTES
"""What copying one slide takes at most, with the buffers of both tiers: 200 MiB."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class _Copier:
    """Takes objects from one tier to another."""

    source: Storage
    target: Storage
    progress: Progress
    large: Semaphore = field(default_factory=lambda: Semaphore(_LARGE))

    def take(self, record: ObjectRecord, key: str) -> ObjectRecord:
        """Copy an object; raise `IntegrityError` if it is not what was recorded, each time that it is read."""
        for turn in range(_TRIES):
            try:
                return self._once(record, key)
            except (IntegrityError, TransientError):
                if turn + 1 == _TRIES:
                    raise
        raise AssertionError

    def _once(self, record: ObjectRecord, key: str) -> ObjectRecord:
        if record.size_bytes <= _SMALL_BYTES:
            self.target.put(key, read_proven(self.source, record))
        else:
            with self.large, self.target.upload(key) as upload:
                for block in _proven(self.source, record):
                    upload.write(block)
                upload.complete()
        self.progress(record.size_bytes)
        return ObjectRecord(key, record.size_bytes, record.sha256)


def copy_stored(
    stored: StoredSlide,
    objects: Sequence[ObjectRecord],
    storage: Storage,
    target: Place,
    *,
    resumed: bool,
    progress: Progress = lambda _: None,
) -> Draft:
    """Write a copy of a stored slide, encoded as it is.

    Parameters
    ----------
    stored
        The copy that is read.
    objects
        What its commit records.
    storage, target
        Where the new copy goes.
    resumed
        Whether an earlier run may have written some objects: those that are there with their size are left as they are,
        and proven with all others when the copy is read back.
    progress
        Gets the bytes of every object that is done, from several threads.

    Returns
    -------
    Draft
        All objects of the new copy, which is neither verified nor committed.

    Raises
    ------
    IntegrityError
        If an object is missing, or is not what was recorded of it.
    StorageError
        If a tier fails. In both cases objects may be left behind, under the attempt's keys and without a commit.

    """
    packed = stored.storage if isinstance(stored.storage, PackedView) else None
    copier = _Copier(packed.inner if packed else stored.storage, storage, progress)
    described = archive.private_archive(stored.place) if packed else stored.place.private + FILES
    there = _there(storage, target) if resumed else {}
    with Crew(_COPIERS) as crew:
        running = []
        records = []
        for record in objects:
            key = _target_key(stored.place, target, record.key)
            if record.key == described:
                if packed:
                    running.append(crew.submit(_write_packed, copier, packed, record, target))
                else:
                    running.append(crew.submit(_write_description, copier, record, target))
            elif there.get(key) == record.size_bytes:
                progress(record.size_bytes)
                records.append(ObjectRecord(key, record.size_bytes, record.sha256))
            else:
                running.append(crew.submit(copier.take, record, key))
        _, waiting = wait(running, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        records += [future.result() for future in running if not future.cancelled()]
    return Draft(target, tuple(sorted(records, key=lambda record: record.key)), stored.companion.files)


def _there(storage: Storage, target: Place) -> dict[str, int]:
    prefixes = (target.store, target.private)
    return {info.key: info.size_bytes for prefix in prefixes for info in storage.list(prefix)}


def _target_key(source: Place, target: Place, key: str) -> str:
    if key == archive.store_archive(source):
        return archive.store_archive(target)
    if key == archive.private_archive(source):
        return archive.private_archive(target)
    for before, after in ((source.store, target.store), (source.private, target.private)):
        if key.startswith(before):
            return after + key.removeprefix(before)
    msg = f"{key} does not lie under attempt {source.attempt}."
    raise IntegrityError(msg, remedy=bounded.REMEDY)


def _description(data: bytes, where: str, target: Place) -> bytes:
    return companion.encode(replace(companion.decode(data, where=where), attempt=target.attempt))


def _write_description(copier: _Copier, record: ObjectRecord, target: Place) -> ObjectRecord:
    data = _description(_patiently(lambda: read_proven(copier.source, record)), record.key, target)
    key = target.private + FILES
    copier.target.put(key, data)
    copier.progress(record.size_bytes)
    return ObjectRecord(key, len(data), hashlib.sha256(data).hexdigest())


def _patiently(read: Callable[[], bytes]) -> bytes:
    for _ in range(_TRIES - 1):
        try:
            return read()
        except IntegrityError:
            pass
    return read()


def _write_packed(copier: _Copier, view: PackedView, record: ObjectRecord, target: Place) -> ObjectRecord:
    """Write the companion's archive anew: all entries as they are but the description."""
    for _ in _proven(copier.source, record):
        pass  # all of it, before parts of it are believed
    prefix = view.place.private
    entries = []
    for info in view.list(prefix):
        name = info.key.removeprefix(prefix)
        if name == FILES:
            data = _description(view.get(info.key), info.key, target)
            entries.append(Entry(name, len(data), iter((data,))))
        else:
            entries.append(Entry(name, info.size_bytes, view.stream(info.key, block_bytes=_BLOCK_BYTES)))
    with Recorder(copier.target) as recorder, recorder.upload(archive.private_archive(target)) as upload:
        write_zip(upload, sorted(entries, key=lambda entry: entry.name))
        upload.complete()
    copier.progress(record.size_bytes)
    return recorder.records[0]


def read_proven(storage: Storage, record: ObjectRecord) -> bytes:
    """Return a small object; raise `IntegrityError` if it is missing, or not what was recorded of it."""
    try:
        data = storage.get(record.key)
    except ObjectMissingError as error:
        raise _missing(storage, record) from error
    if len(data) != record.size_bytes or hashlib.sha256(data).hexdigest() != record.sha256:
        raise _other(storage, record)
    return data


def _proven(storage: Storage, record: ObjectRecord) -> Iterator[memoryview]:
    """Yield an object's blocks; raise at its end if they were not what was recorded."""
    digest = hashlib.sha256()
    try:
        for block in storage.stream(record.key, block_bytes=_BLOCK_BYTES):
            digest.update(block)
            yield block
    except ObjectMissingError as error:
        raise _missing(storage, record) from error
    if digest.hexdigest() != record.sha256:
        raise _other(storage, record)


def _missing(storage: Storage, record: ObjectRecord) -> IntegrityError:
    return IntegrityError(f"{record.key} is missing from {storage.url}.", remedy=bounded.REMEDY)


def _other(storage: Storage, record: ObjectRecord) -> IntegrityError:
    msg = f"{record.key} read from {storage.url} is not what was recorded of it."
    return IntegrityError(msg, remedy=bounded.REMEDY)
