"""Twelve months' report of a made-up site: from events to rows of FOCUS, with what it takes in time and memory.

Prints a table, and as its last line one JSON object. There is no peer that meters slides; the floor is the design's:
ten million slides in 60 seconds and 4 GB on 2 cores. Time is that of the processor: what the machine does besides does
not count, nor does making the events up or reading them out of a database. `time_from_json` has the parsing of
their details in it, `time_from_columns` has not.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bench.support.report import Report, show, stdout
from wsistore.reports.focus import rows_of, table_of
from wsistore.reports.happened import RAW, happened
from wsistore.reports.intervals import COPIES, SLIDES, intervals
from wsistore.reports.metering import Meter
from wsistore.reports.models import TierCosts, charges
from wsistore.reports.periods import US_PER_HOUR, months_of_year
from wsistore.reports.samples import Draws
from wsistore.reports.terms import TierModel
from wsistore.tiers.grid import load_grid
from wsistore.tiers.prices import load_prices

SLIDES_AT_ONCE = 100_000
YEAR = 2026
WHOLE = 10_000_000
MOST_SECONDS, MOST_BYTES = 60.0, 4 * 10**9
DEPARTMENTS = 12
TIERS = {"hot": "hospital-disk", "warm": "ovh-standard", "cold": "ovh-cold-archive"}
_DAY_US = 24 * US_PER_HOUR
_LEAST = {"cold": 180 * _DAY_US}


class Part(NamedTuple):
    """What one process made."""

    meter: Meter
    seconds: dict[str, float]
    peak_bytes: int
    events: int


def made_up(first: int, count: int, seed: int = 7) -> tuple[pa.Table, pa.Table]:
    """Return events (`RAW`) and slides of a hospital: in hot for months, then in warm, then in cold.

    Slides come over the three years to the end of `YEAR`, so that some lie in each tier and some come in between.
    """
    random = np.random.default_rng([seed, first])
    keys = np.char.add("s", np.char.zfill(np.arange(first, first + count).astype(str), 19))
    begin = np.datetime64(f"{YEAR - 2}-01-01", "us").astype(np.int64)
    came = begin + random.integers(0, 3 * 365 * _DAY_US, count)
    size = random.integers(4 * 10**8, 5 * 10**9, count)
    end = np.datetime64(f"{YEAR + 1}-01-01", "us").astype(np.int64)
    steps: list[tuple[str, str, int, int, int]] = [  # kind, tier, commit's number, days after, percent of the size
        ("ingested", "hot", 1, 0, 100),
        ("copied", "warm", 1, 90, 74),
        ("dropped", "hot", 1, 91, 100),
        ("copied", "cold", 1, 730, 70),
        ("dropped", "warm", 1, 731, 74),
    ]
    tables = []
    for number, (kind, tier, commit, days, percent) in enumerate(steps, 1):
        at = came + days * _DAY_US
        happens = at < end
        sizes = size[happens] * percent // 100
        texts = np.char.add('{"attempt":"a","bytes_stored":', sizes.astype(str))
        texts = np.char.add(texts, ',"commit":"commits/')
        texts = np.char.add(np.char.add(texts, keys[happens]), f'/{commit:08}.json","cpu_seconds":41.5,"evidence":')
        texts = np.char.add(
            texts, f'"read-back","from":"hot","objects":22,"preset":"fold","tier":"{tier}","version":1}}'
        )
        moments = pa.array(at[happens]).cast(pa.timestamp("us")).cast(RAW.field("at").type)
        kinds = pa.array(np.full(len(sizes), kind))
        numbers = pa.array(np.full(len(sizes), number, np.int32))
        tables.append(pa.table([pa.array(keys[happens]), numbers, moments, kinds, pa.array(texts)], RAW))
    units = pa.array([f"UNIT-{n:02}" for n in range(DEPARTMENTS)])
    unit = units.take(pa.array(random.integers(0, DEPARTMENTS, count)))
    raw = pa.concat_tables(tables).sort_by([("slide", "ascending"), ("number", "ascending")]).combine_chunks()
    return raw, pa.table([pa.array(keys), pa.array(size), unit], SLIDES)


def portions(first: int, count: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield the made-up site's slides from number `first` on, a portion at a time."""
    for start in range(first, first + count, SLIDES_AT_ONCE):
        yield made_up(start, min(SLIDES_AT_ONCE, first + count - start))


def meter_part(span: tuple[int, int], *, months: int) -> Part:
    """Meter some of the slides in this process."""
    meter = Meter(months_of_year(YEAR, "Europe/Paris")[:months], _LEAST)
    seconds = {"parse": 0.0, "intervals": 0.0, "sums": 0.0}
    events, none = 0, COPIES.empty_table()
    for raw, slides in portions(*span):
        began = time.process_time()
        told = happened(raw)
        parsed = time.process_time()
        lying = intervals(told, slides, none)
        found = time.process_time()
        meter.add(lying, told)
        summed = time.process_time()
        for name, spent in zip(seconds, (parsed - began, found - parsed, summed - found), strict=True):
            seconds[name] += spent
        events += raw.num_rows
    return Part(meter, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, events)


def rows_from(meter: Meter) -> tuple[int, float]:
    """Return how many rows of FOCUS the months have, and the seconds that they took."""
    began = time.process_time()
    draws, grid = Draws(), load_grid()
    models = {name: TierModel(name=name, prices=load_prices(prices)) for name, prices in TIERS.items()}
    count = 0
    for month, metered in meter.by_month.items():
        costs = {name: TierCosts(model, month.year, grid, draws) for name, model in models.items()}
        rows = rows_of(charges(metered, month, costs), month, costs, account="CHU")
        count += table_of(rows).num_rows
    return count, time.process_time() - began


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=WHOLE)
    parser.add_argument("--months", type=int, default=12, choices=range(1, 13))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    share = -(-options.slides // options.processes)
    spans = [(start, min(share, options.slides - start)) for start in range(0, options.slides, share)]
    with ProcessPoolExecutor(options.processes) as pool:
        parts = list(pool.map(partial(meter_part, months=options.months), spans))
    meter = parts[0].meter
    for part in parts[1:]:
        meter.merge(part.meter)
    rows, last = rows_from(meter)
    memory = sum(part.peak_bytes for part in parts)
    parsing = max(part.seconds["parse"] for part in parts)
    busiest = max(sum(part.seconds.values()) for part in parts)
    # What a smaller run says of ten million slides; memory does not grow with slides.
    scale = WHOLE / options.slides
    whole = (busiest - parsing) * scale + last
    found = Report("report", {"time_from_columns": 1.0, "memory": 1.0})
    found.add("time_from_columns", MOST_SECONDS / whole)
    found.add("time_from_json", MOST_SECONDS / (whole + parsing * scale))
    found.add("memory", MOST_BYTES / memory)
    shown = {
        "events": f"{sum(part.events for part in parts):,}",
        "rows of FOCUS": f"{rows:,}",
        **{name: f"{max(part.seconds[name] for part in parts):.1f} s" for name in parts[0].seconds},
        "rows": f"{last:.1f} s",
        "ten million slides, from events as columns": f"{whole:.1f} s",
        "ten million slides, from events as JSON": f"{whole + parsing * scale:.1f} s",
        "peak memory of all processes": f"{memory / 1e9:.2f} GB",
    }
    title = f"{options.slides:,} slides, {options.months} months, {options.processes} processes"
    show(stdout(), title, ("", ">"), shown.items())
    found.close(stdout())
    return 0


if __name__ == "__main__":
    sys.exit(main())
