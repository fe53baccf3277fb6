"""Conditions: what they say of slides, what they may not say, and that they cannot look anywhere else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from tests import catalog_kit as kit
from wsistore.catalog import COLUMNS, Catalog, conditions, expressions
from wsistore.errors import InputError, Kind
from wsistore.testing.clock import ManualClock


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    clock = ManualClock(kit.NOW - timedelta(days=100))
    with Catalog.open(kit.new_url(tmp_path_factory.mktemp("site")), clock=clock) as opened:
        first = {"stain": "HE", "case_id": "C1", "patient_id": "PATIENT-0001", "organ": "skin"}
        kit.ingest(opened, "first", name="it's.svs", metadata=first, um_per_px=(0.5, 0.25), magnification=20.0)
        clock.advance(99 * 86400)
        kit.ingest(opened, "second", name="100%.ndpi", metadata={"stain": "PAS"}, format="hamamatsu-ndpi", width=90_000)
        kit.claim(opened, kit.begin(opened, "hidden"), "hidden")
        clock.advance(86400)
        yield opened


def chosen(catalog: Catalog, condition: str) -> list[str]:
    return [slide.slide for slide in catalog.slides(condition)]


BOTH = ["first", "second"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("true", BOTH),
        ("false", []),
        ("stain = 'HE'", ["first"]),
        ("stain in ('HE', 'PAS')", BOTH),
        ("STAIN <> 'HE'", ["second"]),
        ("name = 'it''s.svs'", ["first"]),
        ("\"name\" like '100!%%' escape '!'", ["second"]),
        ("name ilike '%.NDPI' and width > 1000 * 50", ["second"]),
        ("starts_with(name, 'it') or ends_with(name, 'x')", ["first"]),
        ("regexp_matches(name, '^[0-9]+')", ["second"]),
        ("slide = 'first' and format = 'aperio-svs' and mode = 'tiles'", ["first"]),
        ("case_id is null", ["second"]),
        ("case_id = 'C1' and patient_id = 'PATIENT-0001'", ["first"]),
        ("series is null and block is null", BOTH),
        ("metadata['organ'] = 'skin'", ["first"]),
        ("coalesce(metadata['organ'], 'none') = 'none'", ["second"]),
        ("um_per_px = 0.375 and magnification = 20", ["first"]),
        ("magnification > 1", ["first"]),
        ("not (magnification > 1)", []),
        ("height between 1000 and 1001 and bytes_source = 1234", BOTH),
        ("version = 1 and copies = 1 and bytes_stored = 1300 and objects = 4", BOTH),
        ("list_contains(tiers, 'hot') and not list_contains(tiers, 'cold')", BOTH),
        ("list_has_any(tiers, ['warm', 'cold'])", []),
        ("'hot' in tiers", BOTH),
        ("created_at < now - interval 30 day", ["first"]),
        ("created_at >= '2026-01-30'", ["second"]),
        ("created_at = timestamp '2026-01-30 12:00:00'", ["second"]),
        ("verified_at = now", BOTH),
        ("date_diff('day', created_at, now) = 100", ["first"]),
        ("age(now, created_at) > interval 2 month and year(created_at) = 2025", ["first"]),
        ("case when stain = 'HE' then width = 2000 else false end", ["first"]),
        ("lower(stain) || '!' = 'he!'", ["first"]),
        ("cast(width as double) / 2 = 1000 -- a remark", ["first"]),
        ("width % 7 = 2000 % 7 and abs(-width) = 2000 and round(width / 3) > 0", ["first"]),
        # unknown lets nothing through
        ("greatest(magnification, 1) > 0", ["first"]),
        ("least(magnification, 1) < 2", ["first"]),
        ("greatest(least(magnification, 1), 1) = 1", ["first"]),
        ("greatest(magnification, 1) is null", ["second"]),
        ("greatest(1, width + least(2, magnification, height), 3) is null", ["second"]),
        ("not greatest(magnification > 99, false)", ["first"]),
        ("width / 0 > 1", []),
        ("width % (width - 2000) is null", ["first"]),
        ("7 / (2 / (1 + 1)) = 7 and 8 / 2 / 2 = 2 and 8 - (2 - 1) = 7", BOTH),
        ("1 / (width / (width - 2000)) is null", ["first"]),
        ("width / 0 is null", BOTH),
        ("width // 0 is null", BOTH),
    ],
)
def test_condition_chooses(catalog: Catalog, condition: str, expected: list[str]) -> None:
    assert chosen(catalog, condition) == expected


REFUSED = [
    # more than one expression, other tables, other statements
    ("1=1; drop table slides", "no SQL expression: unexpected 'drop' in line 1"),
    ("true) union select slide, true from slides where (true", "no SQL expression"),
    ("true) from slides; attach 'x.db'; select (true", "no SQL expression"),
    ("select 1", "no SQL expression"),
    ("(select true)", "not allowed here"),
    ("exists(select 1)", "not allowed here"),
    ("slide in (select slide from slides)", "not allowed here"),
    ("slide in (from slides select slide)", "not allowed here"),
    ("width > any(select 1)", "not allowed here"),
    ("slides.slide = 'x'", "there is no table 'slides'"),
    ("information_schema.tables.name = 'x'", "there is no table"),
    ("attach 'x.db'", "no SQL expression"),
    ("pragma version", "no SQL expression"),
    ("copy slides to 'x'", "no SQL expression"),
    ("set threads = 1", "no SQL expression"),
    # functions that look around, or at the clock
    ("read_text('/etc/hostname') = 'x'", "not allowed here"),
    ("getenv('HOME') = 'x'", "not allowed here"),
    ("current_setting('threads') = '1'", "not allowed here"),
    ("version() = 'x'", "not allowed here"),
    ("random() > 0.5", "not allowed here"),
    ("query('select 1') = 1", "not allowed here"),
    ("now() > created_at", "reads the clock with NOW"),
    ("current_date > created_at", "reads the clock"),
    ("current_timestamp > created_at", "reads the clock"),
    ("localtimestamp > created_at", "reads the clock"),
    ("today() > created_at", "reads the clock"),
    ("get_current_timestamp() > created_at", "reads the clock"),
    ("transaction_timestamp() > created_at", "reads the clock"),
    ("age(created_at) > interval 1 day", "reads the clock"),
    # other things that SQL can
    ("count(*) > 1", "not allowed here"),
    ("sum(width) over () > 1", "not allowed here"),
    ("list_filter(tiers, x -> true) = tiers", "not allowed here"),
    ("columns('w.*') > 1", "not allowed here"),
    ("* is null", "not allowed here"),
    ("width = $1", "not allowed here"),
    ("width = ?", "not allowed here"),
    ("width = :now", "not allowed here"),
    ("width::json is null", "type that is not allowed here: JSON"),
    ("width::timestamptz = now", "type that is not allowed here: TIMESTAMPTZ"),
    ("cast(width as struct(a int)) is null", "type that is not allowed"),
    # no expression at all, or none that is true or false
    ("", "no SQL expression"),
    ("'", "no SQL expression"),
    ("stain =", "no SQL expression"),
    ("stain = 'HE' and", "no SQL expression"),
    ("width", "is not true or false"),
    ("null", "is not true or false"),
    ("name > interval 1 day", "cannot be evaluated"),
    ("created_at > 'today'", "cannot be evaluated"),
    ("metadata = 1", "cannot be evaluated"),
    ("lower(name, 1, 2) = 'x'", "cannot be evaluated|no SQL expression"),
    # too much
    ("width = 1 and " * 1000 + "true", "longer than 10000 characters"),
    ("(" * 4000 + "true" + ")" * 4000, "nested too deeply"),
    ("not " * 2400 + "true", "nested too deeply"),
    ("greatest(width, " * 5 + "1" + ")" * 5 + " > 0", "more than 4 greatest or least"),
]


@pytest.mark.parametrize(("condition", "said"), REFUSED, ids=[text[:40] for text, _ in REFUSED])
def test_what_is_not_allowed_is_refused(catalog: Catalog, condition: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        catalog.slides(condition)
    assert caught.value.kind is Kind.CONDITION_INVALID
    assert caught.value.remedy
    assert len(catalog.slides()) == 2


@pytest.mark.parametrize(
    ("condition", "position", "meant"),
    [
        ("nmae = 'x'", 1, "name"),
        ("stain = 'HE'\n and magnificaton > 3", 19, "magnification"),
        ("wdith > 1", 1, "width"),
    ],
)
def test_unknown_column_is_named_with_its_place_and_the_likely_one(
    catalog: Catalog, condition: str, position: int, meant: str
) -> None:
    with pytest.raises(
        InputError, match=rf"unknown column '\w+' \(at character {position}\); did you mean '{meant}'\?"
    ):
        catalog.slides(condition)


def test_value_of_one_slide_that_cannot_be_computed_is_said(catalog: Catalog) -> None:
    with pytest.raises(InputError, match="cannot be evaluated: Conversion Error"):
        catalog.slides("cast(name as int) = 1")
    assert chosen(catalog, "try_cast(name as int) is null") == BOTH


def test_long_chains_are_fine(catalog: Catalog) -> None:
    assert chosen(catalog, " or ".join(["stain = 'HE'"] * 400)) == ["first"]


def test_mistakes_show_without_any_slide(tmp_path: Path) -> None:
    with Catalog.open(kit.new_url(tmp_path)) as empty:
        assert empty.slides("width > 1") == []
        for wrong in ("name > interval 1 day", "width", "nmae = 1"):
            with pytest.raises(InputError):
                empty.slides(wrong)


def test_table_has_the_documented_columns(catalog: Catalog) -> None:
    with catalog._database.read() as connection:
        table = conditions.slide_table(connection, catalog.slides())
    with duckdb.connect(":memory:") as connection:
        connection.register("slides", table)
        described = connection.execute("DESCRIBE slides").fetchall()
    assert [(row[0], row[1]) for row in described] == [(column.name, column.type) for column in COLUMNS]
    assert all(column.meaning for column in COLUMNS)


def test_where_the_condition_is_evaluated_there_are_no_files_and_no_settings(tmp_path: Path) -> None:
    """The second line: even what no condition can say would find nothing."""
    (tmp_path / "secret.csv").write_text("a\n1\n")
    secret = "a variable of this function, which DuckDB would find as a table"
    with duckdb.connect(":memory:", config=expressions.LOCKED) as connection:
        for statement in (
            f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
            f"SELECT * FROM '{tmp_path}/secret.csv'",
            f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
            f"ATTACH '{tmp_path}/x.db'",
            "SET enable_external_access = true",
            "SET threads = 1",
            "INSTALL httpfs",
            "SELECT * FROM secret",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)
    assert secret
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_duckdb_and_alembic_are_imported_only_where_they_are_used() -> None:
    heavy = ("duckdb", "sqlglot", "alembic", "pyarrow")
    program = f"import sys, wsistore.catalog; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
