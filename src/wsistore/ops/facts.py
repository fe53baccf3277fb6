"""All that is known of slides, as the table that rules are applied to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.catalog.clinical_facts import CopyFacts, Known, SlideFacts, read_facts
from wsistore.errors import Kind, SiteError
from wsistore.ops.early import minimum_storage_days, prices_of
from wsistore.ops.site import Site
from wsistore.tiers.rules.facts import COPY, RECOURSE, SCHEMA

_MOMENT = pa.timestamp("us")

Least = Mapping[str, timedelta]
"""By tier, how long it charges for a copy at least; those that charge by the day are not in it."""


def facts_table(site: Site, slides: Sequence[str] | None = None) -> pa.Table:
    """Return what is known of slides when rules are applied to them.

    Parameters
    ----------
    site
        An open site.
    slides
        Keys of slides: these, and all others of their cases; keys that are not there are left out. By default all.

    Returns
    -------
    pyarrow.Table
        With `wsistore.tiers.rules.facts.SCHEMA`: one row per slide, by key. All of it was so at one moment.

    Raises
    ------
    SiteError
        If the catalogue fails, or holds what is no date (`Kind.CATALOG_FAILED`); if a tier's prices are not there.

    """
    least = _least(site)
    batches = []
    for known, found in read_facts(site.catalog, slides):
        if found:
            batches.append(_batch(known, found, least))
    return pa.Table.from_batches(batches, SCHEMA)


def _least(site: Site) -> Least:
    days = {tier.name: minimum_storage_days(tier, prices_of(site, tier)) for tier in site.settings.tiers}
    return {tier: timedelta(days=least) for tier, least in days.items() if least > 0}


def _batch(known: Known, found: Sequence[SlideFacts], least: Least) -> pa.RecordBatch:
    try:
        columns = {**_slides(known, found), **_cases(found), **_copies(found, least)}
        columns["state"] = pa.array([state_of(one) for one in found], pa.string())
        return pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        msg = f"The catalogue holds what this release cannot read: {error}."
        remedy = "Upgrade wsistore if a newer release has worked here; else put back the catalogue's last backup."
        raise SiteError(msg, kind=Kind.CATALOG_FAILED, remedy=remedy) from error


def _slides(known: Known, found: Sequence[SlideFacts]) -> dict[str, pa.Array]:
    """Return the columns that speak of the slide itself."""
    rows = [one.row for one in found]

    def of(values: Iterable[Any], name: str) -> pa.Array:
        return pa.array(list(values), SCHEMA.field(name).type)

    columns = {
        name: of((row[place] for row in rows), name)
        for name in ("slide", "name", "format", "mode", "width", "height", "magnification", "bytes_source", "version")
        for place in (rows[0]._fields.index(name),)
    }
    pixels = ((row.um_per_px_y, row.um_per_px_x) for row in rows)
    columns["um_per_px"] = of((None if y is None or x is None else (y + x) / 2 for y, x in pixels), "um_per_px")
    columns["case_id"] = of((row.case_key for row in rows), "case_id")
    for name in ("block", "stain"):
        columns[name] = of((one.metadata.get(name) for one in found), name)
    columns["collections"] = of((one.collections for one in found), "collections")
    columns["tags"] = of((one.tags for one in found), "tags")
    columns["metadata"] = of((list(one.metadata.items()) for one in found), "metadata")
    columns["ingested_at"] = _moments(row.created_at for row in rows)
    columns["last_access"] = _moments(one.last_access for one in found)
    columns["identity_detached"] = of((one.is_detached for one in found), "identity_detached")
    columns["holds"] = of((len(one.holds) for one in found), "holds")
    columns["feed_as_of"] = _moments(known.feed_as_of if one.patient is not None else None for one in found)
    return columns


def _cases(found: Sequence[SlideFacts]) -> dict[str, pa.Array]:
    """Return the columns that speak of the case and the patient."""
    patients = [one.patient for one in found]

    def days(name: str) -> pa.Array:
        return pa.array([getattr(patient, name) if patient else None for patient in patients], pa.string()).cast(
            pa.date32()
        )

    return {
        "patient": pa.array([patient.patient if patient else None for patient in patients], pa.string()),
        "organ": pa.array([one.case.organ or one.metadata.get("organ") for one in found], pa.string()),
        "diagnoses": pa.array([one.case.diagnoses for one in found], SCHEMA.field("diagnoses").type),
        "department": pa.array([one.case.department for one in found], pa.string()),
        "received_on": pa.array([one.case.received_on for one in found], pa.string()).cast(pa.date32()),
        "signed_out_at": _moments(one.case.signed_out_at for one in found),
        "last_encounter": days("last_encounter"),
        "birth_date": days("birth_date"),
        "death_date": days("death_date"),
        "recourse": _recourses([patient.recourses if patient else None for patient in patients]),
        "identity_status": pa.array(
            [patient.identity_status if patient else None for patient in patients], pa.string()
        ),
    }


def _recourses(found: Sequence[Sequence[tuple[str | None, str | None]] | None]) -> pa.Array:
    flat = [suit for suits in found for suit in suits or ()]
    parts = [pa.array([suit[place] for suit in flat], pa.string()).cast(pa.date32()) for place in (0, 1)]
    return _lists(
        pa.StructArray.from_arrays(parts, fields=list(RECOURSE)), [None if s is None else len(s) for s in found]
    )


def _copies(found: Sequence[SlideFacts], least: Least) -> dict[str, pa.Array]:
    """Return the columns that speak of copies."""
    flat = [copy for one in found for copy in one.copies]
    values = dict(zip(CopyFacts._fields, zip(*flat, strict=True), strict=True)) if flat else {}
    parts = {part.name: _moments(values.get(part.name, ())) for part in COPY if part.type == _MOMENT}
    # A copy that does not say since when it lies there was written at the latest when it was verified.
    since = pc.coalesce(parts["created_at"], parts["verified_at"])
    spans = pa.array([least.get(copy.tier) for copy in flat], pa.duration("us"))
    parts["charged_until"] = pc.add(since, spans)
    parts |= {part.name: pa.array(values.get(part.name, ()), part.type) for part in COPY if part.name not in parts}
    copies = pa.StructArray.from_arrays([parts[part.name] for part in COPY], fields=list(COPY))
    tiers = [sorted({copy.tier for copy in one.copies}) for one in found]
    return {
        "copies": _lists(copies, [len(one.copies) for one in found]),
        "tiers": pa.array(tiers, SCHEMA.field("tiers").type),
        "bytes_stored": pa.array([sum(copy.bytes_stored for copy in one.copies) for one in found], pa.int64()),
    }


def _lists(values: pa.Array, lengths: Sequence[int | None]) -> pa.Array:
    """Return lists of consecutive values; null where the length is None."""
    offsets: list[int | None] = []
    at = 0
    for length in lengths:
        offsets.append(None if length is None else at)
        at += length or 0
    return pa.ListArray.from_arrays(pa.array([*offsets, at], pa.int32()), values)


def _moments(texts: Iterable[str | None]) -> pa.Array:
    plain = [None if text is None else text.removesuffix("Z") for text in texts]
    return pa.array(plain, pa.string()).cast(_MOMENT)


def state_of(one: SlideFacts) -> str:
    """Return the hash over all that an approved decision rests on.

    That is the current version, its copies, holds, the case, dates and recourses, collections and tags. Not what may
    change without anybody deciding anything: accesses, verifications, metadata, how fresh the feed is.
    """
    patient = one.patient
    said = [
        one.row.slide,
        one.row.version,
        sorted((copy.attempt, copy.tier, copy.state, copy.preset) for copy in one.copies),
        one.holds,
        one.row.case_key,
        one.case.received_on,
        one.case.signed_out_at,
        None if patient is None else _dates(patient),
        one.collections,
        one.tags,
        one.is_detached,
    ]
    return hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()


def _dates(patient: Any) -> list[Any]:
    # A stay that goes on moves its last day with every feed.
    last = "staying" if patient.is_staying else patient.last_encounter
    return [patient.birth_date, patient.death_date, last, patient.identity_status, patient.recourses]
