"""Verified ingest and restore beside what else can be done with a slide; and the time that a start takes.

Prints tables, and as its last line one JSON object. A missed floor is shown, and is no failure: speed depends on the
machine, and whoever wants a gate finds the floors in the JSON. The exit code is not 0 only where ours or a yardstick
could not be measured; a peer that cannot be is left out, with the reason.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.support.disk import heeds_dropping, read_through
from bench.support.peers import WSIC, WSIDICOMIZER, Peer, Peers, started
from bench.support.places import workspace
from bench.support.report import Report, show, stderr, stdout
from bench.support.slides import jpeg_slide, warm_up_slide
from bench.support.starts import time_starts
from bench.support.timing import Contender, Timings, interleave
from bench.support.worker import Worker, WorkerError
from wsistore.testing.big import write_big_svs

FLOORS = {
    "small": {
        "ingest_vs_copy": 0.5,
        "ingest_vs_wsidicomizer": 5.0,
        "ingest_vs_wsic": 10.0,
        "stored": 1.0,
        "restore_vs_cp": 0.5,
    },
    "large": {
        "ingest_1GB_vs_copy": 0.5,
        "ingest_1GB_vs_wsidicomizer": 5.0,
        "stored_1GB": 1.0,
        "restore_1GB_vs_cp": 0.5,
        "memory_300MB": 1.0,
    },
    "start": {"import": 1.0, "help": 1.0},
}
LARGE_BYTES = 10**9
LARGE_NEEDS_BYTES = 15 * 10**9
"""Free disk that the large slide's runs take."""
STORED_AT_MOST = 1.02
"""Times the source's bytes."""
MEMORY_AT_MOST_BYTES = 300e6
IMPORT_SECONDS = 0.3
HELP_SECONDS = 0.5
START_ROUNDS = 9

TITLES = {
    "ours": ("wsistore, verified", ""),
    "copy": ("copy + fsync + SHA-256 + uncached read", "the yardstick: one more file, nothing known of it"),
    "limit": ("limit", "bare SHA-256, copy, fsync and read, no slide: what ours cannot be faster than"),
    "restore": ("wsistore restore", "hashed; not flushed either"),
    "cp": ("cp", "no hash, no flush: the bytes are in memory"),
    "cp_flushed": ("cp + fsync", "no hash; for information"),
    "pass": ("python -c pass", "for information"),
    "import": ("import wsistore", f"at most {IMPORT_SECONDS} s"),
    "help": ("wsistore --help", f"at most {HELP_SECONDS} s"),
} | {peer.name: (peer.title, peer.leaves_out) for peer in (WSIDICOMIZER, WSIC)}


@dataclass(frozen=True, slots=True)
class Setting:
    """What all comparisons of slides are given."""

    folder: Path
    warm_up: Path
    peers: Peers
    console: Console
    tell: Callable[[str], object]
    report: Report


