"""The vendor's file as a file: seekable, read-only, every byte answered from the tiles where they lie."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer, override

from wsistore.compress.extents import FOLD, SKELETON, SourceMap
from wsistore.compress.layout import rows_of
from wsistore.compress.reader import StoredSlide
from wsistore.compress.skeleton import SkeletonReader
from wsistore.errors import IntegrityError, ObjectMissingError
from wsistore.storage.base import Span
from wsistore.units import MIB

_REMEDY = "Restore the slide from another copy."
_BLOCK_BYTES = 4 * MIB


Take = Callable[[str, int, int], Iterator[bytes | memoryview]]
"""Yields the bytes of an object, given its key, a start and a length."""
Piece = Callable[[int, int, int], bytes]
"""Returns the payload of a tile, given its level, chunk and piece."""


def file_blocks(
    slide: StoredSlide, source: SourceMap, number: int, take: Take, skeleton: SkeletonReader | None, piece: Piece
) -> Iterator[bytes | memoryview]:
    """Yield one file of a stored slide from start to end, in blocks of some size, however finely it is stored.

    `take`, `skeleton` and `piece` are asked for what the file consists of, once for each run of its bytes.

    Raises
    ------
    IntegrityError
        If the skeleton or a tile are shorter than the layout says.

    """
    names = ("offset", "length", "origin", "position", "chunk", "piece")
    for offset, length, origin, position, chunk, tile in rows_of(source.files[number], *names):
        if origin >= 0:
            yield from take(source.objects[origin], position, length)
        elif origin == SKELETON:
            for done in range(0, length, _BLOCK_BYTES):
                yield _frames(slide, skeleton).read(position + done, min(_BLOCK_BYTES, length - done))
        else:
            data = piece(FOLD - origin, chunk, tile)
            if len(data) != length:
                data = data[position : position + length]
                _check_length(slide.companion.files[number].name, offset, length, data)
            yield data


def _frames(slide: StoredSlide, skeleton: SkeletonReader | None) -> SkeletonReader:
    if skeleton is None:
        msg = f"The slide {slide.place.slide} has no skeleton."
        raise IntegrityError(msg, remedy=_REMEDY)
    return skeleton


def _check_length(name: str, position: int, length: int, data: bytes) -> None:
    if len(data) != length:
        msg = f"{name}: {length} bytes from {position} are stored as {len(data)} bytes."
        raise IntegrityError(msg, remedy=_REMEDY)


class SourceFileView(io.RawIOBase):
    """One file of a stored slide; `open_view` wraps it in a buffer.

    Any byte range can be read without restoring the file. Reading raises `IntegrityError` where stored bytes are
    missing or damaged beyond reading, and `StorageError` where the tier fails.
    """

    def __init__(self, slide: StoredSlide, source: SourceMap, number: int) -> None:
        super().__init__()
        self.name = slide.companion.files[number].name
        self._slide, self._objects = slide, source.objects
        self._extents: npt.NDArray[np.void] = source.files[number]
        self._size = slide.companion.files[number].size_bytes
        self._position = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        self._check_open()
        return self._position

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check_open()
        if whence not in {os.SEEK_SET, os.SEEK_CUR, os.SEEK_END}:
            msg = f"invalid whence ({whence}, should be 0, 1 or 2)"
            raise ValueError(msg)
        if whence == os.SEEK_SET and offset < 0:
            msg = f"negative seek position {offset}"
            raise ValueError(msg)
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    @override
    def readall(self) -> bytes:
        parts = []
        while part := self.read(_BLOCK_BYTES):
            parts.append(part)
        return b"".join(parts)

    @override
    def readinto(self, buffer: Buffer) -> int:
        self._check_open()
        target = memoryview(buffer).cast("B")
        length = max(0, min(len(target), self._size - self._position))
        done = 0
        while done < length:
            data = self.extent_bytes(self._position + done, length - done)
            target[done : done + len(data)] = data
            done += len(data)
        self._position += done
        return done

    def _check_open(self) -> None:
        if self.closed:
            msg = "I/O operation on closed file"
            raise ValueError(msg)

    def extent_bytes(self, position: int, limit: int) -> bytes:
        """Return up to `limit` bytes from `position` that one extent answers."""
        row = self._extents[int(np.searchsorted(self._extents["offset"], position, side="right")) - 1]
        within = position - int(row["offset"])
        length = min(limit, int(row["length"]) - within)
        start = int(row["position"]) + within
        origin = int(row["origin"])
        if origin <= FOLD:
            data = self._slide.piece(FOLD - origin, int(row["chunk"]), int(row["piece"]))[start : start + length]
        elif origin == SKELETON:
            data = _frames(self._slide, self._slide.skeleton).read(start, length)
        else:
            data = self._object(self._objects[origin], start, length)
        _check_length(self.name, position, length, data)
        return data

    def _object(self, key: str, start: int, length: int) -> bytes:
        try:
            return self._slide.storage.get(key, Span(start, length))
        except ObjectMissingError as error:
            msg = f"{key} is missing from {self._slide.storage.url}."
            raise IntegrityError(msg, remedy=_REMEDY) from error


def open_view(
    slide: StoredSlide, source: SourceMap, number: int, *, buffer_bytes: int = 64 * 1024
) -> io.BufferedReader:
    """Open file `number` of a stored slide for reading."""
    return io.BufferedReader(SourceFileView(slide, source, number), buffer_bytes)
