"""Moves between a disk and a real S3 server beside rclone and s5cmd; and what recovers from moves that were killed.

Prints tables, and as its last line one JSON object. A missed floor is shown, and is no failure: speed depends on the
machine, and whoever wants a gate finds the floors in the JSON. The exit code is not 0 only where there is no S3 server,
or ours could not be measured; a peer that cannot be is left out, with the reason.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.support import keeping
from bench.support.disk import read_through
from bench.support.environments import UnavailableError, environment, require_program
from bench.support.places import workspace
from bench.support.report import Report, show, stderr, stdout
from bench.support.s3 import NoServerError, Server, s3_server
from bench.support.slides import jpeg_slide
from bench.support.timing import Contender, Timings, interleave
from bench.support.worker import Worker, WorkerError
from bench.workers.interrupting import STATES
from wsistore.testing.big import write_big_svs

FLOORS = {
    "small": {"move_vs_rclone": 1.5, "upload_vs_s5cmd": 1.0, "restore_vs_rclone": 1.0},
    "large": {"move_1GB_vs_rclone": 1.5, "upload_1GB_vs_s5cmd": 1.0, "restore_1GB_vs_rclone": 1.0},
    "recovery": {"recovery_per_second": 1.0},
    **keeping.FLOORS,
}
"""The parts, with their figures."""
DEFAULT_PARTS = ("small", "recovery", "scrub", "rebuild", "board")
LARGE_BYTES = 10**9
PER_SECOND = 50.0
"""Recovered moves; the figure is how many times as many there are."""
SLIDES = 1000
SERVER_GB = 12
BUCKET = "bench"

TITLES = {
    "move": ("wsistore move", "hashed on its way, read back, source rebuilt, committed; the old copy stays"),
    "rclone_copy": ("rclone copy", "MD5 of each object"),
    "rclone_check": ("rclone check --download", "both sides read and compared; no record of it"),
    "rclone": ("rclone copy, then check --download", "nothing is committed or recorded"),
    "upload": ("wsistore, its upload alone", "hashed and compared with the commit's records on its way"),
    "s5cmd": ("s5cmd cp", "no MD5; its start of 10 ms taken off"),
    "restore": ("wsistore restore", "vendor's file, hashed; not flushed"),
    "rclone_down": ("rclone copy, from S3", "the objects of the copy, as many bytes; compared by MD5"),
}


@dataclass(slots=True)
class Programs:
    """The peers' programs, and what they need."""

    environment: dict[str, str]
    rclone: str = ""
    s5cmd: str = ""
    starts: dict[str, float] = field(default_factory=dict)
    """Seconds that each needs to start and end without doing anything; taken off its times."""
    unavailable: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Setting:
    """What all comparisons of one slide are given."""

    folder: Path
    server: Server
    ours: Worker
    programs: Programs
    report: Report
    console: Console
    tell: Callable[[str], object]
    key: str
    """What the figures carry in their names: ``""`` or ``"_1GB"``."""
    source: Path
    slide: str
    rounds: int
    bytes: int = 0
    """Of the copy's objects."""
    cpu: dict[str, list[float]] = field(default_factory=dict)

    @property
    def site(self) -> Path:
        """The site that the slide is in."""
        return self.folder / f"site{self.key}"

    @property
    def objects(self) -> Path:
        """The objects of the copy in the tier ``hot``, and nothing else."""
        return self.folder / f"objects{self.key}"

    def ask(self, contender: str, do: str, **arguments: Any) -> float:
        """Have ours do something; return its seconds."""
        answer = self.ours.call(do, folder=self.site, slide=self.slide, **arguments)
        self.cpu.setdefault(contender, []).append(answer["cpu"])
        return float(answer["seconds"])

    def run(self, contender: str, program: str, *arguments: str) -> float:
        """Run a peer's program; return its seconds without those of its start."""
        seconds, cpu = run(self.programs, [getattr(self.programs, program), *arguments])
        self.cpu.setdefault(contender, []).append(cpu)
        return max(0.0, seconds - self.programs.starts[program])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _options(arguments)
    console, errors = stdout(), stderr()
    report = Report("move", {key: least for part in options.parts for key, least in FLOORS[part].items()})
    try:
        with (console if console.is_terminal else errors).status("starting") as status:
            _measure(options, console, status.update, report)
    except (NoServerError, WorkerError, OSError) as error:
        errors.print(f"The benchmark failed: {error}", markup=False)
        return 1
    report.close(console)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.move", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(FLOORS), default=list(DEFAULT_PARTS), help="what to measure")
    parser.add_argument("--rounds", type=int, default=7, help="for the small slide (the large one takes at most 3)")
    parser.add_argument("--slides", type=int, default=SLIDES, help="moves that are killed for 'recovery'")
    parser.add_argument("--rebuilt", type=int, default=keeping.REBUILD_SLIDES, help="slides for 'rebuild'")
    parser.add_argument("--folder", type=Path, help="where to work, to measure another disk (default: .bench/tmp)")
    parser.add_argument(
        "--kept-in", choices=["memstore", "bluestore"], default="memstore",
        help="where the S3 server keeps its objects: in memory, or in a file in the folder",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.slides < len(STATES):
        parser.error(f"--slides must be at least {len(STATES)}")
    return options


def _measure(options: argparse.Namespace, console: Console, tell: Callable[[str], object], report: Report) -> None:
    tell("starting the S3 server")
    with (
        workspace("move", options.folder) as folder,
        s3_server(folder, kept_in=options.kept_in, size_gb=SERVER_GB) as server,
    ):
        server.make_bucket(BUCKET)
        where = "memory" if options.kept_in == "memstore" else "a file on the same disk"
        console.print(f"S3: Ceph RGW on this machine, which keeps its objects in {where}. Preset keep.")
        if {"small", "large"} & set(options.parts):
            _measure_slides(options, folder, server, console, tell, report)
        if "recovery" in options.parts:
            _measure_recovery(options.slides, folder, server, console, tell, report)
        if "scrub" in options.parts:
            keeping.scrub(folder / "scrub", min(options.rounds, 5), console, tell, report)
        if "rebuild" in options.parts:
            keeping.rebuild(folder, server, options.rebuilt, console, tell, report)
        if "board" in options.parts:
            keeping.board(folder, options.rounds, console, tell, report)


# --- slides -----------------------------------------------------------------------------------------------------------


def _measure_slides(
    options: argparse.Namespace,
    folder: Path,
    server: Server,
    console: Console,
    tell: Callable[[str], object],
    report: Report,
) -> None:
    tell("preparing the slide and the peers")
    path, which = jpeg_slide(folder)
    console.print(f"Slide: {which}.\n")
    programs = _programs(folder, server)
    for part, key in (("small", ""), ("large", "_1GB")):
        if part not in options.parts:
            continue
        if key:
            tell("writing the large slide")
            path = write_big_svs(folder / "large.svs", template=path, at_least_bytes=LARGE_BYTES)
        rounds = min(options.rounds, 3) if key else options.rounds
        log = folder / f"ours{key}.log"
        with Worker(Path(sys.executable), "bench.workers.moving", log, server.environment()) as ours:
            setting = Setting(folder, server, ours, programs, report, console, tell, key, path, "", rounds)
            _prepare(setting)
            _compare(setting)


def _programs(folder: Path, server: Server) -> Programs:
    """Find the peers' programs, and how long each takes to start."""
    settings = {
        "TYPE": "s3", "PROVIDER": "Ceph", "ENDPOINT": server.endpoint,
        "ACCESS_KEY_ID": server.access_key, "SECRET_ACCESS_KEY": server.secret_key,
    }  # fmt: skip
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_", "S3_"))}
    config = folder / "rclone.conf"
    config.touch()
    programs = Programs(
        plain
        | server.environment()
        | {"RCLONE_CONFIG": str(config)}
        | {f"RCLONE_CONFIG_S3_{name}": value for name, value in settings.items()}
    )
    try:
        programs.rclone = str(require_program("rclone", "rclone"))
    except UnavailableError as error:
        programs.unavailable["rclone"] = f"{error}; Debian's package rclone has it"
    try:
        programs.s5cmd = str(_s5cmd())
    except UnavailableError as error:
        programs.unavailable["s5cmd"] = str(error)
    for name in {"rclone", "s5cmd"} - set(programs.unavailable):
        command = [getattr(programs, name), "version"]
        programs.starts[name] = statistics.median(run(programs, command)[0] for _ in range(7))
    return programs


def _s5cmd() -> Path:
    """Return the program in the peer's environment: not the Python script that starts it."""
    found = sorted(environment("s5cmd").parent.parent.glob("lib/python*/site-packages/s5cmd/bin/s5cmd"))
    if not found:
        msg = "s5cmd is installed, but its program is not found"
        raise UnavailableError(msg)
    return found[0]


def run(programs: Programs, command: Sequence[str]) -> tuple[float, float]:
    """Run a program; return its seconds, and those of the processor.

    Raises
    ------
    WorkerError
        If it fails.

    """
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, env=programs.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        msg = f"{Path(command[0]).name} {command[1]} ended with {done.returncode}: {said[-1] if said else 'no word'}"
        raise WorkerError(msg)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _prepare(setting: Setting) -> None:
    """Take the slide in, and let ours move and restore it once, so that nothing is loaded within a measured time."""
    ours, server = setting.ours, setting.server
    bucket = f"{BUCKET}{setting.key.lower().replace('_', '-')}-ours"
    server.make_bucket(bucket)
    answer = ours.call(
        "prepare", folder=setting.site, source=setting.source,
        bucket=bucket, endpoint=server.endpoint, region=server.region,
    )  # fmt: skip
    setting.slide = answer["slide"]
    linked = ours.call("link_objects", folder=setting.site, slide=setting.slide, to=setting.objects)
    setting.bytes = linked["bytes"]
    setting.console.print(f"{setting.source.name}: {setting.bytes / 1e6:.1f} MB in {linked['objects']} objects.")
    if not setting.key:
        ours.call("move_there", folder=setting.site, slide=setting.slide, keep_source=True)
        ours.call("move_back", folder=setting.site, slide=setting.slide)


def _compare(setting: Setting) -> None:
    """Compare uploads, moves and restores, in turn."""
    up = [Contender("upload", lambda _: setting.ask("upload", "upload")), *_peer(setting, "s5cmd", "s5cmd", _s5cmd_up)]
    timings = interleave(up, setting.rounds, before=lambda: _settle(setting), tell=setting.tell)
    _show(setting, "Upload", "upload", timings)
    _figure(setting, "upload", "s5cmd", timings)
    moves = [Contender("move", lambda _: _move(setting)), *_peer(setting, "rclone", "rclone", _rclone_there)]
    timings = interleave(moves, setting.rounds, before=lambda: _settle(setting), tell=setting.tell)
    _show(setting, "Move with read-back verification", "move", timings)
    _figure(setting, "move", "rclone", timings)
    setting.ours.call("move_there", folder=setting.site, slide=setting.slide, keep_source=False)
    back = [
        Contender("restore", lambda number: _restore(setting, number)),
        *_peer(setting, "rclone_down", "rclone", _rclone_down),
    ]
    timings = interleave(back, setting.rounds, before=os.sync, tell=setting.tell)
    _show(setting, "Restore from S3", "restore", timings)
    _figure(setting, "restore", "rclone_down", timings)
    peak = setting.ours.call("peak")["bytes"]
    setting.console.print(f"Peak memory of the process of ours, its ingest included: {peak / 1e6:.0f} MB\n")


def _peer(setting: Setting, key: str, program: str, act: Callable[[Setting, int], float]) -> list[Contender]:
    if program in setting.programs.unavailable:
        return []
    return [Contender(key, lambda number: act(setting, number), may_fail=True)]


def _settle(setting: Setting) -> None:
    """Put everything on disk, so that no run pays for an earlier one; the objects are in the page cache for all."""
    os.sync()
    read_through(setting.objects)


def _move(setting: Setting) -> float:
    seconds = setting.ask("move", "move_there", keep_source=True)
    setting.ours.call("move_back", folder=setting.site, slide=setting.slide)
    return seconds


def _s5cmd_up(setting: Setting, number: int) -> float:
    target = f"s3://{BUCKET}/s5cmd{setting.key}-{number}/"
    endpoint = ["--endpoint-url", setting.server.endpoint]
    seconds = setting.run("s5cmd", "s5cmd", *endpoint, "cp", f"{setting.objects}/*", target)
    run(setting.programs, [setting.programs.s5cmd, *endpoint, "rm", f"{target}*"])
    return seconds


def _rclone_there(setting: Setting, number: int) -> float:
    target = _rclone_target(setting, number)
    copied = setting.run("rclone_copy", "rclone", "copy", str(setting.objects), target)
    checked = setting.run("rclone_check", "rclone", "check", "--download", str(setting.objects), target)
    setting.cpu.setdefault("rclone", []).append(setting.cpu["rclone_copy"][-1] + setting.cpu["rclone_check"][-1])
    if number:  # the first is what is restored from
        run(setting.programs, [setting.programs.rclone, "purge", target])
    return copied + checked


def _rclone_down(setting: Setting, number: int) -> float:
    folder = setting.folder / f"down{setting.key}-{number}"
    seconds = setting.run("rclone_down", "rclone", "copy", _rclone_target(setting, 0), str(folder))
    if number == 0:
        wrong = [path for path in _files(setting.objects) if not _same(path, setting.objects, folder)]
        if wrong:
            msg = f"rclone did not bring back {wrong[0]}"
            raise WorkerError(msg)
    shutil.rmtree(folder)
    return seconds


def _restore(setting: Setting, number: int) -> float:
    folder = setting.folder / f"restored{setting.key}-{number}"
    seconds = setting.ask("restore", "restore", to=str(folder))
    if number == 0 and not filecmp.cmp(setting.source, folder / setting.source.name, shallow=False):
        msg = f"{folder / setting.source.name} is not what was ingested"
        raise WorkerError(msg)
    shutil.rmtree(folder)
    return seconds


def _rclone_target(setting: Setting, number: int) -> str:
    return f"s3:{BUCKET}/rclone{setting.key}-{number}"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _same(path: Path, folder: Path, other: Path) -> bool:
    found = other / path.relative_to(folder)
    return found.is_file() and filecmp.cmp(path, found, shallow=False)


def _show(setting: Setting, what: str, ours: str, timings: Timings) -> None:
    title = f"{what}, {setting.source.name}, {setting.bytes / 1e6:.0f} MB, {setting.rounds} rounds"
    columns = ["what", ">median s", ">least–most", ">CPU s", ">MB/s", ">ours is", ">by round", "what it does besides"]
    rows = []
    for key, seconds in timings.seconds.items():
        median, ratio = timings.median(key), timings.ratio(ours, key)
        times = "" if key == ours or ratio is None else f"{ratio:.2f}×"
        by_round = _range(timings.ratios(ours, key), 2) if times else ""
        cpu, speed = statistics.median(setting.cpu[key]), setting.bytes / 1e6 / median
        title_of, besides = TITLES[key]
        rows.append(
            (title_of, f"{median:.3f}", _range(seconds), f"{cpu:.2f}", f"{speed:.0f}", times, by_round, besides)
        )
    show(setting.console, title, columns, rows)


def _figure(setting: Setting, ours: str, peer: str, timings: Timings) -> None:
    name = f"{ours}{setting.key}_vs_{peer.removesuffix('_down')}"
    ratio = timings.ratio(ours, peer)
    if ratio is not None:
        setting.report.add(name, ratio)
        return
    reason = timings.failed.get(peer) or setting.programs.unavailable.get(peer.removesuffix("_down"), "")
    setting.report.skip(name, reason)


def _range(values: Sequence[float], digits: int = 3) -> str:
    return f"{min(values):.{digits}f}–{max(values):.{digits}f}"


# --- recovery ---------------------------------------------------------------------------------------------------------


def _measure_recovery(
    slides: int, folder: Path, server: Server, console: Console, tell: Callable[[str], object], report: Report
) -> None:
    site, bucket = folder / "site-recovery", f"{BUCKET}-recovery"
    server.make_bucket(bucket)
    python, variables = Path(sys.executable), server.environment()
    with Worker(python, "bench.workers.interrupting", folder / "preparing.log", variables) as worker:
        tell(f"taking in {slides} small slides")
        place = {"bucket": bucket, "endpoint": server.endpoint, "region": server.region}
        keys = worker.call("prepare", folder=site, slides=slides, **place)["slides"]
    # Another one: a process that has spoken to S3 has threads, and cannot be forked.
    with Worker(python, "bench.workers.interrupting", folder / "interrupting.log", variables) as worker:
        counts = []
        for number, state in enumerate(STATES):
            tell(f"killing moves: {state}")
            mine = keys[number :: len(STATES)]
            killed = worker.call("interrupt", folder=site, slides=mine, state=state)["killed"]
            if killed != len(mine):
                msg = f"{killed} of {len(mine)} moves were killed in the state {state}: see {folder}"
                raise WorkerError(msg)
            counts.append((state, len(mine)))
    with Worker(python, "bench.workers.interrupting", folder / "recovering.log", variables) as worker:
        before = worker.call("states", folder=site)
        tell("recovering")
        done = worker.call("recover", folder=site)
        tell("giving the interrupted command again")
        after = worker.call("go_on", folder=site, slides=keys)
    if done["failed"] or after["there"] != len(keys):
        msg = f"{done['failed']} moves could not be recovered; {after['there']} of {len(keys)} slides came through"
        raise WorkerError(msg)
    _show_recovery(console, counts, before, done, after, len(keys))
    report.add("recovery_per_second", len(keys) / done["seconds"] / PER_SECOND)


def _show_recovery(
    console: Console,
    counts: Sequence[tuple[str, int]],
    before: dict[str, int],
    done: dict[str, Any],
    after: dict[str, Any],
    slides: int,
) -> None:
    told = ", ".join(f"{count} {state}" for state, count in counts)
    console.print(f"{slides} moves of small slides from disk to S3, each a process that was killed: {told}.")
    console.print(f"In the catalogue before: {_listed(before)}; after the recovery: {_listed(done['after'])}.")
    rows = [
        ("wsistore recover", str(slides), f"{done['seconds']:.2f}", f"{done['cpu']:.2f}",
         f"{slides / done['seconds']:.0f}",
         f"{done['finished']} finished, {done['removed']} removed, {done['waiting']} wait to be continued"),
        ("wsistore move, once more", str(after["moved"]), f"{after['seconds']:.2f}", "",
         f"{after['moved'] / after['seconds']:.0f}", f"then {after['there']} slides are on S3 and nowhere else"),
    ]  # fmt: skip
    show(console, "Recovery of interrupted moves", ["what", ">slides", ">s", ">CPU s", ">a second", ""], rows)


def _listed(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "nothing open"


if __name__ == "__main__":
    sys.exit(main())
