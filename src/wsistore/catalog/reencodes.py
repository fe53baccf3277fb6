"""The life of an attempt that makes a copy of another one; `wsistore.catalog.attempts` has that of ingests.

Either it takes the place of a copy in its own tier, encoded in another way (`AttemptKind.REENCODE`), or it comes into
another tier (`AttemptKind.MOVE`), and the copies that the job names are dropped then. The states and their order are
those of ingests. What differs: no version of a source comes in, so a claim only asks that the copy that was read is
still one of its slide's current version; the commit puts the new copy in the place of those that its tier had; an
attempt whose process died is taken over by who wants the same; and there is one such attempt per slide at a time.

Every attempt has a fencing number, greater than all that were given out for the slide before. A change of owner gives
it another. Each step asks for it: who was taken for dead though he only slept learns of it at his next step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from wsistore.catalog import attempts, claims, drops, schema
from wsistore.catalog.owner import is_alive, is_gone
from wsistore.catalog.records import (
    Attempt,
    AttemptKind,
    AttemptState,
    CopyRecord,
    CopyRow,
    DropRule,
    Proof,
    SourceState,
)
from wsistore.catalog.rows import attempt_row, copy_row
from wsistore.errors import ConflictError, Kind
from wsistore.model import CopyState

FIGURES = "figures"
"""Where an attempt's job holds, from its claim on, what its event tells."""
DROP = "drop"
"""Where the job of a move holds which copies are dropped afterwards."""
EXPIRES = "expires_at"
"""Where the job of a temporary copy holds when it may go."""
COPIES = (AttemptKind.REENCODE, AttemptKind.MOVE)
"""Attempts that make a copy of another one."""

Begun = tuple[CopyRow, Proof]
"""A copy whose drop has begun, and why it could."""

_A, _C, _F, _V = schema.attempts, schema.copies, schema.fences, schema.sources
_KEPT = (str(CopyState.COMMITTED), str(CopyState.SUSPECT))
_RESUMABLE = (AttemptState.WRITING, AttemptState.WRITTEN, AttemptState.VERIFIED)


def begin(connection: Connection, new: Attempt, now: datetime) -> Attempt:
    """Note a new copy before its first byte is written, or take over the attempt of a dead process that did the same.

    Returns
    -------
    Attempt
        `new`; or the one that was taken over, with the owner, the lease and the drops of `new`. Its fence is new.

    Raises
    ------
    ConflictError
        If another such attempt at the slide is open: its process lives, or may live; it does something else, or it is
        all but done.

    """
    for other in _open(connection, new.slide):
        if is_alive(other.owner, now, other.lease_until):
            what = "re-encodes" if other.kind is AttemptKind.REENCODE else "moves"
            msg = f"Another process {what} slide {new.slide} (attempt {other.attempt})."
            raise ConflictError(msg, kind=Kind.BUSY, remedy="Wait until it has ended, then run again.")
        if other.state not in _RESUMABLE or not is_same(other, new) or not may_be_continued(other):
            msg = f"Another attempt at slide {new.slide} (attempt {other.attempt}) was not finished."
            raise ConflictError(msg, kind=Kind.BUSY, remedy="Run again.")
        holder = {"owner": new.owner, "lease_until": new.lease_until, "state": str(AttemptState.WRITING)}
        fence = _next_fence(connection, new.slide)
        query = update(_A).where(_A.c.attempt == other.attempt)
        connection.execute(query.values(**holder, job=dict(new.job), fence=fence))
        return attempts.one(connection, other.attempt)
    begun = replace(new, fence=_next_fence(connection, new.slide))
    attempts.begin(connection, begun)
    return begun


def is_same(one: Attempt, other: Attempt) -> bool:
    """Say whether two attempts would write the same, whatever is dropped afterwards."""
    return (one.tier, one.kind) == (other.tier, other.kind) and is_same_job(one.job, other.job)


