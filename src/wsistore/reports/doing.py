"""What was done in certain months, from events: requests, bytes read and written, recalls, encoding; in bulk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.events import EventKind
from wsistore.reports.periods import Month
from wsistore.reports.runs import found_in, runs
from wsistore.reports.usage import Group, Usage

_MADE = tuple(map(str, (EventKind.INGESTED, EventKind.COPIED, EventKind.REENCODED)))
_READ = tuple(map(str, (EventKind.VERIFIED, EventKind.RESTORED, EventKind.EXPORTED)))
_RECALLED = (str(EventKind.RECALL_BEGUN),)
_FIGURES = ("objects", "bytes_stored", "bytes_read", "objects_read", "bytes_asked", "cpu_us")

Found = tuple[Month, Group, Usage]


def done_in(months: Sequence[Month], told: pa.Table, lying: pa.Table) -> Iterator[Found]:
    """Yield what was done, summed by month and group.

    Parameters
    ----------
    months
        That are asked for; they follow one another without gaps, or do not touch.
    told
        Events, of `wsistore.reports.happened.HAPPENED`. A figure that an event does not tell counts as nothing.
    lying
        Of `wsistore.reports.intervals.INTERVALS`: says which department a slide is of.

    """
    number = _month_numbers(months, told["at"].cast(pa.int64()).to_numpy())
    mine = pa.array(number >= 0)
    if not pc.any(mine).as_py():
        return
    told = told.filter(mine)
    departments = _departments(lying, told["slide"])
    micros = pc.round(pc.multiply(pc.fill_null(told["cpu_seconds"], 0.0), 1e6)).cast(pa.int64())
    table = told.append_column("month", pa.array(number[number >= 0])).append_column("department", departments)
    # Older events tell only the size of the copy that theirs was compared with.
    table = _with(table, "bytes_read", pc.coalesce(table["bytes_read"], table["bytes_before"]))
    table = table.append_column("cpu_us", pc.if_else(pc.less(micros, 0), 0, micros))
    for row in _summed(table, _MADE, "tier"):
        size, objects = row["bytes_stored_sum"], row["objects_sum"]
        # What is written is read back before it counts.
        usage = Usage(
            copies_made=row["count_all"],
            puts=objects,
            gets=objects,
            bytes_written=size,
            bytes_read=size,
            cpu_us=row["cpu_us_sum"],
        )
        yield months[row["month"]], _group(row, "tier"), usage
    for row in _summed(table, _MADE, "from"):
        usage = Usage(gets=row["objects_read_sum"], bytes_read=row["bytes_read_sum"])
        yield months[row["month"]], _group(row, "from"), usage
    for row in _summed(table, _READ, "tier"):
        usage = Usage(gets=row["objects_sum"], bytes_read=row["bytes_read_sum"])
        yield months[row["month"]], _group(row, "tier"), usage
    for row in _summed(table, _RECALLED, "tier"):
        way = str(row["retrieval"] or "")
        usage = Usage(restored={way: (row["bytes_asked_sum"], row["objects_sum"])})
        yield months[row["month"]], _group(row, "tier"), usage


def _with(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def _month_numbers(months: Sequence[Month], at: Any) -> Any:
    found = np.full(len(at), -1, np.int64)
    for place, month in enumerate(months):
        found[(at >= month.begins_us) & (at < month.ends_us)] = place
    return found


def _departments(lying: pa.Table, wanted: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the department of each slide that is asked for."""
    mine = runs(lying["slide"])
    firsts = np.flatnonzero(np.diff(mine.numbers, prepend=-1))
    return lying["department"].take(pa.array(firsts)).take(found_in(wanted, mine.values))


def _summed(table: pa.Table, kinds: Sequence[str], tier: str) -> list[dict[str, Any]]:
    mine = table.filter(pc.and_(pc.is_in(table["kind"], value_set=pa.array(kinds)), pc.is_valid(table[tier])))
    if not mine.num_rows:
        return []
    sums: list[Any] = [(name, "sum") for name in _FIGURES]
    groups = mine.group_by(["month", tier, "preset", "department", "retrieval", "rule"])
    rows: list[dict[str, Any]] = groups.aggregate([*sums, ([], "count_all")]).to_pylist()
    return [{key: 0 if key.endswith("_sum") and value is None else value for key, value in row.items()} for row in rows]


def _group(row: dict[str, Any], tier: str) -> Group:
    # The preset is that of the copy that was made; of what was only read, the event does not tell it.
    preset = "" if tier == "from" else str(row["preset"] or "")
    rule = "" if tier == "from" else str(row["rule"] or "")
    return Group(str(row[tier]), preset, row["department"], False, rule)
