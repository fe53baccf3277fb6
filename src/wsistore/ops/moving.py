"""Copies brought from tier to tier: written, read back, proven, committed; only then the one they came from is dropped.

Slides are worked on side by side. Those that are encoded on the way take turns with the workers, for each uses all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import datetime
from threading import Event, Lock

from wsistore.catalog import archived
from wsistore.catalog.records import AttemptKind, CopyRow
from wsistore.clock import iso
from wsistore.errors import InputError, Kind, StorageError, WsistoreError
from wsistore.events import EventKind, NewEvent
from wsistore.execute import Executor, open_executor
from wsistore.model import CopyState, Preset
from wsistore.ops.attempts import recover
from wsistore.ops.dropping import begin_drop, drop_replaced
from wsistore.ops.early import early_ends
from wsistore.ops.freezing import should_freeze
from wsistore.ops.holding import check_holds
from wsistore.ops.jobs import Job, Made, is_encoded
from wsistore.ops.move_orders import Order, bytes_needed, leaving_copies, result_of
from wsistore.ops.move_plans import planned
from wsistore.ops.move_results import MoveResult, MoveStatus
from wsistore.ops.one_of_many import reported
from wsistore.ops.reencode_attempt import run_attempt
from wsistore.ops.results import HOPELESS, Failure
from wsistore.ops.room import Room
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.sound import check_current, from_sound_copy
from wsistore.ops.stored import check_copy, current_copies, note_failure
from wsistore.ops.tuning import encoding_for
from wsistore.ops.watching import Watcher


def copy(
    site: Site,
    slides: Sequence[str],
    to: str,
    *,
    preset: Preset | None = None,
    dry_run: bool = False,
    scheduler: str | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    rules: Mapping[str, str] | None = None,
    watcher: Watcher | None = None,
) -> Iterator[MoveResult]:
    """Bring copies of slides to a tier and keep those that are there; see `move`."""
    return move(
        site,
        slides,
        to,
        keep_source=True,
        preset=preset,
        dry_run=dry_run,
        scheduler=scheduler,
        jobs=jobs,
        executor=executor,
        rules=rules,
        watcher=watcher,
    )


def move(
    site: Site,
    slides: Sequence[str],
    to: str,
    *,
    source: str | None = None,
    keep_source: bool = False,
    preset: Preset | None = None,
    until: datetime | None = None,
    dry_run: bool = False,
    scheduler: str | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    rules: Mapping[str, str] | None = None,
    watcher: Watcher | None = None,
) -> Iterator[MoveResult]:
    """Bring slides from one tier to another.

    A new copy is written, read back and compared with the source; then it is committed; then the copy in the tier that
    it came from is dropped, if others prove that it may go. A run that was killed is continued by the same call.

    Parameters
    ----------
    site
        An open site.
    slides
        Keys, unique beginnings or names; all of them are resolved before the first is begun.
    to
        Name of the tier that they go to.
    source
        Name of the tier whose copies are dropped; may be left out where a slide has copies in one other tier only.
    keep_source
        Drop nothing.
    preset
        How the new copies are encoded; by default as the settings of the tier say, with what the tuner chose.
    until
        The copies are temporary: from then on they are dropped as soon as others prove that they may be. By default
        they stay, and one that is there for a time becomes one that stays.
    dry_run
        Only say what would be done.
    scheduler
        Address of a Dask scheduler, for slides that are encoded on the way; by default a cluster is started here.
    jobs
        Slides at a time, and workers of that cluster; by default one per processor.
    executor
        Encodes, instead of Dask.
    rules
        By slide, the placement rule that wants it: events keep it, reports tell it.
    watcher
        Is told how it goes, from several threads; what it raises ends the run.

    Yields
    ------
    MoveResult
        One per slide, as they end. A slide that fails is a result, not an exception, and stays as it was; where a tier
        or the site itself fails, the slides that were not begun are reported as failed with that reason.

    Raises
    ------
    MissingError
        If one of `slides` is not there.
    SiteError
        If there is no such tier, or the site cannot be written.
    InputError
        If both tiers are the same.
    StorageError
        If the tier that they go to is not there.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    site.tier(to)
    if source is not None:
        site.tier_settings(source)
    if source == to:
        msg = f"Slides cannot be moved from tier {to} to itself."
        raise InputError(msg, kind=Kind.SETTINGS_INVALID, remedy="Use 'wsistore reencode' for another encoding.")
    keys = list(dict.fromkeys(site.catalog.resolve(slide) for slide in slides))
    order = Order(to, source, keep_source, preset, until, rules or {})
    if dry_run:
        return planned(site, keys, order)
    recover(site)
    workers = _Workers(site, executor, scheduler, jobs, watcher or Watcher())
    return _run(site, keys, order, workers, jobs or site.jobs)


