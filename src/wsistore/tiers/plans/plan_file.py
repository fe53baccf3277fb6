"""A plan's file: Parquet with a header in its metadata; the same plan is the same bytes, an altered one is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wsistore.errors import ConflictError, InputError, Kind, MissingError, StorageError
from wsistore.events import canonical_json
from wsistore.tiers.plans.header import FORMAT_VERSION, Header
from wsistore.tiers.plans.rows import PLAN
from wsistore.tiers.plans.totals import Total, Totals, added, by, counts, postponed_of, rule_of, total_of

HEADER_KEY = b"wsistore.plan"
ROWS_PER_GROUP = 100_000
"""So many rows are compressed together: a reader takes no more than these at a time."""
MOST_BYTES = 8 << 30
_MAGIC = b"PAR1"
_TAIL = 8
"""Bytes at the end of a Parquet file: the footer's length, and the magic word."""
_REPEATED = [
    *("retention", "keep_until", "keep_rule", "place_rule", "tier", "preset", "copies_wanted", "review_at", "action"),
    *(f"steps.list.element.{name}" for name in ("action", "tier", "source", "preset")),
    *("blocked.list.element", "reason", "postponed"),
]
"""Columns with few different values, of which each is kept once."""
_FOREIGN = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, RecursionError)
_REMEDY = "Make a new plan with 'wsistore plan'."


@dataclass(frozen=True)
class Plan:
    """A plan that was read and found whole."""

    path: Path
    header: Header
    digest: str
    """SHA-256 of the file, hexadecimal: what approvals sign."""
    _data: pa.Buffer

    @cached_property
    def rows(self) -> pa.Table:
        """All rows, of `wsistore.tiers.plans.rows.PLAN`, sorted by slide."""
        return pa.Table.from_batches(self.batches(), PLAN)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in parts of at most `ROWS_PER_GROUP`, sorted by slide."""
        file = pq.ParquetFile(pa.BufferReader(self._data))
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group).cast(PLAN).combine_chunks().to_batches()

    def row(self, slide: str) -> dict[str, Any] | None:
        """Return the row of a slide by its columns' names; None if the plan has none."""
        found = self.rows.filter(pc.equal(self.rows["slide"], slide)).to_pylist()
        return found[0] if found else None


def write_plan(path: Path, header: Header, rows: pa.Table, *, replace_it: bool = False) -> str:
    """Write a plan, whole or not at all; return its digest.

    Parameters
    ----------
    path
        Where.
    header
        Its `Header.data_sha256` is filled in.
    rows
        Of `wsistore.tiers.plans.rows.PLAN`, sorted by slide.
    replace_it
        Whether a file that is there may be replaced.

    Raises
    ------
    ConflictError
        If there is a file, and it may not be replaced (`Kind.TARGET_EXISTS`).
    StorageError
        If it cannot be written.
    ValueError
        If the rows have another schema, or are not sorted by slide, or not as many as the header says.

    """
    if rows.schema != PLAN or rows.num_rows != header.rows or not _is_sorted(rows["slide"]):
        msg = "a plan's rows have the schema PLAN, are sorted by slide, and as many as its header says"
        raise ValueError(msg)
    body = to_bytes(header, rows)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            with draft.open("xb") as file:
                _flush(file, body)
            if replace_it:
                draft.replace(path)
            else:
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError as error:
        msg = f"{path} is there already."
        raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Name another file, or use --replace.") from error
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error})."
        raise StorageError(msg, remedy="Choose a place that can be written.") from error
    return hashlib.sha256(body).hexdigest()


def to_bytes(header: Header, rows: pa.Table) -> bytes:
    """Return a plan's file: the same for the same header and rows."""
    sink = io.BytesIO()
    # Fixed, not left to the defaults of the day: the same plan is the same bytes.
    with pq.ParquetWriter(
        pa.PythonFile(sink, "w"),
        PLAN,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=_REPEATED,
        write_page_index=False,
    ) as writer:
        writer.write_table(rows.combine_chunks(), row_group_size=ROWS_PER_GROUP)
        whole = replace(header, data_sha256=hashlib.sha256(sink.getbuffer()).hexdigest())
        writer.add_key_value_metadata({HEADER_KEY.decode(): canonical_json(whole.to_json())})
    return sink.getvalue()


def read_plan(path: Path) -> Plan:
    """Read a plan and check that it is whole: its bytes, schema, order and totals.

    Raises
    ------
    MissingError
        If there is no file.
    InputError
        If it is no plan, damaged, altered, or of a newer wsistore (`Kind.PLAN_INVALID`).
    StorageError
        If it cannot be read.

    """
    body = _content(path)
    where = str(path)
    footer = _footer_at(where, body)
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        text = (file.metadata.metadata or {}).get(HEADER_KEY)
    except _FOREIGN as error:
        raise _invalid(where, f"is no Parquet file, or a damaged one ({error})") from error
    header = _header(where, text)
    if hashlib.sha256(memoryview(body)[:footer]).hexdigest() != header.data_sha256:
        raise _invalid(where, "was damaged or altered: its rows are not those that were written")
    plan = Plan(path, header, hashlib.sha256(body).hexdigest(), pa.py_buffer(body))
    try:
        wrong = _what_is_wrong(plan, file.schema_arrow)
    except _FOREIGN as error:
        raise _invalid(where, f"has rows that cannot be read ({error})") from error
    if wrong:
        raise _invalid(where, f"was altered: {wrong}")
    return plan


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _invalid(str(path), "is larger than any plan")
        return path.read_bytes()
    except FileNotFoundError as error:
        msg = f"There is no file {path}."
        raise MissingError(msg, remedy="Name a plan's file; 'wsistore plan' makes one.") from error
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})."
        raise StorageError(msg, remedy="Make the file readable.") from error


