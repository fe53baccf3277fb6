"""Where the frames of one instance lie in its file: items, fragments, offset tables and padding."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from wsistore.slides.base import Codec
from wsistore.slides.dicom.codestream import END, SOC, SOI, Coded, NotCodedError, TooShortError, padding, parse
from wsistore.slides.dicom.raw import ITEM, SEQUENCE_END, Element, Encoding, Raw, broken, implausible, truncated

MAX_FRAGMENTS = 1 << 23

_HEAD_BYTES = (1024, 64 * 1024, 4 * 1024 * 1024)
"""How much of a frame is read for its header: nearly always the first is enough."""
_TAIL_BYTES = 16
_MAX_PREFIXES = 16
"""Headers that are remembered, so that equal ones are read once."""

_Int64s = npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Runs:
    """The frames of one instance as runs of bytes, in order."""

    frame: _Int64s
    """Frame that each run belongs to, from 0; sorted. A frame with several fragments has several runs."""
    offset: _Int64s
    length: _Int64s
    """In bytes."""
    unclear: str = ""
    """Why fragments cannot be told apart into frames; then there are no runs."""
    warnings: list[str] = field(default_factory=list)
    end: int | None = None
    """Offset behind the pixel data, if it took walking through them to know."""


def no_runs(unclear: str = "", end: int | None = None) -> Runs:
    """Return no runs, with the reason."""
    empty = np.empty(0, np.int64)
    return Runs(empty, empty, empty, unclear, end=end)


def native(raw: Raw, pixels: Element, frames: int, frame_bytes: int) -> Runs:
    """Return the runs of uncompressed frames, which lie one behind the other.

    Raises
    ------
    BrokenError
        If there are fewer bytes than frames.

    """
    if pixels.undefined:
        raise broken(raw.name, "its pixel data are said to be uncompressed but lie in items")
    wanted = frames * frame_bytes
    if pixels.length_bytes < wanted:
        raise broken(raw.name, f"its pixel data have {pixels.length_bytes} bytes, {frames} frames need {wanted}")
    if pixels.start + wanted > raw.size_bytes:
        raise truncated(raw.name, "its pixel data go past the end of the file")
    index = np.arange(frames, dtype=np.int64)
    return Runs(index, pixels.start + index * frame_bytes, np.full(frames, frame_bytes, np.int64))


def encapsulated(
    raw: Raw, pixels: Element, frames: int, extended: tuple[Element, Element] | None, encoding: Encoding
) -> Runs:
    """Return the runs of compressed frames with padding still in them.

    Raises
    ------
    BrokenError
        If items are damaged, end early, or are fewer than the frames.

    """
    if not pixels.undefined:
        raise broken(raw.name, "its pixel data are said to be compressed but do not lie in items")
    table, starts, lengths, warnings, end = _walk(raw, pixels)
    if starts.size < frames:
        raise truncated(raw.name, f"it declares {frames} frames and has {starts.size}")
    if extended is not None:
        table = _extended_table(raw, extended, encoding)
    first = _first_fragments(raw, frames, table, starts, warnings)
    if first is None:
        return no_runs(f"its {starts.size} fragments cannot be told apart into {frames} frames", end)
    owner = np.searchsorted(first, np.arange(starts.size), side="right").astype(np.int64) - 1
    kept = lengths > 0
    runs = Runs(owner[kept], starts[kept], lengths[kept], warnings=warnings, end=end)
    empty = frames - np.unique(runs.frame).size
    if empty:
        runs.warnings.append(f"{raw.name} has {empty} empty frames; they are kept as missing tiles")
    return runs


def _walk(raw: Raw, pixels: Element) -> tuple[_Int64s, _Int64s, _Int64s, list[str], int]:
    """Return the basic offset table, offset and length of each fragment's value, warnings, and where it all ends.

    Only the 8 bytes of each item's header are read.
    """
    starts, lengths = array("q"), array("q")
    table, offset, first = np.empty(0, np.int64), pixels.start, True
    while True:
        head = raw.read(offset, 8)
        if len(head) < 8:
            if len(head) == 0 and not first:
                return (
                    table,
                    *_arrays(starts, lengths),
                    [f"{raw.name} has no mark at the end of its pixel data"],
                    offset,
                )
            raise truncated(raw.name, "its pixel data end within an item")
        group, number, length = struct.unpack("<HHL", head)
        tag = group << 16 | number
        if tag == SEQUENCE_END:
            return table, *_arrays(starts, lengths), [], offset + 8
        if tag != ITEM:
            raise broken(raw.name, f"its pixel data hold {tag:08X} instead of an item at byte {offset}")
        if offset + 8 + length > raw.size_bytes:
            raise truncated(raw.name, f"the item at byte {offset} goes past the end of the file")
        if first:
            table, first = _basic_table(raw, offset + 8, length), False
        else:
            starts.append(offset + 8)
            lengths.append(length)
        if len(starts) > MAX_FRAGMENTS:
            raise implausible(raw.name, f"it has more than {MAX_FRAGMENTS} fragments")
        offset += 8 + length


def _arrays(starts: array[int], lengths: array[int]) -> tuple[_Int64s, _Int64s]:
    return np.array(starts, np.int64), np.array(lengths, np.int64)


def _basic_table(raw: Raw, offset: int, length_bytes: int) -> _Int64s:
    if length_bytes % 4 or length_bytes > 4 * MAX_FRAGMENTS:
        raise broken(raw.name, f"its offset table has {length_bytes} bytes")
    return np.frombuffer(raw.read(offset, length_bytes), "<u4").astype(np.int64)


def _extended_table(raw: Raw, extended: tuple[Element, Element], encoding: Encoding) -> _Int64s:
    offsets = extended[0]
    if offsets.undefined or offsets.length_bytes % 8 or offsets.length_bytes > 8 * MAX_FRAGMENTS:
        raise broken(raw.name, "its extended offset table has no sensible length")
    order = ">" if encoding.big_endian else "<"
    table = np.frombuffer(raw.read(offsets.start, offsets.length_bytes), order + "u8")
    if table.size and int(table.max()) > raw.size_bytes:
        raise broken(raw.name, "its extended offset table points past the end of the file")
    return table.astype(np.int64)


def _first_fragments(raw: Raw, frames: int, table: _Int64s, starts: _Int64s, warnings: list[str]) -> _Int64s | None:
    """Return the index of each frame's first fragment, or None if it cannot be known.

    One fragment per frame needs no table, so there a wrong one does no harm.
    """
    alone = starts.size == frames
    if frames == 1:
        return np.zeros(1, np.int64)
    # Offsets count from the first byte of the first fragment's item header.
    at = starts - 8 - (starts[0] - 8)
    if table.size == 0:
        return np.arange(frames, dtype=np.int64) if alone else _by_codestream(raw, frames, starts)
    if table.size == frames:
        # The basic table's 32 bits overflow in files of more than 4 GiB.
        table = table + (np.concatenate([[0], np.cumsum(np.diff(table) < 0)]) << 32) * int(at[-1] >= 1 << 32)
        if int(table.max()) > at[-1]:
            raise broken(raw.name, "its offset table points past the last fragment")
        first = np.searchsorted(at, table)
        if np.array_equal(at[first], table) and first[0] == 0 and bool(np.all(np.diff(first) > 0)):
            return first.astype(np.int64)
    if not alone:
        raise broken(raw.name, f"its offset table does not fit its {frames} frames in {starts.size} fragments")
    warnings.append(f"{raw.name} has a wrong offset table, which was not used")
    return np.arange(frames, dtype=np.int64)


def _by_codestream(raw: Raw, frames: int, starts: _Int64s) -> _Int64s | None:
    """Return the fragments that begin with a codestream's first bytes, if they are as many as the frames."""
    begins = (SOI + b"\xff", SOC + b"\xff")
    first = [index for index, start in enumerate(starts.tolist()) if raw.read(start, 3) in begins]
    if len(first) != frames or first[0] != 0:
        return None
    # A fragment may begin with a codestream's first bytes by chance: the one before must then end with its last.
    for index in first[1:]:
        last = raw.read(int(starts[index]) - 8 - _TAIL_BYTES, _TAIL_BYTES)
        if not last.rstrip(b"\0").endswith(END):
            return None
    return np.array(first, np.int64)


