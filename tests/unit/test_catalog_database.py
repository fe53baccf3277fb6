"""The catalogue's database: opening, read-only sites, locks, damage, schema versions, forks."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from tests import catalog_kit as kit
from wsistore.catalog import Catalog, create, migrate, schema
from wsistore.catalog.revisions import alembic_config
from wsistore.errors import ConflictError, Kind, SiteError, WsistoreError
from wsistore.events import EventKind
from wsistore.testing.clock import ManualClock


@pytest.fixture
def url(tmp_path: Path) -> str:
    return kit.new_url(tmp_path)


# --- making one -------------------------------------------------------------------------------------------------------


def test_new_catalogue_is_one_file_and_empty(tmp_path: Path) -> None:
    create(f"sqlite:///{tmp_path}/c.db")
    assert [path.name for path in tmp_path.iterdir()] == ["c.db"]
    with Catalog.open(f"sqlite:///{tmp_path}/c.db") as catalog:
        assert catalog.slides() == []
        assert catalog.check_chains() == []


@pytest.mark.parametrize("name", ["a b.db", "100%20.db", "what?.db", "x#y.db", "é.db"])
def test_names_are_taken_to_the_letter(tmp_path: Path, name: str) -> None:
    create(f"sqlite:///{tmp_path}/{name}")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with Catalog.open(f"sqlite:///{tmp_path}/{name}") as catalog:
        kit.ingest(catalog, "slide1")


def test_empty_catalogue_is_taken_as_it_is_and_a_used_one_is_not(url: str) -> None:
    create(url)
    with Catalog.open(url) as catalog:
        kit.begin(catalog, "slide1")
    with pytest.raises(SiteError, match="is a catalogue already") as caught:
        create(url)
    assert caught.value.kind is Kind.SITE_EXISTS


def test_several_at_once_make_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/c.db"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, [url] * 4))
    assert [path.name for path in tmp_path.iterdir()] == ["c.db"]


def test_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="nowhere"):
        create(f"sqlite:///{tmp_path}/nowhere/c.db")


@pytest.mark.parametrize("url", ["postgresql://server/db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "x.db"])
def test_url_that_names_no_file_is_refused(url: str) -> None:
    for action in (create, migrate, Catalog.open):
        with pytest.raises(SiteError, match="sqlite:///FILE") as caught:
            action(url)
        assert caught.value.kind is Kind.SETTINGS_INVALID


# --- schema -----------------------------------------------------------------------------------------------------------


def test_revisions_lead_to_exactly_the_tables_that_the_code_uses(url: str, tmp_path: Path) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()
    # Alembic compares neither partial indexes nor the order of columns: the definitions themselves do.
    plain = create_engine(f"sqlite:///{tmp_path}/plain.db")
    schema.metadata.create_all(plain)
    plain.dispose()
    query = "SELECT name, sql FROM sqlite_master WHERE sql NOT NULL AND name != 'alembic_version' ORDER BY name"
    definitions = [
        [(name, " ".join(text.split())) for name, text in kit.sql(target, query)]
        for target in (url, f"sqlite:///{tmp_path}/plain.db")
    ]
    assert definitions[0] == definitions[1]
    assert len(definitions[0]) >= 12


def test_newest_revision_is_the_one_that_the_code_expects() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == schema.HEAD


def test_schema_can_be_said_to_postgresql() -> None:
    dialect = postgresql.dialect()
    said = [str(CreateTable(table).compile(dialect=dialect)) for table in schema.metadata.sorted_tables]
    said += [
        str(CreateIndex(index).compile(dialect=dialect))
        for table in schema.metadata.sorted_tables
        for index in table.indexes
    ]
    assert any("UNIQUE INDEX live_fingerprint" in text and "WHERE state IN" in text for text in said)


@pytest.mark.parametrize(("version", "said"), [("9999", "newer release.*Upgrade"), ("0000", "older release.*migrate")])
def test_other_schema_is_refused(url: str, version: str, said: str) -> None:
    kit.sql(url, "UPDATE alembic_version SET version_num = ?", version)
    for read_only in (True, False):
        with pytest.raises(SiteError, match=said) as caught:
            Catalog.open(url, read_only=read_only)
        assert caught.value.kind is Kind.CATALOG_FAILED


def test_migrating_what_is_up_to_date_changes_nothing(url: str) -> None:
    with Catalog.open(url) as catalog:
        kit.ingest(catalog, "slide1")
    migrate(url)
    with Catalog.open(url) as catalog:
        assert [slide.slide for slide in catalog.slides()] == ["slide1"]


def test_migrating_a_newer_or_foreign_database_is_refused(url: str, tmp_path: Path) -> None:
    kit.sql(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SiteError, match="newer release"):
        migrate(url)
    foreign = f"sqlite:///{tmp_path}/foreign.db"
    kit.file_of(foreign).touch()
    kit.sql(foreign, "CREATE TABLE theirs (x)")
    with pytest.raises(SiteError, match="no catalogue of wsistore"):
        migrate(foreign)
    assert kit.sql(foreign, "SELECT name FROM sqlite_master") == [("theirs",)]


# --- opening what is not well -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [True, False])
def test_missing_file_is_said_and_not_made(tmp_path: Path, read_only: bool) -> None:
    with pytest.raises(SiteError, match=r"gone\.db is not there.*backup") as caught:
        Catalog.open(f"sqlite:///{tmp_path}/gone.db", read_only=read_only)
    assert caught.value.kind is Kind.CATALOG_FAILED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4000])
@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_no_catalogue_is_said(tmp_path: Path, content: bytes, read_only: bool) -> None:
    (tmp_path / "c.db").write_bytes(content)
    with pytest.raises(SiteError, match=r"c\.db") as caught:
        Catalog.open(f"sqlite:///{tmp_path}/c.db", read_only=read_only)
    assert caught.value.kind is Kind.CATALOG_FAILED
    assert (tmp_path / "c.db").read_bytes() == content


def _read_all(url: str) -> None:
    with Catalog.open(url) as catalog:
        catalog.check_chains()
        for attempt in catalog.open_attempts():
            catalog.attempt(attempt.attempt)
        for slide in catalog.slides():
            catalog.source(slide.slide)
            catalog.copies(slide.slide)


def test_damage_met_later_is_said(url: str) -> None:
    with Catalog.open(url) as catalog:
        for number in range(40):
            kit.ingest(catalog, f"slide{number}")
    file = kit.file_of(url)
    content = bytearray(file.read_bytes())
    content[4096 * 2 :] = b"\xa5" * (len(content) - 4096 * 2)
    file.write_bytes(content)
    with pytest.raises(SiteError) as caught:
        _read_all(url)
    assert caught.value.kind is Kind.CATALOG_FAILED


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE slides SET metadata = '{'",
        "UPDATE slides SET mode = 'unheard-of'",
        "UPDATE slides SET metadata = '3'",
        "UPDATE sources SET files = '[{}]'",
        "UPDATE copies SET preset = 'unheard-of'",
        "UPDATE attempts SET state = 'unheard-of'",
    ],
)
def test_values_that_cannot_be_read_are_an_error_of_the_site(url: str, change: str) -> None:
    with Catalog.open(url) as catalog:
        kit.ingest(catalog, "slide1")
        kit.begin(catalog, "slide2")
    kit.sql(url, change)
    with pytest.raises(SiteError) as caught:
        _read_all(url)
    assert caught.value.kind is Kind.CATALOG_FAILED


def test_full_disk_is_said_and_nothing_is_half_written(url: str) -> None:
    with Catalog.open(url) as catalog:
        kit.ingest(catalog, "slide1")
        with catalog._database.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        attempt = kit.begin(catalog, "slide2")
        with pytest.raises(SiteError, match="No space is left"):
            kit.claim(catalog, attempt, "x", metadata={"note": "y" * 100_000})
        assert [slide.slide for slide in catalog.slides()] == ["slide1"]
        assert catalog.attempt(attempt.attempt).state == "writing"
        assert kit.sql(url, "SELECT count(*) FROM slides") == [(1,)]


# --- reading only -----------------------------------------------------------------------------------------------------


def test_opened_for_reading_refuses_every_write_and_changes_nothing(url: str) -> None:
    with Catalog.open(url) as catalog:
        attempt = kit.ingest(catalog, "slide1").attempt
    before = kit.file_of(url).read_bytes()
    with Catalog.open(url, read_only=True) as catalog:
        writes = [
            lambda: kit.begin(catalog, "slide2"),
            lambda: catalog.extend_lease(attempt, kit.LEASE),
            lambda: catalog.mark_verified(attempt, "0"),
            lambda: kit.claim(catalog, catalog.attempt(attempt), "x"),
            lambda: catalog.commit(attempt, kit.INGESTED),
            lambda: catalog.abandon(attempt, "x"),
            lambda: catalog.forget_attempt(attempt),
            lambda: catalog.put_metadata({"slide1": {"stain": "HE"}}),
            lambda: catalog.record_verification(attempt, kit.NOW, kit.INGESTED),
            lambda: catalog.append_event("slide1", EventKind.RESTORED, "a", {}),
        ]
        for write in writes:
            with pytest.raises(SiteError, match="is read-only") as caught:
                write()
            assert caught.value.kind is Kind.SITE_READ_ONLY
        assert [slide.slide for slide in catalog.slides()] == ["slide1"]
        assert len(catalog.events()) == 1
    assert kit.file_of(url).read_bytes() == before


def test_reader_sees_what_a_writer_has_committed_but_not_merged(url: str) -> None:
    with Catalog.open(url) as writer, Catalog.open(url, read_only=True) as reader:
        kit.ingest(writer, "slide1")
        assert [slide.slide for slide in reader.slides()] == ["slide1"]


NOT_ROOT = """
import os, sys
from wsistore.catalog import Catalog
from wsistore.errors import SiteError
url, other, user = sys.argv[1], sys.argv[2], int(sys.argv[3])
Catalog.open(other).slides()  # imports all that is needed, while it can be read
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
def attempt(read_only):
    try:
        with Catalog.open(url, read_only=read_only) as catalog:
            return "sees " + ",".join(slide.slide for slide in catalog.slides())
    except SiteError as error:
        return str(error.kind) + " " + error.message
