"""How much smaller folds are, how fast they are made, and in how much memory.

Prints tables, and as its last line one JSON object. A missed floor is shown, and is no failure: speed depends on the
machine, and whoever wants a gate finds the floors in the JSON. The exit code is not 0 only where ours or a yardstick
could not be measured; a peer that cannot be is left out, with the reason.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import imagecodecs
from rich.console import Console

from bench.support.environments import UnavailableError, require_program
from bench.support.folding import (
    Encoded,
    SlideInSite,
    libjxl_alone,
    sizes_alone,
    whole_copy_bytes,
    without_quantization,
)
from bench.support.places import real_slide, workspace
from bench.support.report import Report, show, stderr, stdout
from bench.support.slides import jpeg_slide
from bench.support.timing import Contender, Timings, interleave
from wsistore.compress.presets import ENCODINGS, Encoding
from wsistore.errors import WsistoreError
from wsistore.execute import Engine, Executor, ProcessExecutor, open_executor
from wsistore.execute.machine import cores
from wsistore.model import Preset

FLOORS = {
    "sizes": {"saved_tiles_CMU_k16": 0.30, "saved_file_hpylori_k64": 0.25},
    "speed": {"encode_vs_libjxl": 0.9, "dask_vs_processes": 0.9, "memory_bound": 1.0, "memory_1GB": 1.0},
}
SMALL, LARGE = "aperio/CMU-1-Small-Region.svs", "aperio/hpylori-IHC.svs"
MOST_TILES = 600
"""Of a slide, for what is measured tile by tile; evenly spread."""
MEMORY_AT_MOST_BYTES = 1e9

_PACKED = "wsistore, preset pack (k=64), the whole copy"

Tell = Callable[[str], object]


@dataclass(slots=True)
class Row:
    """One line of the table of sizes: shares saved, or None where there is nothing to say."""

    what: str
    tiles: dict[str, float] = field(default_factory=dict)
    files: dict[str, float] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _options(arguments)
    console, errors = stdout(), stderr()
    report = Report("fold", {key: least for part in options.parts for key, least in FLOORS[part].items()})
    try:
        with (
            (console if console.is_terminal else errors).status("starting") as status,
            workspace("fold", options.folder) as folder,
        ):
            _measure(options, folder, console, status.update, report)
    except (WsistoreError, OSError, ValueError) as error:
        errors.print(f"The benchmark failed: {error}", markup=False)
        return 1
    report.close(console)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fold", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(FLOORS), default=list(FLOORS), help="what to measure")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparisons of speed")
    parser.add_argument("--folder", type=Path, help="where to work, to measure another disk (default: .bench/tmp)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _measure(options: argparse.Namespace, folder: Path, console: Console, tell: Tell, report: Report) -> None:
    tell("ingesting the slides")
    with ExitStack() as stack:
        path, which = jpeg_slide(folder)
        large = stack.enter_context(closing(SlideInSite(path, folder / "large")))
        small = None
        if real_slide(SMALL) is not None:
            copied = Path(shutil.copyfile(str(real_slide(SMALL)), folder / Path(SMALL).name))
            small = stack.enter_context(closing(SlideInSite(copied, folder / "small")))
        console.print(f"Slides: {SMALL if small else 'no small one'}, and {which}.\n")
        processes = stack.enter_context(ProcessExecutor())
        if "sizes" in options.parts:
            _compare_sizes([one for one in (small, large) if one], processes, console, tell, report)
        if "speed" in options.parts:
            _compare_speed(large, processes, options.rounds, folder, console, tell, report)


def _fold(height: int) -> Encoding:
    return Encoding(Preset.FOLD, fold_height=height)


# --- sizes ------------------------------------------------------------------------------------------------------------


def _compare_sizes(
    slides: Sequence[SlideInSite], processes: Executor, console: Console, tell: Tell, report: Report
) -> None:
    rows: dict[str, Row] = {}

    def note(what: str, slide: SlideInSite, *, tiles: float | None = None, file: float | None = None) -> None:
        row = rows.setdefault(what, Row(what))
        for found, where in ((tiles, row.tiles), (file, row.files)):
            if found is not None:
                where[slide.path.name] = found

    for slide in slides:
        name = slide.path.name
        for height in (8, 16, 64):
            tell(f"{name}: k={height}")
            note(f"wsistore, folds of {height}", slide, tiles=slide.encode(_fold(height), processes).saved)
        sample = list(slide.tiles(MOST_TILES))
        for what, saved in _per_tile(sample, tell, report):
            note(what, slide, tiles=saved)
        console.print(f"{name}: {len(sample)} of its tiles are measured one by one.")
        for what, size in _per_file(slide.path.read_bytes(), tell):
            note(what, slide, file=1 - size / slide.source_bytes)
        tell(f"{name}: the whole copy")
        size = whole_copy_bytes(slide.path, slide.path.parent / f"packed-{name}", ENCODINGS[Preset.PACK], processes)
        note(_PACKED, slide, file=1 - size / slide.source_bytes)
    _show_sizes(slides, list(rows.values()), console)
    _report_sizes(rows, report)


def _per_tile(sample: Sequence[tuple[int, bytes]], tell: Tell, report: Report) -> Iterator[tuple[str, float]]:
    """Yield what can be done to each tile alone, and which share of the tiles' bytes it saves."""
    payload = sum(size for size, _ in sample)
    jpegs = [jpeg for _, jpeg in sample]
    tell("single tiles as JPEG XL")
    yield "JPEG XL, each tile alone", 1 - sizes_alone(jpegs) / payload
    try:
        program = require_program("jpegtran", "libjpeg-turbo-progs")
    except UnavailableError as error:
        report.skip("jpegtran -optimize", str(error))
        return
    tell("jpegtran")

    def optimized(jpeg: bytes) -> int:
        done = subprocess.run([program, "-copy", "none", "-optimize"], input=jpeg, capture_output=True, check=True)
        return without_quantization(done.stdout)

    with ThreadPoolExecutor(cores()) as threads:
        yield "jpegtran -optimize, each tile alone", 1 - sum(threads.map(optimized, jpegs)) / payload


