"""The table [approvals] of wsistore.toml."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from wsistore.errors import SiteError
from wsistore.settings import ApprovalSettings, OidcSettings, load, write_new


def settings(folder: Path, text: str) -> ApprovalSettings:
    write_new(folder)
    with (folder / "wsistore.toml").open("a", encoding="utf-8") as file:
        file.write(text)
    return load(folder).approvals


def test_the_defaults_are_safe(tmp_path: Path) -> None:
    found = settings(tmp_path / "a", "")
    assert found == ApprovalSettings() == settings(tmp_path / "b", "\n[approvals]\n")
    assert found.free_moves_bytes == 10**12
    assert len(found.deletions) == 2
    assert found.visas == ("director", "dim-physician", "departmental-archives")
    assert found.oidc is None


def test_what_a_site_says(tmp_path: Path) -> None:
    text = """
[approvals]
free_moves = "0 B"
moves = []
deletions = ["a", "a", "b-2"]
visas = []
valid_days = 7
roster = "{}"
[approvals.oidc]
issuer = "https://id.hospital.example"
audience = "wsistore"
jwks = "keys/jwks.json"
"""
    root = "5f" * 32
    assert settings(tmp_path, text.format(root)) == ApprovalSettings(
        free_moves_bytes=0,
        moves=(),
        deletions=("a", "a", "b-2"),
        visas=(),
        valid=timedelta(days=7),
        roster=root,
        oidc=OidcSettings("https://id.hospital.example", "wsistore", str(tmp_path / "keys/jwks.json")),
    )


@pytest.mark.parametrize("place", ["https://id.example/jwks", "http://127.0.0.1:8080/jwks", "http://localhost/jwks"])
def test_where_an_identity_providers_keys_may_come_from(tmp_path: Path, place: str) -> None:
    found = settings(tmp_path, f'\n[approvals.oidc]\nissuer = "i"\naudience = "a"\njwks = "{place}"\n')
    assert found.oidc is not None
    assert found.oidc.jwks == place


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("deletions = []", "2 or more"),
        ('deletions = ["approver"]', "2 or more"),
        ('deletions = "approver"', "a list"),
        ('deletions = ["Approver", "x"]', "small letters"),
        ('moves = ["a b"]', "small letters"),
        ("moves = [1]", "small letters"),
        ('visas = ["a", "a"]', "each once"),
        ('free_moves = "much"', "0 B"),
        ("free_moves = true", "a size"),
        ("valid_days = 0", "whole number"),
        ('roster = "x"', "64 hexadecimal"),
        ("deletion = []", "did you mean 'deletions'"),
        ('oidc = "x"', "a table"),
        ('[approvals.oidc]\nissuer = "x"\naudience = "a"', "jwks"),
        ('[approvals.oidc]\nissuer = ""\naudience = "a"\njwks = "x"', "issuer"),
        ('[approvals.oidc]\nissuer = "x"\naudience = "a"\njwks = "http://id.example/jwks"', "https://"),
        ('[approvals.oidc]\nissuer = "x"\naudience = "a"\njwks = "http://localhost.evil.example/"', "https://"),
        ('[approvals.oidc]\nissuer = "x"\naudience = "a"\njwks = "ftp://x/"', "https://"),
        ('[approvals.oidc]\nissuer = "x"\naudience = "a"\njwks = "x"\nsecret = "y"', "secret"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(SiteError, match=match) as caught:
        settings(tmp_path, f"\n[approvals]\n{text}\n")
    assert "wsistore.toml" in caught.value.message
