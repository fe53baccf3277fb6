"""Scrubs: copies read again before they rot unnoticed, tiers compared with the catalogue, damage repaired.

What was read is written down copy by copy, so a scrub that was killed is simply begun again. One scrub reads a tier at
a time; another one that comes leaves it out.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from wsistore.catalog import archived, scrubs
from wsistore.catalog.records import CopyRow
from wsistore.catalog.scrubs import Waiting
from wsistore.clock import iso
from wsistore.errors import ConflictError, IntegrityError, StorageError, WsistoreError
from wsistore.events import EventKind
from wsistore.execute import Executor
from wsistore.model import CopyState
from wsistore.ops.attempts import recover
from wsistore.ops.inventory import take_inventory
from wsistore.ops.repairing import Repairer
from wsistore.ops.results import HOPELESS, Failure
from wsistore.ops.scrub_lock import ScrubLock
from wsistore.ops.scrub_plan import Limits, Pace, due, is_archived, latest, pace_of
from wsistore.ops.scrub_reading import CLOSED, UNREACHABLE, Reader
from wsistore.ops.scrub_results import Finding, Result, ScrubRow, ScrubStatus, TierReport, What
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.stored import note_failure
from wsistore.ops.verifying import verify_one

_log = logging.getLogger(__name__)

_UNREAD = 3
"""After so many copies in a row that a tier did not give, it is left for the next run."""
_LACKS = frozenset({What.MISSING, What.TRUNCATED})


def scrub(
    site: Site,
    tiers: Sequence[str] = (),
    *,
    deep: bool = False,
    budget_bytes: int | None = None,
    everything: bool = False,
    dry_run: bool = False,
    executor: Executor | None = None,
    progress: Callable[[int], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Result]:
    """Compare tiers with the catalogue, read the copies that are due again, and repair what is damaged.

    Parameters
    ----------
    site
        An open site.
    tiers
        Names; by default all.
    deep
        Also rebuild the source of every copy that is read, and compare its pixels with another copy's.
    budget_bytes
        Read at most so much, but at least one copy, instead of what the period asks for.
    everything
        Read every copy, whenever it was read last.
    dry_run
        Only say what would be read; no tier is touched.
    executor
        Encodes where a copy is repaired from one that is encoded otherwise; by default Dask.
    progress
        Gets the number of bytes just read, from several threads.
    tell
        Gets a sentence where there is something to wait for.

    Yields
    ------
    ScrubRow, Finding, TierReport
        What was found, as it is found; at last one report per tier. What fails is a result, not an exception.

    Raises
    ------
    SiteError
        If there is no such tier, or the site cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    names = list(dict.fromkeys(tiers)) or [tier.name for tier in site.settings.tiers]
    for name in names:
        site.tier_settings(name)
    limits = Limits(everything, budget_bytes)
    if dry_run:
        return _planned(site, names, limits, deep=deep)
    recover(site)
    return _Scrub(site, limits, Reader(site, deep=deep, progress=progress), Repairer(site, executor, tell)).run(names)


# --- only asked -------------------------------------------------------------------------------------------------------


def _planned(site: Site, names: Sequence[str], limits: Limits, *, deep: bool) -> Iterator[Result]:
    lanes, now = [], site.clock.now()
    for name in names:
        lane = _Lane(name, is_archived(site.tier_settings(name)), site.clock.monotonic_seconds())
        lane.elapsed = ScrubLock(site, name).elapsed()
        lanes.append(lane)
    for lane, one in _in_turn(site, lanes, limits, now, with_urgent=True):
        lane.read, lane.bytes_read = lane.read + 1, lane.bytes_read + one.bytes_stored
        yield ScrubRow(
            slide=one.slide,
            name=site.catalog.slide(one.slide).name,
            tier=lane.tier,
            status=ScrubStatus.PLANNED,
            attempt=one.attempt,
            bytes_read=one.bytes_stored,
            deep=deep,
            verified_before=one.verified_at,
        )
    for lane in lanes:
        yield lane.report(site, limits)


