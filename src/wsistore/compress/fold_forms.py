"""The two forms in which sources have JPEG tiles, and how each becomes a complete JPEG and comes back.

Tiles (SOI … EOI) may lack tables that all tiles of a level share; strips are entropy-coded data alone, under one
header.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsistore.compress import fold
from wsistore.compress.fold import EOI, FoldError
from wsistore.compress.fold_container import Kind
from wsistore.slides import jpeg

_SOI = b"\xff\xd8"
_PROGRESSIVE, _LOSSLESS, _FIRST_ARITHMETIC = 0xC2, 0xC3, 0xC9
_SEQUENTIAL = frozenset({0xC0, 0xC1})

NOT_A_JPEG = "not-a-jpeg"
TWELVE_BIT = "twelve-bit"
ARITHMETIC = "arithmetic"
UNUSUAL = "unusual-jpeg"
PROGRESSIVE = "progressive"
SEVERAL_SCANS = "several-scans"
OTHER_SIZE = "other-size"
RESTART_INTERVALS = "restart-intervals"
TOO_MANY_MCUS = "too-many-mcus"
STRAY_BYTES = "stray-bytes"
SAMPLING_FACTORS = "sampling-factors"

BEYOND_LIBJXL = frozenset({NOT_A_JPEG, TWELVE_BIT, ARITHMETIC, UNUSUAL, SAMPLING_FACTORS})
"""Reasons for which a tile need not be shown to libjxl."""


@dataclass(frozen=True, slots=True)
class HeaderVerdict:
    """What a tile's header says about folding it."""

    header: bytes
    reason: str
    """Why its tiles cannot be folded; empty if they can."""
    most_tiles: int
    """That fit into one JPEG."""
    own: Kind
    """Which shared tables must be left out of a JPEG because the header brings its own: `Kind.OWN_DQT`, `Kind.OWN_DHT`.
    (libjxl refuses a table that is defined twice.)"""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a payload tells."""

    verdict: HeaderVerdict
    scan: memoryview
    zeros: int
    """Zero bytes behind the tile's end."""
    reason: str
    """Why the tile cannot be folded; empty if it can."""


def _judge(header: bytes, tile_shape: tuple[int, int], tables: Mapping[int, bytes]) -> HeaderVerdict:
    parsed = fold.parse(header)
    frame = parsed.frame
    extent = fold.extent(frame)
    reasons = {
        TWELVE_BIT: frame.precision != 8,
        ARITHMETIC: frame.code >= _FIRST_ARITHMETIC,
        UNUSUAL: frame.code not in _SEQUENTIAL and frame.code != _PROGRESSIVE,
        SAMPLING_FACTORS: not _halves(frame),
        PROGRESSIVE: frame.code == _PROGRESSIVE,
        SEVERAL_SCANS: not parsed.single_scan,
        OTHER_SIZE: (frame.height, frame.width) != tile_shape,
        RESTART_INTERVALS: bool(parsed.restart_interval) or any(s.code == jpeg.DRI for s in parsed.segments),
        TOO_MANY_MCUS: extent.most_tiles < 1,
    }
    reason = next((name for name, holds in reasons.items() if holds), "")
    codes = {segment.code for segment in parsed.segments if tables.get(segment.code)}
    own = Kind.OWN_DQT if jpeg.DQT in codes else Kind.VERBATIM
    own |= Kind.OWN_DHT if jpeg.DHT in codes else Kind.VERBATIM
    return HeaderVerdict(header[: parsed.scan_start], reason, extent.most_tiles, own)


