"""The catalogue's part that knows what lies on the scanners' shares: each method is one transaction.

Two processes may look at a share at the same time. What one writes of a file counts only if the file is still known as
that process saw it; else the other was faster, and the next look sees what it wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from wsistore.catalog import drops, events, slides
from wsistore.catalog.records import CopyRow, DropRule, Proof
from wsistore.catalog.rows import reading
from wsistore.catalog.schema_intake import intake_files
from wsistore.catalog.session import Session
from wsistore.errors import ConflictError, Kind
from wsistore.events import EventKind, NewEvent
from wsistore.model import CopyState, Evidence, Preset

_F = intake_files
_ORIGINAL = "original"
_SEEN = ("size", "mtime_ns", "state", "state_at")
"""By which it is told whether somebody else wrote of a file meanwhile."""


class IntakeState(StrEnum):
    """How far a file on a share is."""

    WAITING = "waiting"
    """It is not taken in yet; the reason says what for."""
    INGESTED = "ingested"
    REFUSED = "refused"
    """It cannot be taken in as it is: tried again when it changes, or on request."""
    FOREIGN = "foreign"
    """It is no slide, nor part of one."""
    METADATA = "metadata"
    """It says something of slides."""
    RELEASING = "releasing"
    """It is just being deleted from the share, or moved: its slide is safely kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeFile:
    """A file on a share as the catalogue knows it."""

    share: str
    path: str
    """Relative to the share, forward slashes."""
    size: int
    mtime_ns: int
    kind: str = ""
    """``image``, ``dicom``; empty while it is not known."""
    series: str | None = None
    """Of DICOM: its series, …"""
    instance: str | None = None
    """… and which instance of it."""
    state: IntakeState = IntakeState.WAITING
    reason: str = ""
    """Why it waits or was refused, for people."""
    error: str = ""
    """The kind of the error, where there was one."""
    first_at: str
    since: str
    """When it was first seen with this size and time, by the clock of who looked."""
    state_at: str
    gone_at: str | None = None
    slide: str | None = None
    version: int | None = None
    """Of the slide, that the file became part of."""
    tries: int = 0
    again_at: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


Change = tuple[IntakeFile | None, IntakeFile | None]
"""A file as it was known (None: it was not), and as it is (None: to be forgotten)."""


class Intaking(Session):
    """What lies on the shares, and what was taken from them."""

    def intake_files(self, share: str) -> list[IntakeFile]:
        """Return the files of a share that are known, by path."""
        with self._database.read() as connection:
            return _read(connection, share)

    def put_intake(self, changes: Iterable[Change]) -> None:
        """Note what became of files; of a file that another process wrote of meanwhile, nothing."""
        changed = [(before, after) for before, after in changes if before != after]
        if not changed:
            return
        with self._database.write() as connection:
            _insert(connection, [after for before, after in changed if before is None and after is not None])
            _update(connection, [(before, after) for before, after in changed if before and after])
            for before, after in changed:
                if before is not None and after is None:
                    connection.execute(
                        delete(_F).where(*(_F.c[name] == getattr(before, name) for name in _KEY + _SEEN))
                    )

    def start_release(self, files: Sequence[IntakeFile], rule: DropRule) -> tuple[Proof, list[IntakeFile]]:
        """Decide that the originals of one slide may go from their share, and write it down.

        The original counts as a copy in a place of its own: it may go where any copy might be dropped.

        Parameters
        ----------
        files
            All the slide's files on the share as they were seen, `IntakeState.INGESTED` or `IntakeState.RELEASING`.
        rule
            What has to remain.

        Returns
        -------
        tuple
            The proof, and the files as they are now.

        Raises
        ------
        NotProven
            If they must stay.
        ConflictError
            If they are no longer as they were seen.
        MissingError
            If the slide is not there.

        """
        first = files[0]
        with self._database.write() as connection:
            known = {row.path: row for row in _read(connection, first.share, [one.path for one in files])}
            states = {IntakeState.INGESTED, IntakeState.RELEASING}
            if any(known.get(one.path) != one or one.state not in states or one.slide != first.slide for one in files):
                msg = f"The files of slide {first.slide} on share {first.share} are not as they were seen."
                raise ConflictError(msg, kind=Kind.BUSY, remedy="Another pass is at work; the next one looks again.")
            row = slides.one(connection, first.slide or "")
            version = _version_of(connection, row.slide, row.version, first.version)
            proof = drops.prove(connection, _original(row.slide, version), rule)
            now = self._now()
            after = [
                replace(one, state=IntakeState.RELEASING, reason="", error="", state_at=now, detail=proof.to_json())
                for one in files
            ]
            _update(connection, list(zip(files, after, strict=True)))
        return proof, after

    def finish_release(self, files: Sequence[IntakeFile], actor: str, detail: Mapping[str, Any]) -> bool:
        """Note that the originals of one slide are gone from their share; False if that was noted before."""
        first = files[0]
        with self._database.write() as connection:
            known = _read(connection, first.share, [one.path for one in files])
            left = [one for one in known if one.state is IntakeState.RELEASING and one.slide == first.slide]
            if not left:
                return False
            for one in left:
                connection.execute(delete(_F).where(_F.c.share == one.share, _F.c.path == one.path))
            event = NewEvent(EventKind.ORIGINAL_RELEASED, actor, {**detail, "proof": left[0].detail})
            events.append(connection, first.slide or "", event, self._clock.now())
        return True


