"""When each copy lay where: from events that tell of its begin and its end, checked against the catalogue's copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.events import EventKind
from wsistore.reports.runs import found_in, runs

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_MOMENT = pa.timestamp("us", tz="UTC")
SLIDES = pa.schema([("slide", pa.string()), ("bytes_source", pa.int64()), ("department", pa.string())])
"""What is known of slides, by key."""
COPIES = pa.schema(
    [
        ("slide", pa.string()),
        ("tier", pa.string()),
        ("commit", pa.string()),
        ("preset", pa.string()),
        ("bytes_stored", pa.int64()),
        ("objects", pa.int64()),
        ("since", _MOMENT),
    ]
)
"""Copies that the catalogue knows to take room now."""
INTERVALS = pa.schema(
    [
        ("slide", pa.string()),
        ("tier", pa.string()),
        ("commit", pa.string()),
        ("preset", pa.string()),
        ("department", pa.string()),
        ("began", _MOMENT),
        ("ended", _MOMENT),
        ("bytes_stored", pa.int64()),
        ("bytes_logical", pa.int64()),
        ("objects", pa.int64()),
        ("estimated", pa.bool_()),
        ("rule", pa.string()),
    ]
)
"""One row per copy that ever was. ``ended`` is null of what is still there; ``estimated`` where the event of its
begin or its end is lost, as after a catalogue was made anew; ``rule`` is the placement rule that wanted it there."""
OPEN = np.iinfo(np.int64).max
"""In microseconds: not ended."""
_BEGINS = pa.array([str(EventKind.INGESTED), str(EventKind.COPIED), str(EventKind.REENCODED)])


def intervals(told: pa.Table, slides: pa.Table, copies: pa.Table) -> pa.Table:
    """Return when each copy of some slides lay where.

    Parameters
    ----------
    told
        Whole chains of these slides, of `wsistore.reports.happened.HAPPENED`, by slide and number.
    slides
        Of `SLIDES`; a slide that is not in it has neither department nor size of its own.
    copies
        Of `COPIES`, of these slides.

    Returns
    -------
    pyarrow.Table
        Of `INTERVALS`, by slide and begin.

    """
    begins, ends = _placed(told, pc.is_in(told["kind"], value_set=_BEGINS)), _dropped(told)
    begun, gone, there, count = _codes(begins, ends, copies)
    found = _Lives(count)
    found.end(gone, _micros(ends["at"]))
    first = np.unique(begun, return_index=True)[1]
    rows = [_rows(begins.take(first), "at", begun[first], estimated=False)]
    is_known = np.zeros(count, np.bool_)
    is_known[begun] = True
    lost = np.unique(gone[~is_known[gone]], return_index=True)[1]
    orphans = ends.filter(~is_known[gone]).take(lost)
    rows.append(_rows(_since_first(orphans, told), "at", gone[~is_known[gone]][lost], estimated=True))
    new = ~is_known[there] & (found.ended[there] == OPEN)
    rows.append(_rows(copies.filter(new), "since", there[new], estimated=True))
    table = pa.concat_tables(rows)
    is_there = np.zeros(count, np.bool_)
    is_there[there] = True
    return _finished(table, found, told, slides, is_there)


class _Lives:
    """When copies ended, by the number of their place."""

    def __init__(self, count: int) -> None:
        self.ended: Integers = np.full(count, OPEN, np.int64)

    def end(self, codes: Integers, at: Integers) -> None:
        np.minimum.at(self.ended, codes, at)


def _placed(told: pa.Table, mask: Any) -> pa.Table:
    whole = pc.and_(pc.is_valid(told["commit"]), pc.and_(pc.is_valid(told["tier"]), pc.is_valid(told["bytes_stored"])))
    return told.filter(pc.and_(mask, whole))


def _dropped(told: pa.Table) -> pa.Table:
    return _placed(told, pc.equal(told["kind"], str(EventKind.DROPPED)))


def _codes(*tables: pa.Table) -> tuple[Integers, Integers, Integers, int]:
    """Return the numbers of the places that rows of three tables speak of, and how many places there are."""
    keys = [pc.binary_join_element_wise(table["tier"], table["commit"], "\n") for table in tables]
    encoded = pa.chunked_array([chunk for key in keys for chunk in key.chunks], pa.string()).combine_chunks()
    encoded = encoded.dictionary_encode()
    numbers = encoded.indices.to_numpy().astype(np.int64)
    begun, gone, there = np.split(numbers, np.cumsum([len(key) for key in keys[:2]]))
    return begun, gone, there, len(encoded.dictionary)


def _micros(moments: pa.ChunkedArray) -> Integers:
    found: Integers = moments.cast(pa.int64()).to_numpy()
    return found


def _rows(table: pa.Table, begins: str, codes: Integers, *, estimated: bool) -> pa.Table:
    names = ["slide", "tier", "commit", "preset", begins, "bytes_stored", "objects"]
    columns = [table[name] for name in names]
    rule = table["rule"] if "rule" in table.column_names else pa.nulls(table.num_rows, pa.string())
    flags = pa.array(np.full(table.num_rows, estimated))
    names[4] = "began"
    return pa.table([*columns, rule, flags, pa.array(codes)], names=[*names, "rule", "estimated", "code"])


def _since_first(orphans: pa.Table, told: pa.Table) -> pa.Table:
    """Return drops of copies whose begin is lost, with the slide's first event in the place of their moment."""
    if not orphans.num_rows:
        return orphans
    firsts = told.group_by("slide").aggregate([("at", "min")])
    place = pc.index_in(orphans["slide"], value_set=firsts["slide"])
    return orphans.set_column(orphans.schema.get_field_index("at"), "at", firsts["at_min"].take(place))


