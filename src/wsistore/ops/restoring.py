"""Giving a slide back as the files it came as: same names, same bytes, proven by their hashes as they are written."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wsistore.catalog.records import CopyRow
from wsistore.compress.extents import SourceMap, map_source
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_file import file_blocks
from wsistore.compress.threads import processors, shared_pool
from wsistore.compress.unfolding import Undone, Unfolding, needs_of
from wsistore.errors import ConflictError, IntegrityError, Kind, ObjectMissingError
from wsistore.events import EventKind
from wsistore.ops.site import Site
from wsistore.ops.stored import from_open_copy, safe_target
from wsistore.ops.targets import new_file, translated
from wsistore.storage.base import Span
from wsistore.units import MIB

_REMEDY = "Run 'wsistore verify', and restore from another copy."
_AHEAD = 4
"""Blocks that may be read before they are hashed: hashing is the slower part."""
_BLOCK_BYTES = 4 * MIB
_SMALL_BYTES = MIB // 4
"""Smaller pieces are joined: strips between restart markers come two bytes apart."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore wrote."""

    slide: str
    tier: str
    files: tuple[str, ...]
    """Paths of the files."""
    bytes_written: int
    seconds: float


def restore(site: Site, slide: str, folder: Path, *, progress: Callable[[int], None] = lambda _: None) -> Restored:
    """Write a slide's files into `folder`.

    A file that is there already with the right bytes is left as it is, so that a restore may be repeated. Like `cp`, it
    does not wait for the disk: the copy in the tier stays, and repeating finds and mends what a power cut left.

    Parameters
    ----------
    site
        An open site.
    slide
        Key, unique beginning of one, or name.
    folder
        Made if it is not there.
    progress
        Gets the number of bytes just written.

    Raises
    ------
    MissingError
        If there is no such slide.
    ConflictError
        If another file is in the way; nothing is written then.
    IntegrityError
        If what is stored does not give the source back; no file under its final name is wrong.
    StorageError
        If the tier or the target fails.

    """
    started = site.clock.monotonic_seconds()
    key = site.catalog.resolve(slide)
    written = 0

    def write_absent(copy: CopyRow, stored: StoredSlide) -> tuple[CopyRow, list[Path]]:
        nonlocal written
        targets = [safe_target(folder, file.name) for file in stored.companion.files]
        absent = [number for number, target in enumerate(targets) if not _is_there(stored, number, target)]
        source = map_source(stored)
        with unfolding_of(stored, source, absent) as unfolding:
            for number in absent:
                blocks = source_blocks(stored, source, number, unfolding)
                _write_file(stored, number, blocks, targets[number], progress)
                written += stored.companion.files[number].size_bytes
        return copy, targets

    copy, targets = from_open_copy(site, key, write_absent)
    read = {"bytes_read": copy.bytes_stored, "objects": copy.objects} if written else {}
    detail = {"tier": copy.tier, "files": len(targets), "bytes": written, **read}
    site.note(key, EventKind.RESTORED, detail)
    seconds = site.clock.monotonic_seconds() - started
    return Restored(key, copy.tier, tuple(str(target) for target in targets), written, seconds)


def source_blocks(
    stored: StoredSlide, source: SourceMap, number: int, unfolding: Unfolding | None = None
) -> Iterator[bytes]:
    """Yield one file of a stored slide from start to end, in blocks of some size, however finely it is stored.

    Parameters
    ----------
    stored, source, number
        The slide, where its bytes lie, and which of its files is meant.
    unfolding
        What undoes its chunks; by default one for this file alone.

    """
    if unfolding is None:
        with unfolding_of(stored, source, [number]) as own:
            yield from source_blocks(stored, source, number, own)
        return
    small = bytearray()
    take = partial(_take, stored)
    for data in file_blocks(stored, source, number, take, stored.skeleton, unfolding.piece):
        if len(data) < _SMALL_BYTES:
            small += data
        if small and (len(small) >= _SMALL_BYTES or len(data) >= _SMALL_BYTES):
            yield bytes(small)
            small.clear()
        if len(data) >= _SMALL_BYTES:
            yield bytes(data)
    if small:
        yield bytes(small)


def unfolding_of(stored: StoredSlide, source: SourceMap, numbers: Sequence[int]) -> Unfolding:
    """Return what fetches and undoes the chunks of some files side by side."""
    pool = shared_pool("undo", processors())

    def start(level: int, chunk: int) -> Future[Undone]:
        return pool.submit(lambda: stored.undo(level, chunk, stored.chunk(level, chunk)))

    return Unfolding(stored, needs_of(source, numbers), start)


def _take(stored: StoredSlide, key: str, start: int, length: int) -> Iterator[bytes]:
    for offset in range(start, start + length, _BLOCK_BYTES):
        wanted = min(_BLOCK_BYTES, start + length - offset)
        try:
            data = stored.storage.get(key, Span(offset, wanted))
        except ObjectMissingError as error:
            msg = f"{key} is missing from {stored.storage.url}."
            raise IntegrityError(msg, remedy=_REMEDY) from error
        if len(data) != wanted:
            msg = f"{key} in {stored.storage.url} ends before byte {offset + wanted}."
            raise IntegrityError(msg, remedy=_REMEDY)
        yield data


def _is_there(stored: StoredSlide, number: int, target: Path) -> bool:
    """Say whether `target` is the file already."""
    file = stored.companion.files[number]
    with translated(target):
        if not os.path.lexists(target):
            return False
        if target.is_file() and target.stat().st_size == file.size_bytes:
            with target.open("rb") as handle:
                if hashlib.file_digest(handle, "sha256").hexdigest() == file.sha256:
                    return True
    msg = f"{target} is in the way and is not what would be restored."
    raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Give another folder, or move that file away.")


def _write_file(
    stored: StoredSlide, number: int, blocks: Iterator[bytes], target: Path, progress: Callable[[int], None]
) -> None:
    file, digest = stored.companion.files[number], hashlib.sha256()
    with new_file(target, flush=False) as out, ThreadPoolExecutor(1, "wsistore-hash") as pool:
        hashing: deque[Future[None]] = deque()
        for block in blocks:
            if len(hashing) >= _AHEAD:
                hashing.popleft().result()
            hashing.append(pool.submit(digest.update, block))
            _write_all(out.fileno(), block)
            progress(len(block))
        for rest in hashing:
            rest.result()
        if digest.hexdigest() != file.sha256:
            msg = f"{file.name}, rebuilt from slide {stored.place.slide}, is not what was ingested."
            raise IntegrityError(msg, remedy=_REMEDY)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
