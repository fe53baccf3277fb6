"""Zip files whose entries are stored, not compressed, so that a range of an entry is a range of the file.

Written as a stream; read in place.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct
from typing import Any, BinaryIO, Protocol

from typing_extensions import Buffer, override

from wsistore.errors import IntegrityError, WsistoreError
from wsistore.units import MIB

_COMMENT = {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}
OZX_COMMENT = json.dumps(_COMMENT).encode() + b"\0"
"""What OME-Zarr's RFC-9 asks for: the version, and that every zarr.json comes before all else, breadth first."""

MOST_LIST_BYTES = 256 * MIB
"""The largest list of entries that is read: that of a million entries."""
_MOST_UNPACKED_BYTES = 256 * MIB
"""An entry that is compressed is unpacked as a whole; sound ones are small."""
_LOCAL_HEADER = Struct("<4s5H3I2H")

Ranges = Callable[[int, int], bytes]
"""Gets start and length; may be called from several threads."""
Broken = Callable[[str], WsistoreError]
"""Makes the error that says what is wrong with an archive."""


# --- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to be packed."""

    name: str
    """Path within the archive, with forward slashes."""
    size_bytes: int
    blocks: Iterable[Buffer]
    """Its content; iterated once, when the entries before it are written."""


class Sink(Protocol):
    """What takes the bytes of an archive: an upload, or a file."""

    def write(self, data: memoryview, /) -> object:
        """Append `data`; the buffer may be reused when this returns."""
        ...


