"""Visas and the elimination list: what is recorded, what is left out, and what must not be on paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import openpyxl
import pytest

from tests.approval_kit import MadePlan, People, deleting, moving, note, people, plan_of, row
from tests.catalog_kit import sql
from tests.site_kit import PATIENT, ingest, tiny_tiff
from wsistore.errors import ConflictError, InputError, Kind, StorageError, WsistoreError
from wsistore.ops.approving import approve, check_approved, standing
from wsistore.ops.bordereau import write_bordereau
from wsistore.ops.clinical import import_metadata
from wsistore.ops.roster import revoke_approver
from wsistore.ops.visas import add_visa
from wsistore.ops.visas_given import VisaScope

DAY = "2026-06-01"
VISAS = ("director", "dim-physician", "departmental-archives")


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[People]:
    """Return a site with a roster."""
    made = people(tmp_path)
    yield made
    made.site.close()


@pytest.fixture
def plan(crew: People) -> MadePlan:
    """Return a plan that deletes three slides and parts one from its patient, approved but for the visas."""
    rows = [row(f"s{n}", "delete") for n in range(3)] + [row("s3", "detach-identity"), row("s4", "move")]
    made = note(crew.site, plan_of(rows))
    approve(crew.site, made, "approver", crew.keys["first"])
    approve(crew.site, made, "dim-physician", crew.keys["dim"])
    return made


def visa(crew: People, plan: MadePlan, role: str = "director", **values: object) -> None:
    said = {"reference": f"{role}/2026/1", "day": DAY, **values}
    add_visa(crew.site, plan, role, proof=crew.keys["clerk"], **said)  # type: ignore[arg-type]


def test_what_the_archives_keep_is_left_out(crew: People, plan: MadePlan) -> None:
    visa(crew, plan, "director")
    visa(crew, plan, "dim-physician", kept=["s3"])
    assert standing(crew.site, plan).missing == ("the visa of departmental-archives",)
    visa(crew, plan, "departmental-archives", kept=[" s1 ", "", "s1"])
    found = check_approved(crew.site, plan)
    assert found.left_out == {"s1", "s3"}
    assert {one.role: (one.reference, one.date, one.recorded_by) for one in found.visas}["director"] == (
        "director/2026/1",
        DAY,
        "clerk",
    )
    # What is recorded again takes the place of what was there.
    visa(crew, plan, "departmental-archives", kept=[])
    assert check_approved(crew.site, plan).left_out == {"s3"}


def test_a_visa_counts_for_its_scope(crew: People, plan: MadePlan) -> None:
    for role in VISAS:
        visa(crew, plan, role, scope=VisaScope.DELETE)
    assert standing(crew.site, plan).missing == tuple(f"the visa of {role} for detach-identity" for role in VISAS)
    for role in VISAS:
        visa(crew, plan, role, scope=VisaScope.ALL)
    check_approved(crew.site, plan)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"role": "directr"}, "did you mean 'director'"),
        ({"role": "approver"}, "asks for no visa"),
        ({"reference": "  "}, "reference"),
        ({"reference": "x" * 201}, "reference"),
        ({"day": "01/06/2026"}, "bears no day"),
        ({"day": "2026-02-30"}, "bears no day"),
        ({"day": "2026W231"}, "bears no day"),
        ({"day": "2026-05-30"}, "before the plan"),
        ({"day": "2026-06-03"}, "still to come"),
        ({"kept": ["s1", "s4"]}, "s4"),
        ({"kept": ["typing-error"]}, "typing-error"),
    ],
    ids=str,
)
def test_what_cannot_be_recorded(crew: People, plan: MadePlan, values: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        visa(crew, plan, **values)  # type: ignore[arg-type]
    assert caught.value.kind is Kind.METADATA_INVALID
    assert crew.site.catalog.visas(plan.digest) == []


def test_plans_that_need_none(crew: People) -> None:
    with pytest.raises(InputError, match="deletes nothing"):
        visa(crew, note(crew.site, moving(2)))
    approvals = replace(crew.site.settings.approvals, visas=())
    crew.site.settings = replace(crew.site.settings, approvals=approvals)
    with pytest.raises(InputError, match="none at all"):
        visa(crew, note(crew.site, deleting()))


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE visas SET statement = replace(statement, '["s1"]', '[]')""",
        "UPDATE visas SET statement = replace(statement, 'director/2026/1', 'director/2026/2')",
        "UPDATE visas SET role = 'dim-physician'",
        "UPDATE visas SET proof = '00'",
        "UPDATE visas SET statement = '{}'",
        "UPDATE visas SET at = '2026-06-01T12:01:00.000000Z'",
    ],
)
def test_an_altered_visa_does_not_count(crew: People, plan: MadePlan, statement: str) -> None:
    visa(crew, plan, kept=["s1"])
    assert standing(crew.site, plan).visas[0].kept == ("s1",)
    sql(crew.site.settings.catalog_url, statement)
    found = standing(crew.site, plan)
    assert found.visas == ()
    assert len(found.refused) == 1
    assert "the visa of director" in found.missing


def test_a_visa_of_another_plan_or_by_somebody_revoked(crew: People, plan: MadePlan) -> None:
    other = note(crew.site, deleting("s1"))
    visa(crew, plan)
    sql(crew.site.settings.catalog_url, "UPDATE visas SET plan = ?", other.digest)
    assert "for another plan" in standing(crew.site, other).refused[0]
    visa(crew, plan)
    revoke_approver(crew.site, "clerk", crew.keys["admin"])
    assert "was revoked" in standing(crew.site, plan).refused[0]


