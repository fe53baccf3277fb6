"""Research projects as administrators see them: made, granted, revoked, closed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from wsistore.catalog import grants, projects, projects_conditions, projects_state
from wsistore.catalog.grants import GrantRow
from wsistore.catalog.projects import CohortRow, ProjectRow
from wsistore.clock import iso
from wsistore.errors import InputError, Kind, WsistoreError
from wsistore.keys import pseudonyms
from wsistore.model import random_key
from wsistore.ops.project_slides import ProjectSlides
from wsistore.ops.research_state import ResearchState
from wsistore.ops.research_values import READ
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.tokens import checked_scopes, checked_user
from wsistore.settings import DATES

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_MOST_LEVEL = 16


@dataclass(frozen=True, slots=True)
class ShownProject:
    """A project, its cohort and its grants."""

    row: ProjectRow
    state: str
    """``open``, ``expired`` or ``closed``."""
    cohort: CohortRow | None
    grants: tuple[GrantRow, ...]
    """Those that were not revoked."""
    spent: Mapping[str, int]
    """Bytes of this month, by grant."""
    slides: int | None
    """How many are shown; None where nobody asked, or it cannot be told."""
    unknown: int
    """Slides that the cohort's condition chose and that are left out: nobody knows whose they are."""
    problem: str = ""
    """Why it cannot be told what is shown."""

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        row, cohort = self.row, self.cohort
        return {
            "project": row.name,
            "state": self.state,
            "purpose": row.purpose,
            "expires_at": row.expires_at,
            "dates": row.dates,
            "first_level": row.first_level,
            "limits": dict(row.limits),
            "created_at": row.created_at,
            "created_by": row.created_by,
            "closed_at": row.closed_at,
            "cohort": None if cohort is None else cohort.condition or "list",
            "slides": self.slides,
            "unknown_patients": self.unknown,
            "grants": [self._grant(one) for one in self.grants],
            "problem": self.problem,
        }

    def _grant(self, one: GrantRow) -> dict[str, Any]:
        return {
            one.kind: one.subject,
            "scopes": list(one.scopes),
            "expires_at": one.expires_at,
            "quota_bytes": one.bytes_quota,
            "spent_bytes": self.spent.get(one.grant, 0),
        }


def create_project(
    site: Site,
    name: str,
    *,
    purpose: str,
    expires_at: datetime | None = None,
    dates: str = "",
    first_level: int = 0,
    limits: Mapping[str, float | int | None] | None = None,
) -> ProjectRow:
    """Make a project: it shows no slide yet, to nobody.

    Parameters
    ----------
    site
        Open for writing.
    name
        Small letters, digits and hyphens; researchers see it.
    purpose
        What for, with the reference of its approval; researchers see it.
    expires_at
        When it ends by itself.
    dates
        How days are told, one of `wsistore.settings.DATES`; nothing: as the site's settings say.
    first_level
        Levels below it are not shown.
    limits
        ``requests_per_second``, ``bytes_per_second``, ``concurrent``: where others than the site's.

    Raises
    ------
    InputError
        If one of these cannot be.
    ConflictError
        If there is, or was, a project of this name (`Kind.PROJECT_EXISTS`).

    """
    _check_writable(site)
    now = site.clock.now()
    if not _NAME.fullmatch(name):
        _refuse(f"{name!r:.60} is no name of a project.", "Use small letters, digits and hyphens, 40 at most.")
    if not purpose.strip() or not purpose.isprintable():
        _refuse("A project needs a purpose, on one line.", "Say what for, with the approval's reference.")
    if expires_at is not None and expires_at <= now:
        _refuse(f"The project cannot end on {iso(expires_at)}: that is past.", "Give a day that is to come.")
    dates = dates or site.settings.serve.dates
    if dates not in DATES:
        _refuse(f"Days cannot be told as {dates!r:.40}.", f"It may be: {', '.join(DATES)}.")
    if not 0 <= first_level <= _MOST_LEVEL:
        _refuse(f"{first_level} is no level to begin with.", f"Levels count from 0, to {_MOST_LEVEL} here.")
    kept = {key: value for key, value in (limits or {}).items() if value is not None}
    end = None if expires_at is None else iso(expires_at)
    row = ProjectRow(name, purpose.strip(), dates, first_level, kept, iso(now), site.actor, end)
    if any(one.name == name for one in projects.every(site.catalog)):
        projects.create(site.catalog, row)  # which says that it is there
    try:
        pseudonyms.make(site.settings.keys, name, iso(now))
    except WsistoreError as error:
        if error.kind is not Kind.PROJECT_EXISTS:
            raise
        # Its key is there, but the project is not: an earlier call was interrupted, or the catalogue was made anew.
        pseudonyms.load(site.settings.keys, name)
    projects.create(site.catalog, row)
    return row


