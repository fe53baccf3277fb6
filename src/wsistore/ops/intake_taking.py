"""Taking in what is ready on a share: in batches, each noted before it begins and slide by slide as it ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from wsistore.catalog.intake import Change, IntakeFile, IntakeState
from wsistore.catalog.records import SlideRow, SourceRow
from wsistore.clock import iso
from wsistore.compress.source_bytes import SourceBytes
from wsistore.errors import InputError, Kind, SiteError, WsistoreError
from wsistore.execute import Executor
from wsistore.model import random_key
from wsistore.ops.ingesting import Progress
from wsistore.ops.intake_look import Look
from wsistore.ops.intake_said import Said
from wsistore.ops.intake_units import Unit, is_passing
from wsistore.ops.many import ingest
from wsistore.ops.metadata import Metadata
from wsistore.ops.restoring import restore
from wsistore.ops.results import Failure, IngestResult
from wsistore.ops.site import Site
from wsistore.slides.base import SourceFile

SCRATCH = "intake"
"""Folder in the site's, for series whose instances lie in several places while they are taken in."""
_PER_JOB = 8
"""Slides of a batch by slides at a time: what kills its process again and again keeps so many others waiting, once."""
_FIRST, _LONGEST = timedelta(minutes=5), timedelta(days=1)
_OUTER = {5, 6, 8, 10}
"""Exit codes of what is not the source's fault: somebody else is at it, or a tier, the site or the workers fail."""