def _footer_at(where: str, body: bytes) -> int:
    """Return where the footer begins."""
    length = int.from_bytes(body[-_TAIL:-4], "little") if len(body) >= _TAIL + 4 else 0
    begins = len(body) - _TAIL - length
    if body[:4] != _MAGIC or body[-4:] != _MAGIC or length == 0 or begins < len(_MAGIC):
        raise _invalid(where, "is no Parquet file, or only a part of one")
    return begins


def _header(where: str, text: bytes | None) -> Header:
    if text is None:
        raise _invalid(where, "is a Parquet file, but no plan: it has no header")
    try:
        document = json.loads(text)
        version = document["format"]
        if type(version) is int and version > FORMAT_VERSION:
            raise _invalid(where, f"has format {version}; this wsistore reads format {FORMAT_VERSION}")
        if type(version) is not int or version != FORMAT_VERSION:
            raise _invalid(where, f"has the format {version!r:.40}")
        found = Header.from_json(document)
    except _FOREIGN as error:
        raise _invalid(where, f"has a damaged header ({error})") from error
    if canonical_json(found.to_json()).encode("utf-8") != text:
        raise _invalid(where, "has a header that was written by something else")
    return found


def _what_is_wrong(plan: Plan, schema: pa.Schema) -> str:
    """Return what does not fit together; nothing if all does."""
    header = plan.header
    if not schema.equals(PLAN):
        return "its columns are not those of a plan"
    summed = _Summed()
    last, count = "", 0
    for batch in plan.batches():
        rows = pa.Table.from_batches([batch])
        rows.validate(full=True)
        slides = rows["slide"]
        if rows.num_rows and (not _is_sorted(slides) or (count and slides[0].as_py() <= last)):
            return "its rows are not sorted by slide, or a slide has two"
        last, count = (slides[-1].as_py() if rows.num_rows else last), count + rows.num_rows
        summed.add(rows)
    if count != header.rows:
        return f"it has {count} rows, its header says {header.rows}"
    return summed.what_differs(header.totals)


@dataclass(slots=True)
class _Summed:
    """Totals of the rows that were seen."""

    all: list[Total] = field(default_factory=list)
    actions: dict[str, list[Total]] = field(default_factory=dict)
    rules: dict[str, list[Total]] = field(default_factory=dict)
    postponed: dict[str, list[Total]] = field(default_factory=dict)
    retention: Counter[str] = field(default_factory=Counter)
    blocked: Counter[str] = field(default_factory=Counter)

    def add(self, rows: pa.Table) -> None:
        """Add rows."""
        self.all.append(total_of(rows))
        for found, totals in (
            (self.actions, by(rows, rows["action"])),
            (self.rules, by(rows, rule_of(rows))),
            (self.postponed, postponed_of(rows)),
        ):
            for word, total in totals.items():
                found.setdefault(word, []).append(total)
        self.retention.update(counts(rows["retention"]))
        self.blocked.update(counts(pc.list_flatten(rows["blocked"])))

    def what_differs(self, said: Totals) -> str:
        """Return which totals of a header the rows do not add up to; nothing if they do."""
        if not added(self.all).is_close(said.all):
            return "its rows do not add up to its totals"
        for what, found, told in (
            ("action", self.actions, said.by_action),
            ("rule", self.rules, said.by_rule),
            ("limit", self.postponed, said.postponed),
        ):
            if found.keys() != told.keys() or not all(added(found[word]).is_close(told[word]) for word in told):
                return f"its rows do not add up to its totals by {what}"
        if not added(said.by_department.values()).is_close(said.all):
            return "its totals by department do not add up"
        if not said.tiers_add_up():
            return "its totals by tier do not add up"
        if dict(self.retention) != dict(said.retention) or dict(self.blocked) != dict(said.blocked):
            return "its header counts other slides as kept, or as left out, than its rows"
        return ""


def _is_sorted(slides: pa.ChunkedArray) -> bool:
    """Say whether keys rise, each one larger than the one before."""
    one = slides.combine_chunks() if isinstance(slides, pa.ChunkedArray) else slides
    return len(one) < 2 or bool(pc.all(pc.less(one[:-1], one[1:])).as_py())


def _flush(file: IO[bytes], body: bytes) -> None:
    file.write(body)
    file.flush()
    os.fsync(file.fileno())


def _invalid(where: str, what: str) -> InputError:
    return InputError(f"{where}: {what}.", kind=Kind.PLAN_INVALID, remedy=_REMEDY)
