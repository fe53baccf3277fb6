"""Tables of facts of made-up hospitals: as many slides as are asked for, distributed as in a pathology department.

Nobody's data: every value is drawn from a seed. The distributions are rounded from what departments publish: some 6
slides a case and 1.6 GB a slide, patients around sixty of whom some have died, half of the slides never looked at again
after a month.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsistore.tiers.rules.facts import COPY, RECOURSE, SCHEMA

Array = npt.NDArray[Any]

TIERS = ("hot", "warm", "cold")
_STAINS = (("HE", 0.62), ("HES", 0.1), ("PAS", 0.06), ("Ki67", 0.08), ("ER", 0.05), ("CD3", 0.05), ("MASSON", 0.04))
_ORGANS = tuple((f"ADICAP:{code}", weight) for code, weight in (("DE", 0.3), ("GS", 0.2), ("GE", 0.15), ("HR", 0.35)))
_DEPARTMENTS = tuple((f"UF{number:04}", 1 / 12) for number in range(2100, 2112))
_FORMATS = (("hamamatsu-ndpi", 0.6), ("aperio-svs", 0.25), ("dicom", 0.15))
_COLLECTIONS = (("teaching", 0.008), ("national-platform", 0.002))
_DAY_US = 86_400_000_000
_PRESETS = ("keep", "fold", "pack")


@dataclass(frozen=True, slots=True)
class Hospital:
    """How a made-up hospital is."""

    at: datetime = datetime(2031, 5, 14, 12, tzinfo=UTC)
    """The moment that everything is told from, timezone-aware."""
    years: float = 25.0
    """For how long it has digitised its slides; ten percent more each year."""
    slides_per_case: float = 6.0
    unknown_dates: float = 0.02
    """Part of the patients of whom a date is not known."""
    recourses: float = 0.0005
    """Part of the patients who went to law."""
    holds: float = 0.0002
    """Part of the slides."""


def made_facts(slides: int, *, seed: int = 0, hospital: Hospital = Hospital(), first: int = 0) -> pa.Table:
    """Return the facts of made-up slides, cases complete and together.

    Parameters
    ----------
    slides
        How many.
    seed
        What all is drawn from: the same seed, the same table.
    hospital
        How they are distributed.
    first
        Number of the first slide, so that several tables have no key in common.

    Returns
    -------
    pa.Table
        With `wsistore.tiers.rules.facts.SCHEMA`.

    """
    rng = np.random.default_rng((seed, first))
    now = int(hospital.at.timestamp()) * 1_000_000
    case = _cases(rng, slides, hospital.slides_per_case)
    cases = int(case.max(initial=-1)) + 1
    columns = _case_columns(rng, cases, hospital, now)
    table: dict[str, pa.Array] = {name: column.take(pa.array(case)) for name, column in columns.items()}
    table |= _slide_columns(rng, slides, first, table, hospital, now)
    table["case_id"] = _numbered(f"CASE-{first}-", cases).take(pa.array(case))
    table["patient"] = _numbered(f"patient-{first}-", cases).take(pa.array(case // 2))
    empty = {field.name: pa.nulls(slides, field.type) for field in SCHEMA}
    whole = empty | table
    return pa.table([whole[name].cast(SCHEMA.field(name).type) for name in SCHEMA.names], schema=SCHEMA)


def _cases(rng: np.random.Generator, slides: int, mean: float) -> Array:
    """Return each slide's case: numbers from 0, each case's slides together."""
    sizes = 1 + rng.negative_binomial(1.4, 1.4 / (1.4 + mean - 1), size=slides)
    return np.repeat(np.arange(slides), sizes)[:slides] if slides else np.zeros(0, np.int64)


def _case_columns(rng: np.random.Generator, cases: int, hospital: Hospital, now: int) -> dict[str, pa.Array]:
    """Return what is the same for all slides of a case: moments and days, as the hospital's systems know them."""
    span = hospital.years * 365.25
    # More each year: the density grows exponentially towards the present.
    growth = np.log(1.1) / 365.25
    age = -np.log(1 - rng.random(cases) * (1 - np.exp(-growth * span))) / growth
    received = now - (age * _DAY_US).astype(np.int64)
    signed = received + (rng.lognormal(1.4, 0.8, cases) * _DAY_US).astype(np.int64)
    seen = np.where(rng.random(cases) < 0.5, rng.exponential(25, cases), rng.exponential(400, cases))
    access = np.minimum(received + (seen * _DAY_US).astype(np.int64), now)
    today = now // _DAY_US
    since = (today - received // _DAY_US).astype(np.int64)
    came_back = np.where(rng.random(cases) < 0.6, rng.random(cases), 0.0) * since
    encounter = today - since + came_back.astype(np.int64)
    old = np.clip(rng.normal(61, 19, cases), 0, 103)
    birth = today - since - (old * 365.25).astype(np.int64)
    death = encounter + rng.exponential(900, cases).astype(np.int64)
    alive = (rng.random(cases) > np.clip(old / 160, 0, 0.9)) | (death > today)
    return {
        "ingested_at": _moments(received + _DAY_US),
        "received_on": _days(received // _DAY_US, unknown=rng.random(cases) < 0.004),
        "signed_out_at": _moments(signed, unknown=(signed > now) | (rng.random(cases) < 0.004)),
        "last_access": _moments(access, unknown=rng.random(cases) < 0.1),
        "last_encounter": _days(encounter, unknown=rng.random(cases) < hospital.unknown_dates),
        "birth_date": _days(birth, unknown=rng.random(cases) < hospital.unknown_dates / 4),
        "death_date": _days(death, unknown=alive),
        "feed_as_of": _moments(np.full(cases, now - 6 * 3_600_000_000, np.int64)),
        "recourse": _recourses(rng, cases, encounter, today, hospital.recourses),
        "identity_status": _drawn(rng, cases, (("qualified", 0.85), ("validated", 0.1), ("provisional", 0.05))),
        "organ": _drawn(rng, cases, _ORGANS),
        "department": _drawn(rng, cases, _DEPARTMENTS),
        "diagnoses": pa.array([[f"SNOMED:{code}"] for code in range(40)]).take(pa.array(rng.integers(0, 40, cases))),
        "collections": _marked(rng, cases),
    }  # fmt: skip


def _slide_columns(
    rng: np.random.Generator, slides: int, first: int, case: dict[str, pa.Array], hospital: Hospital, now: int
) -> dict[str, pa.Array]:
    size = rng.lognormal(np.log(1.25e9), 0.7, slides).astype(np.int64)
    age = (now - np.asarray(case["ingested_at"].cast(pa.int64()))) / _DAY_US
    copies, tiers, stored = _copies(rng, age, size, now)
    return {
        "slide": pa.array(np.char.mod("s%019d", np.arange(first, first + slides))),
        "name": pa.array(np.char.mod("scan-%010d.ndpi", np.arange(first, first + slides))),
        "format": _drawn(rng, slides, _FORMATS),
        "mode": pa.array(["tiles"]).take(pa.array(np.zeros(slides, np.int64))),
        "block": _drawn(rng, slides, (("A1", 0.5), ("A2", 0.3), ("B1", 0.2))),
        "stain": _drawn(rng, slides, _STAINS),
        "tags": pa.array([[]], pa.list_(pa.string())).take(pa.array(np.zeros(slides, np.int64))),
        "identity_detached": pa.array(np.zeros(slides, np.bool_)),
        "holds": pa.array((rng.random(slides) < hospital.holds).astype(np.int64)),
        "width": pa.array(rng.integers(20_000, 130_000, slides)),
        "height": pa.array(rng.integers(20_000, 90_000, slides)),
        "um_per_px": pa.array(np.where(rng.random(slides) < 0.3, 0.23, 0.46)),
        "magnification": pa.array(np.where(rng.random(slides) < 0.3, 40.0, 20.0)),
        "bytes_source": pa.array(size),
        "version": pa.array(np.ones(slides, np.int64)),
        "copies": copies,
        "tiers": tiers,
        "bytes_stored": stored,
        "state": pa.array(np.char.mod("%016x", rng.integers(0, 2**62, slides))),
    }


def _copies(rng: np.random.Generator, age: Array, size: Array, now: int) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return copies, their tiers and their bytes: slides are where their age says, some of them not yet."""
    slides = len(age)
    lag = age - rng.exponential(15, slides)
    tier = np.digitize(lag, [90, 730])
    second = (tier == 2) & (rng.random(slides) < 0.3)
    count = 1 + second
    row = np.repeat(np.arange(slides), count)
    is_second = np.r_[False, row[1:] == row[:-1]] if slides else np.zeros(0, np.bool_)
    place = np.where(is_second, 1, tier[row])
    stored = (size[row] * np.array([1.0, 0.78, 0.75])[place]).astype(np.int64)
    begun = now - (np.maximum(age[row] - np.array([0, 90, 730])[place], 0.1) * _DAY_US).astype(np.int64)
    charged = begun + np.array([0, 30, 180])[place] * _DAY_US
    copies = pa.StructArray.from_arrays(
        [
            pa.array(np.char.mod("a%09d", np.arange(len(row)))),
            pa.array(TIERS).take(pa.array(place)),
            pa.array(_PRESETS).take(pa.array(place)),
            pa.array(["committed", "suspect"]).take(pa.array((rng.random(len(row)) < 0.0001).astype(np.int64))),
            pa.array(stored),
            pa.array(np.array([150, 60, 3])[place]),
            _moments(begun),
            _moments(np.minimum(begun + _DAY_US, now)),
            pa.nulls(len(row), pa.timestamp("us")),
            _moments(charged, unknown=(place == 0) | (charged <= now)),
        ],
        fields=list(COPY),
    )
    offsets = pa.array(np.concatenate([[0], np.cumsum(count)]).astype(np.int32))
    total = np.bincount(row, weights=stored, minlength=slides).astype(np.int64)
    return (
        pa.ListArray.from_arrays(offsets, copies),
        pa.ListArray.from_arrays(offsets, copies.field("tier")),
        pa.array(total),
    )


def _recourses(rng: np.random.Generator, cases: int, encounter: Array, today: int, part: float) -> pa.Array:
    has = rng.random(cases) < part
    begins = encounter[has] + rng.integers(30, 2000, int(has.sum()))
    ends = begins + rng.integers(100, 1500, len(begins))
    flat = pa.StructArray.from_arrays([_days(begins), _days(ends, unknown=ends > today)], fields=list(RECOURSE))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(has)]).astype(np.int32)), flat)


def _marked(rng: np.random.Generator, cases: int) -> pa.Array:
    """Return the collections of cases; most are in none."""
    each = [rng.random(cases) < part for _, part in _COLLECTIONS]
    kinds = pa.array(
        [[], ["teaching"], ["national-platform"], ["national-platform", "teaching"]], pa.list_(pa.string())
    )
    return kinds.take(pa.array(each[0] + 2 * each[1].astype(np.int64)))


def _drawn(rng: np.random.Generator, count: int, weighted: Sequence[tuple[str, float]]) -> pa.Array:
    weights = np.array([weight for _, weight in weighted])
    picked = np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(count))
    return pa.array([value for value, _ in weighted]).take(pa.array(np.minimum(picked, len(weighted) - 1)))


def _numbered(prefix: str, count: int) -> pa.Array:
    return (
        pa.array(np.char.mod(prefix.replace("%", "%%") + "%07d", np.arange(count)))
        if count
        else pa.array([], pa.string())
    )


def _moments(us: Array, unknown: Array | None = None) -> pa.Array:
    return pa.array(us.astype(np.int64), mask=unknown).cast(pa.timestamp("us"))


def _days(day: Array, unknown: Array | None = None) -> pa.Array:
    return pa.array(day.astype(np.int32), mask=unknown).cast(pa.date32())
