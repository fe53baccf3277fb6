"""Tiers in buckets of a real S3 server: added, checked, used, by settings alone."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3_kit import S3Bucket, S3Server
from tests.site_kit import Json, cli, tiny_svs
from wsistore import ops
from wsistore.errors import SiteError
from wsistore.ops.workers import tier_ref
from wsistore.storage.base import MARKER_KEY


@pytest.fixture
def site(tmp_path: Path) -> Path:
    ops.init_site(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture(params=["plain", "versions", "lock"])
def bucket(request: pytest.FixtureRequest, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
    kind = request.param
    with (
        s3_server.bucket(versions=kind == "versions", lock=kind == "lock") as bucket,
        s3_server.credentials(monkeypatch),
    ):
        yield bucket


def add(site: Path, bucket: S3Bucket, *more: object) -> None:
    done = cli(
        site, "tier", "add", "far", f"{bucket.url}/slides", "--endpoint", bucket.server.endpoint, "--allow-http",
        "--region", "default", *more,
    )  # fmt: skip
    assert done.code == 0, done.err


def by_check(lines: list[Json]) -> dict[str, Json]:
    return {line["check"]: line for line in lines}


def test_bucket_is_added_checked_and_left_clean(site: Path, bucket: S3Bucket) -> None:
    add(site, bucket)
    assert bucket.keys() == {f"slides/{MARKER_KEY}"}
    done = cli(site, "tier", "check", "far", "--size", "20 MiB", "--json")
    rows = by_check(done.lines)
    assert done.code == 0, rows
    assert {row["result"] for row in rows.values() if row["needed"]} == {"ok"}
    assert rows["conditional-write"]["values"] == {"winners": 1, "writers": 16}
    assert rows["large"]["values"]["bytes"] == 20 * 1024 * 1024
    assert rows["clock"]["values"]["skew_seconds"] == pytest.approx(0, abs=60)
    assert rows["clean"]["result"] == "ok"
    assert bucket.keys() == {f"slides/{MARKER_KEY}"}
    assert bucket.uploads() == []
    pages = bucket.client.get_paginator("list_object_versions").paginate(Bucket=bucket.name)
    assert [mark for page in pages for mark in page.get("DeleteMarkers", ())] == []


def test_locked_objects_stay_when_lock_is_tried(
    site: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server.bucket(lock=True) as bucket, s3_server.credentials(monkeypatch):
        add(site, bucket, "--lock-mode", "governance", "--lock-days", "1")
        before = bucket.keys()
        rows = by_check(cli(site, "tier", "check", "far", "--size", "1 MiB", "--json").lines)
        assert rows["lock"]["result"] == "skipped"
        assert bucket.keys() == before
        done = cli(site, "tier", "check", "far", "--size", "1 MiB", "--lock", "--json")
        rows = by_check(done.lines)
        assert (done.code, rows["lock"]["result"], rows["clean"]["result"]) == (0, "ok", "ok"), rows
        assert bucket.keys() - before == {f"slides/{rows['lock']['values']['key']}"}


def test_lock_on_a_bucket_without_it_is_told(site: Path, s3_bucket: S3Bucket) -> None:
    add(site, s3_bucket)
    text = (site / "wsistore.toml").read_text("utf-8")
    (site / "wsistore.toml").write_text(text + 'object_lock = {mode = "governance", days = 1}\n', "utf-8")
    rows = by_check(cli(site, "tier", "check", "far", "--size", "1 MiB", "--json").lines)
    assert rows["lock"]["result"] == "failed"
    assert "without Object Lock" in rows["lock"]["figure"]


def test_bucket_that_locks_by_itself_is_not_filled(
    site: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server.bucket(lock=True) as bucket, s3_server.credentials(monkeypatch):
        add(site, bucket)
        rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        bucket.client.put_object_lock_configuration(Bucket=bucket.name, ObjectLockConfiguration=configuration)
        before = bucket.keys()
        done = cli(site, "tier", "check", "far", "--json")
        assert done.code == 6
        assert (
            by_check(done.lines)["write"]["figure"] == "the bucket locks whatever is written to it (GOVERNANCE 1 days)"
        )
        assert bucket.keys() == before


def test_keys_come_from_a_file_that_only_its_owner_reads(site: Path, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    server, keys = s3_bucket.server, tmp_path / "keys"
    keys.write_text(f"[default]\naws_access_key_id={server.access_key}\naws_secret_access_key={server.secret_key}\n")
    keys.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        add(site, s3_bucket, "--key-file", keys)
        assert server.secret_key not in (site / "wsistore.toml").read_text("utf-8")
        with ops.open_site(site) as opened:
            opened.tier("far").put("a", b"x")
        keys.chmod(0o640)
        with ops.open_site(site) as opened, pytest.raises(SiteError, match="0640"):
            opened.tier("far")


def test_wrong_keys_and_no_bucket_are_told(site: Path, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ("--endpoint", s3_bucket.server.endpoint, "--allow-http", "--region", "default")
    before = (site / "wsistore.toml").read_bytes()
    done = cli(site, "tier", "add", "x", "s3://there-is-no-such-bucket", *where, "--json")
    assert done.code == 6
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    done = cli(site, "tier", "add", "x", s3_bucket.url, *where, "--json")
    assert done.error["kind"] == "storage-denied"
    assert (site / "wsistore.toml").read_bytes() == before
    assert s3_bucket.keys() == set()


def test_place_of_another_site_is_refused(site: Path, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    add(site, s3_bucket)
    ops.init_site(tmp_path / "other")
    where = ("--endpoint", s3_bucket.server.endpoint, "--allow-http", "--region", "default")
    done = cli(tmp_path / "other", "tier", "add", "mine", f"{s3_bucket.url}/slides", *where, "--json")
    assert done.error["kind"] == "target-exists"
    assert "is the tier 'far'" in done.error["message"]


def test_slides_go_into_a_bucket_and_workers_reach_it(site: Path, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    add(site, s3_bucket, "--bandwidth-up", "50 MB/s", "--bandwidth-down", "50 MB/s", "--capacity", "1 TB")
    assert cli(site, "ingest", tiny_svs(tmp_path / "a.svs"), "--tier", "far").code == 0
    assert cli(site, "verify", "a.svs").code == 0
    assert cli(site, "restore", "a.svs", "--to", tmp_path / "back").code == 0
    assert (tmp_path / "back/a.svs").read_bytes() == (tmp_path / "a.svs").read_bytes()
    listed = {line["tier"]: line for line in cli(site, "tier", "ls", "--json").lines}
    assert (listed["far"]["copies"], listed["hot"]["copies"]) == (1, 0)
    assert listed["far"]["fill"] == pytest.approx(listed["far"]["bytes_stored"] / 1e12)
    with ops.open_site(site) as opened:
        reference = pickle.loads(pickle.dumps(tier_ref(opened, "far")))
    assert s3_bucket.server.secret_key.encode() not in pickle.dumps(reference)
    assert [info.key for info in reference().list("commits/")]
