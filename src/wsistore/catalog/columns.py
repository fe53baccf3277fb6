"""The columns that conditions (``--where``) may speak of; what `wsistore ls --help` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wsistore.model import CopyState


@dataclass(frozen=True, slots=True)
class ConditionColumn:
    """One column."""

    name: str
    type: str
    """As DuckDB writes it."""
    meaning: str


class _Verified(Protocol):
    @property
    def state(self) -> str: ...
    @property
    def verified_at(self) -> str: ...


def verified_at(copies: Sequence[_Verified]) -> str | None:
    """Return since when all of a slide's `copies` are known to be good; None if there is none, or one is suspect."""
    if any(copy.state == CopyState.SUSPECT for copy in copies):
        return None
    return min((copy.verified_at for copy in copies), default=None)


COLUMNS = (
    ConditionColumn("slide", "VARCHAR", "the slide's key"),
    ConditionColumn("name", "VARCHAR", "name of the source's file or folder"),
    ConditionColumn("format", "VARCHAR", "the vendor's format, such as 'aperio-svs' or 'dicom'"),
    ConditionColumn("mode", "VARCHAR", "how it is kept: 'tiles' or 'whole'"),
    ConditionColumn("series", "VARCHAR", "identity of the series (DICOM), else null"),
    ConditionColumn("created_at", "TIMESTAMP", "when it was first ingested, UTC"),
    ConditionColumn("case_id", "VARCHAR", "the case that it belongs to, as the site said"),
    ConditionColumn("patient_id", "VARCHAR", "the patient, as the site said"),
    ConditionColumn("block", "VARCHAR", "the tissue block, as the site said"),
    ConditionColumn("stain", "VARCHAR", "the stain, as the site said"),
    ConditionColumn("metadata", "MAP(VARCHAR, VARCHAR)", "all that the site said: metadata['organ'] = 'skin'"),
    ConditionColumn("width", "BIGINT", "pixels across, level 0"),
    ConditionColumn("height", "BIGINT", "pixels down, level 0"),
    ConditionColumn("um_per_px", "DOUBLE", "size of a pixel of level 0 in micrometres (mean of both directions)"),
    ConditionColumn("magnification", "DOUBLE", "the objective's, such as 20 or 40"),
    ConditionColumn("bytes_source", "BIGINT", "size of the vendor's files"),
    ConditionColumn("version", "BIGINT", "number of the source's current version, from 1"),
    ConditionColumn("copies", "BIGINT", "copies of the current version"),
    ConditionColumn("tiers", "VARCHAR[]", "where they are: list_contains(tiers, 'hot')"),
    ConditionColumn("bytes_stored", "BIGINT", "size of these copies together"),
    ConditionColumn("objects", "BIGINT", "objects of these copies together"),
    ConditionColumn("verified_at", "TIMESTAMP", "when all copies were last verified, UTC; null if one is suspect"),
)
"""Unknown values are null. Beside these there is `now`, the present in UTC."""
