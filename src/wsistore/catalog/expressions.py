"""SQL expressions that people write: parsed, checked against a list of what is allowed, written anew, evaluated.

What reaches DuckDB is never the text that a person gave but what was understood of it. There it meets one table and
nothing else: no files, no network, no settings. An expression has no clock: ``now`` is a value that is handed in. A
function of an unknown value is unknown (also ``greatest``, where DuckDB differs).

Months and years that are added to a day that the later month does not have end on the first day of the next one: ten
years from 29 February 2004 are over on 1 March 2014, not on 28 February, where DuckDB would end them a day early.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from wsistore.errors import InputError, Kind

MAX_LENGTH = 10_000
"""Longest expression, in characters."""

NOW = "now"
"""The name by which an expression has the present."""

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
"""All that an expression may be made of."""

_EXTREMES = frozenset({exp.Greatest, exp.Least})

_NOT_STRICT: frozenset[type[exp.Expr]] = frozenset(
    {exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Case, exp.If, exp.Coalesce, exp.Nullif}
)
"""What can make something known of an unknown value."""

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
        *("now", "today", "age", "get_current_time", "get_current_timestamp", "transaction_timestamp", "currentdate"),
        *("currentdatetime", "currenttime", "currenttimestamp", "currenttimestampltz", "localtime", "localtimestamp"),
        *("utcdate", "utctime", "utctimestamp"),
    ]
)
"""What people write to have the present: told apart from other refusals only to say what to write instead."""

_FIXED_UNITS = frozenset(
    f"{unit}{end}" for unit in ("MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK")
    for end in ("", "S")
)  # fmt: skip
"""Units of intervals that are as long everywhere in the calendar."""

_MOST_NESTED = 4
"""How many ``greatest``, ``least`` and sums with months may stand within each other: each doubles or triples what is
written for DuckDB."""

LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}
"""DuckDB without files, network, extensions and Python's variables, and no way to change that."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What expressions of one kind may name, and how messages speak of them."""

    names: tuple[str, ...]
    """Columns; beside them there is `NOW`."""
    noun: str
    """What such an expression is called: "condition"."""
    help: str
    """Where the columns are described, as a sentence."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was understood and is allowed."""

    text: str
    """As a person gave it."""
    sql: str
    """As DuckDB gets it: of the columns, and of one called `NOW`."""
    names: frozenset[str]
    """Columns that it speaks of, without `NOW`."""
    uses_now: bool
    strict: bool
    """Whether it is sure to be unknown, or what it was, when any of its values becomes unknown."""


def parse(text: str, vocabulary: Vocabulary) -> Expression:
    """Understand an expression.

    Raises
    ------
    InputError
        If it is no SQL expression, or has parts that are not allowed (`Kind.CONDITION_INVALID`).

    """
    checker = _Checker(text, vocabulary)
    if len(text) > MAX_LENGTH:
        raise _invalid(checker, f"is longer than {MAX_LENGTH} characters")
    try:
        tree = sqlglot.parse_one(text, read="duckdb", into=exp.Condition)
        nodes = list(tree.walk())
        for node in nodes:
            checker.check(node)
        names = {node.name.lower() for node in nodes if type(node) is exp.Column}
        strict = not any(type(node) in _NOT_STRICT for node in nodes)
        sql = _rewritten(tree).sql(dialect="duckdb", comments=False)
        return Expression(text, sql, frozenset(names - {NOW}), NOW in names, strict)
    except SqlglotError as error:
        raise _invalid(checker, f"is no SQL expression{_place(error)}") from error
    except RecursionError as error:
        raise _invalid(checker, "is nested too deeply") from error


