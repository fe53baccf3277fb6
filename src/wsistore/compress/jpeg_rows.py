"""The upper rows of a JPEG without decoding the rest: a decoder stops where the header says that the picture ends."""

from __future__ import annotations

import struct

_SEQUENTIAL = (0xC0, 0xC1)
_SOS = 0xDA
_FILL = 0xFF


def shortened(stream: bytes, rows: int, height: int) -> tuple[bytes, int]:
    """Return a JPEG whose first `rows` rows are those of `stream`, and its own number of rows.

    Chroma of lower resolution is interpolated with the samples of the next row of it: the picture must go on for as
    many rows as one of these covers. What is not sequential Huffman JPEG in one scan is returned as it is, and so is
    whatever is not a sound JPEG of `height` rows: the decoder says what is wrong with it.

    Parameters
    ----------
    stream
        A JPEG, with or without its tables.
    rows
        How many are needed.
    height
        How many the picture has.

    """
    found = _frame(stream)
    if found is None or struct.unpack_from(">H", stream, found[0] + 3)[0] != height:
        return stream, height
    place, sampling = found
    wanted = rows + sampling
    if wanted >= height:
        return stream, height
    return b"".join((stream[: place + 3], struct.pack(">H", wanted), stream[place + 5 :])), wanted


def _frame(stream: bytes) -> tuple[int, int] | None:
    """Return where a frame header's length stands and the greatest vertical sampling; None if that is of no use."""
    at, found, components = 2, None, 0
    try:
        while True:
            while stream[at + 1] == _FILL:
                at += 1
            code, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
            if stream[at] != _FILL or length < 2:
                return None
            if code in _SEQUENTIAL:
                components = stream[at + 9]
                factors = [stream[at + 11 + 3 * n] & 15 for n in range(components)]
                found = at + 2, max(factors, default=0)
            elif code == _SOS:
                return found if stream[at + 4] == components else None
            at += 2 + length
    except IndexError:
        return None
