"""Stored JPEG tiles and strips as complete JPEG files, which any program opens: tables inside, colours declared.

The entropy-coded data stay as they are, so every pixel does too. Of the tile's header stay the segments that decoding
needs; what a scanner may have said besides (comments, APPn) does not come along.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from wsistore.compress import fold
from wsistore.compress.fold import EOI, FoldError

_DHT, _DQT, _DRI, _SOS = 0xC4, 0xDB, 0xDD, 0xDA
_SOI = b"\xff\xd8"
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
"""Declares what three components mean (ITU-T T.872, 6.5.3); the transform flag follows."""
_MEANING = {"RGB": _ADOBE + b"\x00", "YCBCR": _ADOBE + b"\x01", "GRAYSCALE": b""}

COMPONENTS = {"RGB": 3, "YCBCR": 3, "GRAYSCALE": 1}
"""Of each colour space that a complete JPEG can declare."""


def complete(tile: bytes, tables: bytes | None, space: str) -> bytes:
    """Return a tile as a complete JPEG.

    Parameters
    ----------
    tile
        From SOI to EOI, with or without tables of its own; zeros may follow.
    tables
        A table-specification stream that completes it.
    space
        Of the coded components: a key of `COMPONENTS`.

    Raises
    ------
    FoldError
        If the tile is no JPEG of so many components.

    """
    parsed = fold.parse(tile)
    _check(len(parsed.frame.components), space)
    kept = {_DQT, _DHT, _DRI, _SOS, parsed.frame.code}
    own = [b"\xff" + tile[s.start : s.stop].lstrip(b"\xff") for s in parsed.segments if s.code in kept]
    data = tile[parsed.scan_start :]
    if data[-1:] == b"\0":
        data = data.rstrip(b"\0")
    ending = b"" if data.endswith(EOI) else EOI
    return b"".join((_SOI, _MEANING[space], _shared(tables), *own, data, ending))


def complete_strips(header: bytes, scans: Sequence[bytes], space: str) -> bytes:
    """Return strips, one above another, as one complete JPEG with a restart marker between each two.

    Its pixels are those of the strips decoded alone only if `joins_exactly`.

    Parameters
    ----------
    header
        Of each strip, from SOI to SOS.
    scans
        Their entropy-coded data, from top to bottom.
    space
        Of the coded components: a key of `COMPONENTS`.

    Raises
    ------
    FoldError
        If the header is none, or so many strips do not fit into one JPEG.

    """
    bare = fold.bare_header(header)
    if len(scans) == 1:
        return complete(fold.tile(bare, scans[0]), None, space)
    extent = fold.extent(fold.parse(bare).frame)
    if len(scans) > extent.most_tiles:
        msg = f"{len(scans)} strips do not fit into one JPEG"
        raise FoldError(msg)
    return complete(fold.join_whole(bare, scans), None, space)


@lru_cache(maxsize=64)
def joins_exactly(header: bytes) -> bool:
    """Say whether strips with this header may be decoded together.

    They may if they are whole rows of blocks and no component has fewer rows than another: a decoder that upsamples
    chroma downwards would look across their borders.

    Raises
    ------
    FoldError
        If the header is none.

    """
    frame = fold.parse(header).frame
    return frame.height == fold.extent(frame).rows and len({part.vertical for part in frame.components}) == 1


@lru_cache(maxsize=64)
def _shared(tables: bytes | None) -> bytes:
    found = fold.tables_of(tables)
    return found[_DQT] + found[_DHT]


def bare_tables(tables: bytes) -> bytes:
    """Return a table-specification stream with nothing but tables.

    Raises
    ------
    FoldError
        If it is not one.

    """
    return _SOI + _shared(tables) + EOI


def bare_header(header: bytes) -> bytes:
    """Return a strip's header with nothing but what decodes it.

    Raises
    ------
    FoldError
        If it is not one.

    """
    parsed = fold.parse(header)
    kept = {_DQT, _DHT, _DRI, _SOS, parsed.frame.code}
    return _SOI + b"".join(
        b"\xff" + header[s.start : s.stop].lstrip(b"\xff") for s in parsed.segments if s.code in kept
    )


def _check(components: int, space: str) -> None:
    if COMPONENTS.get(space) != components:
        msg = f"has {components} components where {space} is due"
        raise FoldError(msg)
