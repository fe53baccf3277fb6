"""A site's settings: what is written is read, what is wrong is said with file and key."""

from __future__ import annotations

import os
import pickle
import tomllib
from datetime import date, timedelta
from pathlib import Path

import pytest

from wsistore.errors import ConflictError, Kind, SiteError
from wsistore.model import Preset
from wsistore.settings import (
    Certificate,
    CertificateState,
    Encryption,
    ObjectLock,
    Settings,
    TierSettings,
    find_site,
    load,
    with_tier,
    write_new,
)
from wsistore.storage.s3_options import S3Options

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


BUCKET = """\
version = 1
required_copies = 2
[tiers.hot]
id = "0123456789abcdef"
url = "tiers/hot"
[tiers.far]
id = "fedcba9876543210"
url = "s3://slides/far"
endpoint = "https://s3.example.org:8443"
region = "eu-west-3"
profile = "slides"
key_file = "keys/far"
path_style = false
ca_bundle = "/etc/ssl/own.pem"
storage_class = "STANDARD_IA"
encryption = {method = "aws:kms", key = "alias/slides"}
object_lock = {mode = "governance", days = 30}
preset = "pack"
prices = "aws-s3-ia"
energy = "energy/own.toml"
required_copies = 3
minimum_storage_days = 30
scrub_days = 90
capacity = "40 TB"
high_watermark = "90 %"
low_watermark = "70.5 %"
location = "FR"
hds_certificate = {number = "HDS-1", valid_until = 2027-05-31}
closed = "is replaced"
bandwidth_up = "200 MB/s"
bandwidth_down = "1 Gbit/s"
"""


def test_all_values_of_a_tier_are_read(tmp_path: Path) -> None:
    tier = load(site(tmp_path, BUCKET)).tier("far")
    assert tier == TierSettings(
        name="far",
        id="fedcba9876543210",
        url="s3://slides/far",
        endpoint="https://s3.example.org:8443",
        region="eu-west-3",
        profile="slides",
        key_file=str(tmp_path / "keys/far"),
        path_style=False,
        ca_bundle="/etc/ssl/own.pem",
        storage_class="STANDARD_IA",
        encryption=Encryption("aws:kms", "alias/slides"),
        object_lock=ObjectLock("governance", 30),
        preset=Preset.PACK,
        prices="aws-s3-ia",
        energy=str(tmp_path / "energy/own.toml"),
        required_copies=3,
        minimum_storage_days=30,
        scrub_days=90,
        capacity_bytes=40 * 10**12,
        high_watermark=0.9,
        low_watermark=0.705,
        location="FR",
        certificate=Certificate("HDS-1", date(2027, 5, 31)),
        closed="is replaced",
        bandwidth_up=200_000_000,
        bandwidth_down=125_000_000,
    )
    assert pickle.loads(pickle.dumps(tier)) == tier
    assert hash(tier)


def test_options_are_those_that_the_back_end_takes(tmp_path: Path) -> None:
    settings = load(site(tmp_path, BUCKET))
    options = S3Options.of("s3://slides/far", settings.tier("far").storage_options)
    assert options == S3Options(
        bucket="slides",
        prefix="far",
        endpoint="https://s3.example.org:8443",
        region="eu-west-3",
        path_style=False,
        profile="slides",
        credentials_file=str(tmp_path / "keys/far"),
        ca_bundle="/etc/ssl/own.pem",
        encryption="aws:kms",
        kms_key="alias/slides",
        storage_class="STANDARD_IA",
        lock_mode="governance",
        lock_days=30,
    )
    assert settings.tier("hot").storage_options == {}


def test_what_a_tier_leaves_out_is_the_sites_or_the_default(tmp_path: Path) -> None:
    tier = load(site(tmp_path, BUCKET)).tier("hot")
    assert tier.required_copies == 2
    assert tier == TierSettings(
        name="hot", id="0123456789abcdef", url=f"file://{tmp_path}/tiers/hot", required_copies=2
    )
    assert load(site(tmp_path)).tier("hot").required_copies == 1


def test_other_back_ends_take_options(tmp_path: Path) -> None:
    text = GOOD.replace('"tiers/hot"', '"sftp://host/x"\n[tiers.hot.options]\nport = 2222\nusername = "slides"')
    assert load(site(tmp_path, text)).tier("hot").storage_options == {"port": 2222, "username": "slides"}


