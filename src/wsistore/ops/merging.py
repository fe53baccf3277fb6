"""What several tiers know of a slide becomes one state of it: the newest that any of them was told of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from wsistore.catalog.rebuilt import Rebuilt
from wsistore.catalog.records import SlideRecord, SourceState, slide_values
from wsistore.catalog.rows import source_files
from wsistore.catalog.states import State
from wsistore.clock import iso
from wsistore.compress.companion import Companion
from wsistore.errors import WsistoreError
from wsistore.events import Event, EventKind, NewEvent, check_chain, next_event
from wsistore.model import CopyState
from wsistore.ops.adopting import copy_record, encoding_of, slide_record
from wsistore.ops.gathering import Found
from wsistore.tiers.commits import Commit

ReadCompanion = Callable[[str, Commit], Companion]
"""Takes a tier's name and a commit of a copy there; raises `WsistoreError`."""


_TOLD = ("evidence", "verified_at", "seen_at", "expires_at", "fallbacks", "encoding")
"""What ledgers know better than commits, which are never rewritten."""


@dataclass(slots=True)
class Merged:
    """What became of the slides."""

    slides: int = 0
    copies: int = 0
    holds: int = 0
    events: int = 0
    from_companions: int = 0
    """Slides that no ledger knew of: what the site said of them is lost."""
    suspect: list[str] = field(default_factory=list)
    """Copies of which objects are missing."""
    without_copies: list[str] = field(default_factory=list)
    """Slides of which no tier that was read has a good copy."""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Lying:
    """A copy that lies on a tier."""

    tier: str
    commit: Commit
    incomplete: str


def merge(
    found: Sequence[Found], read: ReadCompanion, *, actor: str, now: datetime, merged: Merged
) -> Iterator[Rebuilt]:
    """Yield every slide that any tier knows, as it is to be in the new catalogue; count in `merged`.

    Copies are those whose commits lie on the tiers, whatever the ledgers say. The newest state of a slide says the
    rest: what the site said of it, its sources, its holds. Chains are put together from all ledgers.

    Parameters
    ----------
    found
        What each tier knows; it is used up.
    read
        Reads a companion, for slides and versions that no ledger knew of.
    actor, now
        Of the event that every slide gets.
    merged
        Is filled.

    """
    lying: dict[str, list[_Lying]] = {}
    for one in found:
        for commit in one.commits:
            copy = _Lying(one.tier, commit, one.incomplete.get(commit.attempt, ""))
            lying.setdefault(commit.slide, []).append(copy)
        one.commits.clear()  # from here on what was used can be let go: there may be millions
        merged.problems += one.problems
    known = {slide for one in found for slide in one.states}
    for slide in sorted(known | lying.keys()):
        rebuilt = _one(slide, found, lying.pop(slide, []), read, actor, now, merged)
        for one in found:
            one.states.pop(slide, None)
            one.events.pop(slide, None)
        if rebuilt is not None:
            yield rebuilt


def _one(
    slide: str,
    found: Sequence[Found],
    lying: Sequence[_Lying],
    read: ReadCompanion,
    actor: str,
    now: datetime,
    merged: Merged,
) -> Rebuilt | None:
    tiers = {one.tier for one in found}
    state: dict[str, Any] | None = None
    told = [one.states[slide] for one in found if slide in one.states]
    if told:
        state = {**max(told, key=lambda pair: pair[0])[1]}
    if state is not None and _is_deleted(state):
        return _deleted(slide, state, found, lying, actor, now, merged)
    state = _with_versions(state, lying, read, iso(now), merged)
    if state is None:
        return None
    state["copies"] = _copies(state, lying, tiers, read)
    state["fence"] = max([state["fence"], *(copy.commit.fence for copy in lying)])
    good = [copy for copy in state["copies"] if copy["state"] == CopyState.COMMITTED]
    if not good:
        merged.without_copies.append(slide)
    merged.suspect += [f"{copy.tier} {copy.commit.key}: {copy.incomplete}" for copy in lying if copy.incomplete]
    detail = {"tiers": sorted(tiers), "copies": len(good), "by": "ledger" if told else "companion"}
    events = _chain(slide, found, NewEvent(EventKind.REBUILT, actor, detail), now, merged)
    merged.slides += 1
    merged.copies += len(good)
    merged.holds += len(state["holds"])
    merged.events += len(events)
    return Rebuilt(state=state, events=events)


