"""What tests of moves between a disk and a bucket share: a site with a tier on each, and what must hold at rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from tests.move_kit import places
from tests.s3_kit import S3Bucket, S3Server
from tests.site_kit import committed_keys, restored, stored_keys
from wsistore import ops
from wsistore.storage.base import MARKER_KEY
from wsistore.testing.clock import ManualClock
from wsistore.testing.tiffs import write_generic_tiff

KINDS = ("plain", "versions", "lock")
"""Of buckets."""
PREFIX = "slides/"


@contextmanager
def bucket_of(kind: str, server: S3Server) -> Iterator[S3Bucket]:
    """Make an empty bucket of a kind, with credentials for it in the environment."""
    with (
        pytest.MonkeyPatch.context() as patch,
        server.credentials(patch),
        server.bucket(versions=kind == "versions", lock=kind == "lock") as bucket,
    ):
        yield bucket


def with_bucket(folder: Path, bucket: S3Bucket, endpoint: str | None = None, **settings: object) -> Path:
    """Make a site of tiers on this disk, and of the tier `far` in a bucket; return its folder."""
    ops.init_site(folder)
    where = {"endpoint": endpoint or bucket.server.endpoint, "allow_http": True, "region": "default"}
    ops.add_tier(folder, "far", {"url": f"{bucket.url}/{PREFIX}", **where, **settings})
    return folder


def patient_clock() -> ManualClock:
    """Return a clock that is right, and stands still but for pauses: to wait for a service takes no time."""
    return ManualClock(datetime.now(UTC))


def raw_tiff(path: Path, side: int = 1792) -> Path:
    """Write a slide of uncompressed noise: 9 MiB for 1792 pixels, enough for an upload in parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    return write_generic_tiff(path, [noise], codec="none", tile=(256, 256), color="rgb")


def lying(bucket: S3Bucket) -> set[str]:
    """Return the keys of all that costs money in a bucket: of versions, marks of deletions, unfinished uploads.

    But for the audit trail, which no slide takes along.
    """
    keys = {key for key, _ in bucket._versions(marks=True)} | {key for key, _ in bucket.uploads()}
    return {key for key in keys if not key.startswith(f"{PREFIX}ledger/")}


def assert_not_lost(site: ops.Site, slide: str, files: dict[str, bytes]) -> None:
    """Check that the slide comes back from a copy that proves good now, and that each copy that is claimed is there."""
    for copy in site.catalog.copies(slide):
        if copy.state == "committed":
            assert site.tier(copy.tier).get(copy.commit_key) == copy.commit_body.encode()
    assert restored(site, slide) == files
    assert site.catalog.check_chains() == []


def assert_settled(site: ops.Site, bucket: S3Bucket, slide: str, files: dict[str, bytes], *tiers: str) -> None:
    """Check that the slide has good copies in `tiers` and nowhere else, and that no tier has anything besides."""
    assert places(site, slide) == dict.fromkeys(tiers, "committed")
    assert site.catalog.open_attempts() == []
    assert site.catalog.open_drops() == []
    for tier in site.settings.tiers:
        stored = {key for key in stored_keys(site.tier(tier.name)) if not key.startswith("ledger/")}
        assert stored == committed_keys(site, tier.name), tier.name
    there = committed_keys(site, "far")
    assert lying(bucket) == {PREFIX + key for key in there}
    assert (there == {MARKER_KEY}) == ("far" not in tiers)
    assert [(result.tier, result.error) for result in ops.verify(site, [slide]) if not result.ok] == []
    assert_not_lost(site, slide, files)