print(attempt(True)); print(attempt(False))
"""


def as_ordinary_user(url: str, other: str) -> list[str]:
    user = "65534" if os.getuid() == 0 else "0"
    done = subprocess.run(
        [sys.executable, "-c", NOT_ROOT, url, other, user], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.splitlines()


@pytest.fixture
def frozen() -> Iterator[str]:
    """Give a catalogue in a folder that any user may reach, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield kit.new_url(folder)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def freeze(url: str) -> None:
    file = kit.file_of(url)
    for path in file.parent.iterdir():
        path.chmod(0o444)
    file.parent.chmod(0o555)


def test_read_only_folder_can_be_read_and_not_written(frozen: str, url: str) -> None:
    with Catalog.open(frozen) as catalog:
        kit.ingest(catalog, "slide1")
    freeze(frozen)
    reading, writing = as_ordinary_user(frozen, url)
    assert reading == "sees slide1"
    assert writing.startswith("site-read-only ")
    assert str(kit.file_of(frozen)) in writing


def test_read_only_folder_with_an_unmerged_log_is_refused_rather_than_read_without_it(frozen: str, url: str) -> None:
    file = kit.file_of(frozen)
    with Catalog.open(frozen) as catalog:
        kit.ingest(catalog, "slide1")
        log = file.with_name("catalog.db-wal").read_bytes()
    file.with_name("catalog.db-wal").write_bytes(log)
    freeze(frozen)
    reading, _ = as_ordinary_user(frozen, url)
    assert reading.startswith("catalog-failed ")
    assert "catalog.db-wal" in reading


