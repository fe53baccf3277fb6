"""A site's settings: what is written is read, what is wrong is said with file and key."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from wsistore.errors import Kind, SiteError
from wsistore.settings import Settings, find_site, load, write_new

GOOD = """\
version = 1
name = "Pathology"
[catalog]
url = "sqlite:///catalog.db"
[work]
jobs = 3
retries = 2
[tiers.hot]
id = "0123456789abcdef"
url = "tiers/hot"
"""


def site(folder: Path, text: str = GOOD) -> Path:
    (folder / "wsistore.toml").write_text(text, "utf-8")
    return folder


# --- a new site -------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = write_new(tmp_path / "site")
    assert load(tmp_path / "site") == written
    assert [tier.name for tier in written.tiers] == ["hot", "warm", "cold"]
    assert written.name == "site"
    assert written.catalog_url == f"sqlite:///{tmp_path}/site/catalog.db"
    assert [tier.path for tier in written.tiers] == [tmp_path / "site/tiers" / name for name in ("hot", "warm", "cold")]


def test_every_tier_gets_an_id_of_its_own(tmp_path: Path) -> None:
    ids = [tier.id for name in ("a", "b") for tier in write_new(tmp_path / name).tiers]
    assert len(set(ids)) == 6
    assert all(len(identity) == 20 for identity in ids)


def test_folder_may_hold_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("kept")
    write_new(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "wsistore.toml"]


def test_existing_site_is_left_alone(tmp_path: Path) -> None:
    site(tmp_path, "anything")
    with pytest.raises(SiteError, match="is a site already") as caught:
        write_new(tmp_path)
    assert caught.value.kind is Kind.SITE_EXISTS
    assert [path.read_text() for path in tmp_path.iterdir()] == ["anything"]


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "site"):
        with pytest.raises(SiteError, match=str(target)) as caught:
            write_new(target)
        assert caught.value.kind is Kind.SITE_READ_ONLY


def test_file_teaches(tmp_path: Path) -> None:
    write_new(tmp_path)
    text = (tmp_path / "wsistore.toml").read_text("utf-8")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert len(comments) >= 10
    document = tomllib.loads(text)
    for table in ("catalog", "work"):
        for key in document[table]:
            assert f"\n{key} = " in text
    assert set(document) == {"version", "name", "catalog", "work", "tiers"}


@pytest.mark.parametrize("name", ['q"uo\\te', "tab\tand\x7f", "Hôpital n° 1", "new\nline"])
def test_odd_names_come_back(tmp_path: Path, name: str) -> None:
    write_new(tmp_path, name=name)
    assert load(tmp_path).name == name


def test_own_tiers_and_their_places(tmp_path: Path) -> None:
    places = {"near": "a b/%41", "far": str(tmp_path / "x"), "url": "file:///srv/a%20b", "bucket": "s3://bucket/prefix"}
    tiers = write_new(tmp_path / "s", tiers=places).tiers
    assert [tier.path for tier in tiers] == [tmp_path / "s/a b/%41", tmp_path / "x", Path("/srv/a b"), None]
    assert tiers[3].url == "s3://bucket/prefix"
    assert load(tmp_path / "s").tiers == tiers


@pytest.mark.parametrize("tiers", [{}, {"Hot": "x"}, {"a b": "x"}, {"a": "x", "b": "./x"}, {"a": ""}])
def test_tiers_that_make_no_sense_are_refused_and_nothing_is_written(tmp_path: Path, tiers: dict[str, str]) -> None:
    with pytest.raises(SiteError, match="tiers"):
        write_new(tmp_path / "site", tiers=tiers)
    assert not (tmp_path / "site").exists()


# --- reading ----------------------------------------------------------------------------------------------------------


def test_all_values_are_read(tmp_path: Path) -> None:
    settings = load(site(tmp_path))
    assert (settings.folder, settings.name, settings.jobs, settings.retries) == (tmp_path, "Pathology", 3, 2)
    assert settings.tier("hot").url == f"file://{tmp_path}/tiers/hot"


def test_left_out_values_have_defaults(tmp_path: Path) -> None:
    settings = load(site(tmp_path, '[tiers.t]\nid = "0123456789"\nurl = "file://relative/x"'))
    assert settings == Settings(
        folder=tmp_path, name=tmp_path.name, catalog_url=f"sqlite:///{tmp_path}/catalog.db", tiers=settings.tiers
    )
    assert settings.tiers[0].path == tmp_path / "relative/x"


def test_paths_do_not_depend_on_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    assert load(Path(tmp_path.name)) == load(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("jobs = 3", "jbos = 3"), r"'work\.jbos' \(did you mean 'jobs'\?\)"),
        (("[work]", "[wrok]"), r"unknown key 'wrok' \(did you mean 'work'\?\)"),
        (("jobs = 3", "jobs = -1"), r"'work\.jobs' is -1; expected a whole number from 0 to 1024"),
        (("jobs = 3", "jobs = true"), r"'work\.jobs' is True; expected a whole number"),
        (("retries = 2", 'retries = "2"'), r"'work\.retries' is '2'; expected a whole number"),
        (('name = "Pathology"', "name = 3"), r"'name' is 3; expected a text"),
        (('name = "Pathology"', 'name = " "'), r"'name' is ' '; expected a text"),
        (("version = 1", "version = 2"), r"'version' is 2; this release knows 1.*Upgrade"),
        (("sqlite:///catalog.db", "catalog.db"), r"'catalog\.url' is 'catalog\.db'; expected a URL"),
        (("sqlite:///catalog.db", "sqlite:///:memory:"), r"'catalog\.url'.*name of a file"),
        (('url = "tiers/hot"', ""), r"'tiers\.hot\.url' is missing.*\[tiers\.hot\]"),
        (("0123456789abcdef", "x"), r"'tiers\.hot\.id' is 'x'; expected the id"),
        (("[tiers.hot]", "[tiers.HOT]"), r"'tiers\.HOT'.*expected a tier's name"),
        (('url = "tiers/hot"', 'url = "t"\npreset = "kep"'), r"'tiers\.hot\.preset' is 'kep'.*did you mean 'keep'"),
        (("[tiers.hot]", "[tiers]"), r"'tiers\.id'.*expected a table, written as \[tiers\.id\]"),
        (('url = "tiers/hot"', 'url = "a\\u0000"'), r"'tiers\.hot\.url'.*NUL"),
        (("jobs = 3", "jobs = "), r"is no valid TOML.*line 6"),
    ],
)
def test_mistakes_are_named_with_file_and_key(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    site(tmp_path, GOOD.replace(*change))
    with pytest.raises(SiteError, match=said) as caught:
        load(tmp_path)
    assert caught.value.kind is Kind.SETTINGS_INVALID
    assert str(tmp_path / "wsistore.toml") in caught.value.message


def test_no_tier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"'tiers' is \{\}; expected at least one"):
        load(site(tmp_path, "version = 1"))


@pytest.mark.parametrize("key", ["id", "url"])
def test_two_tiers_are_two_places(tmp_path: Path, key: str) -> None:
    other = {"id": "fedcba9876543210", "url": "tiers/other"} | {
        key: {"id": "0123456789abcdef", "url": "tiers/../tiers/hot"}[key]
    }
    text = GOOD + f'[tiers.other]\nid = "{other["id"]}"\nurl = "{other["url"]}"\n'
    with pytest.raises(SiteError, match=rf"'tiers\.other\.{key}'.*another value than that of tier 'hot'"):
        load(site(tmp_path, text))


def test_unreadable_settings_are_an_error_of_the_site(tmp_path: Path) -> None:
    (tmp_path / "wsistore.toml").mkdir()
    with pytest.raises(SiteError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(SiteError, match=r"has no wsistore\.toml") as caught:
        load(tmp_path / "nowhere")
    assert caught.value.kind is Kind.SITE_MISSING


def test_unknown_tier_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"no tier 'hto' \(did you mean 'hot'\?\).*hot, warm, cold") as caught:
        write_new(tmp_path).tier("hto")
    assert caught.value.kind is Kind.TIER_UNKNOWN


# --- finding ----------------------------------------------------------------------------------------------------------


def test_explicit_comes_before_environment_before_current_folder(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    for folder in (a, b, c):
        write_new(folder)
    (c / "deep" / "er").mkdir(parents=True)
    environment = {"WSISTORE_HOME": str(b)}
    assert find_site(a, environment, start=c) == a
    assert find_site(None, environment, start=c) == b
    assert find_site(None, {"WSISTORE_HOME": ""}, start=c / "deep" / "er") == c


def test_current_folder_is_where_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_new(tmp_path)
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    assert find_site(None, {}) == tmp_path
    assert find_site(Path(".."), {}) == tmp_path


def test_named_folder_that_is_no_site_is_not_replaced_by_another(tmp_path: Path) -> None:
    write_new(tmp_path)
    (tmp_path / "x").mkdir()
    for explicit, environment in ((tmp_path / "x", {}), (None, {"WSISTORE_HOME": str(tmp_path / "x")})):
        with pytest.raises(SiteError, match=f"{tmp_path / 'x'}.* is no site") as caught:
            find_site(explicit, environment, start=tmp_path)
        assert caught.value.kind is Kind.SITE_MISSING
        assert f"wsistore init {tmp_path / 'x'}" in caught.value.remedy


def test_no_site_anywhere(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="nor a folder above") as caught:
        find_site(None, {}, start=tmp_path)
    assert caught.value.kind is Kind.SITE_MISSING
    assert "wsistore init DIR" in caught.value.remedy


def test_deleted_current_folder_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SiteError, match="No site was found"):
        find_site(None, {})


def test_home_directory_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_new(tmp_path / "s", tiers={"hot": "~/keep"})
    assert find_site(Path("~/s"), os.environ) == tmp_path / "s"
    assert load(tmp_path / "s").tiers[0].path == tmp_path / "keep"
