"""What may be claimed, and what a claim writes into the catalogue; steps of `wsistore.catalog.attempts`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select, update

from wsistore.catalog import schema, slides
from wsistore.catalog.identities import open_metadata, seal_metadata
from wsistore.catalog.records import (
    CopyRecord,
    SlideRecord,
    SourceRecord,
    SourceState,
    slide_values,
)
from wsistore.catalog.rows import source_files
from wsistore.errors import ConflictError, InputError, Kind
from wsistore.model import CopyState

_C, _S, _V = schema.copies, schema.slides, schema.sources
_LIVE = (str(SourceState.CLAIMED), str(SourceState.CURRENT))
_METADATA = "metadata"
"""Where a version's record holds what the site said with it, which takes effect when the version does."""

_log = logging.getLogger(__name__)


class AlreadyClaimed(ConflictError):  # noqa: N818 - says what is, as the state of the slide does
    """The same content, or the same slide, is being committed or is there already.

    Parameters
    ----------
    message
        As for `WsistoreError`.
    slide
        Key of the slide that has it.
    attempt
        The attempt that claimed it.
    state
        `SourceState.CURRENT`: it is there; `SourceState.CLAIMED`: wait for that attempt.

    """

    def __init__(self, message: str, *, slide: str, attempt: str, state: SourceState) -> None:
        super().__init__(message, kind=Kind.BUSY, remedy="Wait until that attempt has ended, then try again.")
        self.slide = slide
        self.attempt = attempt
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with what was claimed."""
        return (_rebuild, (self.message, self.slide, self.attempt, self.state))


class NumberTaken(ConflictError):  # noqa: N818 - as above
    """Another commit of the slide came into the tier meanwhile: claim again with the next number."""


class SeriesClaimed(AlreadyClaimed):
    """Another slide has, or is just getting, instances of the same series: look at the series anew."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with what was claimed."""
        return (_rebuild_series, (self.message, self.slide, self.attempt, self.state))


def _rebuild_series(message: str, slide: str, attempt: str, state: SourceState) -> SeriesClaimed:
    return SeriesClaimed(message, slide=slide, attempt=attempt, state=state)


def _rebuild(message: str, slide: str, attempt: str, state: SourceState) -> AlreadyClaimed:
    return AlreadyClaimed(message, slide=slide, attempt=attempt, state=state)


def state_of_claim(connection: Connection, fingerprint: str, slide: str) -> SourceState:
    """Return the state that a claim of this content for this slide begins in.

    `SourceState.REPAIRING` where it is the slide's current content, of which no good copy is left.

    Raises
    ------
    AlreadyClaimed
        If the content is live elsewhere, or has a good copy, or another claim on the slide is open.

    """
    same = connection.execute(select(_V).where(_V.c.fingerprint == fingerprint, _V.c.state.in_(_LIVE))).first()
    repairs = same is not None and same.slide == slide and not _has_good_copy(connection, slide, same.n)
    if same is not None and not repairs:
        state = SourceState(same.state)
        how = "is already kept" if state is SourceState.CURRENT else "is just being committed"
        msg = f"This content {how} as slide {same.slide} (attempt {same.attempt})."
        raise AlreadyClaimed(msg, slide=same.slide, attempt=same.attempt, state=state)
    check_no_claim(connection, slide)
    return SourceState.REPAIRING if repairs else SourceState.CLAIMED


def check_no_claim(connection: Connection, slide: str) -> None:
    """Raise `AlreadyClaimed` if a commit of the slide is under way, of another version or of a copy encoded anew."""
    claimed = (_C.c.slide == slide) & (_C.c.state == str(CopyState.CLAIMED))
    other = connection.execute(select(_C).where(claimed)).first()
    if other is not None:
        msg = f"Another version of slide {slide}, or another copy, is just being committed (attempt {other.attempt})."
        raise AlreadyClaimed(msg, slide=slide, attempt=other.attempt, state=SourceState.CLAIMED)


def check_number(connection: Connection, slide: str, copy: CopyRecord) -> None:
    """Raise `NumberTaken` unless the copy's number is higher than all that the slide had in its tier.

    Numbers of dropped copies count: the keys of commits are never used again.
    """
    query = select(func.max(_C.c.n)).where(_C.c.slide == slide, _C.c.tier == copy.tier)
    last = connection.scalar(query) or 0
    if copy.n <= last:
        msg = f"Commit {copy.n} of slide {slide} in tier {copy.tier} is taken; the last is {last}."
        raise NumberTaken(msg, kind=Kind.BUSY, remedy="Start again.")


