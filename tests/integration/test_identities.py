"""Identities of patients in the catalogue: nobody who has its bytes can read them, and all who should can."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from unittest import mock

import pytest
from sqlalchemy import select

from tests.site_kit import cli, tiny_svs
from wsistore import ops
from wsistore.catalog import sealing
from wsistore.catalog.clinical_identity import find, find_qualified, lookup, read_identity, write_identity
from wsistore.catalog.identities import Identities, of, open_identity, seal_identity
from wsistore.catalog.schema_clinical import patients
from wsistore.errors import IntegrityError, Kind, SiteError, StorageError
from wsistore.keys import site_keys
from wsistore.ops import sealing_identities
from wsistore.ops.key_check import is_sound
from wsistore.ops.key_rotation import SETTLED
from wsistore.ops.metadata import read_metadata
from wsistore.ops.recall_lists import lines_of
from wsistore.testing.clock import ManualClock
from wsistore.tiers import ledger

IPP, OTHER, NAME, INS = "IPP-PLANTED-0001", "ipp-planted-0002", "NAME-PLANTED-0003", "1850INS-PLANTED-0004"
PLANTED = (IPP, OTHER, NAME, INS)
TABLE = (
    "file,case_id,patient_id,INS,Nom de naissance,research code,stain\n"
    f"a.svs,CASE-1,{IPP},{INS},{NAME},,HE\n"
    f"b.svs,CASE-2,{OTHER},,,{NAME},HE\n"
    f"c.svs,,{OTHER},,,,IHC\n"
)


class Crash(BaseException):
    """The process ends."""


def setting(folder: Path, *, is_on: bool) -> None:
    path = folder / "wsistore.toml"
    text = re.sub(r"^(encrypt_identities|identity_columns) = .*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
    lines = "encrypt_identities = true\nidentity_columns = ['research code']\n" if is_on else ""
    path.write_text(text.replace("\nname = ", f"\n{lines}name = ", 1), "utf-8")


def filled(folder: Path, *, is_on: bool, keys: bool = True) -> Path:
    """Make a site with three slides of two patients, and a recall by patients' numbers."""
    ops.init_site(folder / "site")
    if keys:
        site_keys.make(folder / "site/keys", ManualClock())
    setting(folder / "site", is_on=is_on)
    table = folder / "table.csv"
    table.write_text(TABLE)
    sources = [tiny_svs(folder / name, seed) for seed, name in enumerate(("a.svs", "b.svs", "c.svs"), 1)]
    with ops.open_site(folder / "site") as site:
        assert all(one.error is None for one in ops.ingest(site, sources, metadata=read_metadata(table)))
        ops.recall(site, lines_of([IPP, "IPP-PLANTED-9999"]), tier="warm")
        site.catalog.put_metadata({site.catalog.resolve("a.svs"): {"stain": "HES"}})
        ops.copy(site, ["a.svs"], "warm")
        tell_of_a_person(site)
    return folder / "site"


def tell_of_a_person(site: ops.Site) -> None:
    """Let the hospital's tables speak of a patient."""
    with site.catalog._database.write() as connection:
        values = {"patient_id": IPP, "ins": INS, "traits": {"birth_name": NAME}}
        row = {
            "patient": "patient1",
            "lookup": lookup(connection, IPP),
            "ins_lookup": lookup(connection, INS),
            "identity": write_identity(connection, "patient1", values),
            "as_of": "2026-01-01T00:00:00.000000Z",
            "said": {},
        }
        connection.execute(patients.insert(), row)


def assert_person_is_found(site: ops.Site) -> None:
    with site.catalog._database.read() as connection:
        assert find(connection, [IPP.lower(), "somebody else"]) == {IPP.lower(): "patient1"}
        assert find_qualified(connection, [INS]) == {INS: ["patient1"]}
        kept = connection.execute(select(patients.c.identity)).scalar_one()
        assert read_identity(connection, "patient1", kept)["traits"] == {"birth_name": NAME}


@pytest.fixture(scope="module")
def sealed_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("sealed"), is_on=True)


@pytest.fixture(scope="module")
def plain_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("plain"), is_on=False)


@pytest.fixture
def sealed(sealed_site: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed_site, tmp_path / "site"))


