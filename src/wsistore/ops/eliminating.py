"""Slides deleted for good: all copies, of all versions, in all tiers; only ever by a plan that people approved.

1. What has to be so is looked at: nobody works on the slide, no tier locks it, no hold, all copies are as the plan saw
   them. The last three are asked in the transaction that begins it.
2. The event ``deleting`` is written in the same transaction. From here on nothing takes it back.
3. The ledgers of the tiers that hold copies are told, before the first object goes: should the catalogue be lost now,
   the one that is made anew from the tiers knows that the slide is being deleted, and goes on.
4. Copy by copy the commit is deleted, then the objects that it names with all their versions, then its data key.
5. The event ``deleted`` with the certificate is written, what names the slide is forgotten, all ledgers are told.

A tier that is away keeps its copy, and the slide is ``deleting`` until a recovery finds the tier there.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from wsistore.catalog.records import Attempt, AttemptState, CopyRow, SourceState
from wsistore.errors import ConflictError, WsistoreError
from wsistore.events import EventKind, NewEvent
from wsistore.ops.attempts import give_up
from wsistore.ops.eliminating_copies import finish_elimination, tell_tiers
from wsistore.ops.locks import check_unlocked
from wsistore.ops.own_work import lives
from wsistore.ops.results import Failure
from wsistore.ops.site import Site, read_only_error

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Who allowed that slides are deleted for good, or parted from their patients."""

    plan: str
    """SHA-256 of the plan's file."""
    rules: str
    """SHA-256 of the rules that it was made by."""
    approvals: tuple[Mapping[str, Any], ...] = ()
    """Of the plan: who, when, in which role (JSON values)."""
    visas: tuple[Mapping[str, Any], ...] = ()
    """Of the authorities that the site's policy names."""
    policy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, as events keep them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """A slide that is to go, and why."""

    slide: str
    """Its key."""
    copies: tuple[CopyRow, ...]
    """All that lie on tiers, as they were seen when it was decided; see `lying_copies` of `eliminating_copies`."""
    why: Mapping[str, Any]
    """Of the decision: the rule, until when it had to be kept (JSON values)."""


class EliminationStatus(StrEnum):
    """How far the deletion of a slide is."""

    DELETED = "deleted"
    DELETING = "deleting"
    """It has begun; what is left goes when its tier is there."""
    FAILED = "failed"
    """It has not begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eliminated:
    """What became of a slide."""

    slide: str
    status: EliminationStatus
    bytes_deleted: int = 0
    objects: int = 0
    tiers: tuple[str, ...] = ()
    reason: str = ""
    error: Failure | None = field(default=None)


def eliminate(
    site: Site, doomed: Sequence[Doomed], authority: Authority, check: Callable[[str], None] = lambda _: None
) -> Iterator[Eliminated]:
    """Delete slides for good. There is no way back.

    Parameters
    ----------
    site
        An open site.
    doomed
        The slides. All are begun before the first object is deleted, so that the ledgers are told once.
    authority
        Who allowed it: kept in every slide's chain of events, and in the certificates.
    check
        Raises `WsistoreError` if a slide must not go after all; asked right before each is begun.

    Yields
    ------
    Eliminated
        One per slide, in their order. What must not begin is a result, not an exception.

    Raises
    ------
    SiteError
        If the site cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    begun = [_try_begin(site, one, authority, check) for one in doomed]
    tiers = {copy.tier for one, error in zip(doomed, begun, strict=True) if error is None for copy in one.copies}
    ready = tell_tiers(site, sorted(tiers))
    results = [
        _finished(site, one, ready) if error is None else _failed(one, error)
        for one, error in zip(doomed, begun, strict=True)
    ]
    if any(error is None for error in begun):
        tell_tiers(site, [tier.name for tier in site.settings.tiers])
    yield from results


def _try_begin(site: Site, one: Doomed, authority: Authority, check: Callable[[str], None]) -> WsistoreError | None:
    try:
        check(one.slide)
        _begin(site, one, authority)
    except WsistoreError as error:
        _log.warning("slide %s is not deleted: %s", one.slide, error)
        return error
    return None


def _begin(site: Site, one: Doomed, authority: Authority) -> None:
    """Let a slide go; nothing is deleted yet."""
    check_unlocked(site, one.copies)
    for attempt in _left_behind(site, one.slide):
        give_up(site, attempt, "its slide is deleted")
    sources = {copy.version: site.catalog.source(one.slide, copy.version) for copy in one.copies}
    detail = {
        "authority": authority.to_json(),
        "why": dict(one.why),
        "content": [
            {"version": n, "fingerprint": source.fingerprint, "bytes": source.size_bytes}
            for n, source in sorted(sources.items())
        ],
        "copies": [
            {
                "tier": copy.tier,
                "attempt": copy.attempt,
                "version": copy.version,
                "commit_sha256": hashlib.sha256(copy.commit_body.encode()).hexdigest(),
            }
            for copy in one.copies
        ],
    }
    site.catalog.begin_elimination(one.slide, one.copies, NewEvent(EventKind.DELETING, site.actor, detail))


def _left_behind(site: Site, slide: str) -> list[Attempt]:
    """Return the attempts at a slide that dead processes left to be continued."""
    now = site.clock.now()
    going = (AttemptState.WRITING, AttemptState.WRITTEN, AttemptState.VERIFIED)
    mine = [attempt for attempt in site.catalog.open_attempts() if attempt.slide == slide and attempt.state in going]
    return [attempt for attempt in mine if not lives(attempt, now)]


def _finished(site: Site, one: Doomed, ready: set[str]) -> Eliminated:
    figures: dict[str, Any] = {
        "slide": one.slide,
        "bytes_deleted": sum(copy.bytes_stored for copy in one.copies),
        "objects": sum(copy.objects for copy in one.copies),
        "tiers": tuple(sorted({copy.tier for copy in one.copies})),
    }
    try:
        finish_elimination(site, one.slide, ready)
    except WsistoreError as error:
        if site.catalog.deletion_of(one.slide) is SourceState.DELETED:  # by another process's recovery
            return Eliminated(status=EliminationStatus.DELETED, **figures)
        reason = f"Not all of it is deleted yet, 'wsistore recover' goes on: {error.message}"
        left = {copy.attempt for copy in site.catalog.doomed_copies(one.slide)}
        gone = [copy for copy in one.copies if copy.attempt not in left]
        figures["bytes_deleted"] = sum(copy.bytes_stored for copy in gone)
        figures["objects"] = sum(copy.objects for copy in gone)
        return Eliminated(status=EliminationStatus.DELETING, reason=reason, error=Failure.of(error), **figures)
    return Eliminated(status=EliminationStatus.DELETED, **figures)


def _failed(one: Doomed, error: WsistoreError) -> Eliminated:
    return Eliminated(slide=one.slide, status=EliminationStatus.FAILED, reason=error.message, error=Failure.of(error))


def check_begun(site: Site, slide: str) -> None:
    """Raise `ConflictError` if a slide is being deleted for good, or was: nothing else is done to it."""
    state = site.catalog.deletion_of(slide)
    if state is not None:
        how = "was deleted" if state is SourceState.DELETED else "is being deleted"
        msg = f"Slide {slide} {how} for good."
        raise ConflictError(msg, remedy="'wsistore events' tells by which plan.")
