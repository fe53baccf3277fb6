"""Encrypted companions in buckets of a real S3 server, with versions and with Object Lock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.keys_kit import encrypting
from tests.s3_kit import S3Server
from tests.site_kit import cli, tiny_svs
from wsistore.storage.sealing import MAGIC


def test_destroyed_keys_leave_no_version(tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    site = encrypting(tmp_path / "site", [])
    source = tiny_svs(tmp_path / "a.svs")
    with s3_server.bucket(versions=True) as bucket, s3_server.credentials(monkeypatch):
        where = ("--endpoint", bucket.server.endpoint, "--allow-http", "--region", "default", "--encrypt-companions")
        assert cli(site, "tier", "add", "far", f"{bucket.url}/slides", *where).code == 0
        assert cli(site, "ingest", source, "--tier", "far").code == 0
        assert cli(site, "verify", "a.svs").code == 0
        private = [key for key in sorted(bucket.keys()) if key.startswith("slides/private/")]
        assert private
        assert all(bucket.get(key).startswith(MAGIC) for key in private)
        assert cli(site, "keys", "rotate").code == 0
        assert cli(site, "keys", "check").code == 0
        assert cli(site, "restore", "a.svs", "--to", tmp_path / "back").code == 0
        assert (tmp_path / "back/a.svs").read_bytes() == source.read_bytes()
        assert cli(site, "keys", "destroy", "a.svs", "--yes").code == 0
        pages = bucket.client.get_paginator("list_object_versions").paginate(
            Bucket=bucket.name, Prefix="slides/keyring/"
        )
        left = [found for page in pages for found in page.get("Versions", ()) if "/ledger/" not in found["Key"]]
        assert len(left) == 1
        data = bucket.client.get_object(Bucket=bucket.name, Key=left[0]["Key"], VersionId=left[0]["VersionId"])
        assert set(json.loads(data["Body"].read())) == {"format", "slide", "attempt", "destroyed"}
        assert cli(site, "restore", "a.svs", "--to", tmp_path / "again", "--json").error["kind"] == "key-destroyed"


def test_data_keys_are_not_locked(tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    site = encrypting(tmp_path / "site", [])
    with s3_server.bucket(lock=True) as bucket, s3_server.credentials(monkeypatch):
        where = ("--endpoint", bucket.server.endpoint, "--allow-http", "--region", "default", "--encrypt-companions")
        lock = ("--lock-mode", "governance", "--lock-days", "1")
        assert cli(site, "tier", "add", "far", f"{bucket.url}/slides", *where, *lock).code == 0
        assert cli(site, "ingest", tiny_svs(tmp_path / "a.svs"), "--tier", "far").code == 0
        assert cli(site, "keys", "destroy", "a.svs", "--yes").code == 0
        assert cli(site, "restore", "a.svs", "--to", tmp_path / "back", "--json").error["kind"] == "key-destroyed"
        assert any(key.startswith("slides/private/") for key in sorted(bucket.keys())), (
            "the locked objects stay, unreadable"
        )
