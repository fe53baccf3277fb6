"""A day's arrivals on a scanner's share, replayed faster, while the flow `ingest` looks at it: none missed or doubled.

A scanner writes each slide in pieces, every second one under a temporary name; passes begin every five minutes of the
replayed day; originals are deleted once their slides are kept. The flow runs under Prefect, with a server of its own.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.support.worker import Worker
from wsistore import ops
from wsistore.testing.tiffs import write_generic_tiff
from wsistore_flows.environment import client_environment
from wsistore_flows.server import Server

DAY_SLIDES, DAY_SECONDS = 1400, 86_400
SPEED = 100.0
SETTLE_SECONDS, EVERY_SECONDS = 600, 300
"""Of the replayed day: for how long a file must not change, and how often a pass begins."""
HOURLY = (1, 1, 1, 1, 1, 1, 2, 5, 9, 10, 10, 9, 7, 9, 10, 9, 7, 4, 2, 2, 1, 1, 1, 1)
"""How a laboratory's scanning spreads over the hours of a day, relative."""
_PIECES = 4
_QUIET_PASSES = 3
_PATIENCE_SECONDS = 1800.0
"""After the last arrival; then what is not kept is missed."""

_SETTINGS = """
[intake.scanner-1]
path = "{share}"
settle_seconds = {settle}
release = "delete"
release_after_hours = 0
release_copies = 1
"""


@dataclass(slots=True)
class Watched:
    """What a replay came to."""

    slides: int
    arrivals_seconds: float
    """How long slides came."""
    seconds: float = 0.0
    """Until the last was kept and its original gone."""
    looks: list[dict[str, Any]] = field(default_factory=list)
    """What each pass answered."""
    waits: list[float] = field(default_factory=list)
    """Seconds from the last byte of each slide until it was kept."""
    problems: list[str] = field(default_factory=list)
    """Slides that were missed, doubled or left on the share; passes that failed."""

    @property
    def pace(self) -> float:
        """How fast slides were kept by how fast they came; a little below 1 where the watcher keeps up."""
        return self.arrivals_seconds / self.seconds if self.seconds else 0.0

    @property
    def once(self) -> float:
        """The part of the slides with which all is well."""
        return max(0.0, 1.0 - len(self.problems) / self.slides)

    def rows(self) -> list[tuple[str, str]]:
        """Return what people want to know."""
        waits = self.waits or [0.0]
        looks = [look["seconds"] for look in self.looks] or [0.0]
        return [
            ("slides", f"{self.slides} in {self.arrivals_seconds:.0f} s"),
            ("all kept, originals gone", f"after {self.seconds:.0f} s"),
            ("from the last byte until kept", f"{statistics.median(waits):.1f} s, at most {max(waits):.1f} s"),
            ("passes", f"{len(looks)}, {statistics.median(looks):.1f} s each, at most {max(looks):.1f} s"),
            ("processor time", f"{sum(look['cpu'] for look in self.looks):.0f} s"),
            ("memory of the flow's process", f"{max(look['peak_bytes'] for look in self.looks) / 1e6:.0f} MB"),
            ("missed, doubled or wrong", str(len(self.problems))),
        ]


def watch(folder: Path, slides: int = DAY_SLIDES, speed: float = SPEED) -> Watched:
    """Replay arrivals in real time, `speed` times as fast as in a laboratory; each is as many seconds as it takes.

    Parameters
    ----------
    folder
        An empty folder of the run's own.
    slides
        How many; fewer take a part of the day.
    speed
        Times as fast.

    """
    site, share = folder / "site", folder / "share"
    share.mkdir()
    ops.init_site(site)
    settle = max(1, round(SETTLE_SECONDS / speed))
    with (site / "wsistore.toml").open("a", encoding="utf-8") as file:
        file.write(_SETTINGS.format(share=share, settle=settle))
    found = Watched(slides, DAY_SECONDS / speed * slides / DAY_SLIDES)
    scanner = _Scanner(share, [small_slide(seed) for seed in range(slides)], arrivals(slides, found.arrivals_seconds))
    server = Server(site, 0)
    server.start()
    try:
        environment = client_environment(site, server.address.api_url)
        with Worker(Path(sys.executable), "bench.workers.watching", folder / "log", environment) as worker:
            _look_on(worker, site, scanner, found, EVERY_SECONDS / speed)
    finally:
        server.stop()
    _check(site, share, scanner, found)
    return found


