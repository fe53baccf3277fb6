"""Removing a copy: written down before its first object is deleted, and only while others prove that it may go.

::

    committed / suspect ──start──> dropping ──(commit, then objects deleted)──finish──> dropped
                                       └──────────────────revive──────────────────────> suspect

A proof cites copies that remain. They are pinned, that is they cannot be dropped themselves, until the drop has ended;
and a copy that is being dropped is cited by none. So two drops never rest on each other's copies.

Who deletes asks `prove_again` at the last moment: between the start of a drop and its end, perhaps after a crash, the
copies that it rests on may have turned out to be damaged, or a hold may have been placed.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from sqlalchemy import Connection, delete, select, update

from wsistore.catalog import schema
from wsistore.catalog.records import CopyRow, DropRule, Proof, SourceState
from wsistore.catalog.rows import copy_row
from wsistore.errors import ConflictError, Kind, MissingError
from wsistore.model import CopyState, Evidence

_C, _H, _P, _V = schema.copies, schema.holds, schema.pins, schema.sources
_KEPT = (CopyState.COMMITTED, CopyState.SUSPECT, CopyState.SUPERSEDED)


class Lack(StrEnum):
    """What a proof lacks."""

    FEW = "few"
    """Good copies."""
    STALE = "stale"
    """Fresh evidence: verify the copies named, then ask again."""
    HELD = "held"
    """Nothing, but the slide is on hold."""
    PINNED = "pinned"
    """Nothing, but another drop rests on the copy."""


class NotProven(ConflictError):  # noqa: N818 - says what is
    """A copy must stay.

    Parameters
    ----------
    message, kind, remedy
        As for `WsistoreError`.
    lack
        Why.
    stale
        Where fresh evidence is lacking: the copies (by attempt) to verify, those that would do most first.

    """

    def __init__(self, message: str, *, lack: Lack, kind: Kind, remedy: str, stale: tuple[str, ...] = ()) -> None:
        super().__init__(message, kind=kind, remedy=remedy)
        self.lack = lack
        self.stale = stale

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with what is lacking."""
        return (_rebuild, (self.message, self.lack, self.kind, self.remedy, self.stale))


def _rebuild(message: str, lack: Lack, kind: Kind, remedy: str, stale: tuple[str, ...]) -> NotProven:
    return NotProven(message, lack=lack, kind=kind, remedy=remedy, stale=stale)


def prove(connection: Connection, copy: CopyRow, rule: DropRule) -> Proof:
    """Decide whether a copy may be dropped.

    To be called within the writing transaction that acts on it. A copy that another of its tier has replaced rests on
    that one: the slide has as many copies as before. Any other rests on good copies in `rule.required` tiers.

    Raises
    ------
    NotProven
        If it must stay.

    """
    _check_holds(connection, copy)
    good = _good(connection, copy, rule)
    newer = [other for other in good if other.tier == copy.tier and other.n > copy.n and _lasts_like(other, copy)]
    if rule.via and rule.via not in _names(newer):
        newer = []
    # Nothing that stays rests on what will go by itself.
    good = [other for other in good if other.expires_at is None]
    required = 1 if newer else max(1, rule.required)
    candidates = newer or good
    if len({other.tier for other in candidates}) < required or (rule.via and rule.via not in _names(candidates)):
        msg = f"Copy {copy.attempt} of slide {copy.slide} in tier {copy.tier} must stay: there are good copies in "
        msg += f"{len({other.tier for other in candidates})} other tiers, and {required} are needed."
        remedy = "Copy it to another tier, or verify its copies."
        raise NotProven(msg, lack=Lack.FEW, kind=Kind.LAST_COPY, remedy=remedy)
    fresh = [other for other in candidates if _is_fresh(other, rule)]
    cited = _choose(fresh, rule, required)
    if cited is None:
        stale = [other for other in candidates if other not in fresh]
        names = tuple(other.attempt for other in _ranked(stale, rule))
        msg = f"The other copies of slide {copy.slide} were not read back recently enough: copy {copy.attempt} in tier "
        msg += f"{copy.tier} must stay."
        raise NotProven(msg, lack=Lack.STALE, kind=Kind.LAST_COPY, remedy="Verify the slide's copies.", stale=names)
    return Proof(copies=cited, rule=rule)


def _lasts_like(other: CopyRow, copy: CopyRow) -> bool:
    """Say whether a copy stays for good, or both are temporary: what will go by itself replaces nothing that stays."""
    return other.expires_at is None or copy.expires_at is not None


def _check_holds(connection: Connection, copy: CopyRow) -> None:
    reasons = sorted(connection.scalars(select(_H.c.reason).where(_H.c.slide == copy.slide)))
    if reasons:
        msg = f"Slide {copy.slide} is on hold ({'; '.join(reasons)[:200]}): none of its copies may be dropped."
        raise NotProven(msg, lack=Lack.HELD, kind=Kind.HELD, remedy="'wsistore hold release' ends a hold.")


def _good(connection: Connection, copy: CopyRow, rule: DropRule) -> list[CopyRow]:
    """Return the other copies of the same version with evidence; one that is being dropped counts for none."""
    state = CopyState.COMMITTED if _is_current(connection, copy) else CopyState.SUPERSEDED
    query = select(_C).where(
        _C.c.slide == copy.slide,
        _C.c.version == copy.version,
        _C.c.attempt != copy.attempt,
        _C.c.state == str(state),
    )
    found = [copy_row(row) for row in connection.execute(query.with_for_update())]
    return [other for other in found if _counts(other, rule)]


def _counts(copy: CopyRow, rule: DropRule) -> bool:
    """Say whether a copy's evidence is of a kind that counts; that of an archived one cannot be renewed at once."""
    if copy.evidence is Evidence.READ_BACK:
        return True
    return copy.tier in rule.attested and copy.verified_at >= rule.attested[copy.tier]