# --- slides that were deleted for good -------------------------------------------------------------------------------


def _is_deleted(state: State) -> bool:
    """Say whether a state is that of a slide that is being deleted for good, or was."""
    return any(source["state"] in (SourceState.DELETING, SourceState.DELETED) for source in state["sources"])


def _deleted(
    slide: str,
    state: dict[str, Any],
    found: Sequence[Found],
    lying: Sequence[_Lying],
    actor: str,
    now: datetime,
    merged: Merged,
) -> Rebuilt:
    """Return a slide that stays deleted; of what still lies on a tier, or came back to one, the deletion goes on."""
    versions, told = {source["n"] for source in state["sources"]}, {copy["attempt"]: copy for copy in state["copies"]}
    rows = []
    for one in lying:
        if one.commit.version in versions:
            rows.append(_copy_row(one, told.get(one.commit.attempt, {}), CopyState.DELETING))
        else:
            merged.problems.append(f"{one.tier} {one.commit.key}: it is of slide {slide}, which was deleted for good")
    there, read = {one.commit.attempt for one in lying}, {one.tier for one in found}
    for name, copy in told.items():
        if name not in there:
            # Its commit goes first: of such a copy objects may lie there still, on tiers that were read or not.
            waits = copy["state"] == CopyState.DELETING
            rows.append({**copy, "state": str(CopyState.DELETING if waits else CopyState.DROPPED)})
    is_left = any(row["state"] == CopyState.DELETING for row in rows)
    was_over = all(source["state"] == SourceState.DELETED for source in state["sources"])
    how = SourceState.DELETED if was_over and not is_left else SourceState.DELETING
    state["sources"] = [{**source, "state": str(how)} for source in state["sources"]]
    state["copies"], state["fence"] = rows, max([state["fence"], *(one.commit.fence for one in lying)])
    detail = {"tiers": sorted(read), "copies": 0, "by": "ledger", "deleted": str(how)}
    events = _chain(slide, found, NewEvent(EventKind.REBUILT, actor, detail), now, merged)
    merged.events += len(events)
    return Rebuilt(state=state, events=events)


# --- versions ---------------------------------------------------------------------------------------------------------


def _with_versions(
    state: dict[str, Any] | None, lying: Sequence[_Lying], read: ReadCompanion, now: str, merged: Merged
) -> dict[str, Any] | None:
    """Return the state with every version that lies on a tier; None if nothing can be said of the slide at all."""
    versions = {source["n"] for source in state["sources"]} if state is not None else set()
    missing = {copy.commit.version: copy for copy in lying if copy.commit.version not in versions}
    for version, copy in sorted(missing.items()):
        companion = _companion([one for one in lying if one.commit.version == version], read, merged)
        if companion is None:
            continue
        record = slide_record(copy.commit, companion)
        if state is None:
            merged.from_companions += 1
            state = {"slide": _slide_row(record, now), "sources": [], "copies": [], "holds": [], "fence": 0}
        state = state | {"sources": [*state["sources"], _source_row(copy.commit, companion, record, now)]}
        if version >= max(source["n"] for source in state["sources"]):
            state["slide"] = state["slide"] | slide_values(record)
    if state is not None:
        state = state | {"sources": _settled(state["sources"])}
    return state


def _companion(copies: Sequence[_Lying], read: ReadCompanion, merged: Merged) -> Companion | None:
    for copy in copies:
        try:
            return read(copy.tier, copy.commit)
        except WsistoreError as error:
            merged.problems.append(f"{copy.tier}: {error.message}")
    return None


def _slide_row(record: SlideRecord, now: str) -> dict[str, Any]:
    return {"slide": record.slide, "created_at": now, "metadata": {}, "case_key": None, **slide_values(record)}


def _source_row(commit: Commit, companion: Companion, record: SlideRecord, now: str) -> dict[str, Any]:
    return {
        "slide": commit.slide,
        "n": commit.version,
        "fingerprint": commit.fingerprint,
        "state": str(SourceState.CURRENT),
        "attempt": commit.attempt,
        "files": source_files(companion.files),
        "bytes": commit.bytes_source,
        "path": "",
        "record": slide_values(record) | {"metadata": {}},
        "created_at": now,
    }


