"""What a look at a share tells: which files have stopped changing, by our clock and by two looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from wsistore.catalog.intake import Change, IntakeFile, IntakeState
from wsistore.clock import iso
from wsistore.ops.intake_walk import SeenFile, Walk
from wsistore.settings import IntakeSettings

FORGOTTEN = timedelta(days=30)
"""A file that is gone for so long is forgotten: a share is out for days at most, and forgetting costs one hash."""
_AHEAD = timedelta(minutes=5)
"""A moment further in the future was told by a clock that was wrong."""
_CHANGES = "it is still changing, or new"


@dataclass(slots=True)
class Look:
    """A share's files after one look at it."""

    share: IntakeSettings
    now: datetime
    files: dict[str, IntakeFile] = field(default_factory=dict)
    """Those that are there, or may be where folders could not be listed."""
    settled: set[str] = field(default_factory=set)
    """Those that have stopped changing."""
    unseen: set[str] = field(default_factory=set)
    """Those that may be there: their folder could not be listed."""
    vanished: list[IntakeFile] = field(default_factory=list)
    """Those that were waiting, and are gone now."""
    changes: list[Change] = field(default_factory=list)

    def put(self, *after: IntakeFile) -> None:
        """Note what became of files, to be written into the catalogue together."""
        for one in after:
            before = self.files.get(one.path)
            self.changes.append((before, one))
            self.files[one.path] = one


def look(share: IntakeSettings, known: Mapping[str, IntakeFile], walk: Walk, now: datetime) -> Look:
    """Compare what lies on a share with what is known of it.

    A file has stopped changing when this look and an earlier one found the same size and time, and the first that did
    was `IntakeSettings.settle` ago. What clock the share itself goes by does not matter.
    """
    found, moment = Look(share, now), iso(now)
    for path, seen in walk.files.items():
        before = known.get(path)
        after = _now(share, before, seen, now, moment)
        found.files[path] = after
        if after is not before:
            found.changes.append((before, after))
        elif iso(now - share.settle) >= after.since:
            found.settled.add(path)
    for path, before in known.items():
        if path not in walk.files:
            _missing(found, walk, before, moment)
    return found


def _now(share: IntakeSettings, before: IntakeFile | None, seen: SeenFile, now: datetime, moment: str) -> IntakeFile:
    if before is None:
        first, as_before = moment, False
    else:
        first, as_before = before.first_at, (before.size, before.mtime_ns) == (seen.size, seen.mtime_ns)
    if before is not None and as_before:
        if before.gone_at is None and before.since <= iso(now + _AHEAD):
            return before
        return replace(before, gone_at=None, since=moment, first_at=min(first, moment))
    return IntakeFile(
        share=share.name,
        path=seen.path,
        size=seen.size,
        mtime_ns=seen.mtime_ns,
        state=_odd_state(seen),
        reason=seen.odd or _CHANGES,
        first_at=min(first, moment),
        since=moment,
        state_at=moment,
    )


def _odd_state(seen: SeenFile) -> IntakeState:
    if not seen.odd:
        return IntakeState.WAITING
    return IntakeState.REFUSED if seen.path.startswith("//") else IntakeState.FOREIGN


def _missing(found: Look, walk: Walk, before: IntakeFile, moment: str) -> None:
    if not walk.knows(before.path):
        found.files[before.path] = before
        found.unseen.add(before.path)
    elif before.state is IntakeState.RELEASING:
        found.files[before.path] = before  # it is gone because it was to go
    elif before.gone_at is None:
        found.changes.append((before, replace(before, gone_at=moment)))
        if before.state in {IntakeState.WAITING, IntakeState.REFUSED}:
            found.vanished.append(before)
    elif before.gone_at < iso(found.now - FORGOTTEN):
        found.changes.append((before, None))