def _per_file(data: bytes, tell: Tell) -> Iterator[tuple[str, int]]:
    """Yield what can be done to the file, and the bytes that are left."""
    tell("zstd")
    yield "zstd -19 of the file", len(imagecodecs.zstd_encode(data, level=19))
    tell("xz")
    yield "xz -9 of the file", len(lzma.compress(data, preset=9))


def _show_sizes(slides: Sequence[SlideInSite], rows: Sequence[Row], console: Console) -> None:
    columns, names = ["what"], [slide.path.name for slide in slides]
    for name in names:
        columns += [f">{name}: of the tiles", ">of the file"]

    def percent(share: float | None) -> str:
        return "" if share is None else f"{share:.1%}"

    lines = ([row.what, *(percent(of.get(name)) for name in names for of in (row.tiles, row.files))] for row in rows)
    show(console, "Bytes saved, without losing a bit", columns, lines)


def _report_sizes(rows: dict[str, Row], report: Report) -> None:
    small, large = Path(SMALL).name, Path(LARGE).name
    tiles = rows["wsistore, folds of 16"].tiles
    file = rows[_PACKED].files
    for figure, found, slide in (("saved_tiles_CMU_k16", tiles, small), ("saved_file_hpylori_k64", file, large)):
        if slide in found:
            report.add(figure, found[slide])
        else:
            report.skip(figure, f"{slide} is not there: name its folder in WSISTORE_TEST_SLIDES")
    if small in file:
        report.add("saved_file_CMU_k64", file[small])


# --- speed ------------------------------------------------------------------------------------------------------------


