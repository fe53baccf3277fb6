"""The rule sets that ship decide what their golden cases say; a file of golden cases is read strictly."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.rules_kit import rules_of
from wsistore.errors import InputError, Kind, MissingError
from wsistore.tiers.rules import TierFacts
from wsistore.tiers.rules import shipped as shipping
from wsistore.tiers.rules.golden import check, read_golden

SETS = shipping.shipped_rules()


@pytest.mark.parametrize("name", SETS)
def test_golden_cases_of_the_rule_sets_that_ship(name: str) -> None:
    one = SETS[name]
    golden = read_golden(one.tests)
    found = check(one.rules(), golden)
    assert [(case.name, case.failures) for case in found if case.failures] == []
    assert len({case.name for case in golden.cases}) == len(golden.cases) >= 8


@pytest.mark.parametrize("name", SETS)
def test_rule_sets_that_ship_say_what_they_are_and_where_they_come_from(name: str) -> None:
    rules = SETS[name].rules()
    assert len(rules.about) > 60
    assert rules.sources
    assert rules.limits.delete_at_most <= 0.001
    assert rules.limits.move_at_most <= 0.05


@pytest.mark.parametrize(
    ("words", "until"),
    [
        ("an adult", date(2020, 1, 1)),
        ("a child, until", date(2023, 6, 1)),
        ("death three years", date(2013, 1, 1)),
        ("death twelve years", date(2020, 1, 1)),
        ("a recourse of eighteen months", date(2021, 7, 1)),
        ("still open", None),
        ("unknown day of birth, never", None),
        ("unknown last encounter, never", None),
        ("re-admission in year 19", date(2039, 3, 5)),
        ("cancelled", date(2020, 1, 1)),
        ("merged", date(2028, 9, 1)),
        ("parted again", date(2020, 1, 1)),
        ("none twenty years later", date(2100, 3, 1)),
    ],
)
def test_the_cases_that_the_law_is_known_by_are_among_them(words: str, until: date | None) -> None:
    cases = [case for case in read_golden(SETS["france-csp-r1112-7"].tests).cases if words in case.name]
    assert cases
    assert all(case.expected["keep_until"] == until for case in cases)


def test_current_practice_deletes_nothing() -> None:
    assert all(rule.keep_until is None for rule in SETS["france-current-practice"].rules().retention)


def test_unknown_rule_sets_are_refused() -> None:
    with pytest.raises(MissingError, match=r"did you mean 'slides-of-interest'"):
        shipping.shipped("slides-of-interests")
    assert shipping.tests_beside(Path("a/rules.yaml")) == Path("a/rules.tests.yaml")


CASE = """\
version: 1
tiers: {hot: {}, cold: {preset: pack, archive: true, required_copies: 2}}
cases:
  - name: one
    at: 2026-01-01T10:00+02:00
    facts:
      last_encounter: 2000-01-01
      metadata: {protocol: A}
      magnification: 40
      copies: [{tier: hot, charged_until: 2026-02-01}]
      tags: [x]
    others: [{stain: HE}]
    expect: {keep_until: 2020-01-01, action: move}
"""


def test_a_case_is_read_into_facts(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(CASE)
    golden = read_golden(path)
    (case,) = golden.cases
    one, other = case.facts.to_pylist()
    assert golden.tiers["cold"] == TierFacts(preset=golden.tiers["cold"].preset, archive=True, required_copies=2)
    assert case.at.isoformat() == "2026-01-01T08:00:00+00:00"
    assert one["metadata"] == [("protocol", "A")]
    assert (one["case_id"], other["stain"], one["tiers"], one["magnification"]) == (
        other["case_id"],
        "HE",
        ["hot"],
        40.0,
    )
    assert one["feed_as_of"] == case.at.replace(tzinfo=None)
    rules = rules_of("retention:\n  - {name: a, keep_until: last_encounter + interval 21 year}")
    (found,) = check(rules, golden)
    assert found.failures == (
        "keep_until is 2021-01-01, and 2020-01-01 was expected",
        "action is delete, and move was expected",
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("last_encounter: 2000-01-01", "last_encountre: 2000-01-01", "line 7, .*did you mean 'last_encounter'"),
        ("last_encounter: 2000-01-01", "last_encounter: 2000-13-01", "line 7, column 23: .*is no day such as"),
        ("2026-01-01T10:00+02:00", "tomorrow", "line 5, .*is no moment such as"),
        ("magnification: 40", "magnification: big", "line 9, .*type double"),
        ("magnification: 40", "holds: 1.5", "line 9, .*type int64"),
        ("magnification: 40", "identity_detached: 1", "line 9, .*type bool"),
        ("{tier: hot, ", "{", "line 10, .*no key 'tier'"),
        ("action: move", "actoin: move", "line 13, .*did you mean 'action'"),
        ("archive: true", "archive: 1", "line 2, .*true or false"),
        ("preset: pack", "preset: packed", "line 2, .*did you mean 'pack'"),
        ("    at:", "    when:", "line 5, .*no key 'when'"),
        ("version: 1", "version: 3", "line 1, .*from 1 to 1"),
    ],
)
def test_what_is_wrong_with_golden_cases_is_said_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(CASE.replace(old, new))
    with pytest.raises(InputError, match=said) as caught:
        read_golden(path)
    assert caught.value.kind is Kind.RULES_INVALID


def test_a_file_without_cases_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("version: 1\ncases: []\n")
    with pytest.raises(InputError, match="no cases"):
        read_golden(path)
