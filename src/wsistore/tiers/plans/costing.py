"""What each slide's decision costs: bytes, euros, energy, carbon and time, now and after, for all slides at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from wsistore.tiers.plans import coefficients as reckon
from wsistore.tiers.plans.coefficients import GB, SECONDS, Coefficients
from wsistore.tiers.plans.flat import PRESETS, Copies, Flags, Floats, Integers, Steps, copies_of, steps_of
from wsistore.tiers.plans.sizes import groups_of
from wsistore.tiers.plans.speeds import DELETE_OBJECTS_PER_SECOND
from wsistore.tiers.rules.decisions import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Costed:
    """Figures of the rows, each (slides,), named as the columns of `wsistore.tiers.plans.rows.COSTS`."""

    bytes_now: Integers
    bytes_after: Integers
    bytes_moved: Integers
    eur_year_now: Floats
    eur_year_after: Floats
    eur_once: Floats
    eur_retrieval: Floats
    eur_early: Floats
    payback_years: Floats
    """NaN where there is none."""
    kwh_year_now: Floats
    kwh_year_after: Floats
    gco2e_year_now: Floats
    gco2e_year_after: Floats
    kwh_once: Floats
    gco2e_once: Floats
    seconds: Floats
    kept: Copies
    """What lies in the tiers now."""
    left: Flags
    """Which of `kept` are still there afterwards; (copies,)."""
    made: Made
    """What is there afterwards beside them."""


@dataclass(frozen=True, slots=True)
class Made:
    """Copies that are yet to be made; each array is (made,)."""

    row: Integers
    tier: Integers
    size: Floats
    objects: Floats
    source: Integers
    """The tier that is read."""
    size_read: Floats
    objects_read: Floats
    preset: Integers
    is_encoded: Flags
    """Whether it is encoded on the way, and is no copy of the objects as they are."""
    is_estimated: Flags
    """Whether its size is estimated: no copy of the slide is in this preset yet."""
    group: Integers
    """Number of the slide's mode and format, for what the estimate rests on."""


@dataclass(frozen=True, slots=True)
class _Lookup:
    """Copies by row and tier; `at` is (slides × tiers,), -1 where there is none."""

    copies: Copies
    tiers: int
    at: Integers

    @classmethod
    def of(cls, copies: Copies, rows: int, tiers: int) -> _Lookup:
        at = np.full(rows * tiers, -1, np.int64)
        # The last that is written stays: good copies after suspect ones, and of these the first.
        order = np.lexsort((-np.arange(len(copies.row)), ~copies.is_suspect))
        at[(copies.row * tiers + copies.tier)[order]] = order
        return cls(copies, tiers, at)

    def find(self, row: Integers, tier: Integers) -> Integers:
        """Return the number of the copy in a tier, -1 where there is none or no tier is named."""
        found = self.at[row * self.tiers + np.maximum(tier, 0)] if self.tiers else np.full(len(row), -1, np.int64)
        return np.where(tier >= 0, found, -1)


def cost(facts: pa.Table, decisions: pa.Table, terms: Coefficients, at: datetime) -> Costed:
    """Reckon what decisions cost.

    Parameters
    ----------
    facts
        Of `wsistore.tiers.rules.facts.SCHEMA`, one row per slide.
    decisions
        Of `wsistore.tiers.rules.decisions.DECISIONS`, the same rows.
    terms
        Prices and coefficients of all tiers that facts and decisions name.
    at
        The moment of the plan, timezone-aware.

    """
    rows, names = facts.num_rows, terms.names
    copies, steps = copies_of(facts, names, at), steps_of(decisions, names)
    gone = _gone(copies, steps, rows, len(names))
    made = _made(facts, copies, steps, terms)
    early = reckon.early_end(terms, copies.tier, copies.size, copies.days_charged) * gone
    once, fees, kwh, carbon = _once(made, terms)
    now = _yearly(terms, rows, copies.row, copies.tier, copies.size, copies.objects)
    stays = ~gone
    left = _yearly(terms, rows, copies.row[stays], copies.tier[stays], copies.size[stays], copies.objects[stays])
    new = _yearly(terms, rows, made.row, made.tier, made.size, made.objects)
    after = tuple(one + other for one, other in zip(left, new, strict=True))
    eur_early = _sum(copies.row, early, rows)
    eur_once, eur_retrieval = _sum(made.row, once, rows), _sum(made.row, fees, rows)
    return Costed(
        bytes_now=_whole(now[3]),
        bytes_after=_whole(after[3]),
        bytes_moved=_whole(_sum(made.row, made.size_read * (made.source != made.tier), rows)),
        eur_year_now=now[0],
        eur_year_after=after[0],
        eur_once=eur_once,
        eur_retrieval=eur_retrieval,
        eur_early=eur_early,
        payback_years=payback(eur_once + eur_retrieval + eur_early, now[0] - after[0]),
        kwh_year_now=now[1],
        kwh_year_after=after[1],
        gco2e_year_now=now[2],
        gco2e_year_after=after[2],
        kwh_once=_sum(made.row, kwh, rows),
        gco2e_once=_sum(made.row, carbon, rows),
        seconds=_seconds(made, copies, gone, terms, rows),
        kept=copies,
        left=stays,
        made=made,
    )


