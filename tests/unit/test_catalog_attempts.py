"""The life of an attempt: what each step does, what it refuses, and what it leaves when refused."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from tests import catalog_kit as kit
from wsistore.catalog import AlreadyClaimed, Attempt, AttemptState, Catalog, SourceState, claims, schema
from wsistore.errors import ConflictError, InputError, Kind, MissingError
from wsistore.events import EventKind, NewEvent
from wsistore.model import CopyState, Mode
from wsistore.testing.clock import ManualClock


@pytest.fixture
def url(tmp_path: Path) -> str:
    return kit.new_url(tmp_path)


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    with Catalog.open(url, clock=ManualClock(kit.NOW)) as opened:
        yield opened


def content(url: str) -> list[list[tuple]]:
    """Return all rows of all tables."""
    return [sorted(kit.sql(url, f"SELECT * FROM {table.name}"), key=repr) for table in schema.metadata.sorted_tables]


def test_attempt_is_noted_before_anything_else(catalog: Catalog) -> None:
    attempt = kit.begin(catalog, "slide1")
    assert catalog.attempt(attempt.attempt) == attempt
    assert catalog.open_attempts() == [attempt]
    assert attempt.state is AttemptState.WRITING
    assert (attempt.owner, attempt.lease_until) == (kit.OWNER, "2026-01-31T13:00:00.000000Z")
    assert catalog.slides() == []


def test_attempts_have_keys_of_their_own(catalog: Catalog) -> None:
    assert len({kit.begin(catalog, "slide1").attempt for _ in range(5)}) == 5


def test_lease_is_extended(catalog: Catalog) -> None:
    attempt = kit.begin(catalog, "slide1")
    catalog.extend_lease(attempt.attempt, kit.LEASE.replace(hour=20))
    assert catalog.attempt(attempt.attempt).lease_until == "2026-01-31T20:00:00.000000Z"


def test_claimed_slide_is_not_there_yet(catalog: Catalog) -> None:
    attempt = kit.begin(catalog, "slide1")
    kit.claim(catalog, attempt, "x")
    assert catalog.slides() == []
    assert catalog.copies("slide1") == []
    assert catalog.find_current(kit.fingerprint_of("x")) is None
    for missing in (
        lambda: catalog.resolve("slide1"),
        lambda: catalog.slide("slide1"),
        lambda: catalog.source("slide1"),
    ):
        with pytest.raises(MissingError):
            missing()


def test_claim_holds_all_that_is_needed_to_finish(catalog: Catalog) -> None:
    attempt = kit.begin(catalog, "slide1")
    assert catalog.copy_of_attempt(attempt.attempt) is None
    kit.claim(catalog, attempt, "x")
    copy = catalog.copy_of_attempt(attempt.attempt)
    assert copy is not None
    assert (copy.commit_key, copy.commit_body) == ("commits/slide1/1.json", '{"slide":"slide1","n":1}')
    assert copy.state is CopyState.CLAIMED
    known = catalog.attempt(attempt.attempt)
    assert known.state is AttemptState.CLAIMED
    assert known.fingerprint == kit.fingerprint_of("x")


def test_committed_slide_is_there_with_all_that_was_said_of_it(catalog: Catalog) -> None:
    metadata = {"case_id": "CASE-1", "patient_id": "PATIENT-0001", "stain": "HE"}
    attempt = kit.begin(catalog, "slide1")
    kit.claim(catalog, attempt, "x", metadata=metadata, um_per_px=(0.5, 0.25), magnification=20.0, series="1.2.3")
    catalog.commit(attempt.attempt, kit.INGESTED)
    (slide,) = catalog.slides()
    assert slide == catalog.slide("slide1")
    assert (slide.name, slide.format, slide.mode) == ("slide.svs", "aperio-svs", Mode.TILES)
    assert (slide.width, slide.height, slide.bytes_source) == (2000, 1000, 1234)
    assert (slide.um_per_px, slide.magnification, slide.series) == ((0.5, 0.25), 20.0, "1.2.3")
    assert (slide.metadata, slide.version) == (metadata, 1)
    source = catalog.source("slide1")
    assert (source.files, source.path, source.state) == (kit.source_of("x").files, "in/x.svs", SourceState.CURRENT)
    assert catalog.find_current(source.fingerprint) == slide
    assert catalog.current_of_series("1.2.3") == [(slide, source)]
    (copy,) = catalog.copies("slide1")
    assert (copy.state, copy.tier, copy.attempt) == (CopyState.COMMITTED, "hot", attempt.attempt)
    assert (copy.fallbacks, copy.objects, copy.bytes_stored) == ({"other-tables": 2}, 4, 1300)
    assert [(event.number, event.kind, event.detail) for event in catalog.events("slide1")] == [
        (1, "ingested", {"tier": "hot"})
    ]
    assert catalog.open_attempts() == []


def test_undecodable_file_names_come_back_to_the_byte(catalog: Catalog) -> None:
    attempt = kit.begin(catalog, "slide1")
    source = kit.source_of("x", name="b\udcff\udc80.svs")
    kit.claim(catalog, attempt, "x", name="b\udcff.svs")
    catalog.abandon(attempt.attempt, "b\udcff")
    attempt = kit.begin(catalog, "slide2")
    catalog.claim(
        attempt.attempt,
        fingerprint="f" * 64,
        slide=kit.slide_of("slide2", "b\udcff.svs"),
        source=source,
        copy=kit.copy_of("slide2"),
        supersedes=None,
    )
    catalog.commit(attempt.attempt, kit.INGESTED)
    assert catalog.source("slide2").files == source.files
    assert catalog.slide("slide2").name == "b\\udcff.svs"
    assert catalog.resolve("b\udcff.svs") == "slide2"


# --- repetition -------------------------------------------------------------------------------------------------------


def test_every_step_may_be_repeated(catalog: Catalog, url: str) -> None:
    attempt = kit.begin(catalog, "slide1")
    catalog.mark_verified(attempt.attempt, "f" * 64)
    catalog.mark_verified(attempt.attempt, "f" * 64)
    kit.claim(catalog, attempt, "x")
    before = content(url)
    kit.claim(catalog, attempt, "x")
    assert content(url) == before
    catalog.commit(attempt.attempt, kit.INGESTED)
    before = content(url)
    catalog.commit(attempt.attempt, kit.INGESTED)
    assert content(url) == before
    other = kit.begin(catalog, "slide2")
    catalog.abandon(other.attempt, "why")
    catalog.abandon(other.attempt, "another reason")
    assert catalog.attempt(other.attempt).error == "why"
    catalog.forget_attempt(other.attempt)
    catalog.forget_attempt(other.attempt)
    assert catalog.open_attempts() == []


# --- the same content -------------------------------------------------------------------------------------------------


def test_second_claim_of_a_claimed_content_is_told_where_it_is(catalog: Catalog, url: str) -> None:
    first, second = kit.begin(catalog, "slide1"), kit.begin(catalog, "slide2")
    kit.claim(catalog, first, "same")
    before = content(url)
    with pytest.raises(AlreadyClaimed, match="is just being committed") as caught:
        kit.claim(catalog, second, "same", name="other.svs")
    error = caught.value
    assert (error.slide, error.attempt, error.state) == ("slide1", first.attempt, SourceState.CLAIMED)
    assert content(url) == before
    catalog.commit(first.attempt, kit.INGESTED)
    with pytest.raises(AlreadyClaimed, match="is already kept") as caught:
        kit.claim(catalog, second, "same")
    assert (caught.value.slide, caught.value.state) == ("slide1", SourceState.CURRENT)


def test_content_is_free_again_when_its_claim_was_abandoned(catalog: Catalog) -> None:
    first, second = kit.begin(catalog, "slide1"), kit.begin(catalog, "slide2")
    kit.claim(catalog, first, "same")
    catalog.abandon(first.attempt, "gone")
    kit.claim(catalog, second, "same")


def test_superseded_content_may_come_again(catalog: Catalog) -> None:
    kit.ingest(catalog, "slide1", "old")
    kit.ingest(catalog, "slide1", "new", n=2)
    kit.ingest(catalog, "slide2", "old")
    assert len(catalog.slides()) == 2


def test_of_many_claims_at_once_one_gets_in(catalog: Catalog) -> None:
    begun = [kit.begin(catalog, f"slide{number}") for number in range(8)]
    barrier = threading.Barrier(8)

    def race(attempt: Attempt) -> bool:
        barrier.wait()
        try:
            kit.claim(catalog, attempt, "same")
        except AlreadyClaimed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, begun)) == 1


def test_the_index_alone_refuses_a_second_live_claim(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a database lets several transactions write, the look before the claim may see nothing yet."""
    first, second = kit.begin(catalog, "slide1"), kit.begin(catalog, "slide2")
    kit.claim(catalog, first, "same")
    look, looks = claims.state_of_claim, []

    def blind_at_first(*arguments: Any) -> SourceState:
        looks.append(arguments)
        return look(*arguments) if len(looks) > 1 else SourceState.CLAIMED

    monkeypatch.setattr(claims, "state_of_claim", blind_at_first)
    with pytest.raises(AlreadyClaimed) as caught:
        kit.claim(catalog, second, "same")
    assert caught.value.slide == "slide1"
    monkeypatch.setattr(claims, "state_of_claim", lambda *_: SourceState.CLAIMED)
    with pytest.raises(ConflictError) as refused:
        kit.claim(catalog, second, "same")
    assert isinstance(refused.value.__cause__, IntegrityError)


