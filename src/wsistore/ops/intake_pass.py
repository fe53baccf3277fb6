"""Watching the scanners' shares: one pass takes in what is ready, and lets go the originals of what is safely kept.

A pass may be killed at any moment and run again; two at once do no harm. What it knows of a file it writes down before
it acts on it; what it takes in is taken in by `wsistore.ops.many.ingest`, which does nothing twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from wsistore.catalog.intake import IntakeFile, IntakeState
from wsistore.clock import iso
from wsistore.errors import MissingError, WsistoreError
from wsistore.events import EventKind
from wsistore.execute import Executor
from wsistore.ops.approval_clock import check_clock
from wsistore.ops.ingesting import Progress
from wsistore.ops.intake_kinds import classify, owners
from wsistore.ops.intake_look import Look, look
from wsistore.ops.intake_release import begun, hidden_name, reason_to_stay, release, show_again
from wsistore.ops.intake_results import IntakeReport, IntakeRow, IntakeStatus
from wsistore.ops.intake_rows import file_rows, row_of
from wsistore.ops.intake_said import apply_late, read_said
from wsistore.ops.intake_taking import Means, Step, at_once, clear_scratch, flush, take
from wsistore.ops.intake_units import Unit, units
from wsistore.ops.intake_walk import walk
from wsistore.ops.process_lock import process_lock
from wsistore.ops.site import Site, read_only_error
from wsistore.settings import IntakeSettings, Release

_log = logging.getLogger(__name__)


def intake(
    site: Site,
    shares: Sequence[str] | None = None,
    *,
    jobs: int | None = None,
    retry: Sequence[str] | None = None,
    executor: Executor | None = None,
    step: Step = at_once,
    progress: Progress = lambda *_: None,
) -> Iterator[IntakeReport]:
    """Look at shares once, one after the other: take in what is ready, release what is safely kept.

    Parameters
    ----------
    site
        An open site.
    shares
        Names of shares; by default all that the settings name.
    jobs
        Slides at a time; by default as the settings say.
    retry
        Paths within the shares (of slides, or of folders of them) that were refused, or wait for another try, and are
        to be tried again now; an empty path means all of them.
    executor
        Encodes where a share's tier has another preset; by default Dask, started when it is first needed.
    step
        Takes each batch in; see `wsistore.ops.intake_taking.Step`.
    progress
        See `wsistore.ops.ingesting.Progress`; called from several threads.

    Yields
    ------
    IntakeReport
        One per share. A share that is not there, or a tier that fails, is reported and keeps no other share waiting.

    Raises
    ------
    MissingError
        If there is no such share.
    SiteError
        If the site cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    means = Means(jobs, executor, step, progress)
    return (_pass(site, share, means, retry or ()) for share in chosen(site, shares))


def chosen(site: Site, names: Sequence[str] | None) -> list[IntakeSettings]:
    """Return the shares of these names, all by default.

    Raises
    ------
    MissingError
        If there is no such share.

    """
    known = {share.name: share for share in site.settings.intake}
    for name in names or ():
        if name not in known:
            msg = f"The site {site.settings.name!r} watches no share {name!r}."
            raise MissingError(msg, remedy=f"It watches: {', '.join(known) or 'none; docs/intake.md tells how'}.")
    return [known[name] for name in dict.fromkeys(names or known)]


def _pass(site: Site, share: IntakeSettings, means: Means, retry: Sequence[str]) -> IntakeReport:
    started = site.clock.monotonic_seconds()
    report = IntakeReport(share=share.name, path=share.path)
    try:
        with process_lock(site.folder / f"intake-{share.name}.lock") as alone:
            report.busy = not alone
            if alone:
                clear_scratch(site, share.name)
                _Pass(site, share, report, means).run(retry)
    except WsistoreError as error:
        _log.warning("share %s: %s", share.name, error)
        report.problem, report.error, report.exit_code = str(error), str(error.kind), error.exit_code
    report.seconds = site.clock.monotonic_seconds() - started
    return report


