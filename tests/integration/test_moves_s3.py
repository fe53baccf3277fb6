"""Slides go from a disk to a real S3 server and back: as they are, folded, packed, under versions and under locks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.move_kit import drop, move, moved, places
from tests.s3_kit import S3Bucket, S3Server
from tests.s3_move_kit import (
    KINDS,
    PREFIX,
    assert_not_lost,
    assert_settled,
    bucket_of,
    lying,
    patient_clock,
    raw_tiff,
    with_bucket,
)
from tests.site_kit import files_of, ingest, tiny_series, tiny_svs
from wsistore import ops
from wsistore.compress.keys import FILES
from wsistore.model import Preset
from wsistore.ops.orphans import GRACE, recover_all
from wsistore.storage.base import MARKER_KEY


@pytest.fixture(params=KINDS)
def bucket(request: pytest.FixtureRequest, s3_server: S3Server) -> Iterator[S3Bucket]:
    with bucket_of(request.param, s3_server) as made:
        yield made


@pytest.fixture
def versioned(s3_server: S3Server) -> Iterator[S3Bucket]:
    with bucket_of("versions", s3_server) as made:
        yield made


@pytest.fixture
def locked(s3_server: S3Server) -> Iterator[S3Bucket]:
    with bucket_of("lock", s3_server) as made:
        yield made


def test_there_and_back_and_nothing_is_left(bucket: S3Bucket, tmp_path: Path) -> None:
    paths = [raw_tiff(tmp_path / "a.tiff"), tiny_svs(tmp_path / "b.svs"), tiny_series(tmp_path / "c")]
    with ops.open_site(with_bucket(tmp_path / "site", bucket)) as site:
        keys = [str(result.slide) for result in ingest(site, *paths)]
        slides = dict(zip(keys, map(files_of, paths), strict=True))
        for result in ops.move(site, keys, "far"):
            assert (result.error, result.dropped) == (None, ("hot",))
        for slide, files in slides.items():
            assert places(site, slide) == {"far": "committed"}
            assert_not_lost(site, slide, files)
        assert not any(any((site.folder / "tiers" / "hot").glob(f"*/{slide}")) for slide in keys)
        for result in ops.move(site, keys, "hot"):
            assert (result.error, result.dropped) == (None, ("far",))
        for slide, files in slides.items():
            assert_settled(site, bucket, slide, files, "hot")
    assert lying(bucket) == {PREFIX + MARKER_KEY}


@pytest.mark.parametrize("bucket", ["plain", "lock"], indirect=True)
def test_copies_are_folded_and_packed_on_their_way_and_dropped(
    bucket: S3Bucket, tmp_path: Path, real_slides: Path
) -> None:
    path = real_slides / "aperio" / "CMU-1-Small-Region.svs"
    files = files_of(path)
    with ops.open_site(with_bucket(tmp_path / "site", bucket)) as site:
        slide = str(ingest(site, path)[0].slide)
        for preset in (Preset.FOLD, Preset.PACK):
            result = moved(site, slide, "far", preset=preset, keep_source=True)
            assert (result.status, result.preset) == ("copied", preset)
            assert 0.6 < (result.bytes_stored or 0) / (result.bytes_source or 1) < 0.85
            assert_settled(site, bucket, slide, files, "far", "hot")
        assert len(lying(bucket)) == 4  # the tier's marker, a commit, and two objects
        assert drop(site, slide, "hot").status == "dropped"
        assert_settled(site, bucket, slide, files, "far")
        moved(site, slide, "warm", preset=Preset.KEEP, keep_source=True)
        assert drop(site, slide, "far").status == "dropped"
        assert_settled(site, bucket, slide, files, "warm")
    assert lying(bucket) == {PREFIX + MARKER_KEY}


def test_what_was_hidden_by_an_older_program_is_found_and_deleted(versioned: S3Bucket, tmp_path: Path) -> None:
    path = tiny_svs(tmp_path / "a.svs")
    clock = patient_clock()
    with ops.open_site(with_bucket(tmp_path / "site", versioned), clock=clock) as site:
        slide = str(ingest(site, path)[0].slide)
        hidden = [f"{PREFIX}store/{slide}/{'0' * 20}/x", f"{PREFIX}private/{slide}/{'0' * 20}/x"]
        for key in hidden:
            versioned.put(key, b"bytes that are paid for")
            versioned.client.delete_object(Bucket=versioned.name, Key=key)
        assert recover_all(site).orphans == 0
        clock.advance(GRACE.total_seconds() + 3600)
        assert recover_all(site).orphans == 2
        assert lying(versioned) == {PREFIX + MARKER_KEY, *hidden}  # marks of another's deletions stay
        assert not versioned.keys() & set(hidden)
        assert places(site, slide) == {"hot": "committed"}


def test_objects_that_were_replaced_go_with_all_their_versions(versioned: S3Bucket, tmp_path: Path) -> None:
    path = tiny_svs(tmp_path / "a.svs")
    with ops.open_site(with_bucket(tmp_path / "site", versioned)) as site:
        slide = str(ingest(site, path)[0].slide)
        moved(site, slide, "far", keep_source=True)
        for key in sorted(versioned.keys()):  # as a service does that writes what was sent twice
            if slide in key:
                versioned.put(key, versioned.get(key))
        assert_settled(site, versioned, slide, files_of(path), "far", "hot")
        assert drop(site, slide, "far").status == "dropped"
        assert_settled(site, versioned, slide, files_of(path), "hot")


# --- Object Lock ------------------------------------------------------------------------------------------------------


def keep_until(bucket: S3Bucket, keys: set[str], until: datetime) -> None:
    """Lock objects of a tier, or shorten their locks."""
    for key in keys:
        retention = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
        bucket.client.put_object_retention(
            Bucket=bucket.name, Key=key, Retention=retention, BypassGovernanceRetention=True
        )


def test_lock_refuses_a_drop_which_stays_open_until_the_lock_ends(locked: S3Bucket, tmp_path: Path) -> None:
    path = tiny_svs(tmp_path / "a.svs")
    files, lock = files_of(path), {"mode": "governance", "days": 1}
    with ops.open_site(with_bucket(tmp_path / "site", locked, object_lock=lock)) as site:
        slide = str(ingest(site, path)[0].slide)
        moved(site, slide, "far")
        before = lying(locked)
        result = move(site, slide, "hot")
        assert (result.status, result.error) == ("dropping", None)
        assert locked.name in result.reason
        assert "Object Lock" in result.reason
        assert lying(locked) == before
        assert {copy.tier: copy.state for copy in site.catalog.copies(slide)} == {"hot": "committed"}
        assert_not_lost(site, slide, files)
        assert drop(site, slide, "hot").error is not None, "a copy that is being dropped counts for nothing"
        assert recover_all(site).failed == 1
        assert [copy.tier for copy in site.catalog.open_drops()] == ["far"]
        _lock_ends(locked, {key for key in before if slide in key})
        assert recover_all(site).failed == 0
        assert_settled(site, locked, slide, files, "hot")


def _lock_ends(bucket: S3Bucket, keys: set[str]) -> None:
    """Let locks end, and wait until they have."""
    end = datetime.now(UTC) + timedelta(seconds=5)
    keep_until(bucket, keys, end)
    while datetime.now(UTC) < end + timedelta(seconds=1):
        time.sleep(0.1)


def test_part_of_a_copy_that_is_locked_keeps_the_drop_open(locked: S3Bucket, tmp_path: Path) -> None:
    path = tiny_svs(tmp_path / "a.svs")
    with ops.open_site(with_bucket(tmp_path / "site", locked)) as site:
        slide = str(ingest(site, path)[0].slide)
        moved(site, slide, "far", keep_source=True)
        (kept,) = [key for key in lying(locked) if key.endswith(f"/{FILES}")]
        keep_until(locked, {kept}, datetime.now(UTC) + timedelta(days=1))
        result = drop(site, slide, "far")
        assert result.status == "dropping"
        assert kept in lying(locked)
        assert not any("/commits/" in key for key in lying(locked))
        assert "Object Lock" in result.reason
        _lock_ends(locked, {kept})
        assert ops.recover(site).failed == 0
        assert_settled(site, locked, slide, files_of(path), "hot")


# --- uploads that never ended -----------------------------------------------------------------------------------------


def test_abandoned_uploads_are_thrown_away_by_age_and_never_those_of_a_mover_that_lives(
    bucket: S3Bucket, tmp_path: Path
) -> None:
    path = tiny_svs(tmp_path / "a.svs")
    clock = patient_clock()
    with ops.open_site(with_bucket(tmp_path / "site", bucket), clock=clock) as site:
        slide = str(ingest(site, path)[0].slide)
        until = clock.now() + timedelta(days=3)
        alive, _ = site.catalog.begin_reencode(slide, "far", "elsewhere/1:boot:1:1", until, {})
        keys = {
            "mine": f"{PREFIX}store/{slide}/{alive.attempt}/0/image/c/0/0/0",
            "lost": f"{PREFIX}store/{slide}/{'0' * 20}/0/image/c/0/0/0",
            "other": "another-tier/x",
        }
        for key in keys.values():
            locking = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
            assert locking["UploadId"]
        recover_all(site)
        assert {key for key, _ in bucket.uploads()} == set(keys.values())
        clock.advance(timedelta(days=1, hours=1).total_seconds())
        recover_all(site)
        assert {key for key, _ in bucket.uploads()} == {keys["mine"], keys["other"]}
        clock.advance(timedelta(days=9).total_seconds())  # it is dead by then
        recover_all(site)
        assert {key for key, _ in bucket.uploads()} == {keys["other"]}
        assert site.catalog.open_attempts() == []
