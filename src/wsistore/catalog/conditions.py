"""Conditions over slides: SQL expressions that are parsed, checked against a list of what is allowed, and evaluated.

What reaches DuckDB is never the text that a person gave but what was understood of it, written anew. There it meets a
table of slides and nothing else: no files, no network, no settings. A condition has no clock: `now` is a parameter. A
function of an unknown value is unknown (also ``greatest``, where DuckDB differs), and a slide is chosen only where the
condition is true.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import sqlglot
from sqlalchemy import Connection, select
from sqlglot import exp
from sqlglot.errors import SqlglotError

from wsistore.catalog import schema
from wsistore.catalog.columns import COLUMNS, verified_at
from wsistore.catalog.records import SlideRow
from wsistore.errors import InputError, Kind
from wsistore.model import CopyState

MAX_LENGTH = 10_000
"""Longest condition, in characters."""

_NAMES = [column.name for column in COLUMNS]

_NODES: frozenset[type[exp.Expr]] = frozenset((
    # values and names
    exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Array, exp.Bracket, exp.Interval,
    exp.Var, exp.Tuple,
    # logic and comparison
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.NullSafeEQ,
    exp.NullSafeNEQ, exp.In, exp.Between, exp.Like, exp.ILike, exp.Escape, exp.RegexpLike, exp.Case, exp.If,
    # arithmetic
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.DPipe,
    # types
    exp.Cast, exp.TryCast, exp.DataTypeParam,
    # functions
    exp.Abs, exp.ArrayContains, exp.ArrayContainsAll, exp.ArrayOverlaps, exp.Ceil, exp.Coalesce, exp.Contains,
    exp.DateDiff, exp.Day, exp.EndsWith, exp.Extract, exp.Floor, exp.Greatest, exp.Least, exp.Length, exp.Lower,
    exp.Month, exp.Nullif, exp.Round, exp.StartsWith, exp.Substring, exp.TimestampTrunc, exp.DateTrunc, exp.Trim,
    exp.Upper, exp.Year,
))  # fmt: skip
"""All that a condition may be made of."""

_EXTREMES = frozenset({exp.Greatest, exp.Least})

_FUNCTIONS = {"age": 2, "prefix": 2, "suffix": 2}
"""Functions that sqlglot has no class for, with the number of their arguments."""

_TYPES = frozenset(
    [
        *("BOOLEAN", "TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL", "VARCHAR", "TEXT", "DATE"),
        *("TIMESTAMP", "TIMESTAMPNTZ", "INTERVAL"),
    ]
)
"""Types to cast to. None with a time zone: it would depend on the machine."""

_CLOCKS = frozenset(
    [
        "now",
        "today",
        "age",
        "get_current_time",
        "get_current_timestamp",
        "transaction_timestamp",
        "currentdate",
        "currentdatetime",
        "currenttime",
        "currenttimestamp",
        "currenttimestampltz",
        "localtime",
        "localtimestamp",
        "utcdate",
        "utctime",
        "utctimestamp",
    ]
)
"""What people write to have the present: told apart from other refusals only to say what to write instead."""

_MAX_EXTREMES = 4
"""How many ``greatest`` and ``least`` may stand within each other: each doubles what is written for DuckDB."""

_LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}
"""DuckDB without files, network, extensions and Python's variables, and no way to change that."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was understood and is allowed."""

    text: str
    """As a person gave it."""
    sql: str
    """As DuckDB gets it."""
    uses_now: bool

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
        parameters = {"now": now.astimezone(UTC).replace(tzinfo=None)} if self.uses_now else {}
        try:
            with duckdb.connect(":memory:", config=_LOCKED) as connection:
                connection.register("slides", slides)
                result = connection.execute(f"SELECT slide, ({self.sql}) AS chosen FROM slides", parameters)  # noqa: S608 - made from an allow-listed tree
                if str(result.description[1][1]) != "BOOLEAN":
                    raise _invalid(self.text, "is not true or false, but a value", "Compare it with something.")
                return {slide for slide, chosen in result.fetchall() if chosen}
        except duckdb.Error as error:
            reason = str(error).split("\n", 1)[0]
            raise _invalid(self.text, f"cannot be evaluated: {reason}") from error


def parse(text: str) -> Condition:
    """Understand a condition.

    Raises
    ------
    InputError
        If it is no SQL expression, or has parts that are not allowed (`Kind.CONDITION_INVALID`).

    """
    if len(text) > MAX_LENGTH:
        raise _invalid(text[:40] + "…", f"is longer than {MAX_LENGTH} characters")
    try:
        tree = sqlglot.parse_one(text, read="duckdb", into=exp.Condition)
        for node in tree.walk():
            _check(text, node)
        uses_now = any(_is_now(node) for node in tree.walk())
        return Condition(text, _rewritten(tree).sql(dialect="duckdb", comments=False), uses_now)
    except SqlglotError as error:
        raise _invalid(text, f"is no SQL expression{_place(error)}") from error
    except RecursionError as error:
        raise _invalid(text[:40] + "…", "is nested too deeply") from error


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


