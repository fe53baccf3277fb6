"""Conditions over the catalogue's slides (``--where``): a slide is chosen only where its condition is true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
from sqlalchemy import Connection, select

from wsistore.catalog import expressions, schema
from wsistore.catalog.columns import COLUMNS, verified_at
from wsistore.catalog.expressions import LOCKED, NOW, Vocabulary, first_line
from wsistore.catalog.records import SlideRow
from wsistore.errors import InputError, Kind
from wsistore.model import CopyState

_NAMES = tuple(column.name for column in COLUMNS)

_VOCABULARY = Vocabulary(_NAMES, "condition", "'wsistore ls --help' lists the columns.")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was understood and is allowed."""

    text: str
    """As a person gave it."""
    sql: str
    """As DuckDB gets it."""

    def select(self, slides: pa.Table, now: datetime) -> set[str]:
        """Return the keys of the slides for which the condition is true.

        Parameters
        ----------
        slides
            Table with the columns of `COLUMNS`.
        now
            The present, timezone-aware.

        Raises
        ------
        InputError
            If types do not fit, or a value cannot be computed.

        """
        parameters = [now.astimezone(UTC).replace(tzinfo=None)]
        query = f'SELECT slide, ({self.sql}) AS chosen FROM (SELECT *, ?::TIMESTAMP AS "{NOW}" FROM slides)'  # noqa: S608 - made from an allow-listed tree
        try:
            with duckdb.connect(":memory:", config=LOCKED) as connection:
                connection.register("slides", slides)
                result = connection.execute(query, parameters)
                if str(result.description[1][1]) != "BOOLEAN":
                    raise _invalid(self.text, "is not true or false, but a value", "Compare it with something.")
                return {slide for slide, chosen in result.fetchall() if chosen}
        except duckdb.Error as error:
            raise _invalid(self.text, f"cannot be evaluated: {first_line(error)}", _VOCABULARY.help) from error


def parse(text: str) -> Condition:
    """Understand a condition.

    Raises
    ------
    InputError
        If it is no SQL expression, or has parts that are not allowed (`Kind.CONDITION_INVALID`).

    """
    return Condition(text, expressions.parse(text, _VOCABULARY).sql)


def _invalid(text: str, what: str, remedy: str) -> InputError:
    return InputError(f"The condition {text!r} {what.rstrip('.')}.", kind=Kind.CONDITION_INVALID, remedy=remedy)


def slide_table(connection: Connection, slides: Sequence[SlideRow]) -> pa.Table:
    """Return the table that conditions see: one row per slide, the columns of `COLUMNS`."""
    kept = _copies(connection)
    said = [slide.metadata for slide in slides]
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(slide, name) for slide in slides], kind)
        for kind, names in {
            pa.string(): ("slide", "name", "format", "mode", "series"),
            pa.int64(): ("width", "height", "bytes_source", "version"),
            pa.float64(): ("magnification",),
        }.items()
        for name in names
    }
    for name in ("case_id", "patient_id", "block", "stain"):
        columns[name] = pa.array([metadata.get(name) for metadata in said], pa.string())
    columns["metadata"] = pa.array([list(metadata.items()) for metadata in said], pa.map_(pa.string(), pa.string()))
    columns["um_per_px"] = pa.array([sum(s.um_per_px) / 2 if s.um_per_px else None for s in slides], pa.float64())
    columns["created_at"] = _moments([slide.created_at for slide in slides])
    mine = [kept[slide.slide] for slide in slides]
    columns["copies"] = pa.array([len(copies) for copies in mine], pa.int64())
    columns["tiers"] = pa.array([sorted({copy.tier for copy in copies}) for copies in mine], pa.list_(pa.string()))
    columns["bytes_stored"] = pa.array([sum(copy.bytes_stored for copy in copies) for copies in mine], pa.int64())
    columns["objects"] = pa.array([sum(copy.objects for copy in copies) for copies in mine], pa.int64())
    columns["verified_at"] = _moments([verified_at(copies) for copies in mine])
    return pa.table({name: columns[name] for name in _NAMES})


def _copies(connection: Connection) -> dict[str, list[Any]]:
    table = schema.copies
    wanted = (str(CopyState.COMMITTED), str(CopyState.SUSPECT))
    query = select(
        table.c.slide, table.c.tier, table.c.state, table.c.bytes_stored, table.c.objects, table.c.verified_at
    ).where(table.c.state.in_(wanted))
    found: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.slide].append(row)
    return found


def _moments(texts: Sequence[str | None]) -> pa.Array:
    return pa.array([text and text.removesuffix("Z") for text in texts], pa.string()).cast(pa.timestamp("us"))
