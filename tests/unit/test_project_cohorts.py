"""Cohorts: what their conditions see is what rules see, read in less time; what cannot be evaluated is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import catalog_kit as kit
from tests.research_kit import research_site
from tests.site_kit import memory_site
from wsistore import ops
from wsistore.catalog import projects_facts
from wsistore.errors import InputError, Kind
from wsistore.model import LabelKind
from wsistore.ops.facts import facts_table
from wsistore.ops.project_cohorts import cohort_table, seen_table


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with research_site(tmp_path) as opened:
        yield opened


def add_odd_slides(site: ops.Site) -> None:
    """Put in slides of which less, or something else, is known."""
    kit.ingest(site.catalog, "alone1", metadata={"patient_id": "patient-0001", "stain": "HES", "organ": "ADICAP:BR"})
    kit.ingest(site.catalog, "alone2", metadata={"patient_id": "PATIENT-9999", "block": "C3"}, um_per_px=None)
    kit.ingest(site.catalog, "alone3", metadata={})
    kit.ingest(site.catalog, "other1", metadata={"case_id": "CASE-0099", "organ": "ADICAP:CO", "stain": ""})
    for slide, collection in (("slide1", "teaching"), ("slide1", "atlas"), ("alone1", "teaching")):
        site.catalog.add_label(LabelKind.COLLECTION, collection, [slide], "x")
    site.catalog.add_label(LabelKind.TAG, "teaching", ["slide2", "alone3"], "x")
    merges = site.folder / "merges.csv"
    merges.write_text("patient_id,into_patient_id\nPATIENT-0002,PATIENT-0003\n")
    ops.import_metadata(site, [merges], site.clock.now())


@pytest.mark.parametrize("at_once", [1, 3, 20_000])
def test_conditions_see_what_rules_see(site: ops.Site, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    add_odd_slides(site)
    monkeypatch.setattr(projects_facts, "AT_ONCE", at_once)
    facts, seen = facts_table(site), seen_table(site)
    assert seen.num_rows == facts.num_rows == 9
    assert seen.combine_chunks().equals(facts.select(seen.column_names).combine_chunks())
    assert cohort_table(seen).equals(cohort_table(facts))
    known = {one["slide"]: one for one in cohort_table(seen).to_pylist()}
    assert known["alone1"]["age_at"] is None
    assert known["slide4"]["age_at"] == 20, "of merged records the later date of birth"
    assert known["slide1"]["collections"] == ["atlas", "teaching"]


def test_an_empty_site_shows_nothing(tmp_path: Path) -> None:
    with memory_site(tmp_path / "site") as site:
        assert seen_table(site).num_rows == 0
        assert cohort_table(seen_table(site)).num_rows == 0


@pytest.mark.parametrize("where", ["diagnoses = 'ADICAP:1'", "width = 'wide'", "organ", "patient = 'x'"])
def test_a_cohort_that_cannot_be_evaluated_is_refused(site: ops.Site, where: str) -> None:
    before = ops.list_projects(site)
    with pytest.raises(InputError) as refused:
        ops.set_cohort(site, "study", where=where)
    assert refused.value.kind is Kind.CONDITION_INVALID
    assert ops.list_projects(site) == before