# --- many slides ------------------------------------------------------------------------------------------------------


class _Workers:
    """What encodes slides on the way: started when the first needs it, used by one slide at a time."""

    def __init__(
        self, site: Site, given: Executor | None, scheduler: str | None, jobs: int | None, watcher: Watcher
    ) -> None:
        self.watcher = watcher
        self._site, self._given, self._opened = site, given, given
        self._scheduler, self._jobs = scheduler, jobs
        self._turn = Lock()

    def run(self, job: Job) -> Made | None:
        """Make a copy."""
        if job.as_it_is:
            return run_attempt(self._site, job, None, self.watcher)
        with self._turn:
            if self._opened is None:
                self._opened = open_executor(
                    scheduler=self._scheduler, workers=self._jobs, tell=self.watcher.waiting, clock=self._site.clock
                )
            return run_attempt(self._site, job, self._opened, self.watcher)

    def close(self) -> None:
        """End what was started."""
        if self._given is None and self._opened is not None:
            self._opened.close()


def _run(site: Site, keys: Sequence[str], order: Order, workers: _Workers, jobs: int) -> Iterator[MoveResult]:
    stop = Event()
    hopeless: list[Failure] = []

    def one(key: str) -> MoveResult:
        if stop.is_set():
            return MoveResult(slide=key, status=MoveStatus.FAILED, tier=order.tier, error=hopeless[0])
        result = reported(site, key, order.tier, lambda: _move(site, key, order, workers))
        if result.error is not None and result.error.kind in HOPELESS:
            hopeless.append(result.error)
            stop.set()
        return result

    try:
        yield from side_by_side(keys, one, jobs)
    finally:
        workers.close()


def side_by_side(keys: Sequence[str], one: Callable[[str], MoveResult], jobs: int) -> Iterator[MoveResult]:
    """Yield what `one` makes of every slide, several at a time, as they end."""
    if jobs == 1 or len(keys) == 1:
        yield from map(one, keys)
        return
    with ThreadPoolExecutor(min(jobs, max(1, len(keys))), "wsistore-move") as pool:
        running: set[Future[MoveResult]] = {pool.submit(one, key) for key in keys}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


# --- one slide --------------------------------------------------------------------------------------------------------


def _move(site: Site, key: str, order: Order, workers: _Workers) -> MoveResult:
    started = site.clock.monotonic_seconds()
    leaving = leaving_copies(site, key, order)
    if leaving:
        check_holds(site, key)
    there = _good_copy(site, key, order)
    if there is not None:
        keep_longer(site, there, order.until)
        return _leave(site, key, order, there, leaving)
    encoding = encoding_for(site, key, order.tier, order.preset or site.tier_settings(order.tier).preset)
    before = next((copy for copy in current_copies(site, key) if copy.tier == order.tier), None)
    if before is not None and before.state is CopyState.COMMITTED:
        check_holds(site, key)  # it is to be replaced
    read: list[CopyRow] = []

    def act(source: CopyRow) -> Made | None:
        for copy in leaving:
            check_current(site, copy)
        room.take(f"Slide {key}", bytes_needed(site, source, encoding))
        read.append(source)
        drops = tuple(copy.attempt for copy in leaving)
        kind = AttemptKind.REENCODE if source.tier == order.tier else AttemptKind.MOVE
        until = None if order.until is None else iso(order.until)
        return workers.run(
            Job(key, order.tier, encoding, before, source, started, kind, drops, until, rule=order.rules.get(key, ""))
        )

    def rank(copy: CopyRow) -> tuple[bool, bool, int]:
        return not is_encoded(copy, encoding), copy not in leaving, copy.n

    with Room(site, order.tier) as room:
        made = from_sound_copy(site, key, rank, act)
    if made is None:
        return result_of(site, key, order, MoveStatus.EXISTS, read[-1], reason="It is kept whole.")
    return replace(_made(site, key, order, leaving, read[-1], made), warnings=room.warnings)


