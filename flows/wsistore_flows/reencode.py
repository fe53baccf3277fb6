"""The flow that encodes copies anew where they are not as their tiers want them: batches of slides, shards on Dask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from wsistore import ops
from wsistore.errors import Kind, TransientError
from wsistore.execute import Executor
from wsistore.model import Preset
from wsistore.ops.reencode_due import Due, reencode_due, why_not_now
from wsistore.ops.results import HOPELESS, Failure, ReencodeResult, ReencodeStatus
from wsistore.units import format_bytes
from wsistore_flows.hooks import HOOKS
from wsistore_flows.running import BATCH, FLOW, Run, State, Told, done, night
from wsistore_flows.states import GOES_ON, NOTHING_TO_DO, WAITING_FOR_WINDOW, ended, kind_passes, may_be_told

_AT_THE_CLUSTER = frozenset(map(str, (Kind.CLUSTER_UNREACHABLE, Kind.CLUSTER_UNFIT)))
_ENDS = frozenset({*map(str, HOPELESS), *_AT_THE_CLUSTER})
"""What the next slide would fail for, too."""


MOST = 20_000
"""Slides of one run: more than a night can do, and little to remember."""


@flow(name="re-encode", **FLOW, **HOOKS)
def reencode(
    site: str | None = None,
    tiers: list[str] | None = None,
    preset: Preset | None = None,
    where: str | None = None,
    whole: bool = False,
    slides: Annotated[int, Field(ge=1)] | None = None,
    hours: Annotated[float, Field(gt=0)] | None = None,
    anytime: bool = False,
    batch: Annotated[int, Field(ge=1)] = BATCH,
) -> State:
    """Encode copies anew that are in another preset than their tier: each is proven before the old one is removed.

    Parameters
    ----------
    site
        The site's folder; by default the one that WSISTORE_HOME tells.
    tiers
        Names of tiers; by default all.
    preset
        What copies are to be, instead of what their tiers' settings say.
    where
        SQL condition over slides, such as ``bytes_source > 1000000000``; no identities, for Prefect shows it.
    whole
        Whether slides that are kept whole are looked at, too.
    slides
        At most so many in this run.
    hours
        No batch is begun later than this after the start: the next run goes on.
    anytime
        Whether batches are begun also outside the hours of the rules' window.
    batch
        Slides of one task.

    """
    limits = _Limits(min(slides or MOST, MOST), None if hours is None else timedelta(hours=hours), anytime, batch)
    choice = partial(reencode_due, tiers=tiers or (), preset=preset, where=where, whole=whole)
    return night("re-encode", site, partial(_reencode, choice=choice, limits=limits))


@dataclass(frozen=True, slots=True)
class _Limits:
    """Of one run."""

    slides: int
    time: timedelta | None
    anytime: bool
    batch: int


@dataclass(slots=True)
class _Tally:
    """What became of slides; results of those that went well are not kept."""

    count: Counter[str] = field(default_factory=Counter)
    bytes_before: int = 0
    bytes_after: int = 0
    cpu_seconds: float = 0.0
    fallbacks: Counter[str] = field(default_factory=Counter)
    failed: dict[str, ReencodeResult] = field(default_factory=dict)

    def add(self, result: ReencodeResult) -> None:
        """Count a slide; one that failed before and went well now did not fail."""
        self.failed.pop(result.slide, None)
        if result.error is not None:
            self.failed[result.slide] = result
            return
        self.count[str(result.status)] += 1
        if result.status is ReencodeStatus.REENCODED:
            self.bytes_before += result.bytes_before or 0
            self.bytes_after += result.bytes_after or 0
            self.cpu_seconds += result.cpu_seconds
            self.fallbacks.update(result.fallbacks)

    def failure_of(self, slide: str) -> Failure | None:
        """Return why a slide failed; None if it did not, or was not tried."""
        found = self.failed.get(slide)
        return None if found is None else found.error

    @property
    def failures(self) -> list[Failure]:
        """Why slides failed."""
        return [one.error for one in self.failed.values() if one.error is not None]


def _reencode(run: Run, choice: Any, limits: _Limits) -> State:
    due = list(islice(choice(run.site), limits.slides))
    if not due:
        return done("All copies are as their tiers want them.", name=NOTHING_TO_DO)
    tally, first = _Tally(), 1
    for some in _batches(due, limits.batch):
        closed = "" if limits.anytime else why_not_now(run.site)
        if closed and first == 1:
            return done(f"{len(due)} copies are to be encoded anew. {closed}", name=WAITING_FOR_WINDOW)
        late = limits.time is not None and run.site.clock.now() >= run.began + limits.time
        if closed or (late and first > 1):
            break
        _work(run, f"slides {first}-{first + len(some) - 1} of {len(due)}, {some[0].tier}", some, tally)
        first += len(some)
        if any(failure.kind in _ENDS for failure in tally.failures):
            break
    return _end(run, tally, len(due))


def _batches(due: Iterable[Due], size: int) -> Iterator[list[Due]]:
    """Yield slides that are to become the same in the same tier together."""
    some: list[Due] = []
    for one in due:
        if some and (len(some) == size or (one.tier, one.preset) != (some[0].tier, some[0].preset)):
            yield some
            some = []
        some.append(one)
    if some:
        yield some


class _TryAgainError(TransientError):
    """Slides of a batch failed for what may pass by itself."""


def _work(run: Run, name: str, some: Sequence[Due], tally: _Tally) -> None:
    """Encode a batch: a task, whose slides' shards are tasks of the workers."""
    waiting = [one.slide for one in some]

    def work() -> None:
        # Workers of its own: when a cluster is lost, the next try finds another one.
        with run.executor() as executor:
            _encode(run, some[0], waiting, executor, tally)
        again = [failure for slide in waiting if (failure := tally.failure_of(slide)) is not None]
        if again:
            msg = f"{len(again)} slides failed for now: {may_be_told(again[0].message, again[0].kind)}"
            raise _TryAgainError(msg)

    with suppress(_TryAgainError):  # not any more: each failure is in the tally, and keeps no other batch waiting
        run.step(name, work)