def _settled(sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return versions of which the last is current."""
    last = max(source["n"] for source in sources)
    states = {True: str(SourceState.CURRENT), False: str(SourceState.SUPERSEDED)}
    return [{**source, "state": states[source["n"] == last]} for source in sorted(sources, key=lambda one: one["n"])]


# --- copies -----------------------------------------------------------------------------------------------------------


def _copies(state: State, lying: Sequence[_Lying], tiers: set[str], read: ReadCompanion) -> list[dict[str, Any]]:
    """Return the copies that lie on tiers as such, and those that are gone from tiers that were read as dropped."""
    told = {copy["attempt"]: copy for copy in state["copies"]}
    versions = {source["n"] for source in state["sources"]}
    staying = [copy for copy in lying if not _is_temporary(copy, told)]
    rows = []
    for copy in lying:
        if copy.commit.version in versions:
            row = told.get(copy.commit.attempt) or _from_companion(copy, read)
            # A temporary copy replaces none that stays.
            rivals = lying if _is_temporary(copy, told) else staying
            rows.append(_copy_row(copy, row, _state_of(copy, row, rivals, max(versions))))
    there = {copy.commit.attempt for copy in lying}
    gone = [copy for name, copy in told.items() if name not in there and copy["tier"] in tiers]
    return rows + [{**copy, "state": str(CopyState.DROPPED)} for copy in gone]


def _state_of(copy: _Lying, told: Mapping[str, Any], lying: Sequence[_Lying], current: int) -> CopyState:
    if copy.commit.version != current:
        return CopyState.SUPERSEDED
    # What failed its verification has the right size all the same.
    if copy.incomplete or told.get("state") == CopyState.SUSPECT:
        return CopyState.SUSPECT
    rivals = [one for one in lying if one.tier == copy.tier and one.commit.version == current and not one.incomplete]
    # It was being replaced: its drop begins anew, with a proof of its own.
    replaced = any(one.commit.number > copy.commit.number for one in rivals)
    return CopyState.DROPPING if replaced else CopyState.COMMITTED


def _is_temporary(copy: _Lying, told: Mapping[str, Mapping[str, Any]]) -> bool:
    return bool(told.get(copy.commit.attempt, {}).get("expires_at", copy.commit.expires_at))


def _from_companion(copy: _Lying, read: ReadCompanion) -> dict[str, Any]:
    """Return what a companion says of a copy's encoding that no ledger knew of."""
    try:
        encoding, fallbacks = encoding_of(read(copy.tier, copy.commit))
    except WsistoreError:  # its verification will tell
        return {}
    return {"encoding": dict(encoding), "fallbacks": dict(fallbacks)}


def _copy_row(copy: _Lying, told: Mapping[str, Any], state: CopyState) -> dict[str, Any]:
    record = copy_record(copy.tier, copy.commit)
    row = {
        "attempt": copy.commit.attempt,
        "version": copy.commit.version,
        "tier": copy.tier,
        "n": record.n,
        "preset": str(record.preset),
        "bytes_stored": record.bytes_stored,
        "objects": record.objects,
        "evidence": str(record.evidence),
        "verified_at": record.verified_at,
        "created_at": record.verified_at,
        "commit_key": record.commit_key,
        "fallbacks": {},
        "encoding": {},
        # A ledger may have heard that it stays longer. Of a copy that none has heard of, this is what there is: a
        # temporary copy must not become one that stays, nor count as one.
        "expires_at": copy.commit.expires_at or None,
    }
    # The ledger's evidence may be newer than the commit's: it was verified since.
    row |= {name: told[name] for name in _TOLD if name in told}
    return row | {"state": str(state), "commit_body": record.commit_body}


# --- events -----------------------------------------------------------------------------------------------------------


def _chain(slide: str, found: Sequence[Found], new: NewEvent, now: datetime, merged: Merged) -> list[Event]:
    """Return the slide's chain as all ledgers together know it, up to its first gap, and the event of the rebuild."""
    by_number: dict[int, Event] = {}
    for one in found:
        for number, event in one.events.get(slide, {}).items():
            if by_number.setdefault(number, event) != event:
                merged.problems.append(f"slide {slide}: the ledgers tell different events {number}")
    chain: list[Event] = []
    while (following := by_number.get(len(chain) + 1)) is not None:
        chain.append(following)
    lost = len(by_number) - len(chain)
    if lost:
        merged.problems.append(f"slide {slide}: {lost} events come after a gap, and were left out")
    merged.problems += check_chain(chain)
    return [*chain, next_event(chain[-1] if chain else None, slide, new, now)]