def _good_copy(site: Site, key: str, order: Order) -> CopyRow | None:
    """Return the copy that the tier has already, if it is what is asked for; one that lacks something is suspect."""
    for copy in current_copies(site, key):
        if copy.tier != order.tier or copy.state is CopyState.SUSPECT:
            continue
        if order.preset is not None and copy.preset is not order.preset:
            continue
        try:
            check_copy(site.tier(copy.tier), copy)
        except StorageError:
            raise
        except WsistoreError as error:
            if error.kind != Kind.CORRUPT:
                raise
            note_failure(site, copy, error)  # type: ignore[arg-type]
        else:
            return copy
    return None


def keep_longer(site: Site, copy: CopyRow, until: datetime | None) -> bool:
    """Let a temporary copy stay until a later moment, or for good; say whether that is new."""
    if copy.expires_at is None:
        return False
    detail = {"tier": copy.tier, "attempt": copy.attempt, "expires_at": None if until is None else iso(until)}
    event = NewEvent(EventKind.COPY_KEPT, site.actor, detail)
    return archived.set_expiry(site.catalog, copy.attempt, None if until is None else iso(until), event)


def _leave(site: Site, key: str, order: Order, there: CopyRow, leaving: Sequence[CopyRow]) -> MoveResult:
    """Drop the copies of the tier that is left, where the other one has a copy already."""
    for copy in leaving:
        begin_drop(site, copy, via=there.attempt)
    drop_replaced(site, key)
    status = MoveStatus.MOVED if leaving else MoveStatus.EXISTS
    result = result_of(site, key, order, status, leaving[0] if leaving else there)
    return _with_drops(site, replace(result, verified_at=_row(site, there).verified_at), leaving)


def _made(site: Site, key: str, order: Order, leaving: Sequence[CopyRow], source: CopyRow, made: Made) -> MoveResult:
    result = replace(
        result_of(site, key, order, MoveStatus.MOVED if leaving else MoveStatus.COPIED, source),
        verified_at=made.verified_at,
        shards=made.shards,
    )
    new = site.catalog.copy_of_attempt(made.attempt)
    if new is not None and should_freeze(site, new):
        result = replace(result, reason="Not all of it is in the archive class yet: 'wsistore recover' goes on.")
    stays = site.catalog.attempt(made.attempt).error
    if stays:
        result = replace(result, status=MoveStatus.COPIED, reason=stays)
    return _with_drops(site, result, leaving)


def _with_drops(site: Site, result: MoveResult, leaving: Sequence[CopyRow]) -> MoveResult:
    """Say what became of the copies that were to go."""
    now = [_row(site, copy) for copy in leaving]
    failures: list[WsistoreError] = []
    if any(copy.state is CopyState.DROPPING for copy in now):
        failures = drop_replaced(site, result.slide)  # once more: what failed in passing goes now, else it is told why
        now = [_row(site, copy) for copy in leaving]
    dropped = tuple(sorted({copy.tier for copy in now if copy.state is CopyState.DROPPED}))
    gone = [copy for copy in now if copy.state in (CopyState.DROPPING, CopyState.DROPPED)]
    result = replace(result, early=early_ends(site, gone))
    if failures and any(copy.state is CopyState.DROPPING for copy in now):
        reason = f"Not all of the old copy is deleted, 'wsistore recover' tries again: {failures[0]}"
        return replace(result, status=MoveStatus.DROPPING, dropped=dropped, reason=reason)
    return replace(result, dropped=dropped)


def _row(site: Site, copy: CopyRow) -> CopyRow:
    return site.catalog.copy_of_attempt(copy.attempt) or copy
