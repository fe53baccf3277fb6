"""Feeds in any order, twice, merged and unmerged: what is known in the end is the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import catalog_kit as kit
from tests.site_kit import memory_site
from wsistore import ops
from wsistore.catalog import schema
from wsistore.errors import WsistoreError
from wsistore.ops.clinical import import_metadata
from wsistore.ops.facts import facts_table
from wsistore.testing.clock import ManualClock

PEOPLE = ("PATIENT-1", "PATIENT-2", "PATIENT-3")
FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])

days = st.dates(date(1950, 1, 1), date(2025, 12, 31)).map(date.isoformat)
maybe = st.one_of(st.just(""), days)
people = st.sampled_from(PEOPLE)


def table(draw: st.DrawFn, columns: Sequence[str], keys: Sequence[str], *cells: st.SearchStrategy[str]) -> str:
    chosen = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3, unique=True))
    rows = [",".join([key, *(draw(cell) for cell in cells)]) for key in chosen]
    return "\n".join([",".join(columns), *rows])


@st.composite
def feeds(draw: st.DrawFn) -> dict[str, str]:
    """Return the tables of one feed: parts of what there is, and some columns only."""
    tables = {
        "patients": table(draw, ["patient_id", "birth_date"], PEOPLE, maybe),
        "encounters": table(
            draw, ["encounter_id", "patient_id", "begins", "state"], ["E1", "E2", "E3"],
            people, days, st.sampled_from(["", "finished", "cancelled"]),
        ),
        "recourses": table(draw, ["recourse_id", "patient_id", "begins"], ["R1", "R2"], people, days),
        "cases": table(
            draw, ["case_id", "patient_id", "signed_out_at", "reopened_at"], ["CASE-1", "CASE-2"],
            people, maybe, maybe,
        ),
    }  # fmt: skip
    chosen = draw(st.sets(st.sampled_from(sorted(tables)), min_size=1))
    return {name: tables[name] for name in sorted(chosen)}


@contextmanager
def new_site() -> Iterator[ops.Site]:
    folder = Path(tempfile.mkdtemp())
    try:
        with memory_site(folder / "site", clock=ManualClock(kit.NOW)) as site:
            for number, case in enumerate(("CASE-1", "CASE-1", "CASE-2")):
                kit.ingest(site.catalog, f"slide{number}", metadata={"case_id": case})
            kit.ingest(site.catalog, "slide9", metadata={"patient_id": "PATIENT-3"})
            yield site
    finally:
        shutil.rmtree(folder)


def take(site: ops.Site, tables: dict[str, str], days_ago: int) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        paths = []
        for name, text in tables.items():
            paths.append(folder / f"{name}.csv")
            paths[-1].write_text(text)
        import_metadata(site, paths, kit.NOW - timedelta(days=days_ago))
    finally:
        shutil.rmtree(folder)


def known(site: ops.Site) -> list[dict[str, Any]]:
    """Return the facts; patients by the first slide of theirs, for their keys are random."""
    rows = facts_table(site).to_pylist()
    first: dict[str, str] = {}
    for row in rows:
        row["patient"] = row["patient"] and first.setdefault(row["patient"], row["slide"])
        row["copies"] = [{**copy, "attempt": ""} for copy in row["copies"]]
        row["state"] = ""
    return rows


def everything(site: ops.Site) -> list[Any]:
    url = site.settings.catalog_url
    return [sorted(kit.sql(url, f"SELECT * FROM {one.name}"), key=repr) for one in schema.metadata.sorted_tables]


@FEW
@given(st.lists(feeds(), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_order_of_feeds_and_of_files_does_not_matter(found: list[dict[str, str]], random: Any) -> None:
    numbered = list(enumerate(found))
    with new_site() as one, new_site() as other:
        for number, tables in numbered:
            take(one, tables, number)
        random.shuffle(numbered)
        for number, tables in numbered:
            names = list(tables)
            random.shuffle(names)
            for name in names:
                take(other, {name: tables[name]}, number)
        assert known(one) == known(other)


@FEW
@given(st.lists(feeds(), min_size=1, max_size=3))
def test_twice_is_once(found: list[dict[str, str]]) -> None:
    with new_site() as site:
        for number, tables in enumerate(reversed(found)):
            take(site, tables, len(found) - number)
            before = everything(site)
            take(site, tables, len(found) - number)
            assert everything(site) == before


@FEW
@given(feeds(), st.lists(st.tuples(people, people), min_size=1, max_size=3))
def test_merged_and_unmerged_is_as_before(tables: dict[str, str], pairs: list[tuple[str, str]]) -> None:
    with new_site() as site:
        take(site, {"patients": "\n".join(["patient_id", *PEOPLE])}, 10)
        take(site, tables, 9)
        before = known(site)
        merged = []
        for one, into in dict(pairs).items():
            try:
                take(site, {"merges": f"patient_id,into_patient_id\n{one},{into}"}, 5)
            except WsistoreError:  # into itself, or a circle
                continue
            merged.append(one)
        by_patient: dict[str | None, set[str]] = {}
        for row in known(site):
            by_patient.setdefault(row["patient"], set()).add(repr((row["birth_date"], row["last_encounter"])))
        assert all(len(dates) == 1 for patient, dates in by_patient.items() if patient)
        for one in merged:
            take(site, {"merges": f"patient_id,into_patient_id,state\n{one},,unmerged"}, 3)
        assert known(site) == before


@FEW
@given(feeds(), st.binary(max_size=80), st.integers(0, 400))
def test_damaged_tables_change_nothing_or_are_tables(tables: dict[str, str], junk: bytes, place: int) -> None:
    with new_site() as site:
        before = everything(site)
        folder = Path(tempfile.mkdtemp())
        try:
            for name, text in tables.items():
                data = text.encode()
                (folder / f"{name}.csv").write_bytes(data[:place] + junk + data[place:])
            import_metadata(site, sorted(folder.iterdir()), kit.NOW)
        except WsistoreError:
            assert everything(site) == before
        else:
            facts_table(site)
        finally:
            shutil.rmtree(folder)