def payback(once: Floats, saved_per_year: Floats) -> Floats:
    """Return after how many years what is spent once is saved; NaN where it never is, or nothing is spent."""
    worth = (once > 0) & (saved_per_year > 0)
    found: Floats = np.divide(once, saved_per_year, out=np.full(len(once), np.nan), where=worth)
    return found


# --- what there is afterwards -----------------------------------------------------------------------------------------


def _gone(copies: Copies, steps: Steps, rows: int, tiers: int) -> Flags:
    """Say which copies are gone afterwards; (copies,)."""
    all_gone = np.zeros(rows, np.bool_)
    all_gone[steps.row[steps.of(Action.DELETE)]] = True
    places = np.zeros(rows * tiers, np.bool_)
    # A new copy takes the place of what its tier has.
    taken = steps.of(Action.DROP_COPY, Action.REENCODE, Action.COPY, Action.MOVE) & (steps.tier >= 0)
    places[(steps.row * tiers + steps.tier)[taken]] = True
    left = steps.of(Action.MOVE) & (steps.source >= 0)
    places[(steps.row * tiers + steps.source)[left]] = True
    found: Flags = all_gone[copies.row] | places[copies.row * tiers + copies.tier]
    return found


def _made(facts: pa.Table, copies: Copies, steps: Steps, terms: Coefficients) -> Made:
    """Return the copies that steps make."""
    making = steps.of(Action.COPY, Action.MOVE, Action.REENCODE) & (steps.tier >= 0)
    row, tier = steps.row[making], steps.tier[making]
    lookup = _Lookup.of(copies, facts.num_rows, len(terms.names))
    named = np.where(steps.of(Action.REENCODE) & (steps.source < 0), steps.tier, steps.source)[making]
    read = lookup.find(row, named)
    read = np.where(read >= 0, read, _best_to_read(copies, facts.num_rows, terms)[row])
    has = read >= 0
    safe = np.maximum(read, 0)
    source_bytes = facts["bytes_source"].fill_null(0).to_numpy().astype(np.float64)[row]

    def of_read(values: Floats | Integers, other: Floats | Integers) -> Floats | Integers:
        return np.where(has, values[safe], other) if len(values) else other

    preset = steps.preset[making]
    preset = np.where(preset >= 0, preset, of_read(copies.preset, np.full(len(row), -1))).astype(np.int64)
    preset = np.maximum(preset, 0)
    size, objects, is_estimated, group = _size_of(facts, copies, terms, row, preset, source_bytes)
    same = of_read(copies.preset, np.full(len(row), -1)) == preset
    return Made(
        row=row,
        tier=tier,
        size=size,
        objects=objects,
        source=of_read(copies.tier, tier).astype(np.int64),
        size_read=of_read(copies.size, source_bytes).astype(np.float64),
        objects_read=of_read(copies.objects, objects).astype(np.float64),
        preset=preset,
        is_encoded=~same | steps.of(Action.REENCODE)[making],
        is_estimated=is_estimated,
        group=group,
    )


def _best_to_read(copies: Copies, rows: int, terms: Coefficients) -> Integers:
    """Return the number of the copy that is best to read of each slide, -1 where it has none; (slides,)."""
    found = np.full(rows, -1, np.int64)
    if len(copies.row):
        order = np.lexsort((terms.read_rank[copies.tier], copies.is_suspect))[::-1]
        found[copies.row[order]] = order
    return found


