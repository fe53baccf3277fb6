"""The life of an attempt: from before its first byte to its commit, or to its end without a trace.

::

    begin ──> writing ──> (written) ──> (verified) ──> claimed ──> (dropping) ──> committed
                 └───────────┴──────────────┴────────────┴──> abandoned ──> forgotten

Each function is one step and runs in one writing transaction. The order in which the caller goes:

1. `begin`, before any byte is written: what a crash leaves on the tier can be found by its attempt.
2. Write, read back, verify.
3. `claim`, before the commit object is written: from here everything that is needed to finish is in the catalogue.
4. Write the commit object: this is when the slide is there.
5. `commit`.

After a crash between 3 and 5 whoever comes next repeats 4 and 5. A claimed attempt is abandoned only where another
attempt's commit object stands in its place: its owner may just be slow, and about to do 4.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select, update

from wsistore.catalog import claims, schema, slides
from wsistore.catalog.records import (
    Attempt,
    AttemptState,
    CopyRecord,
    CopyRow,
    SlideRecord,
    SourceRecord,
    SourceState,
)
from wsistore.catalog.rows import attempt_row, copy_row
from wsistore.errors import ConflictError, Kind, MissingError
from wsistore.model import CopyState
from wsistore.model import fingerprint as content_of

_A, _C, _S, _V = schema.attempts, schema.copies, schema.slides, schema.sources
_UNCLAIMED = (AttemptState.WRITING, AttemptState.WRITTEN, AttemptState.VERIFIED)
_OPEN = (*_UNCLAIMED, AttemptState.CLAIMED)


def begin(connection: Connection, attempt: Attempt) -> None:
    """Note an attempt before its first byte is written."""
    values = {name: getattr(attempt, name) for name in Attempt.__slots__}
    plain = {"state": str(attempt.state), "kind": str(attempt.kind), "job": dict(attempt.job)}
    connection.execute(_A.insert(), values | plain)


def one(connection: Connection, attempt: str) -> Attempt:
    """Return an attempt; `MissingError` if there is none."""
    row = connection.execute(select(_A).where(_A.c.attempt == attempt).with_for_update()).first()
    if row is None:
        msg = f"There is no attempt {attempt!r}."
        raise MissingError(msg, remedy="It was cleaned up, or belongs to another site.")
    return attempt_row(row)


def unfinished(connection: Connection, tier: str | None) -> list[Attempt]:
    """Return the attempts that were not committed, oldest first; abandoned ones until they are forgotten."""
    query = select(_A).where(_A.c.state != str(AttemptState.COMMITTED))
    if tier is not None:
        query = query.where(_A.c.tier == tier)
    return [attempt_row(row) for row in connection.execute(query.order_by(_A.c.started_at, _A.c.attempt))]


def copy_of(connection: Connection, attempt: str) -> CopyRow | None:
    """Return the copy that an attempt claimed or committed."""
    row = connection.execute(select(_C).where(_C.c.attempt == attempt)).first()
    return None if row is None else copy_row(row)


def set_verified(connection: Connection, copy: CopyRow, verified_at: str) -> None:
    """Note that a copy proved good; one that was suspect is so no more."""
    state = CopyState.COMMITTED if copy.state is CopyState.SUSPECT else copy.state
    found = update(_C).where(_C.c.attempt == copy.attempt)
    connection.execute(found.values(verified_at=verified_at, state=str(state)))


def set_suspect(connection: Connection, attempt: str) -> None:
    """Note that a copy failed its verification."""
    connection.execute(update(_C).where(_C.c.attempt == attempt).values(state=str(CopyState.SUSPECT)))


def extend_lease(connection: Connection, attempt: str, until: str, fence: int) -> None:
    """Move the end of the lease; `ConflictError` if the attempt has ended, or is somebody else's."""
    require(held(connection, attempt, fence), *_OPEN)
    connection.execute(update(_A).where(_A.c.attempt == attempt).values(lease_until=until))


def release(connection: Connection, attempt: str, now: str, fence: int) -> None:
    """Take the owner off an attempt that has not ended, so that it counts as dead; no error if it is not his."""
    states = [str(state) for state in (*_OPEN, AttemptState.DROPPING)]
    nobody = {"owner": "", "lease_until": now}
    mine = (_A.c.attempt == attempt) & (_A.c.fence == fence)
    connection.execute(update(_A).where(mine, _A.c.state.in_(states)).values(nobody))