def _is_current(connection: Connection, copy: CopyRow) -> bool:
    query = select(_V.c.state).where(_V.c.slide == copy.slide, _V.c.n == copy.version)
    return connection.scalar(query) == str(SourceState.CURRENT)


def _is_fresh(copy: CopyRow, rule: DropRule) -> bool:
    least = max(rule.fresh_from, rule.via_from) if copy.attempt == rule.via else rule.fresh_from
    return least <= known_at(copy) <= rule.fresh_until


def known_at(copy: CopyRow) -> str:
    """Return since when a copy is known to be there as it was: read back, or asked for where it is archived."""
    return max(copy.verified_at, copy.seen_at or "") if copy.evidence is Evidence.ATTESTED else copy.verified_at


def _choose(fresh: list[CopyRow], rule: DropRule, required: int) -> tuple[CopyRow, ...] | None:
    """Return one copy of each of as many tiers as are required, `rule.via` among them, those read last first.

    No more than that: what is cited cannot be dropped meanwhile.
    """
    chosen: dict[str, CopyRow] = {}
    for copy in _ranked(fresh, rule):
        chosen.setdefault(copy.tier, copy)
    cited = tuple(chosen.values())[:required]
    if len(cited) < required or (rule.via and rule.via not in _names(cited)):
        return None
    return cited


def _ranked(copies: list[CopyRow], rule: DropRule) -> list[CopyRow]:
    return sorted(copies, key=lambda copy: (copy.attempt == rule.via, known_at(copy)), reverse=True)


def _names(copies: list[CopyRow] | tuple[CopyRow, ...]) -> set[str]:
    return {copy.attempt for copy in copies}


def start(connection: Connection, seen: CopyRow, rule: DropRule) -> Proof:
    """Begin to drop a copy, if it may be and is still as it was `seen`: it counts for nothing from here on.

    Raises
    ------
    NotProven
        If it must stay.
    ConflictError
        If it is no longer as it was seen.

    """
    copy = _one(connection, seen.attempt)
    if copy.state not in _KEPT or (copy.state, copy.commit_body) != (seen.state, seen.commit_body):
        msg = f"Copy {copy.attempt} of slide {copy.slide} is {copy.state} now."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Run again.")
    if connection.execute(select(_P).where(_P.c.cited == copy.attempt)).first() is not None:
        msg = f"Another copy of slide {copy.slide} is just being dropped because copy {copy.attempt} is there."
        raise NotProven(msg, lack=Lack.PINNED, kind=Kind.BUSY, remedy="'wsistore recover' ends what was interrupted.")
    proof = prove(connection, copy, rule)
    _pin(connection, copy.attempt, proof)
    _set(connection, copy.attempt, CopyState.DROPPING)
    return proof


def unfinished(connection: Connection, slide: str | None) -> list[CopyRow]:
    """Return the copies, or those of a slide, whose drop has begun and not ended."""
    query = select(_C).where(_C.c.state == str(CopyState.DROPPING))
    if slide is not None:
        query = query.where(_C.c.slide == slide)
    return [copy_row(row) for row in connection.execute(query.order_by(_C.c.slide, _C.c.tier, _C.c.n))]


def prove_again(connection: Connection, attempt: str, rule: DropRule) -> Proof | None:
    """Return what `prove` does for a copy that is being dropped; None if it is dropped already, or revived."""
    copy = _one(connection, attempt)
    if copy.state is not CopyState.DROPPING:
        return None
    proof = prove(connection, copy, rule)
    _unpin(connection, attempt)
    _pin(connection, attempt, proof)
    return proof


def finish(connection: Connection, attempt: str) -> CopyRow | None:
    """Note that a copy's objects are gone; None if that was noted before."""
    copy = _one(connection, attempt)
    if copy.state is not CopyState.DROPPING:
        return None
    _unpin(connection, attempt)
    _set(connection, attempt, CopyState.DROPPED)
    return copy


def revive(connection: Connection, attempt: str) -> None:
    """Take back the drop of a copy that nothing was deleted of for sure: it is suspect until it is verified."""
    copy = _one(connection, attempt)
    if copy.state is CopyState.DROPPING:
        _unpin(connection, attempt)
        is_current = _is_current(connection, copy)
        _set(connection, attempt, CopyState.SUSPECT if is_current else CopyState.SUPERSEDED)


def dropped(connection: Connection, tier: str, commit_keys: Collection[str]) -> list[CopyRow]:
    """Return the dropped copies of a tier whose commits were under one of these keys."""
    query = select(_C).where(
        _C.c.tier == tier, _C.c.state == str(CopyState.DROPPED), _C.c.commit_key.in_(list(commit_keys))
    )
    return [copy_row(row) for row in connection.execute(query)]


def _pin(connection: Connection, attempt: str, proof: Proof) -> None:
    rows = [{"dropping": attempt, "cited": copy.attempt} for copy in proof.copies]
    connection.execute(_P.insert(), rows)


def _unpin(connection: Connection, attempt: str) -> None:
    connection.execute(delete(_P).where(_P.c.dropping == attempt))


def _one(connection: Connection, attempt: str) -> CopyRow:
    row = connection.execute(select(_C).where(_C.c.attempt == attempt).with_for_update()).first()
    if row is None:
        msg = f"There is no copy {attempt!r}."
        raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="'wsistore show' lists a slide's copies.")
    return copy_row(row)


def _set(connection: Connection, attempt: str, state: CopyState) -> None:
    connection.execute(update(_C).where(_C.c.attempt == attempt).values(state=str(state)))