class Frame:
    """The bytes of one frame, over all its fragments."""

    def __init__(self, raw: Raw, offsets: Sequence[int], lengths: Sequence[int]) -> None:
        self._raw = raw
        self._parts = list(zip(offsets, lengths, strict=True))

    def head(self, length_bytes: int) -> bytes:
        """Return the first bytes, fewer if the frame is shorter."""
        data = b""
        for offset, length in self._parts:
            data += self._raw.read(offset, min(length, length_bytes - len(data)))
            if len(data) >= length_bytes:
                break
        return data

    def tail(self, length_bytes: int) -> bytes:
        """Return the last bytes, fewer if the frame is shorter."""
        data = b""
        for offset, length in reversed(self._parts):
            wanted = min(length, length_bytes - len(data))
            data = self._raw.read(offset + length - wanted, wanted) + data
            if len(data) >= length_bytes:
                break
        return data


def inspect(raw: Raw, runs: Runs, codec: Codec) -> list[Coded]:
    """Read the header of every frame, and cut the padding behind every frame off its runs.

    Returns
    -------
    list of Coded
        The different headers that there are; nearly always one.

    Raises
    ------
    BrokenError
        If a frame is no codestream of this kind.

    """
    prefixes: dict[bytes, None] = {}
    found: dict[Coded, None] = {}
    frames, first = np.unique(runs.frame, return_index=True)
    bounds = [*first.tolist(), runs.frame.size]
    for number, (begin, end) in zip(frames.tolist(), pairwise(bounds), strict=True):
        frame = Frame(raw, runs.offset[begin:end].tolist(), runs.length[begin:end].tolist())
        coded = _header(raw, frame, int(number), codec, prefixes)
        if coded is not None:
            found[replace(coded, header_bytes=0)] = None
        _cut(runs, begin, end, padding(frame.tail(_TAIL_BYTES)))
    kept = runs.length > 0
    runs.frame, runs.offset, runs.length = runs.frame[kept], runs.offset[kept], runs.length[kept]
    return list(found)


def _header(raw: Raw, frame: Frame, number: int, codec: Codec, prefixes: dict[bytes, None]) -> Coded | None:
    """Return the header of a frame, or None if it begins with the same bytes as one that was read before."""
    problem = ""
    for length_bytes in _HEAD_BYTES:
        head = frame.head(length_bytes)
        if any(head.startswith(prefix) for prefix in prefixes):
            return None
        try:
            coded = parse(codec, head)
        except TooShortError as error:
            problem = str(error)
            if len(head) < length_bytes:
                break
        except NotCodedError as error:
            raise broken(raw.name, f"frame {number + 1} {error}") from error
        else:
            if len(prefixes) < _MAX_PREFIXES and coded.header_bytes <= _HEAD_BYTES[1]:
                prefixes[head[: coded.header_bytes]] = None
            return coded
    raise broken(raw.name, f"frame {number + 1} {problem}")


def _cut(runs: Runs, begin: int, end: int, padding_bytes: int) -> None:
    """Shorten the runs from `begin` to `end` by `padding_bytes` at their end."""
    for index in range(end - 1, begin - 1, -1):
        if padding_bytes <= 0:
            return
        cut = min(padding_bytes, int(runs.length[index]))
        runs.length[index] -= cut
        padding_bytes -= cut
