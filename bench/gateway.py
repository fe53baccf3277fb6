"""The gateway beside nginx, OpenSlide, a tile server and libjpeg-turbo; and with 500 clients at once.

Prints tables, and as its last line one JSON object. A missed floor is shown, and is no failure: speed depends on the
machine. The exit code is not 0 only where ours or a yardstick could not be measured.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from bench.support import remote_reading
from bench.support.disk import read_through
from bench.support.environments import UnavailableError
from bench.support.gateways import Shared, check_same, gateway, ranged, share, status_of
from bench.support.load import Load, Request, load
from bench.support.places import workspace
from bench.support.report import Report, show, stderr, stdout
from bench.support.s3 import NoServerError, Server, s3_server
from bench.support.servers import memory_bytes, nginx, processor_seconds
from bench.support.slides import jpeg_slide
from bench.support.timing import Contender, interleave
from bench.support.worker import WorkerError

FLOORS: dict[str, dict[str, float]] = {
    "tiles": {"tiles_vs_nginx": 0.3},
    **remote_reading.FLOORS,
    "control": {"control_vs_none": 0.85},
    "clients": {"clients_answered": 1.0},
}
TILES = 2000
"""Other tiles that are asked for."""
CONNECTIONS = 32
CLIENTS, CLIENTS_SECONDS = 500, 60.0
BUCKET = "bench-gateway"
Tell = Callable[[str], object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _options(arguments)
    console, errors = stdout(), stderr()
    report = Report("gateway", {key: least for part in options.parts for key, least in FLOORS[part].items()})
    try:
        with (
            (console if console.is_terminal else errors).status("starting") as status,
            workspace("gateway", options.folder) as folder,
        ):
            failures = _measure(options, folder, console, status.update, report)
    except (WorkerError, UnavailableError, OSError) as error:
        errors.print(f"The benchmark failed: {error}", markup=False)
        return 1
    for failure in failures:
        errors.print(failure, markup=False)
    report.close(console)
    return 1 if failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(FLOORS), default=list(FLOORS), help="what to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load of requests")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="at once, in the part clients")
    parser.add_argument("--clients-seconds", type=float, default=CLIENTS_SECONDS)
    parser.add_argument("--folder", type=Path, help="where to work, to measure another disk (default: .bench/tmp)")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.seconds, options.clients, options.clients_seconds) < 1:
        parser.error("--rounds, --seconds, --clients and --clients-seconds must be at least 1")
    return options


def _measure(options: argparse.Namespace, folder: Path, console: Console, tell: Tell, report: Report) -> list[str]:
    """Measure all parts, each on its own; return what failed."""
    tell("taking the slide in")
    source, which = jpeg_slide(folder)
    shared = share(folder, "site", source)
    read_through(source)
    read_through(shared.site)
    console.print(f"Slide: {which}. All files are in the page cache; every process is warm.\n")
    rounds, seconds = options.rounds, options.seconds
    parts: dict[str, Callable[[Path], None]] = {
        "tiles": lambda place: _tiles(shared, place, rounds, seconds, console, tell, report),
        "patches": lambda place: remote_reading.patches(source, shared, place, rounds, console, tell, report),
        "region": lambda place: _region(source, place, rounds, console, tell, report),
        "moved": lambda place: remote_reading.moved(shared, place, rounds, console, tell, report),
        "control": lambda place: _control(shared, place, rounds, seconds, console, tell, report),
        "clients": lambda place: _clients(
            shared, place, options.clients, options.clients_seconds, console, tell, report
        ),
    }  # fmt: skip
    failures = []
    for part in dict.fromkeys(options.parts):
        place = folder / part
        place.mkdir()
        try:
            parts[part](place)
        except Exception as error:  # whatever it is: the other parts are measured all the same
            reason = str(error) if isinstance(error, WorkerError) else f"{type(error).__name__}: {error}"
            failures.append(f"The part {part} failed: {reason}")
            for key in FLOORS[part].keys() - report.figures.keys():
                report.skip(key, f"the part {part} failed")
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return failures


# --- stored tiles -----------------------------------------------------------------------------------------------------


def _tiles(
    shared: Shared, folder: Path, rounds: int, seconds: float, console: Console, tell: Tell, report: Report
) -> None:
    """Ask for stored tiles: of the gateway, and of nginx as parts of the same shard and as files of their own."""
    root = folder / "files"
    _write_files(shared, root)
    with ExitStack() as stack:
        port, _ = stack.enter_context(gateway(shared, folder))
        files = stack.enter_context(nginx(root, folder / "nginx"))
        asked: dict[str, tuple[str, list[Request]]] = {
            "ours": (f"http://127.0.0.1:{port}", shared.stored_tiles(TILES)),
            "jpeg": (f"http://127.0.0.1:{port}", _jpeg_view(shared)),
            "nginx ranges": (files, ranged("/shard", shared.chosen(TILES))),
            "nginx files": (files, [(f"/{tile.row}/{tile.column}", {}) for tile in shared.chosen(TILES)]),
        }
        check_same([asked[key] for key in ("ours", "nginx ranges", "nginx files")])
        found = _in_turn(asked, folder, rounds, seconds, tell)
    titles = {
        "ours": ("wsistore", "parts of the shard, as it lies"),
        "jpeg": ("wsistore", "view jpeg: a complete JPEG each"),
        "nginx ranges": ("nginx", "parts of the same shard"),
        "nginx files": ("nginx", "a file for each tile"),
    }
    best = _show_rates(
        found, titles, f"Stored tiles over {CONNECTIONS} connections that stay, {rounds} rounds", console
    )
    report.add("tiles_vs_nginx", min(best("ours", key) for key in ("nginx ranges", "nginx files")))
    report.add("jpeg_view_vs_nginx", best("jpeg", "nginx files"))


def _write_files(shared: Shared, root: Path) -> None:
    store = shared.store
    for tile in shared.chosen(TILES):
        data = (store / tile.key).open("rb")
        with data:
            data.seek(tile.start)
            path = root / str(tile.row) / str(tile.column)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.read(tile.size))
    (root / "shard").symlink_to(store / shared.tiles[0].key)


def _jpeg_view(shared: Shared) -> list[Request]:
    keys = [f"0/image/c/0/{tile.row}/{tile.column}" for tile in shared.chosen(TILES)]
    return [(f"{shared.path}.jpeg.zarr/{key}", shared.allowed()) for key in keys]


def _in_turn(
    asked: dict[str, tuple[str, list[Request]]], folder: Path, rounds: int, seconds: float, tell: Tell
) -> dict[str, list[Load]]:
    found: dict[str, list[Load]] = {key: [] for key in asked}

    def run(key: str, number: int) -> float:
        url, requests = asked[key]
        done = load(url, requests, folder, seconds=seconds if number >= 0 else 1, connections=CONNECTIONS)
        if number >= 0:
            found[key].append(done)
        return 1 / done.rate

    for key in asked:
        run(key, -1)
    interleave([Contender(key, partial(run, key)) for key in asked], rounds, tell=tell)
    return found


def _show_rates(
    found: dict[str, list[Load]], titles: dict[str, tuple[str, str]], title: str, console: Console
) -> Callable[[str, str], float]:
    """Print a table; return what tells how many times as many answers one gave as another, the median of the rounds."""

    def ratio(ours: str, peer: str) -> float:
        return statistics.median(a.rate / b.rate for a, b in zip(found[ours], found[peer], strict=True))

    rows = []
    for key, loads in found.items():
        rates = sorted(one.rate for one in loads)
        middle = sorted(loads, key=lambda one: one.rate)[len(loads) // 2]
        rows.append((
            *titles[key], f"{statistics.median(rates):.0f}", f"{rates[0]:.0f}–{rates[-1]:.0f}",
            f"{middle.bytes / middle.seconds / 1e6:.0f}", f"{1e3 * middle.p50:.1f}", f"{1e3 * middle.p99:.1f}",
        ))  # fmt: skip
    columns = ["what", "how", ">median answers a s", ">least–most", ">MB/s", ">p50 ms", ">p99 ms"]
    show(console, title, columns, rows)
    return ratio


def _control(
    shared: Shared, folder: Path, rounds: int, seconds: float, console: Console, tell: Tell, report: Report
) -> None:
    """Ask for stored tiles with and without access control, limits and access log."""
    with ExitStack() as stack:
        controlled, _ = stack.enter_context(gateway(shared, folder))
        free, _ = stack.enter_context(gateway(shared, folder, controlled=False))
        requests = shared.stored_tiles(TILES)
        asked = {
            "with": (f"http://127.0.0.1:{controlled}", requests),
            "without": (f"http://127.0.0.1:{free}", requests),
        }
        _check_control(shared, list(asked.values()))
        found = _in_turn(asked, folder, rounds, seconds, tell)
    titles = {
        "with": ("wsistore serve", "tokens, grants, limits, access log"),
        "without": ("the same", "without any of them"),
    }
    ratio = _show_rates(found, titles, f"Stored tiles, {CONNECTIONS} connections, {rounds} rounds", console)
    report.add("control_vs_none", ratio("with", "without"))


def _check_control(shared: Shared, asked: list[tuple[str, list[Request]]]) -> None:
    """See that both give the same answers, and that only the one that should keeps a log and looks at tokens."""
    before = shared.logged()
    checked = check_same(asked, headers=True)
    if shared.logged() - before != checked:
        msg = f"{checked} requests to each came to {shared.logged() - before} lines of the access log"
        raise WorkerError(msg)
    stranger = {"Authorization": f"Bearer {shared.token}x"}
    path, headers = shared.stored_tiles(1)[0]
    found = [status_of(url, path, {**headers, **stranger}) for url, _ in asked]
    if found != [401, 206]:
        msg = f"a token that is none was answered {found}, with access control and without"
        raise WorkerError(msg)


# --- the S3 tier ------------------------------------------------------------------------------------------------------


def _region(source: Path, folder: Path, rounds: int, console: Console, tell: Tell, report: Report) -> None:
    tell("starting the S3 server")
    try:
        with s3_server(folder / "s3", kept_in="memstore", size_gb=2) as server:
            server.make_bucket(BUCKET)
            remote_reading.region(
                source, partial(_on_s3, folder, source), server, folder, rounds, console, tell, report
            )
    except NoServerError as error:
        report.skip("region_s3_vs_libjpeg", str(error))


def _on_s3(folder: Path, source: Path, server: Server) -> Shared:
    address = {"url": f"s3://{BUCKET}/tier", "endpoint": server.endpoint, "region": server.region, "allow_http": True}
    return share(folder, "site-s3", source, tier=address, environment=server.environment())


# --- many clients -----------------------------------------------------------------------------------------------------


def _clients(
    shared: Shared, folder: Path, clients: int, seconds: float, console: Console, tell: Tell, report: Report
) -> None:
    """Let many clients ask at once, and look at the memory of the gateway meanwhile."""
    tell(f"{clients} clients for {seconds:.0f} s")
    with gateway(shared, folder) as (port, process):
        url, requests = f"http://127.0.0.1:{port}", shared.stored_tiles(TILES)
        check_same([(url, requests)], files=[(shared.store / tile.key, tile) for tile in shared.chosen(TILES)])
        load(url, requests, folder, seconds=1, connections=CONNECTIONS)
        before, most, used = memory_bytes(process), [0], processor_seconds(process)
        done = threading.Event()

        def watch() -> None:
            while not done.wait(1.0):
                most[0] = max(most[0], memory_bytes(process))

        watcher = threading.Thread(target=watch, name="memory")
        watcher.start()
        try:
            found = load(url, requests, folder, seconds=seconds, connections=clients, may_fail=True)
        finally:
            done.set()
            watcher.join()
        used = processor_seconds(process) - used
        after = memory_bytes(process)
    show(console, f"{clients} clients at once, {found.seconds:.0f} s", ["what", ">"], [
        ("answers", f"{found.requests}, {found.rate:.0f} a second"),
        ("refused, broken off, late", f"{found.refused}, {found.broken}, {found.late}"),
        ("p50, p99, most", f"{1e3 * found.p50:.0f}, {1e3 * found.p99:.0f}, {1e3 * found.most:.0f} ms"),
        ("memory of all processes (PSS): before, most, after",
         f"{before / 1e6:.0f}, {most[0] / 1e6:.0f}, {after / 1e6:.0f} MB"),
        ("processor time", f"{used:.0f} s"),
    ])  # fmt: skip
    report.add("clients_answered", 1 - found.failures / max(1, found.requests + found.broken + found.late))


if __name__ == "__main__":
    sys.exit(main())
