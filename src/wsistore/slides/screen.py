"""Looks at many JPEG tiles at once and says which of them need a look of their own.

A tile passes if its header is, byte for byte, that of a tile that `wsistore.slides.check.TileChecker` found good, and
if its entropy-coded data holds no marker before the EOI at its very end. That is all that the checker would look at.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsistore.slides import jpeg

_MOST_HEADERS = 4
"""Headers that are remembered; slides have one to three."""

Ints = npt.NDArray[np.int64]

_PART_BYTES = 256 * 1024
"""Bytes looked at together: what is found of them stays in the processor's cache."""


class TileScreen:
    """Screens the JPEG tiles of one level; not for use from several threads at once."""

    def __init__(self) -> None:
        self._headers: list[tuple[npt.NDArray[np.uint8], bool]] = []

    def learn(self, tile: memoryview) -> None:
        """Remember the header of a tile that was found good."""
        if len(self._headers) >= _MOST_HEADERS:
            return
        data = bytes(tile)
        try:
            header = jpeg.parse(data)
        except ValueError:
            return
        known = np.frombuffer(data, np.uint8, header.scan_start)
        if header.single_scan and not any(np.array_equal(known, other) for other, _ in self._headers):
            self._headers.append((known, header.restart_interval > 0))

    def suspects(self, window: npt.NDArray[np.uint8], starts: Ints, stops: Ints) -> Ints:
        """Return the places of those tiles that need a look of their own.

        Parameters
        ----------
        window
            Bytes that hold the tiles, uint8, one axis.
        starts, stops
            Where in them each tile starts and ends.

        """
        if not self._headers or not len(starts):
            return np.arange(len(starts))
        good = np.zeros(len(starts), bool)
        marks = _markers(window)
        for header, restarts in self._headers:
            length = len(header)
            fits = np.flatnonzero(~good & (stops - starts >= length + 2))
            if not len(fits):
                continue
            places = starts[fits, None] + np.arange(length)
            fits = fits[np.all(window[places] == header, axis=1)]
            good[fits] = _ends_well(window, marks, starts[fits] + length, stops[fits], restarts=restarts)
        return np.flatnonzero(~good)


def _markers(window: npt.NDArray[np.uint8]) -> Ints:
    """Return where an 0xFF is followed by anything but a stuffed zero."""
    parts = []
    for start in range(0, len(window) - 1, _PART_BYTES):
        part = window[start : start + _PART_BYTES + 1]
        found = np.flatnonzero(part[:-1] == 0xFF)
        parts.append(found[part[found + 1] != 0] + start)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _ends_well(
    window: npt.NDArray[np.uint8], marks: Ints, scans: Ints, stops: Ints, *, restarts: bool
) -> npt.NDArray[np.bool_]:
    """Say of each tile whether the first marker of its scan is the EOI at its end."""
    if restarts:
        marks = marks[(window[marks + 1] & 0xF8) != 0xD0]
    nearest = np.searchsorted(marks, scans)
    inside = nearest < len(marks)
    good = np.zeros(len(scans), bool)
    first = marks[nearest[inside]]
    good[inside] = (first == stops[inside] - 2) & (window[first + 1] == 0xD9)
    return good
