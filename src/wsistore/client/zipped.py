"""A zipped hierarchy (``.ozx``) read in place: what is stored uncompressed in it answers ranges without being unpacked.

`zipfile` gives the list of entries; it would read an entry from its start to where one wants to be, which for a tile at
the end of a shard is the whole shard.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Self

import fsspec
from typing_extensions import override
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest

from wsistore.client.remote import ranges_ignored, reached
from wsistore.compress.zarr_store import ReadOnlyStore, cut
from wsistore.errors import BrokenError, WsistoreError
from wsistore.slides.boundary import translated

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_MOST_UNPACKED_BYTES = 256 * 1024 * 1024
"""An entry that is compressed is unpacked as a whole; sound ones are small."""
_LIST_BLOCK_BYTES = 64 * 1024

Ranges = Callable[[int, int], bytes]
"""Gets start and length; may be called from several threads."""


class ZippedStore(ReadOnlyStore):
    """The hierarchy in a zip file; `local` and `remote` open one.

    Parameters
    ----------
    name
        What was opened, for messages.
    file
        The file, for the list of entries; closed with the store.
    ranges
        Reads parts of it.

    Raises
    ------
    BrokenError
        If the file is no sound zip file.

    """

    def __init__(self, name: str, file: BinaryIO, ranges: Ranges) -> None:
        super().__init__()
        self._name, self._file, self._ranges = name, file, ranges
        self._lock = Lock()
        self._starts: dict[str, int] = {}
        with _sound(name):
            self._zip = zipfile.ZipFile(file)
        self._entries = {entry.filename: entry for entry in self._zip.infolist() if not entry.is_dir()}

    @classmethod
    def local(cls, path: Path) -> Self:
        """Open a file of this machine.

        Raises
        ------
        InputError
            If it cannot be read.
        BrokenError
            If it is no sound zip file.

        """
        with translated(path):
            file = path.open("rb")

        def ranges(start: int, length: int) -> bytes:
            with translated(path):
                return os.pread(file.fileno(), length, start)

        return cls._or_closed(str(path), file, ranges)

    @classmethod
    def remote(cls, url: str) -> Self:
        """Open a file behind a URL that fsspec knows.

        Raises
        ------
        StorageError
            If it cannot be reached, or the server answers no ranges.
        BrokenError
            If it is no sound zip file.

        """
        with reached(url):
            system, path = fsspec.core.url_to_fs(url)
            file: BinaryIO = system.open(path, "rb", block_size=_LIST_BLOCK_BYTES)

        def ranges(start: int, length: int) -> bytes:
            with reached(url):
                data: bytes = system.cat_file(path, start=start, end=start + length)
            if len(data) > length:
                raise ranges_ignored(url)
            return data

        try:
            ranges(0, 1)  # before the list is read: what is said of a server that ignores ranges is of no use to people
        except BaseException:
            file.close()
            raise
        with reached(url):
            return cls._or_closed(url, file, ranges)

    @classmethod
    def _or_closed(cls, name: str, file: BinaryIO, ranges: Ranges) -> Self:
        try:
            return cls(name, file, ranges)
        except BaseException:
            file.close()
            raise

    @override
    def __eq__(self, value: object) -> bool:
        return self is value

    def __hash__(self) -> int:
        return id(self)

    @override
    def __str__(self) -> str:
        return self._name

    @override
    def close(self) -> None:
        """Close the file. May be repeated."""
        self._zip.close()
        self._file.close()
        super().close()

    @override
    def read(self, key: str, request: ByteRequest | None) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.compress_type != zipfile.ZIP_STORED:
            return cut(self._unpacked(entry), request)
        start, stop = _bounds(request, entry.file_size)
        return self._ranges(self._start(entry) + start, stop - start) if start < stop else b""

    @override
    def names(self, prefix: str) -> Iterable[str]:
        return (name for name in self._entries if name.startswith(prefix))

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """Return where an entry's bytes start: behind a header whose length only the header itself tells."""
        known = self._starts.get(entry.filename)
        if known is None:
            header = self._ranges(entry.header_offset, _LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
                raise _broken(self._name, f"the entry {entry.filename} is not where it should be")
            name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)[-2:]
            known = entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
            self._starts[entry.filename] = known
        return known

    def _unpacked(self, entry: zipfile.ZipInfo) -> bytes:
        if entry.file_size > _MOST_UNPACKED_BYTES:
            raise _broken(self._name, f"the entry {entry.filename} is compressed and {entry.file_size} bytes large")
        with self._lock, _sound(self._name):
            return self._zip.read(entry)


def _bounds(request: ByteRequest | None, size: int) -> tuple[int, int]:
    """Return the first byte that is asked for and the one behind the last."""
    if isinstance(request, RangeByteRequest):
        return request.start, min(request.end, size)
    if isinstance(request, SuffixByteRequest):
        return max(0, size - request.suffix), size
    return (request.offset if isinstance(request, OffsetByteRequest) else 0), size


@contextmanager
def _sound(name: str) -> Iterator[None]:
    """Turn what `zipfile` raises on damaged files into `BrokenError`."""
    try:
        yield
    except (WsistoreError, OSError):
        raise
    except Exception as error:  # damaged entries raise what their codecs like
        raise _broken(name, f"{type(error).__name__}: {str(error)[:200]}") from error


def _broken(name: str, what: str) -> BrokenError:
    return BrokenError(f"{name} is not a sound zip file ({what}).", remedy="Export the slide again.")
