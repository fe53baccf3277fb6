"""Plans of a site: what its rules would do to its slides and what that costs, as a file that people can approve."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from wsistore import __version__
from wsistore.catalog.plans import PlanRecord
from wsistore.errors import InputError, Kind, WsistoreError
from wsistore.ops.facts import facts_table
from wsistore.ops.planning_terms import coefficients
from wsistore.ops.site import Site, read_only_error
from wsistore.tiers.plans.header import VALID_DAYS, Header, RulesUsed
from wsistore.tiers.plans.making import Circumstances, make
from wsistore.tiers.plans.plan_file import Plan, read_plan, write_plan
from wsistore.tiers.rules import Rules, TierFacts, decide, read_rules

PLAN_FILE = "plan.parquet"
"""What a plan is called unless told otherwise."""


@dataclass(frozen=True, slots=True)
class PlanMade:
    """A plan that was just made, and noted in the catalogue."""

    path: Path
    digest: str
    """SHA-256 of the file: what approvals sign."""
    header: Header


def make_plan(
    site: Site,
    rules_path: Path | None = None,
    at: datetime | None = None,
    out: Path | None = None,
    *,
    valid: timedelta = timedelta(days=VALID_DAYS),
    replace_it: bool = False,
) -> PlanMade:
    """Plan what the rules would do to every slide, write it, and note it in the catalogue.

    Parameters
    ----------
    site
        A site that is open for writing.
    rules_path
        The rules; by default those of the site.
    at
        The `now` of the rules, timezone-aware; by default the present.
    out
        Where the plan is written; by default `PLAN_FILE` in the current folder.
    valid
        For how long it may be applied.
    replace_it
        Whether a file that is there may be replaced.

    Raises
    ------
    MissingError, InputError
        If there are no rules, or they are wrong.
    ConflictError
        If there is a file already (`Kind.TARGET_EXISTS`).
    SiteError
        If prices that a tier names are not there, the catalogue fails, or the site is read only.
    StorageError
        If the plan cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    made_at, path = site.clock.now().astimezone(UTC), out or Path(PLAN_FILE)
    rules = site_rules(site, rules_path)
    facts, decisions = decided(site, rules, at or made_at)
    around = Circumstances(
        site=site.settings.name,
        author=site.actor,
        made_at=made_at,
        at=(at or made_at).astimezone(UTC),
        rules=RulesUsed(Path(rules.name).name, rules.digest, rules.text),
        software=f"wsistore {__version__}",
        valid=valid,
    )
    terms = coefficients(site, facts, decisions, around.at)
    header, rows = make(facts, decisions, terms, rules.limits, around)
    digest = write_plan(path, header, rows, replace_it=replace_it)
    try:
        _note(site, digest, header)
    except WsistoreError:
        path.unlink(missing_ok=True)  # nobody could approve it
        raise
    return PlanMade(path, digest, header)


def site_rules(site: Site, path: Path | None = None) -> Rules:
    """Return the rules of a site, for its tiers.

    Raises
    ------
    MissingError, InputError
        If there are none, or they are wrong.

    """
    return bound(site, read_rules(path or site.settings.rules))


def bound(site: Site, rules: Rules) -> Rules:
    """Return rules for the tiers of a site; raises `InputError` where they name others."""
    return rules.bind({tier.name: TierFacts.of(tier) for tier in site.settings.tiers})


def decided(site: Site, rules: Rules, at: datetime) -> tuple[pa.Table, pa.Table]:
    """Return the facts of all slides of a site, sorted by slide, and what the rules decide of them."""
    facts = facts_table(site).sort_by("slide")
    return facts, decide(facts, rules, at)


def plan_of_site(site: Site, path: Path) -> Plan:
    """Read a plan that was made in this site.

    Raises
    ------
    InputError
        If it is none (`Kind.PLAN_INVALID`), or another site's.
    MissingError
        If there is no such file.

    """
    plan = read_plan(path)
    if plan.header.site != site.settings.name:
        msg = f"{path} is a plan of the site {plan.header.site!r}; this is {site.settings.name!r}."
        raise InputError(msg, kind=Kind.PLAN_INVALID, remedy="Make one here: wsistore plan.")
    return plan


def _note(site: Site, digest: str, header: Header) -> None:
    site.catalog.note_plan(
        PlanRecord(
            digest=digest,
            made_at=header.made_at,
            expires_at=header.expires_at,
            author=header.author,
            header={name: value for name, value in header.to_json().items() if name not in _ELSEWHERE},
        )
    )


_ELSEWHERE = frozenset({"coefficients"})
"""What the catalogue need not keep of a header: its digest is there, the rest is in the file."""
