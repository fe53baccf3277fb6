"""Which plan of a site is to be applied next, and new ones in the site's own folder: for whoever does it by night."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Event

from wsistore.catalog.plans import PlanRow, PlanState, RowState
from wsistore.clock import iso
from wsistore.errors import InputError, Kind, MissingError, SiteError
from wsistore.ops.applying_checks import rules_of_plan
from wsistore.ops.applying_limits import Limits
from wsistore.ops.approving import Standing, standing
from wsistore.ops.planning import make_plan
from wsistore.ops.roster import roster_of
from wsistore.ops.site import Site
from wsistore.tiers.plans import Plan, read_plan

PLANS = "plans"
"""Folder in the site's folder: what lies there is found again."""
_LETTERS = 16
"""Of a plan's digest in its file's name."""
_NAMED = re.compile(r"-[0-9a-f]{16}\.parquet$")

_log = logging.getLogger(__name__)


class Readiness(StrEnum):
    """How far a plan is from being applied."""

    BEGUN = "begun"
    """It is applied in part: nothing else can be applied before it."""
    READY = "ready"
    """It is approved, or needs nobody."""
    WAITING = "waiting"
    """People have begun to approve it, or it was just made; it lacks some of them."""
    EMPTY = "empty"
    """It does nothing."""
    OVER_LIMIT = "over-limit"
    """It would do more than the rules allow, and cannot be approved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuePlan:
    """A plan, and how it stands."""

    path: Path
    plan: Plan
    readiness: Readiness
    standing: Standing
    left: int
    """Slides to which something is still to be done."""

    @property
    def name(self) -> str:
        """What it is called: the beginning of its digest."""
        return self.plan.digest[:12]


def due_plan(site: Site) -> DuePlan | None:
    """Return the plan of the site's folder that is to be applied next, or that people have begun to approve.

    The one that was begun; else the newest that is approved; else the newest that somebody has approved in part. A
    plan that needs nobody is applied without being asked for only if whoever asks made it.

    Raises
    ------
    MissingError
        If the plan that was begun does not lie in the folder (`Kind.PLAN_MISSING`).
    InputError, IntegrityError, SiteError
        If a plan cannot be read, or the roster or the catalogue is not in order.

    """
    known = sorted(site.catalog.plans(), key=lambda row: row.made_at, reverse=True)
    begun = next((row for row in known if row.state is PlanState.APPLYING), None)
    if begun is not None:
        return _begun(site, begun)
    now, partly = iso(site.clock.now()), None
    for row in known:
        found = _open(site, row) if row.state is PlanState.MADE and row.expires_at > now else None
        if found is None or found.plan.header.is_look_ahead:
            continue
        if found.readiness is Readiness.READY and (found.standing.given or row.author == site.actor):
            return found
        if found.readiness is Readiness.WAITING and partly is None and (found.standing.given or found.standing.visas):
            partly = found
    return partly


def make_due_plan(site: Site) -> DuePlan:
    """Make a plan by the site's rules for now, in the site's folder of plans; one that does nothing is not kept.

    Raises
    ------
    WsistoreError
        As `wsistore.ops.planning.make_plan`.

    """
    folder = site.folder / PLANS
    try:
        folder.mkdir(mode=0o750, exist_ok=True)
        for left in folder.glob(".*.parquet"):  # of a process that died
            left.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    stamp = f"{site.clock.now():%Y%m%dT%H%M%S}"
    draft = folder / f".{stamp}.parquet"
    made = make_plan(site, out=draft, replace_it=True)
    path = folder / f"{stamp}-{made.digest[:_LETTERS]}.parquet"
    try:
        draft.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    found = _standing(site, path)
    if found.readiness is Readiness.EMPTY:
        site.catalog.supersede(made.digest)
        path.unlink(missing_ok=True)
    return found


def why_not_now(site: Site, plan: Plan) -> str:
    """Return in words why a plan is not to be applied at this hour; nothing if it may be.

    Raises
    ------
    InputError
        If its rules are not those that its header names, or name tiers that the site lacks.

    """
    return Limits(site, rules_of_plan(site, plan), None, Event(), anytime=False).why_stop()


def who_may(site: Site) -> dict[str, list[str]]:
    """Return the names of those on the roster of approvers, by role."""
    found: dict[str, list[str]] = {}
    for person in roster_of(site).people.values():
        for role in person.roles if person.is_active else ():
            found.setdefault(role, []).append(person.name)
    return found


def _begun(site: Site, row: PlanRow) -> DuePlan:
    path = _file(site, row.digest)
    if path is None:
        name = row.digest[:12]
        msg = f"The plan {name} was begun, and its file is not in {site.folder / PLANS}."
        remedy = f"Put it there, or give the plan up: wsistore apply {name} --give-up."
        raise MissingError(msg, kind=Kind.PLAN_MISSING, remedy=remedy)
    plan = read_plan(path)
    counts = site.catalog.count_rows(row.digest)
    left = counts.get(RowState.WAITING, 0) + counts.get(RowState.RUNNING, 0)
    return DuePlan(path=path, plan=plan, readiness=Readiness.BEGUN, standing=standing(site, plan), left=left)


def _open(site: Site, row: PlanRow) -> DuePlan | None:
    path = _file(site, row.digest)
    try:
        return None if path is None else _standing(site, path)
    except InputError as error:
        _log.warning("the plan %s is left alone: %s", row.digest[:12], error)
        return None


def _standing(site: Site, path: Path) -> DuePlan:
    plan = read_plan(path)
    found = standing(site, plan)
    if plan.header.over_limit:
        readiness = Readiness.OVER_LIMIT
    elif not found.totals.slides:
        readiness = Readiness.EMPTY
    else:
        readiness = Readiness.WAITING if found.missing else Readiness.READY
    return DuePlan(path=path, plan=plan, readiness=readiness, standing=found, left=found.totals.slides)


def _file(site: Site, digest: str) -> Path | None:
    """Return the file of a plan in the site's folder of plans, whatever people called it."""
    found = sorted(path for path in (site.folder / PLANS).glob("*.parquet") if not path.name.startswith("."))
    named = [path for path in found if digest[:_LETTERS] in path.name]
    others = (path for path in found if not _NAMED.search(path.name))
    return next(iter(named), None) or next((path for path in others if _sha256(path) == digest), None)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        _log.warning("%s cannot be read (%s)", path, error.strerror)
        return ""


def _unwritable(path: Path, error: OSError) -> SiteError:
    msg = f"{path} cannot be written ({error.strerror or error})."
    return SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Make the site's folder writable, and room in it.")