_BEGUN = "a pass has begun with it and did not end"


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one slide."""

    unit: Unit
    """With its files as they are now."""
    is_new: bool
    """Whether it was taken in by this pass, or found to be there already; else its files say why not."""


class Step(Protocol):
    """Does a part of a pass: whoever watches over passes may show it, or time it."""

    def __call__(self, name: str, work: Callable[[], None], /) -> object:
        """Call `work` once. The name says which slides, by their numbers: no names."""
        ...


def at_once(_: str, work: Callable[[], None], /) -> None:
    """Do a part of a pass."""
    work()


@dataclass(frozen=True, slots=True)
class Means:
    """By what slides are taken in."""

    jobs: int | None = None
    """Slides at a time; None: as the settings say."""
    executor: Executor | None = None
    """Encodes where the tier has another preset; None: Dask."""
    step: Step = at_once
    progress: Progress = lambda *_: None


def take(site: Site, look: Look, ready: Sequence[Unit], said: Said, means: Means) -> Iterator[Taken]:
    """Take slides in, those that were tried least first.

    Raises
    ------
    SiteError, StorageError
        If the tier or the site cannot be used at all.

    """
    tier = look.share.tier or site.settings.tiers[0].name
    waiting = sorted(ready, key=lambda unit: (_tries(unit), unit.first_at, unit.name))
    size, count = _PER_JOB * (means.jobs or site.jobs), len(waiting)
    while waiting:
        number = count - len(waiting) + 1
        # Those that were tried more often are in a batch of their own: one of them may be what kills its process.
        tries = _tries(waiting[0])
        some = [unit for unit in waiting[:size] if _tries(unit) == tries]
        del waiting[: len(some)]
        batch = [_begun(look, unit) for unit in some]
        flush(site, look)
        name = f"share {look.share.name}: slides {number}-{number + len(batch) - 1} of {count}"
        done: list[Taken] = []
        try:
            means.step(name, partial(_fill, done, _batch(site, look, batch, said, tier, means)))
        except WsistoreError:
            yield from done
            raise
        yield from done


def _fill(done: list[Taken], coming: Iterator[Taken]) -> None:
    done.extend(coming)


def _tries(unit: Unit) -> int:
    return max(one.tries for one in unit.files)


def flush(site: Site, look: Look) -> None:
    """Write into the catalogue what is known by now."""
    merged: dict[str, Change] = {}
    for before, after in look.changes:
        one = after or before
        if one is None:
            continue
        path = one.path
        merged[path] = (merged[path][0] if path in merged else before, after)
    site.catalog.put_intake(merged.values())
    look.changes.clear()


def _begun(look: Look, unit: Unit) -> Unit:
    """Count a try before it is made: it may kill its process."""
    files = tuple(replace(one, tries=one.tries + 1, reason=_BEGUN) for one in unit.files)
    look.put(*files)
    return replace(unit, files=files)


def _batch(site: Site, look: Look, batch: Sequence[Unit], said: Said, tier: str, means: Means) -> Iterator[Taken]:
    places: dict[str, Unit] = {}
    with scratch(site, look.share.name) as folder:
        for unit in batch:
            try:
                places[str(_address(site, look, unit, folder))] = unit
            except WsistoreError as error:
                yield _failed(site, look, unit, Failure.of(error))
        words = {place: said.of(unit) for place, unit in places.items()}
        metadata = Metadata(Path(look.share.path), words)
        paths = [Path(one) for one in places]
        try:
            results = ingest(
                site,
                paths,
                tier=tier,
                jobs=means.jobs,
                metadata=metadata,
                executor=means.executor,
                progress=means.progress,
            )
            for result in results:
                one = places.pop(result.source, None)
                if one is not None:
                    yield _ended(site, look, one, result)
        except WsistoreError as error:
            for unit in places.values():
                _failed(site, look, unit, Failure.of(error))
            raise
    for unit in places.values():
        failure = Failure(str(Kind.SOURCE_CHANGED), "It was not there any more when its turn came.", 5)
        yield _failed(site, look, unit, failure)


# --- where a slide is read from ---------------------------------------------------------------------------------------


@contextmanager
def scratch(site: Site, share: str) -> Iterator[Path]:
    """Yield a folder of our own that is removed afterwards.

    Raises
    ------
    SiteError
        If the site's folder cannot be written.

    """
    folder = site.folder / SCRATCH / share / random_key()
    try:
        yield folder  # made by those who need it
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()


def clear_scratch(site: Site, share: str) -> None:
    """Remove what a killed pass left; to be called by a pass that is alone."""
    shutil.rmtree(site.folder / SCRATCH / share, ignore_errors=True)


def _address(site: Site, look: Look, unit: Unit, folder: Path) -> Path:
    """Return what the slide is to be opened by.

    A series that lies in several folders, or whose earlier instances have left the share, is brought together first:
    instances on the share by links, those that are kept by restoring them.
    """
    share = Path(look.share.path)
    if unit.series is None:
        return share / unit.name
    earlier = _earlier(site, unit)
    folders = {PurePosixPath(one.path).parent for one in unit.files}
    if earlier is None and len(folders) == 1:
        return share / (unit.folder or unit.files[0].path)
    name = earlier.name if earlier is not None else PurePosixPath(unit.files[0].path).parent.name or unit.name
    target = folder / random_key() / (PurePosixPath(name).name or "series")
    try:
        target.mkdir(parents=True)
        if earlier is not None:
            restore(site, earlier.slide, target)
        for number, one in enumerate(unit.files):
            _link(share / one.path, target, number)
    except OSError as error:
        msg = f"{target} cannot be written ({error.strerror or error})."
        raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Make room in the site's folder.") from error
    return target


def _link(source: Path, folder: Path, number: int) -> None:
    link = folder / source.name
    if os.path.lexists(link):  # instances of several folders may have the same names
        link = folder / f"{number:05d}-{source.name}"
    link.symlink_to(source)


def _earlier(site: Site, unit: Unit) -> SlideRow | None:
    """Return the slide that has instances of the series which are not on the share any more."""
    here = {(PurePosixPath(one.path).name, one.size) for one in unit.files}
    for slide, source in site.catalog.current_of_series(unit.series or ""):
        if any((PurePosixPath(file.name).name, file.size_bytes) not in here for file in source.files):
            return slide
    return None


# --- what became of it ------------------------------------------------------------------------------------------------


def _ended(site: Site, look: Look, unit: Unit, result: IngestResult) -> Taken:
    if result.slide is None:
        failure = result.error or Failure(str(Kind.INTERNAL), "It failed for no known reason.", 1)
        return _failed(site, look, unit, failure)
    if not all(is_as_seen(look, one) for one in unit.files):
        return _failed(site, look, unit, Failure(str(Kind.SOURCE_CHANGED), "It changed while it was taken in.", 5))
    source = site.catalog.source(result.slide)
    try:
        left = _left_out(look, unit, source)
    except WsistoreError as error:
        return _failed(site, look, unit, Failure.of(error))
    if left:
        names = ", ".join(left[:5])
        msg = f"{len(left)} of its {len(unit.files)} files are no part of what was kept: {names}."
        return _failed(site, look, unit, Failure(str(Kind.SOURCE_INCOMPLETE), msg, InputError.exit_code))
    return _noted(
        site,
        look,
        unit,
        is_new=True,
        state=IntakeState.INGESTED,
        slide=result.slide,
        version=source.n,
        reason="",
        error="",
        tries=0,
        again_at=None,
    )


def is_as_seen(look: Look, one: IntakeFile) -> bool:
    """Say whether a file is still there with the size and time that it was seen with."""
    try:
        now = Path(look.share.path, one.path).lstat()
    except OSError:
        return False
    return (now.st_size, now.st_mtime_ns) == (one.size, one.mtime_ns)


def _left_out(look: Look, unit: Unit, source: SourceRow) -> list[str]:
    """Return which of a slide's files on the share were not kept.

    A file with the name and size of a kept one was read as that one, for it did not change; others are hashed.
    """
    names = {(PurePosixPath(file.name).name, file.size_bytes) for file in source.files}
    if len(unit.files) == len(source.files) == 1:
        names = {(PurePosixPath(unit.name).name, source.files[0].size_bytes)}
    doubtful = [one for one in unit.files if (PurePosixPath(one.path).name, one.size) not in names]
    kept = {file.sha256 for file in source.files}
    return [one.path for one in doubtful if hash_of(look, one) not in kept]


def hash_of(look: Look, one: IntakeFile) -> str:
    """Return a file's SHA-256 as it lies on the share.

    Raises
    ------
    InputError, ConflictError
        If it cannot be read, or changes meanwhile.

    """
    file = SourceFile(PurePosixPath(one.path).name, Path(look.share.path, one.path), one.size, one.mtime_ns)
    with SourceBytes([file]) as files:
        (record,) = files.hash_files(lambda _: None)
        files.check_unchanged()
    return record.sha256


def _failed(site: Site, look: Look, unit: Unit, failure: Failure) -> Taken:
    refused = failure.exit_code == InputError.exit_code and not is_passing(failure.kind)
    outer = failure.exit_code in _OUTER
    tries = _tries(unit)
    pause = min(_FIRST * 2 ** min(tries - 1, 16), _LONGEST)
    return _noted(
        site,
        look,
        unit,
        is_new=False,
        state=IntakeState.REFUSED if refused else IntakeState.WAITING,
        reason=failure.message,
        error=failure.kind,
        tries=tries - 1 if outer else tries,
        again_at=None if refused or outer else iso(site.clock.now() + pause),
    )


def _noted(site: Site, look: Look, unit: Unit, *, is_new: bool, **values: object) -> Taken:
    files = tuple(replace(one, **values, state_at=iso(site.clock.now())) for one in unit.files)  # type: ignore[arg-type]
    look.put(*files)
    flush(site, look)
    return Taken(replace(unit, files=files), is_new)
