"""Proof that a copy is good: every object read from where it lies, the source rebuilt from them, all hashes compared.

One pass: each object is streamed once, in the order in which the source's bytes ask for it; the blocks feed the
object's own hash, and what is rebuilt of them the hash of the file. Chunks that have to be undone are cut out of the
stream as they pass, and undone in the background. Only what is asked for out of order is read again: tiles that are
stored as they are, and chunks that cannot all be held until they are due.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from wsistore.compress.archive import open_stored, private_archive
from wsistore.compress.extents import SourceMap, map_source
from wsistore.compress.keys import FILES, LAYOUT, SKELETON, Place
from wsistore.compress.reader import ChunkRange, StoredSlide
from wsistore.compress.single_pass import SinglePass, joined
from wsistore.compress.skeleton import SkeletonReader
from wsistore.compress.source_file import file_blocks
from wsistore.compress.threads import processors, shared_pool
from wsistore.compress.unfolding import Need, Undone, Unfolding, needs_of
from wsistore.errors import IntegrityError, ObjectMissingError
from wsistore.model import FileRecord, Mode, ObjectRecord
from wsistore.storage.base import ByteRange, Span, Storage
from wsistore.storage.wrapper import WrappedStorage

_REMEDY = "Restore the slide from another copy, or ingest the source again."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found out."""

    bytes_read: int
    objects: int


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
        is_packed = any(record.key == private_archive(place) for record in objects)
        _verify(storage, open_stored(storage, place, packed=is_packed), objects, tuple(files), progress)
    except (IntegrityError, ObjectMissingError) as error:
        _blame(storage, place, objects)
        if isinstance(error, IntegrityError):
            raise
        raise _missing(place, error) from error
    return Verdict(sum(record.size_bytes for record in objects), len(objects))


def _blame(storage: Storage, place: Place, objects: Sequence[ObjectRecord]) -> None:
    """Name the object that is damaged or gone, if one is: that says more than what could not be made of it."""
    try:
        with SinglePass(storage, objects) as reading:
            reading.finish()
    except ObjectMissingError as error:
        raise _missing(place, error) from error


def _missing(place: Place, error: ObjectMissingError) -> IntegrityError:
    msg = f"{error.message} It belongs to slide {place.slide}."
    return IntegrityError(msg, remedy=_REMEDY)


def _verify(
    storage: Storage,
    slide: StoredSlide,
    objects: Sequence[ObjectRecord],
    files: tuple[FileRecord, ...],
    progress: Callable[[int], None],
) -> None:
    if slide.companion.files != files:
        msg = f"The companion of slide {slide.place.slide} in {slide.storage.url} describes another source."
        raise IntegrityError(msg, remedy=_REMEDY)
    source = map_source(slide)
    _check_complete(slide, source, objects)
    needs = needs_of(source, range(len(files)))
    ranges = _ranges_of(slide, needs)
    uses = source.uses() + Counter(where.key for where in ranges.values()) + _skeleton_uses(slide)
    with SinglePass(storage, objects, uses, ranges.values()) as reading:
        with Unfolding(slide, needs, _starter(slide, ranges, reading)) as unfolding:
            skeleton = _streamed_skeleton(slide, reading)
            for number, file in enumerate(files):
                digest = hashlib.sha256()
                for block in file_blocks(slide, source, number, reading.take, skeleton, unfolding.piece):
                    digest.update(block)
                    progress(len(block))
                _compare(slide, file, digest.hexdigest())
        reading.finish()


def _ranges_of(slide: StoredSlide, needs: Sequence[Need]) -> dict[tuple[int, int], ChunkRange]:
    """Return where the chunks lie that have to be undone."""
    found = {}
    for level in sorted({need.level for need in needs}):
        chunks = np.array([need.chunk for need in needs if need.level == level], np.int64)
        for chunk, where in zip(chunks.tolist(), slide.chunk_ranges(level, chunks), strict=True):
            found[level, chunk] = where
    return found


def _skeleton_uses(slide: StoredSlide) -> Counter[str]:
    index = slide.companion.skeleton
    if index is None:
        return Counter()
    return Counter({slide.locate(slide.place.private + SKELETON)[0]: len(index.frames)})


def _starter(
    slide: StoredSlide, ranges: dict[tuple[int, int], ChunkRange], reading: SinglePass
) -> Callable[[int, int], Future[Undone]]:
    pool = shared_pool("undo", processors())

    def start(level: int, chunk: int) -> Future[Undone]:
        return pool.submit(slide.undo, level, chunk, reading.chunk(ranges[level, chunk]))

    return start


class _Streamed(WrappedStorage):
    """A tier of which parts of objects are taken from the streams of a pass."""

    def __init__(self, slide: StoredSlide, reading: SinglePass) -> None:
        super().__init__(slide.storage)
        self._slide, self._reading = slide, reading

    @override
    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        if not isinstance(byte_range, Span):
            return super().get(key, byte_range, version=version)
        holder, before = self._slide.locate(key)
        return joined(self._reading.take(holder, before + byte_range.start, byte_range.length_bytes))


def _streamed_skeleton(slide: StoredSlide, reading: SinglePass) -> SkeletonReader | None:
    index = slide.companion.skeleton
    if index is None:
        return None
    return SkeletonReader(_Streamed(slide, reading), slide.place.private + SKELETON, index)


def _check_complete(slide: StoredSlide, source: SourceMap, objects: Sequence[ObjectRecord]) -> None:
    """Refuse a record that leaves out an object: what is not recorded is neither compared, nor moved, nor kept."""
    needed = {slide.locate(slide.place.private + FILES)[0], *source.objects, *source.folded}
    if slide.companion.skeleton is not None:
        needed.add(slide.locate(slide.place.private + SKELETON)[0])
    if slide.companion.mode is Mode.TILES:
        needed.add(slide.locate(slide.place.private + LAYOUT)[0])
    missing = sorted(needed - {record.key for record in objects})
    if missing:
        msg = f"{missing[0]} belongs to slide {slide.place.slide} in {slide.storage.url}, but its commit leaves it out."
        raise IntegrityError(msg, remedy=_REMEDY)


def _compare(slide: StoredSlide, file: FileRecord, digest: str) -> None:
    if digest != file.sha256:
        msg = f"{file.name}, rebuilt from slide {slide.place.slide} in {slide.storage.url}, is not what was ingested."
        raise IntegrityError(msg, remedy=_REMEDY)
