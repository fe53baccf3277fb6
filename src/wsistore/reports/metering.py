"""What a site used in certain months, metered: intervals and events become exact sums, portion by portion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.reports.doing import done_in
from wsistore.reports.exact import product_sums
from wsistore.reports.intervals import OPEN, Integers
from wsistore.reports.periods import Month
from wsistore.reports.runs import runs
from wsistore.reports.usage import Group, Metered, Usage

_CHUNK = 1 << 18
"""Intervals that are worked on at once."""


class Meter:
    """Sums usage over portions; meters of different portions can be added in any order, on any machine.

    Parameters
    ----------
    months
        Which are asked for.
    least_us
        By tier, the microseconds that it charges for a copy at least; tiers without are not in it.
    until_us
        What is metered up to: what still lies there is not counted beyond. In microseconds from 1970.

    """

    def __init__(
        self, months: Sequence[Month], least_us: Mapping[str, int] | None = None, *, until_us: int = OPEN
    ) -> None:
        self.months = tuple(months)
        self.by_month: dict[Month, Metered] = {month: {} for month in months}
        self.slide_us: dict[Month, int] = dict.fromkeys(months, 0)
        """Slides times microseconds in which at least one copy of them was kept."""
        self._least_us = dict(least_us or {})
        self._until_us = until_us

    def add(self, table: pa.Table, told: pa.Table | None = None) -> None:
        """Add a portion.

        Parameters
        ----------
        table
            Of `wsistore.reports.intervals.INTERVALS`, sorted by slide and begin, all copies of a slide in one portion.
        told
            Of `wsistore.reports.happened.HAPPENED`: the same slides' events; None: only what lay there counts.

        """
        for start in range(0, table.num_rows, _CHUNK):
            self._add_lying(table.slice(start, _CHUNK))
        self._add_slides(table)
        if told is not None:
            for month, group, usage in done_in(self.months, told, table):
                self._usage(month, group).add(usage)

    def merge(self, other: Meter) -> None:
        """Add what another meter of the same months has summed, of other slides."""
        for month, spent in other.slide_us.items():
            self.slide_us[month] += spent
        for month, metered in other.by_month.items():
            for group, usage in metered.items():
                self._usage(month, group).add(usage)

    def _usage(self, month: Month, group: Group) -> Usage:
        return self.by_month[month].setdefault(group, Usage())

    def _add_lying(self, table: pa.Table) -> None:
        codes, groups = _groups(table)
        order = np.argsort(codes, kind="stable")
        began = table["began"].cast(pa.int64()).to_numpy()[order]
        ended = self._ends(table)[order]
        names = ("bytes_stored", "bytes_logical", "objects")
        values = [table[name].to_numpy()[order] for name in names]
        rows = _Rows(codes[order], began, np.maximum(ended, began), *values)
        for month in self.months:
            self._add_month(month, rows, groups)

    def _ends(self, table: pa.Table) -> Integers:
        ended: Integers = pc.fill_null(table["ended"].cast(pa.int64()), self._until_us).to_numpy()
        return np.minimum(ended, self._until_us)

    def _add_slides(self, table: pa.Table) -> None:
        """Add how long each slide was kept: times in which it has several copies count once."""
        if not table.num_rows:
            return
        slides = runs(table["slide"]).numbers
        began, ended = table["began"].cast(pa.int64()).to_numpy(), self._ends(table)
        for month in self.months:
            mine = (began < month.ends_us) & (ended > month.begins_us)
            if not mine.any():
                continue
            start = np.maximum(began[mine], month.begins_us) - month.begins_us
            end = np.minimum(ended[mine], month.ends_us) - month.begins_us
            is_new = np.diff(slides[mine], prepend=-1) != 0
            # Slides one after the other on one line, so that the latest end so far is never another slide's.
            offset = (np.cumsum(is_new) - 1) * month.length_us
            latest = np.maximum.accumulate(end + offset)
            before = np.concatenate(([0], latest[:-1]))
            self.slide_us[month] += int(np.maximum(end + offset - np.maximum(start + offset, before), 0).sum())

    def _add_month(self, month: Month, rows: _Rows, groups: Sequence[Group]) -> None:
        length = month.length_us
        is_there = (rows.began < month.ends_us) & (rows.ended > month.begins_us)
        is_whole = (rows.began <= month.begins_us) & (rows.ended >= month.ends_us)
        if is_whole.any():
            # Most copies lie there all the month: their bytes are summed, and multiplied once.
            some = rows.only(is_whole)
            starts = np.flatnonzero(np.diff(some.codes, prepend=-1))
            counts = np.diff(starts, append=len(some.codes)).tolist()
            columns = [np.add.reduceat(one, starts).tolist() for one in (some.stored, some.logical, some.objects)]
            for code, *figures in zip(some.codes[starts].tolist(), *columns, counts, strict=True):
                self._lay(month, groups[code], [figure * length for figure in figures])
        some = rows.only(is_there & ~is_whole)
        if len(some.codes):
            span = np.minimum(some.ended, month.ends_us) - np.maximum(some.began, month.begins_us)
            starts = np.flatnonzero(np.diff(some.codes, prepend=-1))
            factors = (some.stored, some.logical, some.objects, np.ones(len(span), np.int64))
            columns = [product_sums(one, span, starts) for one in factors]
            for code, *figures in zip(some.codes[starts].tolist(), *columns, strict=True):
                self._lay(month, groups[code], figures)
        is_over = (rows.ended >= month.begins_us) & (rows.ended < min(month.ends_us, self._until_us))
        if is_over.any() and self._least_us:
            self._add_early(month, rows.only(is_over), groups)

    def _lay(self, month: Month, group: Group, figures: Sequence[int]) -> None:
        usage = self._usage(month, group)
        usage.byte_us += figures[0]
        usage.logical_byte_us += figures[1]
        usage.object_us += figures[2]
        usage.copy_us += figures[3]

    def _add_early(self, month: Month, rows: _Rows, groups: Sequence[Group]) -> None:
        least = np.array([self._least_us.get(group.tier, 0) for group in groups], np.int64)
        left = least[rows.codes] - (rows.ended - rows.began)
        for row in np.flatnonzero(left > 0).tolist():
            amount = int(rows.stored[row]) * int(left[row])
            self._usage(month, groups[int(rows.codes[row])]).add(Usage(early_byte_us=amount))


class _Rows(NamedTuple):
    codes: Integers
    began: Integers
    ended: Integers
    stored: Integers
    logical: Integers
    objects: Integers

    def only(self, mask: npt.NDArray[np.bool_]) -> _Rows:
        places = np.flatnonzero(mask)
        return _Rows(*(column[places] for column in self))


def _groups(table: pa.Table) -> tuple[Integers, list[Group]]:
    """Return the number of each row's group, and the groups by number."""
    codes = np.zeros(table.num_rows, np.int64)
    values: list[list[object]] = []
    for name in ("tier", "preset", "department", "estimated", "rule"):
        column = table[name]
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode(null_encoding="encode")
        values.append(encoded.dictionary.to_pylist())
        codes = codes * len(values[-1]) + encoded.indices.to_numpy().astype(np.int64)
    found, numbers = np.unique(codes, return_inverse=True)
    return numbers, [_group(int(code), values) for code in found]


def _group(code: int, values: Sequence[Sequence[object]]) -> Group:
    parts: list[object] = []
    for names in reversed(values):
        code, place = divmod(code, len(names))
        parts.append(names[place])
    rule, estimated, department, preset, tier = parts
    unit = None if department is None else str(department)
    return Group(str(tier), str(preset or ""), unit, bool(estimated), str(rule or ""))