def _size_of(
    facts: pa.Table, copies: Copies, terms: Coefficients, row: Integers, preset: Integers, source_bytes: Floats
) -> tuple[Floats, Floats, Flags, Integers]:
    """Return bytes and objects of new copies: those of one in the same preset, else estimates."""
    count = len(PRESETS)
    known = np.full(facts.num_rows * count, -1, np.int64)
    good = np.flatnonzero(copies.preset >= 0)
    order = good[np.lexsort((-good, ~copies.is_suspect[good]))]
    known[copies.row[order] * count + copies.preset[order]] = order
    found = known[row * count + preset]
    groups = groups_of(facts)
    ratios, objects, _ = groups.ratios(terms.sizes)
    group = groups.of_row[row]
    size = np.rint(ratios[group, preset] * source_bytes)
    number = objects[group, preset]
    is_estimated = found < 0
    if len(copies.row):
        size = np.where(is_estimated, size, copies.size[np.maximum(found, 0)])
        number = np.where(is_estimated, number, copies.objects[np.maximum(found, 0)])
    return size, number, is_estimated, group


# --- what it costs ----------------------------------------------------------------------------------------------------


def _yearly(
    terms: Coefficients, rows: int, row: Integers, tier: Integers, size: Floats, objects: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return EUR, kWh, gCO2e of a year, and bytes; each (slides,)."""
    eur, kwh, carbon = reckon.storage_per_year(terms, tier, size, objects)
    return _sum(row, eur, rows), _sum(row, kwh, rows), _sum(row, carbon, rows), _sum(row, size, rows)


def _once(made: Made, terms: Coefficients) -> tuple[Floats, Floats, Floats, Floats]:
    """Return EUR of making each copy, fees for what is read for it, kWh and gCO2e; each (made,)."""
    to, out = made.tier, made.source
    written, read = made.size / GB, made.size_read / GB
    put = terms.central("put_per_1000") + terms.central("transition_per_1000")
    requests = (put + terms.central("get_per_1000"))[to] * made.objects  # each is written and read back
    requests = (requests + terms.central("get_per_1000")[out] * made.objects_read) / 1000.0
    back = (terms.central("retrieval_per_gb") + terms.central("egress_per_gb"))[to] * written
    hours = _cpu_seconds(made, terms) / SECONDS
    encoding = terms.central("cpu_per_core_hour")[to] * hours
    fees = reckon.retrieval(terms, out, to, made.size_read, made.objects_read)
    work = terms.energy("watts_per_core")[to] * terms.energy("pue")[to] * hours / 1000.0
    inward = terms.energy("network_kwh_per_gb")[to] * written * 2.0 + work
    outward = terms.energy("network_kwh_per_gb")[out] * read
    grid = terms.energy("grid_g_per_kwh")
    return requests + back + encoding, fees, inward + outward, inward * grid[to] + outward * grid[out]


def _cpu_seconds(made: Made, terms: Coefficients) -> Floats:
    per_byte = np.array([terms.speeds.cpu_per_byte(preset) for preset in PRESETS], np.float64)
    return per_byte[made.preset] * made.size_read * made.is_encoded


def _seconds(made: Made, copies: Copies, gone: Flags, terms: Coefficients, rows: int) -> Floats:
    """Return how long each slide keeps the site busy: what is made, and what is taken away; (slides,)."""
    copying = np.array([terms.speeds.copy_rate(name) for name in terms.names], np.float64)
    encoding = np.array([terms.speeds.encode_rate(preset) for preset in PRESETS], np.float64)
    plain = made.size / copying[made.tier] if len(copying) else made.size
    making = np.where(made.is_encoded, made.size_read / encoding[made.preset], plain)
    taking = copies.objects[gone] / DELETE_OBJECTS_PER_SECOND
    return _sum(made.row, making, rows) + _sum(copies.row[gone], taking, rows)


def _sum(row: Integers, values: Floats, rows: int) -> Floats:
    return np.bincount(row, weights=values, minlength=rows).astype(np.float64)


def _whole(values: Floats) -> Integers:
    return np.rint(values).astype(np.int64)
