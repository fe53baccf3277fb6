"""Tables from the hospital: what they make of facts and chains, what is refused and leaves everything as it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import catalog_kit as kit
from tests.site_kit import memory_site
from wsistore import ops
from wsistore.catalog import schema
from wsistore.catalog.clinical_import import Imported
from wsistore.errors import InputError, Kind, MissingError, SiteError, WsistoreError
from wsistore.ops.clinical import import_metadata
from wsistore.ops.facts import facts_table
from wsistore.testing.clock import ManualClock

MATRICULE = "160017512345670"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    """Return a site with slide1 of CASE-1 and slide2 of no case."""
    with memory_site(tmp_path / "site", clock=ManualClock(kit.NOW)) as opened:
        kit.ingest(opened.catalog, "slide1", name="a.svs", metadata={"case_id": "CASE-1"})
        kit.ingest(opened.catalog, "slide2", name="b.svs", metadata={"patient_id": "PATIENT-0002"})
        yield opened


def at(text: str) -> datetime:
    """Return a moment as tables have it: UTC, without saying so."""
    return datetime.fromisoformat(text)


class Tables:
    """Writes tables and takes them in."""

    def __init__(self, site: ops.Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        self._numbers = itertools.count(1)

    def write(self, **tables: str) -> list[Path]:
        folder = self.folder / f"feed{next(self._numbers)}"
        folder.mkdir()
        paths = []
        for name, text in tables.items():
            path = folder / f"{name}.csv"
            path.write_bytes(text.replace("|", "\n").encode())
            paths.append(path)
        return paths

    def take(self, days_ago: float = 0, **tables: str) -> Imported:
        return import_metadata(self.site, self.write(**tables), kit.NOW - timedelta(days=days_ago))

    def refused(self, **tables: str) -> str:
        before = everything(self.site)
        with pytest.raises(InputError) as caught:
            self.take(0, **tables)
        assert caught.value.kind is Kind.METADATA_INVALID
        assert everything(self.site) == before
        assert caught.value.remedy
        return caught.value.message

    def row(self, slide: str = "slide1") -> dict[str, Any]:
        (found,) = [one for one in facts_table(self.site, [slide]).to_pylist() if one["slide"] == slide]
        return found

    def kinds(self, slide: str = "slide1") -> list[str]:
        return [event.kind for event in self.site.catalog.events(slide)][1:]


@pytest.fixture
def feed(site: ops.Site, tmp_path: Path) -> Tables:
    return Tables(site, tmp_path)


def everything(site: ops.Site) -> list[Any]:
    url = site.settings.catalog_url
    return [sorted(kit.sql(url, f"SELECT * FROM {table.name}"), key=repr) for table in schema.metadata.sorted_tables]


PATIENTS = "patient_id,birth_date,death_date|PATIENT-0001,1960-05-01,|PATIENT-0002,1995-06-01,2010-01-02"
STAYS = "encounter_id,patient_id,kind,state,begins,ends|E1,PATIENT-0001,stay,finished,1999-12-20,2000-01-01"
CASES = (
    "case_id,patient_id,received_on,signed_out_at,organ,diagnoses,department|"
    "CASE-1,PATIENT-0001,2000-01-02,2000-01-05T10:00Z,ADICAP:DE,ADICAP:BHGSA7A0 SNOMED:254837009,4711"
)


def test_dates_become_facts(feed: Tables) -> None:
    done = feed.take(patients=PATIENTS, encounters=STAYS, cases=CASES, recourses="recourse_id,patient_id,begins,ends")
    assert done.rows == {"patients": 2, "encounters": 1, "cases": 1, "recourses": 0}
    assert done.changed == {"patients": 2, "encounters": 1, "cases": 1, "recourses": 0}
    found = feed.row()
    assert found["birth_date"] == date(1960, 5, 1)
    assert found["death_date"] is None
    assert found["last_encounter"] == date(2000, 1, 1)
    assert found["received_on"] == date(2000, 1, 2)
    assert found["signed_out_at"] == at("2000-01-05T10:00")
    assert found["organ"] == "ADICAP:DE"
    assert found["diagnoses"] == ["ADICAP:BHGSA7A0", "SNOMED:254837009"]
    assert found["department"] == "4711"
    assert found["recourse"] == []
    assert found["feed_as_of"] == kit.NOW.replace(tzinfo=None)
    assert len(found["patient"]) == 20
    assert facts_table(feed.site).to_pylist() == [feed.row(), feed.row("slide2")]
    other = feed.row("slide2")
    assert (other["birth_date"], other["death_date"]) == (date(1995, 6, 1), date(2010, 1, 2))
    assert other["last_encounter"] is None
    assert feed.kinds() == []


def test_nothing_that_names_a_person_stands_in_facts_or_chains(feed: Tables) -> None:
    feed.take(2, patients=PATIENTS, encounters=STAYS, cases=CASES)
    feed.take(1, patients="patient_id,birth_date|PATIENT-0001,1961-05-01")
    feed.take(merges="patient_id,into_patient_id|PATIENT-0002,PATIENT-0001")
    assert "patients-merged" in feed.kinds()
    said = repr([feed.row(), feed.row("slide2"), feed.site.catalog.events()])
    assert "PATIENT-000" not in said
    events = feed.site.catalog.events()
    assert "1961-" not in repr(events)  # no hash and no key has a hyphen
    random = {"patient", "from", "into"}  # keys, which may have any four digits
    assert "1961" not in repr([{k: v for k, v in event.detail.items() if k not in random} for event in events])


def test_feed_is_as_old_as_the_oldest_of_what_is_needed(feed: Tables) -> None:
    feed.take(3, patients=PATIENTS)
    feed.take(1, encounters=STAYS, cases=CASES)
    assert feed.row()["feed_as_of"] is None
    feed.take(2, recourses="recourse_id,patient_id,begins,ends")
    assert feed.row()["feed_as_of"] == (kit.NOW - timedelta(days=3)).replace(tzinfo=None)
    feed.take(0, patients="patient_id|PATIENT-0001")
    assert feed.row()["feed_as_of"] == (kit.NOW - timedelta(days=2)).replace(tzinfo=None)
    feed.take(5, recourses="recourse_id,patient_id,begins,ends")
    assert feed.row()["feed_as_of"] == (kit.NOW - timedelta(days=2)).replace(tzinfo=None)


# --- stays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "last"),
    [
        ("E1,stay,finished,2000-01-01,2000-01-09|E2,visit,,2005-03-04,", date(2005, 3, 4)),
        ("E1,stay,finished,2000-01-01,2000-01-09|E2,visit,cancelled,2005-03-04,", date(2000, 1, 9)),
        ("E1,stay,cancelled,2000-01-01,2000-01-09", None),
        ("E1,stay,open,2000-01-01,", date(2026, 1, 31)),
        ("E1,stay,,2000-01-01,", date(2026, 1, 31)),
        ("E1,stay,open,2000-01-01,9999-12-31", date(2026, 1, 31)),
        ("E1,visit,planned,2030-01-01,", date(2030, 1, 1)),
        ("E1,stay,planned,2030-01-01,", date(2030, 1, 1)),
        ("E1,visit,,20000229,", date(2000, 2, 29)),
        ("E1,,,2000-01-01,", date(2026, 1, 31)),
        ("E1,,finished,2000-01-01,2000-01-09", date(2000, 1, 9)),
        ("E1,stay,open,2000-01-01,2000-01-09", date(2026, 1, 31)),
    ],
)
def test_last_encounter(feed: Tables, rows: str, last: date | None) -> None:
    lines = "|".join(row.replace(",", ",PATIENT-0001,", 1) for row in rows.split("|"))
    feed.take(cases=CASES, encounters=f"encounter_id,patient_id,kind,state,begins,ends|{lines}")
    assert feed.row()["last_encounter"] == last


def test_cancelled_encounter_is_told_and_taken_back(feed: Tables) -> None:
    feed.take(3, encounters=STAYS, cases=CASES)
    feed.take(2, encounters="encounter_id,state|E1,cancelled")
    assert feed.row()["last_encounter"] is None
    feed.take(1, encounters="encounter_id,state|E1,finished")
    assert feed.row()["last_encounter"] == date(2000, 1, 1)
    assert feed.kinds() == ["encounter-cancelled", "encounter-cancelled"]
    details = [event.detail for event in feed.site.catalog.events("slide1")][1:]
    assert [(one.get("cancelled"), one.get("reinstated")) for one in details] == [(1, None), (None, 1)]


def test_stay_and_recourse_that_are_open_again_go_on(feed: Tables) -> None:
    stay = "encounter_id,patient_id,kind,state,begins,ends|E1,PATIENT-0001,stay,finished,2000-01-01,2000-01-09"
    suit = "recourse_id,patient_id,state,begins,ends|R1,PATIENT-0001,ended,2015-01-01,2016-07-01"
    feed.take(2, cases=CASES, encounters=stay, recourses=suit)
    assert feed.row()["last_encounter"] == date(2000, 1, 9)
    assert feed.row()["recourse"] == [{"begins": date(2015, 1, 1), "ends": date(2016, 7, 1)}]
    feed.take(1, encounters="encounter_id,state|E1,open", recourses="recourse_id,state|R1,open")
    assert feed.row()["last_encounter"] > date(2026, 1, 1)
    assert feed.row()["recourse"] == [{"begins": date(2015, 1, 1), "ends": None}]


def test_death_before_the_last_encounter_does_not_count(feed: Tables) -> None:
    feed.take(cases=CASES, encounters=STAYS, patients="patient_id,birth_date,death_date|PATIENT-0001,,1999-01-01")
    assert feed.row()["death_date"] is None


def test_recourses(feed: Tables) -> None:
    feed.take(2, cases=CASES, recourses="recourse_id,patient_id,begins,ends|R1,PATIENT-0001,2015-01-01,2016-07-01")
    assert feed.row()["recourse"] == [{"begins": date(2015, 1, 1), "ends": date(2016, 7, 1)}]
    feed.take(1, recourses="recourse_id,patient_id,begins,ends|R2,PATIENT-0001,2020-01-01,")
    assert feed.row()["recourse"][1] == {"begins": date(2020, 1, 1), "ends": None}
    feed.take(0, recourses="recourse_id,state|R2,cancelled")
    assert len(feed.row()["recourse"]) == 1
    assert feed.kinds() == ["recourse-changed"] * 3


# --- corrections ------------------------------------------------------------------------------------------------------


def test_correction_is_told_and_knowledge_is_not(feed: Tables) -> None:
    feed.take(4, patients="patient_id|PATIENT-0001", cases=CASES)
    feed.take(3, patients="patient_id,birth_date|PATIENT-0001,1960-05-01")
    assert feed.kinds() == []
    feed.take(2, patients="patient_id,birth_date|PATIENT-0001,1961-05-01")
    assert feed.row()["birth_date"] == date(1961, 5, 1)
    feed.take(1, patients="patient_id,birth_date|PATIENT-0001,")
    assert feed.row()["birth_date"] is None
    assert feed.kinds() == ["patient-corrected"] * 2
    assert feed.site.catalog.events("slide1")[1].detail["columns"] == ["birth_date"]


def test_older_feed_says_only_what_was_not_known(feed: Tables) -> None:
    feed.take(1, patients="patient_id,birth_date|PATIENT-0001,1961-05-01", cases=CASES)
    feed.take(9, patients="patient_id,birth_date,death_date|PATIENT-0001,1960-05-01,2020-01-01")
    assert feed.row()["birth_date"] == date(1961, 5, 1)
    assert feed.row()["death_date"] == date(2020, 1, 1)
    assert feed.kinds() == []


def test_amended_report_opens_the_case_again(feed: Tables) -> None:
    feed.take(3, cases=CASES)
    feed.take(2, cases="case_id,reopened_at|CASE-1,2025-01-01T00:00Z")
    assert feed.row()["signed_out_at"] is None
    assert feed.kinds() == ["case-reopened"]
    feed.take(1, cases="case_id,signed_out_at|CASE-1,2025-02-01T00:00Z")
    assert feed.row()["signed_out_at"] == at("2025-02-01T00:00")
    assert feed.kinds() == ["case-reopened"]


def test_case_of_another_patient(feed: Tables) -> None:
    feed.take(3, patients=PATIENTS, cases=CASES)
    feed.take(2, slides="file,patient_id|a.svs,PATIENT-0001")
    feed.take(1, cases="case_id,patient_id|CASE-1,PATIENT-0002")
    assert feed.row()["birth_date"] == date(1995, 6, 1)
    assert feed.site.catalog.slide("slide1").metadata["patient_id"] == "PATIENT-0002"
    assert "case-corrected" in feed.kinds()
    message = feed.refused(slides="file,patient_id|a.svs,PATIENT-0001")
    assert "another patient" in message


def test_case_that_no_slide_is_left_of_stays_known(feed: Tables) -> None:
    feed.take(1, patients=PATIENTS, cases=CASES)
    feed.site.catalog.put_metadata({"slide1": {"case_id": "CASE-2"}})
    assert feed.row()["birth_date"] is None
    feed.site.catalog.put_metadata({"slide1": {"case_id": "CASE-1"}})
    assert feed.row()["birth_date"] == date(1960, 5, 1)


# --- mergers ----------------------------------------------------------------------------------------------------------


def test_of_merged_records_the_later_dates_win_and_come_apart_again(feed: Tables) -> None:
    stays = STAYS + "|E2,PATIENT-0002,visit,,2008-01-01,"
    feed.take(3, patients=PATIENTS, encounters=stays, cases=CASES)
    before = feed.row(), feed.row("slide2")
    feed.take(2, merges="patient_id,into_patient_id|PATIENT-0001,PATIENT-0002")
    for slide in ("slide1", "slide2"):
        found = feed.row(slide)
        assert found["birth_date"] == date(1995, 6, 1)
        assert found["last_encounter"] == date(2008, 1, 1)
        assert found["death_date"] == date(2010, 1, 2)
        assert feed.kinds(slide) == ["patients-merged"]
        assert found["patient"] == before[1]["patient"]
    feed.take(1, merges="patient_id,into_patient_id,state|PATIENT-0001,,unmerged")
    assert (feed.row(), feed.row("slide2")) == before
    for slide in ("slide1", "slide2"):
        assert feed.kinds(slide) == ["patients-merged", "patients-unmerged"]


def test_mergers_count_by_their_own_moments(feed: Tables) -> None:
    feed.take(2, patients=PATIENTS, cases=CASES)
    rows = "PATIENT-0001,,2025-02-01,unmerged|PATIENT-0001,PATIENT-0002,2025-01-01,merged"
    feed.take(1, merges=f"patient_id,into_patient_id,at,state|{rows}")
    assert feed.row()["birth_date"] == date(1960, 5, 1)


def test_merger_of_a_moment_that_is_to_come_is_refused(feed: Tables) -> None:
    head = "patient_id,into_patient_id,at,state"
    feed.take(2, patients=PATIENTS, cases=CASES)
    # It would outlast every later word on these records.
    message = feed.refused(merges=f"{head}|PATIENT-0001,PATIENT-0002,2099-01-01,unmerged")
    assert "line 2, column 'at'" in message
    feed.take(0, merges=f"{head}|PATIENT-0001,PATIENT-0002,2025-01-01,merged")


def test_refused_mergers(feed: Tables) -> None:
    head = "patient_id,into_patient_id,at,state"
    assert "same patient" in feed.refused(merges=f"{head}|A,a,,")
    assert "circle" in feed.refused(merges=f"{head}|A,B,,|B,C,,|C,A,,")
    feed.take(1, merges=f"{head}|A,B,,|B,C,,")
    message = feed.refused(merges=f"{head}|C,A,,")
    assert "line 2" in message
    assert "'into_patient_id'" in message
    assert "something else" in feed.refused(merges=f"{head}|X,Y,,|X,Z,,")
    assert "is empty" in feed.refused(merges=f"{head}|X,,,")


# --- INS --------------------------------------------------------------------------------------------------------------

INS = "patient_id,birth_date,identity_status,ins_matricule,ins_oid,birth_name,first_names,sex,birth_place"


def test_qualified_ins_references_data(feed: Tables) -> None:
    row = f"PATIENT-0001,1960-01-01,qualifiée,{MATRICULE},1.2.250.1.213.1.4.8,NOM,PRENOM,M,75056"
    done = feed.take(1, patients=f"{INS}|{row}", cases=f"case_id,ins_matricule|CASE-1,{MATRICULE}")
    assert done.provisional == 0
    assert feed.row()["birth_date"] == date(1960, 1, 1)
    assert feed.row()["identity_status"] == "qualified"
    feed.take(encounters=f"encounter_id,ins_matricule,kind,begins|E9,{MATRICULE},visit,2001-01-01")
    assert feed.row()["last_encounter"] == date(2001, 1, 1)
    message = feed.refused(cases=f"case_id,patient_id,ins_matricule|CASE-1,PATIENT-0002,{MATRICULE}")
    assert "another patient's" in message


@pytest.mark.parametrize("status", ["validated", "récupérée", "provisional", ""])
def test_other_ins_is_kept_and_references_nothing(feed: Tables, status: str) -> None:
    row = f"PATIENT-0001,1960-01-01,{status},{MATRICULE},1.2.250.1.213.1.4.8,NOM,PRENOM,M,75056"
    done = feed.take(1, patients=f"{INS}|{row}")
    assert done.provisional == 1
    message = feed.refused(cases=f"case_id,ins_matricule|CASE-1,{MATRICULE}")
    assert "line 2, column 'ins_matricule'" in message
    assert "qualified" in message


def test_identity_that_is_no_longer_qualified_references_nothing_any_more(feed: Tables) -> None:
    row = f"PATIENT-0001,1960-01-01,qualified,{MATRICULE},1.2.250.1.213.1.4.8,NOM,PRENOM,M,75056"
    feed.take(2, patients=f"{INS}|{row}")
    feed.take(1, patients="patient_id,identity_status|PATIENT-0001,provisional")
    assert "qualified" in feed.refused(cases=f"case_id,ins_matricule|CASE-1,{MATRICULE}")


@pytest.mark.parametrize("left_out", ["birth_date", "ins_oid", "birth_name", "first_names", "sex", "birth_place"])
def test_qualified_needs_oid_and_all_traits(feed: Tables, left_out: str) -> None:
    row = ["PATIENT-0001", "1960-01-01", "qualified", MATRICULE, "1.2.250.1.213.1.4.8", "NOM", "PRENOM", "M", "75056"]
    row[INS.split(",").index(left_out)] = ""
    message = feed.refused(patients=f"{INS}|{','.join(row)}")
    assert left_out in message


@pytest.mark.parametrize("wrong", ["160017512345695", "16001751234569", "PATIENT", "960017512345694", "1' OR '1'='1"])
def test_wrong_matricule(feed: Tables, wrong: str) -> None:
    assert "line 2, column 'ins_matricule'" in feed.refused(patients=f"patient_id,ins_matricule|P,{wrong}")


def test_wrong_oid(feed: Tables) -> None:
    assert "1.2.250.1.213.1.4.8" in feed.refused(patients="patient_id,ins_oid|P,1.2.3")


# --- departments ------------------------------------------------------------------------------------------------------


def test_department_as_of_the_reception(feed: Tables) -> None:
    feed.take(3, cases=CASES)
    feed.take(2, departments="department,valid_from,valid_until,kind|4711,1990-01-01,2000-01-01,UF|4712,,,UF")
    assert feed.row()["department"] is None
    feed.take(1, departments="department,valid_from,valid_until,kind|4711,2000-01-02,,UF")
    assert feed.row()["department"] == "4711"
    assert "valid twice" in feed.refused(departments="department,valid_from|4711,1999-01-01")
    assert "before valid_from" in feed.refused(departments="department,valid_from,valid_until|1,2000-01-02,2000-01-01")


# --- slides and accesses ----------------------------------------------------------------------------------------------


def test_slides_by_name_path_and_key(feed: Tables) -> None:
    kit.ingest(feed.site.catalog, "slide3", name="a.svs", metadata={})
    assert "one of 2 slides" in feed.refused(slides="file,stain|a.svs,HES")
    done = feed.take(slides="file,slide,stain,protocol|,slide3,HES,|b.svs,,PAS,A|nothing.svs,,X,|,nokey,X,")
    assert feed.site.catalog.slide("slide3").metadata == {"stain": "HES"}
    assert feed.site.catalog.slide("slide2").metadata == {"stain": "PAS", "protocol": "A", "patient_id": "PATIENT-0002"}
    assert [place.rpartition(", ")[2] for place in done.unknown] == ["line 4", "line 5"]
    assert feed.kinds("slide3") == ["metadata-changed"]
    assert feed.take(slides="slide,stain|slide3,HES").changed == {"slides": 0}


def test_older_table_of_slides_says_only_what_was_not_known(feed: Tables) -> None:
    feed.take(1, slides="slide,stain|slide1,HES")
    feed.take(5, slides="slide,stain,block|slide1,PAS,B1")
    assert feed.site.catalog.slide("slide1").metadata == {"stain": "HES", "block": "B1", "case_id": "CASE-1"}


def test_accesses(feed: Tables) -> None:
    kit.ingest(feed.site.catalog, "slide3", metadata={"case_id": "CASE-1"})
    feed.take(1, accesses="case_id,day|CASE-1,2024-01-01|CASE-9,2024-01-01")
    assert feed.row()["last_access"] == at("2024-01-01T00:00")
    done = feed.take(accesses="slide,day|slide3,2025-01-01|slide2,2023-01-01|nothing,2023-01-01")
    assert feed.row()["last_access"] == at("2025-01-01T00:00")
    assert feed.row("slide2")["last_access"] == at("2023-01-01T00:00")
    assert len(done.unknown) == 1
    assert facts_table(feed.site).to_pylist()[0]["last_access"] == at("2025-01-01T00:00")


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("patients", "patient_id,birth_date|P,1960-02-30", ["line 2, column 'birth_date'", "1960-02-30", "no day"]),
        ("patients", "patient_id,birth_date|P,01/02/1960", ["line 2", "1960-12-31"]),
        ("patients", "patient_id,birth_date|P,1600-01-01", ["out of range"]),
        ("patients", "patient_id,birth_date|P,2030-01-01", ["after the moment of the feed"]),
        ("patients", "patient_id,birth_date,death_date|P,1990-01-01,1980-01-01", ["death_date", "before birth_date"]),
        ("patients", "patient_id,birthdate|P,1960-01-01", ["'birthdate'", "did you mean 'birth_date'"]),
        ("patients", "patient_id,sex|P,X", ["line 2, column 'sex'", "F, M, I"]),
        ("patients", "patient_id,birth_date||,1960-01-01", ["line 3, column 'patient_id'", "empty"]),
        ("patients", "birth_date|1960-01-01", ["no column 'patient_id'"]),
        ("patients", "patient_id,birth_date|P,1960-01-01|p,1961-01-01", ["line 3, column 'birth_date'", "line 2"]),
        ("patients", "patient_id,birth_date|P,1960-01-01,x", ["line 2", "3 cells", "2"]),
        ("patients", "patient_id,patient_id|P,Q", ["several columns"]),
        ("patients", 'patient_id|"P', ["damaged"]),
        ("whatever", "a,b|1,2", ["none that is known", "a, b"]),
        ("whatever", "", ["none that is known"]),
        ("encounters", "encounter_id,patient_id,begins|E,P,", ["line 2, column 'begins'"]),
        ("encounters", "encounter_id,begins|E,2000-01-01", ["line 2, column 'patient_id'"]),
        ("encounters", "encounter_id,patient_id,begins,ends|E,P,2000-01-02,2000-01-01", ["'ends'", "before begins"]),
        ("encounters", "encounter_id,patient_id,begins,state|E,P,2000-01-02,gone", ["planned, open"]),
        ("cases", "case_id,organ|C,DE", ["line 2, column 'organ'", "ADICAP:DE"]),
        ("cases", "case_id,diagnoses|C,ADICAP:X BAD", ["'BAD'"]),
        ("cases", "case_id,signed_out_at|C,yesterday", ["no moment"]),
        ("accesses", "case_id,slide,day|C,S,2000-01-01", ["one of case_id and slide"]),
        ("accesses", "case_id,day|C,", ["line 2, column 'day'"]),
        ("slides", "stain|HES", ["no column 'slide or file'"]),
        ("slides", f"file,{'x' * 200}|a.svs,HES", ["name of the column", "200 characters"]),
        ("slides", "file,a\x00b|a.svs,HES", ["name of the column", "control character"]),
        ("slides", "file,stain,|a.svs,HES,x", ["line 2", "without a name"]),
    ],
)
def test_wrong_tables_are_refused_with_their_place(feed: Tables, name: str, text: str, words: list[str]) -> None:
    message = feed.refused(**{name: text})
    assert name in message
    for word in words:
        assert word in message


def test_one_wrong_row_keeps_all_others_out(feed: Tables) -> None:
    message = feed.refused(
        patients=PATIENTS, cases=CASES, encounters="encounter_id,patient_id,begins|E,P,2000-01-01|F,P,never|G,P,no"
    )
    assert "line 3" in message
    assert "line 4" in message


def test_many_problems_are_counted(feed: Tables) -> None:
    rows = "|".join(f"P{n},no" for n in range(50))
    assert "40 more" in feed.refused(patients=f"patient_id,birth_date|{rows}")


HOSTILE = (
    "x'); DROP TABLE patients; --",
    '=HYPERLINK("http://x";"y")',
    "@SUM(1+1)",
    "{{7*7}}",
    "../../etc/passwd",
    "%s%n",
    "Robert\u202etxt",
    "\u0130",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(feed: Tables, text: str) -> None:
    cell = '"' + text.replace('"', '""') + '"'
    feed.take(2, patients=f"patient_id,birth_date,birth_name\n{cell},1960-01-01,{cell}")
    feed.take(1, cases=f"case_id,patient_id,department\nCASE-1,{cell},{cell}", slides=f"slide,stain\nslide1,{cell}")
    found = feed.row()
    assert found["birth_date"] == date(1960, 1, 1)
    assert found["department"] == text
    assert found["stain"] == text


@pytest.mark.parametrize("text", ["a\x00b", "a\x1bb", "a\nb", "a\x85b", "x" * 129])
def test_control_characters_and_long_numbers_are_refused(feed: Tables, text: str) -> None:
    assert "line" in feed.refused(patients=f'patient_id,birth_date\n"{text}",1960-01-01')


@pytest.mark.parametrize("size", [10_001, 200_000])
def test_huge_cells_are_refused(feed: Tables, size: int) -> None:
    assert "line 2" in feed.refused(slides=f"slide,note\nslide1,{'x' * size}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\x00",
        b"PAR1",
        b"PAR1" + b"\x00" * 100 + b"PAR1",
        b"PK\x03\x04abc",
        b"\x00" * 5000,
        b"patient_id\n\xe9",
    ],
)
def test_garbage_is_refused(feed: Tables, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "patients.csv"
    path.write_bytes(data)
    with pytest.raises(InputError, match="patients"):
        import_metadata(feed.site, [path], kit.NOW)


def test_missing_file_folder_future_and_read_only(feed: Tables, tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        import_metadata(feed.site, [tmp_path / "nothing.csv"], kit.NOW)
    with pytest.raises(InputError):
        import_metadata(feed.site, [tmp_path], kit.NOW)
    with pytest.raises(InputError, match="to come"):
        import_metadata(feed.site, feed.write(patients=PATIENTS), kit.NOW + timedelta(seconds=1))
    with ops.open_site(feed.site.folder, read_only=True) as closed, pytest.raises(SiteError):
        import_metadata(closed, feed.write(patients=PATIENTS), kit.NOW)


# --- Parquet ----------------------------------------------------------------------------------------------------------


def test_parquet_says_what_csv_says(feed: Tables, tmp_path: Path) -> None:
    tables = {
        "patients.parquet": {
            "patient_id": pa.array([1001, 1002]),
            "birth_date": pa.array([date(1960, 5, 1), None]),
            "death_date": pa.array([None, at("2010-01-02T00:00")], pa.timestamp("ns")),
        },
        "cases.parquet": {
            "case_id": pa.array(["CASE-1"]),
            "patient_id": pa.array([1001.0]),
            "signed_out_at": pa.array([datetime(2000, 1, 5, 10, tzinfo=UTC)]),
            "diagnoses": pa.array([["ADICAP:BHGSA7A0", "SNOMED:254837009"]]),
        },
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / name)
    import_metadata(feed.site, [tmp_path / name for name in tables], kit.NOW)
    found = feed.row()
    assert found["birth_date"] == date(1960, 5, 1)
    assert found["signed_out_at"] == at("2000-01-05T10:00")
    assert found["diagnoses"] == ["ADICAP:BHGSA7A0", "SNOMED:254837009"]


def test_parquet_of_odd_types(feed: Tables, tmp_path: Path) -> None:
    path = tmp_path / "patients.parquet"
    pq.write_table(pa.table({"patient_id": pa.array([b"\xff\x00"]), "birth_date": pa.array([{"a": 1}])}), path)
    with pytest.raises(WsistoreError, match=r"line \d"):
        import_metadata(feed.site, [path], kit.NOW)
