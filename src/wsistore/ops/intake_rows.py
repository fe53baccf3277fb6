"""From the files of a share to the rows of a report: every file is in one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wsistore.catalog.intake import IntakeFile, IntakeState
from wsistore.ops.intake_kinds import PART
from wsistore.ops.intake_results import IntakeRow, IntakeStatus
from wsistore.ops.intake_units import Unit
from wsistore.settings import IntakeSettings

_STATUS = {
    IntakeState.WAITING: IntakeStatus.WAITING,
    IntakeState.INGESTED: IntakeStatus.KEPT,
    IntakeState.REFUSED: IntakeStatus.REFUSED,
    IntakeState.FOREIGN: IntakeStatus.FOREIGN,
    IntakeState.METADATA: IntakeStatus.METADATA,
    IntakeState.RELEASING: IntakeStatus.KEPT,
}


def row_of(
    share: IntakeSettings,
    unit: Unit,
    status: IntakeStatus | None = None,
    *,
    reason: str | None = None,
    since: str = "",
) -> IntakeRow:
    """Return the row of a slide; status and reason are those of its files where they are not given."""
    first = unit.files[0]
    found = status or status_of(unit)
    if reason is None:
        reason = next((one.reason for one in unit.files if one.reason), "")
    moment = unit.first_at if found is IntakeStatus.WAITING else max(one.state_at for one in unit.files)
    return IntakeRow(
        share=share.name,
        path=unit.name,
        status=found,
        reason=reason,
        error=next((one.error for one in unit.files if one.error), ""),
        since=since or moment,
        slide=first.slide,
        version=first.version,
        files=len(unit.files),
        bytes_source=unit.size_bytes,
    )


def status_of(unit: Unit) -> IntakeStatus:
    """Return how far a slide on a share is."""
    if unit.is_kept:
        return IntakeStatus.KEPT
    if unit.is_refused:
        return IntakeStatus.REFUSED
    return IntakeStatus.WAITING if len({one.state for one in unit.files}) > 1 else _STATUS[unit.files[0].state]


def file_rows(share: IntakeSettings, files: Mapping[str, IntakeFile], told: Iterable[Unit]) -> list[IntakeRow]:
    """Return the rows of the files that are in none of the slides that were told of."""
    mine = {one.path for unit in told for one in unit.files}
    rows = []
    for path, one in sorted(files.items()):
        if path not in mine:
            lost = one.kind == PART and not one.reason
            reason = "it belongs to a slide whose main file is not there" if lost else None
            rows.append(row_of(share, Unit(path, (one,)), reason=reason))
    return rows