def test_the_error_crosses_process_borders_whole() -> None:
    error = AlreadyClaimed("said", slide="s", attempt="a", state=SourceState.CURRENT)
    back = pickle.loads(pickle.dumps(error))
    assert (back.message, back.slide, back.attempt, back.state) == ("said", "s", "a", SourceState.CURRENT)
    assert (back.kind, back.exit_code) == (Kind.BUSY, 5)


# --- versions ---------------------------------------------------------------------------------------------------------


def test_newer_version_supersedes_the_older_at_commit_and_not_before(catalog: Catalog) -> None:
    kit.ingest(catalog, "slide1", "old", series="1.2", metadata={"stain": "HE"})
    attempt = kit.begin(catalog, "slide1")
    kit.claim(catalog, attempt, "new", n=2, name="grown", width=9000, series="1.2", metadata={"block": "A1"})
    slide = catalog.slide("slide1")
    assert (slide.version, slide.name, slide.width) == (1, "slide.svs", 2000)
    assert [(copy.version, copy.state) for copy in catalog.copies("slide1")] == [(1, CopyState.COMMITTED)]
    catalog.commit(attempt.attempt, kit.INGESTED)
    slide = catalog.slide("slide1")
    assert (slide.version, slide.name, slide.width) == (2, "grown", 9000)
    assert slide.metadata == {"stain": "HE", "block": "A1"}
    assert [(copy.version, copy.state) for copy in catalog.copies("slide1")] == [
        (2, CopyState.COMMITTED),
        (1, CopyState.SUPERSEDED),
    ]
    assert [catalog.source("slide1", n).state for n in (1, 2)] == [SourceState.SUPERSEDED, SourceState.CURRENT]
    assert [row.n for _, row in catalog.current_of_series("1.2")] == [2]


