"""Expressions over any columns: what they may name, what they say of themselves, whole months, no way out."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.catalog.expressions import Expression, Vocabulary, evaluate, parse, types_of
from wsistore.errors import InputError, Kind

WORDS = Vocabulary(("day", "number", "text", "flags"), "condition", "See the page.")
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
TABLE = pa.table(
    {
        "day": pa.array([date(2004, 2, 29), None, date(2000, 1, 31)], pa.date32()),
        "number": pa.array([1, 2, None], pa.int64()),
        "text": pa.array(["12", "x", None]),
        "flags": pa.array([["a"], [], None], pa.list_(pa.string())),
    }
)


def values(text: str, now: datetime | pa.Array = NOW) -> list[object]:
    found: list[object] = evaluate([parse(text, WORDS)], TABLE, now, threads=1)["0"].to_pylist()
    return found


def test_an_expression_says_what_it_rests_on() -> None:
    one = parse("NUMBER > 1 and now > day", WORDS)
    assert (set(one.names), one.uses_now, one.strict) == ({"number", "day"}, True, True)
    for text in (
        "day is null",
        "coalesce(number, 1) > 0",
        "case when number > 1 then true else false end",
        "nullif(number, 1) = 2",
    ):
        assert not parse(text, WORDS).strict, text


@pytest.mark.parametrize("text", ["width > 1", "facts.number = 1", "getvariable('x')", "now()", "number = (select 1)"])
def test_only_what_is_allowed_is_understood(text: str) -> None:
    with pytest.raises(InputError, match="The condition") as caught:
        parse(text, WORDS)
    assert caught.value.kind is Kind.CONDITION_INVALID


def test_a_value_that_cannot_be_computed_is_unknown() -> None:
    assert values("cast(text as int)") == [12, None, None]
    assert values("number / (number - 1)") == [None, 2.0, None]
    assert values("greatest(number, 0)") == [1, 2, None]


def test_the_present_may_be_another_for_each_row() -> None:
    moments = pa.array([datetime.combine(date(year, 1, 1), datetime.min.time()) for year in (2000, 2010, 2020)])
    assert values("year(now)", moments) == [2000, 2010, 2020]
    assert values("year(now)") == [2026, 2026, 2026]


def test_a_column_called_like_a_keyword_is_a_column() -> None:
    table = pa.table({"select": [1, 2]})
    found = parse('"select" = 2', Vocabulary(("select",), "condition", "."))
    assert evaluate([found], table, NOW)["0"].to_pylist() == [False, True]


def test_types_are_told_without_any_row() -> None:
    asked = {"a": "day + interval 1 year", "b": "number > 1", "c": "day + number > text", "d": "cast(number as double)"}
    found = types_of({key: parse(text, WORDS) for key, text in asked.items()}, TABLE.schema)
    assert (found["a"], found["b"], found["d"]) == ("TIMESTAMP", "BOOLEAN", "DOUBLE")
    assert isinstance(found["c"], InputError)
    assert evaluate([], TABLE, NOW).num_columns == 0


def test_types_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be evaluated"):
        values("day > interval 1 day")


@pytest.mark.parametrize(
    "text", ["greatest(" * 5 + "number, 1" + ", 1)" * 4 + ")", "day + interval 1 year" + " + interval 1 month" * 5]
)
def test_what_would_grow_without_end_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="within each other"):
        parse(text, WORDS)


def later(day: date, months: int) -> date:
    """Return the day so many months later; the first of the month after where there is no such day."""
    count = day.year * 12 + day.month - 1 + months
    year, month = divmod(count, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, day.day) if day.day <= last else date(year, month + 1, last) + timedelta(days=1)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.dates(date(1900, 1, 1), date(2200, 12, 31)), min_size=30, max_size=60), st.integers(1, 600))
def test_months_are_added_so_that_nothing_ends_early(days: list[date], months: int) -> None:
    table = pa.table({"day": pa.array(days, pa.date32())})
    one: Expression = parse(f"cast(day + interval {months} month as date)", WORDS)
    assert evaluate([one], table, NOW, threads=1)["0"].to_pylist() == [later(day, months) for day in days]
