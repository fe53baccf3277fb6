"""docs/plans.md says what is in a plan: columns with their types, the header's fields, limits, what is not done."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from wsistore.tiers.plans import header, speeds
from wsistore.tiers.plans.plan_file import HEADER_KEY, ROWS_PER_GROUP
from wsistore.tiers.plans.rows import PLAN
from wsistore.tiers.plans.sizes import ASSUMED, LEAST_COPIES
from wsistore.tiers.plans.totals import Totals
from wsistore.tiers.rules.decisions import Action, Blocked, Retention
from wsistore.tiers.rules.values import Limits

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "plans.md").read_text(encoding="utf-8")


def part(title: str) -> str:
    """Return the text from a heading to the next one."""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def test_every_column_with_its_type_in_its_place() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (yes|no) \| \S", part("The file"), re.MULTILINE)
    assert rows == [(item.name, str(item.type), "yes" if item.nullable else "no") for item in PLAN]


def test_every_field_of_the_header() -> None:
    told = part("The header")
    names = [name for row in re.findall(r"^\| (`.*?) \|", told, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert names == [item.name for item in fields(header.Header)]
    assert f"`{HEADER_KEY.decode()}`" in told
    totals = re.search(r"^\| `totals` \| (.*?) \|$", told, re.MULTILINE)
    assert totals
    assert set(re.findall(r"`(\w+)`", totals[1])) == {item.name for item in fields(Totals)}


def test_words_of_columns() -> None:
    columns = dict(re.findall(r"^\| `(retention|action)` \|.*?\| no \| (.*) \|$", part("The file"), re.MULTILINE))
    assert set(re.findall(r"`([a-z-]+)`", columns["retention"])) == {str(one) for one in Retention}
    assert set(re.findall(r"`([a-z-]+)`", columns["action"])) == {str(one) for one in Action}


def test_what_is_not_done() -> None:
    told = re.findall(r"^\| `([a-z-]+)` \|", part("What a plan does not do"), re.MULTILINE)
    assert told == [*map(str, Blocked), "postponed"]


def test_limits_and_defaults() -> None:
    told = part("Limits")
    defaults = Limits()
    assert f"`delete_at_most` ({defaults.delete_at_most:.1%}".replace("%", " %") in told
    assert f"`move_at_most` ({defaults.move_at_most:.0%}".replace("%", " %") in told.replace("\n", " ")


def test_figures_of_the_reckoning() -> None:
    told = part("How it is reckoned").replace("\n", " ")
    assert f"fold {ASSUMED['fold'].bytes_per_byte}, pack {ASSUMED['pack'].bytes_per_byte}" in told
    assert f"({LEAST_COPIES} at least)" in told
    assert f"{speeds.COPY_BYTES_PER_SECOND / 1e6:.0f} MB/s" in told
    assert f"{speeds.ENCODE_CPU_SECONDS_PER_GB:.0f} CPU seconds per GB" in told
    assert f"{speeds.UNDO_CPU_SECONDS_PER_GB:.0f} for undoing" in told
    assert f"{speeds.DELETE_OBJECTS_PER_SECOND:.0f} objects a second" in told
    assert f"{ROWS_PER_GROUP // 1000} 000 rows to a group" in TEXT