_KEY = ("share", "path")
_AT_ONCE = 400


def _read(connection: Connection, share: str, paths: Sequence[str] | None = None) -> list[IntakeFile]:
    query = select(_F).where(_F.c.share == share).order_by(_F.c.path)
    if paths is None:
        found = connection.execute(query).all()
    else:
        some = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
        found = [row for part in some for row in connection.execute(query.where(_F.c.path.in_(part)))]
    with reading("intake_files"):
        return [IntakeFile(**{**row._mapping, "state": IntakeState(row.state)}) for row in found]


def _insert(connection: Connection, files: Sequence[IntakeFile]) -> None:
    if not files:
        return
    known = {(row.share, row.path) for row in connection.execute(select(_F.c.share, _F.c.path))}
    rows = [_values(one) for one in files if (one.share, one.path) not in known]
    if rows:
        connection.execute(_F.insert(), rows)


def _update(connection: Connection, changes: Sequence[tuple[IntakeFile, IntakeFile]]) -> None:
    if not changes:
        return
    names = [one.name for one in fields(IntakeFile) if one.name not in _KEY]
    statement = (
        _F.update()
        .where(*(_F.c[name] == bindparam(f"was_{name}") for name in _KEY + _SEEN))
        .values({name: bindparam(f"is_{name}") for name in names})
    )
    connection.execute(
        statement,
        [
            {f"was_{name}": getattr(before, name) for name in _KEY + _SEEN}
            | {f"is_{name}": value for name, value in _values(after).items() if name not in _KEY}
            for before, after in changes
        ],
    )


def _values(one: IntakeFile) -> dict[str, Any]:
    return {name.name: getattr(one, name.name) for name in fields(IntakeFile)} | {
        "state": str(one.state),
        "detail": dict(one.detail),
    }


def _version_of(connection: Connection, slide: str, current: int, taken: int | None) -> int:
    """Return the version whose copies hold the bytes of an original: the current one, unless it has other files."""
    if taken is None or taken == current:
        return current
    kept = {file.sha256 for file in slides.source(connection, slide, current).files}
    mine = {file.sha256 for file in slides.source(connection, slide, taken).files}
    return current if mine <= kept else taken


def _original(slide: str, version: int) -> CopyRow:
    """Return the original as a copy in no tier, which is what it is compared with."""
    return CopyRow(
        tier="",
        n=0,
        preset=Preset.KEEP,
        bytes_stored=0,
        objects=0,
        evidence=Evidence.READ_BACK,
        verified_at="",
        commit_key="",
        commit_body="",
        attempt=_ORIGINAL,
        slide=slide,
        version=version,
        state=CopyState.COMMITTED,
    )
