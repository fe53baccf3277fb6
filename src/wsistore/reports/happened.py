"""What chains of events tell of usage, as one table: text of details becomes typed columns, in bulk."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.catalog.details import detail_texts
from wsistore.events import EventKind

RAW = pa.schema(
    [
        ("slide", pa.string()),
        ("number", pa.int32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("kind", pa.string()),
        ("detail", pa.string()),
    ]
)
"""Events as a catalogue has them, by slide and number."""
_DETAIL = pa.schema(
    [
        ("tier", pa.string()),
        ("commit", pa.string()),
        ("preset", pa.string()),
        ("version", pa.int32()),
        ("bytes_stored", pa.int64()),
        ("objects", pa.int64()),
        ("from", pa.string()),
        ("bytes_before", pa.int64()),
        ("bytes_read", pa.int64()),
        ("objects_read", pa.int64()),
        ("bytes_asked", pa.int64()),
        ("cpu_seconds", pa.float64()),
        ("retrieval", pa.string()),
        ("rule", pa.string()),
    ]
)
HAPPENED = pa.schema([*(field for field in RAW if field.name != "detail"), *_DETAIL])
"""Columns of a detail that speak of usage are null where the event does not tell them."""

_TELLING = pa.array(
    [
        str(kind)
        for kind in (
            EventKind.INGESTED,
            EventKind.COPIED,
            EventKind.REENCODED,
            EventKind.DROPPED,
            EventKind.VERIFIED,
            EventKind.RESTORED,
            EventKind.EXPORTED,
            EventKind.RECALL_BEGUN,
        )
    ]
)
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_MANY = 1000
"""Fewer are read one by one: DuckDB takes some milliseconds to begin."""


def happened(raw: pa.Table) -> pa.Table:
    """Return events with what their details tell of usage.

    Parameters
    ----------
    raw
        Of `RAW`.

    Returns
    -------
    pyarrow.Table
        Of `HAPPENED`, as many rows in the same order. A value that is not of its type is null.

    """
    telling = pc.is_in(raw["kind"], value_set=_TELLING)
    details = pc.if_else(telling, raw["detail"], "{}").combine_chunks()
    columns = _parsed(details)
    found = [raw[name] for name in raw.schema.names if name != "detail"]
    return pa.table([*found, *(columns[name] for name in _DETAIL.names)], schema=HAPPENED).combine_chunks()


def _parsed(details: pa.Array) -> dict[str, Any]:
    if len(details) >= _MANY:
        texts = detail_texts(details, _DETAIL.names)
        try:
            if texts is not None:
                # Numbers are texts, so that what is none (true, 1.5) is refused by Arrow, and not made to fit.
                return {field.name: texts[field.name].cast(field.type) for field in _DETAIL}
        except pa.ArrowInvalid:
            pass  # one detail is of another form: each is looked at by itself
    rows = [_loaded(one) for one in details.to_pylist()]
    return {field.name: pa.array([_typed(row.get(field.name), field) for row in rows], field.type) for field in _DETAIL}


def _loaded(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _typed(value: Any, field: pa.Field) -> Any:
    """Return `value` as a column has it, numbers also from texts; None if it is not of the column's type."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if pa.types.is_string(field.type):
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    if not _NUMBER.fullmatch(text):
        return None
    if not pa.types.is_integer(field.type):
        return float(text)
    most = 2 ** (field.type.bit_width - 1)
    return int(text) if text.lstrip("-").isdecimal() and -most <= int(text) < most else None
