"""Walks a TIFF's directories before a parser does: no loops, no values beyond the file, no allocation on its word."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from wsistore.slides.boundary import broken, implausible, translated, truncated
from wsistore.slides.segments import Extents, extents

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SUB_DIRECTORIES = {330, 34665, 34853, 40965}
"""SubIFDs, Exif, GPS, interoperability."""
_MOST_TAGS = 4096
_MOST_DIRECTORIES = 20_000
_MOST_SUB_DIRECTORIES = 1024
"""In one tag."""
NDPI_TAG = 65420


@dataclass(frozen=True, slots=True)
class Flavour:
    """Sizes of one kind of TIFF, in bytes, and `struct` byte order."""

    order: str
    big: bool
    ndpi: bool
    """64-bit offsets in a classic layout, as Hamamatsu writes them."""

    @property
    def tag_bytes(self) -> int:
        """Size of one directory entry."""
        return 20 if self.big else 12

    @property
    def count_bytes(self) -> int:
        """Size of the number of entries."""
        return 8 if self.big else 2

    @property
    def link_bytes(self) -> int:
        """Size of the offset of the next directory."""
        return 8 if self.big or self.ndpi else 4

    @property
    def inline_bytes(self) -> int:
        """Largest value that lies in the entry itself."""
        return 8 if self.big else 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag as it lies in the file, its value not read."""

    code: int
    kind: int
    count: int
    offset: int
    """Where the value lies."""
    size_bytes: int


@dataclass(slots=True)
class Structure:
    """What the walk found."""

    flavour: Flavour
    directories: list[int] = field(default_factory=list)
    codes: set[int] = field(default_factory=set)
    """Tags of the first directory."""
    extents: Extents = field(default_factory=lambda: extents([], []))
    """Bytes that directories and their values take."""


def flavour_of(head: bytes, *, ndpi: bool = False) -> Flavour | None:
    """Return the kind of TIFF that starts with `head` (16 bytes), or None if it is no TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return None
    version = struct.unpack_from(order + "H", head, 2)[0]
    if version == 42:
        return Flavour(order, big=False, ndpi=ndpi and order == "<")
    if version == 43 and len(head) >= 16 and struct.unpack_from(order + "HH", head, 4) == (8, 0):
        return Flavour(order, big=True, ndpi=False)
    return None


def scan(path: Path, size_bytes: int, *, ndpi: bool = False) -> Structure:
    """Walk all directories of a TIFF.

    Raises
    ------
    BrokenError
        If the file is no TIFF, ends early, loops, or declares values that it cannot hold.

    """
    with translated(path), path.open("rb") as file:
        flavour = flavour_of(file.read(16), ndpi=ndpi)
        if flavour is None:
            raise broken(path, "it does not start as a TIFF")
        return _Walk(file, path, size_bytes, flavour).run()


class _Walk:
    def __init__(self, file: BinaryIO, path: Path, size_bytes: int, flavour: Flavour) -> None:
        self._file, self._path, self._size, self._flavour = file, path, size_bytes, flavour
        self._structure = Structure(flavour)
        self._seen: set[int] = set()
        self._taken: list[tuple[int, int]] = [(0, 16 if flavour.big else 8)]

    def run(self) -> Structure:
        start = 8 if self._flavour.big else 4
        offset = self._unsigned(self._read(start, self._flavour.link_bytes, "its header"))
        if offset == 0:
            raise broken(self._path, "it has no directory")
        pending = [(offset, True)]
        while pending:
            offset, chained = pending.pop()
            link, below = self._directory(offset)
            pending.extend((sub, False) for sub in below)
            if chained and link:
                pending.append((link, True))
        self._structure.extents = extents([t[0] for t in self._taken], [t[1] for t in self._taken])
        return self._structure

    def _directory(self, offset: int) -> tuple[int, list[int]]:
        """Check one directory; return the offsets of the next one (or 0) and of those below it."""
        flavour, number = self._flavour, len(self._structure.directories)
        where = f"directory {number} at byte {offset}"
        if offset in self._seen:
            raise broken(self._path, f"its directories run in a circle at byte {offset}")
        if number >= _MOST_DIRECTORIES:
            raise implausible(self._path, f"more than {_MOST_DIRECTORIES} directories")
        self._seen.add(offset)
        count = self._unsigned(self._read(offset, flavour.count_bytes, where))
        if count > _MOST_TAGS:
            raise implausible(self._path, f"{where} with {count} tags")
        body = self._read(offset + flavour.count_bytes, count * flavour.tag_bytes + flavour.link_bytes, where)
        high = b"\0" * 4 * count
        if flavour.ndpi:
            high = self._read(offset + flavour.count_bytes + len(body), 4 * count, where)
        self._taken.append((offset, flavour.count_bytes + len(body) + (len(high) if flavour.ndpi else 0)))
        below: list[int] = []
        for i in range(count):
            raw = body[i * flavour.tag_bytes : (i + 1) * flavour.tag_bytes]
            at = offset + flavour.count_bytes + i * flavour.tag_bytes
            entry = self._entry(raw, high[4 * i : 4 * i + 4], at, where)
            if not number:
                self._structure.codes.add(entry.code)
            if entry.code in _SUB_DIRECTORIES:
                below.extend(self._links(entry, where))
        self._structure.directories.append(offset)
        return self._unsigned(body[-flavour.link_bytes :]), below

    def _entry(self, raw: bytes, high: bytes, at: int, where: str) -> Entry:
        flavour = self._flavour
        code, kind, count = struct.unpack_from(flavour.order + ("HHQ" if flavour.big else "HHI"), raw)
        size = count * _TYPE_BYTES.get(kind, 1)
        if size <= flavour.inline_bytes:
            return Entry(code, kind, count, at + (12 if flavour.big else 8), size)
        offset = self._unsigned(raw[12:20] if flavour.big else raw[8:12] + (high if flavour.ndpi else b""))
        if size > self._size:
            raise implausible(self._path, f"tag {code} of {where} with {count} values in a file of {self._size} bytes")
        if offset + size > self._size:
            raise truncated(self._path, f"the value of tag {code} of {where} reaches to byte {offset + size}")
        self._taken.append((offset, size))
        return Entry(code, kind, count, offset, size)

    def _links(self, entry: Entry, where: str) -> list[int]:
        """Return the offsets of the directories that a tag points to."""
        step = _TYPE_BYTES.get(entry.kind, 0)
        if step not in {4, 8} or entry.count > _MOST_SUB_DIRECTORIES:
            raise implausible(self._path, f"tag {entry.code} of {where} with {entry.count} directories below it")
        raw = self._read(entry.offset, step * entry.count, where)
        links = [self._unsigned(raw[i : i + step]) for i in range(0, len(raw), step)]
        return [link for link in links if link]

    def _read(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > self._size:
            raise truncated(self._path, f"{what} reaches to byte {offset + size}, the file has {self._size}")
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise truncated(self._path, f"{what} cannot be read whole")
        return data

    def _unsigned(self, raw: bytes) -> int:
        return int.from_bytes(raw, "little" if self._flavour.order == "<" else "big")