@dataclass(slots=True)
class _Pass:
    """One pass over one share."""

    site: Site
    share: IntakeSettings
    report: IntakeReport
    means: Means
    owned: dict[str, str] = field(default_factory=dict)

    def run(self, retry: Sequence[str]) -> None:
        """Do it.

        Raises
        ------
        WsistoreError
            If the share, the tier or the site fails; what was done until then is in the report.

        """
        known = {one.path: one for one in self.site.catalog.intake_files(self.share.name)}
        seen = walk(self.share)
        found = look(self.share, known, seen, self.site.clock.now())
        replaced = [
            one
            for one, after in found.changes
            if one is not None and one.state is IntakeState.RELEASING and after is not None and after.state != one.state
        ]
        if retry:
            _ask_again(found, retry)
        self.report.remarks += [f"{folder}: {reason}" for folder, reason in sorted(seen.unlisted.items())]
        self.owned = owners(found)
        classify(found, self.owned)
        flush(self.site, found)
        self.report.rows += [
            row_of(self.share, Unit(one.path, (one,)), IntakeStatus.VANISHED, since=iso(found.now))
            for one in found.vanished
        ]
        self._release_begun(found, seen.hidden, replaced)
        try:
            self._take(found)
            self._release(found)
        finally:
            flush(self.site, found)
            self._tell(found)

    def _take(self, found: Look) -> None:
        there = units(found, self.owned)
        said = read_said(found, there)
        if said.new:
            self.report.remarks += apply_late(self.site, said, there)
            flush(self.site, found)
            there = units(found, self.owned)
        ready = [unit for unit in there if is_ready(unit)]
        for taken in take(self.site, found, ready, said, self.means):
            if taken.is_new:
                self.report.rows.append(row_of(self.share, taken.unit, IntakeStatus.INGESTED))

    def _release_begun(self, found: Look, hidden: Sequence[str], replaced: Sequence[IntakeFile]) -> None:
        """Go on with what a killed pass began."""
        for slide in sorted({one.slide for one in replaced if one.slide is not None}):
            files = [one for one in replaced if one.slide == slide]
            detail = {"share": self.share.name, "how": "replaced", "files": len(files), "proof": files[0].detail}
            self.site.catalog.append_event(slide, EventKind.ORIGINAL_RELEASED, self.site.actor, detail)
        going = begun(found)
        names = {
            str(PurePosixPath(one.path).parent / hidden_name(PurePosixPath(one.path).name))
            for unit in going
            for one in unit.files
        }
        for path in hidden:
            if path not in names:  # another file has its name by now: it is looked at like any other
                with suppress(OSError):
                    show_again(found, path)
        for unit in going:
            self._release_one(found, unit)

    def _release(self, found: Look) -> None:
        if self.share.release is Release.LEAVE:
            return
        candidates = [unit for unit in units(found, self.owned) if unit.is_kept and not reason_to_stay(found, unit)]
        if candidates:
            check_clock(self.site)
        for unit in candidates:
            self._release_one(found, unit)

    def _release_one(self, found: Look, unit: Unit) -> None:
        done = release(self.site, found, unit)
        if done.done:
            self.report.rows.append(row_of(self.share, done.unit, IntakeStatus.RELEASED, since=iso(found.now)))
            return
        found.put(*(replace(one, reason=done.reason) for one in done.unit.files if one.path in found.files))

    def _tell(self, found: Look) -> None:
        """Account for every file that is there."""
        mine = {row.path for row in self.report.rows if row.status is IntakeStatus.INGESTED}
        there = units(found, self.owned)
        self.report.rows += [
            row_of(self.share, unit, reason=stays(found, unit))
            for unit in there
            if not (unit.is_kept and unit.name in mine)
        ]
        self.report.rows += file_rows(self.share, found.files, there)


def is_ready(unit: Unit) -> bool:
    """Say whether a slide is to be taken in now."""
    return not (unit.waits or unit.is_kept or unit.is_refused)


def stays(found: Look, unit: Unit) -> str | None:
    """Say why a slide is not taken in, or why its original stays; None where its files say so themselves."""
    if unit.is_kept:
        return reason_to_stay(found, unit) or None
    return None if unit.is_refused else unit.waits or None


def _ask_again(found: Look, paths: Sequence[str]) -> None:
    now = iso(found.now)
    wanted = [path.strip("/") for path in paths]
    for path, one in list(found.files.items()):
        inside = any(not name or path == name or PurePosixPath(path).is_relative_to(name) for name in wanted)
        was_tried = one.state is IntakeState.REFUSED or one.again_at is not None
        if inside and was_tried and not path.startswith("//"):
            found.put(_fresh(one, now))


def _fresh(one: IntakeFile, now: str) -> IntakeFile:
    return replace(one, state=IntakeState.WAITING, reason="", error="", tries=0, again_at=None, state_at=now)


def intake_state(site: Site, shares: Sequence[str] | None = None) -> Iterator[IntakeRow]:
    """Yield what the last passes knew of all that is on shares; the shares themselves are not looked at.

    Raises
    ------
    MissingError
        If there is no such share.

    """
    for share in chosen(site, shares):
        known = {one.path: one for one in site.catalog.intake_files(share.name) if one.gone_at is None}
        found = Look(share, site.clock.now(), known)
        found.settled.update(path for path, one in known.items() if iso(found.now - share.settle) >= one.since)
        owned = owners(found)
        there = units(found, owned)
        for unit in there:
            yield row_of(share, unit, reason=stays(found, unit))
        yield from file_rows(share, known, there)