def held(connection: Connection, attempt: str, fence: int) -> Attempt:
    """Return an attempt; `ConflictError` if it was taken over, or cleaned up, while its owner was taken for dead."""
    row = connection.execute(select(_A).where(_A.c.attempt == attempt).with_for_update()).first()
    if row is None or row.fence != fence:
        msg = f"Attempt {attempt} was ended or taken over: its process gave no sign of life for too long."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Run again.")
    return attempt_row(row)


def mark_written(connection: Connection, attempt: str, fence: int) -> None:
    """Note that all objects are written."""
    require(held(connection, attempt, fence), AttemptState.WRITING, AttemptState.WRITTEN)
    set_state(connection, attempt, AttemptState.WRITTEN)


def mark_verified(connection: Connection, attempt: str, fingerprint: str) -> None:
    """Note that what was written has been verified."""
    require(one(connection, attempt), AttemptState.WRITING, AttemptState.VERIFIED)
    set_state(connection, attempt, AttemptState.VERIFIED, fingerprint=fingerprint)


def claim(
    connection: Connection,
    attempt: str,
    *,
    fingerprint: str,
    slide: SlideRecord,
    source: SourceRecord,
    copy: CopyRecord,
    supersedes: int | None,
    now: str,
) -> None:
    """Claim a content for a slide: it will be version `source.n`, after version `supersedes`.

    Raises
    ------
    AlreadyClaimed
        If the content is claimed or current anywhere, or another attempt has claimed this slide. A slide's own content
        may be claimed anew where all copies of its current version are suspect.
    ConflictError
        If the attempt has ended, or `supersedes` is not the slide's current version.
    InputError
        If the slide's case would have two patients.

    """
    known = one(connection, attempt)
    if known.state is AttemptState.CLAIMED and known.fingerprint == fingerprint:
        return  # a repetition
    require(known, *_UNCLAIMED)
    if known.slide != slide.slide or known.tier != copy.tier:
        msg = f"Attempt {attempt} writes slide {known.slide} to {known.tier}, not {slide.slide} to {copy.tier}."
        raise ConflictError(msg, remedy="Begin an attempt for what is claimed.")
    state = claims.state_of_claim(connection, fingerprint, slide.slide)
    claims.check_series(connection, slide, source)
    claims.check_version(connection, slide.slide, source.n, supersedes)
    claims.check_number(connection, slide.slide, copy)
    claims.put_slide(connection, slide, now)
    claims.put_source(connection, attempt, fingerprint, slide, source, state, now)
    claims.put_copy(connection, attempt, slide.slide, source.n, copy)
    set_state(connection, attempt, AttemptState.CLAIMED, fingerprint=fingerprint)


def commit(connection: Connection, attempt: str) -> Attempt | None:
    """Make a claimed version the current one, after its commit object is durably on the tier.

    Returns
    -------
    Attempt or None
        None if it was committed before: there is nothing left to do, not even an event.

    Raises
    ------
    ConflictError
        If it was not claimed, or abandoned meanwhile.

    """
    known = one(connection, attempt)
    if known.state is AttemptState.COMMITTED:
        return None
    require(known, AttemptState.CLAIMED)
    version = connection.execute(select(_V).where(_V.c.attempt == attempt)).one()
    slide, n = version.slide, version.n
    if n > 1:
        _supersede_before(connection, slide, n)  # first: the version before may have the same content
        claims.settle_slide(connection, slide, version.record)
    connection.execute(update(_V).where(_V.c.attempt == attempt).values(state=str(SourceState.CURRENT)))
    connection.execute(update(_C).where(_C.c.attempt == attempt).values(state=str(CopyState.COMMITTED)))
    set_state(connection, attempt, AttemptState.COMMITTED)
    return known


