"""Visas as they were recorded, and which of them count."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from wsistore.errors import InputError
from wsistore.keys.people_roster import Roster
from wsistore.keys.people_tokens import TokenVerifier
from wsistore.ops.approval_contract import IRREVERSIBLE, ApprovablePlan, Totals
from wsistore.ops.approval_policy import Policy, is_author
from wsistore.ops.approval_proofs import Rules, verify
from wsistore.ops.site import Site
from wsistore.tiers.rules.decisions import Action

WHAT = "wsistore-visa"
_ONE_DAY = timedelta(days=1)
"""A visa bears a day of the site's calendar, a plan a moment in UTC."""


class VisaScope(StrEnum):
    """Which rows of a plan a visa is for."""

    ALL = "all"
    DELETE = "delete"
    DETACH_IDENTITY = "detach-identity"

    def covers(self, action: str) -> bool:
        """Say whether it is for rows with this action."""
        return self is VisaScope.ALL or str(self) == action


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenVisa:
    """A visa that counts."""

    role: str
    """Whose it is."""
    reference: str
    date: str
    """The day on it."""
    scope: VisaScope
    kept: tuple[str, ...]
    """Slides that they keep: left out when the plan is applied."""
    recorded_by: str
    at: str
    """When it was recorded."""


def visas_of(site: Site, plan: ApprovablePlan, roster: Roster, rules: Rules) -> tuple[list[GivenVisa], list[str]]:
    """Return a plan's visas that count, and why others do not."""
    found: list[GivenVisa] = []
    refused: list[str] = []
    oidc = site.settings.approvals.oidc
    tokens = None if oidc is None else TokenVerifier(oidc)
    for row in site.catalog.visas(plan.digest):
        try:
            person, said = verify(WHAT, row, roster, tokens, rules)
        except InputError as error:
            refused.append(f"the visa of {row.role}: {error.message}")
            continue
        problem = (
            "was recorded by the plan's author" if is_author(person, plan.header.author) else _problem(said, rules)
        )
        if problem or said["role"] != row.role:
            refused.append(f"the visa of {row.role}: it {problem or 'is of somebody else'}")
            continue
        found.append(
            GivenVisa(
                role=row.role,
                reference=said["reference"],
                date=said["date"],
                scope=VisaScope(said["scope"]),
                kept=tuple(said["kept"]),
                recorded_by=person.name,
                at=row.at,
            )
        )
    return found, refused


def missing_visas(policy: Policy, given: Sequence[GivenVisa], totals: Totals) -> list[str]:
    """Say which visas a plan still lacks."""
    lacking = []
    for role in policy.visas:
        visa = next((one for one in given if one.role == role), None)
        if visa is None:
            lacking.append(f"the visa of {role}")
            continue
        lacking += [
            f"the visa of {role} for {action}"
            for action in sorted(IRREVERSIBLE)
            if totals.actions.get(Action(action)) and not visa.scope.covers(action)
        ]
    return lacking


def date_problem(day: str, rules: Rules) -> str:
    """Say what is wrong with the day on a visa; nothing if it may be."""
    try:
        found = date.fromisoformat(day if re.fullmatch(r"\d{4}-\d\d-\d\d", day) else "")
    except ValueError:
        return f"bears no day such as 2026-12-01, but {day[:40]!r}"
    if found < datetime.fromisoformat(rules.made_at).date() - _ONE_DAY:
        return f"is of {day}, before the plan was made"
    if found > rules.now.date() + _ONE_DAY:
        return f"is of {day}, which is still to come"
    return ""


def _problem(said: dict[str, Any], rules: Rules) -> str:
    kept = said.get("kept")
    is_whole = isinstance(kept, list) and all(isinstance(slide, str) for slide in kept)
    if not is_whole or not isinstance(said.get("reference"), str) or said.get("scope") not in set(VisaScope):
        return "cannot be read"
    return date_problem(str(said.get("date")), rules)
