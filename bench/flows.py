"""What the nights cost: the lifecycle flow beside plain calls of the same operations, and the service when it is idle.

Prints tables, and as its last line one JSON object. A missed floor is shown, and is no failure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench.support.places import REPOSITORY, workspace
from bench.support.report import Report, show, stderr, stdout
from bench.support.timing import Contender, interleave
from bench.support.watching import DAY_SECONDS, DAY_SLIDES, SPEED, watch
from bench.support.worker import Worker, WorkerError
from wsistore.ops import init_site
from wsistore.settings.flows import FLOW_NAMES
from wsistore_flows.environment import client_environment
from wsistore_flows.server import Server

FLOORS = {
    "overhead": {"flow_vs_calls": 1 / 1.1},
    "idle": {"idle_memory": 1.0},
    "watch": {"watched_once": 1.0, "watched_pace": 0.9},
}
"""The parts, with their figures: how fast the flow is by how fast plain calls are; how many times the idle service fits
into the memory that it may take; the part of a day's arrivals that were taken in once and whole, and how fast they were
by how fast they came."""
SLIDES = 500
IDLE_BYTES = 300 * 10**6
_IDLE_SECONDS = 45
_PATIENCE_SECONDS = 300
_MOST_PROBLEMS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _options(arguments)
    console, errors = stdout(), stderr()
    report = Report("flows", {key: least for part in options.parts for key, least in FLOORS[part].items()})
    try:
        with (
            (console if console.is_terminal else errors).status("starting") as status,
            workspace("flows", options.folder) as folder,
        ):
            if "overhead" in options.parts:
                _overhead(folder / "overhead", options.slides, options.rounds, console, status.update, report)
            if "idle" in options.parts:
                _idle(folder / "idle", console, status.update, report)
            if "watch" in options.parts:
                _watch(folder / "watch", options.arrivals, console, status.update, report)
    except (WorkerError, OSError) as error:
        errors.print(f"The benchmark failed: {error}", markup=False)
        return 1
    report.close(console)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.flows", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(FLOORS), default=list(FLOORS), help="what to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slides", type=int, default=SLIDES, help="moves of one night")
    parser.add_argument("--arrivals", type=int, default=DAY_SLIDES, help="slides that arrive, at their day's pace")
    parser.add_argument("--folder", type=Path, help="where to work, to measure another disk (default: .bench/tmp)")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.slides, options.arrivals) < 1:
        parser.error("--rounds, --slides and --arrivals must be at least 1")
    return options


# --- a night's moves --------------------------------------------------------------------------------------------------


def _overhead(
    folder: Path, slides: int, rounds: int, console: Console, tell: Callable[[str], object], report: Report
) -> None:
    folder.mkdir(parents=True)
    prefect, site, used = folder / "prefect", folder / "site", folder / "used"
    prefect.mkdir()
    tell("starting Prefect's server")
    server = Server(prefect, 0)
    server.start()
    try:
        environment = client_environment(prefect, server.address.api_url)
        with Worker(Path(sys.executable), "bench.workers.nights", folder / "nights.log", environment) as ours:
            tell(f"taking {slides} slides in")
            made = ours.call("prepare", folder=site, slides=slides)
            shutil.copytree(site, used)
            ours.call("flow", folder=used)  # the first run loads what later ones find

            def fresh() -> None:
                shutil.rmtree(used)
                shutil.copytree(site, used)

            cpu: dict[str, list[float]] = {"flow": [], "direct": []}

            def run(how: str) -> float:
                done = ours.call(how, folder=used)
                if done["moved"] != slides:
                    msg = f"{how}: {done['moved']} of {slides} slides were moved; see {folder}"
                    raise WorkerError(msg)
                cpu[how].append(float(done["cpu"]))
                return float(done["seconds"])

            contenders = [Contender("flow", lambda _: run("flow")), Contender("direct", lambda _: run("direct"))]
            timings = interleave(contenders, rounds, before=fresh, tell=tell)
    finally:
        server.stop()
    rows = [
        (what, f"{timings.median(key):.1f}", f"{sorted(cpu[key])[len(cpu[key]) // 2]:.1f}")
        for key, what in (("flow", "the flow lifecycle"), ("direct", "the same operations, called"))
    ]
    title = f"{slides} slides ({made['bytes'] / 1e6:.0f} MB) planned and moved to another tier, {rounds} rounds"
    show(console, title, ["what", ">median s", ">its own CPU s"], rows)
    report.add("flow_vs_calls", timings.ratio("flow", "direct") or 0.0)


# --- a day's arrivals -------------------------------------------------------------------------------------------------


def _watch(folder: Path, slides: int, console: Console, tell: Callable[[str], object], report: Report) -> None:
    """Replay a day's arrivals a hundred times as fast while the flow `ingest` looks at the share."""
    folder.mkdir(parents=True)
    tell(f"{slides} slides arrive as over a day of {DAY_SECONDS / SPEED:.0f} s")
    found = watch(folder, slides)
    show(console, "Arrivals, and the flow ingest with Prefect", ["what", ">"], found.rows())
    for problem in found.problems[:_MOST_PROBLEMS]:
        console.print(problem, markup=False)
    report.add("watched_once", found.once)
    report.add("watched_pace", found.pace)


# --- nothing to do ----------------------------------------------------------------------------------------------------


def _idle(folder: Path, console: Console, tell: Callable[[str], object], report: Report) -> None:
    """Measure the service while nothing runs: what is its own (PSS), and that of Prefect's server beside it."""
    folder.mkdir(parents=True)
    init_site(folder / "site")
    _paused(folder / "site")
    tell("starting the service")
    command = "from wsistore.cli.main import main; main()"
    arguments = [sys.executable, "-c", command, "-C", str(folder / "site"), "flows", "serve", "--port", "0", "--json"]
    with (folder / "service.log").open("wb") as log:
        service = subprocess.Popen(arguments, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_for(service, folder / "service.log")
        tell("letting it idle")
        time.sleep(_IDLE_SECONDS)
        own, beside = _pss(service.pid), sum(map(_pss, _children(service.pid)))
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)
    rows = [("the service", f"{own / 1e6:.0f}"), ("Prefect's server beside it", f"{beside / 1e6:.0f}")]
    show(console, f"Idle for {_IDLE_SECONDS} s, all flows paused", ["what", ">MB"], rows)
    report.add("idle_memory", IDLE_BYTES / own)


def _paused(site: Path) -> None:
    with (site / "wsistore.toml").open("a", encoding="utf-8") as file:
        file.writelines(f"\n[flows.{name}]\npaused = true\n" for name in FLOW_NAMES)


def _wait_for(service: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not any(line.startswith("{") and "api" in json.loads(line) for line in log.read_text().splitlines()):
        if service.poll() is not None or time.monotonic() > end:
            msg = f"the service does not begin: {log.read_text()[-500:]}"
            raise WorkerError(msg)
        time.sleep(0.5)


def _pss(pid: int) -> int:
    """Return the bytes of memory of a process; what it shares with others counts by its part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _children(pid: int) -> list[int]:
    """Return the processes that any of a process's threads has started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for one in lists for child in one.read_text().split()]


if __name__ == "__main__":
    sys.exit(main())
