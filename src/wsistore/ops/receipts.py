"""What became of a plan: a receipt for people and for programs, and the certificates of what was deleted."""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsistore.catalog.plans import PlanRow, RowState, SlideStep
from wsistore.clock import iso
from wsistore.errors import Kind, MissingError, SiteError
from wsistore.ops.certificates import certificate_of, sign
from wsistore.ops.site import Site
from wsistore.tiers.plans import read_plan
from wsistore.tiers.rules.decisions import Action
from wsistore.units import format_bytes

Json = dict[str, Any]

FOLDER = "receipts"
"""In the site's folder."""
FORMAT = 1
_LEAST_LETTERS = 4
_SHOWN = 20
_SUMMED = ("bytes_moved", "bytes_deleted", "seconds")


def find_plan(site: Site, text: str) -> PlanRow:
    """Return the plan that is meant by a file, a digest, or a unique beginning of one (4 characters or more).

    Raises
    ------
    MissingError
        If there is none, or several.
    InputError
        If it is a file that is no plan.

    """
    if Path(text).is_file():
        return site.catalog.plan(read_plan(Path(text)).digest)
    known = site.catalog.plans()
    found = [plan for plan in known if len(text) >= _LEAST_LETTERS and plan.digest.startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    msg = f"{text!r} may mean {len(found)} plans." if found else f"There is no plan {text!r}, nor such a file."
    listed = ", ".join(plan.digest[:12] for plan in known[:5])
    remedy = f"The last plans are: {listed}." if listed else "'wsistore plan' makes one."
    raise MissingError(msg, kind=Kind.PLAN_MISSING, remedy=remedy)


def receipt(site: Site, digest: str) -> Json:
    """Return what became of a plan, as it stands now; signed by the site.

    Raises
    ------
    MissingError
        If there is no such plan.

    """
    plan = site.catalog.plan(digest)
    rows = [_row(site, step) for step in site.catalog.plan_rows(digest)]
    document = {
        "format": FORMAT,
        "kind": "receipt",
        "plan": {
            "digest": plan.digest,
            "author": plan.author,
            "made_at": plan.made_at,
            "expires_at": plan.expires_at,
            "rules": plan.header.get("rules", {}).get("digest", ""),
        },
        "state": str(plan.state),
        "begun_at": plan.begun_at,
        "begun_by": plan.actor,
        "ended_at": plan.ended_at,
        "at": iso(site.clock.now()),
        "approvals": [
            {"person": one.person, "at": one.at, "statement": one.statement} for one in site.catalog.approvals(digest)
        ],
        "visas": [{"role": one.role, "at": one.at, "statement": one.statement} for one in site.catalog.visas(digest)],
        "totals": _totals(rows),
        "rows": rows,
    }
    return {"document": document, "signature": sign(site, document)}


def _row(site: Site, step: SlideStep) -> Json:
    detail = step.detail
    row = {
        "slide": step.slide,
        "action": step.action,
        "state": str(step.state),
        "reason": step.reason,
        "begun_at": step.begun_at,
        "ended_at": step.ended_at,
        "bytes_planned": int(detail.get("planned", {}).get("bytes_moved", 0)),
        "bytes_moved": int(detail.get("bytes_moved", 0)),
        "bytes_deleted": int(detail.get("bytes_deleted", 0)),
        "seconds": float(detail.get("seconds", 0.0)),
        "steps": list(detail.get("steps", ())),
    }
    if step.action == Action.DELETE and step.state is RowState.DONE:
        # As it is by now: a tier that was away may have been there since.
        row["certified"] = certificate_of(site.catalog.events(step.slide)) is not None
    return row


def _totals(rows: list[Json]) -> Json:
    states = Counter(row["state"] for row in rows)
    by_action: dict[str, Counter[str]] = {}
    for row in rows:
        by_action.setdefault(row["action"], Counter())[row["state"]] += 1
    ended = [row for row in rows if row["ended_at"]]
    totals: Json = {name: sum(row[name] for row in rows) for name in _SUMMED}
    totals["seconds"] = round(totals["seconds"], 3)
    return totals | {
        "slides": len(rows),
        **{str(state): states[state] for state in RowState},
        "by_action": {action: dict(sorted(counts.items())) for action, counts in sorted(by_action.items())},
        "bytes_planned": sum(row["bytes_planned"] for row in ended),
        "certified": sum(bool(row.get("certified")) for row in rows),
    }


def receipt_text(found: Mapping[str, Any]) -> str:
    """Return a receipt as people read it."""
    document: Json = dict(found["document"])
    plan, totals = document["plan"], document["totals"]
    begun, ended = document["begun_at"] or "not yet", document["ended_at"] or "not yet"
    moved, planned, deleted = (format_bytes(totals[name]) for name in ("bytes_moved", "bytes_planned", "bytes_deleted"))
    lines = [
        f"Receipt of the plan {plan['digest'][:12]}, made by {plan['author']} at {plan['made_at']}.",
        f"State: {document['state']}. Begun: {begun} by {document['begun_by'] or '-'}. Ended: {ended}.",
        f"Approved by {len(document['approvals'])} people, {len(document['visas'])} visas.",
        "",
        f"{totals['slides']} slides: " + ", ".join(f"{totals[str(state)]} {state}" for state in RowState) + ".",
        f"Moved {moved} of {planned} planned for these, deleted {deleted}, in {totals['seconds']:.0f} s of work.",
    ]
    lines += [
        f"  {action}: " + ", ".join(f"{count} {state}" for state, count in counts.items())
        for action, counts in totals["by_action"].items()
    ]
    if totals["certified"]:
        lines.append(f"{totals['certified']} deletions are certified.")
    for state in (RowState.REFUSED, RowState.FAILED):
        lines += _reasons(document["rows"], state)
    return "\n".join(lines) + "\n"


def _reasons(rows: list[Json], state: RowState) -> Iterator[str]:
    found = [row for row in rows if row["state"] == state]
    if found:
        yield ""
        yield f"{str(state).capitalize()}:"
    for row in found[:_SHOWN]:
        yield f"  {row['slide']} ({row['action']}): {row['reason']}"
    if len(found) > _SHOWN:
        yield f"  and {len(found) - _SHOWN} more: see the receipt as JSON."


def certificates(site: Site, digest: str) -> Iterator[tuple[str, Json]]:
    """Yield the certificates of the slides that a plan deleted, by slide."""
    for step in site.catalog.plan_rows(digest, RowState.DONE):
        if step.action == Action.DELETE:
            found = certificate_of(site.catalog.events(step.slide))
            if found is not None:
                yield step.slide, found


def write_receipt(site: Site, digest: str) -> Path:
    """Write a plan's receipt (JSON and text) and its certificates into the site's folder of receipts; return the JSON.

    What was written before is replaced: a receipt says how it stands now.

    Raises
    ------
    SiteError
        If it cannot be written.

    """
    found = receipt(site, digest)
    folder = site.folder / FOLDER
    target = folder / f"{digest[:16]}.json"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(target, json.dumps(found, indent=1, sort_keys=True) + "\n")
        _write(target.with_suffix(".txt"), receipt_text(found))
        if found["document"]["totals"]["certified"]:
            write_certificates(site, digest, folder / digest[:16])
    except OSError as error:
        msg = f"The receipt {target} cannot be written ({error.strerror or error})."
        raise SiteError(
            msg, kind=Kind.SITE_READ_ONLY, remedy="Make room there; 'wsistore receipt' shows it."
        ) from error
    return target


def save_receipt(found: Mapping[str, Any], path: Path) -> None:
    """Write a receipt to a file: as text if its name ends in ``.txt``, else as JSON.

    Raises
    ------
    SiteError
        If it cannot be written.

    """
    is_text = path.suffix == ".txt"
    try:
        _write(path, receipt_text(found) if is_text else json.dumps(found, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        msg = f"The receipt {path} cannot be written ({error.strerror or error})."
        raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Name a place that this user may write.") from error


def write_certificates(site: Site, digest: str, folder: Path) -> int:
    """Write the certificates of what a plan deleted, one file per slide; return how many.

    Raises
    ------
    SiteError
        If they cannot be written.

    """
    count = 0
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for slide, certificate in certificates(site, digest):
            _write(folder / f"{slide}.json", json.dumps(certificate, indent=1, sort_keys=True) + "\n")
            count += 1
    except OSError as error:
        msg = f"The certificates in {folder} cannot be written ({error.strerror or error})."
        raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Name a folder that this user may write.") from error
    return count


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
