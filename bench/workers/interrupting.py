"""Moves that are really interrupted: processes that are killed at a chosen step; then what recovers from it.

Each move runs in a process of its own, forked from this one, that kills itself (SIGKILL) at the step. So nothing of it
is tidied up, and its attempt belongs to a process that is gone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import Any
from unittest import mock

from bench.support.serving import Answer, serve, timed
from wsistore.catalog import Catalog
from wsistore.clock import SystemClock
from wsistore.compress.keys import COMMITS
from wsistore.ops import Recovered, Site, add_tier, ingest, init_site, move, open_site, recover_all
from wsistore.storage.fault import FaultStorage, Rule, RunAfter, RunBefore
from wsistore.storage.s3_control import S3Control
from wsistore.storage.s3_options import S3Options
from wsistore.storage.wrapper import Verb
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import tissue

FAR = "far"
STATES = ("writing", "writing-old", "written", "written-old", "claimed", "committed", "dropping", "half-dropped")
"""Where a move is killed: half-way through writing; when all is written; when the copy is claimed and its commit is
not yet on the tier; when the commit is, and the catalogue does not know; when the source is to be dropped; when one of
its objects is gone. What is ``old`` was killed eight days ago and is removed, for nobody came to continue it."""

_OLD = timedelta(days=8)
_SIDE = 300
"""Pixels of a small slide."""


class _Earlier(SystemClock):
    """The machine's clock, eight days ago."""

    def now(self) -> datetime:
        return super().now() - _OLD


def prepare(folder: str, slides: int, bucket: str, endpoint: str, region: str) -> Answer:
    """Make a site with a tier in `bucket`, and take `slides` small slides of different content into ``hot``."""
    place = Path(folder)
    init_site(place)
    add_tier(place, FAR, {"url": f"s3://{bucket}/tier", "endpoint": endpoint, "region": region, "allow_http": True})
    sources = place / "sources"
    sources.mkdir()
    first = sources / "0000.svs"
    write_svs(first, pyramid(tissue(_SIDE, _SIDE, seed=1), 4, 1), tile=256)
    content = first.read_bytes()
    # Bytes behind the last tile: another content, the same picture.
    for number in range(1, slides):
        (sources / f"{number:04}.svs").write_bytes(content + f"slide {number:08}".encode())
    with open_site(place) as site:
        results = list(ingest(site, [sources], tier="hot"))
    return {"slides": [result.slide for result in results if result.slide is not None]}


def interrupt(folder: str, slides: Sequence[str], state: str) -> Answer:
    """Start a move of each slide to the bucket, in a process that is killed in `state`."""
    with open_site(Path(folder)) as site:
        far = site.tier_settings(FAR)
    # What takes long to load is loaded once; this starts no thread, which a fork would lose.
    S3Control(S3Options.of(far.url, far.storage_options), SystemClock())
    waiting, killed = list(slides), 0
    running: set[int] = set()
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            running.add(forked(partial(_doomed, Path(folder), waiting.pop(), state)))
        pid, status = os.wait()
        running.discard(pid)
        killed += was_killed(status)
    return {"killed": killed}


def states(folder: str) -> Answer:
    """Count the attempts that are open, and the drops that were begun, by state."""
    with open_site(Path(folder)) as site:
        return _states(site)


def recover(folder: str) -> Answer:
    """Do what ``wsistore recover`` does; opening the site is not timed."""
    results: list[Recovered] = []
    with open_site(Path(folder)) as site:
        before = time.process_time()
        seconds = timed(lambda: results.append(recover_all(site)))
        cpu, after = time.process_time() - before, _states(site)
    done = results[0]
    told = {"finished": done.finished, "removed": done.removed, "waiting": done.waiting, "failed": done.failed}
    return {"seconds": seconds, "cpu": cpu, "after": after, **told}


def go_on(folder: str, slides: Sequence[str]) -> Answer:
    """Give the command again that was interrupted; say how many slides are where they should be then."""
    moved: list[bool] = []
    with open_site(Path(folder)) as site:
        seconds = timed(lambda: moved.extend(result.error is None for result in move(site, list(slides), FAR)))
        there = sum({str(copy.tier) for copy in site.catalog.copies(slide)} == {FAR} for slide in slides)
    return {"seconds": seconds, "moved": sum(moved), "there": there}


# --- killed at a step -------------------------------------------------------------------------------------------------


def forked(act: Callable[[], object]) -> int:
    """Do something in a process of its own, and end it then; return its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        act()
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
    os._exit(1)


def _doomed(folder: Path, slide: str, state: str) -> None:
    # Every move begins with a recovery: it would finish what was killed before.
    mock.patch("wsistore.ops.moving.recover").start()
    site = open_site(folder, clock=_Earlier() if state.endswith("-old") else None)
    match state.removesuffix("-old"):
        case "writing":
            _strike(site, FAR, Rule(RunBefore(die), verb=Verb.PUT, nth=4))
        case "written":
            _die_after("mark_written")
        case "claimed":
            _strike(site, FAR, Rule(RunBefore(die), verb=Verb.PUT, key_contains=f"{COMMITS}/"))
        case "committed":
            _strike(site, FAR, Rule(RunAfter(die), verb=Verb.PUT, key_contains=f"{COMMITS}/"))
        case "dropping":
            _die_after("commit_reencode")
        case _:
            _strike(site, "hot", Rule(RunAfter(die), verb=Verb.DELETE, nth=2))
    for result in move(site, [slide], FAR):
        os.write(2, f"{slide} was not interrupted: {result.status} {result.error}\n".encode())


def _strike(site: Site, tier: str, rule: Rule) -> None:
    site._tiers[tier] = FaultStorage(site.tier(tier), [rule])


def _die_after(step: str) -> None:
    original = getattr(Catalog, step)

    @wraps(original)
    def last(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        die()

    setattr(Catalog, step, last)


def die() -> None:
    """End this process without a chance to tidy up."""
    os.kill(os.getpid(), signal.SIGKILL)


def was_killed(status: int) -> bool:
    """Say whether a process ended by `die`, given what waiting for it told."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _states(site: Site) -> Answer:
    found: dict[str, int] = {}
    for attempt in site.catalog.open_attempts():
        found[str(attempt.state)] = found.get(str(attempt.state), 0) + 1
    drops = len(site.catalog.open_drops())
    return found | ({"drops": drops} if drops else {})


if __name__ == "__main__":
    serve({"prepare": prepare, "interrupt": interrupt, "states": states, "recover": recover, "go_on": go_on})
