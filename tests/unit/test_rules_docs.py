"""docs/rules.md says what is so: columns, keys, reasons, its examples."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from tests.rules_kit import facts_of
from wsistore.tiers.rules import TierFacts, decisions, parse_rules, reading
from wsistore.tiers.rules.facts import FACTS
from wsistore.tiers.rules.golden import check, read_golden
from wsistore.tiers.rules.shipped import shipped_rules

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text("utf-8")


def column_table() -> str:
    """Return the table of columns as the page is to have it."""
    rows = [f"| `{fact.name}` | {fact.type} | {fact.meaning} |" for fact in FACTS if fact.in_rules]
    return "\n".join(["| column | type | what it is |", "|---|---|---|", *rows])


def yaml_of(heading: str) -> str:
    section = TEXT.partition(f"## {heading}\n")[2]
    return section.partition("```yaml\n")[2].partition("```")[0]


def test_the_table_of_columns_is_that_of_the_program() -> None:
    assert column_table() in TEXT, f"docs/rules.md is to have this table:\n{column_table()}"


def test_every_column_that_is_named_in_the_table_is_one_of_the_facts() -> None:
    assert set(facts_of({}).column_names) >= {fact.name for fact in FACTS if fact.in_rules}


def test_the_example_is_in_order() -> None:
    rules = parse_rules(yaml_of("The file").encode(), "docs/rules.md")
    tiers = {name: TierFacts() for name in ("hot", "warm", "cold", "vault")}
    assert rules.bind(tiers).bound
    assert [rule.name for rule in rules.retention] == ["csp-r1112-7", "csp-r1112-7-death", "slides-of-interest"]


def test_every_key_is_described() -> None:
    keys = {*reading._TOP, *reading._RETENTION, *reading._PLACEMENT, *reading._HOSTING, *reading._LIMITS}
    missing = [key for key in sorted(keys) if not re.search(rf"\b{key}\b", TEXT)]
    assert missing == []


def test_every_reason_and_every_rule_set_is_described() -> None:
    for word in (*decisions.Blocked, *decisions.Retention, *decisions.Action, *shipped_rules()):
        assert f"`{word}`" in TEXT, word


def test_the_golden_cases_of_the_page_come_out_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(textwrap.dedent(yaml_of("Golden cases")))
    text = yaml_of("The file")
    # The page's cases have two tiers, and do not say where they are.
    for old, new in ((", also: [vault]", ""), ("tier: warm", "tier: cold"), ("[vault]", "[hot]"), ("locations:", "#")):
        text = text.replace(old, new)
    rules = parse_rules(text.encode(), "docs/rules.md")
    assert [case.failures for case in check(rules, read_golden(path))] == [(), ()]