def set_cohort(site: Site, name: str, *, where: str = "", slides: Sequence[str] = ()) -> CohortRow:
    """Say which slides a project shows: those for which a condition is true, now and later, or a list.

    Raises
    ------
    MissingError
        If there is no such project, or no such slide.
    InputError
        If the condition is wrong, or neither or both are given.

    """
    _check_writable(site)
    if bool(where) == bool(slides):
        _refuse("A cohort is a condition or a list of slides.", "Give one of them.")
    if where:
        projects_conditions.choose(where, projects_conditions.example(), site.clock.now())
        return projects.put_cohort(site.catalog, name, site.actor, condition=where)
    keys = [site.catalog.resolve(slide) for slide in slides]
    return projects.put_cohort(site.catalog, name, site.actor, slides=keys)


def grant_project(
    site: Site,
    name: str,
    subject: str,
    *,
    group: bool = False,
    scopes: Iterable[str] = (READ,),
    expires_at: datetime | None = None,
    bytes_quota: int | None = None,
) -> GrantRow:
    """Let a user, or a group of OpenID Connect, see a project; what they were granted before ends.

    Raises
    ------
    MissingError
        If there is no such project.
    ConflictError
        If it is closed.
    InputError
        If name, scopes or end cannot be.

    """
    _check_writable(site)
    now = site.clock.now()
    if expires_at is not None and expires_at <= now:
        _refuse(f"The grant cannot end on {iso(expires_at)}: that is past.", "Give a day that is to come.")
    row = GrantRow(
        grant=random_key(),
        project=name,
        kind="group" if group else "user",
        subject=checked_user(subject),
        scopes=checked_scopes(scopes),
        bytes_quota=bytes_quota,
        granted_at=iso(now),
        granted_by=site.actor,
        expires_at=None if expires_at is None else iso(expires_at),
    )
    grants.give(site.catalog, row)
    return row


def revoke_grant(site: Site, name: str, subject: str, *, group: bool = False) -> int:
    """End what a user or group was granted, at once; return how many grants that were. `MissingError` if no project."""
    _check_writable(site)
    return grants.revoke(site.catalog, name, "group" if group else "user", checked_user(subject), site.actor)


def close_project(site: Site, name: str) -> ProjectRow:
    """Close a project for good, at once; its keys stay, so that its pseudonyms can be told again."""
    _check_writable(site)
    return projects.close(site.catalog, name)


def rotate_project_keys(site: Site, name: str, *, retire: bool = False) -> int:
    """Give a project new pseudonyms, or let its older ones answer no more; return how many generations answer.

    Parameters
    ----------
    site
        Open for writing.
    name
        Of the project.
    retire
        Make no new generation, but retire all older ones.

    Raises
    ------
    MissingError
        If there is no such project.
    SiteError
        If its key is not there, or cannot be written.

    """
    _check_writable(site)
    projects.one(site.catalog, name)
    change = pseudonyms.retire if retire else pseudonyms.rotate
    keys = change(site.settings.keys, name, iso(site.clock.now()))
    projects_state.count_change(site.catalog)
    return len(keys.answering)


def list_projects(site: Site) -> list[ShownProject]:
    """Return all projects, by name, without looking at their slides."""
    return _shown(site, [], counting=False)


def show_project(site: Site, name: str) -> ShownProject:
    """Return a project, and how many slides it shows now. `MissingError` if there is none."""
    projects.one(site.catalog, name)
    return _shown(site, [name], counting=True)[0]


def _shown(site: Site, names: Sequence[str], *, counting: bool) -> list[ShownProject]:
    known, state = ResearchState(site), None
    try:
        state = known.now()
        month, now = iso(site.clock.now())[:7], iso(site.clock.now())
        spent = grants.usage(site.catalog, month)
        found = []
        for name in names or sorted(state.projects):
            row, slides, problem = state.projects[name], None, ""
            if counting:
                try:
                    slides = known.slides(state, row)
                except WsistoreError as error:
                    problem = str(error)
            found.append(_one(row, state.cohorts.get(name), state.granted.values(), spent, slides, problem, now))
        return found
    finally:
        known.close()


def _one(
    row: ProjectRow,
    cohort: CohortRow | None,
    all_grants: Iterable[GrantRow],
    spent: Mapping[str, int],
    slides: ProjectSlides | None,
    problem: str,
    now: str,
) -> ShownProject:
    is_over = row.expires_at is not None and row.expires_at <= now
    return ShownProject(
        row=row,
        state="closed" if row.closed_at is not None else "expired" if is_over else "open",
        cohort=cohort,
        grants=tuple(one for one in all_grants if one.project == row.name),
        spent=spent,
        slides=None if slides is None else slides.rows.num_rows,
        unknown=0 if slides is None else slides.unknown,
        problem=problem,
    )


def _check_writable(site: Site) -> None:
    if site.catalog.read_only:
        raise read_only_error(site)


def _refuse(message: str, remedy: str) -> NoReturn:
    raise InputError(message, kind=Kind.METADATA_INVALID, remedy=remedy)
