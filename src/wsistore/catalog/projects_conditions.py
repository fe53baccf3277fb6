"""SQL over what a cohort may be chosen by: an allow-list of columns, days only as months and years."""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from wsistore.catalog import expressions
from wsistore.catalog.expressions import LOCKED, NOW, Vocabulary, first_line
from wsistore.errors import InputError, Kind

_TEXTS = pa.list_(pa.string())
COHORT = pa.schema(
    [
        pa.field("slide", pa.string()),
        pa.field("organ", pa.string()),
        pa.field("diagnoses", _TEXTS),
        pa.field("stain", pa.string()),
        pa.field("block", pa.string()),
        pa.field("age_at", pa.int32()),
        pa.field("received_month", pa.string()),
        pa.field("received_year", pa.int32()),
        pa.field("magnification", pa.float64()),
        pa.field("um_per_px", pa.float64()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
        pa.field("format", pa.string()),
        pa.field("mode", pa.string()),
        pa.field("collections", _TEXTS),
        pa.field("tags", _TEXTS),
    ]
)
"""What a cohort's condition sees. ``slide`` is the key, for joining; conditions may not name it."""

_NAMES = tuple(name for name in COHORT.names if name != "slide")
_VOCABULARY = Vocabulary(_NAMES, "cohort", "docs/research.md lists the columns.")


def parse(text: str) -> str:
    """Return a cohort's condition as DuckDB gets it.

    Raises
    ------
    InputError
        If it is no SQL expression, or has parts or columns that are not allowed (`Kind.CONDITION_INVALID`).

    """
    return expressions.parse(text, _VOCABULARY).sql


def example() -> pa.Table:
    """Return a slide of which all is known and one of which nothing is: what fails for them fails for a site's."""
    known = {
        **dict.fromkeys(("slide", "organ", "stain", "block", "format", "mode"), "x"),
        **{name: ["x"] for name in ("diagnoses", "collections", "tags")},
        **dict.fromkeys(("age_at", "magnification", "um_per_px", "width", "height"), 1),
        "received_month": "2020-01",
        "received_year": 2020,
    }
    return pa.Table.from_pylist([known, {"slide": "y"}], COHORT)


def choose(text: str, slides: pa.Table, now: datetime) -> list[str]:
    """Return the keys of the slides for which a condition is true.

    Parameters
    ----------
    text
        The condition as a person gave it.
    slides
        Table of `COHORT`.
    now
        The present, timezone-aware.

    Raises
    ------
    InputError
        If it is wrong, its types do not fit, or a value cannot be computed (`Kind.CONDITION_INVALID`).

    """
    sql = parse(text)
    query = f'SELECT slide, ({sql}) AS chosen FROM (SELECT *, ?::TIMESTAMP AS "{NOW}" FROM slides)'  # noqa: S608 - made from an allow-listed tree
    try:
        with duckdb.connect(":memory:", config=LOCKED) as connection:
            connection.register("slides", slides)
            result = connection.execute(query, [now.astimezone(UTC).replace(tzinfo=None)])
            if str(result.description[1][1]) != "BOOLEAN":
                msg = f"The cohort {text!r} is not true or false, but a value."
                raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy="Compare it with something.")
            return sorted(slide for slide, chosen in result.fetchall() if chosen)
    except duckdb.Error as error:
        msg = f"The cohort {text!r} cannot be evaluated: {first_line(error).rstrip('.')}."
        raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy=_VOCABULARY.help) from error
