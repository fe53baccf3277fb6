"""The table of facts: one row per slide, what each column says, and what its state rests on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import catalog_kit as kit
from tests.site_kit import memory_site
from wsistore import ops
from wsistore.errors import SiteError
from wsistore.events import EventKind
from wsistore.model import LabelKind
from wsistore.ops.facts import facts_table
from wsistore.testing.clock import ManualClock
from wsistore.tiers.rules.facts import SCHEMA


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with memory_site(tmp_path / "site", clock=ManualClock(kit.NOW)) as opened:
        yield opened


def row(site: ops.Site, slide: str) -> dict[str, Any]:
    (found,) = [one for one in facts_table(site, [slide]).to_pylist() if one["slide"] == slide]
    return found


def test_no_slides_make_an_empty_table(site: ops.Site) -> None:
    assert facts_table(site).schema == SCHEMA
    assert facts_table(site).num_rows == 0
    assert facts_table(site, ["nobody"]).num_rows == 0
    assert facts_table(site, []).num_rows == 0


def test_row_of_a_slide_of_which_nothing_more_is_known(site: ops.Site) -> None:
    kit.ingest(site.catalog, "slide1", um_per_px=(0.25, 0.35), magnification=20.0)
    found = row(site, "slide1")
    (copy,) = found.pop("copies")
    attempt = site.catalog.copies("slide1")[0].attempt
    now = kit.NOW.replace(tzinfo=None)
    assert copy == {
        "attempt": attempt,
        "tier": "hot",
        "preset": "keep",
        "state": "committed",
        "bytes_stored": 1300,
        "objects": 4,
        "created_at": now,
        "verified_at": now,
        "expires_at": None,
        "charged_until": None,
    }
    assert len(found.pop("state")) == 64
    assert found.pop("um_per_px") == pytest.approx(0.3)
    said = {name: value for name, value in found.items() if value not in (None, [])}
    assert said == {
        "slide": "slide1",
        "name": "slide.svs",
        "format": "aperio-svs",
        "mode": "tiles",
        "ingested_at": now,
        "identity_detached": False,
        "holds": 0,
        "width": 2000,
        "height": 1000,
        "magnification": 20.0,
        "bytes_source": 1234,
        "version": 1,
        "tiers": ["hot"],
        "bytes_stored": 1300,
    }
    assert [name for name in ("collections", "tags") if found[name] != []] == []
    assert found["recourse"] is None
    assert found["diagnoses"] is None


def test_rows_are_those_of_whole_cases_by_key(site: ops.Site) -> None:
    for slide, case in (("slide3", "C1"), ("slide1", "C1"), ("slide2", "C2"), ("slide4", None)):
        kit.ingest(site.catalog, slide, metadata={"case_id": case} if case else {})
    everything = facts_table(site)
    assert everything["slide"].to_pylist() == ["slide1", "slide2", "slide3", "slide4"]
    assert facts_table(site, ["slide3"])["slide"].to_pylist() == ["slide1", "slide3"]
    assert facts_table(site, ["slide4", "slide2"])["slide"].to_pylist() == ["slide2", "slide4"]
    some = facts_table(site, ["slide3", "slide4", "slide2"])
    assert some.to_pylist() == everything.to_pylist()


def test_metadata_without_what_names_the_patient(site: ops.Site) -> None:
    said = {
        "patient_id": "PATIENT-0001",
        "family_name": "X",
        "block": "B1",
        "stain": "HES",
        "protocol": "A",
        "organ": "O",
    }
    kit.ingest(site.catalog, "slide1", metadata=said)
    found = row(site, "slide1")
    assert (found["block"], found["stain"], found["organ"]) == ("B1", "HES", "O")
    assert dict(found["metadata"])["protocol"] == "A"
    assert "PATIENT-0001" not in repr(found)
    assert "family_name" not in dict(found["metadata"])


def test_last_access_is_the_latest_clinical_one_of_the_case(site: ops.Site) -> None:
    for slide in ("slide1", "slide2"):
        kit.ingest(site.catalog, slide, metadata={"case_id": "C1"})
    clock = site.clock
    assert isinstance(clock, ManualClock)
    for kind in (EventKind.VERIFIED, EventKind.EXPORTED, EventKind.RECALL_EXPIRED, EventKind.REENCODED):
        clock.advance(3600)
        site.note("slide1", kind, {})
    assert row(site, "slide1")["last_access"] is None
    for kind in (EventKind.RECALL_BEGUN, EventKind.RECALLED, EventKind.RESTORED):
        clock.advance(3600)
        site.note("slide1", kind, {})
        at = clock.now().replace(tzinfo=None)
        assert row(site, "slide1")["last_access"] == at
        assert row(site, "slide2")["last_access"] == at


def test_copies_of_older_versions_do_not_count(site: ops.Site) -> None:
    kit.ingest(site.catalog, "slide1")
    kit.ingest(site.catalog, "slide1", "other", n=2)
    found = row(site, "slide1")
    assert found["version"] == 2
    assert len(found["copies"]) == 1
    assert found["bytes_stored"] == 1300


def test_copy_is_charged_for_until_the_least_time_is_over(tmp_path: Path) -> None:
    ops.init_site(tmp_path / "s")
    with ops.open_site(tmp_path / "s", clock=ManualClock(kit.NOW)) as site:
        attempt = kit.begin(site.catalog, "slide1", "cold")
        kit.claim(site.catalog, attempt, "slide1")
        site.catalog.commit(attempt.attempt, kit.INGESTED)
        later = kit.NOW + timedelta(days=400)
        site.catalog.record_verification(attempt.attempt, later, kit.INGESTED)
        (copy,) = row(site, "slide1")["copies"]
    assert copy["verified_at"] == later.replace(tzinfo=None)
    assert copy["created_at"] == kit.NOW.replace(tzinfo=None)
    assert copy["charged_until"] == kit.NOW.replace(tzinfo=None) + timedelta(days=180)


def test_state_changes_with_what_a_decision_rests_on_and_with_nothing_else(site: ops.Site) -> None:
    kit.ingest(site.catalog, "slide1", metadata={"case_id": "C1"})
    seen = [row(site, "slide1")["state"]]

    def changed() -> bool:
        seen.append(row(site, "slide1")["state"])
        return seen[-1] not in seen[:-1]

    site.catalog.put_metadata({"slide1": {"protocol": "A"}})
    site.note("slide1", EventKind.RESTORED, {})
    copy = site.catalog.copies("slide1")[0]
    site.catalog.record_verification(copy.attempt, kit.NOW + timedelta(days=1), kit.INGESTED)
    assert not changed()
    site.catalog.hold("slide1", "legal", "x")
    assert changed()
    site.catalog.add_label(LabelKind.COLLECTION, "teaching", ["slide1"], "x")
    assert changed()
    site.catalog.add_label(LabelKind.TAG, "teaching", ["slide1"], "x")
    assert changed()
    site.catalog.record_failure(copy.attempt, kit.INGESTED)
    assert changed()
    site.catalog.put_metadata({"slide1": {"case_id": "C2"}})
    assert changed()
    kit.ingest(site.catalog, "slide1", "other", n=2)
    assert changed()


def test_dates_that_are_none_are_the_catalogues_fault(site: ops.Site) -> None:
    kit.ingest(site.catalog, "slide1")
    kit.sql(site.settings.catalog_url, "UPDATE slides SET created_at = 'yesterday'")
    with pytest.raises(SiteError, match="cannot read"):
        facts_table(site)