def evaluate(
    expressions: Sequence[Expression], table: pa.Table, now: datetime | pa.Array, *, threads: int | None = None
) -> pa.Table:
    """Return the values of `expressions` for every row of `table`, in its order.

    A value that cannot be computed for a row (a text that is no number, a day beyond the calendar) is unknown there.

    Parameters
    ----------
    expressions
        Each becomes a column, called by its number: ``"0"``, ``"1"``, …
    table
        Has all columns that they name.
    now
        The present, timezone-aware; or one for each row, as ``timestamp[us]`` in UTC without a time zone.
    threads
        How many DuckDB may use; by default as many as the machine has processors.

    Raises
    ------
    InputError
        If types do not fit.

    """
    if not expressions:
        return pa.table({})
    # A name stands for itself alone: an expression may also see what another one does not.
    needed = set().union(*(expression.names for expression in expressions))
    seen = table.select([name for name in table.column_names if name in needed])
    if isinstance(now, datetime):
        present = pa.repeat(pa.scalar(_naive(now), pa.timestamp("us")), table.num_rows)
    else:
        present = now.cast(pa.timestamp("us"))
    seen = seen.append_column(NOW, present)
    columns = ", ".join(f'TRY({expression.sql}) AS "{number}"' for number, expression in enumerate(expressions))
    config = LOCKED if threads is None else LOCKED | {"threads": threads}
    try:
        with duckdb.connect(":memory:", config=config) as connection:
            connection.register("facts", seen)
            return connection.sql(f"SELECT {columns} FROM facts").to_arrow_table()  # noqa: S608 - allow-listed trees
    except duckdb.Error as error:
        texts = " and ".join(repr(expression.text) for expression in expressions)
        msg = f"{texts} cannot be evaluated: {first_line(error)}."
        raise InputError(msg, kind=Kind.CONDITION_INVALID) from error


def types_of(expressions: Mapping[str, Expression], schema: pa.Schema) -> dict[str, str | InputError]:
    """Return what each expression yields over a table of `schema`, as DuckDB calls it, or what is wrong with it."""
    found: dict[str, str | InputError] = {}
    empty = schema.empty_table().append_column(NOW, pa.array([], pa.timestamp("us")))
    with duckdb.connect(":memory:", config=LOCKED) as connection:
        connection.register("facts", empty)
        for name, expression in expressions.items():
            try:
                result = connection.execute(f"SELECT {expression.sql} FROM facts")  # noqa: S608 - as above
                found[name] = str(result.description[0][1])
            except duckdb.Error as error:
                msg = f"{expression.text!r} cannot be evaluated: {first_line(error)}."
                found[name] = InputError(msg, kind=Kind.CONDITION_INVALID)
    return found


def first_line(error: Exception) -> str:
    """Return what DuckDB says of an error, without its picture of the query."""
    return str(error).split("\n", 1)[0]


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


# --- checking what was parsed -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Checker:
    text: str
    vocabulary: Vocabulary

    def check(self, node: exp.Expr) -> None:
        if type(node) is exp.Column:
            self._check_column(node)
        elif type(node) is exp.DataType:
            parts = all(type(part) is exp.DataTypeParam for part in node.expressions)
            name = str(getattr(node.this, "value", node.this))
            if not parts or name not in _TYPES:
                raise _invalid(self, f"casts to a type that is not allowed here: {name}")
        elif type(node) is exp.Anonymous:
            if _FUNCTIONS.get(str(node.this).lower()) != len(node.expressions):
                raise self._refused(node)
        elif type(node) not in _NODES:
            raise self._refused(node)
        elif type(node) is exp.Interval and node.args.get("unit") is None:
            what = f"has {_shown(node)}{_position(node)}, which is not one number and one unit"
            raise _invalid(self, what, "Write interval 18 month, or add one interval after the other.")
        elif _is_written_twice(node) and _around(node) >= _MOST_NESTED:
            what = f"has more than {_MOST_NESTED} greatest or least, or sums with months or years, within each other"
            raise _invalid(self, what)

        elif _adds_several(node):
            what = f"adds several intervals at once with {_shown(node)}{_position(node)}"
            raise _invalid(self, what, "Add one after the other: day + interval 1 year + interval 1 month.")

    def _check_column(self, column: exp.Column) -> None:
        where, names = _position(column), self.vocabulary.names
        if column.table:
            what = f"has {_shown(column)}{where}, but there is no table {column.table!r}"
            raise _invalid(self, what, "Columns stand by themselves; metadata is asked as metadata['key'].")
        name = column.name.lower()
        if name == NOW or name in names:
            return
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise _invalid(self, f"names an unknown column {column.name!r}{where}{hint}", f"Columns: {', '.join(names)}.")

    def _refused(self, node: exp.Expr) -> InputError:
        name = (str(node.this) if type(node) is exp.Anonymous else node.key).lower()
        noun = self.vocabulary.noun
        if name in _CLOCKS:
            what = f"reads the clock with {_shown(node)}{_position(node)}"
            return _invalid(self, what, f"Write now: the moment for which the {noun} is evaluated.")
        what = f"has {_shown(node)}{_position(node)}, which is not allowed here"
        return _invalid(self, what, f"A {noun} is made of columns; it cannot look anywhere else.")


