"""TIFF's LZW told by its resets: with them, the decompressed bytes give back the very stream that an encoder wrote.

All encoders match greedily and widen their codes at the same places, for decoders expect it; they differ in when they
clear their table (libtiff watches the ratio, others wait until it is full). So a stream is a function of its data and
of the number of codes between clear codes. What follows the last code of the data (the end code, filling bits, bytes
behind) is kept as it is. A stream for which this does not hold, is found by making it again and comparing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

_CLEAR, _END, _FIRST = 256, 257, 258
_MOST_CODES = 4096 - _FIRST + 1
"""Codes between clear codes: with one more, decoders would run out of codes of 12 bits."""
_FEW = 64
"""Clear codes that are always allowed; more of them only as the data grow, or a forged tile would take hours."""
_LEAST_GROUP_BYTES = 64

Ints = npt.NDArray[np.int64]
Runs = tuple[tuple[int, int], ...]
"""Codes before a clear code, and how often in a row: numbers of codes between clear codes, run-length encoded. The
first run tells of the codes before the first clear code, mostly 0."""


def _widths() -> Ints:
    return np.array([min(12, (_FIRST + i).bit_length()) for i in range(_MOST_CODES + 1)], np.int64)


_WIDTHS = _widths()
"""Bits of the i-th code since the last clear code."""
_OFFSETS = np.concatenate(([0], np.cumsum(_WIDTHS)))


def resets(stream: bytes) -> tuple[Runs, int] | None:
    """Return the resets of a stream, and how many whole bytes its codes fill up to the last code of the data.

    Returns
    -------
    tuple[Runs, int] or None
        None if it is no stream of this kind.

    """
    data = np.concatenate((np.frombuffer(stream, np.uint8), np.zeros(4, np.uint8))).astype(np.int64)
    bits, at = len(stream) * 8, 0
    counts: list[int] = []
    while True:
        room = int(np.searchsorted(_OFFSETS, bits - at, "right")) - 1
        codes = _codes(data, at, min(room, len(_WIDTHS)))
        special = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        if not special.size or len(counts) > _FEW + len(stream) // _LEAST_GROUP_BYTES:
            return None
        count = int(special[0])
        if codes[count] == _END:
            return _runs(counts), (at + int(_OFFSETS[count])) // 8
        counts.append(count)
        at += int(_OFFSETS[count + 1])


def _codes(data: Ints, start: int, count: int) -> Ints:
    """Read `count` codes from bit `start`, as they lie behind a clear code."""
    first = _OFFSETS[:count] + start
    byte = first // 8
    window = data[byte] << 16 | data[byte + 1] << 8 | data[byte + 2]
    codes: Ints = (window >> (24 - first % 8 - _WIDTHS[:count])) & ((1 << _WIDTHS[:count]) - 1)
    return codes


def _runs(counts: Sequence[int]) -> Runs:
    return tuple((count, len(list(group))) for count, group in groupby(counts))


def encode(data: bytes, runs: Runs) -> bytes:
    """Compress `data` as an encoder with these resets does, up to the last whole byte of the data's codes.

    Raises
    ------
    ValueError
        If the resets do not fit the data.

    """
    if sum(times for _, times in runs) > _FEW + len(data):
        msg = "there are more clear codes than data"
        raise ValueError(msg)
    groups = _matched(data, (count for count, times in runs for _ in range(times)))
    bits = np.concatenate([_bits(np.array(codes, np.int64)) for codes in groups])
    return np.packbits(bits[: bits.size // 8 * 8]).tobytes()


def _bits(codes: Ints) -> npt.NDArray[np.uint8]:
    """Return the codes of one group, bit by bit."""
    shifts = np.arange(11, -1, -1)
    every = (codes[:, None] >> shifts & 1).astype(np.uint8)
    wanted: npt.NDArray[np.uint8] = every[shifts < _WIDTHS[: len(codes), None]]
    return wanted


def _matched(data: bytes, counts: Iterable[int]) -> Iterator[list[int]]:
    """Yield the codes between clear codes, each with the clear code at its end, but for the last."""
    source = iter(data)
    code = next(source, -1)
    for count in counts:
        if count > _MOST_CODES:
            msg = f"{count} codes without a clear code"
            raise ValueError(msg)
        codes, code = _group(source, code, count)
        if len(codes) < count:
            msg = "the resets are not those of this stream"
            raise ValueError(msg)
        codes.append(_CLEAR)
        yield codes
    codes, code = _group(source, code, _MOST_CODES)
    if code >= 0:
        msg = "a clear code is missing"
        raise ValueError(msg)
    yield codes


def _group(source: Iterator[int], code: int, count: int) -> tuple[list[int], int]:
    """Match greedily until `count` codes are made or the data end; return them and the byte to start with next.

    That is -1 when there are no more.
    """
    codes: list[int] = []
    if code < 0 or not count:
        return codes, code
    table: dict[int, int] = {}
    known, append, free = table.get, codes.append, _FIRST
    for byte in source:
        key = code << 8 | byte
        longer = known(key)
        if longer is not None:
            code = longer
            continue
        append(code)
        code = byte
        if len(codes) == count:
            return codes, code
        table[key] = free
        free += 1
    append(code)
    return codes, -1
