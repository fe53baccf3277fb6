"""Naming slides, what the site says of them, their copies, tiers, and their chains of events in the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests import catalog_kit as kit
from wsistore.catalog import Catalog, TierRecord
from wsistore.errors import InputError, Kind, MissingError, SiteError, WsistoreError
from wsistore.events import EventKind, NewEvent, event_hash
from wsistore.testing.clock import ManualClock


@pytest.fixture
def url(tmp_path: Path) -> str:
    return kit.new_url(tmp_path)


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    with Catalog.open(url, clock=ManualClock(kit.NOW)) as opened:
        yield opened


# --- naming -----------------------------------------------------------------------------------------------------------


def test_slide_is_named_by_key_beginning_or_name(catalog: Catalog) -> None:
    kit.ingest(catalog, "abcd1111", name="a.svs")
    kit.ingest(catalog, "abcd2222", name="b 1.svs")
    for text in ("abcd1111", "abcd1", "abcd111", "a.svs"):
        assert catalog.resolve(text) == "abcd1111"
    assert catalog.resolve("b 1.svs") == "abcd2222"


def test_whole_key_wins_over_longer_keys_and_names(catalog: Catalog) -> None:
    kit.ingest(catalog, "abcd", name="x")
    kit.ingest(catalog, "abcdef", name="abcd")
    assert catalog.resolve("abcd") == "abcd"


@pytest.mark.parametrize("text", ["abcd", "same.svs", "abcd33"])
def test_several_candidates_are_listed(catalog: Catalog, text: str) -> None:
    kit.ingest(catalog, "abcd1111", name="same.svs")
    kit.ingest(catalog, "abcd2222", name="same.svs")
    kit.ingest(catalog, "abcd3333", name="x.svs")
    kit.ingest(catalog, "zzzz0000", name="abcd33")
    with pytest.raises(MissingError, match=f"'{text}' may mean") as caught:
        catalog.resolve(text)
    assert caught.value.kind is Kind.SLIDE_AMBIGUOUS
    expected = {
        "abcd": ["abcd1111 (same.svs)", "abcd2222 (same.svs)", "abcd3333 (x.svs)"],
        "same.svs": ["abcd1111", "abcd2222"],
        "abcd33": ["abcd3333", "zzzz0000"],
    }
    assert all(candidate in caught.value.message for candidate in expected[text])


@pytest.mark.parametrize("text", ["", "abc", "%", "abc_", "ABCD", "A.SVS", "a.sv", "b.svs", "'; --", "\udcff", "\x00"])
def test_what_names_no_slide_is_missing(catalog: Catalog, text: str) -> None:
    kit.ingest(catalog, "abcd1111", name="a.svs")
    with pytest.raises(MissingError) as caught:
        catalog.resolve(text)
    assert caught.value.kind is Kind.SLIDE_MISSING


def test_close_names_are_offered(catalog: Catalog) -> None:
    kit.ingest(catalog, "abcd1111", name="biopsy-1.svs")
    with pytest.raises(MissingError, match=r"did you mean 'biopsy-1\.svs'"):
        catalog.resolve("biopsi-1.svs")
    with pytest.raises(MissingError, match="needs 4 characters"):
        catalog.resolve("abc")


def test_slides_come_oldest_first(url: str) -> None:
    clock = ManualClock(kit.NOW)
    with Catalog.open(url, clock=clock) as catalog:
        for slide in ("zz", "aa", "mm"):
            kit.ingest(catalog, slide)
            clock.advance(1)
        assert [slide.slide for slide in catalog.slides()] == ["zz", "aa", "mm"]


def test_unknown_slide_is_missing_everywhere(catalog: Catalog) -> None:
    event = NewEvent(EventKind.RESTORED, "a", {})
    for step in (
        lambda: catalog.slide("nobody"),
        lambda: catalog.source("nobody"),
        lambda: catalog.put_metadata({"nobody": {"stain": "HE"}}),
        lambda: catalog.append_event("nobody", EventKind.RESTORED, "a", {}),
        lambda: catalog.record_verification("nobody", kit.NOW, event),
    ):
        with pytest.raises(MissingError, match="nobody"):
            step()
    assert catalog.copies("nobody") == []
    assert catalog.events("nobody") == []


# --- what the site says -----------------------------------------------------------------------------------------------


def test_metadata_is_merged_and_empty_values_are_removed(catalog: Catalog) -> None:
    kit.ingest(catalog, "slide1", metadata={"stain": "HE", "block": "A1"})
    assert catalog.put_metadata({"slide1": {"stain": "PAS", "block": "", "organ": "skin"}}) == ["slide1"]
    assert catalog.slide("slide1").metadata == {"stain": "PAS", "organ": "skin"}
    assert catalog.put_metadata({"slide1": {"stain": "PAS"}}) == []


def test_change_of_metadata_is_an_event_and_no_change_is_none(catalog: Catalog) -> None:
    kit.ingest(catalog, "slide1")
    event = NewEvent(EventKind.METADATA_CHANGED, "operator", {"from": "slides.csv"})
    catalog.put_metadata({"slide1": {"stain": "HE"}}, event)
    catalog.put_metadata({"slide1": {"stain": "HE"}}, event)
    assert [event.kind for event in catalog.events("slide1")] == ["ingested", "metadata-changed"]


def test_case_has_one_patient(catalog: Catalog, url: str) -> None:
    for slide in ("slide1", "slide2"):
        kit.ingest(catalog, slide, metadata={"case_id": "C", "patient_id": "PATIENT-0001"})
    assert kit.sql(url, "SELECT case_key, patient_id FROM cases") == [("C", "PATIENT-0001")]
    with pytest.raises(InputError, match="Case 'C' would have slides of several patients") as caught:
        catalog.put_metadata({"slide2": {"patient_id": "PATIENT-0002"}})
    assert caught.value.kind is Kind.METADATA_INVALID
    assert catalog.slide("slide2").metadata["patient_id"] == "PATIENT-0001"
    catalog.put_metadata({slide: {"patient_id": "PATIENT-0002"} for slide in ("slide1", "slide2")})
    assert kit.sql(url, "SELECT case_key, patient_id FROM cases") == [("C", "PATIENT-0002")]


def test_slide_moves_to_another_case_and_an_empty_case_goes(catalog: Catalog, url: str) -> None:
    kit.ingest(catalog, "slide1", metadata={"case_id": "C", "patient_id": "PATIENT-0001"})
    catalog.put_metadata({"slide1": {"case_id": "D"}})
    assert kit.sql(url, "SELECT case_key, patient_id FROM cases") == [("D", "PATIENT-0001")]
    catalog.put_metadata({"slide1": {"case_id": "", "patient_id": ""}})
    assert kit.sql(url, "SELECT case_key, patient_id FROM cases") == []


def test_patient_may_be_told_for_one_slide_of_a_case_only(catalog: Catalog, url: str) -> None:
    kit.ingest(catalog, "slide1", metadata={"case_id": "C"})
    kit.ingest(catalog, "slide2", metadata={"case_id": "C", "patient_id": "PATIENT-0001"})
    assert kit.sql(url, "SELECT case_key, patient_id FROM cases") == [("C", "PATIENT-0001")]


# --- copies and tiers -------------------------------------------------------------------------------------------------


def test_verification_is_noted_with_its_event(catalog: Catalog) -> None:
    copy = kit.ingest(catalog, "slide1").attempt
    later = kit.NOW + timedelta(days=30)
    catalog.record_verification(copy, later, NewEvent(EventKind.VERIFIED, "operator", {"copy": copy}))
    assert [row.verified_at for row in catalog.copies("slide1")] == ["2026-03-02T12:00:00.000000Z"]
    assert [event.kind for event in catalog.events("slide1")] == ["ingested", "verified"]


def test_tier_keeps_its_identity(catalog: Catalog) -> None:
    catalog.put_tier(TierRecord(name="hot", id="id-1", url="file:///a"))
    catalog.put_tier(TierRecord(name="cold", id="id-2", url="file:///b"))
    catalog.put_tier(TierRecord(name="hot", id="id-1", url="file:///moved"))
    assert [(tier.name, tier.id, tier.url) for tier in catalog.tiers()] == [
        ("cold", "id-2", "file:///b"),
        ("hot", "id-1", "file:///moved"),
    ]
    for name, identity in (("hot", "id-3"), ("hot", "id-2"), ("other", "id-1")):
        with pytest.raises(SiteError, match=f"Tier '{name}' has the id {identity}, but"):
            catalog.put_tier(TierRecord(name=name, id=identity, url="x"))
    assert len(catalog.tiers()) == 2


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_of_all_slides_come_as_they_happened(url: str) -> None:
    clock = ManualClock(kit.NOW)
    with Catalog.open(url, clock=clock) as catalog:
        for slide in ("b", "a"):
            kit.ingest(catalog, slide)
            clock.advance(1)
        catalog.append_event("b", EventKind.RESTORED, "operator", {"to": "/x"})
        assert [(event.slide, event.number) for event in catalog.events()] == [("b", 1), ("a", 1), ("b", 2)]
        assert catalog.events("b")[1].detail == {"to": "/x"}
        assert catalog.check_chains() == []


def test_detail_that_is_no_json_leaves_nothing_behind(catalog: Catalog) -> None:
    attempt = kit.begin(catalog, "slide1")
    kit.claim(catalog, attempt, "x")
    with pytest.raises(WsistoreError, match="no JSON"):
        catalog.commit(attempt.attempt, NewEvent(EventKind.INGESTED, "a", {"value": float("nan")}))
    assert catalog.slides() == []
    assert catalog.attempt(attempt.attempt).state == "claimed"


TAMPERING = [
    ("UPDATE events SET actor = 'x' WHERE slide = 'slide1' AND number = 2", "slide slide1, event 2: was altered"),
    ("UPDATE events SET at = '2026' WHERE slide = 'slide1' AND number = 1", "event 1: was altered"),
    ("UPDATE events SET kind = 'unheard-of' WHERE slide = 'slide1' AND number = 1", "event 1: was altered"),
    ("""UPDATE events SET detail = '{"tier": "hot"}' WHERE number = 1""", "event 1: was altered"),
    ("UPDATE events SET detail = 'no json' WHERE number = 1", "event 1: was altered"),
    ("UPDATE events SET hash = 'x' WHERE slide = 'slide1' AND number = 3", "event 3: was altered"),
    ("UPDATE events SET slide = 'slide2', number = 2 WHERE slide = 'slide1' AND number = 3", "slide slide2, event 2"),
    ("DELETE FROM events WHERE slide = 'slide1' AND number = 2", "gap, event 2 is missing"),
    ("DELETE FROM events WHERE slide = 'slide1' AND number = 1", "gap, event 1 is missing"),
    ("DELETE FROM events WHERE slide = 'slide2'", "slide slide2: has no events at all"),
]


@pytest.mark.parametrize(("statement", "said"), TAMPERING)
def test_tampering_past_the_catalogue_is_found(catalog: Catalog, url: str, statement: str, said: str) -> None:
    for slide in ("slide1", "slide2"):
        kit.ingest(catalog, slide)
    for _ in range(2):
        catalog.append_event("slide1", EventKind.RESTORED, "operator", {"to": "/x"})
    assert catalog.check_chains() == []
    kit.sql(url, statement)
    assert any(said in problem for problem in catalog.check_chains())


def test_exchange_of_two_events_is_found(catalog: Catalog, url: str) -> None:
    kit.ingest(catalog, "slide1")
    for _ in range(2):
        catalog.append_event("slide1", EventKind.RESTORED, "operator", {})
    for old, new in ((2, 9), (3, 2), (9, 3)):
        kit.sql(url, "UPDATE events SET number = ? WHERE number = ?", new, old)
    assert catalog.check_chains()


def test_stored_hash_is_that_of_the_documented_bytes(catalog: Catalog, url: str) -> None:
    kit.ingest(catalog, "slide1")
    (event,) = catalog.events("slide1")
    assert kit.sql(url, "SELECT hash, detail FROM events") == [(event_hash(event), '{"tier":"hot"}')]
