"""What of the laboratory's text goes to researchers: an allow-list, from which nothing that names somebody escapes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import catalog_kit as kit
from tests.canary_kit import SONG, Aviary
from tests.research_kit import accessing, bearer, research_site, rows
from wsistore import ops
from wsistore.ops.research_terms import COLUMNS, Terms, is_code

NOTHING = Terms({})


@pytest.mark.parametrize(
    "text",
    ["ADICAP:BHGSA7A0", "ADICAP:SK", "ADICAP:OP", "SNOMED:254837009", "SCT:73211009", "SNOMED:M-81403", "ICD-O:C50.9",
     "ICD-O-3:8500/3", "CIM-10:C34.1", "ICD10:C34", "C50.9", "8140/3"],
)  # fmt: skip
def test_codes_are_told(text: str) -> None:
    assert is_code(text)
    assert NOTHING.may_be_told("organ", text)
    assert NOTHING.may_be_told("diagnoses", text)
    assert not NOTHING.may_be_told("stain", text)


@pytest.mark.parametrize(
    "text",
    ["ADICAP:SURNAM", "ADICAP:SURNAME1", "ADICAP:sk", "ADICAP:", ":SK", "SK", "ADICAP:SK ", "ADICAP:SK:M",
     "NOM:SURNAME", "SNOMED:254837008", "SNOMED:80012345", "SCT:19500615", "SNOMED:M-NAMES", "ICD-O:8001234567",
     "ICD-10:19500615", "ADICAP:BHGSA7A0 M. X", "ADICAP:BHGSA7A0\n", "ADICAP:\uff33\uff2b", "PATIENT:1",
     "254837009", "C50", ""],
)  # fmt: skip
def test_what_only_looks_like_a_code_is_not_told(text: str) -> None:
    assert not any(NOTHING.may_be_told(column, text) for column in COLUMNS)


@pytest.mark.parametrize(
    ("column", "text"),
    [("stain", "HES"), ("stain", "hes"), ("stain", "H&E"), ("stain", "Ki-67"), ("stain", "Ki67"), ("stain", "CD20"),
     ("stain", "CK 5/6"), ("stain", "AE1/AE3"), ("stain", "PD-L1"), ("stain", "Hématoxyline éosine safran"),
     ("stain", "MELAN-A"), ("organ", "LUNG"), ("organ", "Poumon"), ("organ", "œsophage"), ("organ", "lymph node")],
)  # fmt: skip
def test_usual_terms_are_told(column: str, text: str) -> None:
    assert NOTHING.may_be_told(column, text)
    assert not any(NOTHING.may_be_told(other, text) for other in COLUMNS if other != column)


@pytest.mark.parametrize(
    "text",
    ["M. X biopsie", "HES M. X", "HES (SURNAME)", "HES\u200b", "HES 19500615", "SURNAME", "Dr SURNAME", "HES;SURNAME",
     "lung of SURNAME", "poumon-SURNAME", "01 23 45 67 89", "1950-06-15", "CD2012345", "HE" + " " * 60, "H\u0000E"],
)  # fmt: skip
def test_prose_is_not_told(text: str) -> None:
    assert not any(NOTHING.may_be_told(column, text) for column in COLUMNS)


@settings(max_examples=60)
@given(st.text(max_size=120), st.sampled_from(["HES", "Ki-67", "LUNG", "ADICAP:SK", "SNOMED:254837009", "CD20"]))
def test_nothing_of_substance_hides_beside_what_is_allowed(extra: str, allowed: str) -> None:
    letters = [sign for sign in extra if sign.isalnum()]
    for text in (extra + allowed, allowed + extra, f"{allowed} {extra}"):
        if any(NOTHING.may_be_told(column, text) for column in COLUMNS):
            assert len(letters) <= 2  # "CK20" of "CK2", at the utmost


@settings(max_examples=40)
@given(st.text(max_size=60))
def test_what_the_site_lists_is_told_to_the_letter_in_its_column_only(text: str) -> None:
    terms = Terms({"stain": frozenset({"HES tumour board", "x1"})})
    assert terms.may_be_told("stain", "HES tumour board")
    assert not terms.may_be_told("organ", "HES tumour board")
    assert not terms.may_be_told("stain", f"x1{text} y")


def test_canaries_in_the_laboratorys_text_are_in_no_row(tmp_path: Path) -> None:
    aviary = Aviary()
    serve = 'cohort_refresh_seconds = 0\ntell_stains = ["HES tumour board"]'
    with research_site(tmp_path, serve=serve) as site:
        for number, form in enumerate(("{}", "HES {}", "M. {} biopsie", "ADICAP:{}", "SNOMED:{}", "{}:SK", "C50.9 {}")):
            said = {column: form.format(aviary.new(f"{column} {form}")) for column in ("stain", "organ", "block")}
            kit.ingest(site.catalog, f"text{number}", metadata={"patient_id": f"PATIENT-1{number}", **said})
        kit.ingest(site.catalog, "listed", metadata={"patient_id": "PATIENT-20", "stain": "HES tumour board"})
        cases = "case_id,patient_id,organ,diagnoses\n" + "".join(
            f"CASE-9{number},PATIENT-0001,{system}:{aviary.new(system)},{system}:{aviary.new(f'{system} 2')} ADICAP:1\n"
            for number, system in enumerate(("ADICAP", "SCT", "LOCAL"))
        )
        table = site.folder / "cases.csv"
        table.write_text(cases)
        ops.import_metadata(site, [table], site.clock.now())
        for number in range(3):
            kit.ingest(site.catalog, f"coded{number}", metadata={"case_id": f"CASE-9{number}", "stain": "HES"})
        with accessing(site) as access:
            found = rows(access, access.caller(bearer(site)))
    assert len(found) == 5 + 7 + 1 + 3
    assert SONG.casefold() not in str(found).casefold()
    assert not any(canary.casefold() in str(found).casefold() for canary in aviary.planted.values())
    assert [row["stain"] for row in found].count("HES tumour board") == 1
    assert [row["diagnoses"] for row in found].count(["ADICAP:1"]) == 3 + 3
