"""Details of events become columns: many at once and one by one say the same, whatever they hold."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report_kit import utc
from wsistore.reports.happened import HAPPENED, RAW, happened
from wsistore.reports.runs import found_in, runs

MANY = 1500
GOOD = '{"bytes_stored":12,"commit":"commits/a/1.json","cpu_seconds":1.5,"objects":"3","preset":"keep","tier":"hot"}'


def table(details: list[str]) -> pa.Table:
    count = len(details)
    columns = [["a"] * count, list(range(count)), [utc("2026-10-01")] * count, ["copied"] * count, details]
    return pa.table(columns, RAW)


def both(detail: str) -> tuple[Any, Any]:
    """Return what a detail says read with many others, and by itself."""
    crowd = happened(table([GOOD] * MANY + [detail])).slice(MANY)
    return crowd.to_pylist()[0] | {"number": 0}, happened(table([detail])).to_pylist()[0]


@pytest.mark.parametrize(
    "detail",
    [
        *(GOOD, "{}", "[]", "3", "null", "{", "", '{"tier":null}', '{"tier":"\\u00e9"}', '{"tier":"\\ud800"}'),
        *('{"objects":true}', '{"objects":1.5}', '{"objects":"many"}', '{"bytes_stored":99999999999999999999}'),
        *('{"bytes_stored":-5}', '{"version":3000000000}', '{"cpu_seconds":"x"}', '{"cpu_seconds":2}'),
        *('{"tier":7}', '{"tier":{"x":1}}', '{"a":{"tier":"cold"},"tier":"hot"}', '{"tier":"a\\"b"}'),
    ],
)
def test_many_at_once_say_what_one_says(detail: str) -> None:
    crowd, alone = both(detail)
    assert crowd == alone


def test_values_are_of_their_columns_types() -> None:
    found = happened(table([GOOD] * MANY))
    assert found.schema == HAPPENED
    row = found.to_pylist()[-1]
    assert (row["tier"], row["bytes_stored"], row["objects"], row["cpu_seconds"]) == ("hot", 12, 3, 1.5)
    assert (row["from"], row["bytes_read"]) == (None, None)


_VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.text(max_size=5))


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from(["tier", "objects", "bytes_stored", "preset", "version", "other"]), _VALUES))
def test_no_detail_is_read_in_two_ways(detail: dict[str, Any]) -> None:
    crowd, alone = both(json.dumps(detail, ensure_ascii=False, separators=(",", ":"), sort_keys=True))
    assert crowd == alone


@given(st.lists(st.text("ab", max_size=2), max_size=20), st.lists(st.text("ab", max_size=2), unique=True))
def test_runs_find_what_a_look_up_finds(texts: list[str], known: list[str]) -> None:
    ordered = sorted(texts)
    numbers, values = runs(pa.array(ordered, pa.string()))
    assert [values[number].as_py() for number in numbers.tolist()] == ordered
    expected = [known.index(text) if text in known else None for text in ordered]
    assert found_in(pa.array(ordered, pa.string()), pa.array(known, pa.string())).to_pylist() == expected