@pytest.fixture
def plain(plain_site: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain_site, tmp_path / "site"))


def planted_in(folder: Path) -> dict[str, list[str]]:
    """Return the files of a site that hold a planted identity, whatever its capitals; but for the vendor's files.

    Ledgers are compressed, so they are looked at as they are read, too.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not {"private", "table.csv"} & set(path.relative_to(folder).parts):
            data = path.read_bytes()
            if path.name.endswith(".json.zst"):
                data += str(
                    ledger.decode_segment(data, (), where="ledger" + str(path).rpartition("ledger")[2])
                ).encode()
            for text in PLANTED:
                forms = {form.encode(code) for form in (text, text.lower()) for code in ("utf-8", "utf-16-le")}
                if any(form in data for form in forms):
                    found.setdefault(str(path.relative_to(folder)), []).append(text)
    return found


def assert_readable(folder: Path, *, without_person: bool = False) -> None:
    """See that everybody who has the keys sees what the site said.

    `without_person`: the hospital's tables are not kept on the tiers, so that they do not come back with a catalogue.
    """
    with ops.open_site(folder) as site:
        rows = {row.name: row for row in site.catalog.slides()}
        assert rows["a.svs"].metadata["patient_id"] == IPP
        assert rows["a.svs"].metadata["INS"] == INS
        assert rows["a.svs"].metadata["Nom de naissance"] == NAME
        assert rows["b.svs"].metadata["research code"] == NAME
        assert rows["a.svs"].metadata["case_id"] == "CASE-1"
        assert [row.name for row in site.catalog.slides(f"patient_id = '{IPP}'")] == ["a.svs"]
        assert [row.name for row in site.catalog.slides(f"metadata['INS'] = '{INS}'")] == ["a.svs"]
        assert [row.name for row in site.catalog.slides("patient_id like 'ipp%'")] == ["b.svs", "c.svs"]
        planned = ops.recall(site, lines_of([IPP.lower(), OTHER]), dry_run=True)
        assert {one.name for case in planned.cases for one in case.slides} == {"a.svs", "b.svs", "c.svs"}
        assert {case.patient for case in planned.cases} == {IPP, OTHER}
        if not without_person:
            assert_person_is_found(site)
        assert is_sound(list(ops.check_keys(site)))


def test_nothing_that_is_kept_shows_an_identity(sealed: Path) -> None:
    with ops.open_site(sealed) as site:
        ops.backup_catalog(site)
        assert planted_in(sealed) == {}, "while it is open, with its log"
    assert planted_in(sealed) == {}
    assert_readable(sealed)
    assert planted_in(sealed) == {}


def test_without_the_setting_it_shows(plain: Path) -> None:
    """So that the test above is known to look where identities would be."""
    with ops.open_site(plain) as site:
        ops.backup_catalog(site)
    places = planted_in(plain)
    assert any(name.startswith("backups/") for name in places)
    assert any("/ledger/segments/" in name for name in places)
    assert any(name.startswith("catalog.db") for name in places)


def litter(folder: Path) -> None:
    """Leave pages in the catalogue's file that nothing refers to, as every catalogue gets that is in use."""
    with closing(sqlite3.connect(folder / "catalog.db", isolation_level=None)) as database:
        database.execute("PRAGMA secure_delete = OFF")
        database.execute("CREATE TABLE litter (value TEXT)")
        database.executemany("INSERT INTO litter VALUES (?)", [(text * 20,) for text in PLANTED * 50])
        database.execute("DROP TABLE litter")


def test_sealing_a_site_that_is_in_use_leaves_no_old_byte(plain: Path) -> None:
    litter(plain)
    assert planted_in(plain)["catalog.db"] == sorted(PLANTED, key=PLANTED.index)
    setting(plain, is_on=True)
    done = cli(plain, "keys", "seal", "--json")
    assert done.code == 0, done.err
    assert done.lines[0]["rows"] > 0
    assert set(done.lines[0]["ledgers"]) == {"hot", "warm", "cold"}
    assert planted_in(plain) == {}
    assert_readable(plain)
    with ops.open_site(plain) as site:
        assert [check.problems for check in ops.check_ledgers(site)] == [()] * 3
        assert site.catalog.check_chains() == []
    again = cli(plain, "keys", "seal", "--json")
    assert (again.code, again.lines[0]["rows"], again.lines[0]["ledgers"]) == (0, 0, [])
    assert planted_in(plain) == {}