# --- the run ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Lane:
    """A tier of a run."""

    tier: str
    archived: bool
    started: float
    elapsed: timedelta | None = None
    """Since the last run, if that is known."""
    findings: Counter[str] = field(default_factory=Counter)
    read: int = 0
    bytes_read: int = 0
    unread: int = 0
    """Copies in a row of which the tier gave nothing."""
    error: Failure | None = None

    def report(self, site: Site, limits: Limits) -> TierReport:
        """Say how far the tier is now."""
        pace = None if self.archived else pace_of(site, self.tier)
        now = site.clock.now()
        by = None if pace is None else pace.round_by(now, limits.budget_bytes)
        return TierReport(
            tier=self.tier,
            archived=self.archived,
            scrub_days=site.tier_settings(self.tier).scrub_days,
            copies=pace.copies if pace else 0,
            bytes_stored=pace.bytes_stored if pace else 0,
            read=self.read,
            bytes_read=self.bytes_read,
            overdue=pace.overdue if pace else 0,
            oldest=pace.oldest if pace else None,
            round_by=None if by is None else iso(by),
            findings=dict(sorted(self.findings.items())),
            seconds=site.clock.monotonic_seconds() - self.started,
            error=self.error,
        )


def _in_turn(
    site: Site, lanes: Sequence[_Lane], limits: Limits, now: datetime, *, with_urgent: bool = False
) -> Iterator[tuple[_Lane, Waiting]]:
    """Yield the copies of all tiers that are to be read: those first whose period ends first; budget included."""

    def waiting(number: int, lane: _Lane) -> Iterator[tuple[datetime, int, Waiting]]:
        pace: Pace = pace_of(site, lane.tier)
        for one in due(site, lane.tier, pace, limits, lane.elapsed, now):
            yield datetime.fromisoformat(one.verified_at) + pace.period, number, one

    open_lanes = [lane for lane in lanes if not lane.archived]
    if with_urgent:
        for lane in open_lanes:
            yield from ((lane, one) for one in scrubs.urgent(site.catalog, lane.tier, latest(now)))
    spent = 0
    for _, number, one in heapq.merge(
        *(waiting(n, lane) for n, lane in enumerate(open_lanes)), key=lambda row: row[:2]
    ):
        if open_lanes[number].error is not None:
            continue
        over = limits.budget_bytes is not None and spent + one.bytes_stored > limits.budget_bytes
        if over and (spent or not limits.budget_bytes):
            return
        spent += one.bytes_stored
        yield open_lanes[number], one


