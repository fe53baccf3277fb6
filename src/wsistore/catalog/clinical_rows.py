"""Rows of what the hospital says: of each value the newest feed's counts, in whatever order they come."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select, tuple_, update

from wsistore.catalog.clinical_identity import portions
from wsistore.errors import InputError, Kind

Row = Mapping[str, Any]
_ALL = 20_000
"""From so many wanted rows on, all are read."""
REMEDY = "Nothing was taken in. Mend the table and import it again."


@dataclass(frozen=True, slots=True)
class Said:
    """What one row of a table says."""

    place: str
    """File and line, for messages."""
    values: Row
    """By column; None: known to be nothing, or unknown. What is not in it, nothing is said of."""
    stamp: str
    """Of which moment it is."""

    def only(self, names: Collection[str]) -> Said:
        """Return what it says of some columns."""
        values = {name: value for name, value in self.values.items() if name in names}
        return Said(self.place, values, self.stamp)


def refused(row: Said, column: str, what: str) -> InputError:
    """Return the error that a value of a row cannot be taken."""
    msg = f"{row.place}, column {column!r}: {what}."
    return InputError(msg, kind=Kind.METADATA_INVALID, remedy=REMEDY)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a row."""

    key: Any
    before: Row | None
    """None if it is new."""
    after: Row
    corrected: tuple[str, ...]
    """Columns that said something else before."""

    @property
    def is_new(self) -> bool:
        """Whether nothing was known before."""
        return self.before is None

    @property
    def differs(self) -> bool:
        """Whether any value is another one."""
        return self.before is None or any(self.before.get(name) != value for name, value in self.after.items())


@dataclass(frozen=True, slots=True)
class Kept:
    """How rows of a table are kept."""

    table: Table
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    """That feeds speak of."""
    read: Callable[[Connection, Row], dict[str, Any]] = field(default=lambda _, row: dict(row))
    """From what is kept to values by column."""
    write: Callable[[Connection, Row], dict[str, Any]] = field(default=lambda _, row: dict(row))
    """And back; without ``as_of`` and ``said``."""

    def key_of(self, row: Row) -> Any:
        """Return the key of a row: one value, or several as a tuple."""
        return row[self.keys[0]] if len(self.keys) == 1 else tuple(row[name] for name in self.keys)


def collapse(said: Iterable[tuple[Any, Said]]) -> dict[Any, Said]:
    """Return what tables say of each key; what two rows say of one must not differ.

    Raises
    ------
    InputError
        Naming both rows.

    """
    found: dict[Any, Said] = {}
    for key, one in said:
        before = found.get(key)
        if before is None:
            found[key] = one
            continue
        for name, value in one.values.items():
            if before.values.get(name, value) != value:
                raise refused(one, name, f"says something else than {before.place}")
        found[key] = Said(before.place, {**before.values, **one.values}, before.stamp)
    return found


def put(connection: Connection, kept: Kept, said: Mapping[Any, Said]) -> list[Change]:
    """Write down what tables say of rows; return what became of each."""
    existing = _existing(connection, kept, list(said))
    changes, new, old = [], [], []
    confirmed: dict[str, list[Any]] = {}
    for key, one in said.items():
        before = existing.get(key)
        row, corrected = _merged(kept, before, key, one)
        after = {name: row[name] for name in kept.columns}
        was = None if before is None else {name: before.get(name) for name in kept.columns}
        changes.append(Change(key, was, after, corrected))
        if before is None:
            new.append(_written(connection, kept, row))
        elif any(before.get(name) != row[name] for name in (*kept.columns, "said")):
            old.append(_written(connection, kept, row))
        elif before["as_of"] != row["as_of"]:
            confirmed.setdefault(row["as_of"], []).append(key)
    if new:
        connection.execute(kept.table.insert(), new)
    if old:
        _update(connection, kept, old)
    for as_of, keys in confirmed.items():
        _confirm(connection, kept, as_of, keys)
    return changes


def _confirm(connection: Connection, kept: Kept, as_of: str, keys: Sequence[Any]) -> None:
    """Note that a newer feed says the same: which is what most of its rows do."""
    columns = [kept.table.c[name] for name in kept.keys]
    column = columns[0] if len(columns) == 1 else tuple_(*columns)
    for some in portions(keys):
        connection.execute(update(kept.table).where(column.in_(some)).values(as_of=as_of))


def _merged(kept: Kept, before: Row | None, key: Any, one: Said) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a row with what is said of it, and the columns that said something else before."""
    as_of: str = "" if before is None else before["as_of"] or ""
    older: dict[str, str] = {} if before is None else before["said"] or {}
    stamps = {name: older.get(name, as_of) for name in kept.columns}
    row: dict[str, Any] = {name: None if before is None else before.get(name) for name in kept.columns}
    corrected = []
    for name, value in one.values.items():
        if name not in row or one.stamp < stamps[name]:
            continue
        if row[name] is not None and row[name] != value:
            corrected.append(name)
        row[name], stamps[name] = value, one.stamp
    newest = max((as_of, one.stamp, *stamps.values()))
    keys = (key,) if len(kept.keys) == 1 else key
    extra = {} if before is None else {name: before[name] for name in before if name not in row}
    row = {**extra, **row, **dict(zip(kept.keys, keys, strict=True))}
    others = {name: stamp for name, stamp in older.items() if name not in stamps}
    row |= {"as_of": newest, "said": others | {name: stamp for name, stamp in stamps.items() if stamp != newest}}
    return row, tuple(corrected)


def _written(connection: Connection, kept: Kept, row: Row) -> dict[str, Any]:
    return kept.write(connection, row) | {"as_of": row["as_of"], "said": row["said"]}


def _existing(connection: Connection, kept: Kept, keys: Sequence[Any]) -> dict[Any, dict[str, Any]]:
    wanted = set(keys)
    first = [key if len(kept.keys) == 1 else key[0] for key in wanted]
    found = {}
    for row in rows_of(connection, kept.table, kept.keys[0], first):
        values = kept.read(connection, row)
        if kept.key_of(values) in wanted:
            found[kept.key_of(values)] = values
    return found


def rows_of(connection: Connection, table: Table, column: str, keys: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table with these values in a column; it may be more where very many are wanted."""
    wanted = list(dict.fromkeys(keys))
    for some in [None] if len(wanted) > _ALL else portions(wanted):
        query = select(table) if some is None else select(table).where(table.c[column].in_(some))
        for row in connection.execute(query):
            yield dict(row._mapping)


def _update(connection: Connection, kept: Kept, rows: Sequence[Row]) -> None:
    statement = update(kept.table).values({name: bindparam(f"b_{name}") for name in rows[0] if name not in kept.keys})
    for name in kept.keys:
        statement = statement.where(kept.table.c[name] == bindparam(f"b_{name}"))
    connection.execute(statement, [{f"b_{name}": value for name, value in row.items()} for row in rows])
