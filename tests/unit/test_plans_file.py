"""A plan's file: the same plan is the same bytes, it comes back whole, and what was altered or cut is refused."""

from __future__ import annotations

import hashlib
import io
import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.planning_kit import AT, DELETE, MOVE, a_plan
from wsistore.errors import ConflictError, InputError, Kind, MissingError, StorageError, WsistoreError
from wsistore.tiers.plans import Header, plan_file, read_plan, write_plan
from wsistore.tiers.plans.plan_file import HEADER_KEY, to_bytes
from wsistore.tiers.plans.rows import PLAN

SLIDES: list[dict[str, Any]] = [
    {"case_id": "C1", "department": "UF-1"},
    {"case_id": "C1", "department": "UF-1"},
    {"department": "UF-2"},
    {},
]
TOLD: list[dict[str, Any]] = [MOVE, {}, DELETE, {"blocked": ["held"], "retention": "unknown"}]


@pytest.fixture
def made() -> tuple[Header, pa.Table]:
    return a_plan(SLIDES, TOLD)


@pytest.fixture
def path(tmp_path: Path, made: tuple[Header, pa.Table]) -> Path:
    write_plan(tmp_path / "plan.parquet", *made)
    return tmp_path / "plan.parquet"


def test_it_comes_back_as_it_was(path: Path, made: tuple[Header, pa.Table]) -> None:
    header, rows = made
    plan = read_plan(path)

    assert plan.rows.equals(rows)
    assert plan.rows.schema == PLAN
    assert plan.header.to_json() == header.to_json() | {"data_sha256": plan.header.data_sha256}
    assert plan.header.made_at == AT
    assert plan.header.rules.text == "version: 1\n"
    assert plan.row("slide0002") == rows.to_pylist()[2]
    assert plan.row("nothing") is None


def test_the_digest_is_that_of_the_file(path: Path, made: tuple[Header, pa.Table]) -> None:
    assert read_plan(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert write_plan(path, *made, replace_it=True) == read_plan(path).digest


def test_the_same_plan_is_the_same_bytes_and_another_is_not(path: Path) -> None:
    assert to_bytes(*a_plan(SLIDES, TOLD)) == path.read_bytes()
    assert to_bytes(*a_plan(SLIDES, TOLD, author="account-2")) != path.read_bytes()
    later = datetime(2026, 11, 23, tzinfo=UTC)
    assert to_bytes(*a_plan(SLIDES, TOLD, at=later)) != path.read_bytes()


def test_any_parquet_reader_reads_it(path: Path) -> None:
    table = pq.read_table(path)

    assert table.column_names == PLAN.names
    assert header_of(path)["site"] == "example"


def test_it_replaces_nothing_unless_told_and_leaves_no_draft(path: Path, made: tuple[Header, pa.Table]) -> None:
    before = path.read_bytes()
    with pytest.raises(ConflictError) as caught:
        write_plan(path, *a_plan(SLIDES, TOLD, author="account-2"))
    assert caught.value.kind is Kind.TARGET_EXISTS
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["plan.parquet"]


def test_a_place_that_is_not_there_is_told(tmp_path: Path, made: tuple[Header, pa.Table]) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_plan(tmp_path / "no" / "plan.parquet", *made)


def test_rows_that_do_not_fit_their_header_are_not_written(tmp_path: Path, made: tuple[Header, pa.Table]) -> None:
    header, rows = made
    for wrong in (rows.slice(1), rows.take([1, 0, 2, 3]), rows.select(["slide"]), rows.take([0, 0, 2, 3])):
        with pytest.raises(ValueError, match="schema PLAN"):
            write_plan(tmp_path / "x.parquet", header, wrong)


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_plan(path)
    assert caught.value.kind is Kind.PLAN_INVALID
    assert str(path) in caught.value.message
    assert "wsistore plan" in caught.value.remedy
    return caught.value


def test_every_truncation_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(path)


def test_every_bit_that_flips_is_refused_or_changes_the_digest(path: Path) -> None:
    whole, digest = path.read_bytes(), read_plan(path).digest
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for place in range(0, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        if place < footer:
            refused(path)
        else:
            assert digest_or_refusal(path) != digest


def digest_or_refusal(path: Path) -> str:
    try:
        return read_plan(path).digest
    except InputError as error:
        return str(error.kind)


@pytest.mark.parametrize("body", [b"", b"PAR1", b"PAR1PAR1PAR1", b"no plan", b"PAR1" + b"\xff" * 40 + b"PAR1"])
def test_what_is_no_plan_is_refused(path: Path, body: bytes) -> None:
    path.write_bytes(body)
    refused(path)


def test_a_table_without_a_header_is_refused(path: Path) -> None:
    pq.write_table(pa.table({"slide": ["a"]}), path)
    assert "no header" in refused(path).message


def header_of(path: Path) -> dict[str, Any]:
    """Return the header's JSON by means of Parquet alone."""
    found: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[HEADER_KEY])
    return found


def rewritten(path: Path, table: pa.Table, /, **changed: Any) -> None:
    """Write a plan with other rows or another header by means of Parquet alone, its hash of the data put right."""
    header = header_of(path) | changed
    sink = io.BytesIO()
    with pq.ParquetWriter(pa.PythonFile(sink, "w"), table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None))
        header["data_sha256"] = hashlib.sha256(sink.getbuffer()).hexdigest()
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        writer.add_key_value_metadata({HEADER_KEY.decode(): text})
    path.write_bytes(sink.getvalue())