@dataclass(slots=True)
class Slide:
    """One slide to compare on, and the processes that do it."""

    path: Path
    key: str
    """What its figures carry in their names: ``""`` or ``"_1GB"``."""
    setting: Setting
    ours: Worker
    plain: Worker
    rounds: int
    keep: bool
    """Remove what was made only after the last run: removing thousands of small files slows a disk for a while."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    """What ours said of each ingest."""
    first_site: Path = Path()

    @property
    def bytes(self) -> int:
        """The size of the slide."""
        return self.path.stat().st_size

    def fresh(self, name: str) -> Path:
        """Return a place in which nothing is yet."""
        return self.setting.folder / f"runs{self.key}" / name

    def done(self, folder: Path) -> None:
        """Say that what is in `folder` is needed no more."""
        if not self.keep:
            shutil.rmtree(folder)

    def settle(self, *warm: Path) -> None:
        """Put everything on disk, so that no run pays for an earlier one, and bring files into the page cache."""
        os.sync()
        for path in (self.path, *warm):
            read_through(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _options(arguments)
    console, errors = stdout(), stderr()
    report = Report("ingest", {key: least for part in options.parts for key, least in FLOORS[part].items()})
    try:
        # On one console with the tables, where there is a terminal: two would write over each other.
        with (console if console.is_terminal else errors).status("starting") as status:
            _measure(options, console, status.update, report)
    except (WorkerError, OSError) as error:
        errors.print(f"The benchmark failed: {error}", markup=False)
        return 1
    report.close(console)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(FLOORS), default=list(FLOORS), help="what to measure")
    parser.add_argument("--rounds", type=int, default=7, help="for the small slide (the large one takes at most 3)")
    parser.add_argument("--folder", type=Path, help="where to work, to measure another disk (default: .bench/tmp)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _measure(options: argparse.Namespace, console: Console, tell: Callable[[str], object], report: Report) -> None:
    slides = [part for part in ("small", "large") if part in options.parts]
    if slides:
        with workspace("ingest", options.folder) as folder:
            _measure_slides(slides, options.rounds, folder, console, tell, report)
    if "start" in options.parts:
        tell("process starts")
        _measure_starts(console, report)


def _measure_slides(
    parts: Sequence[str], rounds: int, folder: Path, console: Console, tell: Callable[[str], object], report: Report
) -> None:
    tell("preparing the slide and the peers")
    if not heeds_dropping(folder):
        console.print(f"Mind: {folder} is on a file system that keeps files in memory; no read is uncached.")
    path, which = jpeg_slide(folder)
    console.print(f"Slide: {which}. Each run writes to a fresh folder; the source is in the page cache for all.\n")
    warm_up = warm_up_slide(folder)
    with started((WSIDICOMIZER, WSIC), warm_up, folder) as peers:
        setting = Setting(folder, warm_up, peers, console, tell, report)
        if "small" in parts:
            # What takes seconds a round and leaves thousands of files takes part in three rounds only.
            _measure_slide(setting, path, "", rounds, {WSIDICOMIZER: rounds, WSIC: min(rounds, 3)})
        if "large" in parts:
            free = shutil.disk_usage(folder).free
            if free < LARGE_NEEDS_BYTES:
                reason = f"{folder} has {free / 1e9:.1f} GB free, and {LARGE_NEEDS_BYTES / 1e9:.0f} are needed"
                for key in FLOORS["large"]:
                    report.skip(key, reason)
                return
            tell("writing the large slide")
            large = write_big_svs(folder / "large.svs", template=path, at_least_bytes=LARGE_BYTES)
            # wsic would write 200 000 files and need minutes to have them removed.
            _measure_slide(setting, large, "_1GB", min(rounds, 3), {WSIDICOMIZER: 1})


def _measure_slide(setting: Setting, path: Path, key: str, rounds: int, peers: dict[Peer, int]) -> None:
    python = Path(sys.executable)
    with (
        Worker(python, "bench.workers.wsistore", setting.folder / f"wsistore{key}.log") as ours,
        Worker(python, "bench.workers.plain", setting.folder / f"plain{key}.log") as plain,
    ):
        slide = Slide(path, key, setting, ours, plain, rounds, keep=not key)
        warm = ours.call("ingest", source=setting.warm_up, folder=slide.fresh("warm-up"))
        ours.call("restore", site=slide.fresh("warm-up"), slide=warm["slide"], folder=slide.fresh("warm-up-back"))
        _compare_ingest(slide, peers)
        _compare_restore(slide)
        if key:
            peak = ours.call("peak")["bytes"]
            setting.report.add("memory_300MB", MEMORY_AT_MOST_BYTES / peak)
            setting.console.print(f"Peak memory of the process of ours: {peak / 1e6:.0f} MB\n")
        setting.tell("removing what was made")
        shutil.rmtree(slide.fresh(""))


# --- ingest -----------------------------------------------------------------------------------------------------------


def _compare_ingest(slide: Slide, peers: dict[Peer, int]) -> None:
    setting, report = slide.setting, slide.setting.report
    contenders = [
        Contender("ours", lambda number: _ingest(slide, number)),
        Contender("copy", lambda number: _plain(slide, "copy_verified", f"copy-{number}")),
        Contender("limit", lambda number: _plain(slide, "limit_of_ingest", f"limit-{number}")),
    ]
    for peer, rounds in peers.items():
        worker = setting.peers.workers.get(peer.name)
        if worker is not None:
            run = _peer_run(slide, peer, worker)
            contenders.append(Contender(peer.name, run, rounds=rounds, may_fail=True))
    timings = interleave(contenders, slide.rounds, before=slide.settle, tell=setting.tell)
    _show(slide, "Ingest", "ours", timings)
    unmeasured = setting.peers.unavailable | timings.failed
    for other in ("copy", *(peer.name for peer in peers)):
        figure = f"ingest{slide.key}_vs_{other}"
        ratio = timings.ratio("ours", other)
        if ratio is None:
            report.skip(figure, unmeasured[other])
        else:
            report.add(figure, ratio)
            _add_limit(report, figure, timings, other)
    stored = max(answer["bytes_stored"] for answer in slide.answers)
    report.add(f"stored{slide.key}", STORED_AT_MOST * slide.bytes / stored)
    setting.console.print(
        f"Ours stores {stored} bytes for the source's {slide.bytes}: {stored / slide.bytes:.4f} times as many, "
        f"in {slide.answers[0]['objects']} objects. Figure: {STORED_AT_MOST} × source / stored.\n"
    )


def _add_limit(report: Report, figure: str, timings: Timings, other: str) -> None:
    """Add what a figure would be if ours did nothing but hash, copy, flush and read, all processors at work."""
    ratio = timings.ratio("limit", other)
    if ratio is not None:
        report.add(f"{figure}_limit", ratio)


def _ingest(slide: Slide, number: int) -> float:
    site = slide.fresh(f"ours-{number}")
    answer = slide.ours.call("ingest", source=slide.path, folder=site)
    if (answer["status"], answer["mode"]) != ("ingested", "tiles"):
        msg = f"ours answered {answer['status']} in mode {answer['mode']}: there is nothing to compare"
        raise WorkerError(msg)
    slide.answers.append(answer)
    if number == 0:
        slide.first_site = site
    else:
        slide.done(site)
    return float(answer["seconds"])


def _plain(slide: Slide, do: str, name: str, **options: bool) -> float:
    folder = slide.fresh(name)
    answer = slide.plain.call(do, source=slide.path, folder=folder, **options)
    slide.done(folder)
    return float(answer["seconds"])


def _peer_run(slide: Slide, peer: Peer, worker: Worker) -> Callable[[int], float]:
    """Return how to run a peer; on its first run, see that it does what it is compared for."""

    def run(number: int) -> float:
        folder = slide.fresh(f"{peer.name}-{number}")
        seconds = float(worker.call("convert", source=slide.path, folder=folder)["seconds"])
        if number == 0 and not slide.key:
            found = worker.call("check", source=slide.path, folder=folder)
            if found["changed"]:
                msg = (
                    f"it changed {len(found['changed'])} of {found['compared']} tiles: no pass-through to compare with"
                )
                raise WorkerError(msg)
        slide.done(folder)
        return seconds

    return run


# --- restore ----------------------------------------------------------------------------------------------------------


def _compare_restore(slide: Slide) -> None:
    contenders = [
        Contender("restore", lambda number: _restore(slide, number)),
        Contender("cp", lambda number: _plain(slide, "copy", f"cp-{number}", flush=False)),
        Contender("limit", lambda number: _plain(slide, "limit_of_restore", f"limit-back-{number}")),
        Contender("cp_flushed", lambda number: _plain(slide, "copy", f"cp-flushed-{number}", flush=True)),
    ]
    warm = slide.first_site
    timings = interleave(
        contenders, slide.rounds, before=lambda: slide.settle(warm), tell=slide.setting.tell
    )  # fmt: skip
    _show(slide, "Restore", "restore", timings)
    for other in ("cp", "cp_flushed"):
        ratio = timings.ratio("restore", other)
        if ratio is not None:
            slide.setting.report.add(f"restore{slide.key}_vs_{other}", ratio)
            _add_limit(slide.setting.report, f"restore{slide.key}_vs_{other}", timings, other)


def _restore(slide: Slide, number: int) -> float:
    folder = slide.fresh(f"restored-{number}")
    answer = slide.ours.call("restore", site=slide.first_site, slide=slide.answers[0]["slide"], folder=folder)
    if number == 0 and not filecmp.cmp(slide.path, folder / slide.path.name, shallow=False):
        msg = f"{folder / slide.path.name} is not what was ingested"
        raise WorkerError(msg)
    slide.done(folder)
    return float(answer["seconds"])


# --- starts -----------------------------------------------------------------------------------------------------------


def _measure_starts(console: Console, report: Report) -> None:
    python = Path(sys.executable)
    timings = time_starts(
        {
            "pass": [str(python), "-c", "pass"],
            "import": [str(python), "-c", "import wsistore"],
            "help": [str(python.with_name("wsistore")), "--help"],
        },
        START_ROUNDS,
    )
    show(console, f"Process starts, median of {START_ROUNDS}", ["what", ">seconds", ">least–most", ""], (
        (TITLES[key][0], f"{timings.median(key):.3f}", _range(seconds), TITLES[key][1])
        for key, seconds in timings.seconds.items()
    ))  # fmt: skip
    for key, limit in (("import", IMPORT_SECONDS), ("help", HELP_SECONDS)):
        if key in timings.failed:
            report.skip(key, timings.failed[key])
        else:
            report.add(key, limit / timings.median(key))


# --- tables -----------------------------------------------------------------------------------------------------------


def _show(slide: Slide, what: str, ours: str, timings: Timings) -> None:
    """Print the times of one comparison."""
    title = f"{what} of {slide.path.name}, {slide.bytes / 1e6:.0f} MB, {slide.rounds} rounds"
    columns = ["what", ">runs", ">median s", ">least–most", ">MB/s", ">ours is", ">by round", "what it leaves out"]
    rows = []
    for key, seconds in timings.seconds.items():
        median, ratio = timings.median(key), timings.ratio(ours, key)
        times = "" if key == ours or ratio is None else f"{ratio:.2f}×"
        by_round = _range(timings.ratios(ours, key), 2) if times else ""
        speed = f"{slide.bytes / 1e6 / median:.0f}"
        what, leaves_out = TITLES[key]
        rows.append((what, str(len(seconds)), f"{median:.3f}", _range(seconds), speed, times, by_round, leaves_out))
    show(slide.setting.console, title, columns, rows)


def _range(values: Sequence[float], digits: int = 3) -> str:
    return f"{min(values):.{digits}f}–{max(values):.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
