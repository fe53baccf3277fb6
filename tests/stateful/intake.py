"""A share under a scanner, people and an administrator, while passes over it come, die and meet.

The model is plain: what the scanner has finished writing, byte for byte, and what people took away themselves. What
must hold after every step: what was finished is on the share, or in the site; and every slide in the site is one that
was finished, whole. At the end, when the share is left alone: every slide is kept, once, and its release has its event.

::

    python -m tests.stateful.intake --slides 1400        a day's arrivals, a hundred times as fast
    python -m tests.stateful.intake --steps 3000         the machine
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.intake_kit import NAME, SETTLE, Killer, copied, releasing, watch, watched
from tests.move_kit import in_process
from tests.site_kit import memory_site, restored, tiny_series, tiny_tiff
from wsistore import ops
from wsistore.clock import SystemClock
from wsistore.errors import Kind
from wsistore.events import EventKind
from wsistore.ops import intake_pass
from wsistore.settings import Release
from wsistore.testing.clock import ManualClock

COUNTS: Counter[str] = Counter()
"""What was done by all machines of this process."""

ANY = st.integers(0, 10**6)


@contextmanager
def without_lock() -> Iterator[None]:
    """Let passes meet, as where the file system has no locks."""

    @contextmanager
    def free(*_: Any) -> Iterator[bool]:
        yield True

    with mock.patch.object(intake_pass, "process_lock", free):
        yield


class IntakeMachine(RuleBasedStateMachine):
    """See the module."""

    @initialize(release=st.booleans())
    def start(self, *, release: bool) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.share, self.away = self.folder / "share", self.folder / "away"
        self.clock = ManualClock()
        options = releasing(copies=2, hours=1) if release else {}
        self.site = watched(self.folder, self.clock, **options)
        self.finished: dict[str, bytes] = {}
        """Of files that are whole: their bytes, by path on the share."""
        self.taken_away: set[bytes] = set()
        self.growing: dict[str, bytes] = {}
        self.coming: list[tuple[str, bytes]] = []
        """Instances of series that are still to come."""
        self.read: dict[tuple[str, int], dict[str, bytes]] = {}
        self.seed = 0
        self.context = in_process()
        self.context.__enter__()
        COUNTS["machines"] += 1

    @property
    def there(self) -> bool:
        return self.share.exists()

    def new(self) -> tuple[str, bytes]:
        self.seed += 1
        made = tiny_tiff(self.folder / "made.tiff", self.seed)
        return f"day{self.seed % 2}/{self.seed}.tiff", made.read_bytes()

    def write(self, path: str, data: bytes) -> None:
        target = self.share / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    # --- the scanner

    @precondition(lambda self: self.there)
    @rule()
    def slide_arrives(self) -> None:
        path, data = self.new()
        self.write(path, data)
        self.finished[path] = data

    @precondition(lambda self: self.there)
    @rule()
    def slide_begins_to_grow(self) -> None:
        path, data = self.new()
        self.write(path, data[: len(data) // 2])
        self.growing[path] = data

    @precondition(lambda self: self.there and self.growing)
    @rule(number=ANY)
    def slide_is_whole(self, number: int) -> None:
        path = sorted(self.growing)[number % len(self.growing)]
        self.finished[path] = self.growing.pop(path)
        self.write(path, self.finished[path])

    @precondition(lambda self: self.there)
    @rule()
    def slide_is_renamed(self) -> None:
        path, data = self.new()
        self.write(path + ".part", data)
        self.run_pass()
        (self.share / (path + ".part")).rename(self.share / path)
        self.finished[path] = data

    @precondition(lambda self: self.there and not self.coming)
    @rule()
    def series_begins(self) -> None:
        self.seed += 1
        made = sorted(tiny_series(self.folder / f"made{self.seed}", self.seed).iterdir())
        self.coming = [(f"series{self.seed}/{one.name}", one.read_bytes()) for one in made]
        shutil.rmtree(self.folder / f"made{self.seed}")

    @precondition(lambda self: self.there and self.coming)
    @rule()
    def instance_arrives(self) -> None:
        path, data = self.coming.pop(0)
        self.write(path, data)
        self.finished[path] = data

    @precondition(lambda self: self.there)
    @rule()
    def nonsense_arrives(self) -> None:
        self.seed += 1
        self.write(f"{self.seed}.svs", b"no slide" * 30)

    # --- people

    @precondition(lambda self: self.there and self.finished)
    @rule(number=ANY)
    def somebody_takes_a_file_away(self, number: int) -> None:
        path = sorted(self.finished)[number % len(self.finished)]
        if path.endswith(".tiff") and (self.share / path).exists():
            (self.share / path).unlink()
            self.taken_away.add(self.finished.pop(path))

    @rule()
    def share_goes_or_comes(self) -> None:
        if self.there:
            self.share.rename(self.away)
        else:
            self.away.rename(self.share)

    @rule()
    def copies_are_made(self) -> None:
        for row in self.site.catalog.slides():
            if {copy.tier for copy in self.site.catalog.copies(row.slide)} == {"hot"}:
                copied(self.site, row.slide, "warm")

    @rule(seconds=st.sampled_from([1, SETTLE // 2, SETTLE, 3700]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    # --- passes

    def run_pass(self) -> None:
        (report,) = ops.intake(self.site, jobs=1)
        assert report.error in ({"", str(Kind.SOURCE_BUSY)} if self.there else {str(Kind.TIER_MISSING)}), report.problem
        COUNTS["passes"] += 1
        COUNTS.update({name: count for name, count in report.counts.items() if name in {"ingested", "released"}})

    @rule()
    def a_pass(self) -> None:
        self.run_pass()

    @rule(nth=st.integers(1, 25), after=st.booleans())
    def a_pass_is_killed(self, nth: int, *, after: bool) -> None:
        killer = Killer(nth, after=after)
        try:
            with killer.at_work():
                self.run_pass()
        except KeyboardInterrupt:
            COUNTS["killed"] += 1

    @rule(nth=st.integers(1, 8))
    def two_passes_meet(self, nth: int) -> None:
        """Let another process make a whole pass before the nth thing that the first one writes down."""
        left, real = nth, type(self.site.catalog).put_intake

        def meeting(catalog: Any, changes: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self.run_pass()
                COUNTS["met"] += 1
            real(catalog, changes)

        with without_lock(), mock.patch.object(type(self.site.catalog), "put_intake", meeting):
            self.run_pass()

    # --- what must hold

    def kept(self) -> list[dict[str, bytes]]:
        """Return the files of all slides; a version that came back once is not read again."""
        rows = self.site.catalog.slides()
        for row in rows:
            if (row.slide, row.version) not in self.read:
                self.read[row.slide, row.version] = restored(self.site, row.slide)
        return [self.read[row.slide, row.version] for row in rows]

    @invariant()
    def nothing_is_lost_or_half(self) -> None:
        top = self.share if self.there else self.away
        kept = self.kept()
        stored = {data for files in kept for data in files.values()}
        whole = set(self.finished.values())
        gone = [path for path in self.finished if not (top / path).exists()]
        for path in gone:
            assert self.finished[path] in stored, path
        assert stored <= whole | self.taken_away
        if gone and self.site.settings.intake[0].release is Release.LEAVE:
            raise AssertionError(gone)

    def teardown(self) -> None:
        if not hasattr(self, "share"):
            return
        if not self.there:
            self.away.rename(self.share)
        for path, data in (*self.growing.items(), *self.coming):
            self.write(path, data)
            self.finished[path] = data
        for _ in range(3):
            self.clock.advance(SETTLE)
            self.run_pass()
        self.copies_are_made()
        self.clock.advance(3700)
        self.run_pass()
        self.check_end()
        self.context.__exit__(None, None, None)
        self.site.close()
        shutil.rmtree(self.folder)

    def check_end(self) -> None:
        """Everything was taken in, once and whole; originals went if they were to; every file is accounted for."""
        kept = self.kept()
        singles = [data for files in kept if len(files) == 1 for data in files.values()]
        assert len(set(singles)) == len(singles)
        assert set(self.finished.values()) <= {data for files in kept for data in files.values()}
        series = {path.split("/")[0] for path in self.finished if path.startswith("series")}
        assert sum(row.series is not None for row in self.site.catalog.slides()) == len(series)
        left = {str(path.relative_to(self.share)) for path in self.share.rglob("*") if path.is_file()}
        told = [row for row in ops.intake_state(self.site) if row.files]
        assert sum(row.files for row in told) == len(left)
        assert {str(row.status) for row in told} <= {"kept", "refused"}
        if self.site.settings.intake[0].release is not Release.LEAVE:
            assert left == {name for name in left if name.endswith(".svs")}
            events = [one for one in self.site.catalog.events() if one.kind == EventKind.ORIGINAL_RELEASED]
            assert {one.slide for one in events} >= {
                row.slide for row in self.site.catalog.slides() if row.series is not None
            }
        assert self.site.catalog.check_chains() == []
        assert self.site.catalog.open_attempts() == []


def run_machine(steps: int, examples: int) -> None:
    """Run machines of so many steps."""
    run_state_machine_as_test(
        IntakeMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            verbosity=Verbosity.normal,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


# --- a day's arrivals -------------------------------------------------------------------------------------------------

DAY_SLIDES, DAY_SECONDS = 1400, 86400
HOURLY = (1, 1, 1, 1, 1, 1, 2, 5, 9, 10, 10, 9, 7, 9, 10, 9, 7, 4, 2, 2, 1, 1, 1, 1)
"""How a laboratory's scanning spreads over the hours of a day, relative."""


