"""How many slides were kept, and how large their vendor's files are, each slide once however many copies it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wsistore.errors import InputError
from wsistore.events import EventKind
from wsistore.reports.exact import product_sums
from wsistore.reports.intervals import Integers
from wsistore.reports.periods import Month, micros
from wsistore.reports.sets import CHAINS, INVENTORIES, PART, partition

_FOREIGN = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
_LOOKED_AT = ["Slide", "LogicalSize", "LastModifiedDate", "IsEstimated"]


@dataclass(frozen=True, slots=True)
class Kept:
    """On average over a month."""

    slides: float = 0.0
    bytes_logical: float = 0.0
    """Of the vendor's files, one per slide; a slide that was deleted in the month counts as none: its size is gone."""


def read_kept(out: Path, month: Month, until: datetime) -> Kept:
    """Return what was kept in a month, from ``inventory/`` and ``events/``.

    Parameters
    ----------
    out
        Folder of the sets.
    month
        The month.
    until
        What was metered up to, where the month was not over.

    Raises
    ------
    InputError
        If a file of them cannot be read.

    """
    end = min(month.ends_us, micros(until))
    try:
        begun, deleted = _happened(partition(out, CHAINS, month) / PART, month, end)
        slide_us, byte_us = deleted, 0
        for table in _by_slide(partition(out, INVENTORIES, month) / PART):
            lived = _lived(table, begun, month, end)
            slide_us += int(lived.sum())
            sizes = table["LogicalSize_max"].to_numpy()
            if len(sizes):
                byte_us += product_sums(sizes, lived, np.zeros(1, np.int64))[0]
    except _FOREIGN as error:
        msg = f"{out}: the inventory or the events of {month} cannot be read ({error})."
        raise InputError(msg, remedy="Put them back from a backup, or report the month again.") from error
    return Kept(slide_us / month.length_us, byte_us / month.length_us)


def _happened(path: Path, month: Month, end: int) -> tuple[dict[str, int], int]:
    """Return when slides came in the month, and how long those were kept that were deleted in it."""
    kinds = [str(EventKind.INGESTED), str(EventKind.DELETED)]
    table = pq.read_table(path, columns=["Slide", "At", "Kind"], filters=[("Kind", "in", kinds)], partitioning=None)
    table = table.set_column(1, "At", table["At"].cast(pa.int64()))
    came = table.filter(pc.equal(table["Kind"], kinds[0])).group_by("Slide").aggregate([("At", "min")])
    first = _firsts(path)
    begun = {slide: at for slide, at in zip(*_lists(came, "Slide", "At_min"), strict=True) if slide in first}
    gone = table.filter(pc.equal(table["Kind"], kinds[1]))
    ends = zip(*_lists(gone, "Slide", "At"), strict=True)
    deleted = sum(max(min(at, end) - begun.get(slide, month.begins_us), 0) for slide, at in ends)
    return begun, deleted


def _firsts(path: Path) -> set[str]:
    """Return the slides whose chain began in the month: others were there before, and got a new version."""
    table = pq.read_table(path, columns=["Slide"], filters=[("Number", "==", 1)], partitioning=None)
    return set(table["Slide"].to_pylist())


def _lists(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]


def _by_slide(path: Path) -> Iterator[pa.Table]:
    """Yield what is known of each slide that was there at the end, a portion at a time."""
    waiting: list[pa.Table] = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=_LOOKED_AT):
            table = pa.concat_tables([*waiting, pa.Table.from_batches([batch])])
            # The last slide may go on in the next batch: the set is sorted by slide.
            cut = pc.index(table["Slide"], table["Slide"][-1]).as_py() if table.num_rows else 0
            waiting = [table.slice(cut)]
            yield _summed(table.slice(0, cut))
    if waiting:
        yield _summed(waiting[0])


def _summed(table: pa.Table) -> pa.Table:
    sums: Any = [("LogicalSize", "max"), ("LastModifiedDate", "min"), ("IsEstimated", "max")]
    return table.group_by("Slide").aggregate(sums)


def _lived(table: pa.Table, begun: dict[str, int], month: Month, end: int) -> Integers:
    """Return for how many microseconds of the month each slide was there; (slides,)."""
    since = table["LastModifiedDate_min"].cast(pa.int64()).to_numpy()
    begins = np.full(table.num_rows, month.begins_us, np.int64)
    if begun:
        place = pc.index_in(table["Slide"], value_set=pa.array(list(begun), pa.string()))
        begins = pc.fill_null(pa.array(list(begun.values()), pa.int64()).take(place), month.begins_us).to_numpy()
    # Where the event of a copy's begin is lost, the copy's moment is all that is known of it.
    begins = np.where(table["IsEstimated_max"].to_numpy(), since, begins)
    lived: Integers = np.maximum(end - np.maximum(begins, month.begins_us), 0)
    return lived