def test_abandoned_newer_version_leaves_the_older_as_it_was(catalog: Catalog, url: str) -> None:
    kit.ingest(catalog, "slide1", "old")
    before = content(url)
    attempt = kit.begin(catalog, "slide1")
    kit.claim(catalog, attempt, "new", n=2, width=9000)
    catalog.abandon(attempt.attempt, "no")
    catalog.forget_attempt(attempt.attempt)
    assert content(url) == before


def test_claim_for_another_version_than_the_current_one_is_refused(catalog: Catalog, url: str) -> None:
    first, second, third = (kit.begin(catalog, "slide1") for _ in range(3))
    with pytest.raises(ConflictError, match="current version of slide slide1 is none, not 1"):
        kit.claim(catalog, first, "a", n=2)
    kit.claim(catalog, first, "a")
    with pytest.raises(AlreadyClaimed, match="Another version of slide slide1") as caught:
        kit.claim(catalog, second, "b")
    assert caught.value.attempt == first.attempt
    catalog.commit(first.attempt, kit.INGESTED)
    before = content(url)
    with pytest.raises(ConflictError, match="is 1, not none as the attempt saw"):
        kit.claim(catalog, third, "c", n=1)
    with pytest.raises(ConflictError, match="next version of slide slide1 is 2, not 3"):
        catalog.claim(
            third.attempt,
            fingerprint="f" * 64,
            slide=kit.slide_of("slide1"),
            source=kit.source_of("c", 3),
            copy=kit.copy_of("slide1", 3),
            supersedes=1,
        )
    assert content(url) == before


# --- what is refused --------------------------------------------------------------------------------------------------


def test_nothing_is_committed_without_a_claim(catalog: Catalog, url: str) -> None:
    attempt = kit.begin(catalog, "slide1")
    before = content(url)
    with pytest.raises(ConflictError, match="is writing"):
        catalog.commit(attempt.attempt, kit.INGESTED)
    assert content(url) == before
    catalog.mark_verified(attempt.attempt, "f" * 64)
    with pytest.raises(ConflictError, match="is verified"):
        catalog.commit(attempt.attempt, kit.INGESTED)


