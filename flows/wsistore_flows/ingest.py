"""The flow that watches the scanners' shares: one pass over each, every few minutes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from wsistore import ops
from wsistore.clock import iso
from wsistore.ops.intake_results import IntakeReport, IntakeRow, IntakeStatus
from wsistore.ops.results import Failure
from wsistore_flows.hooks import HOOKS
from wsistore_flows.running import FLOW, Run, State, done, night
from wsistore_flows.states import NEEDS_ACTION, NOTHING_TO_DO, ended, may_be_told, skipped

_DONE = (IntakeStatus.INGESTED, IntakeStatus.RELEASED)
_NOT_TAKEN = (IntakeStatus.WAITING, IntakeStatus.REFUSED)
_WHERE = "Which files they are, and why, says: wsistore intake ls."


@flow(name="ingest", **FLOW, **HOOKS)
def ingest(
    site: str | None = None,
    shares: list[str] | None = None,
    retry: bool = False,
    jobs: Annotated[int, Field(ge=1)] | None = None,
) -> State:
    """Look at the scanners' shares once: take in what has stopped changing, release originals that are safely kept.

    Parameters
    ----------
    site
        The site's folder; by default the one that WSISTORE_HOME tells.
    shares
        Names of shares; by default all that are watched.
    retry
        Whether what was refused, or waits for its next try, is tried again now.
    jobs
        Slides at a time; by default as the settings say.

    """
    return night("ingest", site, partial(_ingest, shares=shares, retry=retry, jobs=jobs))


def _ingest(run: Run, shares: Sequence[str] | None, retry: bool, jobs: int | None) -> State:
    began = iso(run.began)
    with run.executor() as executor:
        passes = ops.intake(
            run.site,
            shares or None,
            jobs=jobs,
            retry=[""] if retry else None,
            executor=executor,
            # What fails in passing is tried again by the next pass, minutes from now.
            step=partial(run.step, again=False),
        )
        reports = list(passes)
    if not reports:
        return done("No share is watched: docs/intake.md tells how.", name=NOTHING_TO_DO)
    if all(report.busy for report in reports):
        return skipped("Other passes are at work on all shares.")
    run.facts["shares"] = {report.share: _counts(report) for report in reports}
    new = [row for report in reports for row in report.rows if row.status in _DONE or _is_new_refusal(row, began)]
    problems = [report for report in reports if report.problem]
    if new or problems or shares or retry:
        _show(run, reports)
    total = sum((Counter(_counts(report)) for report in reports), Counter[str]())
    what = ", ".join(f"{count} {status}" for status, count in total.items()) or "nothing is there"
    message = f"{len(reports)} share{'s' if len(reports) > 1 else ''}: {what}"
    if not new and not problems:
        return done(f"{message}.", name=NOTHING_TO_DO)
    if problems:
        # Without the counts, which change: the same problem is told once, not every few minutes.
        return ended("Shares could not be looked at", [_failure(report) for report in problems])
    if any(row.status is IntakeStatus.REFUSED for row in new):
        return done(f"{message}. Slides were refused now. {_WHERE}", name=NEEDS_ACTION)
    return ended(message)


def _is_new_refusal(row: IntakeRow, began: str) -> bool:
    """Say whether a file was refused by this pass: those of earlier ones are told of already."""
    return row.status is IntakeStatus.REFUSED and row.since >= began


def _counts(report: IntakeReport) -> dict[str, int]:
    return {status: count for status, count in report.counts.items() if count}


def _failure(report: IntakeReport) -> Failure:
    return Failure(report.error, _problem(report), report.exit_code)


def _problem(report: IntakeReport) -> str:
    return f"Share {report.share}: {may_be_told(report.problem, report.error)}"


def _show(run: Run, reports: Sequence[IntakeReport]) -> None:
    rows: list[dict[str, Any]] = []
    for report in reports:
        state = "another pass is at work" if report.busy else _problem(report) if report.problem else "looked at"
        rows.append({"share": report.share, **report.counts, "seconds": round(report.seconds, 1), "state": state})
    run.shown.table("shares", rows, "What lies on the scanners' shares, and what became of it.")
    waiting = _not_taken([row for report in reports for row in report.rows])
    if waiting:
        run.shown.table("not taken", waiting, f"Slides and files that were not taken in. {_WHERE}")


def _not_taken(rows: Sequence[IntakeRow]) -> list[dict[str, Any]]:
    """Count what waits or was refused by its reason; names of files stay on the share."""
    groups: dict[tuple[str, str, str], list[IntakeRow]] = {}
    for row in rows:
        if row.status in _NOT_TAKEN:
            why = row.error or "not complete, or still changing"
            groups.setdefault((row.share, str(row.status), why), []).append(row)
    return [
        {
            "share": share,
            "status": status,
            "why": why,
            "slides or files": len(some),
            "since": min(row.since for row in some)[:16].replace("T", " ") + " UTC",
        }
        for (share, status, why), some in sorted(groups.items())
    ]
