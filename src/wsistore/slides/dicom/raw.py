"""Random access to a file that never reads past its end, and DICOM's element headers on top of it."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from wsistore.errors import BrokenError, InputError, Kind

UNDEFINED = 0xFFFFFFFF
"""The length of an element that ends with a delimiter."""

ITEM = 0xFFFEE000
ITEM_BYTES = b"\xfe\xff\x00\xe0"
ITEM_BYTES_BIG = b"\xff\xfe\xe0\x00"
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD

MAX_DEPTH = 32
"""Sequences in sequences that are followed."""

_WINDOW_BYTES = 64 * 1024
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations whose length has four bytes, behind two reserved ones."""

_MEND = "Copy the file again from where it came."


def truncated(name: str, what: str) -> BrokenError:
    """Return the error for a file that ends before `what`."""
    return BrokenError(f"{name} ends early: {what}.", kind=Kind.SOURCE_TRUNCATED, remedy=_MEND)


def broken(name: str, what: str) -> BrokenError:
    """Return the error for a file that contradicts itself or the standard in `what`."""
    return BrokenError(f"{name} is damaged: {what}.", kind=Kind.SOURCE_BROKEN, remedy=_MEND)


def implausible(name: str, what: str) -> BrokenError:
    """Return the error for a file that declares more than there can be."""
    return BrokenError(f"{name} cannot be right: {what}.", kind=Kind.SOURCE_IMPLAUSIBLE, remedy=_MEND)


def unreadable(name: str, error: OSError) -> InputError:
    """Return the error for a file that the machine does not give."""
    return InputError(
        f"{name} cannot be read: {error.strerror or error}.",
        kind=Kind.SOURCE_UNREADABLE,
        remedy="Check the file's permissions and the disk it lies on.",
    )


class Raw:
    """A file's bytes by offset.

    Parameters
    ----------
    file
        Seekable and binary; not closed here.
    name
        For messages.

    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        self._window = b""
        self._window_start = 0
        try:
            self.size_bytes = file.seek(0, 2)
        except OSError as error:
            raise unreadable(name, error) from error

    def read(self, offset: int, length_bytes: int) -> bytes:
        """Return `length_bytes` bytes from `offset`, fewer where the file ends before.

        Raises
        ------
        InputError
            If the machine does not give them.

        """
        wanted = min(length_bytes, self.size_bytes - offset)
        if wanted <= 0:
            return b""
        try:
            self._file.seek(offset)
            data = self._file.read(wanted)
            while len(data) < wanted and (more := self._file.read(wanted - len(data))):
                data += more
        except OSError as error:
            raise unreadable(self.name, error) from error
        return data

    def peek(self, offset: int, length_bytes: int) -> bytes:
        """Return the same as `read` through a window, for many small reads that lie close together."""
        start = offset - self._window_start
        if start < 0 or start + length_bytes > len(self._window):
            self._window = self.read(offset, max(length_bytes, _WINDOW_BYTES))
            self._window_start, start = offset, 0
        return self._window[start : start + length_bytes]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set is written."""

    implicit: bool
    big_endian: bool = False


@dataclass(frozen=True, slots=True)
class Element:
    """Where one data element lies."""

    tag: int
    vr: bytes
    start: int
    """Offset of its value."""
    length_bytes: int
    """Of its value; `UNDEFINED` where it ends with a delimiter."""

    @property
    def undefined(self) -> bool:
        """Whether a delimiter ends it."""
        return self.length_bytes == UNDEFINED


def element_at(raw: Raw, offset: int, encoding: Encoding) -> Element | None:
    """Return the element whose header starts at `offset`, or None if the file has no whole header there."""
    head = raw.peek(offset, 12)
    if len(head) < 8:
        return None
    order = ">" if encoding.big_endian else "<"
    group, number = struct.unpack_from(order + "HH", head)
    tag = group << 16 | number
    if encoding.implicit or group == 0xFFFE:
        return Element(tag, b"", offset + 8, struct.unpack_from(order + "L", head, 4)[0])
    vr = head[4:6]
    if vr not in _LONG_VRS:
        return Element(tag, vr, offset + 8, struct.unpack_from(order + "H", head, 6)[0])
    if len(head) < 12:
        return None
    return Element(tag, vr, offset + 12, struct.unpack_from(order + "L", head, 8)[0])


def _inner(element: Element, encoding: Encoding) -> Encoding:
    """Return how the content of an element is written: sequences of unknown kind are implicit (PS3.5 6.2.2)."""
    return Encoding(implicit=True) if element.vr == b"UN" else encoding


def end_of(raw: Raw, element: Element, encoding: Encoding, depth: int = 0) -> int:
    """Return the offset behind an element, following the items of one that ends with a delimiter.

    Raises
    ------
    BrokenError
        If the file ends before, or sequences are nested beyond reason.

    """
    if not element.undefined:
        end = element.start + element.length_bytes
        if end > raw.size_bytes:
            raise truncated(raw.name, f"element {element.tag:08X} goes past the end")
        return end
    if depth > MAX_DEPTH:
        raise broken(raw.name, "its sequences are nested too deeply")
    inner = _inner(element, encoding)
    stop = ITEM_END if element.tag == ITEM else SEQUENCE_END
    offset = element.start
    while True:
        child = element_at(raw, offset, inner)
        if child is None:
            raise truncated(raw.name, f"element {element.tag:08X} has no end")
        if child.tag == stop:
            return child.start
        if (child.tag == ITEM) == (element.tag == ITEM):
            raise broken(raw.name, f"element {element.tag:08X} holds {child.tag:08X} where it cannot be")
        offset = end_of(raw, child, inner, depth + 1)


def children(raw: Raw, parent: Element, encoding: Encoding) -> Iterator[Element]:
    """Yield the items of a sequence, or the elements of an item, without their delimiters.

    Raises
    ------
    BrokenError
        As `end_of`.

    """
    limit = raw.size_bytes if parent.undefined else parent.start + parent.length_bytes
    stop = ITEM_END if parent.tag == ITEM else SEQUENCE_END
    offset = parent.start
    inner = _inner(parent, encoding)
    while offset < limit:
        child = element_at(raw, offset, inner)
        if child is None:
            raise truncated(raw.name, f"element {parent.tag:08X} has no end")
        if child.tag == stop:
            return
        yield child
        offset = end_of(raw, child, inner)


def count_headers(data: bytes, encoding: Encoding, most: int) -> int:
    """Return how many element and item headers a sequence's bytes hold, counting no further than `most`.

    Whatever the bytes are, this ends: every header takes at least eight of them.
    """
    raw = Raw(io.BytesIO(data), "")
    item = ITEM_BYTES_BIG if encoding.big_endian else ITEM_BYTES
    offset = count = 0
    while count < most and (element := element_at(raw, offset, encoding)) is not None:
        count += 1
        nested = element.tag == ITEM or element.undefined or raw.peek(element.start, 4) == item
        offset = element.start if nested else element.start + element.length_bytes
    return count
