"""What is known of a slide when rules are applied: the table that goes into `decide`, one row per slide.

Unknown values are null. Days are dates of the site's calendar, moments are UTC without a time zone. Nothing here
names a person: ``patient`` is the catalogue's own key.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

_MOMENT = pa.timestamp("us")
_TEXTS = pa.list_(pa.string())

COPY = pa.struct(
    [
        pa.field("attempt", pa.string(), nullable=False),
        pa.field("tier", pa.string(), nullable=False),
        pa.field("preset", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("bytes_stored", pa.int64(), nullable=False),
        pa.field("objects", pa.int64(), nullable=False),
        pa.field("created_at", _MOMENT),
        pa.field("verified_at", _MOMENT),
        pa.field("expires_at", _MOMENT),
        pa.field("charged_until", _MOMENT),
    ]
)
"""One copy of the current version.

``state`` is ``committed`` or ``suspect``. ``expires_at`` is null but for those that were recalled for a time. Until
``charged_until`` the tier's class charges for it even if it is gone; null where it does not.
"""

RECOURSE = pa.struct([pa.field("begins", pa.date32()), pa.field("ends", pa.date32())])
"""One recourse (*recours gracieux ou contentieux*): it suspends the time limits from the day it begins to the day it
ends; without an end it goes on."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One column."""

    name: str
    type: pa.DataType
    meaning: str
    in_rules: bool = True
    """Whether conditions of rules may speak of it."""


FACTS = (
    Fact("slide", pa.string(), "the slide's key"),
    Fact("name", pa.string(), "name of the source's file or folder"),
    Fact("format", pa.string(), "the vendor's format, such as 'aperio-svs' or 'dicom'"),
    Fact("mode", pa.string(), "how it is kept: 'tiles' or 'whole'"),
    Fact("case_id", pa.string(), "the case that it belongs to; null: it is decided by itself"),
    Fact("patient", pa.string(), "the catalogue's own key of the patient", in_rules=False),
    Fact("block", pa.string(), "the tissue block"),
    Fact("stain", pa.string(), "the stain"),
    Fact("organ", pa.string(), "code of the organ, with its system: 'ADICAP:DE'"),
    Fact("diagnoses", _TEXTS, "codes of the diagnoses: list_contains(diagnoses, 'SNOMED:254837009')"),
    Fact("department", pa.string(), "the unit that asked for the examination (UF or CR), as of the case's reception"),
    Fact("collections", _TEXTS, "collections that the slide is in: list_contains(collections, 'teaching')"),
    Fact("tags", _TEXTS, "tags that the slide has"),
    Fact("metadata", pa.map_(pa.string(), pa.string()), "whatever else the site said: metadata['protocol'] = 'A'"),
    Fact("ingested_at", _MOMENT, "when the slide was first ingested"),
    Fact("received_on", pa.date32(), "day on which the case's specimen was received: the examination's date"),
    Fact("signed_out_at", _MOMENT, "when the case's report was validated; null while it is open, or open again"),
    Fact("last_access", _MOMENT, "latest clinical access to any slide of the case; scrubs and research do not count"),
    Fact("last_encounter", pa.date32(), "the patient's last stay or outpatient visit that was not cancelled"),
    Fact("birth_date", pa.date32(), "the patient's day of birth"),
    Fact("death_date", pa.date32(), "the patient's day of death"),
    Fact("recourse", pa.list_(RECOURSE), "the patient's recourses, for suspended_by", in_rules=False),
    Fact(
        "identity_status",
        pa.string(),
        "the patient's: 'qualified', 'validated', 'retrieved', 'provisional'",
    ),
    Fact("feed_as_of", _MOMENT, "until when the patient's dates are known to be complete", in_rules=False),
    Fact("identity_detached", pa.bool_(), "whether the slide was parted from its patient for good"),
    Fact("holds", pa.int64(), "holds on the slide", in_rules=False),
    Fact("width", pa.int64(), "pixels across, level 0"),
    Fact("height", pa.int64(), "pixels down, level 0"),
    Fact("um_per_px", pa.float64(), "size of a pixel of level 0 in micrometres"),
    Fact("magnification", pa.float64(), "the objective's, such as 20 or 40"),
    Fact("bytes_source", pa.int64(), "size of the vendor's files"),
    Fact("version", pa.int64(), "number of the source's current version, from 1", in_rules=False),
    Fact("copies", pa.list_(COPY), "the copies of the current version", in_rules=False),
    Fact("tiers", _TEXTS, "tiers that hold a copy: list_contains(tiers, 'hot')"),
    Fact("bytes_stored", pa.int64(), "size of these copies together"),
    Fact("state", pa.string(), "hash of all that an approved decision rests on", in_rules=False),
)
"""All columns, in this order. Beside those that rules may speak of there is ``now``."""

SCHEMA = pa.schema([pa.field(fact.name, fact.type) for fact in FACTS])
"""Of the table of facts."""
