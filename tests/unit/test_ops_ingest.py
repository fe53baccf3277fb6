"""Parts of an ingest that a whole one seldom shows: leases, waiting for others, interruption, what is reported."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.catalog_kit import claim
from tests.site_kit import assert_sound, ingest, memory_site, restored, tiny_series, tiny_svs, tiny_tiff
from wsistore import ops
from wsistore.catalog import AlreadyClaimed, Catalog
from wsistore.catalog.records import SourceState
from wsistore.compress import companion
from wsistore.compress.keys import FILES
from wsistore.errors import ConflictError, IntegrityError, Kind
from wsistore.ops import ingesting, many
from wsistore.ops.attempts import LEASE
from wsistore.testing.clock import ManualClock

ELSEWHERE = "elsewhere/1:00000000-0000-0000-0000-000000000000:1:1"


def test_lease_lasts_as_long_as_there_is_progress(tmp_path: Path, manual_clock: ManualClock) -> None:
    slide = tiny_svs(tmp_path / "a.svs")
    with (
        memory_site(tmp_path / "site", clock=manual_clock) as site,
        ops.open_site(tmp_path / "site", clock=manual_clock) as other,
    ):
        site.owner = ELSEWHERE  # of another machine only the lease tells whether it lives
        seen = []

        def progress(*_: Any) -> None:
            manual_clock.advance(LEASE.total_seconds() * 0.25)  # several threads tell at a time
            seen.append(ops.recover(other))

        started = manual_clock.now()
        result = ops.ingest_one(site, slide, tier="hot", progress=progress)
        assert result.status == "ingested"
        assert manual_clock.now() - started > LEASE
        assert set(seen) == {ops.Recovered(0, 0, 0)}
        assert_sound(site)


def _claimed(slide: str, attempt: str) -> AlreadyClaimed:
    return AlreadyClaimed("claimed", slide=slide, attempt=attempt, state=SourceState.CLAIMED)


def test_waiting_ends_when_the_other_came_to_nothing(tmp_path: Path, manual_clock: ManualClock) -> None:
    with memory_site(tmp_path / "site", clock=manual_clock) as site:
        with pytest.raises(ConflictError) as caught:
            ingesting._wait_for(site, tmp_path / "a.svs", "0" * 64, _claimed("s" * 20, "a" * 20))
        assert caught.value.kind is Kind.BUSY
        assert "a.svs" in caught.value.message
        assert manual_clock.slept_seconds == ()


def test_waiting_ends_after_a_minute(tmp_path: Path, manual_clock: ManualClock) -> None:
    with memory_site(tmp_path / "site", clock=manual_clock) as site:
        attempt = site.catalog.begin_attempt("s" * 20, "hot", ELSEWHERE, manual_clock.now() + LEASE)
        claim(site.catalog, attempt, "content")
        with pytest.raises(ConflictError):
            ingesting._wait_for(site, tmp_path / "a.svs", "0" * 64, _claimed(attempt.slide, attempt.attempt))
        assert sum(manual_clock.slept_seconds) == pytest.approx(60)


def test_nobody_takes_the_results(tmp_path: Path) -> None:
    slides = [tiny_tiff(tmp_path / f"{n}.tiff", seed=n) for n in range(6)]
    with memory_site(tmp_path / "site") as site:
        results = ops.ingest(site, slides, jobs=2)
        first = next(results)
        results.close()  # type: ignore[attr-defined]
        assert first.status == "ingested"
        assert_sound(site)
        assert 1 <= len(site.catalog.slides()) <= 3
        assert len(ingest(site, *slides)) == 6


def test_what_is_under_way_ends_when_nobody_takes_the_results(tmp_path: Path) -> None:
    fast, slow = tiny_tiff(tmp_path / "fast.tiff"), tiny_svs(tmp_path / "slow.svs")
    gate = threading.Event()

    def progress(_phase: str, _done: int, _size: int, name: str) -> None:
        if name == str(slow):
            gate.wait(30)

    with memory_site(tmp_path / "site") as site:
        results = ops.ingest(site, [fast, slow], jobs=2, progress=progress)
        assert next(results).source == str(fast)
        threading.Timer(0.3, gate.set).start()  # while the end is waited for
        results.close()  # type: ignore[attr-defined]
        assert [row.name for row in site.catalog.slides()] == ["fast.tiff"]
        assert_sound(site)


def test_what_cannot_get_better_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slides = [tiny_tiff(tmp_path / f"{n}.tiff", seed=n) for n in range(5)]
    begun = []

    def full(_site: ops.Site, path: Path, *_: Any) -> ops.IngestResult:
        begun.append(path)
        failure = ops.Failure("storage-full", "no space", 6)
        return ops.IngestResult(slide=None, source=str(path), status=ops.IngestStatus.FAILED, error=failure)

    monkeypatch.setattr(many, "_one", full)
    with memory_site(tmp_path / "site") as site:
        results = list(ops.ingest(site, slides, jobs=1))
    assert begun == slides[:1]
    assert [result.source for result in results] == [str(path) for path in slides]
    assert {result.error.kind for result in results if result.error} == {"storage-full"}


def test_number_of_slides_is_told_before_the_first(tmp_path: Path) -> None:
    slides = [tiny_tiff(tmp_path / f"{n}.tiff", seed=n) for n in range(3)]
    counts: list[int] = []
    with memory_site(tmp_path / "site") as site:
        list(ops.ingest(site, [*slides, tmp_path / "missing"], jobs=1, found=counts.append))
    assert counts == [4]


def test_progress_adds_up(tmp_path: Path) -> None:
    slide = tiny_svs(tmp_path / "a.svs")
    told: dict[str, int] = {"write": 0, "verify": 0}

    def progress(phase: str, done: int, size: int, name: str) -> None:
        assert (size, name) == (slide.stat().st_size, str(slide))
        told[phase] += done

    with memory_site(tmp_path / "site") as site:
        ingest(site, slide, progress=progress)
    assert told["verify"] == slide.stat().st_size
    assert told["write"] >= slide.stat().st_size


def test_progress_that_raises_ends_the_ingest(tmp_path: Path) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with memory_site(tmp_path / "site") as site:
        with pytest.raises(KeyboardInterrupt):
            ops.ingest_one(site, tiny_svs(tmp_path / "a.svs"), tier="hot", progress=stop)
        assert_sound(site)
        assert site.catalog.slides() == []


def test_companion_of_another_source_is_not_believed(tmp_path: Path) -> None:
    # Somebody wrote a companion that is sound and speaks of another content: the catalogue knows better.
    with memory_site(tmp_path / "site") as site:
        (result,) = ingest(site, tiny_tiff(tmp_path / "a.tiff"))
        key = str(result.slide)
        (copy,) = site.catalog.copies(key)
        where = f"private/{key}/{copy.attempt}/{FILES}"
        storage = site.tier("hot")
        good = storage.get(where)
        known = companion.decode(good, where=where)
        files = (replace(known.files[0], sha256="0" * 64),)
        storage.put(where, companion.encode(replace(known, files=files)))
        with pytest.raises(IntegrityError, match="another source"):
            restored(site, key)
        with pytest.raises(IntegrityError, match="another source"):
            ops.open_slide(key, site=site)
        assert not next(iter(ops.verify(site, [key]))).ok
        storage.put(where, good)
        assert restored(site, key) == {"a.tiff": (tmp_path / "a.tiff").read_bytes()}


def test_slide_is_named_as_its_file_or_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = tiny_series(tmp_path / "a series")
    monkeypatch.chdir(series)
    with memory_site(tmp_path / "site") as site:
        ingest(site, Path())
        assert [row.name for row in site.catalog.slides()] == ["a series"]


def test_events_keep_what_is_needed(tmp_path: Path) -> None:
    with memory_site(tmp_path / "site") as site:
        (result,) = ingest(site, tiny_svs(tmp_path / "a.svs"))
        (event,) = site.catalog.events(str(result.slide))
        (copy,) = site.catalog.copies(str(result.slide))
        assert event.kind == "ingested"
        assert event.actor == site.actor
        assert event.detail["tier"] == "hot"
        assert event.detail["commit"] == copy.commit_key
        assert event.detail["source"] == site.catalog.source(str(result.slide)).fingerprint
        assert isinstance(site.catalog, Catalog)
