"""Proof that a copy is good: every object read from where it lies, the source rebuilt from them, all hashes compared.

One pass: each object is streamed once, in the order in which the source's bytes ask for it; the blocks feed the
object's own hash and the hash of the file that is being rebuilt. Only what is asked for out of order is read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from wsistore.compress.extents import SourceMap, map_source
from wsistore.compress.keys import FILES, LAYOUT, SKELETON, Place
from wsistore.compress.layout import rows_of
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_file import SourceFileView
from wsistore.errors import IntegrityError, ObjectMissingError
from wsistore.model import FileRecord, ObjectRecord
from wsistore.storage.base import Span, Storage
from wsistore.units import MIB

_BLOCK_BYTES = 4 * MIB
_OPEN_STREAMS = 8
"""Objects streamed at a time; a source that jumps between more of them has the rest read by ranges."""
_REMEDY = "Restore the slide from another copy, or ingest the source again."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found out."""

    bytes_read: int
    objects: int


class _Cursor:
    """One object being streamed once, block by block, hashed in the background."""

    def __init__(self, storage: Storage, record: ObjectRecord, pool: ThreadPoolExecutor) -> None:
        self.record, self._pool = record, pool
        self._storage = storage
        self._blocks: Iterator[memoryview] = storage.stream(record.key, block_bytes=_BLOCK_BYTES, uncached=True)
        self._digest = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._start, self._block = 0, memoryview(b"")

    @property
    def end(self) -> int:
        """Where the present block ends."""
        return self._start + len(self._block)

    def _advance(self) -> bool:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None
        self._start, self._block = self.end, memoryview(b"")
        block = next(self._blocks, None)
        if block is None:
            return False
        self._block = block
        self._hashing = self._pool.submit(self._digest.update, block)
        return True

    def take(self, start: int, length: int) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a range; those that have passed already are read again."""
        if start < self._start:
            part = min(length, self._start - start)
            yield from _ranges(self._storage, self.record.key, start, part)
            start, length = start + part, length - part
        while length > 0:
            while start >= self.end:
                if not self._advance():
                    return
            part = min(length, self.end - start)
            yield self._block[start - self._start : start - self._start + part]
            start, length = start + part, length - part

    def finish(self) -> None:
        """Read the rest and compare.

        Raises
        ------
        IntegrityError
            If size or hash are not those recorded.

        """
        while self._advance():
            pass
        size, digest = self._start, self._digest.hexdigest()
        if size != self.record.size_bytes or digest != self.record.sha256:
            msg = f"{self.record.key} in {self._storage.url} has {size} bytes with SHA-256 {digest}, recorded were "
            msg += f"{self.record.size_bytes} bytes with {self.record.sha256}."
            raise IntegrityError(msg, remedy=_REMEDY)


def _ranges(storage: Storage, key: str, start: int, length: int) -> Iterator[bytes]:
    """Yield a range that no stream passes any more, in blocks."""
    for offset in range(start, start + length, _BLOCK_BYTES):
        yield storage.get(key, Span(offset, min(_BLOCK_BYTES, start + length - offset)))


class _Pass:
    """The cursors of one verification."""

    def __init__(
        self, storage: Storage, records: Sequence[ObjectRecord], uses: Mapping[str, int], pool: ThreadPoolExecutor
    ) -> None:
        self._storage, self._pool = storage, pool
        self._waiting = {record.key: record for record in records}
        self._open: dict[str, _Cursor] = {}
        self._uses = dict(uses)

    def take(self, key: str, start: int, length: int) -> Iterator[bytes | memoryview]:
        self._uses[key] -= 1
        cursor = self._open.get(key)
        if cursor is None and key in self._waiting and len(self._open) < _OPEN_STREAMS:
            cursor = self._open[key] = _Cursor(self._storage, self._waiting.pop(key), self._pool)
        if cursor is None:
            yield from _ranges(self._storage, key, start, length)
            return
        yield from cursor.take(start, length)
        if not self._uses[key]:  # nothing more is asked of it: its stream makes room for the next
            self._close(key)

    def finish(self) -> None:
        """Compare every object that is not yet compared."""
        for key in list(self._open):
            self._close(key)
        with ThreadPoolExecutor(_OPEN_STREAMS, "wsistore-verify-small") as small:
            list(small.map(self._whole, self._waiting.values()))
        self._waiting.clear()

    def _whole(self, record: ObjectRecord) -> None:
        _Cursor(self._storage, record, self._pool).finish()

    def _close(self, key: str) -> None:
        self._open.pop(key).finish()


def verify_copy(
    storage: Storage,
    place: Place,
    objects: Sequence[ObjectRecord],
    files: Sequence[FileRecord],
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Verdict:
    """Prove that the copy at `place` gives back `files`.

    Parameters
    ----------
    storage, place
        Where the copy lies.
    objects
        What the commit records of its objects.
    files
        What was recorded of the source at ingest.
    progress
        Gets the number of rebuilt bytes just dealt with.

    Raises
    ------
    IntegrityError
        At the first object or file that is not what was recorded, naming it.
    StorageError
        If the tier fails; this proves nothing.

    """
    try:
        with ThreadPoolExecutor(1, "wsistore-verify") as pool:
            _verify(StoredSlide(storage, place), objects, tuple(files), pool, progress)
    except (IntegrityError, ObjectMissingError) as error:
        _blame(storage, place, objects)
        if isinstance(error, IntegrityError):
            raise
        raise _missing(place, error) from error
    return Verdict(sum(record.size_bytes for record in objects), len(objects))


def _blame(storage: Storage, place: Place, objects: Sequence[ObjectRecord]) -> None:
    """Name the object that is damaged or gone, if one is: that says more than what could not be made of it."""
    try:
        with ThreadPoolExecutor(1, "wsistore-verify") as pool:
            _Pass(storage, objects, {}, pool).finish()
    except ObjectMissingError as error:
        raise _missing(place, error) from error


def _missing(place: Place, error: ObjectMissingError) -> IntegrityError:
    msg = f"{error.message} It belongs to slide {place.slide}."
    return IntegrityError(msg, remedy=_REMEDY)


def _verify(
    slide: StoredSlide,
    objects: Sequence[ObjectRecord],
    files: tuple[FileRecord, ...],
    pool: ThreadPoolExecutor,
    progress: Callable[[int], None],
) -> None:
    if slide.companion.files != files:
        msg = f"The companion of slide {slide.place.slide} in {slide.storage.url} describes another source."
        raise IntegrityError(msg, remedy=_REMEDY)
    source = map_source(slide)
    _check_complete(slide, source, objects)
    reading = _Pass(slide.storage, objects, source.uses(), pool)
    for number in range(len(files)):
        _rebuild(slide, source, number, reading, progress)
    reading.finish()


def _check_complete(slide: StoredSlide, source: SourceMap, objects: Sequence[ObjectRecord]) -> None:
    """Refuse a record that leaves out an object: what is not recorded is neither compared, nor moved, nor kept."""
    needed = {slide.place.private + FILES, *source.objects, *source.folded}
    if slide.companion.skeleton is not None:
        needed |= {slide.place.private + LAYOUT, slide.place.private + SKELETON}
    missing = sorted(needed - {record.key for record in objects})
    if missing:
        msg = f"{missing[0]} belongs to slide {slide.place.slide} in {slide.storage.url}, but its commit leaves it out."
        raise IntegrityError(msg, remedy=_REMEDY)


def _rebuild(
    slide: StoredSlide, source: SourceMap, number: int, reading: _Pass, progress: Callable[[int], None]
) -> None:
    file, digest = slide.companion.files[number], hashlib.sha256()
    view = SourceFileView(slide, source, number)
    for offset, length, origin, position in rows_of(source.files[number], "offset", "length", "origin", "position"):
        if origin >= 0:
            for part in reading.take(source.objects[origin], position, length):
                digest.update(part)
        else:
            done = 0
            while done < length:
                part = view.extent_bytes(offset + done, min(length - done, _BLOCK_BYTES))
                digest.update(part)
                done += len(part)
        progress(length)
    if digest.hexdigest() != file.sha256:
        msg = f"{file.name}, rebuilt from slide {slide.place.slide} in {slide.storage.url}, is not what was ingested."
        raise IntegrityError(msg, remedy=_REMEDY)
