"""Usage and its costs, whatever happened: nothing is lost or counted twice, more costs more, ranges are in order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report_kit import Event, begun, costs, dropped, lying, model, slides, told
from wsistore.reports.exact import product_sums
from wsistore.reports.focus import money, rows_of, to_cents
from wsistore.reports.metering import Meter
from wsistore.reports.models import charges, totals
from wsistore.reports.periods import US_PER_HOUR, Month
from wsistore.reports.samples import Draws
from wsistore.tiers.value_files import Value

MONTHS = tuple(Month(2026, n, "Europe/Paris") for n in (9, 10, 11))
BEGIN = MONTHS[0].begins_us
LENGTH_HOURS = (MONTHS[-1].ends_us - BEGIN) // US_PER_HOUR
SIZES = st.integers(0, 5 * 10**12)
DRAWS = Draws(count=200)


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[str, int, int, int, str, str | None]]:
    """Return copies: slide, begin and end in hours, bytes, tier, department."""
    found = []
    for n in range(draw(st.integers(1, 8))):
        one, other = sorted(draw(st.tuples(st.integers(0, LENGTH_HOURS), st.integers(0, LENGTH_HOURS))))
        tier = draw(st.sampled_from(["hot", "cold"]))
        unit = draw(st.sampled_from([None, "UNIT-01", "UNIT-02"]))
        found.append((f"s{n}", one, other, draw(SIZES), tier, unit))
    return found


def moment(hour: int) -> str:
    return str(np.datetime64(BEGIN + hour * US_PER_HOUR, "us"))


def events_of(found: list[tuple[str, int, int, int, str, str | None]]) -> list[Event]:
    events = []
    for slide, begin, end, size, tier, _ in found:
        events.append(begun(slide, 1, moment(begin), tier, size=size))
        events.append(dropped(slide, 2, moment(end), tier, size=size))
    return events


def metered(found: list[tuple[str, int, int, int, str, str | None]]) -> Meter:
    events = events_of(found)
    known = slides(**{slide: (size, unit) for slide, _, _, size, _, unit in found})
    meter = Meter(MONTHS)
    meter.add(lying(events, known), told(events))
    return meter


def total_of(meter: Meter, **prices: Any) -> Any:
    tiers = costs(model("hot", **prices), model("cold", **prices), draws=DRAWS)
    return totals((one for m in MONTHS for one in charges(meter.by_month[m], m, tiers)), DRAWS)


@settings(deadline=None, max_examples=60)
@given(lives())
def test_bytes_times_hours_are_the_sum_of_hourly_inventories(found: list[Any]) -> None:
    meter = metered(found)
    for month in MONTHS:
        first, last = ((at - BEGIN) // US_PER_HOUR for at in (month.begins_us, month.ends_us))
        hours = sum(
            size
            for _, begin, end, size, _, _ in found
            for hour in range(max(begin, first), min(end, last))
            if begin <= hour < end
        )
        assert sum(usage.byte_us for usage in meter.by_month[month].values()) == hours * US_PER_HOUR


@settings(deadline=None, max_examples=40)
@given(lives(), st.integers(0, 8))
def test_portions_can_be_metered_apart(found: list[Any], cut: int) -> None:
    whole, parts = metered(found), [metered(part) for part in (found[:cut], found[cut:]) if part]
    merged = Meter(MONTHS)
    for part in parts:
        merged.merge(part)
    assert (merged.by_month, merged.slide_us) == (whole.by_month, whole.slide_us)


@settings(deadline=None, max_examples=25)
@given(lives())
def test_departments_add_up_to_the_cent(found: list[Any]) -> None:
    meter = metered(found)
    tiers = costs(model("hot"), model("cold"), draws=DRAWS)
    for month in MONTHS:
        rows = rows_of(charges(meter.by_month[month], month, tiers), month, tiers, account="CHU")
        units = {row["x_Department"] for row in rows}
        parts = [sum((r["EffectiveCost"] for r in rows if r["x_Department"] == unit), Decimal(0)) for unit in units]
        whole = sum((row["EffectiveCost"] for row in rows), Decimal(0))
        assert sum(parts) == whole
        assert sum(to_cents(parts)) == int((whole * 100).to_integral_value())


@settings(deadline=None, max_examples=25)
@given(lives(), st.integers(2, 9))
def test_twice_the_bytes_cost_twice_as_much(found: list[Any], times: int) -> None:
    one = total_of(metered(found))
    more = total_of(metered([(s, b, e, size * times, t, u) for s, b, e, size, t, u in found]))
    for name in ("eur", "kwh", "operational_g", "embodied_g"):
        mine, other = getattr(one, name).band, getattr(more, name).band
        assert other == pytest.approx([end * times for end in mine], rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(lives(), st.floats(0, 50), st.floats(0, 50), st.floats(0, 50))
def test_ranges_are_in_order_and_dearer_costs_more(found: list[Any], low: float, more: float, most: float) -> None:
    meter = metered(found)
    price = Value(low, low + more, low + more + most)
    eur = total_of(meter, storage_per_tb_month=price).eur.band
    assert eur.low <= eur.central <= eur.high
    dearer = Value(price.low + 1, price.central + 1, price.high + 1)
    other = total_of(meter, storage_per_tb_month=dearer).eur.band
    assert all(theirs >= mine for mine, theirs in zip(eur, other, strict=True))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**50), st.integers(0, 2**45)), min_size=1, max_size=40))
def test_sums_of_products_are_exact(rows: list[tuple[int, int, int]]) -> None:
    rows.sort(key=lambda row: row[0])
    codes, one, other = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    wanted = [sum(a * b for code, a, b in rows if code == group) for group in dict.fromkeys(codes.tolist())]
    assert product_sums(one, other, starts) == wanted


@given(st.lists(st.decimals(-1000, 1000, places=6), max_size=20))
def test_cents_add_up_and_none_is_further_than_a_cent_away(amounts: list[Decimal]) -> None:
    cents = to_cents(amounts)
    assert abs(sum(cents) - 100 * sum(amounts, Decimal(0))) <= Decimal("0.5")
    assert all(abs(cent - 100 * amount) < 1 for cent, amount in zip(cents, amounts, strict=True))


@given(st.floats(-1e15, 1e15))
def test_money_is_as_near_as_it_can_be(amount: float) -> None:
    assert abs(money(amount) - Decimal(amount)) <= Decimal("0.0000000001") + abs(Decimal(amount)) * Decimal("1e-15")