def _compare_speed(
    slide: SlideInSite, processes: Executor, rounds: int, folder: Path,
    console: Console, tell: Tell, report: Report,
) -> None:  # fmt: skip
    encoding = ENCODINGS[Preset.PACK]
    tell("writing the folds for libjxl")
    folds = [str(path) for path in slide.folds(encoding, folder / "folds")]
    runs: dict[str, list[Encoded]] = {"processes": [], "dask": []}
    with ExitStack() as stack:
        bare = stack.enter_context(ProcessPoolExecutor(cores(), get_context("spawn")))
        dask = stack.enter_context(open_executor(Engine.DASK, workers=cores()))
        cpu: list[float] = []

        def ours(key: str, executor: Executor) -> Callable[[int], float]:
            def run(_: int) -> float:
                runs[key].append(slide.encode(encoding, executor))
                return runs[key][-1].seconds

            return run

        def libjxl(_: int) -> float:
            start = perf_counter()
            cpu.append(sum(bare.map(libjxl_alone, folds)))
            return perf_counter() - start

        tell("warming up")
        for executor in (processes, dask):
            # All of it, so that every worker has loaded everything, with the memory that the slide needs.
            list(executor.run(abs, [1], memory_bytes=slide.plan(encoding).memory_bytes))
            slide.encode(encoding, executor)
        list(bare.map(libjxl_alone, folds[-2 * cores() :]))
        contenders = [
            Contender("processes", ours("processes", processes)),
            Contender("libjxl", libjxl),
            Contender("dask", ours("dask", dask)),
        ]
        timings = interleave(contenders, rounds, tell=tell)
    _show_speed(slide, len(folds), timings, runs, cpu, console)
    _report_speed(timings, runs, cpu, report)


def _show_speed(
    slide: SlideInSite, folds: int, timings: Timings, runs: dict[str, list[Encoded]], cpu: list[float],
    console: Console,
) -> None:  # fmt: skip
    titles = {
        "processes": ("wsistore in a process pool", "reads, encodes, checks, writes, flushes"),
        "dask": ("wsistore on Dask, the same shards", "the same"),
        "libjxl": ("libjxl alone, a process per core", f"{folds} folds from files in memory; nothing written"),
    }
    size = runs["processes"][0].bytes_payload
    rows = []
    for key, seconds in timings.seconds.items():
        used = cpu if key == "libjxl" else [one.cpu_seconds for one in runs[key]]
        peak = "" if key == "libjxl" else f"{max(one.peak_bytes for one in runs[key]) / 1e6:.0f} MB"
        median = timings.median(key)
        between = f"{min(seconds):.2f}–{max(seconds):.2f}"
        speed = f"{size / 1e6 / median:.1f}"
        rows.append((titles[key][0], f"{median:.2f}", between, speed, f"{sorted(used)[len(used) // 2]:.2f}", peak,
                     titles[key][1]))  # fmt: skip
    title = f"Folds of 64 of {slide.path.name}, {size / 1e6:.0f} MB of tiles, {cores()} cores"
    columns = ["what", ">median s", ">least–most", ">MB/s", ">CPU s", ">peak of a worker", "what it does"]
    show(console, title, columns, rows)
    bound = max(one.bound_bytes for found in runs.values() for one in found)
    console.print(f"Computed bound of a worker's memory: {bound / 1e6:.0f} MB.\n")


def _report_speed(timings: Timings, runs: dict[str, list[Encoded]], cpu: list[float], report: Report) -> None:
    for figure, ours, other in (
        ("encode_vs_libjxl", "processes", "libjxl"),
        ("dask_vs_processes", "dask", "processes"),
    ):
        ratio = timings.ratio(ours, other)
        if ratio is not None:
            report.add(figure, ratio)
    report.add("encode_cpu_vs_libjxl", sum(cpu) / sum(one.cpu_seconds for one in runs["processes"]))
    every = [one for found in runs.values() for one in found]
    peak = max(one.peak_bytes for one in every)
    report.add("memory_bound", min(one.bound_bytes for one in every) / peak)
    report.add("memory_1GB", MEMORY_AT_MOST_BYTES / peak)


if __name__ == "__main__":
    sys.exit(main())
