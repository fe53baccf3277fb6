"""A damaged copy made good: a new one is made of a good one as by a move, proven, and takes its place.

The damaged copy is dropped by the rules for drops, never before the new one is committed; nothing is written over it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields

from wsistore.catalog.records import AttemptKind, CopyRow
from wsistore.compress.presets import ENCODINGS, Encoding
from wsistore.errors import ConflictError, IntegrityError, Kind, WsistoreError
from wsistore.events import EventKind
from wsistore.execute import Executor, open_executor
from wsistore.model import CopyState
from wsistore.ops.dropping import begin_drop, drop_replaced
from wsistore.ops.jobs import Job, Made, is_encoded
from wsistore.ops.piecing import piece_together
from wsistore.ops.reencode_attempt import run_attempt
from wsistore.ops.results import Failure
from wsistore.ops.scrub_plan import is_archived
from wsistore.ops.scrub_results import ScrubStatus
from wsistore.ops.site import Site
from wsistore.ops.sound import from_sound_copy
from wsistore.ops.stored import current_copies
from wsistore.ops.verifying import verify_one
from wsistore.ops.watching import Watcher

_log = logging.getLogger(__name__)

_LOST = "No good copy of the slide is left. Nothing was deleted: look for a backup, or ingest its source again."


@dataclass(frozen=True, slots=True)
class Repair:
    """How a repair ended."""

    status: ScrubStatus
    reason: str = ""
    source: str | None = None
    """Tier of the copy that was read; of one that was pieced together, of most of it."""
    verified_at: str | None = None
    """Of the new copy."""
    error: Failure | None = None
    """Why it could not be repaired."""


class Repairer:
    """Repairs copies, one after the other. To be closed.

    Parameters
    ----------
    site
        An open site.
    executor
        Encodes where no good copy is encoded as the damaged one; by default Dask, started when it is first needed.
    tell
        Gets a sentence where there is something to wait for.

    """

    def __init__(
        self, site: Site, executor: Executor | None = None, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._site, self._given, self._opened, self._tell = site, executor, executor, tell

    def close(self) -> None:
        """End the workers that were started."""
        if self._given is None and self._opened is not None:
            self._opened.close()
            self._opened = None

    def repair(self, damaged: CopyRow) -> Repair:
        """Put a new copy in the place of a suspect one; what goes wrong is a result.

        May be repeated, and goes on where another run was interrupted.
        """
        site = self._site
        copy = site.catalog.copy_of_attempt(damaged.attempt)
        if copy is None or copy.state is not CopyState.SUSPECT:
            return Repair(ScrubStatus.REPAIRED, "Another process repaired or dropped it meanwhile.")
        if any(
            other.tier == copy.tier and other.state is CopyState.COMMITTED for other in current_copies(site, copy.slide)
        ):
            return self._dropped(copy, Repair(ScrubStatus.REPAIRED, "The tier has another good copy."))
        try:
            self._check_tier(copy)
            self._look_again(copy)
            source, made, pieces = self._made_somehow(copy)
        except WsistoreError as error:
            return self._failed(copy, error)
        detail = {"tier": copy.tier, "damaged": copy.attempt, "attempt": made.attempt, "from": source.tier}
        site.note(copy.slide, EventKind.REPAIRED, {**detail, "pieces": dict(pieces)} if pieces else detail)
        reason = f"No copy was whole: it was pieced together of those in {_tiers(source.tier, *pieces)}."
        return self._dropped(
            copy, Repair(ScrubStatus.REPAIRED, reason if pieces else "", source.tier, made.verified_at)
        )

    def _check_tier(self, copy: CopyRow) -> None:
        tier = self._site.tier_settings(copy.tier)
        if is_archived(tier):
            msg = f"Tier {tier.name} is an archive: what is written there cannot be read back at once."
            raise ConflictError(msg, kind=Kind.BUSY, remedy="Copy the slide to another tier.")
        closed = tier.why_closed(self._site.clock.now().date())
        if closed:
            raise ConflictError(closed, kind=Kind.BUSY, remedy="Copy the slide to another tier.")

    def _look_again(self, copy: CopyRow) -> None:
        """Where no other copy is good, verify those that are suspect: a medium may have come back."""
        others = [other for other in current_copies(self._site, copy.slide) if other.attempt != copy.attempt]
        if any(other.state is CopyState.COMMITTED for other in others):
            return
        for other in others:
            if not is_archived(self._site.tier_settings(other.tier)) and verify_one(self._site, other):
                return

    def _made_somehow(self, copy: CopyRow) -> tuple[CopyRow, Made, Mapping[str, int]]:
        """Make the new copy of a good one, else of damaged ones; return also how much came from which other tier."""
        try:
            return *self._made(copy), {}
        except IntegrityError as error:
            found = piece_together(self._site, copy.slide)
            if found is None:
                raise
            _log.warning("no copy of slide %s is good (%s): it is pieced together", copy.slide, error)
        site, encoding = self._site, encoding_of(found.copy)
        started, until = site.clock.monotonic_seconds(), copy.expires_at
        job = Job(
            copy.slide, copy.tier, encoding, copy, found.copy, started, AttemptKind.MOVE,
            expires_at=until, pieces=found.storage,
        )  # fmt: skip
        return found.copy, _known(run_attempt(site, job, None, Watcher()), copy), found.taken

    def _made(self, copy: CopyRow) -> tuple[CopyRow, Made]:
        """Make the new copy; return the one that was read, and the new one."""
        site, encoding, read = self._site, encoding_of(copy), list[CopyRow]()
        started = site.clock.monotonic_seconds()

        def rank(other: CopyRow) -> tuple[bool, bool, int]:
            return is_archived(site.tier_settings(other.tier)), not is_encoded(other, encoding), other.n

        def act(source: CopyRow) -> Made | None:
            read.append(source)
            until = copy.expires_at
            job = Job(copy.slide, copy.tier, encoding, copy, source, started, AttemptKind.MOVE, expires_at=until)
            return run_attempt(site, job, None if job.as_it_is else self._executor(), Watcher())

        made = from_sound_copy(site, copy.slide, rank, act)
        return read[-1], _known(made, copy)

    def _executor(self) -> Executor:
        if self._opened is None:
            self._opened = open_executor(workers=self._site.jobs, tell=self._tell, clock=self._site.clock)
        return self._opened

    def _dropped(self, copy: CopyRow, repair: Repair) -> Repair:
        """Drop the damaged copy, and say why it stays where it does."""
        site, reasons = self._site, [repair.reason]
        now = site.catalog.copy_of_attempt(copy.attempt)
        try:
            if now is not None and now.state is CopyState.SUSPECT:
                begin_drop(site, now)
            failures = drop_replaced(site, copy.slide)
            reasons += [f"The damaged copy is not deleted yet: {failure}" for failure in failures[:1]]
        except WsistoreError as error:
            reasons.append(f"The damaged copy stays: {error}")
        reason = " ".join(filter(None, reasons))
        return Repair(repair.status, reason, repair.source, repair.verified_at)

    def _failed(self, copy: CopyRow, error: WsistoreError) -> Repair:
        good = [other for other in current_copies(self._site, copy.slide) if other.state is CopyState.COMMITTED]
        if good:
            tiers = ", ".join(sorted({other.tier for other in good}))
            reason = f"It is not repaired. The slide has a copy in: {tiers}."
            return Repair(ScrubStatus.DAMAGED, reason, error=Failure.of(error))
        return Repair(ScrubStatus.LOST, _LOST, error=Failure.of(error))


def _known(made: Made | None, copy: CopyRow) -> Made:
    if made is None:
        msg = f"Nothing was written in the place of copy {copy.attempt}."
        raise IntegrityError(msg, kind=Kind.INTERNAL, remedy="Please report it.")
    return made


def _tiers(*names: str) -> str:
    return " and ".join(dict.fromkeys(names))


def encoding_of(copy: CopyRow) -> Encoding:
    """Return how a copy is encoded, as far as the catalogue knows; the rest as its preset says."""
    known = {field.name for field in fields(Encoding)} - {"preset"}
    said = {name: value for name, value in copy.encoding.items() if name in known}
    return Encoding(**{**asdict(ENCODINGS[copy.preset]), **said, "preset": copy.preset})