def _finished(table: pa.Table, lives: _Lives, told: pa.Table, slides: pa.Table, is_there: Flags) -> pa.Table:
    codes = table["code"].to_numpy()
    ended, estimated = lives.ended[codes].copy(), table["estimated"].to_numpy().copy()
    began = _micros(table["began"])
    for kind, always in ((EventKind.DELETED, True), (EventKind.REBUILT, False)):
        # What a slide's deletion ended; what was not found any more when the catalogue was made anew.
        at = _last(told, kind, table["slide"])
        if at is None:
            continue
        mine = (ended == OPEN) & (at != OPEN) & (at > began) & (always | ~is_there[codes])
        ended[mine] = at[mine]
        estimated[mine] |= not always
    place = found_in(table["slide"], slides["slide"].combine_chunks())
    logical = pc.coalesce(slides["bytes_source"].take(place), table["bytes_stored"])
    moments = pa.array(np.where(ended == OPEN, 0, ended), mask=ended == OPEN).cast(pa.timestamp("us")).cast(_MOMENT)
    columns = {
        **{name: table[name] for name in ("slide", "tier", "commit", "preset", "rule", "began", "bytes_stored")},
        "department": slides["department"].take(place),
        "ended": moments,
        "bytes_logical": logical,
        "objects": pc.fill_null(table["objects"], 0),
        "estimated": pa.array(estimated),
    }
    done = pa.table([columns[name] for name in INTERVALS.names], schema=INTERVALS).combine_chunks()
    return done.take(pa.array(_order(done, began, codes)))


def _order(table: pa.Table, began: Integers, codes: Integers) -> Integers:
    """Return the order by slide and begin; of equal ones, as events speak of them."""
    mine = runs(table["slide"])
    ranks = pc.rank(mine.values, tiebreaker="dense").to_numpy().astype(np.int64)
    order: Integers = np.lexsort((codes, began, ranks[mine.numbers]))
    return order


def _last(told: pa.Table, kind: EventKind, wanted: pa.ChunkedArray) -> Integers | None:
    """Return when an event of a kind happened last to each of the slides (`OPEN`: never); None if to none of them."""
    mine = told.filter(pc.equal(told["kind"], str(kind)))
    if not mine.num_rows:
        return None
    latest = mine.group_by("slide").aggregate([("at", "max")])
    place = found_in(wanted, latest["slide"].combine_chunks())
    found: Integers = pc.fill_null(latest["at_max"].take(place).cast(pa.int64()), OPEN).to_numpy()
    return found
