"""The elimination list that French public archives require (*bordereau d'élimination*), as a workbook (XLSX).

The first sheet is the form: who asks, what for, groups of slides with the dates they are from and their volume, totals,
and boxes for the visas. The second lists every slide. What identifies a patient or a case is in neither: the archives
choose by rule, year, unit and code, and name what they keep by the slide's key.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.catalog.recalls import found_slides
from wsistore.errors import ConflictError, InputError, Kind, StorageError
from wsistore.ops.approval_contract import IRREVERSIBLE, ApprovablePlan, acting
from wsistore.ops.approving import check_plan, standing
from wsistore.ops.bordereau_sheets import Form, Line, workbook
from wsistore.ops.facts import facts_table
from wsistore.ops.site import Site
from wsistore.tiers.rules.decisions import Action

_MOST_ROWS = 1_000_000
"""A worksheet has 1 048 576."""
_DONE = {str(Action.DELETE): "élimination", str(Action.DETACH_IDENTITY): "dépersonnalisation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bordereau:
    """An elimination list that was written."""

    path: Path
    slides: int
    bytes: int
    groups: int


def write_bordereau(site: Site, plan: ApprovablePlan, out: Path, *, replace: bool = False) -> Bordereau:
    """Write a plan's elimination list: what it deletes for good, or parts from its patient.

    Parameters
    ----------
    site
        An open site.
    plan
        A plan that may be approved.
    out
        The file to write, ``.xlsx``.
    replace
        Whether a file that is there may be replaced.

    Raises
    ------
    InputError
        If the plan deletes nothing, or more than a workbook can list.
    ConflictError
        If the file is there (`Kind.TARGET_EXISTS`), or the plan is not to be approved any more.
    StorageError
        If it cannot be written.

    """
    check_plan(site, plan)
    lines = list(_lines(site, plan))
    if not lines:
        msg = f"The plan {plan.digest[:12]} deletes nothing: there is no elimination list."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Look whether that is the plan that was meant.")
    if len(lines) > _MOST_ROWS:
        msg = f"The plan {plan.digest[:12]} deletes {len(lines)} slides; a workbook lists {_MOST_ROWS}."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Lower delete_at_most in the rules.")
    found = standing(site, plan)
    form = Form(
        site=site.settings.name,
        plan=plan.digest,
        made_at=plan.header.made_at,
        expires_at=plan.header.expires_at,
        author=plan.header.author,
        written_at=site.clock.now(),
        visas=dict.fromkeys(site.settings.approvals.visas) | {visa.role: visa for visa in found.visas},
        lines=lines,
    )
    _save(form, out, replace=replace)
    return Bordereau(path=out, slides=len(lines), bytes=sum(line.bytes for line in lines), groups=len(form.groups()))


def _lines(site: Site, plan: ApprovablePlan) -> Iterator[Line]:
    kinds = pa.array([str(action) for action in IRREVERSIBLE])
    for batch in acting(plan):
        chosen = batch.filter(pc.is_in(batch["action"], kinds)).to_pylist()
        known = _known(site, [row["slide"] for row in chosen])
        for row in chosen:
            fact = known.get(row["slide"], {})
            yield Line(
                slide=row["slide"],
                done=_DONE[row["action"]],
                rule=row["keep_rule"] or "",
                until=row["keep_until"],
                since=fact.get("received_on"),
                department=fact.get("department") or "",
                organ=fact.get("organ") or "",
                bytes=row["bytes_now"] - (0 if row["action"] == Action.DELETE else row["bytes_after"]),
            )


def _known(site: Site, slides: list[str]) -> dict[str, dict[str, Any]]:
    """Return what is known of slides that are still there."""
    asked = list(found_slides(site.catalog, slides))
    if not asked:
        return {}
    table = facts_table(site, asked).select(["slide", "received_on", "department", "organ"])
    return {row["slide"]: row for row in table.to_pylist()}


def _save(form: Form, out: Path, *, replace: bool) -> None:
    draft = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    try:
        try:
            workbook(form).save(draft)
            if replace:
                draft.replace(out)
            else:
                os.link(draft, out)
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError as error:
        msg = f"{out} is there already."
        raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Name another file, or use --replace.") from error
    except (OSError, ValueError) as error:
        msg = f"{out}: cannot be written ({error})."
        raise StorageError(msg, remedy="Choose a place that can be written.") from error