def check_series(connection: Connection, slide: SlideRecord, source: SourceRecord) -> None:
    """Raise `SeriesClaimed` if another slide of the series has some of the same instances.

    So it is where two processes take in the same series for the first time, of which one saw fewer instances.
    """
    if slide.series is None:
        return
    query = (
        select(_V.c.slide, _V.c.attempt, _V.c.files)
        .join(_S, _S.c.slide == _V.c.slide)
        .where(_S.c.series == slide.series, _V.c.slide != slide.slide, _V.c.state.in_(_LIVE))
    )
    mine = {file.sha256 for file in source.files}
    for other in connection.execute(query):
        if any(file["sha256"] in mine for file in other.files):
            msg = f"Slide {other.slide} has instances of the same series (attempt {other.attempt})."
            raise SeriesClaimed(msg, slide=other.slide, attempt=other.attempt, state=SourceState.CLAIMED)


def _has_good_copy(connection: Connection, slide: str, version: int) -> bool:
    good = _C.c.state.in_((str(CopyState.COMMITTED), str(CopyState.CLAIMED)))
    query = select(_C.c.attempt).where(_C.c.slide == slide, _C.c.version == version, good)
    return connection.execute(query).first() is not None


def check_version(connection: Connection, slide: str, n: int, supersedes: int | None) -> None:
    """Raise `ConflictError` if `n` is not the slide's next version, or does not follow the current one."""
    current = connection.scalar(select(_V.c.n).where(_V.c.slide == slide, _V.c.state == str(SourceState.CURRENT)))
    if current != supersedes:
        here = "none" if current is None else str(current)
        msg = f"The current version of slide {slide} is {here}, not {supersedes or 'none'} as the attempt saw."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Start again.")
    last = connection.scalar(select(func.max(_V.c.n)).where(_V.c.slide == slide)) or 0
    if n != last + 1:
        msg = f"The next version of slide {slide} is {last + 1}, not {n}."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Start again.")


def put_slide(connection: Connection, slide: SlideRecord, now: str) -> None:
    """Make a new slide's row; of one that is there only try whether what the site says of it could be so.

    Raises
    ------
    InputError
        If the slide's case would have two patients.

    """
    if connection.execute(select(_S.c.slide).where(_S.c.slide == slide.slide)).first() is None:
        values: dict[str, Any] = {"slide": slide.slide, "created_at": now, "metadata": {}, "case_key": None}
        connection.execute(_S.insert(), values | slide_values(slide))
        slides.put_metadata(connection, {slide.slide: slide.metadata})
        return
    trial = connection.begin_nested()
    try:
        slides.put_metadata(connection, {slide.slide: slide.metadata})
    finally:
        trial.rollback()


def settle_slide(connection: Connection, slide: str, record: Mapping[str, Any]) -> None:
    """Bring a slide's row up to what its new version says of it."""
    columns = {name: value for name, value in record.items() if name != _METADATA}
    connection.execute(update(_S).where(_S.c.slide == slide).values(columns))
    said = open_metadata(connection, slide, record.get(_METADATA) or {})
    if not said:
        return
    step = connection.begin_nested()
    try:
        slides.put_metadata(connection, {slide: said})
    except InputError as error:
        # It was sound when it was claimed; meanwhile its case got another patient. The version itself is on the tier.
        step.rollback()
        _log.warning("slide %s keeps what the site said of it before: %s", slide, error)
    else:
        step.commit()


def put_source(
    connection: Connection,
    attempt: str,
    fingerprint: str,
    slide: SlideRecord,
    source: SourceRecord,
    state: SourceState,
    now: str,
) -> None:
    """Write down the version that is claimed."""
    connection.execute(
        _V.insert(),
        {
            "slide": slide.slide,
            "n": source.n,
            "fingerprint": fingerprint,
            "state": str(state),
            "attempt": attempt,
            "files": source_files(source.files),
            "bytes": source.size_bytes,
            "path": source.path,
            "record": slide_values(slide) | {_METADATA: seal_metadata(connection, slide.slide, slide.metadata)},
            "created_at": now,
        },
    )


def put_copy(connection: Connection, attempt: str, slide: str, version: int, copy: CopyRecord) -> None:
    """Write down the copy that is claimed."""
    connection.execute(
        _C.insert(),
        {
            "attempt": attempt,
            "slide": slide,
            "version": version,
            "tier": copy.tier,
            "n": copy.n,
            "state": str(CopyState.CLAIMED),
            "preset": str(copy.preset),
            "bytes_stored": copy.bytes_stored,
            "objects": copy.objects,
            "evidence": str(copy.evidence),
            "verified_at": copy.verified_at,
            "commit_key": copy.commit_key,
            "commit_body": copy.commit_body,
            "fallbacks": dict(copy.fallbacks),
            "encoding": dict(copy.encoding),
            "created_at": copy.verified_at,
        },
    )
