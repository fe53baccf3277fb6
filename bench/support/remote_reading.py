"""Parts of bench.gateway that read pixels: patches and regions through the client, beside what reads files or tiles."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.support.counting import counted
from bench.support.environments import UnavailableError, environment
from bench.support.gateways import Shared, gateway
from bench.support.report import Report, show
from bench.support.s3 import Server
from bench.support.servers import cores, free_port, listening
from bench.support.timing import Contender, Timings, interleave
from bench.support.worker import Worker, WorkerError

PATCHES = 256
"""Of a run, each 256 × 256 pixels."""
REGION, SMALL = 4096, 1024
ROUND_TRIPS = 5
FLOORS = {
    "patches": {"patches_vs_openslide": 1.5, "patches_vs_tile_server": 5.0},
    "region": {"region_s3_vs_libjpeg": 0.7},
    "moved": {"moved_vs_needed": 1 / 1.2, "round_trips": 1.0},
}
_OURS = "wsistore, gateway and client"
_TITLES = {
    "ours batch": (_OURS, "read_patches, 64 a call"),
    "ours threads": (_OURS, "read_region in threads"),
    "openslide loop": ("OpenSlide, the local file", "in a loop"),
    "openslide threads": ("OpenSlide, the local file", "in threads"),
    "large_image regions": ("large_image, tile server", "a region each, 8 connections"),
    "large_image tiles": ("large_image, tile server", "tiles put together, 8 connections"),
}
_SERVER = "large_image"
Tell = Callable[[str], object]


def patches(
    source: Path, shared: Shared, folder: Path, rounds: int, console: Console, tell: Tell, report: Report
) -> None:
    """Read random patches through the gateway, from the file by OpenSlide, and from a tile server."""
    with ExitStack() as stack:
        port, _ = stack.enter_context(gateway(shared, folder))
        ours = stack.enter_context(_worker("researching", folder))
        openslide = stack.enter_context(_worker("openslide", folder))
        runs: dict[str, Callable[[int], float]] = {
            "ours batch": partial(_ours, ours, shared, port, "batch"),
            "ours threads": partial(_ours, ours, shared, port, "threads"),
            "openslide loop": partial(_openslide, openslide, source, shared, "loop"),
            "openslide threads": partial(_openslide, openslide, source, shared, "threads"),
        }
        try:
            runs |= _tile_server(stack, source, shared, folder)
        except (UnavailableError, WorkerError) as error:
            report.skip("patches_vs_tile_server", f"large_image cannot be started: {error}")
        _check_pixels(ours, openslide, source, shared, port)
        for run in runs.values():
            run(-1)
        contenders = [
            Contender(key, run, may_fail=key.startswith(_SERVER), rounds=3 if key in _SLOW else None)
            for key, run in runs.items()
        ]
        timings = interleave(contenders, rounds, tell=tell)
    rows = [
        (*_TITLES[key], f"{1e3 * timings.median(key) / PATCHES:.2f}", _spread(seconds, PATCHES),
         f"{timings.ratio('ours batch', key) or 0:.2f}×")
        for key, seconds in timings.seconds.items()
    ]  # fmt: skip
    title = f"{PATCHES} patches of 256 pixels at random places of level 0 of {source.name}, {rounds} rounds"
    show(console, title, ["what", "how", ">median ms a patch", ">least–most", ">read_patches is"], rows)
    report.add("patches_vs_openslide", timings.ratio("ours batch", "openslide loop") or 0.0)
    report.add("patches_vs_openslide_threads", timings.ratio("ours batch", "openslide threads") or 0.0)
    servers = [key for key in timings.seconds if key.startswith(_SERVER)]
    if servers:
        report.add("patches_vs_tile_server", min(timings.ratio("ours batch", key) or 0.0 for key in servers))
    else:
        report.absent.setdefault("patches_vs_tile_server", "; ".join(timings.failed.values()))


_SLOW = ("large_image regions", "large_image tiles")


def _worker(module: str, folder: Path) -> Worker:
    return Worker(Path(sys.executable), f"bench.workers.{module}", folder / f"{module}.log")


def _spread(seconds: list[float], count: int = 1) -> str:
    return f"{1e3 * min(seconds) / count:.2f}–{1e3 * max(seconds) / count:.2f}"


def _ours(worker: Worker, shared: Shared, port: int, manner: str, number: int) -> float:
    places = shared.places(f"{number} {manner}", PATCHES, 256)
    answer = worker.call("patches", **shared.arguments(port), positions=places, manner=manner, check=False)
    return float(answer["seconds"])


def _openslide(worker: Worker, source: Path, shared: Shared, manner: str, number: int) -> float:
    places = shared.places(f"{number} {manner}", PATCHES, 256)
    return float(worker.call("patches", slide=source, positions=places, manner=manner, check=False)["seconds"])


def _check_pixels(ours: Worker, openslide: Worker, source: Path, shared: Shared, port: int) -> None:
    """Compare some patches with what OpenSlide reads of the file: decoders of one library, so they are the same."""
    places = shared.places("check", 32, 256)
    mine = ours.call("patches", **shared.arguments(port), positions=places, manner="batch", check=True)["hashes"]
    again = ours.call("patches", **shared.arguments(port), positions=places, manner="threads", check=True)["hashes"]
    theirs = openslide.call("patches", slide=source, positions=places, manner="loop", check=True)["hashes"]
    same = sum(a == b for a, b in zip(mine, theirs, strict=True))
    if mine != again or same < len(places) // 2:
        msg = f"of {len(places)} patches {same} are what OpenSlide reads, and both manners agree: {mine == again}"
        raise WorkerError(msg)


def _tile_server(
    stack: ExitStack, source: Path, shared: Shared, folder: Path
) -> dict[str, Callable[[int], float]]:  # fmt: skip
    python = environment("large_image")
    port = free_port()
    command = [str(python), "-m", "bench.workers.large_image", str(port), str(cores()), str(source)]
    stack.enter_context(listening(command, port, folder / "large_image.log"))
    client = stack.enter_context(_worker("tile_client", folder))
    across = max(shared.width, shared.height) / 256
    level = next(number for number in range(32) if 2**number >= across)

    def run(manner: str, number: int) -> float:
        places = shared.places(f"{number} {manner}", PATCHES, 256)
        answer = client.call("patches", port=port, level=level, positions=places, manner=manner, check=False)
        return float(answer["seconds"])

    return {f"{_SERVER} {manner}": partial(run, manner) for manner in ("regions", "tiles")}


def region(
    source: Path, make: Callable[[Server], Shared], server: Server, folder: Path, rounds: int, console: Console,
    tell: Tell, report: Report,
) -> None:  # fmt: skip
    """Read a large region through client and gateway from an S3 tier, beside libjpeg-turbo decoding its tiles."""
    tell("moving the slide to the S3 server")
    shared = make(server)
    with ExitStack() as stack:
        port, _ = stack.enter_context(gateway(shared, folder))
        ours = stack.enter_context(_worker("researching", folder))
        libjpeg = stack.enter_context(_worker("libjpeg", folder))

        def mine(number: int) -> float:
            ((y, x),) = shared.places(number, 1, REGION)
            return float(ours.call("region", **shared.arguments(port), y=y, x=x, edge=REGION)["seconds"])

        def theirs(number: int) -> float:
            ((y, x),) = shared.places(number, 1, REGION)
            place: dict[str, Any] = {"slide": source, "y": y, "x": x, "height": REGION, "width": REGION}
            return float(libjpeg.call("region", manner="kept", **place)["seconds"])

        _check_region(ours, libjpeg, source, shared, port)
        mine(-1)
        theirs(-1)
        timings = interleave([Contender("ours", mine), Contender("libjpeg", theirs)], rounds * 2, tell=tell)
    _show_region(timings, source, rounds * 2, console)
    report.add("region_s3_vs_libjpeg", timings.ratio("ours", "libjpeg") or 0.0)


def _check_region(ours: Worker, libjpeg: Worker, source: Path, shared: Shared, port: int) -> None:
    """See that the region is what libjpeg makes of the file's tiles, of as many, and that it comes from the tier."""
    ((y, x),) = shared.places("check", 1, REGION)
    mine = ours.call("region", **shared.arguments(port), y=y, x=x, edge=REGION, check=True)["hash"]
    theirs = libjpeg.call("picture", slide=source, y=y, x=x, height=REGION, width=REGION)
    tiles = len(shared.touched(y, x, REGION))
    if mine != theirs["hash"] or tiles != theirs["tiles"]:
        msg = f"the region at {y}, {x} has {tiles} tiles beside {theirs['tiles']}, or its pixels are others"
        raise WorkerError(msg)
    if shared.store.exists():
        msg = f"the slide still lies in {shared.store}: the region may not come from the S3 server"
        raise WorkerError(msg)