def test_abandoned_attempt_cannot_go_on(catalog: Catalog, url: str) -> None:
    attempt = kit.begin(catalog, "slide1")
    kit.claim(catalog, attempt, "x", metadata={"case_id": "C", "patient_id": "PATIENT-0001"})
    catalog.abandon(attempt.attempt, "its owner died")
    assert kit.sql(url, "SELECT count(*) FROM slides") == [(0,)]
    assert kit.sql(url, "SELECT count(*) FROM cases") == [(0,)]
    before = content(url)
    for step in (
        lambda: catalog.commit(attempt.attempt, kit.INGESTED),
        lambda: kit.claim(catalog, attempt, "x"),
        lambda: catalog.extend_lease(attempt.attempt, kit.LEASE),
        lambda: catalog.mark_verified(attempt.attempt, "0"),
    ):
        with pytest.raises(ConflictError, match=r"is abandoned \(its owner died\)"):
            step()
    assert content(url) == before


def test_committed_attempt_is_neither_abandoned_nor_forgotten_nor_claimed(catalog: Catalog, url: str) -> None:
    attempt = kit.ingest(catalog, "slide1", "x")
    before = content(url)
    for step in (
        lambda: catalog.abandon(attempt.attempt, "no"),
        lambda: catalog.forget_attempt(attempt.attempt),
        lambda: kit.claim(catalog, attempt, "y", n=2),
        lambda: catalog.extend_lease(attempt.attempt, kit.LEASE),
    ):
        with pytest.raises(ConflictError, match="is committed"):
            step()
    assert content(url) == before


def test_open_attempt_is_not_forgotten(catalog: Catalog) -> None:
    attempt = kit.begin(catalog, "slide1")
    with pytest.raises(ConflictError, match="is writing"):
        catalog.forget_attempt(attempt.attempt)
    assert catalog.open_attempts() == [attempt]


def test_claim_of_something_else_than_was_begun_is_refused(catalog: Catalog) -> None:
    attempt = kit.begin(catalog, "slide1", "hot")
    for slide, tier in (("slide2", "hot"), ("slide1", "cold")):
        with pytest.raises(ConflictError, match=f"not {slide} to {tier}"):
            catalog.claim(
                attempt.attempt,
                fingerprint="f" * 64,
                slide=kit.slide_of(slide),
                source=kit.source_of("x"),
                copy=kit.copy_of(slide, tier=tier),
                supersedes=None,
            )


def test_unknown_attempt_is_missing(catalog: Catalog) -> None:
    for step in (catalog.attempt, lambda key: catalog.commit(key, kit.INGESTED), lambda key: catalog.abandon(key, "x")):
        with pytest.raises(MissingError, match="no attempt 'unknown'"):
            step("unknown")


def test_claim_that_would_mix_patients_is_refused_whole(catalog: Catalog, url: str) -> None:
    kit.ingest(catalog, "slide1", metadata={"case_id": "C", "patient_id": "PATIENT-0001"})
    attempt = kit.begin(catalog, "slide2")
    before = content(url)
    with pytest.raises(InputError, match="several patients"):
        kit.claim(catalog, attempt, "x", metadata={"case_id": "C", "patient_id": "PATIENT-0002"})
    assert content(url) == before


# --- listing ----------------------------------------------------------------------------------------------------------


def test_open_attempts_are_all_that_may_have_left_objects(catalog: Catalog) -> None:
    writing, verified, claimed, abandoned = (kit.begin(catalog, f"slide{number}") for number in range(4))
    cold = kit.begin(catalog, "slide9", "cold")
    kit.ingest(catalog, "slide5")
    catalog.mark_verified(verified.attempt, "f" * 64)
    kit.claim(catalog, claimed, "x")
    catalog.abandon(abandoned.attempt, "no")
    states = {attempt.attempt: attempt.state for attempt in catalog.open_attempts("hot")}
    assert states == {
        writing.attempt: AttemptState.WRITING,
        verified.attempt: AttemptState.VERIFIED,
        claimed.attempt: AttemptState.CLAIMED,
        abandoned.attempt: AttemptState.ABANDONED,
    }
    assert [attempt.attempt for attempt in catalog.open_attempts("cold")] == [cold.attempt]
    assert len(catalog.open_attempts()) == 5


# --- what an abandoned claim leaves, and content that is lost ---------------------------------------------------------


def test_what_is_said_with_a_version_takes_effect_with_it(catalog: Catalog, url: str) -> None:
    kit.ingest(catalog, "slide1", "a", metadata={"case_id": "C", "stain": "HE"})
    before = catalog.slide("slide1")
    attempt = kit.begin(catalog, "slide1")
    kit.claim(catalog, attempt, "ab", n=2, metadata={"case_id": "D", "stain": "IHC"})
    assert catalog.slide("slide1") == before
    catalog.abandon(attempt.attempt, "gone")
    assert catalog.slide("slide1") == before
    assert kit.sql(url, "SELECT case_key FROM cases") == [("C",)]
    kit.ingest(catalog, "slide1", "ab", n=2, metadata={"case_id": "D"})
    assert catalog.slide("slide1").metadata == {"case_id": "D", "stain": "HE"}
    assert kit.sql(url, "SELECT case_key FROM cases") == [("D",)]


