"""Conditions: any text is evaluated or refused, and what is evaluated means what SQL's three-valued logic says."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.catalog import COLUMNS, conditions
from wsistore.errors import InputError, Kind

NOW = datetime(2026, 1, 31, tzinfo=UTC)
WIDTHS: list[int | None] = [0, 1, 2, None]
HEIGHTS: list[int | None] = [2, None, 1, None]

_TYPES = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP": pa.timestamp("us"),
    "VARCHAR[]": pa.list_(pa.string()),
    "MAP(VARCHAR, VARCHAR)": pa.map_(pa.string(), pa.string()),
}


def _table() -> pa.Table:
    values: dict[str, list[object]] = {column.name: [None] * 4 for column in COLUMNS}
    values |= {"slide": ["0", "1", "2", "3"], "width": list(WIDTHS), "height": list(HEIGHTS)}
    return pa.table({column.name: pa.array(values[column.name], _TYPES[column.type]) for column in COLUMNS})


TABLE = _table()

WORDS = """
width height name stain now now() ( ) , ; -- /* */ ' " and or not null is in between like case when then else end
select from slides where union 1 0 'x' = < > + - * / % || :: int text [ ] { } $1 ? : greatest( least( coalesce(
read_csv( '/etc/hostname' getenv( current_date interval day date timestamp cast( as try_cast( any( exists( lambda x
-> columns( * . slides. metadata[ \x00 \\ e'' \U0001f52c pragma attach copy
"""
words = st.sampled_from(WORDS.split())


# A condition costs DuckDB tens of milliseconds.
@settings(max_examples=settings().max_examples // 2)
@given(st.text(max_size=30) | st.lists(words, max_size=12).map(" ".join))
def test_any_text_is_evaluated_or_refused(text: str) -> None:
    try:
        found = conditions.parse(text).select(TABLE, NOW)
    except InputError as error:
        assert error.kind is Kind.CONDITION_INVALID  # noqa: PT017 - both outcomes are right
    else:
        assert found <= {"0", "1", "2", "3"}


# --- against a model in Python: None is unknown -----------------------------------------------------------------------

Value = int | bool | None


@dataclass(frozen=True)
class Term:
    """An expression as SQL and as what it ought to be, per row."""

    sql: str
    rows: tuple[Value, ...]


def _strict(function: Callable[..., Value]) -> Callable[..., Value]:
    return lambda *values: None if None in values else function(*values)


def _and(a: Value, b: Value) -> Value:
    return False if False in (a, b) else None if None in (a, b) else True


def _or(a: Value, b: Value) -> Value:
    return True if True in (a, b) else None if None in (a, b) else False


def _combine(template: str, function: Callable[..., Value], *terms: Term) -> Term:
    rows = tuple(function(*values) for values in zip(*(term.rows for term in terms), strict=True))
    return Term(template.format(*(term.sql for term in terms)), rows)


numbers = st.recursive(
    st.sampled_from([Term("width", tuple(WIDTHS)), Term("height", tuple(HEIGHTS))])
    | st.integers(-2, 3).map(lambda n: Term(str(n), (n,) * 4)),
    lambda inner: st.one_of(
        st.builds(lambda a, b: _combine("({} + {})", _strict(operator.add), a, b), inner, inner),
        st.builds(lambda a, b: _combine("({} - {})", _strict(operator.sub), a, b), inner, inner),
        st.builds(lambda a, b: _combine("greatest({}, {})", _strict(max), a, b), inner, inner),
        st.builds(lambda a, b: _combine("least({}, {})", _strict(min), a, b), inner, inner),
        st.builds(lambda a, b: _combine("coalesce({}, {})", lambda x, y: y if x is None else x, a, b), inner, inner),
    ),
    max_leaves=4,
)
comparisons = st.one_of(
    st.builds(lambda a, b: _combine("{} < {}", _strict(operator.lt), a, b), numbers, numbers),
    st.builds(lambda a, b: _combine("{} = {}", _strict(operator.eq), a, b), numbers, numbers),
    st.builds(lambda a: _combine("{} is null", lambda value: value is None, a), numbers),
)
logic = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(lambda a, b: _combine("({} and {})", _and, a, b), inner, inner),
        st.builds(lambda a, b: _combine("({} or {})", _or, a, b), inner, inner),
        st.builds(lambda a: _combine("not ({})", _strict(operator.not_), a), inner),
    ),
    max_leaves=4,
)


@settings(max_examples=settings().max_examples // 2)
@given(logic)
def test_slides_are_chosen_where_the_condition_is_true_and_not_where_it_is_unknown(term: Term) -> None:
    expected = {str(row) for row, value in enumerate(term.rows) if value is True}
    assert conditions.parse(term.sql).select(TABLE, NOW) == expected
