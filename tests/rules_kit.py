"""What tests of rules share: tables of facts from a few words, rules from a text."""

from __future__ import annotations

import textwrap
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from wsistore.tiers.rules import Rules, TierFacts, decide, parse_rules
from wsistore.tiers.rules.facts import SCHEMA

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
TIERS = {"hot": TierFacts(), "warm": TierFacts(), "cold": TierFacts(archive=True)}

KEEP_20 = """
retention:
  - name: twenty
    keep_until: last_encounter + interval 20 year
    suspended_by: recourse
"""
ENDED = {"last_encounter": date(2000, 1, 1)}
"""Facts of a slide that `KEEP_20` lets go."""


def rules_of(text: str, tiers: dict[str, TierFacts] | None = None) -> Rules:
    """Return the rules of a YAML text without its version; bound if `tiers` are given."""
    found = parse_rules(("version: 1\n" + textwrap.dedent(text)).encode(), "rules.yaml")
    return found if tiers is None else found.bind(tiers)


def copy_in(tier: str, preset: str = "keep", state: str = "committed", **more: Any) -> dict[str, Any]:
    """Return a copy as the table of facts has it."""
    return {
        "attempt": f"a-{tier}", "tier": tier, "preset": preset, "state": state, "bytes_stored": 1000, "objects": 4,
        "created_at": None, "verified_at": None, "expires_at": None, "charged_until": None, **more,
    }  # fmt: skip


def fact(slide: str = "s", **known: Any) -> dict[str, Any]:
    """Return a row of facts: what is given, a fresh feed, no holds, and nothing else known."""
    base = {"slide": slide, "identity_detached": False, "holds": 0, "collections": [], "tags": [], "feed_as_of": NAIVE}
    return dict.fromkeys(SCHEMA.names) | base | known


def facts_of(*rows: dict[str, Any]) -> pa.Table:
    """Return a table of facts."""
    return pa.Table.from_pylist([fact(**{"slide": f"s{number}"} | row) for number, row in enumerate(rows)], SCHEMA)


def decided(rules: Rules, *rows: dict[str, Any], now: datetime = NOW) -> list[dict[str, Any]]:
    """Return the decisions about slides with these facts."""
    found: list[dict[str, Any]] = decide(facts_of(*rows), rules, now, threads=1).to_pylist()
    return found


def steps(decision: dict[str, Any]) -> list[str]:
    """Return the steps of a decision in short: ``move hot>cold keep``."""
    said = []
    for step in decision["steps"] or []:
        place = f"{step['source']}>{step['tier']}" if step["source"] else step["tier"]
        said.append(" ".join(str(part) for part in (step["action"], place, step["preset"]) if part))
    return said


def ago(days: float) -> datetime:
    """Return a moment so many days before `NOW`, as the table of facts has it."""
    return NAIVE - timedelta(days=days)