def _invalid(checker: _Checker, what: str, remedy: str = "") -> InputError:
    text = checker.text if len(checker.text) <= MAX_LENGTH and "nested" not in what else checker.text[:40] + "…"
    msg = f"The {checker.vocabulary.noun} {text!r} {what}"
    msg = msg if msg.endswith((".", "?")) else msg + "."
    return InputError(msg, kind=Kind.CONDITION_INVALID, remedy=remedy or checker.vocabulary.help)


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


def _is_written_twice(node: exp.Expr) -> bool:
    return type(node) in _EXTREMES or _calendar_sum(node) is not None


def _around(node: exp.Expr) -> int:
    around, parent = 0, node.parent
    while parent is not None:
        around += _is_written_twice(parent)
        parent = parent.parent
    return around


def _calendar_sum(node: exp.Expr) -> tuple[exp.Expr, exp.Expr] | None:
    """Return the moment and the interval of a sum in which months are added to a moment; None if it is none."""
    if type(node) is not exp.Add:
        return None
    left, right = node.this, node.expression
    if _is_interval(right) and not _is_interval(left):
        moment, interval = left, right
    elif _is_interval(left) and not _is_interval(right):
        moment, interval = right, left
    else:
        return None
    units = [part.args.get("unit") for part in interval.walk() if type(part) is exp.Interval]
    fixed = all(unit is not None and unit.name.upper() in _FIXED_UNITS for unit in units)
    return None if fixed else (moment, interval)


def _adds_several(node: exp.Expr) -> bool:
    parts = _calendar_sum(node)
    return parts is not None and len(list(parts[1].find_all(exp.Interval))) > 1


def _is_interval(node: exp.Expr) -> bool:
    if type(node) in {exp.Paren, exp.Neg}:
        return _is_interval(node.this)
    if type(node) is exp.Mul:
        return _is_interval(node.this) or _is_interval(node.expression)
    if type(node) in {exp.Add, exp.Sub}:
        return _is_interval(node.this) and _is_interval(node.expression)
    return type(node) is exp.Interval


def _rewritten(tree: exp.Expr) -> exp.Expr:
    whole = exp.Paren(this=tree)  # so that every node of the tree has a parent to be replaced in
    for node in reversed(list(tree.walk(bfs=True))):  # children come before their parents
        node.replace(_rewrite(node))
    found: exp.Expr = whole.this
    return found


def _rewrite(node: exp.Expr) -> exp.Expr:
    if type(node) is exp.Column:
        # Quoted, in the case that the table has: a name is never a keyword, a function or a variable.
        return exp.Column(this=exp.Identifier(this=node.name.lower(), quoted=True))
    if type(node) in {exp.Div, exp.IntDiv, exp.Mod}:
        # A division by zero is unknown, whatever DuckDB's settings make of it.
        node.set("expression", exp.Nullif(this=node.expression.copy(), expression=exp.Literal.number(0)))
    elif type(node) in _EXTREMES:
        # DuckDB's greatest(x, NULL) is x; ours is unknown.
        operands = [node.this, *node.expressions]
        unknown = exp.or_(*(exp.Is(this=exp.paren(operand), expression=exp.Null()) for operand in operands))
        return exp.Case().when(unknown, exp.Null()).else_(node.copy())
    else:
        parts = _calendar_sum(node)
        if parts is not None:
            return _whole_months(node, parts[0])
    return node


def _whole_months(total: exp.Expr, moment: exp.Expr) -> exp.Expr:
    """Return the sum, a day later where DuckDB fell back to a shorter month's last day."""
    before, after = exp.Day(this=exp.paren(moment.copy())), exp.Day(this=exp.paren(total.copy()))
    next_day = exp.Interval(this=exp.Literal.string("1"), unit=exp.var("DAY"))
    later = exp.Add(this=exp.paren(total.copy()), expression=next_day)
    return exp.paren(exp.Case().when(exp.LT(this=after, expression=before), later).else_(total.copy()))
