"""From Arrow's columns to NumPy's arrays and masks, for deciding in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000
EPOCH = date(1970, 1, 1)
_EPOCH_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = (date.min - EPOCH).days
_LAST_DAY = (date.max - EPOCH).days


@dataclass(frozen=True, slots=True)
class Moments:
    """The present: one for all rows, or one for each."""

    us: Ints
    """Microseconds since 1970 in UTC; of shape (1,) or (rows,)."""
    today: Ints
    """Days since 1970 in the rules' time zone; of the same shape."""

    @classmethod
    def of(cls, moments: Sequence[datetime], zone: tzinfo) -> Moments:
        """Return what `moments` (timezone-aware) are."""
        us = [(moment - _EPOCH_MOMENT) // timedelta(microseconds=1) for moment in moments]
        days = [(moment.astimezone(zone).date() - EPOCH).days for moment in moments]
        return cls(np.array(us, np.int64), np.array(days, np.int64))

    def arrow(self, rows: int) -> pa.Array:
        """Return them as a column of `rows` values, ``timestamp[us]``."""
        return pa.array(np.broadcast_to(self.us, (rows,)).astype("datetime64[us]"))


@dataclass(frozen=True, slots=True)
class Column:
    """A column's values, and where they are known; elsewhere they are 0."""

    values: Ints
    known: Flags


def flags(column: pa.ChunkedArray) -> tuple[Flags, Flags]:
    """Return where a column of truth values is true, and where it is unknown."""
    true = np.asarray(pc.fill_null(column, False), dtype=np.bool_)
    return true, np.asarray(pc.is_null(column), dtype=np.bool_)


def days(column: pa.ChunkedArray, zone: tzinfo = UTC) -> Column:
    """Return a column of days or moments as days since 1970: a moment within a day is the next day's.

    The day is that of UTC or that of `zone`, whichever is later: nothing ends before its moment. Midnight of UTC is no
    moment but a day. What lies beyond the calendar (infinity) is unknown.
    """
    known = np.asarray(pc.is_valid(column), dtype=np.bool_)
    if pa.types.is_date32(column.type):
        values = _integers(column, pa.int32())
    else:
        us = _integers(column.cast(pa.timestamp("us")), pa.int64())
        values = -(-us // DAY_US)
        within = (us % DAY_US != 0) & (values > _FIRST_DAY + 1) & (values < _LAST_DAY - 1)
        if zone is not UTC and within.any():
            local = us[within] + _offsets(us[within], zone)
            values[within] = np.maximum(values[within], -(-local // DAY_US))
    known = known & (values >= _FIRST_DAY) & (values <= _LAST_DAY)
    return Column(np.where(known, values, 0), known)


def _offsets(us: Ints, zone: tzinfo) -> Ints:
    """Return how far a zone is ahead of UTC at moments, in microseconds."""
    hours, place = np.unique(us // _HOUR_US, return_inverse=True)
    ahead = [(_EPOCH_MOMENT + timedelta(hours=int(hour))).astimezone(zone).utcoffset() for hour in hours]
    found = np.array([(one or timedelta()) // timedelta(microseconds=1) for one in ahead], np.int64)
    offsets: Ints = found[place]
    return offsets


def moments(column: pa.ChunkedArray) -> Column:
    """Return a column of moments as microseconds since 1970."""
    known = np.asarray(pc.is_valid(column), dtype=np.bool_)
    return Column(_integers(column.cast(pa.timestamp("us")), pa.int64()), known)


def integers(column: pa.ChunkedArray) -> Ints:
    """Return a column of whole numbers, 0 where they are unknown."""
    return _integers(column, pa.int64())


def codes(column: pa.ChunkedArray | pa.Array) -> tuple[Ints, list[Any]]:
    """Return each value's number among those that there are, -1 for unknown ones, and these values."""
    encoded = pc.dictionary_encode(column)
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    indices = pc.fill_null(encoded.indices, -1)
    return np.asarray(indices, dtype=np.int64), encoded.dictionary.to_pylist()


def without_unknown(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of lists in which unknown ones are empty."""
    if not column.null_count:
        return column
    whole = column.combine_chunks()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(whole), 0), dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), pc.list_flatten(whole), type=column.type)])


def texts(values: Sequence[str | None], numbers: Ints) -> pa.Array:
    """Return the text that each number stands for; null for -1."""
    return pa.array(values, pa.string()).take(pa.array(numbers, mask=numbers < 0))


def as_days(values: Ints, known: Flags) -> pa.Array:
    """Return days since 1970 as ``date32``, null where they are not known."""
    return pa.array(values.astype(np.int32), mask=~known).cast(pa.date32())


def to_date(day: int) -> date:
    """Return a day since 1970 as a date."""
    return EPOCH + timedelta(days=int(day))


def _integers(column: pa.ChunkedArray, kind: pa.DataType) -> Ints:
    plain = column.cast(kind)
    return np.asarray(pc.fill_null(plain, 0), dtype=np.int64)
