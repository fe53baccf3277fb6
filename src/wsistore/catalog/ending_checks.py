"""What is asked in the transaction that begins what cannot be taken back."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from wsistore.catalog import holds, schema
from wsistore.catalog.recalls import RecallState
from wsistore.catalog.records import AttemptState, CopyRow
from wsistore.errors import ConflictError, Kind
from wsistore.model import CopyState

_A, _C, _R = schema.attempts, schema.copies, schema.recalled
_GOING = [str(state) for state in (RecallState.PLANNED, RecallState.CONFIRM, RecallState.ASKED)]


def check_free(connection: Connection, slide: str, done: str) -> None:
    """Raise `ConflictError` if a slide is on hold, or somebody works on it or waits for it."""
    check_holds(connection, slide, done)
    going = (_A.c.slide == slide) & _A.c.state.not_in([str(AttemptState.COMMITTED), str(AttemptState.ABANDONED)])
    attempt = connection.execute(select(_A.c.attempt).where(going)).first()
    if attempt is not None:
        msg = f"Slide {slide} is being worked on (attempt {attempt.attempt})."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Wait until that has ended; 'wsistore recover' ends what died.")
    recall = connection.execute(select(_R.c.recall).where(_R.c.slide == slide, _R.c.state.in_(_GOING))).first()
    if recall is not None:
        msg = f"Slide {slide} is being recalled ({recall.recall}): somebody wants to see it."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Wait until it is there, and find out whether it is needed.")


def check_holds(connection: Connection, slide: str, done: str) -> None:
    """Raise `ConflictError` if a slide is on hold; `done` says what may not be done to it."""
    reasons = [hold.reason for hold in holds.of_slide(connection, slide)]
    if reasons:
        msg = f"Slide {slide} is on hold ({'; '.join(reasons)[:200]}): it may not be {done}."
        raise ConflictError(msg, kind=Kind.HELD, remedy="'wsistore hold release' ends a hold.")


def check_seen(connection: Connection, slide: str, seen: Collection[CopyRow]) -> None:
    """Raise `ConflictError` unless a slide's copies of which anything lies on a tier are as they were `seen`."""
    query = select(_C.c.attempt, _C.c.state).where(_C.c.slide == slide, _C.c.state != str(CopyState.DROPPED))
    now = {(str(row.attempt), str(row.state)) for row in connection.execute(query.with_for_update())}
    if now != {(copy.attempt, str(copy.state)) for copy in seen}:
        msg = f"The copies of slide {slide} are no longer as they were when this was decided."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Make a new plan.")