def _encode(run: Run, like: Due, waiting: list[str], executor: Executor, tally: _Tally) -> None:
    """Encode slides; those that are done with go from `waiting`."""
    results = ops.reencode(run.site, list(waiting), like.preset, tier=like.tier, executor=executor, watcher=Told())
    with closing(results):  # type: ignore[type-var]
        for result in results:
            tally.add(result)
            if result.error is None or not kind_passes(result.error.kind):
                waiting.remove(result.slide)
            if result.error is not None and result.error.kind in _AT_THE_CLUSTER:
                return


def _end(run: Run, tally: _Tally, all_of_them: int) -> State:
    encoded, unchanged = tally.count["reencoded"], tally.count["unchanged"]
    left = all_of_them - encoded - unchanged - len(tally.failed)
    run.facts.update(
        encoded=encoded,
        unchanged=unchanged,
        failed=len(tally.failed),
        left=left,
        bytes_before=tally.bytes_before,
        bytes_after=tally.bytes_after,
        cpu_seconds=round(tally.cpu_seconds),
    )
    _show(run, tally)
    message = f"{encoded} of {all_of_them} copies are encoded anew"
    if encoded:
        message += f": {format_bytes(tally.bytes_before)} became {format_bytes(tally.bytes_after)}"
    message += f", {unchanged} stay as they are" if unchanged else ""
    if left and not tally.failed:
        return done(f"{message}, {left} are left for the next run.", name=GOES_ON)
    return ended(message + (f", {left} are left for the next run" if left else ""), tally.failures)


def _show(run: Run, tally: _Tally) -> None:
    rows = [{"what": name, "value": value} for name, value in run.facts.items()]
    rows += [{"what": f"tiles kept otherwise: {why}", "value": count} for why, count in sorted(tally.fallbacks.items())]
    run.shown.table("totals", rows, "What was encoded anew.")
    if tally.failed:
        failed = [
            {"slide": one.slide, "tier": one.tier or "", "why": may_be_told(one.error.message, one.error.kind)}
            for one in tally.failed.values()
            if one.error is not None
        ]
        run.shown.table("failed", failed, "Slides whose copies are as they were.")
