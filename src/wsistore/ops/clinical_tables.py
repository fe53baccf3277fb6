"""Tables that a hospital hands over, CSV or Parquet, read into typed rows with the place where each stands."""

from __future__ import annotations

import csv
import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsistore.errors import InputError, Kind, MissingError
from wsistore.ops.clinical_cells import WrongCell, value_of
from wsistore.ops.clinical_columns import COLUMNS, ONE_OF, Cell, Feed, FeedColumn, feed_of

_DELIMITERS = ",;\t"
_PARQUET = b"PAR1"
_SHOWN = 10
"""Problems that a message names; people mend what they see first."""
_MOST = 1000
REMEDY = "Nothing was taken in. docs/metadata.md describes the tables; mend this one and import it again."


@dataclass(frozen=True, slots=True)
class FeedRow:
    """One row."""

    line: int
    """Of the file; of a Parquet file the number of the row. Both from 1."""
    values: Mapping[str, Any]
    """By column: None where the cell says nothing. Columns that the file does not have are not in it."""


@dataclass(slots=True)
class FeedTable:
    """One table."""

    path: Path
    feed: Feed
    digest: str
    rows: list[FeedRow] = field(default_factory=list)


@dataclass(slots=True)
class Problems:
    """What is wrong with tables, with the places."""

    found: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, path: Path, line: int, column: str, what: str) -> None:
        """Note a problem."""
        self.count += 1
        if len(self.found) < _MOST:
            self.found.append(f"{path}, line {line}, column {column!r}: {what}.")

    def check(self) -> None:
        """Raise `InputError` if there are any."""
        if not self.count:
            return
        more = f"\n… and {self.count - _SHOWN} more." if self.count > _SHOWN else ""
        raise invalid("\n".join(self.found[:_SHOWN]) + more)


def read_tables(paths: Sequence[Path]) -> list[FeedTable]:
    """Read tables, in the order in which they are to be taken in.

    Parameters
    ----------
    paths
        CSV (comma, semicolon or tab, UTF-8) or Parquet; which table it is tells its name or its columns.

    Raises
    ------
    MissingError
        If one is not there.
    InputError
        If one cannot be read or understood (`Kind.METADATA_INVALID`), naming file, line and column.

    """
    problems = Problems()
    tables = [_read(path, problems) for path in paths]
    problems.check()
    return sorted(tables, key=lambda table: list(Feed).index(table.feed))


def invalid(message: str, remedy: str = REMEDY) -> InputError:
    """Return the error of a table that cannot be taken in."""
    return InputError(message, kind=Kind.METADATA_INVALID, remedy=remedy)


def _read(path: Path, problems: Problems) -> FeedTable:
    try:
        with path.open("rb") as handle:
            is_parquet = handle.read(4) == _PARQUET
            handle.seek(0)
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        cells = _parquet(path) if is_parquet else _csv(path)
        names = next(cells)[1]
        feed = _feed(path, names)
        table = FeedTable(path, feed, digest)
        columns = _columns(path, feed, names)
        for line, row in cells:
            table.rows.append(FeedRow(line, _values(path, line, feed, columns, row, problems)))
    except FileNotFoundError as error:
        msg = f"There is no table {path}."
        raise MissingError(msg, remedy="Check the path.") from error
    except (OSError, UnicodeError, pa.ArrowException) as error:
        msg = f"The table {path} cannot be read: {error}."
        raise invalid(msg, "Check the path; save it as CSV in UTF-8, or as Parquet.") from error
    return table


def _csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the header, then rows that are not empty, each with its line."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        header = handle.readline(1 << 20)
        handle.seek(0)
        reader = csv.reader(handle, delimiter=max(_DELIMITERS, key=header.count), strict=True)
        try:
            names = [cell.strip() for cell in next(reader, [])]
            yield 1, names
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield reader.line_num, _fitting(path, reader.line_num, names, cells)
        except csv.Error as error:
            msg = f"The table {path} is damaged in line {reader.line_num}: {error}."
            raise invalid(msg) from error


def _fitting(path: Path, line: int, names: Sequence[str], cells: list[str]) -> list[str]:
    if len(cells) != len(names):
        msg = f"{path}, line {line} has {len(cells)} cells, the header has {len(names)}."
        raise invalid(msg)
    return cells


def _parquet(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the names of the columns, then the rows, each with its number."""
    with pq.ParquetFile(path) as file:
        names = [str(name).strip() for name in file.schema_arrow.names]
        yield 0, names
        line = 0
        for batch in file.iter_batches(batch_size=10_000):
            columns = [column.to_pylist() for column in batch.columns]
            for values in zip(*columns, strict=True):
                line += 1
                yield line, [_text(value) for value in values]


def _text(value: Any) -> str:
    """Return a value of a Parquet file as CSV would have it."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(_text(one) for one in value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # numbers of which some are missing
    return str(value).strip()


def _feed(path: Path, names: Sequence[str]) -> Feed:
    feed = feed_of(path.stem, names)
    if feed is None:
        shown = ", ".join(filter(None, names)) or "none"
        msg = f"The table {path} is none that is known: its columns are {shown}."
        remedy = f"Name the file after what it holds: {', '.join(Feed)}; docs/metadata.md has the columns of each."
        raise invalid(msg, remedy)
    return feed


def _columns(path: Path, feed: Feed, names: Sequence[str]) -> list[FeedColumn | None]:
    """Return what the columns of a file are; None for those without a name."""
    known = {column.name: column for column in COLUMNS[feed]}
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        msg = f"The table {path} has several columns {', '.join(map(repr, twice))}."
        raise invalid(msg)
    for name in names:
        _check_name(path, name)
    missing = [column.name for column in COLUMNS[feed] if column.is_needed and column.name not in names]
    either = ONE_OF.get(feed, ())
    if missing or (either and not set(either) & set(names)):
        what = missing[0] if missing else " or ".join(either)
        msg = f"The table {path} of {feed} has no column {what!r}; it has {', '.join(filter(None, names)) or 'none'}."
        raise invalid(msg)
    for name in names:
        if name and name not in known and feed is not Feed.SLIDES:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            msg = f"The table {path} of {feed} has a column {name!r} that is not known{hint}"
            raise invalid(msg, f"Columns: {', '.join(known)}. {REMEDY}")
    return [known.get(name) or FeedColumn(name, Cell.TEXT, "") if name else None for name in names]


def _check_name(path: Path, name: str) -> None:
    try:
        value_of(FeedColumn(name, Cell.NUMBER, ""), name)
    except WrongCell as wrong:
        msg = f"In the table {path} the name of the column {name[:40]!r} {wrong}."
        raise invalid(msg) from wrong


def _values(
    path: Path,
    line: int,
    feed: Feed,
    columns: Sequence[FeedColumn | None],
    row: Sequence[str],
    problems: Problems,
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for column, text in zip(columns, row, strict=True):
        if column is None:
            if text:
                problems.add(path, line, "", "has a value in a column without a name")
            continue
        values[column.name] = None
        if not text:
            if column.is_needed:
                problems.add(path, line, column.name, "is empty")
            continue
        try:
            values[column.name] = value_of(column, text)
        except WrongCell as wrong:
            problems.add(path, line, column.name, str(wrong))
    either = ONE_OF.get(feed)
    if either and sum(values.get(name) is not None for name in either) != 1:
        problems.add(path, line, either[0], f"needs one of {' and '.join(either)}, and not both")
    return values