# --- several at once --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("real_flushes")
def test_connections_are_set_up_for_safety(url: str) -> None:
    with Catalog.open(url) as catalog, catalog._database.read() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_locked_catalogue_is_busy_after_the_time_out_and_readable_meanwhile(url: str) -> None:
    holder = sqlite3.connect(kit.file_of(url), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with Catalog.open(url, busy_timeout_seconds=0.05) as catalog:
        assert catalog.slides() == []
        with pytest.raises(ConflictError, match="locked by another process") as caught:
            kit.begin(catalog, "slide1")
        assert caught.value.kind is Kind.BUSY
        holder.execute("ROLLBACK")
        kit.begin(catalog, "slide1")
    holder.close()


def test_writer_waits_for_another_one(url: str) -> None:
    holder = sqlite3.connect(kit.file_of(url), isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: holder.execute("COMMIT"))
    timer.start()
    with Catalog.open(url) as catalog:
        kit.begin(catalog, "slide1")
    timer.join()
    holder.close()


def test_many_threads_share_one_catalogue(url: str) -> None:
    with Catalog.open(url) as catalog, ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: kit.ingest(catalog, f"slide{number}"), range(40)))
        assert len(catalog.slides()) == 40
        assert catalog.check_chains() == []


def test_failed_transaction_leaves_nothing(url: str) -> None:
    with Catalog.open(url) as catalog:

        def fail() -> None:
            with catalog._database.write() as connection:
                connection.execute(schema.cases.insert(), {"case_key": "C", "patient_id": None})
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert kit.sql(url, "SELECT * FROM cases") == []


def test_number_that_no_database_holds_is_no_crash(url: str) -> None:
    with Catalog.open(url) as catalog:
        attempt = kit.begin(catalog, "slide1")
        with pytest.raises(WsistoreError):
            kit.claim(catalog, attempt, "x", width=2**70)


FORKING = """
import os, sys
from tests import catalog_kit as kit
from wsistore.catalog import Catalog
catalog = Catalog.open(sys.argv[1])
def raw():
    with catalog._database.read() as connection:
        return connection.connection.dbapi_connection
kit.ingest(catalog, "before")
inherited = raw()
child = os.fork()
if child == 0:
    if raw() is inherited:
        os._exit(1)
    kit.ingest(catalog, "child")
    os._exit(0)
assert raw() is inherited
kit.ingest(catalog, "parent")
assert os.waitpid(child, 0)[1] == 0
kit.ingest(catalog, "after")
print(sorted(slide.slide for slide in catalog.slides()), catalog.check_chains())
"""


def test_forked_process_uses_connections_of_its_own(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, url],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "['after', 'before', 'child', 'parent'] []"
    assert kit.sql(url, "PRAGMA integrity_check") == [("ok",)]


def test_clock_is_the_given_one(url: str) -> None:
    clock = ManualClock(kit.NOW)
    with Catalog.open(url, clock=clock) as catalog:
        kit.ingest(catalog, "slide1")
        clock.advance(60)
        event = catalog.append_event("slide1", EventKind.RESTORED, "a", {})
        assert catalog.slide("slide1").created_at == "2026-01-31T12:00:00.000000Z"
        assert event.at == "2026-01-31T12:01:00.000000Z"