# --- checking a parsed condition --------------------------------------------------------------------------------------


def _check(text: str, node: exp.Expr) -> None:
    if type(node) is exp.Column:
        _check_column(text, node)
    elif type(node) is exp.DataType:
        parts = all(type(part) is exp.DataTypeParam for part in node.expressions)
        name = str(getattr(node.this, "value", node.this))
        if not parts or name not in _TYPES:
            raise _invalid(text, f"casts to a type that is not allowed here: {name}")
    elif type(node) is exp.Anonymous:
        if _FUNCTIONS.get(str(node.this).lower()) != len(node.expressions):
            raise _refused(text, node)
    elif type(node) not in _NODES:
        raise _refused(text, node)
    elif type(node) in _EXTREMES and _extremes_around(node) >= _MAX_EXTREMES:
        raise _invalid(text, f"has more than {_MAX_EXTREMES} greatest or least within each other")


def _check_column(text: str, column: exp.Column) -> None:
    where = _position(column)
    if column.table:
        what = f"has {_shown(column)}{where}, but there is no table {column.table!r}"
        raise _invalid(text, what, "Columns stand by themselves; metadata is asked as metadata['key'].")
    name = column.name.lower()
    if name == "now" or name in _NAMES:
        return
    close = difflib.get_close_matches(name, _NAMES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise _invalid(text, f"names an unknown column {column.name!r}{where}{hint}", f"Columns: {', '.join(_NAMES)}.")


def _refused(text: str, node: exp.Expr) -> InputError:
    name = (str(node.this) if type(node) is exp.Anonymous else node.key).lower()
    if name in _CLOCKS:
        what = f"reads the clock with {_shown(node)}{_position(node)}"
        return _invalid(text, what, "Write now: the moment for which the condition is evaluated.")
    what = f"has {_shown(node)}{_position(node)}, which is not allowed here"
    return _invalid(text, what, "Conditions compare columns; they cannot look anywhere else.")


def _invalid(text: str, what: str, remedy: str = "") -> InputError:
    msg = f"The condition {text!r} {what}"
    msg = msg if msg.endswith((".", "?")) else msg + "."
    return InputError(msg, kind=Kind.CONDITION_INVALID, remedy=remedy or "'wsistore ls --help' lists the columns.")


def _shown(node: exp.Expr) -> str:
    shown = node.sql(dialect="duckdb", comments=False)
    return shown if len(shown) <= 60 else shown[:57] + "…"


def _position(node: exp.Expr) -> str:
    for part in node.walk():
        start = part.meta.get("start")
        if start is not None:
            return f" (at character {start + 1})"
    return ""


def _place(error: SqlglotError) -> str:
    for detail in getattr(error, "errors", None) or []:
        if detail.get("highlight"):
            return f": unexpected {detail['highlight']!r} in line {detail['line']}, column {detail['col']}"
    return ""


# --- writing it anew --------------------------------------------------------------------------------------------------


def _is_now(node: exp.Expr) -> bool:
    return type(node) is exp.Column and node.name.lower() == "now"


def _extremes_around(node: exp.Expr) -> int:
    around, parent = 0, node.parent
    while parent is not None:
        around += type(parent) in _EXTREMES
        parent = parent.parent
    return around


def _rewritten(tree: exp.Expr) -> exp.Expr:
    whole = exp.Paren(this=tree)  # so that every node of the tree has a parent to be replaced in
    for node in reversed(list(tree.walk(bfs=True))):  # children come before their parents
        node.replace(_rewrite(node))
    found: exp.Expr = whole.this
    return found


def _rewrite(node: exp.Expr) -> exp.Expr:
    if _is_now(node):
        return exp.Placeholder(this="now")
    if type(node) in {exp.Div, exp.IntDiv, exp.Mod}:
        # A division by zero is unknown, whatever DuckDB's settings make of it.
        node.set("expression", exp.Nullif(this=node.expression.copy(), expression=exp.Literal.number(0)))
    elif type(node) in _EXTREMES:
        # DuckDB's greatest(x, NULL) is x; ours is unknown.
        operands = [node.this, *node.expressions]
        unknown = exp.or_(*(exp.Is(this=exp.paren(operand), expression=exp.Null()) for operand in operands))
        return exp.Case().when(unknown, exp.Null()).else_(node.copy())
    return node
