"""What conditions of cohorts see of slides, read in bulk.

Much less than rules see (`wsistore.catalog.clinical_facts`): no copies, no holds, no accesses, nothing to be signed. A
gateway reads it again and again, while it answers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, String, select, type_coerce

from wsistore.catalog import schema
from wsistore.catalog.clinical_dates import dates
from wsistore.catalog.clinical_facts import CaseFacts, cases_known, patients_alone
from wsistore.catalog.identities import of as identities_of
from wsistore.catalog.records import SourceState
from wsistore.catalog.rows import reading
from wsistore.catalog.schema_clinical import labels
from wsistore.catalog.session import Session

AT_ONCE = 20_000
"""Slides of one portion."""
_L, _S, _V = labels, schema.slides, schema.sources
_SAID = ("block", "stain", "organ")
"""Metadata of slides that cohorts are chosen by."""


class SlideSeen(NamedTuple):
    """A slide, as conditions of cohorts see it; days as ISO texts."""

    slide: str
    format: str
    mode: str
    width: int
    height: int
    magnification: float | None
    um_per_px: float | None
    block: str | None
    stain: str | None
    organ: str | None
    diagnoses: Sequence[str] | None
    received_on: str | None
    birth_date: str | None
    collections: Sequence[str]
    tags: Sequence[str]


def read_seen(catalog: Session) -> Iterator[list[SlideSeen]]:
    """Yield all slides, by key, a portion at a time; all in one transaction.

    Parameters
    ----------
    catalog
        An open catalogue.

    Raises
    ------
    SiteError
        If the catalogue fails (`Kind.CATALOG_FAILED`), or identities are sealed and the keys are not at hand.

    """
    with catalog._database.read() as connection:
        cases = cases_known(connection)
        born = {patient: one.birth_date for patient, one in dates(connection).items()}
        alone = patients_alone(connection)
        named = {kind: _labelled(connection, kind) for kind in ("collection", "tag")}
        shown = tuple(name for name in _SAID if not identities_of(connection).is_identity(name))
        after = ""
        while rows := connection.execute(_slides().where(_S.c.slide > after).limit(AT_ONCE)).all():
            with reading("slides"):
                yield [_seen(row, cases, born, alone, named, shown) for row in rows]
            after = rows[-1][0]


def _slides() -> Any:
    pixels = (_S.c.width, _S.c.height, _S.c.magnification, _S.c.um_per_px_y, _S.c.um_per_px_x)
    return (
        select(_S.c.slide, _S.c.format, _S.c.mode, *pixels, _S.c.case_key, type_coerce(_S.c.metadata, String))
        .join(_V, _V.c.slide == _S.c.slide)
        .where(_V.c.state == str(SourceState.CURRENT))
        .order_by(_S.c.slide)
    )


def _labelled(connection: Connection, kind: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for slide, name in connection.execute(select(_L.c.slide, _L.c.name).where(_L.c.kind == kind).order_by(_L.c.name)):
        found[slide].append(name)
    return dict(found)


def _seen(
    row: Any,
    cases: Mapping[str, CaseFacts],
    born: Mapping[str, str | None],
    alone: Mapping[str, str],
    named: Mapping[str, Mapping[str, Sequence[str]]],
    shown: Sequence[str],
) -> SlideSeen:
    slide, form, mode, width, height, magnification, um_y, um_x, case_key, metadata = row
    said = json.loads(metadata or "{}")
    case = CaseFacts(alone.get(slide)) if case_key is None else cases.get(case_key, CaseFacts())
    block, stain, organ = (str(said[name]) if name in shown and name in said else None for name in _SAID)
    return SlideSeen(
        slide,
        form,
        mode,
        width,
        height,
        magnification,
        None if um_y is None or um_x is None else (um_y + um_x) / 2,
        block,
        stain,
        case.organ or organ,
        case.diagnoses,
        case.received_on,
        None if case.patient is None else born.get(case.patient),
        named["collection"].get(slide, ()),
        named["tag"].get(slide, ()),
    )
