"""The tables [serve] and [serve.oidc]: what they say, and what is wrong with them."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from wsistore import settings as site_settings
from wsistore.errors import SiteError
from wsistore.settings import ServeOidcSettings, ServeSettings
from wsistore.settings.read_serve import _KEYS, _OIDC

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "research.md").read_text("utf-8")


def read(folder: Path, text: str) -> ServeSettings:
    site_settings.write_new(folder)
    file = folder / "wsistore.toml"
    file.write_text(f"{file.read_text('utf-8')}\n{text}", "utf-8")
    return site_settings.load(folder).serve


def test_a_site_that_says_nothing_serves_this_machine_only(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert found == ServeSettings()
    assert (found.address, found.presign, found.oidc, found.dates) == ("127.0.0.1", False, None, "shifted")


def test_the_example_of_the_docs_is_read_and_names_every_key(tmp_path: Path) -> None:
    match = re.search(r"```toml\n(.*?)```", DOCS, re.DOTALL)
    assert match
    found = read(tmp_path, match[1])
    assert found == ServeSettings(
        access_log=str(tmp_path / "access.jsonl"),
        bytes_per_second=200_000_000,
        cohort_refresh=timedelta(minutes=5),
        oidc=ServeOidcSettings(
            issuer="https://sso.hospital.example/realms/research",
            audience="wsistore",
            groups_claim="realm_access.roles",
            client_id="wsistore-notebooks",
        ),
    )
    written = set(re.findall(r"^(?:# )?(\w+) = ", match[1], re.MULTILINE))
    assert written == (set(_KEYS) - {"oidc"}) | set(_OIDC)


def test_everything_that_a_site_decides_is_read(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
[serve]
address = "::1"
port = 0
access_log = "/var/log/wsistore.jsonl"
requests_per_second = 0.5
concurrent = 1
presign = true
cohort_refresh_seconds = 0
dates = "year"
workers = 7
tell_stains = ["HES tumour board", "x"]
tell_diagnoses = []
[serve.oidc]
issuer = "hospital"
audience = "x"
jwks = "keys/jwks.json"
user_claim = "https://x.example/user"
""",
    )
    oidc = ServeOidcSettings("hospital", "x", str(tmp_path / "keys/jwks.json"), "https://x.example/user")
    assert found == ServeSettings(
        address="::1",
        port=0,
        access_log="/var/log/wsistore.jsonl",
        requests_per_second=0.5,
        concurrent=1,
        presign=True,
        cohort_refresh=timedelta(0),
        dates="year",
        told={"stain": frozenset({"HES tumour board", "x"}), "diagnoses": frozenset()},
        workers=7,
        oidc=oidc,
    )


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("adress = 'x'", "serve.adress"),
        ("address = 'a b'", "serve.address"),
        ("port = 70000", "serve.port"),
        ("port = true", "serve.port"),
        ("requests_per_second = 0", "serve.requests_per_second"),
        ("requests_per_second = true", "serve.requests_per_second"),
        ("bytes_per_second = '5 MB'", "serve.bytes_per_second"),
        ("concurrent = 0", "serve.concurrent"),
        ("presign = 'yes'", "serve.presign"),
        ("cohort_refresh_seconds = -1", "serve.cohort_refresh_seconds"),
        ("dates = 'exact'", "serve.dates"),
        ("access_log = 's3://x/y'", "serve.access_log"),
        ("tell_stains = 'HES'", "serve.tell_stains"),
        ("tell_organs = [1]", "serve.tell_organs"),
        (f"tell_organs = ['{'x' * 101}']", "serve.tell_organs"),
        ("tell_diagnoses = ['']", "serve.tell_diagnoses"),
        ("oidc = 1", "serve.oidc"),
        ("oidc = {audience = 'x'}", "serve.oidc.issuer"),
        ("oidc = {issuer = 'https://x.example'}", "serve.oidc.audience"),
        ("oidc = {issuer = 'http://x.example', audience = 'x'}", "serve.oidc.issuer"),
        ("oidc = {issuer = 'x', audience = 'x', jwks = 'http://x.example/keys'}", "serve.oidc.jwks"),
        ("oidc = {issuer = 'https://x.example', audience = 'x', user_claim = 'a..b'}", "serve.oidc.user_claim"),
        ("oidc = {issuer = 'https://x.example', audience = 'x', secret = 'y'}", "serve.oidc.secret"),
    ],
)
def test_mistakes_are_named_by_key(tmp_path: Path, line: str, key: str) -> None:
    with pytest.raises(SiteError, match=re.escape(repr(key))):
        read(tmp_path, f"[serve]\n{line}\n")