class _Scrub:
    """One run."""

    def __init__(self, site: Site, limits: Limits, reader: Reader, repairer: Repairer) -> None:
        self._site, self._limits, self._reader, self._repairer = site, limits, reader, repairer
        self._done: set[str] = set()
        """Copies that were dealt with because something was wrong with them, or in the very moment of the start."""
        self._began: dict[str, int] = {}
        """How many events there were of each slide when the first of its copies was mended."""
        self._looked_at: set[str] = set()
        """Copies that were read, or would have been if their tier had given them."""
        self._start = site.clock.now()

    def run(self, names: Sequence[str]) -> Iterator[Result]:
        """Do it."""
        site = self._site
        with ExitStack() as locks:
            locks.callback(self._repairer.close)
            lanes, held = [], []
            for name in names:
                lane = _Lane(name, is_archived(site.tier_settings(name)), site.clock.monotonic_seconds())
                lock = ScrubLock(site, name)
                lanes.append(lane)
                if not locks.enter_context(lock.held()):
                    msg = f"Another scrub is reading tier {name}."
                    lane.error = Failure.of(ConflictError(msg, remedy="Wait until it has ended."))
                    continue
                lane.elapsed = lock.elapsed()
                held.append((lane, lock))
            for lane, _ in held:
                yield from self._look_through(lane)
            ready = [lane for lane, _ in held if lane.error is None]
            for lane in ready:
                yield from self._urgent(lane)
            for lane in ready:
                yield from self._ask_about(lane)
            ready = [lane for lane in ready if lane.error is None]
            for lane, one in _in_turn(site, ready, self._limits, self._start):
                yield from self._read(lane, one)
            yield from self._what_came_to_light(ready)
            for lane, lock in held:
                if lane.error is None:
                    lock.note()
            for lane in lanes:
                yield lane.report(site, self._limits)

    def _look_through(self, lane: _Lane) -> Iterator[Result]:
        """Compare a tier with the catalogue; what a copy lacks makes it suspect."""
        try:
            for found in take_inventory(self._site, lane.tier):
                lane.findings[str(found.what)] += 1
                yield found
                if found.what in _LACKS:
                    yield from self._lacks(lane, found)
        except WsistoreError as error:
            _log.info("tier %s cannot be looked through now: %s", lane.tier, error)
            lane.error = Failure.of(error)

    def _lacks(self, lane: _Lane, found: Finding) -> Iterator[Result]:
        """Say what becomes of a copy that lacks something; one that is read again later is dealt with then."""
        copy = self._site.catalog.copy_of_attempt(found.attempt or "")
        if copy is None or copy.attempt in self._done:
            return
        error = IntegrityError(f"{found.message}", remedy="Restore the slide from another copy.")
        is_noted = note_failure(self._site, copy, error)
        if is_noted and not lane.archived:
            return  # suspect copies are read first
        self._done.add(copy.attempt)
        row = self._row(lane, copy, ScrubStatus.DAMAGED, error)
        if is_noted:
            yield from self._repaired(row, copy)
        else:
            yield replace(row, reason="It is of a version that was superseded: such copies are not repaired.")

    def _urgent(self, lane: _Lane) -> Iterator[Result]:
        """Read the copies that are suspect; of an archive it can only be said that they are."""
        for one in scrubs.urgent(self._site.catalog, lane.tier, latest(self._site.clock.now())):
            copy = self._site.catalog.copy_of_attempt(one.attempt)
            if not lane.archived:
                if lane.error is None:
                    yield from self._read(lane, one)
            elif copy is not None and copy.state is CopyState.SUSPECT and copy.attempt not in self._done:
                row = self._row(lane, copy, ScrubStatus.DAMAGED, None)
                yield replace(row, reason="It failed its last verification. Recall the slide, and verify it.")

    def _what_came_to_light(self, lanes: Sequence[_Lane]) -> Iterator[Result]:
        """Read the copies that became suspect meanwhile: repairs and proofs of drops read others of the same slide."""
        while True:
            now = latest(self._site.clock.now())
            new = [
                (lane, one)
                for lane in lanes
                if lane.error is None and not lane.archived
                for one in scrubs.urgent(self._site.catalog, lane.tier, now)
                if one.attempt not in self._looked_at | self._done
            ]
            if not new:
                return
            for lane, one in new:
                yield from self._read(lane, one)

    def _ask_about(self, lane: _Lane) -> Iterator[Result]:
        """Ask an archive about the copies that it was not asked about for a period; none of them is read."""
        if not lane.archived:
            return
        days = 0 if self._limits.everything else self._site.tier_settings(lane.tier).scrub_days
        before = iso(self._start - timedelta(days=days))
        for copy in archived.frozen(self._site.catalog, lane.tier, before):
            if copy.attempt in self._done:
                continue
            good = verify_one(self._site, copy)
            row = self._row(lane, copy, ScrubStatus.GOOD if good else ScrubStatus.DAMAGED, None)
            yield replace(row, reason="Its tier says that it is as it was." if good else "It is not what it was.")

    def _read(self, lane: _Lane, waiting: Waiting) -> Iterator[Result]:
        """Read one copy, unless somebody else did so meanwhile, and repair it."""
        site = self._site
        self._looked_at.add(waiting.attempt)
        copy = site.catalog.copy_of_attempt(waiting.attempt)
        if copy is None or copy.state not in (CopyState.COMMITTED, CopyState.SUSPECT) or copy.attempt in self._done:
            return
        if copy.state is CopyState.COMMITTED and copy.verified_at != waiting.verified_at:
            return
        started = site.clock.monotonic_seconds()
        for row in self._judged(lane, copy):
            if row.attempt == copy.attempt:
                lane.read, lane.bytes_read = lane.read + 1, lane.bytes_read + row.bytes_read
                row = replace(row, seconds=site.clock.monotonic_seconds() - started)
            yield row

    def _judged(self, lane: _Lane, copy: CopyRow) -> Iterator[ScrubRow]:
        """Yield what is found of a copy and becomes of it; nothing if it is nobody's concern any more."""
        try:
            found = self._reader.read(copy)
        except (IntegrityError, StorageError) as error:
            if error.kind in UNREACHABLE:
                lane.unread += error.kind not in CLOSED
                if error.kind in HOPELESS or lane.unread == _UNREAD:
                    lane.error = Failure.of(error)
                yield self._row(lane, copy, ScrubStatus.UNREAD, error)
                return
            self._done.add(copy.attempt)
            if note_failure(self._site, copy, error):
                yield from self._repaired(self._row(lane, copy, ScrubStatus.DAMAGED, error), copy)
            return
        lane.unread = 0
        if found.verified_at is not None and found.verified_at <= iso(self._start):
            self._done.add(copy.attempt)
        row = self._row(lane, copy, ScrubStatus.DAMAGED if found.differs else ScrubStatus.GOOD, found.differs)
        yield replace(
            row, bytes_read=found.bytes_read, objects=found.objects, verified_at=found.verified_at, reason=found.note
        )

    def _repaired(self, row: ScrubRow, copy: CopyRow) -> Iterator[ScrubRow]:
        """Repair a copy; yield what became of it, and of others that went with it."""
        if copy.slide not in self._began:
            self._began[copy.slide] = len(self._site.catalog.events(copy.slide))
        repair = self._repairer.repair(copy)
        _log.info("copy %s of slide %s in tier %s: %s", copy.attempt, copy.slide, copy.tier, repair.status)
        why = "" if repair.error is None or repair.status is ScrubStatus.LOST else repair.error.message
        yield replace(
            row,
            status=repair.status,
            reason=" ".join(filter(None, (repair.reason, why))),
            source=repair.source,
            verified_at=repair.verified_at,
            bytes_read=copy.bytes_stored,
            objects=copy.objects,
        )
        reason = f"It was found damaged while copy {copy.attempt} was mended, and dropped with it."
        for other in self._gone(copy.slide):
            yield replace(
                row, attempt=other.attempt, tier=other.tier, status=repair.status, reason=reason, error=None,
                verified_before=other.verified_at,
            )  # fmt: skip

    def _gone(self, slide: str) -> Iterator[CopyRow]:
        """Yield copies that were found damaged in this run and are dropped, but were not told of."""
        for event in self._site.catalog.events(slide)[self._began[slide] :]:
            attempt = str(event.detail.get("attempt", ""))
            if event.kind == EventKind.VERIFICATION_FAILED and attempt not in self._done:
                copy = self._site.catalog.copy_of_attempt(attempt)
                if copy is not None and copy.state not in (CopyState.COMMITTED, CopyState.SUSPECT):
                    self._done.add(attempt)
                    yield copy

    def _row(self, lane: _Lane, copy: CopyRow, status: ScrubStatus, error: WsistoreError | None) -> ScrubRow:
        return ScrubRow(
            slide=copy.slide,
            name=self._site.catalog.slide(copy.slide).name,
            tier=lane.tier,
            status=status,
            attempt=copy.attempt,
            deep=self._reader.deep,
            verified_before=copy.verified_at,
            error=None if error is None else Failure.of(error),
        )
