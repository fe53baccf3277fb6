"""The Parquet sets of a report: where they lie, how they are written, and how a closed month is corrected."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsistore.errors import InputError, StorageError
from wsistore.reports.columns import EVENTS, INVENTORY, INVOICES, VARIANCES, Column, schema_of, usage_columns
from wsistore.reports.focus import KEY, Row, sort_key, table_of
from wsistore.reports.periods import Month

USAGE, INVENTORIES, CHAINS = "usage", "inventory", "events"
INVOICED, COMPARED = "invoices", "variances"
PART = "part-0.parquet"
ABOUT = "_metadata.json"
"""Readers of Parquet leave out what begins with an underscore."""
_HEADER = b"wsistore.report"
_ROWS = 100_000
_FOREIGN = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
_SUMMED_MONEY = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost")
_NO_SUM = ("x_GridGco2ePerKwh", "x_Pue", "x_Replication")
_NEAR = 1e-9
"""Of a figure: smaller changes are of the arithmetic, not of the usage."""

Json = Mapping[str, Any]


def partition(out: Path, name: str, month: Month) -> Path:
    """Return the folder of a set's month, named as Hive does."""
    return out / name / f"month={month}"


def columns_of(name: str, focus: str = "1.2") -> tuple[Column, ...]:
    """Return the columns of a set."""
    own = {INVENTORIES: INVENTORY, CHAINS: EVENTS, INVOICED: INVOICES, COMPARED: VARIANCES}
    return usage_columns(focus) if name == USAGE else own[name]


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what goes wrong in writing into `StorageError`."""
    try:
        yield
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error})."
        raise StorageError(msg, remedy="Choose a folder that can be written.") from error


class PartWriter:
    """Writes one file of a set, a portion at a time; it has its name when all of it is there.

    Parameters
    ----------
    path
        Of the file.
    schema
        Of its rows.
    header
        What its metadata says of it; no moment of writing, so that the same report is the same bytes.

    """

    def __init__(self, path: Path, schema: pa.Schema, header: Json) -> None:
        text = json.dumps(header, sort_keys=True, separators=(",", ":"))
        self.path, self.schema = path, schema.with_metadata({_HEADER: text.encode()})
        self._draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        self._waiting: list[pa.Table] = []
        self._rows = self.rows = 0
        with translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Fixed, not left to the defaults of the day.
            self._writer = pq.ParquetWriter(
                self._draft, self.schema, version="2.6", compression="zstd", compression_level=3
            )

    def write(self, table: pa.Table) -> None:
        """Add rows, sorted, after those before; row groups are of one size, however the portions were cut."""
        self._waiting.append(table.cast(schema_without(self.schema)))
        self._rows += table.num_rows
        self.rows += table.num_rows
        if self._rows >= _ROWS:
            self._flush(whole=False)

    def _flush(self, *, whole: bool) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).replace_schema_metadata(self.schema.metadata)
        ready = table.num_rows if whole else table.num_rows // _ROWS * _ROWS
        with translated(self.path):
            if ready:
                self._writer.write_table(table.slice(0, ready), row_group_size=_ROWS)
        self._waiting, self._rows = [table.slice(ready).replace_schema_metadata(None)], table.num_rows - ready

    def close(self, *, keep: bool = True) -> None:
        """End the file; without `keep` nothing is left of it."""
        with translated(self.path):
            if keep:
                self._flush(whole=True)
            self._writer.close()
            if keep:
                self._draft.replace(self.path)
            else:
                self._draft.unlink(missing_ok=True)

    def __enter__(self) -> PartWriter:
        """Return it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Keep the file unless something went wrong."""
        self.close(keep=kind is None)


def schema_without(schema: pa.Schema) -> pa.Schema:
    """Return a schema without its metadata."""
    return schema.remove_metadata()


def write_rows(path: Path, rows: Sequence[Row], focus: str, header: Json) -> None:
    """Write rows of ``usage/``, sorted."""
    table = table_of(sorted(rows, key=sort_key), focus)
    with PartWriter(path, schema_of(usage_columns(focus)), header) as writer:
        writer.write(table)


def write_about(folder: Path, about: Json) -> None:
    """Write what a month's partition says of itself: FOCUS's metadata, and whether it is closed."""
    path = folder / ABOUT
    draft = path.with_name(f".{ABOUT}.{secrets.token_hex(8)}")
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("x", encoding="utf-8") as file:
            file.write(json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def read_about(folder: Path) -> dict[str, Any] | None:
    """Return what a partition says of itself; None if it is not there.

    Raises
    ------
    InputError
        If it cannot be read.

    """
    path = folder / ABOUT
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({error})."
        raise InputError(msg, remedy="Put it back from a backup: a closed month is not written anew.") from error
    if not isinstance(found, dict):
        msg = f"{path}: is not what a report wrote."
        raise InputError(msg, remedy="Put it back from a backup: a closed month is not written anew.")
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; nothing if it is not there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})."
        raise InputError(msg, remedy="Check the folder's permissions.") from error


# --- corrections ------------------------------------------------------------------------------------------------------


def written_rows(out: Path, month: Month) -> list[Row]:
    """Return all rows that were ever written of a month's usage: its own, and later months' corrections of it.

    Raises
    ------
    InputError
        If a file of them cannot be read.

    """
    own = partition(out, USAGE, month) / PART
    later = sorted((out / USAGE).glob(f"month=*/corrections-{month}-*.parquet"))
    rows: list[Row] = []
    for path in [own, *later]:
        try:
            rows += pq.ParquetFile(path).read().to_pylist()
        except _FOREIGN as error:
            msg = f"{path}: cannot be read ({error})."
            raise InputError(msg, remedy="Put it back from a backup: a closed month is not written anew.") from error
    return rows


def corrections(before: Iterable[Row], now: Iterable[Row], billing: Month) -> list[Row]:
    """Return the rows that turn what was written of a closed month into what it ought to be.

    Parameters
    ----------
    before
        All that was written of the month, corrections included.
    now
        Its rows as they come out today.
    billing
        The month in which the corrections are charged.

    Returns
    -------
    list of dict
        With the original charge period and ``ChargeClass`` Correction; none where nothing changed. Each figure is the
        difference of that figure, also each end of a band: all rows of a month added up are what it is today.

    """
    old, new = _summed(before), _summed(now)
    found = []
    for key in sorted({*old, *new}, key=repr):
        model = new.get(key) or old[key]
        row = {name: _less(new.get(key), old.get(key), name) for name in model}
        if not any(_is_more(row[name], model[name]) for name in row if _is_summed(name, model[name])):
            continue
        row |= {
            "ChargeClass": "Correction",
            "ChargeDescription": f"Correction of {key[0]}, {key[1]}",
            "BillingPeriodStart": billing.begins,
            "BillingPeriodEnd": billing.ends,
            **dict.fromkeys(("ContractedUnitPrice", "ListUnitPrice"), None),
        }
        found.append(row)
    return found


def _is_summed(name: str, value: object) -> bool:
    if name in _SUMMED_MONEY:
        return True
    return isinstance(value, float) and name not in _NO_SUM


def _summed(rows: Iterable[Row]) -> dict[tuple[Any, ...], Row]:
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in KEY)
        if key not in found:
            found[key] = dict(row)
            continue
        mine = found[key]
        for name, value in row.items():
            if _is_summed(name, value):
                mine[name] = value if mine[name] is None else mine[name] + value
    return found


def _less(new: Row | None, old: Row | None, name: str) -> Any:
    row = new or old
    value = None if row is None else row[name]
    if not _is_summed(name, value):
        return value
    nothing: Any = Decimal(0) if name in _SUMMED_MONEY else 0.0
    mine, theirs = (nothing if one is None or one[name] is None else one[name] for one in (new, old))
    return mine - theirs


def _is_more(change: Any, figure: Any) -> bool:
    return bool(abs(float(change)) > _NEAR * max(abs(float(figure)), 1.0))