def _show_region(timings: Timings, source: Path, rounds: int, console: Console) -> None:
    title = f"A region of {REGION} × {REGION} pixels of level 0 of {source.name}, {rounds} rounds"
    titles = {"ours": f"{_OURS}, from S3", "libjpeg": "libjpeg-turbo, a thread per processor, tiles in memory"}
    show(console, title, ["what", ">median ms", ">least–most"], (
        (titles[key], f"{1e3 * timings.median(key):.0f}", _spread(seconds)) for key, seconds in timings.seconds.items()
    ))  # fmt: skip


def moved(shared: Shared, folder: Path, rounds: int, console: Console, tell: Tell, report: Report) -> None:
    """Count bytes and round trips of regions that nobody read before, of a slide that is open."""
    tell("counting what goes over the connections")
    rows, shares, trips = [], [], []
    with ExitStack() as stack:
        upstream, _ = stack.enter_context(gateway(shared, folder))
        port, traffic = stack.enter_context(counted(upstream))
        ours = stack.enter_context(_worker("researching", folder))
        ours.call("region", **shared.arguments(port), y=0, x=0, edge=SMALL)
        for number in range(rounds):
            ((y, x),) = shared.places(number, 1, SMALL)
            traffic.clear()
            ours.call("region", **shared.arguments(port), y=y, x=x, edge=SMALL)
            needed = sum(tile.size for tile in shared.touched(y, x, SMALL))
            shares.append(needed / traffic.bytes_received if traffic.bytes_received else 0.0)
            trips.append(traffic.round_trips())
            rows.append(
                (f"{y}, {x}", str(needed), str(traffic.bytes_received), str(len(traffic.requests)), str(trips[-1]))
            )
    title = f"Regions of {SMALL} × {SMALL} pixels that were not read before, of a slide that is open"
    show(console, title, ["at", ">bytes of its chunks", ">bytes received", ">requests", ">round trips"], rows)
    report.add("moved_vs_needed", min(shares))
    report.add("round_trips", ROUND_TRIPS / max(1, *trips))