# --- the elimination list ---------------------------------------------------------------------------------------------


def cells(path: Path) -> dict[str, list[list[object]]]:
    """Return what is in a workbook's sheets, row by row, as whoever opens it sees it."""
    book = openpyxl.load_workbook(path)
    assert all(cell.data_type != "f" for sheet in book for line in sheet.iter_rows() for cell in line), "a formula"
    return {sheet.title: [list(line) for line in sheet.iter_rows(values_only=True)] for sheet in book}


def test_rows_and_totals(crew: People, plan: MadePlan, tmp_path: Path) -> None:
    visa(crew, plan, "departmental-archives", kept=["s1"])
    made = write_bordereau(crew.site, plan, tmp_path / "b.xlsx")
    assert (made.slides, made.bytes, made.groups) == (4, 3_000_000_000, 2)
    sheets = cells(tmp_path / "b.xlsx")
    title, *lines, total = sheets["Lames"]
    found = [dict(zip(title, line, strict=True)) for line in lines]
    assert {one["Clé de la lame"]: one["Sort"] for one in found} == {
        "s0": "élimination",
        "s1": "élimination",
        "s2": "élimination",
        "s3": "dépersonnalisation",
    }
    assert [one["Clé de la lame"] for one in found if one["À conserver"]] == ["s1"]
    assert total[8] == sum(int(str(one["Octets libérés"])) for one in found) == made.bytes
    form = [value for line in sheets["Bordereau"] for value in line if value is not None]
    for value in (plan.digest, 4, "directeur", "departmental-archives/2026/1", "csp-r1112-7"):
        assert any(str(value) in str(cell) for cell in form), value


def test_no_identity_is_on_it(crew: People, tmp_path: Path) -> None:
    results = ingest(crew.site, tiny_tiff(tmp_path / f"{PATIENT}.tiff"))
    slide = str(results[0].slide)
    crew.site.catalog.put_metadata({slide: {"patient_id": PATIENT, "case_id": "CASE-0001", "stain": "HE"}})
    plan = note(crew.site, plan_of([row(slide, "delete", case_id="CASE-0001")]))
    write_bordereau(crew.site, plan, tmp_path / "b.xlsx")
    text = str(cells(tmp_path / "b.xlsx"))
    assert slide in text
    assert not re.search(f"{PATIENT}|CASE-0001", text)
    title, line, _ = cells(tmp_path / "b.xlsx")["Lames"]
    assert dict(zip(title, line, strict=True))["Examen"] is None  # the hospital has not said when


def test_dates_are_those_of_the_examinations_and_small_volumes_are_not_nothing(crew: People, tmp_path: Path) -> None:
    results = ingest(crew.site, *[tiny_tiff(tmp_path / f"{seed}.tiff", seed) for seed in (1, 2, 3)])
    slides = [str(result.slide) for result in results]
    crew.site.catalog.put_metadata({slide: {"case_id": f"CASE-{n}"} for n, slide in enumerate(slides[:2])})
    (tmp_path / "cases.csv").write_text("case_id,received_on\nCASE-0,2003-02-01\nCASE-1,1998-12-31\n")
    import_metadata(crew.site, [tmp_path / "cases.csv"], crew.clock.now())
    plan = note(crew.site, plan_of([row(slide, "delete", bytes_now=40_000) for slide in slides]))
    write_bordereau(crew.site, plan, tmp_path / "b.xlsx")
    sheets = cells(tmp_path / "b.xlsx")
    title, *lines, _ = sheets["Lames"]
    days = {line[title.index("Clé de la lame")]: line[title.index("Examen")] for line in lines}
    assert days == {slides[0]: datetime(2003, 2, 1), slides[1]: datetime(1998, 12, 31), slides[2]: None}  # noqa: DTZ001
    titles = next(line for line in sheets["Bordereau"] if "Dates extrêmes" in line)
    group = sheets["Bordereau"][sheets["Bordereau"].index(titles) + 1]
    assert group[titles.index("Dates extrêmes")] == "1998 – 2003, ?"
    assert group[titles.index("Volume libéré (Go)")] == 0.00012


@pytest.mark.parametrize("rule", ["=1+1", "+cmd|' /C calc'!A0", "@x", "\x00\x07rule", "x" * 40_000, ""])
def test_odd_names_are_text(crew: People, tmp_path: Path, rule: str) -> None:
    write_bordereau(crew.site, note(crew.site, plan_of([row("s1", "delete", keep_rule=rule)])), tmp_path / "b.xlsx")
    cells(tmp_path / "b.xlsx")


def test_where_it_cannot_be_written(crew: People, plan: MadePlan, tmp_path: Path) -> None:
    out = tmp_path / "b.xlsx"
    write_bordereau(crew.site, plan, out)
    before = out.read_bytes()
    with pytest.raises(ConflictError) as caught:
        write_bordereau(crew.site, plan, out)
    assert caught.value.kind is Kind.TARGET_EXISTS
    assert out.read_bytes() == before
    write_bordereau(crew.site, plan, out, replace=True)
    with pytest.raises(StorageError):
        write_bordereau(crew.site, plan, tmp_path / "nowhere" / "b.xlsx")
    assert sorted(path.name for path in tmp_path.glob("*.xlsx")) == ["b.xlsx"]
    assert not list(tmp_path.glob(".b.xlsx*"))


def test_plans_without_one(crew: People, tmp_path: Path) -> None:
    for plan in (note(crew.site, moving(1)), deleting()):
        with pytest.raises(WsistoreError):
            write_bordereau(crew.site, plan, tmp_path / "b.xlsx")
    assert not (tmp_path / "b.xlsx").exists()