def is_same_job(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two jobs would write the same in one place."""
    return _written(one) == _written(other)


def _written(job: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in job.items() if key not in {DROP, EXPIRES, FIGURES}}


def may_be_continued(attempt: Attempt) -> bool:
    """Say whether the owner of an attempt is gone for sure: one who only sleeps would write among what others write."""
    return not attempt.owner or is_gone(attempt.owner)


def _next_fence(connection: Connection, slide: str) -> int:
    last = connection.scalar(select(_F.c.last).where(_F.c.slide == slide).with_for_update())
    if last is None:
        connection.execute(_F.insert(), {"slide": slide, "last": 1})
        return 1
    connection.execute(update(_F).where(_F.c.slide == slide).values(last=last + 1))
    return int(last) + 1


def _open(connection: Connection, slide: str) -> list[Attempt]:
    states = (*_RESUMABLE, AttemptState.CLAIMED, AttemptState.DROPPING)
    query = select(_A).where(
        _A.c.slide == slide,
        _A.c.kind.in_([str(kind) for kind in COPIES]),
        _A.c.state.in_([str(state) for state in states]),
    )
    return [attempt_row(row) for row in connection.execute(query.order_by(_A.c.started_at, _A.c.attempt))]


def claim(
    connection: Connection,
    attempt: str,
    *,
    fence: int,
    fingerprint: str,
    version: int,
    copy: CopyRecord,
    figures: Mapping[str, Any],
) -> None:
    """Claim the place of a slide's copies in a tier, before the commit object is written; may be repeated.

    Raises
    ------
    ConflictError
        If the attempt has ended or is somebody else's, another commit of the slide is under way or took the number, or
        the copy that was read is no longer one of the slide's current version.

    """
    known = attempts.held(connection, attempt, fence)
    if known.state is AttemptState.CLAIMED:
        return  # a repetition
    attempts.require(known, *_RESUMABLE)
    claims.check_no_claim(connection, known.slide)
    _check_source(connection, known, version, fingerprint)
    claims.check_number(connection, known.slide, copy)
    claims.put_copy(connection, attempt, known.slide, version, copy)
    # In the same step as the copy itself: none becomes one that stays because somebody died in between.
    connection.execute(update(_C).where(_C.c.attempt == attempt).values(expires_at=known.job.get(EXPIRES)))
    job = {**known.job, FIGURES: dict(figures)}
    attempts.set_state(connection, attempt, AttemptState.CLAIMED, fingerprint=fingerprint, job=job)


def _check_source(connection: Connection, known: Attempt, version: int, fingerprint: str) -> None:
    """Raise `ConflictError` unless the copy that was read is one of the slide's current version, of this content.

    It may be suspect by now: what was made of it is verified by itself.
    """
    query = (
        select(_C.c.attempt)
        .join(_V, (_V.c.slide == _C.c.slide) & (_V.c.n == _C.c.version))
        .where(
            _C.c.attempt == known.job.get("source"),
            _C.c.slide == known.slide,
            _C.c.version == version,
            _C.c.state.in_(_KEPT),
            _V.c.state == str(SourceState.CURRENT),
            _V.c.fingerprint == fingerprint,
        )
    )
    if connection.execute(query).first() is None:
        msg = f"The copy {known.job.get('source')} of slide {known.slide} was replaced while it was being read."
        raise ConflictError(msg, remedy="Run again.")


def commit(connection: Connection, attempt: str, fence: int, rule: DropRule) -> tuple[Attempt | None, list[Begun]]:
    """Put a claimed copy in the place of those of its version in its tier, and begin the drops that may begin now.

    Returns
    -------
    Attempt or None
        The attempt; None if it was committed before. Where copies that the job names could not be dropped now, it is
        `AttemptState.DROPPING` from here on, else committed.
    list of (CopyRow, Proof)
        Copies that the job names and whose drop has begun.

    Raises
    ------
    ConflictError
        As `wsistore.catalog.attempts.commit`, and if the attempt is somebody else's.

    """
    known = attempts.held(connection, attempt, fence)
    if known.state in (AttemptState.COMMITTED, AttemptState.DROPPING):
        return None, []
    attempts.require(known, AttemptState.CLAIMED)
    copy = attempts.copy_of(connection, attempt)
    assert copy is not None  # noqa: S101 - claimed, and an abandoned one is not committed
    current = select(_V.c.n).where(
        _V.c.slide == copy.slide, _V.c.n == copy.version, _V.c.state == str(SourceState.CURRENT)
    )
    is_current = connection.execute(current).first() is not None
    state = CopyState.COMMITTED if is_current else CopyState.SUPERSEDED
    connection.execute(update(_C).where(_C.c.attempt == attempt).values(state=str(state)))
    for other in replaced(connection, copy) if is_current else ():
        _started(connection, other, replace(rule, via=""))
    wanted = to_drop(connection, known) if is_current else []
    begun = [one for other in wanted for one in _started(connection, other, rule)]
    waits = len(begun) < len(wanted)
    attempts.set_state(connection, attempt, AttemptState.DROPPING if waits else AttemptState.COMMITTED)
    return known, begun


def _started(connection: Connection, copy: CopyRow, rule: DropRule) -> list[Begun]:
    try:
        return [(copy, drops.start(connection, copy, rule))]
    except ConflictError:
        return []  # it stays; who asked for it is told why when it is tried again


def to_drop(connection: Connection, attempt: Attempt) -> list[CopyRow]:
    """Return the copies that an attempt's job wants dropped and whose drop has not begun."""
    query = select(_C).where(_C.c.attempt.in_(list(attempt.job.get(DROP, ()))), _C.c.state.in_(_KEPT))
    return [copy_row(row) for row in connection.execute(query.order_by(_C.c.tier, _C.c.n))]


def close(connection: Connection, attempt: str, fence: int, reason: str) -> None:
    """Note that nothing more is to be dropped for an attempt; with the `reason` if something stayed."""
    known = attempts.held(connection, attempt, fence)
    if known.state is not AttemptState.COMMITTED:
        attempts.require(known, AttemptState.DROPPING)
        attempts.set_state(connection, attempt, AttemptState.COMMITTED, error=reason)


def replaced(connection: Connection, copy: CopyRow) -> list[CopyRow]:
    """Return the copies in whose place `copy` comes: a temporary one does not come in that of one that stays."""
    query = select(_C).where(
        _C.c.slide == copy.slide,
        _C.c.version == copy.version,
        _C.c.tier == copy.tier,
        _C.c.attempt != copy.attempt,
        _C.c.state.in_(_KEPT),
    )
    if copy.expires_at is not None:
        query = query.where(_C.c.expires_at.is_not(None))
    return [copy_row(row) for row in connection.execute(query.order_by(_C.c.n))]


def adopt(
    connection: Connection, seen: Attempt, *, fingerprint: str, version: int, copy: CopyRecord, rule: DropRule
) -> list[Begun]:
    """Claim and commit at once what the tier has of an attempt that never claimed, or was abandoned.

    Raises as `claim`, and `ConflictError` if the attempt is no longer as it was `seen`.

    """
    attempts.reopen(connection, seen)
    claim(
        connection,
        seen.attempt,
        fence=seen.fence,
        fingerprint=fingerprint,
        version=version,
        copy=copy,
        figures={"adopted": True},
    )
    return commit(connection, seen.attempt, seen.fence, rule)[1]