@dataclass
class Replay:
    """What a replay found."""

    slides: int
    seconds: float
    passes: int
    longest_pass: float
    most_waiting: int
    problems: list[str] = field(default_factory=list)


def arrivals(count: int, seconds: float) -> list[float]:
    """Return when slides come, in seconds from the start: as over a day that takes so long."""
    rng = np.random.default_rng(7)
    hours = rng.choice(24, count, p=np.array(HOURLY) / sum(HOURLY)) + rng.random(count)
    return sorted(float(hour) for hour in hours * seconds / 24)


def replay(folder: Path, count: int, *, speed: float = 100.0) -> Replay:
    """Let slides arrive in real time, `speed` times as fast as in a laboratory, and watch the share meanwhile.

    A pass begins every five minutes of that time; each slide is written in four pieces, every second one under a
    temporary name; originals are deleted.
    """
    site = memory_site(folder / "site", clock=SystemClock())
    share = folder / "share"
    share.mkdir()
    options = releasing(copies=1, hours=0) | {"settle": timedelta(seconds=SETTLE / speed)}
    watch(site, share, **options)
    datas = [tiny_tiff(folder / "made.tiff", seed).read_bytes() for seed in range(count)]
    seconds = DAY_SECONDS / speed * count / DAY_SLIDES
    scanner = threading.Thread(target=_scan, args=(share, datas, arrivals(count, seconds)))
    found = Replay(count, 0.0, 0, 0.0, 0)
    started = time.monotonic()
    scanner.start()
    quiet = 0
    while scanner.is_alive() or quiet < 3:
        begun = time.monotonic()
        (report,) = ops.intake(site)
        found.passes += 1
        found.longest_pass = max(found.longest_pass, report.seconds)
        found.most_waiting = max(found.most_waiting, report.counts["waiting"])
        quiet = 0 if scanner.is_alive() or report.counts["waiting"] else quiet + 1
        time.sleep(max(0.0, 300 / speed - (time.monotonic() - begun)))
    scanner.join()
    found.seconds = time.monotonic() - started
    found.problems = _wrong(site, share, datas)
    site.close()
    return found


