"""What writers of synthetic files share: errors of the project's tree, and TIFF directories byte by byte."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tifffile

from wsistore.errors import BrokenError, FullError, StorageError, UnsupportedError


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the libraries raise while working on `path` into errors of `wsistore.errors`.

    Raises
    ------
    FullError
        If there is no space left.
    StorageError
        If the file system refuses.
    BrokenError
        If a file that is read is not what it should be.
    UnsupportedError
        If the libraries do not take the settings.

    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            msg = f"No space left for {path}."
            raise FullError(msg, remedy="Make room and try again.") from error
        msg = f"{path} cannot be read or written: {error.strerror or error}."
        raise StorageError(msg, remedy="Look at the folder and its permissions.") from error
    except (tifffile.TiffFileError, struct.error, IndexError, KeyError) as error:
        msg = f"{path} is not a sound TIFF: {error}."
        raise BrokenError(msg, remedy="Give a file that opens in other software.") from error
    except ValueError as error:
        msg = f"{path} cannot be made this way: {error}."
        raise UnsupportedError(msg, remedy="Choose other settings.") from error


SHORT, LONG, RATIONAL, ASCII, UNDEFINED, SLONG, FLOAT, LONG8 = 3, 4, 5, 2, 7, 9, 11, 16
_LETTER = {ASCII: "s", SHORT: "H", LONG: "I", RATIONAL: "I", UNDEFINED: "s", SLONG: "i", FLOAT: "f", LONG8: "Q"}


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry of a TIFF directory."""

    code: int
    type: int
    count: int
    data: bytes
    """Values, packed little-endian."""


def tag(code: int, type_: int, *values: int | float | bytes) -> Tag:
    """Return an entry; text and bytes are one value, a fraction two."""
    if isinstance(values[0], bytes):
        return Tag(code, type_, len(values[0]), values[0])
    data = struct.pack(f"<{len(values)}{_LETTER[type_]}", *values)
    return Tag(code, type_, len(values) // (2 if type_ == RATIONAL else 1), data)


def big_directory(tags: Sequence[Tag], position: int, following: int) -> bytes:
    """Return a BigTIFF directory that will lie at `position`, its long values behind it.

    Parameters
    ----------
    tags
        In any order.
    position
        Offset in the file, a multiple of 8.
    following
        Offset of the next directory; -1: right behind this one (rounded up to 8); 0: there is none.

    Returns
    -------
    bytes
        Directory and values, filled up to a multiple of 8.

    """
    ordered = sorted(tags, key=lambda one: one.code)
    entries, values = [struct.pack("<Q", len(ordered))], b""
    behind = position + 8 + 20 * len(ordered) + 8
    for one in ordered:
        if len(one.data) <= 8:
            field = one.data.ljust(8, b"\0")
        else:
            field = struct.pack("<Q", behind + len(values))
            values += one.data + bytes(-len(one.data) % 8)
        entries.append(struct.pack("<HHQ", one.code, one.type, one.count) + field)
    size = 8 + 20 * len(ordered) + 8 + len(values)
    padding = -(position + size) % 8
    link = position + size + padding if following < 0 else following
    return b"".join([*entries, struct.pack("<Q", link), values, bytes(padding)])
