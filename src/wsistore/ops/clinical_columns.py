"""The tables that a hospital hands over: which there are, and their columns. docs/metadata.md is compared with this."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class Feed(StrEnum):
    """Kinds of tables, in the order in which they are taken in."""

    DEPARTMENTS = "departments"
    PATIENTS = "patients"
    MERGES = "merges"
    ENCOUNTERS = "encounters"
    RECOURSES = "recourses"
    CASES = "cases"
    SLIDES = "slides"
    ACCESSES = "accesses"


class Cell(StrEnum):
    """What a cell holds."""

    NUMBER = "number"
    """That names something: a patient, a case."""
    TEXT = "text"
    DAY = "day"
    LAST_DAY = "last day"
    """A day; 9999-12-31 and the like say that there is none."""
    MOMENT = "moment"
    CODE = "code"
    CODES = "codes"
    CHOICE = "one of"
    MATRICULE = "matricule"
    OID = "OID"


@dataclass(frozen=True, slots=True)
class FeedColumn:
    """One column."""

    name: str
    cell: Cell
    meaning: str
    is_needed: bool = False
    """Whether it has to be there, and no cell may be empty."""
    choices: tuple[str, ...] = ()


IDENTITY_STATUSES = {
    "qualified": "qualified",
    "qualifiée": "qualified",
    "validated": "validated",
    "validée": "validated",
    "retrieved": "retrieved",
    "récupérée": "retrieved",
    "provisional": "provisional",
    "provisoire": "provisional",
}
"""Words for the status of an identity, with ours."""

_PATIENT = (
    FeedColumn("patient_id", Cell.NUMBER, "the hospital's number of the patient (IPP)"),
    FeedColumn("ins_matricule", Cell.MATRICULE, "in its place the INS of a patient whose identity is qualified"),
)

COLUMNS: dict[Feed, tuple[FeedColumn, ...]] = {
    Feed.DEPARTMENTS: (
        FeedColumn("department", Cell.NUMBER, "code of the unit (UF or CR)", is_needed=True),
        FeedColumn("valid_from", Cell.DAY, "first day on which the code stands for it; empty: always"),
        FeedColumn("valid_until", Cell.LAST_DAY, "last day"),
        FeedColumn("kind", Cell.CHOICE, "what kind of unit it is", choices=("UF", "CR")),
        FeedColumn("name", Cell.TEXT, "its name"),
        FeedColumn("parent", Cell.NUMBER, "code of the unit that it belongs to"),
    ),
    Feed.PATIENTS: (
        FeedColumn("patient_id", Cell.NUMBER, "the hospital's number of the patient (IPP)", is_needed=True),
        FeedColumn("birth_date", Cell.DAY, "day of birth"),
        FeedColumn("death_date", Cell.DAY, "day of death; empty: alive, or not known to be dead"),
        FeedColumn("identity_status", Cell.CHOICE, "how sure the identity is", choices=tuple(IDENTITY_STATUSES)),
        FeedColumn("ins_matricule", Cell.MATRICULE, "matricule of the INS: NIR or NIA, 15 characters with the key"),
        FeedColumn("ins_oid", Cell.OID, "OID of the INS, which says whether it is a NIR or a NIA"),
        FeedColumn("birth_name", Cell.TEXT, "trait of the identity: name at birth"),
        FeedColumn("first_names", Cell.TEXT, "trait of the identity: list of first names at birth"),
        FeedColumn("sex", Cell.CHOICE, "trait of the identity", choices=("F", "M", "I")),
        FeedColumn("birth_place", Cell.TEXT, "trait of the identity: INSEE code of the place of birth"),
    ),
    Feed.MERGES: (
        FeedColumn("patient_id", Cell.NUMBER, "the record that turned out to be another patient's", is_needed=True),
        FeedColumn("into_patient_id", Cell.NUMBER, "that patient's record"),
        FeedColumn("at", Cell.MOMENT, "when that was decided; empty: the moment of the feed"),
        FeedColumn("state", Cell.CHOICE, "unmerged takes it back; empty: merged", choices=("merged", "unmerged")),
    ),
    Feed.ENCOUNTERS: (
        FeedColumn("encounter_id", Cell.NUMBER, "number of the stay or visit", is_needed=True),
        *_PATIENT,
        FeedColumn("kind", Cell.CHOICE, "a visit is over on the day it begins", choices=("stay", "visit")),
        FeedColumn(
            "state",
            Cell.CHOICE,
            "a cancelled one has never been; an open one goes on",
            choices=("planned", "open", "finished", "cancelled"),
        ),
        FeedColumn("begins", Cell.DAY, "first day"),
        FeedColumn("ends", Cell.LAST_DAY, "last day; of a stay empty: it goes on"),
    ),
    Feed.RECOURSES: (
        FeedColumn("recourse_id", Cell.NUMBER, "number of the recourse", is_needed=True),
        *_PATIENT,
        FeedColumn("state", Cell.CHOICE, "a cancelled one has never been", choices=("open", "ended", "cancelled")),
        FeedColumn("begins", Cell.DAY, "day on which it was lodged"),
        FeedColumn("ends", Cell.LAST_DAY, "day on which it was ended for good; empty: it goes on"),
    ),
    Feed.CASES: (
        FeedColumn("case_id", Cell.NUMBER, "number of the examination", is_needed=True),
        *_PATIENT,
        FeedColumn("received_on", Cell.DAY, "day on which the specimen was received"),
        FeedColumn("signed_out_at", Cell.MOMENT, "when the report was validated last"),
        FeedColumn("reopened_at", Cell.MOMENT, "when the report was last opened again, to be amended"),
        FeedColumn("organ", Cell.CODE, "code of the organ, with its system: ADICAP:DE"),
        FeedColumn("diagnoses", Cell.CODES, "codes, separated by spaces: ADICAP:BHGSA7A0 SNOMED:254837009"),
        FeedColumn("department", Cell.NUMBER, "code of the unit that asked for the examination"),
    ),
    Feed.SLIDES: (
        FeedColumn("slide", Cell.NUMBER, "the slide's key"),
        FeedColumn("file", Cell.TEXT, "or the name of its file or folder, with as much of its path as is needed"),
        FeedColumn("case_id", Cell.NUMBER, "the case that it belongs to"),
        *_PATIENT,
        FeedColumn("block", Cell.TEXT, "the tissue block"),
        FeedColumn("stain", Cell.TEXT, "the stain"),
    ),
    Feed.ACCESSES: (
        FeedColumn("case_id", Cell.NUMBER, "the case that was looked at"),
        FeedColumn("slide", Cell.NUMBER, "or the key of the slide"),
        FeedColumn("day", Cell.DAY, "when, for care", is_needed=True),
    ),
}

ONE_OF: dict[Feed, tuple[str, ...]] = {
    Feed.SLIDES: ("slide", "file"),
    Feed.ACCESSES: ("case_id", "slide"),
}
"""Columns of which every row needs exactly one."""

_TELLING = (
    (Feed.MERGES, {"into_patient_id"}),
    (Feed.ENCOUNTERS, {"encounter_id"}),
    (Feed.RECOURSES, {"recourse_id"}),
    (Feed.ACCESSES, {"day"}),
    (Feed.DEPARTMENTS, {"department", "valid_from"}),
    (Feed.SLIDES, {"slide"}),
    (Feed.SLIDES, {"file"}),
    (Feed.CASES, {"case_id"}),
    (Feed.PATIENTS, {"patient_id"}),
)


def feed_of(stem: str, columns: Collection[str]) -> Feed | None:
    """Return which table it is: as its file's name says, if that names one; else as its columns tell."""
    words = stem.casefold()
    named = [feed for feed in Feed if str(feed) in words]
    if len(named) == 1:
        return named[0]
    return next((feed for feed, telling in _TELLING if telling <= set(columns)), None)