def _look_on(worker: Worker, site: Path, scanner: _Scanner, found: Watched, every: float) -> None:
    worker.call("look", site=site)  # the first run loads what it needs
    began = time.monotonic()
    scanner.start()
    quiet = 0
    while quiet < _QUIET_PASSES and time.monotonic() - began < found.arrivals_seconds + _PATIENCE_SECONDS:
        begun = time.monotonic()
        look = worker.call("look", site=site)
        found.looks.append(look)
        if look["failed"]:
            found.problems.append(look["message"])
        left = scanner.is_alive() or any(path.is_file() for path in scanner.share.rglob("*"))
        quiet = 0 if left else quiet + 1
        if left:
            found.seconds = time.monotonic() - began
        time.sleep(max(0.0, every - (time.monotonic() - begun)))


class _Scanner(threading.Thread):
    """Writes slides when their moments have come."""

    def __init__(self, share: Path, datas: list[bytes], moments: list[float]) -> None:
        super().__init__(name="scanner", daemon=True)
        self.share, self._datas, self._moments = share, datas, moments
        self.whole_at: dict[str, float] = {}
        """When the last byte of each was written, by the wall clock."""

    def run(self) -> None:
        started = time.monotonic()
        for number, (data, moment) in enumerate(zip(self._datas, self._moments, strict=True)):
            time.sleep(max(0.0, moment - (time.monotonic() - started)))
            path = self.share / f"rack{number % 7}" / f"{number}.tiff"
            path.parent.mkdir(exist_ok=True)
            writing = path.with_name(path.name + ".part") if number % 2 else path
            for piece in range(_PIECES):
                with writing.open("ab") as file:
                    file.write(data[len(data) * piece // _PIECES : len(data) * (piece + 1) // _PIECES])
            if writing != path:
                writing.rename(path)
            self.whole_at[path.name] = time.time()


def _check(site: Path, share: Path, scanner: _Scanner, found: Watched) -> None:
    """Look at the catalogue and the share, not at what the flow said of them."""
    with ops.open_site(site, read_only=True) as opened:
        rows = opened.catalog.slides()
        kinds = {row.slide: [str(event.kind) for event in opened.catalog.events(row.slide)] for row in rows}
    names = Counter(row.name for row in rows)
    found.problems += [f"{name} is there {times} times" for name, times in names.items() if times > 1]
    found.problems += [f"{name} is missed" for name in scanner.whole_at if name not in names]
    found.problems += [
        f"{row.name}: {kinds[row.slide]}" for row in rows if kinds[row.slide] != ["ingested", "original-released"]
    ]
    found.problems += [f"{path.name} is left" for path in share.rglob("*") if path.is_file()]
    for row in rows:
        kept_at = datetime.fromisoformat(row.created_at).timestamp()
        found.waits.append(kept_at - scanner.whole_at.get(row.name, kept_at))


def arrivals(count: int, seconds: float) -> list[float]:
    """Return when slides come, in seconds from the start: as over a day that takes so long."""
    rng = np.random.default_rng(7)
    hours = rng.choice(24, count, p=np.array(HOURLY) / sum(HOURLY)) + rng.random(count)
    return sorted(float(hour) for hour in hours * seconds / 24)


def small_slide(seed: int) -> bytes:
    """Return a slide of six tiles, like no other."""
    rng = np.random.default_rng(seed)
    picture = np.kron(rng.integers(0, 256, (6, 8, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    with TemporaryDirectory() as folder:
        path = Path(folder, "slide.tiff")
        write_generic_tiff(path, [np.ascontiguousarray(picture)], tile=(64, 64))
        return path.read_bytes()