def test_two_services_may_have_buckets_of_one_name(tmp_path: Path) -> None:
    here = '[tiers.{0}]\nid = "01234567{0}"\nurl = "s3://slides"\nendpoint = "https://{1}"\n'
    two = here.format("a", "one.example.org") + here.format("b", "other.example.org")
    assert len(load(site(tmp_path, two)).tiers) == 2
    with pytest.raises(SiteError, match=r"'tiers\.b\.url'.*another value than that of tier 'a'"):
        load(site(tmp_path, two.replace("other.", "one.")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("endpoint =", "endpiont ="), r"'tiers\.far\.endpiont' \(did you mean 'endpoint'\?\)"),
        (("https://s3.example.org:8443", "http://s3"), r"'tiers\.far\.endpoint'.*allow_http = true"),
        (("https://s3.example.org:8443", "s3.example.org"), r"'tiers\.far\.endpoint'.*a service's URL"),
        (("https://s3.example.org:8443", "https://me:pa55@s3"), r"'tiers\.far\.endpoint'.*without bucket, path and cr"),
        (("https://s3.example.org:8443", "https://s3:99999"), r"'tiers\.far\.endpoint'.*a service's URL"),
        (("https://s3.example.org:8443", "https://s3/bucket"), r"'tiers\.far\.endpoint'.*without bucket"),
        (('"eu-west-3"', '"eu west"'), r"'tiers\.far\.region' is 'eu west'; expected a region"),
        (('"slides"', "3"), r"'tiers\.far\.profile' is 3; expected a text"),
        (('"keys/far"', '""'), r"'tiers\.far\.key_file' is ''; expected a text"),
        (("path_style = false", 'path_style = "no"'), r"'tiers\.far\.path_style' is 'no'; expected true or false"),
        (("path_style = false", "allow_http = 1"), r"'tiers\.far\.allow_http' is 1; expected true or false"),
        (('"/etc/ssl/own.pem"', "true"), r"'tiers\.far\.ca_bundle' is True; expected a text"),
        (("STANDARD_IA", "ia"), r"'tiers\.far\.storage_class' is 'ia'; expected a class"),
        (("aws:kms", "aes"), r"'tiers\.far\.encryption\.method' is 'aes'; expected one of: none, AES256, aws:kms"),
        (
            ('{method = "aws:kms", key = "alias/slides"}', '"AES-256"'),
            r"'tiers\.far\.encryption'.*did you mean 'AES256'",
        ),
        (("aws:kms", "AES256"), r"'tiers\.far\.encryption\.key' is 'alias/slides'; expected no key"),
        (('key = "alias', 'kee = "alias'), r"'tiers\.far\.encryption\.kee' \(did you mean 'key'\?\)"),
        (('{method = "aws:kms", key = "alias/slides"}', "3"), r"'tiers\.far\.encryption' is 3; expected a table"),
        (('mode = "governance", ', ""), r"'tiers\.far\.object_lock\.mode' is missing"),
        (("governance", "legal"), r"'tiers\.far\.object_lock\.mode' is 'legal'; expected one of"),
        (("days = 30}", "days = 0}"), r"'tiers\.far\.object_lock\.days' is 0; expected a whole number from 1"),
        (
            ("required_copies = 3", "required_copies = 0"),
            r"'tiers\.far\.required_copies' is 0; .* from 1 to 16",
        ),
        (("scrub_days = 90", "scrub_days = 0"), r"'tiers\.far\.scrub_days' is 0; expected .* from 1 to 3650"),
        (("required_copies = 2", "required_copies = 17"), r"key 'required_copies' is 17; expected .* from 1 to 16"),
        (("days = 30\n", "days = -1\n"), r"'tiers\.far\.minimum_storage_days' is -1"),
        (('"40 TB"', '"40 T-B"'), r"'tiers\.far\.capacity' is '40 T-B'; expected a size such as '40 TB'"),
        (('"40 TB"', "40"), r"'tiers\.far\.capacity' is 40; expected a size"),
        (('"40 TB"', '"0 TB"'), r"'tiers\.far\.capacity' is '0 TB'; expected a size"),
        (('"90 %"', '"190 %"'), r"'tiers\.far\.high_watermark' is '190 %'; expected a percentage"),
        (('"90 %"', "0.9"), r"'tiers\.far\.high_watermark' is 0\.9; expected a percentage"),
        (('"70.5 %"', '"90 %"'), r"'tiers\.far\.low_watermark' is '90 %'; expected less than high_watermark"),
        (('"FR"', "33"), r"'tiers\.far\.location' is 33; expected a text"),
        (('number = "HDS-1", ', ""), r"'tiers\.far\.hds_certificate\.number' is missing"),
        (("2027-05-31", '"soon"'), r"'tiers\.far\.hds_certificate\.valid_until' is 'soon'; expected a day"),
        (("2027-05-31", '"2027-02-30"'), r"'tiers\.far\.hds_certificate\.valid_until' is '2027-02-30'"),
        (("2027-05-31", "2027-05-31T00:00:00"), r"'tiers\.far\.hds_certificate\.valid_until'.*expected a day"),
        ((", valid_until = 2027-05-31", ""), r"'tiers\.far\.hds_certificate\.valid_until' is missing"),
        (('"200 MB/s"', '"200 MB"'), r"'tiers\.far\.bandwidth_up' is '200 MB'; expected a rate"),
        (('"1 Gbit/s"', '"fast"'), r"'tiers\.far\.bandwidth_down' is 'fast'; expected a rate"),
        (('"aws-s3-ia"', "1"), r"'tiers\.far\.prices' is 1; expected a text"),
        (('"energy/own.toml"', "1"), r"'tiers\.far\.energy' is 1; expected a text"),
        (("s3://slides/far", "sftp://host/x"), r"'tiers\.far\.endpoint'.*for tiers whose url is s3://"),
        (("s3://slides/far", "s3://KEY:pa55@slides"), r"'tiers\.far\.url' is 's3://…@slides'; expected a URL without"),
        (('"s3://slides/far"', '"s3://slides/far"\noptions = {a = 1}'), r"'tiers\.far\.options'.*takes none"),
        (
            ('"tiers/hot"', '"sftp://h/x"\noptions = {password = "pa55"}'),
            r"'tiers\.hot\.options\.password' is '…'; expected no secret",
        ),
        (
            ('"tiers/hot"', '"sftp://h/x"\noptions = {port = [1]}'),
            r"'tiers\.hot\.options\.port' is \[1\]; expected a text, a number",
        ),
        (('"tiers/hot"', '"sftp://h/x"\noptions = 3'), r"'tiers\.hot\.options' is 3; expected a table"),
    ],
)
def test_mistakes_in_a_tier_are_named_with_table_and_key(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in BUCKET
    site(tmp_path, BUCKET.replace(*change, 1))
    with pytest.raises(SiteError, match=said) as caught:
        load(tmp_path)
    assert caught.value.kind is Kind.SETTINGS_INVALID
    assert "pa55" not in str(caught.value)


def test_certificate_and_who_may_still_be_given_data(tmp_path: Path) -> None:
    settings = load(site(tmp_path, BUCKET.replace('closed = "is replaced"', "")))
    tier = settings.tier("far")
    for day, state in (
        (date(2027, 1, 1), CertificateState.VALID),
        (date(2027, 3, 2), CertificateState.VALID),
        (date(2027, 3, 3), CertificateState.EXPIRES_SOON),
        (date(2027, 5, 31), CertificateState.EXPIRES_SOON),
        (date(2027, 6, 1), CertificateState.EXPIRED),
    ):
        assert tier.certificate_state(day) is state
        assert bool(tier.why_closed(day)) == (state is CertificateState.EXPIRED)
    assert "HDS-1 of the tier 'far' was valid until 2027-05-31" in tier.why_closed(date(2028, 1, 1))
    assert settings.tier("hot").certificate_state(date(2028, 1, 1)) is CertificateState.NONE
    assert settings.tier("hot").why_closed(date(2028, 1, 1)) == ""


def test_tier_that_people_closed(tmp_path: Path) -> None:
    tier = load(site(tmp_path, BUCKET)).tier("far")
    assert tier.why_closed(date(2026, 1, 1)) == "The tier 'far' is closed: is replaced."
    with pytest.raises(SiteError, match=r"'tiers\.far\.closed' is True; expected a text"):
        load(site(tmp_path, BUCKET.replace('"is replaced"', "true")))


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_age_of_evidence_is_the_default_or_what_is_told(tmp_path: Path) -> None:
    plain = load(site(tmp_path)).evidence
    assert (plain.begin, plain.begun) == (timedelta(days=1), timedelta(days=90))
    told = load(site(tmp_path, GOOD + "[evidence]\nbegin_hours = 36\nbegun_days = 2\n")).evidence
    assert (told.begin, told.begun) == (timedelta(hours=36), timedelta(days=2))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("begin_hours = 0", r"'evidence\.begin_hours' is 0; expected a whole number from 1 to 720"),
        ("begin_hours = 721", r"'evidence\.begin_hours' is 721; expected"),
        ('begin_hours = "1 day"', r"'evidence\.begin_hours' is '1 day'; expected a whole number"),
        ("begun_days = 0", r"'evidence\.begun_days' is 0; expected a whole number from 1 to 3650"),
        ("begin_hours = 49\nbegun_days = 2", r"'evidence\.begun_days' is 2; expected no less than begin_hours, .* 49"),
        ("begin_hour = 3", r"unknown key 'evidence\.begin_hour' \(did you mean 'begin_hours'\?\)"),
    ],
)
def test_mistakes_in_the_age_of_evidence_are_named(tmp_path: Path, lines: str, said: str) -> None:
    with pytest.raises(SiteError, match=said):
        load(site(tmp_path, f"{GOOD}[evidence]\n{lines}\n"))


