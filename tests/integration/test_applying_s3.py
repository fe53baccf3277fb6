"""Deletion for good on a real bucket that keeps versions and locks: nothing is left, or it is said until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.elimination_kit import eliminated, kinds
from tests.s3_kit import S3Server
from tests.s3_move_kit import PREFIX, assert_not_lost, bucket_of, lying, with_bucket
from tests.site_kit import files_of, ingest, tiny_svs
from wsistore import ops


@pytest.mark.parametrize("kind", ["plain", "versions"])
def test_nothing_is_left_in_a_bucket(tmp_path: Path, s3_server: S3Server, kind: str) -> None:
    path = tiny_svs(tmp_path / "in" / "a.svs")
    with bucket_of(kind, s3_server) as bucket:
        folder = with_bucket(tmp_path / "site", bucket)
        with ops.open_site(folder) as site:
            slide = str(ingest(site, path)[0].slide)
            (done,) = ops.copy(site, [slide], "far", jobs=1)
            assert done.error is None, done.error
            assert any(slide in key for key in lying(bucket))
            (gone,) = eliminated(site, slide)
            assert (gone.status, gone.reason) == ("deleted", "")
            assert not any(slide in key for key in lying(bucket))


def test_what_a_bucket_locks_stays_whole(tmp_path: Path, s3_server: S3Server) -> None:
    path = tiny_svs(tmp_path / "in" / "a.svs")
    with bucket_of("lock", s3_server) as bucket:
        folder = with_bucket(tmp_path / "site", bucket)
        with ops.open_site(folder) as site:
            slide = str(ingest(site, path)[0].slide)
            (done,) = ops.copy(site, [slide], "far", jobs=1)
            assert done.error is None, done.error
            (copy,) = [one for one in site.catalog.copies(slide) if one.tier == "far"]
            key = next(info.key for info in site.tier("far").list(f"store/{slide}/{copy.attempt}/"))
            until = datetime.now(UTC) + timedelta(days=2)
            retention = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
            bucket.client.put_object_retention(Bucket=bucket.name, Key=PREFIX + key, Retention=retention)
            (kept,) = eliminated(site, slide)
            assert kept.status == "failed"
            assert f"until {until:%Y-%m-%d}" in kept.reason
            assert "deleting" not in kinds(site, slide)
            assert_not_lost(site, slide, files_of(path))
            hold = {"Status": "ON"}
            soon = datetime.now(UTC) + timedelta(seconds=5)
            free = {"Mode": "GOVERNANCE", "RetainUntilDate": soon}
            bucket.client.put_object_retention(
                Bucket=bucket.name, Key=PREFIX + key, Retention=free, BypassGovernanceRetention=True
            )
            bucket.client.put_object_legal_hold(Bucket=bucket.name, Key=PREFIX + key, LegalHold=hold)
            assert "legal hold" in eliminated(site, slide)[0].reason
            bucket.client.put_object_legal_hold(Bucket=bucket.name, Key=PREFIX + key, LegalHold={"Status": "OFF"})
            while datetime.now(UTC) < soon + timedelta(seconds=1):
                site.clock.sleep(0.1)
            (gone,) = eliminated(site, slide)
            assert (gone.status, gone.reason) == ("deleted", "")
            assert not any(slide in key for key in lying(bucket))
