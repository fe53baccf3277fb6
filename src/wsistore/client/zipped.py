"""A zipped hierarchy (``.ozx``) read in place: what is stored uncompressed in it answers ranges as it is."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Self

import fsspec
from typing_extensions import override
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest

from wsistore.client.remote import ranges_ignored, reached
from wsistore.compress.zarr_store import ReadOnlyStore, cut
from wsistore.compress.zips import Ranges, ZipDirectory
from wsistore.errors import BrokenError
from wsistore.slides.boundary import translated

_LIST_BLOCK_BYTES = 64 * 1024


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
        self._directory = ZipDirectory(file, ranges, partial(_broken, name))

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
        self._directory.close()
        self._file.close()
        super().close()

    @override
    def read(self, key: str, request: ByteRequest | None) -> bytes | None:
        entry = self._directory.entries.get(key)
        if entry is None:
            return None
        if entry.compress_type != zipfile.ZIP_STORED:
            with self._lock:
                data = self._directory.unpacked(entry)
            return cut(data, request)
        start, stop = _bounds(request, entry.file_size)
        return self._ranges(self._directory.start(entry) + start, stop - start) if start < stop else b""

    @override
    def names(self, prefix: str) -> Iterable[str]:
        return (name for name in self._directory.entries if name.startswith(prefix))


def _bounds(request: ByteRequest | None, size: int) -> tuple[int, int]:
    """Return the first byte that is asked for and the one behind the last."""
    if isinstance(request, RangeByteRequest):
        return request.start, min(request.end, size)
    if isinstance(request, SuffixByteRequest):
        return max(0, size - request.suffix), size
    return (request.offset if isinstance(request, OffsetByteRequest) else 0), size


def _broken(name: str, what: str) -> BrokenError:
    return BrokenError(f"{name} is not a sound zip file ({what}).", remedy="Export the slide again.")
