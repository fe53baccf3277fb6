"""Archives end to end, through settings: an S3 service that keeps to its reference, a folder with a tape library."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.catalog_kit import new_url as new_catalog
from tests.contract.test_storage_tape import LIBRARY
from tests.s3_archive_stub import archive_service
from tests.site_kit import restored, tiny_svs
from wsistore import ops
from wsistore import settings as site_settings
from wsistore.clock import Clock, SystemClock
from wsistore.execute import SerialExecutor
from wsistore.ops.recall_lists import parse
from wsistore.storage import tape
from wsistore.storage.open import create_tier, open_storage
from wsistore.testing.clock import ManualClock

HOUR = 3600.0


def site_with(folder: Path, url: str, more: str, clock: Clock) -> ops.Site:
    """Make and open a site of a tier in memory and one that archives."""
    made = site_settings.write_new(folder, tiers={"hot": f"memory://{folder}/hot", "cold": url})
    path = folder / "wsistore.toml"
    before, table, after = path.read_text().partition("[tiers.cold]")
    path.write_text(
        before + table + after.replace('"keep"', '"pack"') + more
    )  # archives bill, and libraries fetch, by the object
    new_catalog(folder)
    made = site_settings.load(folder)
    for tier in made.tiers:
        create_tier(open_storage(tier.url, tier.storage_options, clock=clock), tier.id, tier.name)
    return ops.open_site(folder, clock=clock)


def ingested(site: ops.Site, folder: Path) -> tuple[str, dict[str, bytes]]:
    folder.mkdir()
    path = tiny_svs(folder / "a.svs")
    (result,) = ops.ingest(site, [path])
    assert result.slide is not None
    site.catalog.put_metadata({result.slide: {"case_id": "C1"}})
    return result.slide, {path.name: path.read_bytes()}


def evidence(site: ops.Site, slide: str) -> dict[str, str]:
    return {copy.tier: str(copy.evidence) for copy in site.catalog.copies(slide)}


@pytest.mark.parametrize("versions", [False, True])
def test_an_archive_class_of_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, versions: bool) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-secret")
    clock = ManualClock()
    with archive_service(clock, versions=versions) as (service, options):
        more = f"""
endpoint = "{options.endpoint}"
region = "eu-west-3"
allow_http = true
prices = "aws-s3-deep-archive"

[tiers.cold.archive]
class = "DEEP_ARCHIVE"
provider = "aws"
restore_days = 2
"""
        url = f"s3://{options.bucket}/tier"
        with site_with(tmp_path / "site", url, more, clock) as site:
            slide, files = ingested(site, tmp_path / "in")
            (moved,) = ops.move(site, [slide], "cold", executor=SerialExecutor())
            assert (moved.error, moved.status) == (None, "moved")
            assert evidence(site, slide) == {"cold": "attested-before-freeze"}
            mine = {key: kept for key, kept in service.kept.items() if slide in key and "commits/" not in key}
            assert {one.storage_class for kept in mine.values() for one in kept} == {"DEEP_ARCHIVE"}
            assert {len(kept) for kept in mine.values()} <= {0, 1}, "a version that the move left behind is paid for"
            status = ops.recall(site, parse("C1"), by=clock.now() + timedelta(hours=20))
            assert status.ways == ("standard from cold",)
            clock.advance(11 * HOUR)
            ops.advance(site, executor=SerialExecutor())
            assert [str(case.state) for case in ops.statuses(site)[0].cases] == ["on its way"]
            clock.advance(1.1 * HOUR)
            assert ops.advance(site, executor=SerialExecutor()) == 0
            assert [str(case.state) for case in ops.statuses(site)[0].cases] == ["ready"]
            assert restored(site, slide) == files
            clock.advance(20 * 24 * HOUR)
            assert [row.is_dropped for row in ops.expire(site)] == [True]
            assert evidence(site, slide) == {"cold": "attested-before-freeze"}


def test_a_folder_with_a_tape_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "_START_SECONDS", 0.3)
    shelf, program = tmp_path / "shelf", tmp_path / "library"
    shelf.mkdir()
    program.write_text(LIBRARY.format(python=sys.executable, shelf=str(shelf), mark="pass", unmark="pass"))
    program.chmod(0o755)
    more = f"""
[tiers.cold.archive]
recall = ["{program}", "recall", "{{path}}"]
offline = ["{program}", "offline", "{{path}}"]
release = ["{program}", "release", "{{path}}"]
"""
    clock = SystemClock()
    (tmp_path / "tape").mkdir()
    with site_with(tmp_path / "site", (tmp_path / "tape").as_uri(), more, clock) as site:
        slide, files = ingested(site, tmp_path / "in")
        (moved,) = ops.move(site, [slide], "cold", executor=SerialExecutor())
        assert (moved.error, moved.status, moved.reason) == (None, "moved", "")
        assert evidence(site, slide) == {"cold": "attested-before-freeze"}
        (result,) = ops.verify(site, [slide])
        assert (result.ok, result.bytes_read) == (True, 0)
        begun = ops.recall(site, parse("C1"))
        ops.advance(site, executor=SerialExecutor())
        assert [str(case.state) for case in ops.statuses(site)[0].cases] == ["on its way"]
        (shelf / "free").touch()
        (status,) = ops.wait(site, [begun.name], executor=SerialExecutor(), poll_seconds=0.2)
        assert [str(case.state) for case in status.cases] == ["ready"]
        assert restored(site, slide) == files