def abandon(connection: Connection, attempt: str, reason: str, seen: Attempt | None = None) -> None:
    """Undo what an attempt claimed and keep its row, so that its objects are found; may be repeated.

    Raises
    ------
    ConflictError
        If it was committed, or is no longer in the state, or with the owner or lease, that was `seen`.

    """
    known = one(connection, attempt)
    if known.state is AttemptState.ABANDONED:
        return
    if seen is not None and _standing(known) != _standing(seen):
        raise _went_on(known)
    require(known, *_OPEN)
    connection.execute(delete(_C).where(_C.c.attempt == attempt))
    connection.execute(delete(_V).where(_V.c.attempt == attempt))
    _drop_unborn(connection, known.slide)
    set_state(connection, attempt, AttemptState.ABANDONED, error=reason)


def adopt(
    connection: Connection,
    seen: Attempt,
    *,
    slide: SlideRecord,
    source: SourceRecord,
    copy: CopyRecord,
    now: str,
) -> Attempt | None:
    """Claim and commit at once what the tier has of an attempt that never claimed, or was abandoned.

    Raises as `claim`, and `ConflictError` if the attempt is no longer as it was `seen`.

    """
    reopen(connection, seen)
    claim(
        connection,
        seen.attempt,
        fingerprint=content_of(source.files),
        slide=slide,
        source=source,
        copy=copy,
        supersedes=source.n - 1 or None,
        now=now,
    )
    return commit(connection, seen.attempt)


def reopen(connection: Connection, seen: Attempt) -> None:
    """Make an attempt that never claimed, or was abandoned, one that is being written.

    Raises
    ------
    ConflictError
        If it is no longer as it was `seen`.

    """
    known = one(connection, seen.attempt)
    if _standing(known) != _standing(seen):
        raise _went_on(known)
    require(known, *_UNCLAIMED, AttemptState.ABANDONED)
    set_state(connection, seen.attempt, AttemptState.WRITING, error="")


def forget(connection: Connection, attempt: str) -> None:
    """Delete an abandoned attempt's row, after its objects are gone; no error if it is forgotten already."""
    row = connection.execute(select(_A).where(_A.c.attempt == attempt)).first()
    if row is not None:
        require(attempt_row(row), AttemptState.ABANDONED)
        connection.execute(delete(_A).where(_A.c.attempt == attempt))


# --- parts ------------------------------------------------------------------------------------------------------------


def _standing(attempt: Attempt) -> tuple[str, str, str, int]:
    return attempt.state, attempt.owner, attempt.lease_until, attempt.fence


def _went_on(known: Attempt) -> ConflictError:
    msg = f"Attempt {known.attempt} of slide {known.slide} is {known.state} now: somebody works on it."
    return ConflictError(msg, kind=Kind.BUSY, remedy="Leave it alone; run again.")


def require(attempt: Attempt, *states: AttemptState) -> None:
    """Raise `ConflictError` unless an attempt is in one of `states`."""
    if attempt.state not in states:
        why = f" ({attempt.error})" if attempt.error else ""
        msg = f"Attempt {attempt.attempt} of slide {attempt.slide} is {attempt.state}{why}."
        raise ConflictError(msg, remedy="Start again.")


def set_state(connection: Connection, attempt: str, state: AttemptState, **values: Any) -> None:
    """Give an attempt its next state, and other columns their values."""
    connection.execute(update(_A).where(_A.c.attempt == attempt).values(state=str(state), **values))


def _supersede_before(connection: Connection, slide: str, n: int) -> None:
    versions = update(_V).where(_V.c.slide == slide, _V.c.n < n, _V.c.state == str(SourceState.CURRENT))
    connection.execute(versions.values(state=str(SourceState.SUPERSEDED)))
    states = (str(CopyState.COMMITTED), str(CopyState.SUSPECT))
    kept = update(_C).where(_C.c.slide == slide, _C.c.version < n, _C.c.state.in_(states))
    connection.execute(kept.values(state=str(CopyState.SUPERSEDED)))


def _drop_unborn(connection: Connection, slide: str) -> None:
    """Delete a slide that never had a committed version; its key is never used again."""
    if connection.execute(select(_V.c.n).where(_V.c.slide == slide)).first() is not None:
        return
    case = connection.scalar(select(_S.c.case_key).where(_S.c.slide == slide))
    connection.execute(delete(_S).where(_S.c.slide == slide))
    if case is not None:
        slides.settle_case(connection, case)