# --- adding a tier ----------------------------------------------------------------------------------------------------

COMMENTED = GOOD.replace("[work]", "# as the team decided\n[work]  # here") + "# the end, without a newline"


def test_adding_a_tier_keeps_every_byte_that_is_there(tmp_path: Path) -> None:
    site(tmp_path, COMMENTED)
    values = {
        "id": "fedcba9876543210",
        "url": 's3://b/"x',
        "path_style": False,
        "object_lock": {"mode": "compliance", "days": 3},
    }
    change = with_tier(tmp_path, "far", values)
    assert (tmp_path / "wsistore.toml").read_text("utf-8") == COMMENTED
    change.write()
    text = (tmp_path / "wsistore.toml").read_text("utf-8")
    assert text == COMMENTED + "\n\n" + change.added
    assert text.startswith(COMMENTED)
    assert load(tmp_path) == change.settings
    assert load(tmp_path).tier("far").object_lock == ObjectLock("compliance", 3)
    assert [tier.name for tier in change.settings.tiers] == ["hot", "far"]
    assert [path.name for path in tmp_path.iterdir()] == ["wsistore.toml"]
    change.undo()
    assert (tmp_path / "wsistore.toml").read_text("utf-8") == COMMENTED


def test_adding_a_tier_keeps_the_mode_of_the_file(tmp_path: Path) -> None:
    site(tmp_path, COMMENTED)
    (tmp_path / "wsistore.toml").chmod(0o640)
    with_tier(tmp_path, "far", {"id": "fedcba9876543210", "url": "x"}).write()
    assert (tmp_path / "wsistore.toml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("hot", {"url": "x"}, "there is a tier 'hot' already"),
        ("Far", {"url": "x"}, "expected a tier's name"),
        ("far", {"url": "tiers/hot"}, "another value than that of tier 'hot'"),
        ("far", {"url": "x", "capacity": "much"}, r"'tiers\.far\.capacity' is 'much'"),
        ("far", {"url": "x", "no": 1}, r"unknown key 'tiers\.far\.no'"),
    ],
)
def test_tier_that_may_not_be_added_changes_nothing(tmp_path: Path, name: str, values: dict, said: str) -> None:
    site(tmp_path, COMMENTED)
    with pytest.raises(SiteError, match=said):
        with_tier(tmp_path, name, {"id": "fedcba9876543210", **values})
    assert (tmp_path / "wsistore.toml").read_text("utf-8") == COMMENTED


def test_what_somebody_else_changed_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    site(tmp_path, COMMENTED)
    one = with_tier(tmp_path, "one", {"id": "fedcba9876543210", "url": "one"})
    other = with_tier(tmp_path, "other", {"id": "fedcba9876543211", "url": "other"})
    one.write()
    with pytest.raises(ConflictError, match="changed by somebody else"):
        other.write()
    assert [tier.name for tier in load(tmp_path).tiers] == ["hot", "one"]


def test_file_with_tiers_on_one_line_is_refused_with_the_reason(tmp_path: Path) -> None:
    site(tmp_path, 'tiers = {hot = {id = "0123456789", url = "x"}}')
    with pytest.raises(SiteError, match=r"cannot be added by lines.*\[tiers\.NAME\]"):
        with_tier(tmp_path, "far", {"id": "fedcba9876543210", "url": "y"})


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
