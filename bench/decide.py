"""Deciding about ten million slides: read from Parquet, decided by the rules of a French hospital, written to Parquet.

Prints tables, and as its last line one JSON object: by how much the time is below the limit of 30 s and the memory
below that of 4 GB, on two processors. A missed floor is shown, and is no failure: speed depends on the machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.support.places import workspace
from bench.support.report import Report, show, stderr, stdout
from wsistore.model import Preset
from wsistore.testing.catalogue import Hospital, made_facts
from wsistore.tiers.rules import Rules, TierFacts, decide
from wsistore.tiers.rules.shipped import shipped

SLIDES = 10_000_000
LIMIT_SECONDS = 30.0
LIMIT_BYTES = 4_000_000_000
FLOORS = {"time_below_limit": 1.0, "memory_below_limit": 1.0}
PART = 250_000
"""Slides in a file, and so in memory at once in each process."""
TIERS = {
    "hot": TierFacts(),
    "warm": TierFacts(preset=Preset.FOLD),
    "cold": TierFacts(preset=Preset.PACK, archive=True),
}


@dataclass(frozen=True, slots=True)
class Part:
    """What one process tells of one file."""

    actions: dict[str, int]
    read_seconds: float
    decide_seconds: float
    write_seconds: float
    cpu_seconds: float
    peak_bytes: int


def rules_of_the_bench() -> Rules:
    """Return the rules that are decided by."""
    return shipped("slides-of-interest").rules().bind(TIERS)


def make(path: Path, number: int, slides: int) -> int:
    """Write one file of facts; return its size."""
    pq.write_table(made_facts(slides, first=number * PART), path, compression="lz4")
    return path.stat().st_size


def decide_part(source: Path, target: Path, rules: Rules) -> Part:
    """Decide about the slides of one file."""
    times, cpu = [time.perf_counter()], time.process_time()
    facts = pq.read_table(source, columns=list(rules.columns), use_threads=False)
    times.append(time.perf_counter())
    found = decide(facts, rules, Hospital().at, threads=1)
    times.append(time.perf_counter())
    pq.write_table(found, target, compression="lz4")
    times.append(time.perf_counter())
    counts = {str(one["values"]): int(one["counts"]) for one in pc.value_counts(found["action"]).to_pylist()}
    read, weighed, written = (later - sooner for sooner, later in pairwise(times))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Part(counts, read, weighed, written, time.process_time() - cpu, peak)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.decide", description=__doc__)
    parser.add_argument("--slides", type=int, default=SLIDES)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="where to work (default: .bench/tmp); a gigabyte for ten million slides"
    )
    options = parser.parse_args(arguments)
    if min(options.slides, options.processes, options.rounds) < 1:
        parser.error("--slides, --processes and --rounds must be at least 1")
    try:
        _measure(options)
    except (OSError, pa.ArrowException) as error:
        stderr().print(f"The benchmark failed: {error}", markup=False)
        return 1
    return 0


def _measure(options: argparse.Namespace) -> None:
    console, errors = stdout(), stderr()
    report = Report("decide", FLOORS if options.slides == SLIDES else {})
    counts = [min(PART, options.slides - begin) for begin in range(0, options.slides, PART)]
    pool = ProcessPoolExecutor(options.processes, mp_context=get_context("spawn"))
    with workspace("decide", options.folder) as folder, pool, errors.status("making the slides") as status:
        sources = [folder / f"facts-{number:04}.parquet" for number in range(len(counts))]
        size = sum(pool.map(make, sources, range(len(counts)), counts))
        console.print(f"{options.slides} made-up slides, {size / 1e9:.2f} GB of Parquet, in the page cache.\n")
        rounds = []
        for number in range(options.rounds):
            status.update(f"round {number + 1} of {options.rounds}")
            rounds.append(_round(pool, sources, folder))
    seconds = statistics.median(wall for wall, _ in rounds)
    parts = rounds[-1][1]
    peak = max(part.peak_bytes for part in parts) * options.processes + _own_peak()
    limit = LIMIT_SECONDS * options.slides / SLIDES
    walls = [wall for wall, _ in rounds]
    rows = [("whole", f"{seconds:.1f}", f"{min(walls):.1f}–{max(walls):.1f}", f"{limit:.1f}")]
    cpu = sum(part.cpu_seconds for part in parts)
    spent = {
        "reading, all processes together": sum(part.read_seconds for part in parts),
        "deciding, likewise": sum(part.decide_seconds for part in parts),
        "writing, likewise": sum(part.write_seconds for part in parts),
        "processor time of these": cpu,
    }
    rows += [(name, f"{value:.1f}", "", "") for name, value in spent.items()]
    title = f"{options.slides} slides, {options.processes} processes, {os.cpu_count()} processors"
    show(console, title, ["what", ">median s", ">least–most", ">limit"], rows)
    actions = sorted({name for part in parts for name in part.actions})
    show(console, "What is decided", ["action", ">slides"],
         [(name, str(sum(part.actions.get(name, 0) for part in parts))) for name in actions])  # fmt: skip
    console.print(f"Memory of all processes at their peaks: {peak / 1e9:.2f} GB.\n")
    report.add("time_below_limit", limit / seconds)
    report.add("memory_below_limit", LIMIT_BYTES / peak)
    # What it would be if nobody else used the processors.
    report.add("processor_time_below_limit", limit * options.processes / cpu)
    report.add("million_slides_per_second", options.slides / seconds / 1e6)
    report.close(console)


def _round(pool: ProcessPoolExecutor, sources: list[Path], folder: Path) -> tuple[float, list[Part]]:
    rules = rules_of_the_bench()
    targets = [folder / f"decisions-{source.name}" for source in sources]
    begin = time.perf_counter()
    parts = list(pool.map(decide_part, sources, targets, [rules] * len(sources)))
    return time.perf_counter() - begin, parts


def _own_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
