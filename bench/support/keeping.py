"""Parts of bench.move that are about keeping: scrubs, a catalogue made anew, the list of a tumour board."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench.support.report import Report, show
from bench.support.s3 import Server
from bench.support.scrubs import FLOOR, OURS, PLAIN, measure_scrub
from bench.support.worker import Worker, WorkerError

REBUILD_SECONDS = 60.0
REBUILD_SLIDES = 10_000
FLOORS = {
    "scrub": {"scrub_vs_read_and_hash": FLOOR},
    "rebuild": {"rebuild_in_a_minute": 1.0},
    "board": {"board_in_two_seconds": 1.0},
}
"""The parts, with their figures. Those of rebuilds and boards are how many times they fit into what they may take."""
BOARD_SECONDS = 2.0
BOARD_CASES = 200


def scrub(folder: Path, rounds: int, console: Console, tell: Callable[[str], object], report: Report) -> None:
    """Compare a scrub with reading the same bytes uncached and hashing them."""
    timings, size = measure_scrub(folder, rounds, tell=tell)
    rows = [
        (what, f"{timings.median(key):.3f}", f"{size / 1e6 / timings.median(key):.0f}")
        for key, what in ((OURS, "wsistore scrub"), (PLAIN, "reading and hashing the same files"))
    ]
    show(console, f"Scrub of {size / 1e6:.0f} MB, {rounds} rounds", ["what", ">median s", ">MB/s"], rows)
    report.add("scrub_vs_read_and_hash", timings.ratio(OURS, PLAIN) or 0.0)


def rebuild(
    folder: Path, server: Server, slides: int, console: Console, tell: Callable[[str], object], report: Report
) -> None:
    """Lose a catalogue, and make it anew from a bucket."""
    bucket = "bench-rebuild"
    server.make_bucket(bucket)
    place = {"bucket": bucket, "endpoint": server.endpoint, "region": server.region}
    site = folder / "site-rebuild"
    with Worker(Path(sys.executable), "bench.workers.rebuilding", folder / "rebuild.log", server.environment()) as ours:
        tell(f"filling a bucket with {slides} packed slides")
        ours.call("prepare", folder=site, slides=slides, **place)
        tell("making the catalogue anew")
        done = ours.call("rebuild", folder=site)
    if not done["good"]:
        msg = f"the new catalogue is not what the old one was: see {folder}"
        raise WorkerError(msg)
    row = (str(done["slides"]), str(done["events"]), f"{done['seconds']:.1f}", f"{done['cpu']:.1f}")
    show(console, "Catalogue made anew from a bucket", [">slides", ">events", ">s", ">CPU s"], [row])
    # Fewer slides than are asked for may take a share of the time.
    report.add("rebuild_in_a_minute", REBUILD_SECONDS * slides / REBUILD_SLIDES / done["seconds"])


def board(folder: Path, rounds: int, console: Console, tell: Callable[[str], object], report: Report) -> None:
    """Plan the recall of a pasted list of cases, of slides that lie in a rehearsed archive."""
    site = folder / "site-board"
    with Worker(Path(sys.executable), "bench.workers.recalls", folder / "board.log") as ours:
        tell(f"filling a catalogue with {REBUILD_SLIDES} archived slides")
        ours.call("prepare", folder=site, slides=REBUILD_SLIDES)
        tell("planning")
        done = [ours.call("plan", folder=site, cases=BOARD_CASES) for _ in range(rounds)]
    if any(one["cases"] != BOARD_CASES for one in done):
        msg = f"{done[0]['cases']} of {BOARD_CASES} cases were found"
        raise WorkerError(msg)
    seconds = [float(one["seconds"]) for one in done]
    row = (str(BOARD_CASES), str(done[0]["slides"]), f"{seconds[0]:.2f}", f"{statistics.median(seconds):.2f}")
    columns = [">cases", ">slides", ">s, first", ">s, median"]
    show(console, f"A tumour board's list, of {REBUILD_SLIDES} slides, {rounds} rounds", columns, [row])
    # The first: whoever pastes a list does so in a new process.
    report.add("board_in_two_seconds", BOARD_SECONDS / seconds[0])
