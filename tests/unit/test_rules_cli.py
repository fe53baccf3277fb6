"""wsistore rules: what an administrator types, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.site_kit import cli, new_site, tiny_svs
from wsistore.tiers.rules.shipped import shipped_rules

RULES = """\
version: 1
retention:
  - {name: keep, keep_until: never-ends}
placement:
  - {name: all, tier: hot}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    made = new_site(folder / "site")
    assert cli(made, "ingest", tiny_svs(folder / "a.svs")).code == 0
    (made / "rules.yaml").write_text(RULES)
    return made


def test_rules_are_checked_against_the_tiers_of_the_site(site: Path, tmp_path: Path) -> None:
    done = cli(site, "rules", "check")
    assert done.code == 0
    assert "is in order: 1 retention and 1 placement rules" in done.out
    assert "nothing is ever deleted" in done.err
    draft = tmp_path / "draft.yaml"
    draft.write_text(RULES.replace("tier: hot", "tier: hott"))
    done = cli(site, "rules", "check", draft)
    assert done.code == 3
    assert "line 5" in done.err
    assert "did you mean 'hot'?" in done.err
    draft.write_text(RULES.replace("keep_until", "keep_untill"))
    done = cli(site, "rules", "check", draft, "--json")
    assert done.code == 3
    assert done.error["kind"] == "rules-invalid"
    (line,) = cli(site, "rules", "check", "--json").lines
    assert set(line) == {"rules", "digest", "retention", "placement", "remarks"}


def test_rules_that_are_not_there(site: Path, tmp_path: Path) -> None:
    assert cli(site, "rules", "check", tmp_path / "none.yaml").code == 4
    assert cli(site, "rules", "test").code == 4  # no golden cases beside them
    assert cli(site, "rules", "explain", "nothing").code == 4


def test_golden_cases_are_tried(site: Path, tmp_path: Path) -> None:
    tests = tmp_path / "cases.yaml"
    case = "version: 1\ncases:\n  - {name: one, at: 2026-01-01, facts: {}, expect: {retention: WHAT}}\n"
    tests.write_text(case.replace("WHAT", "never-ends"))
    done = cli(site, "rules", "test", tests)
    assert (done.code, done.out.strip()) == (0, "1 of 1 cases come out as expected.")
    tests.write_text(case.replace("WHAT", "ended"))
    done = cli(site, "rules", "test", tests)
    assert done.code == 3
    assert "line 3: 'one': retention is never-ends, and ended was expected" in done.out
    done = cli(site, "rules", "test", tests, "--json")
    assert done.code == 3
    assert done.lines == [
        {"name": "one", "line": 3, "passed": False, "failures": ["retention is never-ends, and ended was expected"]}
    ]


def test_a_slide_is_explained(site: Path) -> None:
    done = cli(site, "rules", "explain", "a.svs", "--at", "2040-01-01")
    assert done.code == 0
    assert "So it is kept for ever, by 'keep'." in done.out
    assert "So it belongs in hot as keep" in done.out
    (line,) = cli(site, "rules", "explain", "a.svs", "--json").lines
    assert set(line) == {"slide", "sentences"}
    assert "Nothing is to be done now." in line["sentences"]


def test_rule_sets_are_listed_shown_and_copied(tmp_path: Path) -> None:
    listed = cli(None, "rules", "show", "--json").lines
    assert [line["name"] for line in listed] == list(shipped_rules())
    assert all(line["sources"] and line["about"] for line in listed)
    name = "france-csp-r1112-7"
    assert cli(None, "rules", "show", name).out.splitlines() == shipped_rules()[name].path.read_text().splitlines()
    target = tmp_path / "ours.yaml"
    done = cli(None, "rules", "copy", name, "--to", target, "--json")
    assert done.code == 0
    assert json.loads(done.out) == {"rules": str(target), "tests": str(tmp_path / "ours.tests.yaml")}
    assert cli(None, "rules", "check", target).code == 0
    assert cli(None, "rules", "test", "--rules", target).code == 0
    target.write_text("mine")
    assert cli(None, "rules", "copy", name, "--to", target).code == 5
    assert target.read_text() == "mine"
    target.unlink()
    (tmp_path / "ours.tests.yaml").write_text("mine too")
    assert cli(None, "rules", "copy", name, "--to", target).code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["ours.tests.yaml"]  # nothing was half copied
    assert cli(None, "rules", "copy", "nonsense", "--to", target).code == 4
    assert cli(None, "rules", "copy", name, "--to", tmp_path / "no" / "folder.yaml").code == 4


def test_columns_are_listed() -> None:
    lines = cli(None, "rules", "columns", "--json").lines
    assert {"name", "type", "meaning"} == set(lines[0])
    names = {line["name"] for line in lines}
    assert {"birth_date", "last_encounter", "collections"} <= names
    assert not {"patient", "holds", "copies", "recourse"} & names
    assert "last_encounter" in cli(None, "rules", "columns").out
