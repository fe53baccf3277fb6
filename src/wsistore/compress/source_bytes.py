"""Reading a source's files while a slide is taken in: windows of bytes in order, and their hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from wsistore.compress.head_start import HeadStart
from wsistore.errors import ConflictError, InputError, Kind
from wsistore.model import FileRecord
from wsistore.slides.base import SourceFile
from wsistore.storage.buffers import buffer
from wsistore.units import MIB

WINDOW_BYTES = 4 * MIB


class SourceBytes:
    """The open files of one source. Threads may share it; `window` gives each its own cursor.

    Parameters
    ----------
    files
        As they were described.
    ahead
        What has begun to hash the first of them.

    """

    def __init__(self, files: Sequence[SourceFile], ahead: HeadStart | None = None) -> None:
        self.files = tuple(files)
        self._ahead = ahead
        self._handles: list[int] = []
        self._stopped = False
        try:
            for file in self.files:
                self._handles.append(os.open(file.path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self.close()
            msg = f"{file.path} cannot be opened: {error.strerror}."
            raise InputError(msg, kind=Kind.SOURCE_UNREADABLE, remedy="Check that it is there and readable.") from error

    def __enter__(self) -> Self:
        """Return the open files."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files."""
        while self._handles:
            os.close(self._handles.pop())

    def stop(self) -> None:
        """Make a `hash_files` under way give up soon."""
        self._stopped = True

    def read(self, file: int, offset: int, length: int) -> bytes:
        """Return up to `length` bytes; fewer only at the end of the file."""
        try:
            data = os.pread(self._handles[file], length, offset)
        except OSError as error:
            raise self._unreadable(file, error) from error
        if len(data) == length or not data:
            return data
        return data + self.read(file, offset + len(data), length - len(data))

    def exactly(self, file: int, offset: int, length: int) -> bytes:
        """Return `length` bytes.

        Raises
        ------
        ConflictError
            If the file ends before: it was cut since it was described.

        """
        data = self.read(file, offset, length)
        if len(data) < length:
            raise self.changed(file)
        return data

    def read_into(self, file: int, offset: int, target: memoryview) -> int:
        """Fill `target` as far as the file goes; return the number of bytes."""
        done = 0
        while done < len(target):
            try:
                count = os.preadv(self._handles[file], [target[done:]], offset + done)
            except OSError as error:
                raise self._unreadable(file, error) from error
            if not count:
                break
            done += count
        return done

    def blocks(self, file: int, offset: int, length: int) -> Iterator[bytes]:
        """Yield `length` bytes from `offset` in blocks.

        Raises
        ------
        ConflictError
            If the file ends before: it was cut since it was described.

        """
        while length:
            data = self.read(file, offset, min(length, WINDOW_BYTES))
            if not data:
                raise self.changed(file)
            yield data
            offset += len(data)
            length -= len(data)

    def check_unchanged(self) -> None:
        """Compare every file with how it was described.

        Raises
        ------
        ConflictError
            If one grew, shrank, was written to or replaced.

        """
        for number, file in enumerate(self.files):
            try:
                now, opened = file.path.stat(), os.fstat(self._handles[number])
            except OSError as error:
                raise self.changed(number) from error
            described = (file.size_bytes, file.mtime_ns)
            same = os.path.samestat(opened, now)
            if not same or (now.st_size, now.st_mtime_ns) != described:
                raise self.changed(number)

    def changed(self, file: int) -> ConflictError:
        """Return the error for a file that changed meanwhile."""
        msg = f"{self.files[file].path} changed while it was being read."
        return ConflictError(msg, kind=Kind.SOURCE_CHANGED, remedy="Run again when it is completely written.")

    def _unreadable(self, file: int, error: OSError) -> InputError:
        msg = f"{self.files[file].path} cannot be read: {error.strerror}."
        return InputError(msg, kind=Kind.SOURCE_UNREADABLE, remedy="Check the disk or share that it lies on.")

    def window(self) -> Window:
        """Return a cursor with its own buffer."""
        return Window(self)

    def hash_files(self, progress: Callable[[int], None]) -> tuple[FileRecord, ...]:
        """Read every file from start to end; `progress` gets the bytes of each block."""
        return tuple(self._hash(number, progress) for number in range(len(self.files)))

    def _hash(self, number: int, progress: Callable[[int], None]) -> FileRecord:
        file, digest, offset = self.files[number], hashlib.sha256(), 0
        if self._ahead is not None and number == 0:
            digest, offset = self._ahead.of(self._handles[number])
            progress(offset)
        block = buffer(min(WINDOW_BYTES, max(1, file.size_bytes)))
        while not self._stopped:
            count = self.read_into(number, offset, block)
            if not count:
                break
            digest.update(block[:count])
            offset += count
            progress(count)
        if offset != file.size_bytes:
            raise self.changed(number)
        return FileRecord(file.name, offset, digest.hexdigest())


class Window:
    """A cursor that reads ahead into two buffers in turn: cheap when offsets grow."""

    def __init__(self, source: SourceBytes) -> None:
        self._source = source
        self._buffer = self._other = memoryview(b"")
        self._file, self._start, self._length = -1, 0, 0

    def get(self, file: int, offset: int, length: int) -> memoryview:
        """Return exactly `length` bytes; valid until the call after the next.

        Raises
        ------
        ConflictError
            If the file ends before: it was cut since it was described.

        """
        within = offset - self._start
        if file != self._file or within < 0 or within + length > self._length:
            self._buffer, self._other = self._other, self._buffer
            if length > len(self._buffer):
                self._buffer = buffer(max(length, WINDOW_BYTES))
            self._file, self._start, within = file, offset, 0
            self._length = self._source.read_into(file, offset, self._buffer)
            if self._length < length:
                raise self._source.changed(file)
        return self._buffer[within : within + length]