def _scan(share: Path, datas: list[bytes], moments: list[float]) -> None:
    started = time.monotonic()
    for number, (data, moment) in enumerate(zip(datas, moments, strict=True)):
        time.sleep(max(0.0, moment - (time.monotonic() - started)))
        path = share / f"rack{number % 7}" / f"{number}.tiff"
        path.parent.mkdir(exist_ok=True)
        writing = path.with_name(path.name + ".part") if number % 2 else path
        for part in range(4):
            with writing.open("ab") as file:
                file.write(data[len(data) * part // 4 : len(data) * (part + 1) // 4])
        if writing != path:
            writing.rename(path)


def _wrong(site: ops.Site, share: Path, datas: list[bytes]) -> list[str]:
    problems = []
    names = Counter(row.name for row in site.catalog.slides())
    problems += [f"{name} is there {times} times" for name, times in names.items() if times > 1]
    problems += [f"{number}.tiff is lost" for number in range(len(datas)) if f"{number}.tiff" not in names]
    for row in site.catalog.slides():
        kinds = [str(event.kind) for event in site.catalog.events(row.slide)]
        if kinds != ["ingested", "original-released"]:
            problems.append(f"{row.name}: {kinds}")
        if restored(site, row.slide) != {row.name: datas[int(row.name.partition(".")[0])]}:
            problems.append(f"{row.name} is not what was written")
    problems += [f"{path} is left" for path in share.rglob("*") if path.is_file()]
    problems += [f"{one.path} is not forgotten" for one in site.catalog.intake_files(NAME) if one.gone_at is None]
    return problems


def main() -> int:
    """Run what was asked for, and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--slides", type=int, help="replay so many arrivals")
    parser.add_argument("--speed", type=float, default=100.0, help="times as fast as in a laboratory")
    parser.add_argument("--steps", type=int, help="run the machine for so many steps")
    arguments = parser.parse_args()
    if arguments.steps:
        run_machine(40, max(1, arguments.steps // 40))
        sys.stdout.write(f"{dict(COUNTS)}\n")
    if arguments.slides:
        folder = Path(tempfile.mkdtemp())
        found = replay(folder, arguments.slides, speed=arguments.speed)
        shutil.rmtree(folder)
        sys.stdout.write(f"{found}\n")
        return bool(found.problems)
    return 0


if __name__ == "__main__":
    sys.exit(main())
