"""The catalogue metered part by part: here for a small site, in processes or on Dask for a large one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.catalog.metering import part_bounds
from wsistore.execute import Done, Engine, open_executor
from wsistore.model import CopyState
from wsistore.ops.report_data import Read, read_portions
from wsistore.ops.site import Site, open_site
from wsistore.reports.columns import EVENTS, INVENTORY, schema_of
from wsistore.reports.metering import Meter
from wsistore.reports.periods import Month
from wsistore.reports.reconciling import Expected

SLIDES_OF_PART = 250_000
"""Of one task: a few seconds' work."""
_MEMORY_BYTES = 1_000_000_000
_MOVING = pa.array(sorted(map(str, (CopyState.DROPPING, CopyState.DELETING))))
"""States in which a part of a copy may lie there."""


@dataclass(frozen=True, slots=True)
class Task:
    """Which slides are to be metered, and how; pickles."""

    folder: Path
    """The site."""
    months: tuple[Month, ...]
    least_us: Mapping[str, int]
    """By tier, what it charges for a copy at least."""
    until_us: int
    classes: Mapping[str, str]
    """Price lists by tier."""
    moment: Month | None
    """The month whose inventory and events are wanted; None: of none."""
    after: str = ""
    """Keys above this one …"""
    until: str | None = None
    """… up to this one; None: all."""


@dataclass(slots=True)
class Part:
    """What some slides came to."""

    meter: Meter
    expected: dict[str, Expected] = field(default_factory=dict)
    """By tier, what should lie there now."""
    moving: set[str] = field(default_factory=set)
    """Attempts of which a part may lie there."""
    inventory: list[pa.Table] = field(default_factory=list)
    events: list[pa.Table] = field(default_factory=list)
    slides: int = 0


def metered(
    site: Site, task: Task, *, scheduler: str | None = None, workers: int | None = None, tell: Callable[[str], object]
) -> Iterator[Part]:
    """Yield parts of a site, by key; the same parts whoever does them.

    Parameters
    ----------
    site
        An open site.
    task
        What is wanted; of all slides.
    scheduler
        A Dask scheduler, whose workers reach the site's folder; by default processes of this machine.
    workers
        How many processes; by default one per core.
    tell
        Gets a sentence where there is something to wait for.

    Raises
    ------
    SiteError
        If the catalogue fails.
    WorkersError
        If workers fail.

    """
    bounds = part_bounds(site.catalog, SLIDES_OF_PART)
    ends = [*bounds, None]
    tasks = [replace(task, after=after, until=end) for after, end in zip(["", *bounds], ends, strict=True)]
    if len(tasks) == 1 or (workers == 1 and scheduler is None):
        for one in tasks:
            yield meter_part(site, one)
        return
    engine = Engine.DASK if scheduler else Engine.PROCESSES
    with open_executor(engine, scheduler=scheduler, workers=workers, tell=tell, clock=site.clock) as executor:
        done = executor.run(meter_elsewhere, tasks, memory_bytes=_MEMORY_BYTES)
        with closing(done):  # type: ignore[type-var]
            yield from _in_order(done)


def _in_order(done: Iterator[Done[Task, Part]]) -> Iterator[Part]:
    waiting: dict[int, Part] = {}
    following = 0
    for one in done:
        waiting[one.index] = one.result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def meter_elsewhere(task: Task) -> Part:
    """Meter some slides in a worker, which opens the site for reading."""
    with open_site(task.folder, read_only=True) as site:
        return meter_part(site, task)


def meter_part(site: Site, task: Task) -> Part:
    """Meter some slides."""
    part = Part(Meter(task.months, task.least_us, until_us=task.until_us))
    for read in read_portions(site, after=task.after, until=task.until):
        part.meter.add(read.lying, read.told)
        _expect(part, read)
        part.slides += read.slides
        if task.moment is not None:
            part.inventory.append(_inventory(read.lying, task, task.moment))
            part.events.append(_events(read.told, task.moment))
    return part


def _inventory(lying: pa.Table, task: Task, month: Month) -> pa.Table:
    """Return what lay there when the month ended; of one that is not over, now."""
    at = pa.scalar(min(month.ends_us, task.until_us), pa.int64()).cast(pa.timestamp("us")).cast(lying["began"].type)
    is_there = pc.or_kleene(pc.is_null(lying["ended"]), pc.greater_equal(lying["ended"], at))
    mine = lying.filter(pc.and_(pc.less(lying["began"], at), is_there))
    names = ["tier", "commit", "bytes_stored", "began", "", "objects", "bytes_logical", "slide", "preset"]
    classes = pa.array([task.classes.get(tier, "") for tier in mine["tier"].to_pylist()], pa.string())
    columns = [mine[name] if name else classes for name in names]
    table = pa.table([*columns, mine["department"], mine["estimated"]], schema=schema_of(INVENTORY))
    return table.sort_by([(name, "ascending") for name in ("Slide", "Bucket", "Key")])


def _events(told: pa.Table, month: Month) -> pa.Table:
    begins, ends = (pa.scalar(moment, told["at"].type) for moment in (month.begins, month.ends))
    mine = told.filter(pc.and_(pc.greater_equal(told["at"], begins), pc.less(told["at"], ends)))
    names = ["slide", "number", "at", "kind", "tier", "from", "preset", "version", "bytes_stored", "objects"]
    read = pc.coalesce(mine["bytes_read"], mine["bytes_before"])
    columns = [*(mine[name] for name in names), read, mine["cpu_seconds"], mine["retrieval"]]
    return pa.table(columns, schema=schema_of(EVENTS))


def _expect(part: Part, read: Read) -> None:
    """Note what should lie on the tiers now, as the events tell."""
    copies = read.copies
    is_moving = pc.is_in(copies["state"], value_set=_MOVING)
    part.moving |= set(copies["attempt"].filter(is_moving).to_pylist())
    now = read.lying.filter(pc.is_null(read.lying["ended"]))
    keys = [pc.binary_join_element_wise(table["tier"], table["commit"], "\n") for table in (now, copies)]
    row = pc.index_in(keys[0], value_set=keys[1].combine_chunks() if copies.num_rows else pa.array([], pa.string()))
    moves = pc.fill_null(is_moving.take(row), False)
    for tier in pc.unique(now["tier"]).to_pylist():
        mine = pc.and_(pc.equal(now["tier"], tier), pc.invert(moves))
        expected = part.expected.setdefault(tier, Expected())
        expected.lost(pc.sum(now["bytes_stored"].filter(pc.and_(mine, pc.is_null(row)))).as_py() or 0)
        known = pc.and_(mine, pc.is_valid(row))
        there = copies.take(row.filter(known))
        expected.copies(there["attempt"], now["bytes_stored"].filter(known), there["commit_bytes"])