def with_column(rows: pa.Table, name: str, values: list[Any]) -> pa.Table:
    place = rows.column_names.index(name)
    return rows.set_column(place, rows.schema.field(name), pa.array(values, rows.schema.field(name).type))


def test_a_forger_has_to_keep_schema_order_and_totals(path: Path) -> None:
    rows = read_plan(path).rows
    rewritten(path, rows)
    read_plan(path)  # it is the file's digest, which approvals sign, that tells a complete forgery
    forgeries = {
        "columns": rows.drop_columns(["reason"]),
        "sorted": rows.take([1, 0, 2, 3]),
        "two": rows.take([0, 0, 2, 3]),
        "it has 3 rows": rows.slice(1),
        "add up to its totals": with_column(rows, "bytes_after", [1, 2, 3, 4]),
        "totals by action": with_column(rows, "action", ["delete", "none", "move", "none"]),
        "counts other slides": with_column(rows, "retention", ["kept"] * 4),
        "left out": with_column(rows, "blocked", [None] * 4),
        "totals by rule": with_column(rows, "place_rule", ["other", "archive", None, "archive"]),
    }
    for message, forged in forgeries.items():
        rewritten(path, forged)
        assert message in refused(path).message, message


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 2},
        {"format": True},
        {"format": 0},
        {"rows": "4"},
        {"author": None},
        {"made_at": "yesterday"},
        {"at": "2026-11-22T20:00:00+01:00"},
        {"more": 1},
        {"totals": {}},
        {"totals": []},
        {"rules": {"file": "x"}},
        {"rules": {"file": "x", "digest": 1, "text": ""}},
        {"over_limit": [{"limit": "x"}]},
        {"over_limit": 3},
        {"over_limit": [{"limit": "x", "slides": "many", "allowed": 1, "catalogue": 2}]},
        {"coefficients": []},
    ],
    ids=str,
)
def test_a_header_that_says_something_else_is_refused(path: Path, changed: dict[str, Any]) -> None:
    rewritten(path, read_plan(path).rows, **changed)
    refused(path)


def test_totals_of_a_header_that_rows_do_not_have(path: Path) -> None:
    rows, totals = read_plan(path).rows, header_of(path)["totals"]
    tier = totals["by_tier"]["hot"]
    for changed, message in (
        ({"by_department": {}}, "department"),
        ({"by_tier": {}}, "by tier"),
        ({"by_tier": {"hot": {**tier, "slides_now": "3"}}}, "header"),
        ({"by_tier": {"hot": {**tier, "more": 1}}}, "header"),
        ({"postponed": {"window": totals["all"]}}, "by limit"),
        ({"retention": {"kept": 4}}, "counts other"),
    ):
        rewritten(path, rows, totals={**totals, **changed})
        assert message in refused(path).message, message


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no file"):
        read_plan(tmp_path / "nothing.parquet")
    with pytest.raises(WsistoreError):
        read_plan(tmp_path)


def test_a_file_larger_than_any_plan_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_file, "MOST_BYTES", 100)
    assert "larger" in refused(path).message


def test_large_plans_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_file, "ROWS_PER_GROUP", 3)
    header, rows = a_plan([{} for _ in range(8)], [{} for _ in range(8)])
    write_plan(tmp_path / "p", header, rows)

    plan = read_plan(tmp_path / "p")

    assert [batch.num_rows for batch in plan.batches()] == [3, 3, 2]
    assert plan.rows.equals(rows)


def test_a_plan_of_nothing(tmp_path: Path) -> None:
    write_plan(tmp_path / "p", *a_plan([], []))
    plan = read_plan(tmp_path / "p")
    assert plan.rows.num_rows == plan.header.totals.all.slides == 0
    assert stat.S_ISREG((tmp_path / "p").stat().st_mode)