@pytest.mark.parametrize("step", range(1, 14))
def test_sealing_that_was_killed_is_gone_on_with(plain: Path, step: int) -> None:
    setting(plain, is_on=True)
    count = 0

    def dying(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == step:
                raise Crash
            return function(*arguments, **options)

        return call

    site = ops.open_site(plain)
    with ExitStack() as patched:
        for module, names in {
            sealing: ("begin", "_seal_slide", "_seal_cases", "compact", "done"),
            sealing_identities: ("erase", "tell"),
        }.items():
            for name in names:
                patched.enter_context(mock.patch.object(module, name, dying(getattr(module, name))))
        try:
            ops.seal_identities(site)
        except Crash:
            site.catalog.close()
    assert count >= step, "every step was killed"
    assert cli(plain, "keys", "seal").code == 0
    assert planted_in(plain) == {}
    assert_readable(plain)


def test_without_a_site_key_identities_are_refused_and_nothing_else(tmp_path: Path) -> None:
    ops.init_site(tmp_path / "site")
    setting(tmp_path / "site", is_on=True)
    table = tmp_path / "table.csv"
    table.write_text(TABLE)
    source, other = tiny_svs(tmp_path / "a.svs"), tiny_svs(tmp_path / "other.svs", 2)
    done = cli(tmp_path / "site", "ingest", source, "--metadata", table)
    assert done.code != 0
    assert "no site key" in done.out + done.err
    assert "keys init" in done.out + done.err
    assert cli(tmp_path / "site", "ingest", other).code == 0
    assert cli(tmp_path / "site", "keys", "check").code != 0
    assert planted_in(tmp_path / "site") == {}
    assert cli(tmp_path / "site", "keys", "seal").code != 0
    assert cli(tmp_path / "site", "keys", "init").code == 0
    assert cli(tmp_path / "site", "ingest", source, "--metadata", table).code == 0
    assert planted_in(tmp_path / "site") == {}


def test_case_id_cannot_be_sealed(tmp_path: Path) -> None:
    ops.init_site(tmp_path / "site")
    path = tmp_path / "site/wsistore.toml"
    path.write_text(path.read_text().replace("\nname = ", "\nidentity_columns = ['Case ID']\nname = ", 1))
    with pytest.raises(SiteError, match="case_id, by which slides are joined"):
        ops.open_site(tmp_path / "site")


def test_lost_keys_are_loud_and_come_back(sealed: Path, tmp_path: Path) -> None:
    (sealed / "keys").rename(tmp_path / "away")
    done = cli(sealed, "keys", "check", "--json")
    assert done.code != 0
    assert any(line["check"] == "identities" and line["result"] == "failed" for line in done.lines)
    with ops.open_site(sealed) as site:
        assert "patient_id" not in site.catalog.slide(site.catalog.resolve("a.svs")).metadata, (
            "unknown, not sealed text"
        )
        for condition in (f"patient_id = '{IPP}'", "patient_id is null", "metadata['INS'] is null"):
            with pytest.raises(SiteError) as caught:
                site.catalog.slides(condition)
            assert caught.value.kind is Kind.KEY_MISSING
        assert len(site.catalog.slides("stain = 'IHC'")) == 1
        with pytest.raises(SiteError) as caught:
            ops.recall(site, lines_of([IPP]), dry_run=True)
        assert caught.value.kind is Kind.KEY_MISSING
        assert ops.recall(site, lines_of(["a.svs", "CASE-2"]), dry_run=True).cases
        with pytest.raises(SiteError):
            site.catalog.put_metadata({site.catalog.resolve("a.svs"): {"stain": "IHC"}})
        assert all(one.error is None for one in ops.verify(site, ["a.svs"]))
    (tmp_path / "away").rename(sealed / "keys")
    assert_readable(sealed)


def test_rotation_wraps_the_key_and_touches_no_value(sealed: Path) -> None:
    clock = ManualClock()
    with ops.open_site(sealed, clock=clock) as site:
        with site.catalog._database.read() as connection:
            before = connection.exec_driver_sql("SELECT slide, metadata FROM slides").all()
        old = sealing.keys(site.catalog)
        assert ops.rotate_keys(site).failures == ()
        with site.catalog._database.read() as connection:
            assert connection.exec_driver_sql("SELECT slide, metadata FROM slides").all() == before
        assert sealing.keys(site.catalog).keys() == old.keys()
        assert sealing.keys(site.catalog) != old
        ops.write_sheets(site.settings, sealed / "sheets", clock)
        clock.advance(SETTLED.total_seconds() + 1)
        assert ops.rotate_keys(site, forget_old=True).forgotten == (1,)
    assert_readable(sealed)


def lose_catalogue(folder: Path) -> None:
    for path in folder.glob("catalog.db*"):
        path.unlink()


def test_catalogue_comes_back_sealed_from_the_tiers(sealed: Path) -> None:
    lose_catalogue(sealed)
    report = ops.rebuild_catalog(sealed)
    assert report.slides == 3
    assert report.problems == ()
    assert_readable(sealed, without_person=True)
    assert planted_in(sealed) == {}
    with ops.open_site(sealed) as site:
        assert len(sealing.keys(site.catalog)) == 1, "the key came back, and none was made"


def test_catalogue_comes_back_without_keys_and_is_settled_with_them(sealed: Path, tmp_path: Path) -> None:
    (sealed / "keys").rename(tmp_path / "away")
    lose_catalogue(sealed)
    report = ops.rebuild_catalog(sealed)
    assert report.slides == 3
    assert any("sealed" in problem for problem in report.problems)
    (tmp_path / "away").rename(sealed / "keys")
    assert cli(sealed, "keys", "seal").code == 0
    assert_readable(sealed, without_person=True)


def test_backup_from_before_a_rotation_is_opened_with_the_key_of_a_tier(sealed: Path) -> None:
    clock = ManualClock()
    with ops.open_site(sealed, clock=clock) as site:
        backup = ops.backup_catalog(site).path
        ops.rotate_keys(site)
        ops.write_sheets(site.settings, sealed / "sheets", clock)
        clock.advance(SETTLED.total_seconds() + 1)
        ops.rotate_keys(site, forget_old=True)
    ops.rebuild_catalog(sealed, base=Path(backup), replace=True)
    assert_readable(sealed, without_person=True)


def test_setting_taken_back_leaves_what_is_sealed_readable(sealed: Path, tmp_path: Path) -> None:
    setting(sealed, is_on=False)
    assert_readable(sealed)
    with ops.open_site(sealed) as site:
        site.catalog.put_metadata({site.catalog.resolve("b.svs"): {"ward": "B"}})
    assert_readable(sealed)


def test_values_cannot_be_put_in_another_place(sealed: Path) -> None:
    with ops.open_site(sealed) as site, site.catalog._database.write() as connection:
        assert isinstance(of(connection), Identities)
        value = seal_identity(connection, IPP, about="slide x")
        assert open_identity(connection, value, about="slide x") == IPP
        assert seal_identity(connection, IPP, about="slide x") != value, "each time another text"
        with pytest.raises(IntegrityError):
            open_identity(connection, value, about="slide y")
        for damaged in (value[:-2], value[:-1] + ("A" if value[-1] != "A" else "B"), "wsistore-sealed:2:x:y"):
            with pytest.raises(IntegrityError):
                open_identity(connection, damaged, about="slide x")


def test_locked_ledger_is_told_and_gone_on_with(plain: Path) -> None:
    setting(plain, is_on=True)

    def locked(*_: object) -> None:
        msg = "The object is locked until 2030."
        raise StorageError(msg, kind=Kind.STORAGE_FAILED)

    with mock.patch.object(sealing_identities, "erase", locked):
        done = cli(plain, "keys", "seal", "--json")
    assert done.code != 0
    assert len(done.lines[0]["failures"]) == 3
    checked = cli(plain, "keys", "check", "--json")
    assert any(line["check"] == "sealing" and line["result"] == "warning" for line in checked.lines)
    assert cli(plain, "keys", "seal").code == 0
    assert planted_in(plain) == {}
    assert json.loads(cli(plain, "keys", "check", "--json").out.splitlines()[0])
