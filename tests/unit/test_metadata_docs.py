"""docs/metadata.md says what the program takes in: tables, columns, what they hold, both ways."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wsistore.catalog.clinical_dates import COMPLETE
from wsistore.events import EventKind
from wsistore.ops.clinical_cells import LONGEST_NUMBER, LONGEST_TEXT
from wsistore.ops.clinical_columns import COLUMNS, ONE_OF, Cell, Feed, feed_of
from wsistore.tiers.rules.facts import SCHEMA

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "metadata.md").read_text(encoding="utf-8")


def section(feed: Feed) -> str:
    match = re.search(rf"^### {feed}\n(.*?)(?=^### |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match, feed
    return match[1]


def first_column(text: str) -> list[str]:
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    return [word for cell in cells for word in re.findall(r"`([\w-]+)`", cell)]


def test_every_table_has_a_section_and_no_other() -> None:
    assert re.findall(r"^### (.*)$", TEXT, re.MULTILINE) == [str(feed) for feed in Feed]


@pytest.mark.parametrize("feed", list(Feed))
def test_columns(feed: Feed) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", section(feed), re.MULTILINE)
    assert [name for name, _, _ in rows] == [column.name for column in COLUMNS[feed]]
    for column, (_, holds, meaning) in zip(COLUMNS[feed], rows, strict=True):
        said = "one of" if column.cell is Cell.CHOICE else str(column.cell)
        assert holds.startswith(said)
        assert ("needed" in holds) == column.is_needed
        assert tuple(re.findall(r"`([^`]+)`", holds)) == column.choices
        assert meaning == column.meaning
    assert ("exactly one of" in section(feed)) == (feed in ONE_OF)
    for name in ONE_OF.get(feed, ()):
        assert f"`{name}`" in section(feed).rpartition("exactly one of")[2]


def test_facts_and_events_are_those_of_the_program() -> None:
    facts = TEXT.partition("| fact in rules")[2].partition("A patient's dates")[0]
    named = first_column(facts.partition("\n|---")[2])
    assert len(named) >= 10
    assert set(named) <= set(SCHEMA.names)
    table = TEXT.partition("| event | when |")[2].partition("\n\n")[0]
    kinds = set(first_column(table))
    assert kinds <= {str(kind) for kind in EventKind}
    clinical = ("patient", "case-", "encounter", "recourse")
    assert {str(kind) for kind in EventKind if kind.startswith(clinical)} <= kinds


def test_limits_and_needed_tables() -> None:
    assert f"at most {LONGEST_NUMBER} characters" in TEXT
    assert f"at most {LONGEST_TEXT:,}".replace(",", " ") in TEXT
    needed = re.search(r"the oldest of (.*?) is older", TEXT, re.DOTALL)
    assert needed
    assert tuple(re.findall(r"`(\w+)`", needed[1])) == COMPLETE


@pytest.mark.parametrize("feed", list(Feed))
def test_tables_are_told_by_their_names_and_by_their_columns(feed: Feed) -> None:
    names = [column.name for column in COLUMNS[feed]]
    assert feed_of("2026-export", names) is feed
    assert feed_of(f"Export_{feed}-2026", ["whatever"]) is feed
    assert feed_of("export", ["whatever"]) is None
    assert feed_of("patients-and-cases", ["encounter_id"]) is Feed.ENCOUNTERS