def _halves(frame: jpeg.Frame) -> bool:
    """Say whether all components have full or half resolution: JPEG XL knows no other."""
    down, across = (edge // 8 for edge in frame.mcu)
    return all(
        down in {c.vertical, 2 * c.vertical} and across in {c.horizontal, 2 * c.horizontal} for c in frame.components
    )


def _reason_of_scan(payload: bytes, start: int, stop: int) -> str:
    """Return why entropy-coded data cannot be folded: there is more in it than data, or nothing."""
    if payload.count(b"\xff", start, stop) == payload.count(b"\xff\0", start, stop):
        return ""
    markers = sum(payload.count(bytes((0xFF, 0xD0 + number)), start, stop) for number in range(8))
    return RESTART_INTERVALS if markers else STRAY_BYTES


class Form(ABC):
    """One of the forms. Immutable."""

    @abstractmethod
    def look(self, payload: bytes, known: HeaderVerdict | None) -> Look:
        """Look at a payload; its header is most likely the one that is `known`.

        Raises
        ------
        FoldError
            If it is no JPEG.

        """

    @abstractmethod
    def complete(self, payload: bytes, own: Kind) -> bytes:
        """Return a JPEG that any decoder takes; `own` as in `HeaderVerdict`."""

    @abstractmethod
    def payload(self, complete: bytes, own: Kind) -> bytes:
        """Undo `complete`.

        Raises
        ------
        FoldError
            If that did not make it.

        """

    @abstractmethod
    def join(self, looks: Sequence[Look]) -> bytes:
        """Return the fold of two or more tiles that have the same header, without the zeros behind them."""

    @abstractmethod
    def split(self, folded: bytes, own: Kind, height: int) -> list[bytes]:
        """Undo `join` of tiles of `height` pixels.

        Raises
        ------
        FoldError
            If that did not make it.

        """


class TileForm(Form):
    """SOI … EOI, without the tables that the level's tiles share.

    Parameters
    ----------
    tables
        Table-specification stream that completes the tiles.
    tile_shape
        Height and width of a tile in pixels.

    Raises
    ------
    FoldError
        If the tables are none.

    """

    def __init__(self, tables: bytes | None, tile_shape: tuple[int, int]) -> None:
        self._tables = fold.tables_of(tables)
        self._shape = tile_shape

    def _lead(self, own: Kind) -> bytes:
        """Return what the complete JPEG has in place of the tile's SOI."""
        quantisation = b"" if own & Kind.OWN_DQT else self._tables[jpeg.DQT]
        return _SOI + quantisation + (b"" if own & Kind.OWN_DHT else self._tables[jpeg.DHT])

    def look(self, payload: bytes, known: HeaderVerdict | None) -> Look:
        """Look at a tile."""
        if known is None or not payload.startswith(known.header):
            known = _judge(payload, self._shape, self._tables)
        start, end = len(known.header), len(payload)
        if not payload.endswith(EOI):
            end = len(payload.rstrip(b"\0"))
            if end - 2 < start or payload[end - 2 : end] != EOI:
                return Look(known, memoryview(payload)[start:], 0, known.reason or STRAY_BYTES)
        reason = known.reason or _reason_of_scan(payload, start, end - 2)
        return Look(known, memoryview(payload)[start : end - 2], len(payload) - end, reason)

    def complete(self, payload: bytes, own: Kind) -> bytes:
        """Return the tile with its tables."""
        return self._lead(own) + payload[2:]

    def payload(self, complete: bytes, own: Kind) -> bytes:
        """Return the tile without the shared tables."""
        lead = self._lead(own)
        if not complete.startswith(lead):
            msg = "the tile does not begin with the shared tables"
            raise FoldError(msg)
        return _SOI + complete[len(lead) :]

    def join(self, looks: Sequence[Look]) -> bytes:
        """Return the fold, tables included."""
        verdict = looks[0].verdict
        return fold.join_whole(self._lead(verdict.own) + verdict.header[2:], [look.scan for look in looks])

    def split(self, folded: bytes, own: Kind, height: int) -> list[bytes]:
        """Return the tiles."""
        header, scans = fold.split_whole(folded, height)
        header = self.payload(header, own)
        return [fold.tile(header, scan) for scan in scans]


class StripForm(Form):
    """Entropy-coded data, without header and EOI.

    Parameters
    ----------
    header
        Of all strips, from SOI to SOS.
    tile_shape
        Height and width of a strip in pixels.

    Raises
    ------
    FoldError
        If the header is none.

    """

    def __init__(self, header: bytes, tile_shape: tuple[int, int]) -> None:
        self._header = fold.bare_header(header)
        self._verdict = _judge(self._header, tile_shape, {})

    def look(self, payload: bytes, known: HeaderVerdict | None) -> Look:
        """Look at a strip."""
        reason = self._verdict.reason or _reason_of_scan(payload, 0, len(payload))
        return Look(self._verdict, memoryview(payload), 0, reason)

    def complete(self, payload: bytes, own: Kind) -> bytes:
        """Return the strip with its header and EOI."""
        return self._header + payload + EOI

    def payload(self, complete: bytes, own: Kind) -> bytes:
        """Return the strip without its header and EOI."""
        if own or not complete.startswith(self._header) or not complete.endswith(EOI):
            msg = "the strip does not begin with its header"
            raise FoldError(msg)
        return complete[len(self._header) : -2]

    def join(self, looks: Sequence[Look]) -> bytes:
        """Return the fold, header included."""
        return fold.join_whole(self._header, [look.scan for look in looks])

    def split(self, folded: bytes, own: Kind, height: int) -> list[bytes]:
        """Return the strips."""
        header, scans = fold.split_whole(folded, height)
        if own or header != self._header:
            msg = "the fold has another header than its strips"
            raise FoldError(msg)
        return scans
