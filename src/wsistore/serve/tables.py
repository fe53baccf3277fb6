"""A project's slides as a table: filtered, in pages, as JSON or Arrow."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.ops.research_access import SLIDE_COLUMNS
from wsistore.serve.answers import Answer, Refusal, invalid, json_answer

ARROW = b"application/vnd.apache.arrow.stream"
PAGE, MOST_JSON, MOST_ARROW = 100, 1000, 100_000
"""Rows of a page: where nobody says how many, and at most."""
_MOST_QUERY_BYTES, _MOST_FILTERS = 4096, 64
_OWN = ("limit", "after", "format")
_REMEDY = "See /openapi.json for the columns and what may be asked of them."


class Query:
    """What is asked of a project's slides.

    Parameters
    ----------
    text
        The URL's query, as sent.

    Raises
    ------
    Refusal
        If it means nothing.

    """

    def __init__(self, text: bytes) -> None:
        pairs = _pairs(text)
        own = [(name, value) for name, value in pairs if name in _OWN]
        if len({name for name, _ in own}) < len(own):
            raise Refusal(invalid("A parameter is given twice.", _REMEDY))
        chosen = dict(own)
        self.format = chosen.get("format", "json")
        if self.format not in {"json", "arrow"}:
            raise Refusal(invalid("The format is neither 'json' nor 'arrow'.", _REMEDY))
        most = MOST_JSON if self.format == "json" else MOST_ARROW
        self.limit = min(most, _whole(chosen.get("limit", str(PAGE)), MOST_ARROW))
        self.after = chosen.get("after", "")
        self.filters = [_filter(name, value) for name, value in pairs if name not in _OWN]

    def answer(self, table: pa.Table) -> Answer:
        """Return the page of `table` (sorted by pseudonym) that is asked for."""
        found = table.filter(self._mask(table)) if self.filters and table.num_rows else table
        total = found.num_rows
        rest = found.filter(pc.greater(found["slide"], self.after)) if self.after else found
        page = rest.slice(0, self.limit)
        following = page["slide"][-1].as_py() if page.num_rows and rest.num_rows > page.num_rows else None
        if self.format == "json":
            return json_answer({"slides": page.to_pylist(), "next": following, "total": total})
        return _arrow(page, following, total)

    def _mask(self, table: pa.Table) -> Any:
        """Return which rows all filters hold for: of several equal ones for a column one suffices."""
        mask: Any = None
        equal: dict[str, list[Any]] = {}
        for column, kind, value in self.filters:
            if kind == "is":
                equal.setdefault(column, []).append(value)
                continue
            compare = pc.greater_equal if kind == "min" else pc.less_equal
            mask = _both(mask, compare(table[column], value))
        for column, values in equal.items():
            mask = _both(mask, _one_of(table[column], values))
        return pc.fill_null(mask, False)


def _pairs(text: bytes) -> list[tuple[str, str]]:
    if len(text) > _MOST_QUERY_BYTES:
        raise Refusal(invalid("The query is too long.", _REMEDY))
    try:
        return parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=_MOST_FILTERS,
        )
    except ValueError as error:
        raise Refusal(invalid("The query cannot be read.", _REMEDY)) from error


def _filter(name: str, text: str) -> tuple[str, str, Any]:
    kind, column = "is", name
    if name not in SLIDE_COLUMNS.names:
        prefix, _, column = name.partition("_")
        kind = prefix if prefix in {"min", "max"} else ""
    if not kind or column not in SLIDE_COLUMNS.names:
        raise Refusal(invalid("A filter names no column.", _REMEDY))
    dtype = SLIDE_COLUMNS.field(column).type
    if pa.types.is_list(dtype) and kind != "is":
        raise Refusal(invalid("A column of lists has neither 'min_' nor 'max_'.", _REMEDY))
    return column, kind, _value(text, dtype)


def _value(text: str, dtype: pa.DataType) -> Any:
    if not (pa.types.is_integer(dtype) or pa.types.is_floating(dtype)):
        return text
    try:
        value = float(text)
    except ValueError as error:
        raise Refusal(invalid("A filter of a column of numbers is no number.", _REMEDY)) from error
    return pa.scalar(value, pa.float64())


def _whole(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise Refusal(invalid(f"The limit is no whole number from 1 to {most}.", _REMEDY))
    return int(text)


def _both(one: Any, other: Any) -> Any:
    return other if one is None else pc.and_kleene(one, other)


def _one_of(column: pa.ChunkedArray, values: Sequence[Any]) -> Any:
    if pa.types.is_list(column.type):
        wanted = set(values)
        return pa.chunked_array([pa.array([bool(wanted.intersection(row or ())) for row in column.to_pylist()])])
    found: Any = None
    for value in values:
        hit = pc.equal(column, value)
        found = hit if found is None else pc.or_kleene(found, hit)
    return found


def _arrow(page: pa.Table, following: str | None, total: int) -> Answer:
    told = {"next": following, "total": total}
    out = io.BytesIO()
    described = page.replace_schema_metadata({"wsistore": json.dumps(told)})
    with pa.ipc.new_stream(out, described.schema) as writer:
        writer.write_table(described)
    headers = [(b"content-type", ARROW), (b"cache-control", b"private, no-store")]
    return Answer(200, headers, out.getvalue())
