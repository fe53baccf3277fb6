"""Reading a stored slide beside what else reads slides: patches at random places, and a region of 4096 pixels.

Prints tables, and as its last line one JSON object. A missed floor is shown, and is no failure: speed depends on the
machine. The exit code is not 0 only where ours or a yardstick could not be measured; a peer that cannot be is left out.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.support.disk import read_through
from bench.support.environments import UnavailableError, environment
from bench.support.places import workspace
from bench.support.report import Report, show, stderr, stdout
from bench.support.slides import jpeg_slide
from bench.support.timing import Contender, Timings, interleave
from bench.support.worker import Worker, WorkerError
from wsistore.testing.big import write_big_svs

FLOORS = {
    "small": {"patches_vs_best": 3.0, "region_vs_libjpeg": 0.8},
    "large": {"patches_1GB_vs_best": 3.0, "region_1GB_vs_libjpeg": 0.8},
    "folded": {},
}
LARGE_BYTES = 10**9
LARGE_NEEDS_BYTES = 4 * 10**9
PATCHES = 256
"""Of a run, each 256 × 256 pixels."""
EDGE = 4096
MANNERS = {"loop": "in a loop", "threads": "in threads", "batch": "read_patches, 64 a call"}
OTHERS = {"openslide": "OpenSlide", "tiffslide": "tiffslide", "zarr": "zarr-python"}

Places = list[tuple[int, int]]


@dataclass(slots=True)
class Slide:
    """One slide, stored, and the processes that read it."""

    path: Path
    key: str
    """What its figures carry in their names: ``""`` or ``"_1GB"``."""
    site: Path
    facts: dict[str, Any]
    """What ours said of it at its ingest."""
    workers: dict[str, Worker]
    report: Report
    console: Console
    tell: Callable[[str], object]
    hits: list[tuple[int, int]] = field(default_factory=list)
    """Chunks that ours had kept and that it asked for, by run."""
    cpu: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of all processors together, by contender."""

    def places(self, number: int, count: int, edge: int, manner: str = "") -> Places:
        """Return the corners of squares at random places of level 0: others in each round and manner, the same for all.

        So nobody finds in a cache what was read in another manner just before.
        """
        rng = random.Random(f"{self.path.name} {number} {edge} {manner}")
        height, width = self.facts["height"] - edge, self.facts["width"] - edge
        return [(rng.randrange(height + 1), rng.randrange(width + 1)) for _ in range(count)]

    def ours(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Let ours do something with the stored slide."""
        return self.workers["ours"].call(do, site=self.site, slide=self.facts["slide"], **arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.read", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(FLOORS), default=list(FLOORS), help="what to measure")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to work (default: .bench/tmp)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    console, errors = stdout(), stderr()
    report = Report("read", {key: least for part in options.parts for key, least in FLOORS[part].items()})
    try:
        with (console if console.is_terminal else errors).status("starting") as status:
            _measure(options, console, status.update, report)
    except (WorkerError, OSError) as error:
        errors.print(f"The benchmark failed: {error}", markup=False)
        return 1
    report.close(console)
    return 0


def _measure(options: argparse.Namespace, console: Console, tell: Callable[[str], object], report: Report) -> None:
    with workspace("read", options.folder) as folder, ExitStack() as stack:
        tell("preparing the slide and the peers")
        path, which = jpeg_slide(folder)
        console.print(f"Slide: {which}. All files are in the page cache; every process is warm.\n")
        workers = _start(stack, folder, console)
        if {"small", "folded"} & set(options.parts):
            slide = _stored(path, "", folder, workers, report, console, tell)
            if "small" in options.parts:
                _compare_patches(slide, options.rounds)
                _compare_regions(slide, options.rounds)
            if "folded" in options.parts:
                _compare_presets(slide, min(options.rounds, 3))
        if "large" in options.parts:
            free = shutil.disk_usage(folder).free
            if free < LARGE_NEEDS_BYTES:
                reason = f"{folder} has {free / 1e9:.1f} GB free, and {LARGE_NEEDS_BYTES / 1e9:.0f} are needed"
                for key in FLOORS["large"]:
                    report.skip(key, reason)
                return
            tell("writing the large slide")
            large = write_big_svs(folder / "large.svs", template=path, at_least_bytes=LARGE_BYTES)
            slide = _stored(large, "_1GB", folder, workers, report, console, tell)
            _compare_patches(slide, options.rounds)
            _compare_regions(slide, options.rounds)


def _start(stack: ExitStack, folder: Path, console: Console) -> dict[str, Worker]:
    here = Path(sys.executable)
    found = {}
    for name, module in (("ours", "reading"), ("openslide", "openslide"), ("zarr", "zarr"), ("libjpeg", "libjpeg")):
        found[name] = stack.enter_context(Worker(here, f"bench.workers.{module}", folder / f"{name}.log"))
    try:
        python = environment("tiffslide")
        found["tiffslide"] = stack.enter_context(Worker(python, "bench.workers.tiffslide", folder / "tiffslide.log"))
    except UnavailableError as error:
        console.print(f"tiffslide is left out: {error}", markup=False)
    return found


def _stored(
    path: Path, key: str, folder: Path, workers: dict[str, Worker], report: Report, console: Console,
    tell: Callable[[str], object],
) -> Slide:  # fmt: skip
    tell(f"ingesting {path.name}")
    site = folder / f"site{key}"
    facts = workers["ours"].call("ingest", source=path, folder=site)
    read_through(path)
    read_through(site)
    return Slide(path, key, site, facts, workers, report, console, tell)


# --- patches ----------------------------------------------------------------------------------------------------------


def _compare_patches(slide: Slide, rounds: int) -> None:
    runs = {("ours", manner): partial(_our_patches, slide, manner) for manner in MANNERS}
    for name in OTHERS:
        if name in slide.workers:
            runs |= {(name, manner): partial(_their_patches, slide, name, manner) for manner in ("loop", "threads")}
    equal = _equal_patches(slide)
    slide.hits.clear()
    slide.cpu.clear()
    contenders = [Contender(" ".join(key), run, may_fail=key[0] != "ours") for key, run in runs.items()]
    timings = interleave(contenders, rounds, tell=slide.tell)
    title = f"{PATCHES} patches of 256 pixels at random places of level 0 of {slide.path.name}, {rounds} rounds"
    rows = []
    for name, manner in runs:
        seconds = timings.seconds.get(f"{name} {manner}")
        if seconds:
            ratio = timings.ratio("ours batch", f"{name} {manner}") or 0.0
            each = [
                f"{1e3 * s / PATCHES:.2f}" for s in (timings.median(f"{name} {manner}"), min(seconds), max(seconds))
            ]
            what = "wsistore" if name == "ours" else OTHERS[name]
            cpu = f"{1e3 * statistics.median(slide.cpu[f'{name} {manner}']) / PATCHES:.2f}"
            same = equal.get(name, "") if manner == "loop" else ""
            rows.append((what, MANNERS[manner], each[0], f"{each[1]}–{each[2]}", cpu, f"{ratio:.2f}×", same))
    columns = ["what", "how", ">median ms a patch", ">least–most", ">CPU ms", ">read_patches is", "same pixels"]
    show(slide.console, title, columns, rows)
    _patch_figures(slide, timings)


def _patch_figures(slide: Slide, timings: Timings) -> None:
    others = [key for key in timings.seconds if not key.startswith("ours ")]
    loops = [key for key in others if key.endswith(" loop")]
    for figure, ours, theirs in (
        ("patches{}_vs_best", "ours batch", loops),
        ("patches{}_vs_best_threads", "ours batch", others),
        ("patches{}_one_by_one_vs_best", "ours loop", loops),
        *((f"patches{{}}_vs_{name}", "ours batch", [f"{name} loop"] if f"{name} loop" in loops else [])
          for name in OTHERS),
    ):  # fmt: skip
        if theirs:
            slide.report.add(figure.format(slide.key), _least(timings, ours, theirs))
        else:
            slide.report.skip(
                figure.format(slide.key), "; ".join(timings.failed.values()) or "no peer could be started"
            )
    cpu = {key: statistics.median(slide.cpu[key]) for key in timings.seconds}
    slide.report.add(f"patches{slide.key}_cpu_vs_best", min(cpu[key] for key in loops) / cpu["ours batch"])
    hits, asked = (sum(column) for column in zip(*slide.hits, strict=True))
    slide.console.print(f"Of {asked} tiles, ours had {100 * hits / asked:.1f} % decoded from earlier calls.\n")


def _least(timings: Timings, ours: str, theirs: Sequence[str]) -> float:
    """Return how many times as fast `ours` is as the fastest of `theirs`."""
    return min(timings.ratio(ours, key) or 0.0 for key in theirs)


def _our_patches(slide: Slide, manner: str, number: int, preset: str = "keep", count: int = PATCHES) -> float:
    places = slide.places(number, count, 256, manner)
    answer = slide.ours("patches", positions=places, manner=manner, check=False, preset=preset)
    slide.hits.append((answer["hits"], answer["asked"]))
    slide.cpu.setdefault(f"ours {manner}", []).append(answer["cpu_seconds"])
    return float(answer["seconds"])


def _their_patches(slide: Slide, name: str, manner: str, number: int) -> float:
    answer = _ask(slide, name, manner, slide.places(number, PATCHES, 256, manner), check=False)
    slide.cpu.setdefault(f"{name} {manner}", []).append(answer["cpu_seconds"])
    return float(answer["seconds"])


def _ask(slide: Slide, name: str, manner: str, places: Places, *, check: bool) -> dict[str, Any]:
    path = slide.facts["store"] if name == "zarr" else slide.path
    return slide.workers[name].call("patches", slide=path, positions=places, manner=manner, check=check)


def _equal_patches(slide: Slide) -> dict[str, str]:
    """Read the same patches by all, which warms them too; tell how many are the same to the bit."""
    places = slide.places(-1, 64, 256)
    ours = [slide.ours("patches", positions=places, manner=manner, check=True)["hashes"] for manner in MANNERS]
    equal: dict[str, str] = {}
    for name in OTHERS:
        if name in slide.workers:
            try:
                theirs = _ask(slide, name, "loop", places, check=True)["hashes"]
                _ask(slide, name, "threads", places, check=False)
            except WorkerError as error:
                equal[name] = str(error)
                continue
            same = sum(a == b for a, b in zip(ours[0], theirs, strict=True))
            equal[name] = f"{same} of {len(places)}"
            if name == "zarr" and same < len(places):
                msg = f"ours and Zarr read different pixels of {slide.path}"
                raise WorkerError(msg)
    if any(hashes != ours[0] for hashes in ours):
        msg = f"ours reads {slide.path} differently in different manners"
        raise WorkerError(msg)
    return equal


# --- regions ----------------------------------------------------------------------------------------------------------


def _compare_regions(slide: Slide, rounds: int) -> None:
    runs = {"ours": partial(_our_region, slide)}
    titles = {"ours": ("wsistore, read_region", "")}
    for manner, what in (
        ("threads", "a thread per processor, each tile let go of"),
        ("processes", "a process per processor, each tile let go of"),
        ("kept", "a thread per processor, all tiles in memory in the end"),
    ):
        runs[manner] = partial(_libjpeg_region, slide, manner)
        titles[manner] = (f"libjpeg-turbo, {what}", "no file read, no region put together")
    for run in runs.values():
        run(-1)
    timings = interleave([Contender(key, run) for key, run in runs.items()], rounds * 2, tell=slide.tell)
    title = f"A region of {EDGE} × {EDGE} pixels of level 0 of {slide.path.name}, {rounds * 2} rounds"
    show(slide.console, title, ["what", ">median ms", ">least–most", ">ours is", "what it leaves out"], (
        (titles[key][0], f"{1e3 * timings.median(key):.0f}", f"{1e3 * min(seconds):.0f}–{1e3 * max(seconds):.0f}",
         "" if key == "ours" else f"{timings.ratio('ours', key):.2f}×", titles[key][1])
        for key, seconds in timings.seconds.items()
    ))  # fmt: skip
    slide.report.add(f"region{slide.key}_vs_libjpeg", timings.ratio("ours", "kept") or 0.0)
    slide.report.add(f"region{slide.key}_vs_libjpeg_let_go", _least(timings, "ours", ("threads", "processes")))


def _our_region(slide: Slide, number: int, preset: str = "keep") -> float:
    ((y, x),) = slide.places(number, 1, EDGE)
    return float(slide.ours("region", y=y, x=x, height=EDGE, width=EDGE, preset=preset)["seconds"])


def _libjpeg_region(slide: Slide, manner: str, number: int) -> float:
    ((y, x),) = slide.places(number, 1, EDGE)
    place = {"slide": slide.path, "y": y, "x": x, "height": EDGE, "width": EDGE}
    return float(slide.workers["libjpeg"].call("region", manner=manner, **place)["seconds"])


# --- folds ------------------------------------------------------------------------------------------------------------


def _compare_presets(slide: Slide, rounds: int) -> None:
    """Read the same from the presets in turn; a slide has one at a time, so this does not interleave."""
    rows, count = [], 64
    keep: tuple[float, float] | None = None
    for preset in ("keep", "fold", "pack"):
        if preset != "keep":
            slide.tell(f"re-encoding to {preset}")
            slide.ours("fold", preset=preset)
        _our_patches(slide, "batch", -1, preset, count)
        _our_region(slide, -1, preset)
        slide.hits.clear()
        runs = [
            Contender("patches", lambda n, p=preset: _our_patches(slide, "batch", n, p, count)),  # type: ignore[misc]
            Contender("region", lambda n, p=preset: _our_region(slide, n, p)),  # type: ignore[misc]
        ]
        timings = interleave(runs, rounds, tell=slide.tell)
        patch, region = timings.median("patches") / count, timings.median("region")
        keep = keep or (patch, region)
        hits, asked = (sum(column) for column in zip(*slide.hits, strict=True))
        rows.append((preset, f"{1e3 * patch:.1f}", f"{1e3 * region:.0f}", f"{100 * hits / asked:.0f} %"))
        if preset != "keep":
            slide.report.add(f"patches_{preset}_vs_keep", keep[0] / patch)
            slide.report.add(f"region_{preset}_vs_keep", keep[1] / region)
    title = (
        f"The same of {slide.path.name} in each preset, {rounds} rounds: {count} random patches a call, and the region"
    )
    show(slide.console, title, ["preset", ">median ms a patch", ">median ms a region", ">chunks that were kept"], rows)


if __name__ == "__main__":
    sys.exit(main())