class _Out:
    """A sink as `zipfile` wants it: it counts, cannot seek, and swallows what is written after a failure."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._is_dead = False

    def write(self, data: Buffer) -> int:
        view = memoryview(data).cast("B")
        if not self._is_dead:
            self._sink.write(view)
        return len(view)

    def flush(self) -> None:
        pass

    @contextmanager
    def dying(self) -> Iterator[None]:
        """Let an error end all writing: `zipfile` would write the list of entries nevertheless."""
        try:
            yield
        except BaseException:
            self._is_dead = True
            raise


def write_zip(sink: Sink, entries: Iterable[Entry], *, comment: bytes = b"", zip64: bool = False) -> None:
    """Write an archive, entry after entry; equal entries give equal bytes.

    Sizes and checksums follow behind each entry's data (APPNOTE 4.3.9) where `sink` is no file that can seek: the data
    is read once.

    Parameters
    ----------
    sink
        Takes the archive's bytes in order. What becomes of it after an error is the caller's business.
    entries
        Their names are unlike.
    comment
        Of the archive.
    zip64
        Use ZIP64 for every entry, also where its size does not need it.

    Raises
    ------
    IntegrityError
        If an entry has more or fewer bytes than it should.

    """
    out = _Out(sink)
    can_seek = isinstance(sink, io.IOBase) and sink.seekable()
    target: Any = sink if can_seek else out
    with out.dying():
        packed = zipfile.ZipFile(target, "w", zipfile.ZIP_STORED)
        packed.comment = comment
        for entry in entries:
            _add(packed, entry, out, zip64=zip64)
        packed.close()


def write_ozx(sink: Sink, entries: Sequence[Entry]) -> None:
    """Write a store's hierarchy as OME-Zarr's RFC-9 recommends; raises as `write_zip`.

    ZIP64; every zarr.json before all else, breadth first, the root's at the very first; chunks in the order of their
    numbers, which is the order in which a reader of the whole slide asks for them.
    """
    write_zip(sink, sorted(entries, key=lambda entry: _ozx_order(entry.name)), comment=OZX_COMMENT, zip64=True)


def _ozx_order(name: str) -> tuple[bool, int, list[tuple[int, str]]]:
    parts = name.split("/")
    is_document = parts[-1] == "zarr.json"
    numbered = [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
    return not is_document, len(parts) if is_document else 0, numbered


def _add(packed: zipfile.ZipFile, entry: Entry, out: _Out, *, zip64: bool) -> None:
    info = zipfile.ZipInfo(entry.name)  # with no time of its own
    info.create_system = 3
    info.external_attr = 0o644 << 16
    info.file_size = entry.size_bytes
    done = 0
    with packed.open(info, "w", force_zip64=zip64) as target, out.dying():
        for block in entry.blocks:
            done += target.write(block)
            if done > entry.size_bytes:
                break
        if done != entry.size_bytes:
            msg = f"{entry.name} has not the {entry.size_bytes} bytes that it should have."
            raise IntegrityError(msg, remedy="Verify the slide.")


# --- reading ----------------------------------------------------------------------------------------------------------


class ZipDirectory:
    """The list of entries of an archive, and where their bytes lie. Threads may share it.

    `zipfile` reads the list; it would read an entry from its start to where one wants to be, which for a tile at the
    end of a shard is the whole shard.

    Parameters
    ----------
    file
        The archive, for the list of entries and for entries that are compressed; it stays the caller's.
    ranges
        Reads parts of it.
    broken
        Makes the error if the archive is damaged.

    Raises
    ------
    WsistoreError
        What `broken` makes.

    """

    def __init__(self, file: BinaryIO, ranges: Ranges, broken: Broken) -> None:
        self._ranges, self._broken = ranges, broken
        self._starts: dict[str, int] = {}
        with self.sound():
            self._zip = zipfile.ZipFile(file)
            # (Of an entry without a name `is_dir` raises.)
            self.entries = {entry.filename: entry for entry in self._zip.infolist() if not entry.is_dir()}

    def close(self) -> None:
        """Let go of the file. May be repeated."""
        self._zip.close()

    def start(self, entry: zipfile.ZipInfo) -> int:
        """Return where an entry's bytes start: behind a header whose length only the header itself tells."""
        known = self._starts.get(entry.filename)
        if known is None:
            header = self._ranges(entry.header_offset, _LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
                msg = f"the entry {entry.filename} is not where it should be"
                raise self._broken(msg)
            name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)[-2:]
            known = entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
            self._starts[entry.filename] = known
        return known

    def starts(self) -> dict[str, int]:
        """Return where the bytes of all entries start, without reading anything, in an archive of `write_zip`.

        Raises
        ------
        WsistoreError
            If it is none: if there is anything compressed, or anything between the entries.

        """
        if len(self.entries) != len(self._zip.infolist()):
            msg = "it has folders or two entries of one name"
            raise self._broken(msg)
        found = {}
        ordered = sorted(self.entries.values(), key=lambda entry: entry.header_offset)
        ends = [*(entry.header_offset for entry in ordered), self._zip.start_dir][1:]
        for entry, end in zip(ordered, ends, strict=True):
            is_plain = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
            header = _LOCAL_HEADER.size + len(entry.orig_filename.encode())
            extra = _EXTRA.get((bool(entry.flag_bits & 8), end - entry.header_offset - header - entry.file_size))
            if not is_plain or entry.flag_bits & 1 or extra is None or entry.header_offset < 0:
                msg = f"the entry {entry.filename} is not as wsistore writes it"
                raise self._broken(msg)
            found[entry.filename] = entry.header_offset + header + extra
        return found

    def unpacked(self, entry: zipfile.ZipInfo) -> bytes:
        """Return the content of a compressed entry."""
        if entry.file_size > _MOST_UNPACKED_BYTES:
            msg = f"the entry {entry.filename} is compressed and {entry.file_size} bytes large"
            raise self._broken(msg)
        with self.sound():
            return self._zip.read(entry)

    @contextmanager
    def sound(self) -> Iterator[None]:
        """Turn what `zipfile` raises on damaged files into our error."""
        try:
            yield
        except (WsistoreError, OSError):
            raise
        except Exception as error:  # damaged entries raise what their codecs like
            msg = f"{type(error).__name__}: {str(error)[:200]}"
            raise self._broken(msg) from error


_EXTRA = {(False, 0): 0, (False, 20): 20, (True, 16): 0, (True, 44): 20}
"""Bytes between an entry's name and its data, by whether sizes follow the data, and by what is in the archive beside
header, name and data: nothing or ZIP64's field of 20 bytes before the data, 16 or 24 bytes behind it."""


class ListFile(io.RawIOBase):
    """An archive of which `zipfile` reads the list of entries only; its end is read at once.

    Parameters
    ----------
    size_bytes
        Of the archive.
    tail
        The last bytes of it, perhaps all.
    ranges
        Reads what lies before.

    """

    def __init__(self, size_bytes: int, tail: bytes, ranges: Ranges) -> None:
        super().__init__()
        self._size, self._tail, self._ranges = size_bytes, tail, ranges
        self._position = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._position

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._position)
        length = left if size is None or size < 0 else min(size, left)
        if length > MOST_LIST_BYTES:
            msg = f"a list of entries of {length} bytes"
            raise zipfile.BadZipFile(msg)
        before = self._size - len(self._tail)
        start = self._position
        data = self._ranges(start, min(length, before - start)) if start < before else b""
        if len(data) < length:
            data += self._tail[max(0, start - before) : start - before + length]
        self._position += len(data)
        return data