def test_a_version_that_would_mix_patients_is_refused_when_claimed_and_commits_if_they_mix_later(
    catalog: Catalog,
) -> None:
    kit.ingest(catalog, "slide1", "a")
    kit.ingest(catalog, "slide2", "b", metadata={"case_id": "C"})
    attempt = kit.begin(catalog, "slide1")
    said = {"case_id": "C", "patient_id": "PATIENT-0001"}
    catalog.put_metadata({"slide2": {"patient_id": "PATIENT-0002"}})
    with pytest.raises(InputError, match="several patients"):
        kit.claim(catalog, attempt, "ab", n=2, metadata=said)
    catalog.put_metadata({"slide2": {"patient_id": ""}})
    kit.claim(catalog, attempt, "ab", n=2, metadata=said)
    catalog.put_metadata({"slide2": {"patient_id": "PATIENT-0002"}})
    catalog.commit(attempt.attempt, kit.INGESTED)  # its commit object is on the tier: there is no way back
    assert catalog.slide("slide1").version == 2
    assert catalog.slide("slide1").metadata == {}


def test_abandoning_needs_the_attempt_as_it_was_seen(catalog: Catalog) -> None:
    seen = kit.begin(catalog, "slide1")
    kit.claim(catalog, seen, "x")
    with pytest.raises(ConflictError, match="is claimed now"):
        catalog.abandon(seen.attempt, "taken for dead", seen=seen)
    catalog.commit(seen.attempt, kit.INGESTED)
    other = kit.begin(catalog, "slide2")
    catalog.release(other.attempt)
    with pytest.raises(ConflictError, match="somebody works on it"):
        catalog.abandon(other.attempt, "taken for dead", seen=other)
    catalog.abandon(other.attempt, "dead", seen=catalog.attempt(other.attempt))
    assert catalog.attempt(other.attempt).state is AttemptState.ABANDONED


FAILED = NewEvent(EventKind.VERIFICATION_FAILED, "operator", {})


def test_a_failure_makes_a_copy_suspect_until_it_proves_good(catalog: Catalog) -> None:
    attempt = kit.ingest(catalog, "slide1", "x")
    assert catalog.record_failure(attempt.attempt, FAILED, suspect=False)
    assert catalog.copies("slide1")[0].state is CopyState.COMMITTED
    assert catalog.record_failure(attempt.attempt, FAILED)
    assert catalog.copies("slide1")[0].state is CopyState.SUSPECT
    assert [row.slide for row in catalog.slides("verified_at is null and copies = 1")] == ["slide1"]
    catalog.record_verification(attempt.attempt, kit.NOW, kit.INGESTED)
    assert catalog.copies("slide1")[0].state is CopyState.COMMITTED
    assert catalog.slides("verified_at is null") == []
    assert [event.kind for event in catalog.events("slide1")][1:3] == ["verification-failed"] * 2


def test_only_a_slide_without_a_good_copy_takes_its_content_again(catalog: Catalog) -> None:
    first = kit.ingest(catalog, "slide1", "x")
    again, other, late = (kit.begin(catalog, slide) for slide in ("slide1", "slide2", "slide1"))
    with pytest.raises(AlreadyClaimed, match="is already kept"):
        kit.claim(catalog, again, "x", n=2)
    catalog.record_failure(first.attempt, FAILED)
    with pytest.raises(AlreadyClaimed, match="is already kept as slide slide1"):
        kit.claim(catalog, other, "x")
    kit.claim(catalog, again, "x", n=2)
    with pytest.raises(AlreadyClaimed, match="is just being committed") as caught:
        kit.claim(catalog, late, "x", n=2)
    assert caught.value.attempt == again.attempt
    assert catalog.source("slide1", 2).state is SourceState.REPAIRING
    catalog.commit(again.attempt, kit.INGESTED)
    assert [(copy.version, copy.state) for copy in catalog.copies("slide1")] == [
        (2, CopyState.COMMITTED),
        (1, CopyState.SUPERSEDED),
    ]
    assert not catalog.record_failure(first.attempt, FAILED)
    assert [event.kind for event in catalog.events("slide1")].count("verification-failed") == 1
