"""A process that dies in mid-scrub, or whose tiers fail: nothing is lost, and the next scrub mends what is left."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.move_kit import assert_at_rest, assert_whole, bare, dies, in_process, moved, tiered_site
from tests.scrub_kit import copy_in, flip, rot, rotting, scrub
from tests.site_kit import cli, command, files_of, ingest, new_site, tiny_tiff
from wsistore import ops
from wsistore.compress.keys import Place
from wsistore.model import Preset, random_key
from wsistore.testing.clock import ManualClock

DAY = 86_400.0


def enumerated(tmp_path: Path, *, after: bool, step: int, preset: Preset = Preset.KEEP) -> int:
    """Let scrubs of a damaged tier die at every call; return how often."""
    clock, path = ManualClock(), tiny_tiff(tmp_path / "in" / "a.tiff")
    deaths = 0
    with in_process(), tiered_site(tmp_path / "site", clock=clock) as site:
        slide, files = str(ingest(site, path)[0].slide), files_of(path)
        moved(site, slide, "warm", keep_source=True, preset=preset)
        for nth in range(1, 2000, step):
            damaged = copy_in(site, slide, "warm")
            key = list(dict(rotting(damaged)).values())[nth % (3 if preset is Preset.PACK else 7)]
            rot(site, "warm", key, flip(0.4))
            orphan = f"{Place(random_key(), random_key()).store}zarr.json"
            bare(site, "warm").put(orphan, b"left")
            clock.advance(8 * DAY)
            fate = dies(site, lambda: scrub(site), nth, after=after)
            assert_whole(site, slide, files)
            if fate.is_dead:
                deaths += 1
                assert ops.recover(site).failed == 0, fate.calls[-1]
                assert_whole(site, slide, files)
                scrub(site)
            assert_at_rest(site, slide, files, "hot", "warm")
            if not fate.is_dead:
                return deaths
    pytest.fail("it never came to an end")


def test_process_dies_at_some_calls_of_a_scrub(tmp_path: Path) -> None:
    """With a step, for every day."""
    assert enumerated(tmp_path, after=False, step=13) > 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("preset", "step"), [(Preset.KEEP, 4), (Preset.PACK, 7)])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_process_dies_at_many_calls_of_a_scrub(tmp_path: Path, preset: Preset, step: int, *, after: bool) -> None:
    """A repair is a move, which dies at every call in the tests of moves."""
    assert enumerated(tmp_path, after=after, step=step, preset=preset) > 10


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with in_process(), tiered_site(tmp_path / "site", clock=ManualClock()) as opened:
        yield opened


def test_repair_waits_for_who_is_at_the_slide(site: ops.Site, tmp_path: Path) -> None:
    """Somebody else's move of the slide is not disturbed; the copy is told as damaged, and repaired by the next run."""
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    slide = str(ingest(site, path)[0].slide)
    moved(site, slide, "warm", keep_source=True)
    rot(site, "warm", dict(rotting(copy_in(site, slide, "warm")))["shard"], flip(0.4))
    until = site.clock.now() + timedelta(minutes=10)
    job = {"source": copy_in(site, slide, "hot").attempt, "preset": "keep"}
    attempt, _ = site.catalog.begin_reencode(slide, "cold", "machine-0002/boot/77/1", until, job)
    (row,) = scrub(site, "warm").rows
    assert row.status == "damaged"
    assert "hot" in row.reason
    site.catalog.release(attempt.attempt, fence=attempt.fence)
    assert scrub(site, "warm").rows[0].status == "repaired"
    assert_at_rest(site, slide, files_of(path), "hot", "warm")


def test_kill_in_mid_scrub(tmp_path: Path) -> None:
    """A real process, killed while it holds its lock: the next one gets the tier at once, and goes on."""
    folder = new_site(tmp_path / "site")
    for number in range(3):
        assert cli(folder, "ingest", tiny_tiff(tmp_path / f"{number}.tiff", seed=number)).code == 0
    program = f"import os\n{_KILLED}\nmain()"
    arguments = [sys.executable, "-c", program, *command(folder, "scrub", "--all", "--json")[3:]]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with ops.open_site(folder) as opened:
        kinds = [str(event.kind) for event in opened.catalog.events()]
        assert kinds.count("verified") == 1
    again = cli(folder, "scrub", "--all", "--json")
    assert again.code == 0
    assert again.lines[-1]["good"] == 3
    assert (folder / "scrub-hot.lock").is_file()


_KILLED = """
import signal
from wsistore.cli.main import main
from wsistore.ops import scrub_reading
original, calls = scrub_reading.Reader.read, []
def read(self, copy):
    calls.append(copy)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, copy)
scrub_reading.Reader.read = read
"""
