"""Money, energy and carbon of what was used: worked out by hand, with ranges in order, and nothing that is not told."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.report_kit import GRID, Event, begun, costs, dropped, exactly, metered, model, slides
from wsistore.reports.focus import rows_of, table_of, to_cents
from wsistore.reports.models import Charge, Quality, TierCosts, What, charges, sci, totals
from wsistore.reports.periods import Month
from wsistore.reports.samples import Draws
from wsistore.reports.terms import TierModel
from wsistore.storage.archive import Retrieval
from wsistore.tiers.grid import load_grid
from wsistore.tiers.hardware import Hardware
from wsistore.tiers.prices import RetrievalPrice, load_prices
from wsistore.tiers.value_files import NOTHING, Mark, Value

TB = 10**12
OCTOBER = Month(2026, 10)
WHOLE = [begun("a", 1, "2026-01-01T00:00")]


def charged(
    events: list[Event], tier: TierModel | None = None, month: Month = OCTOBER, **options: Any
) -> dict[What, Charge]:
    """Return the charges of a month by kind; there is one of each."""
    tiers = costs(tier or model())
    found = list(charges(metered(events, month, **options).by_month[month], month, tiers))
    assert len({charge.what for charge in found}) == len(found)
    return {charge.what: charge for charge in found}


def test_a_terabyte_for_a_month() -> None:
    """31 days at 20 EUR; 10 kWh/TB/yr x 2 raw x PUE 1.5 for 31/365.25 of a year, at 50 g; 3 kg/TB/yr x 2 raw."""
    storage = charged(WHOLE)[What.STORAGE]
    years = 31 / 365.25
    assert (storage.unit, storage.consumed_unit) == ("GB-Months", "GB-Hours")
    assert (storage.quantity, storage.consumed) == pytest.approx((1000.0, 1000.0 * 744))
    assert storage.eur.central == pytest.approx(20.0)
    assert storage.kwh.central == pytest.approx(30 * years)
    assert storage.operational_g.central == pytest.approx(30 * years * 50)
    assert storage.embodied_g.central == pytest.approx(6000 * years)
    assert (storage.bytes_stored, storage.copies, storage.objects) == (TB, 1, 4)


def test_a_month_costs_the_same_however_long_it_is() -> None:
    prices = [charged(WHOLE, month=Month(2026, n, "Europe/Paris"))[What.STORAGE].eur.central for n in (2, 3, 10)]
    assert prices == pytest.approx([20.0] * 3)


def test_overheads_and_least_sizes() -> None:
    """4 objects, billed for 128 kB each at least; or for 32 kB beside each, and 8 kB more in the standard class."""
    small = [begun("a", 1, "2026-01-01T00:00", size=1000)]
    least = charged(small, model(least_object_bytes=exactly(128_000.0)))
    assert least[What.STORAGE].quantity == pytest.approx(4 * 128_000 / 1e9)
    assert least[What.STORAGE].bytes_stored == pytest.approx(1000)
    archive = charged(
        small,
        model(
            overhead_bytes_per_object=exactly(32_000.0),
            overhead_standard_bytes_per_object=exactly(8_000.0),
            standard_per_tb_month=exactly(23.0),
        ),
    )
    assert archive[What.STORAGE].quantity == pytest.approx((1000 + 4 * 32_000) / 1e9)
    assert archive[What.OVERHEAD].eur.central == pytest.approx(4 * 8_000 / 1e12 * 23)


def test_requests_and_bytes_that_leave() -> None:
    tier = model(
        put_per_1000=exactly(5.0), transition_per_1000=exactly(1.0), get_per_1000=exactly(0.4),
        egress_per_gb=exactly(0.09), retrieval_per_gb=exactly(0.01),
    )  # fmt: skip
    found = charged([begun("a", 1, "2026-10-01T00:00", objects=500, size=10 * 10**9)], tier)
    assert found[What.WRITES].eur.central == pytest.approx(500 * 6 / 1000)
    assert found[What.READS].eur.central == pytest.approx(500 * 0.4 / 1000)
    assert found[What.EGRESS].eur.central == pytest.approx(10 * 0.10)
    assert found[What.EGRESS].kwh.central == pytest.approx(10 * 0.001)


def test_early_deletion_is_what_the_drop_was_warned_of() -> None:
    """150 days of 1 TB at 20 EUR for 365.25 / 12 days, as `wsistore drop` says it."""
    events = [begun("a", 1, "2026-09-01T00:00"), dropped("a", 2, "2026-10-01T00:00")]
    found = charged(events, least_us={"hot": 180 * 86_400_000_000})
    assert set(found) == {What.EARLY}
    assert found[What.EARLY].eur.central == pytest.approx(20 * 150 / (365.25 / 12))


def test_encoding_is_charged_by_the_hour() -> None:
    events = [begun("a", 1, "2026-10-01T00:00", cpu_seconds=7200.0)]
    found = charged(events, model(cpu_per_core_hour=exactly(0.05)))[What.ENCODING]
    assert found.eur.central == pytest.approx(0.10)
    assert found.kwh.central == pytest.approx(2 * 4 / 1000 * 1.5)


@pytest.mark.parametrize(("way", "per_gb"), [("bulk", 0.002), ("standard", 0.01), ("", 0.002)])
def test_recalls_cost_by_their_way(way: str, per_gb: float) -> None:
    ways = (
        RetrievalPrice(Retrieval.STANDARD, NOTHING, exactly(0.01), exactly(2.0)),
        RetrievalPrice(Retrieval.BULK, NOTHING, exactly(0.002), exactly(2.0)),
    )
    detail = {"tier": "hot", "retrieval": way, "objects": "50", "bytes_asked": 100 * 10**9}
    events = [*WHOLE, ("a", 2, OCTOBER.begins, "recall-begun", detail)]
    found = charged(events, model(retrievals=ways))[What.RETRIEVAL]
    assert found.eur.central == pytest.approx(100 * per_gb + 50 * 2 / 1000)


def test_own_hardware_is_charged_whole() -> None:
    """60 000 EUR over 5 years, 8 000 a year to run: 20 000 a year for 100 TB; 1 TB is used, 99 stand idle."""
    own = Hardware(
        usable_tb=exactly(100.0), purchase=exactly(60_000.0), lifetime_years=exactly(5.0),
        upkeep_per_year=exactly(5_000.0), staff_per_year=exactly(2_000.0), space_per_year=exactly(1_000.0),
        watts=exactly(200.0),
    )  # fmt: skip
    tier = model(hardware=own, storage_per_tb_month=exactly(20_000 / 100 / 12))
    found = charged(WHOLE, tier)
    assert found[What.STORAGE].eur.central == pytest.approx(20_000 / 12 / 100)
    assert found[What.IDLE].eur.central == pytest.approx(20_000 / 12 * 99 / 100)
    both = totals(found.values(), Draws())
    assert both.kwh.central == pytest.approx(0.2 * 744 * 1.5)  # what the system draws, used or not
    assert both.embodied_g.central == pytest.approx(100 * 2 * 3000 * 31 / 365.25)


# --- ranges -----------------------------------------------------------------------------------------------------------


def test_the_band_of_a_difference_is_that_of_the_difference() -> None:
    """Twice the bytes cost 20 EUR more, give or take what a TB does: the bands of the two would say far more."""
    wide = model(storage_per_tb_month=Value(10.0, 20.0, 60.0))
    one, two = (
        totals(charged(e, wide).values(), Draws()) for e in (WHOLE, [begun("a", 1, "2026-01-01T00:00", size=2 * TB)])
    )
    more = (two - one).eur.band
    assert more == pytest.approx(one.eur.band)
    assert two.eur.band.high - one.eur.band.low > more.high


def test_draws_are_seeded() -> None:
    value = Value(1.0, 2.0, 5.0)
    bands = [(draws.of("x", value) * draws.of("y", value)).band for draws in (Draws(7), Draws(7), Draws(8))]
    assert bands[0] == bands[1] != bands[2]
    assert (Draws(7).of("x", value) - Draws(7).of("y", value)).band.high > 0  # another coefficient errs by itself
    other = Draws(7)
    other.of("y", value)  # whatever else was drawn before
    assert (Draws(7).of("x", value) - other.of("x", value)).band == (0, 0, 0)


def test_a_band_is_of_nine_tenths_of_the_draws() -> None:
    band = Draws().of("x", Value(0.0, 10.0, 100.0)).band
    assert band.low == pytest.approx(1.0, abs=0.02)
    assert band.high == pytest.approx(91.0, abs=0.2)


# --- what figures are worth -------------------------------------------------------------------------------------------


def test_quality_is_that_of_the_least_sure_value() -> None:
    seen, unsure = Value(20, 20, 20, "contract", Mark.SEEN), Value(20, 20, 20, "recalled", Mark.UNVERIFIED)
    sure = charged(WHOLE, model(storage_per_tb_month=seen))[What.STORAGE].qualities
    assert (sure.usage, sure.cost) == (Quality.METERED, Quality.ESTIMATED)
    assert charged(WHOLE, model(storage_per_tb_month=unsure))[What.STORAGE].qualities.cost is Quality.ASSUMED


def test_sci_is_carbon_per_slide() -> None:
    total = totals(charged(WHOLE).values(), Draws())
    score = sci(total, 4.0)
    assert score is not None
    assert score.central == pytest.approx((total.operational_g.central + total.embodied_g.central) / 4)
    assert sci(total, 0.0) is None


def test_the_order_of_magnitude_of_the_literature() -> None:
    """A slide of 1.6 GB for 20 years on disks in France: about 0.5 kWh, 27 g of use and 24 g of manufacture."""
    disk = replace(model(), prices=load_prices("hospital-disk"))
    tiers = {"hot": TierCosts(disk, 2024, load_grid(), Draws())}
    month = Month(2024, 10)
    meter = metered([begun("a", 1, "2024-01-01T00:00", size=1_600_000_000)], month)
    total = totals(charges(meter.by_month[month], month, tiers), Draws())
    months = 20 * 365.25 / 31
    assert total.kwh.central * months == pytest.approx(0.49, rel=0.05)
    assert total.operational_g.central * months == pytest.approx(27, rel=0.05)
    assert total.embodied_g.central * months == pytest.approx(24, rel=0.05)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_tax_has_rows_of_its_own() -> None:
    tiers = costs(model(vat=exactly(0.2)))
    known = slides(a=(TB, "UNIT-01"))
    found = charges(metered(WHOLE, OCTOBER, known=known).by_month[OCTOBER], OCTOBER, tiers)
    rows = {row["ChargeCategory"]: row for row in rows_of(found, OCTOBER, tiers, account="CHU")}
    assert rows["Usage"]["EffectiveCost"] == Decimal(20)
    assert rows["Tax"]["EffectiveCost"] == Decimal(4)
    assert rows["Tax"]["x_Department"] == "UNIT-01"
    assert rows["Usage"]["BilledCost"] == 0


def test_rows_tell_combustion_and_upstream_apart_where_both_are_known() -> None:
    tiers = costs(model())
    found = list(charges(metered(WHOLE, OCTOBER).by_month[OCTOBER], OCTOBER, tiers))
    (row,) = rows_of(found, OCTOBER, tiers, account="CHU")
    assert row["x_CombustionGco2e"] + row["x_UpstreamGco2e"] == pytest.approx(row["x_OperationalGco2eCentral"])
    only = {"hot": TierCosts(replace(model(), country="RE"), 2026, load_grid(), Draws())}
    (row,) = rows_of(charges(metered(WHOLE, OCTOBER).by_month[OCTOBER], OCTOBER, only), OCTOBER, only, account="CHU")
    assert (row["x_CombustionGco2e"], row["x_GridYear"], row["x_GridGco2ePerKwh"]) == (None, 2012, 764)


@pytest.mark.parametrize(
    ("focus", "has", "lacks"),
    [("1.2", {"ProviderName", "PublisherName"}, {"HostProviderName"}),
     ("1.4", {"HostProviderName", "ServiceProviderName"}, {"ProviderName", "PublisherName"})],
)  # fmt: skip
def test_mandatory_columns_of_focus(focus: str, has: set[str], lacks: set[str]) -> None:
    mandatory = {
        "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
        "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd",
        "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity",
        "PricingUnit", "ServiceCategory", "ServiceName",
    }  # fmt: skip
    tiers = costs(model())
    found = charges(metered(WHOLE, OCTOBER).by_month[OCTOBER], OCTOBER, tiers)
    table = table_of(rows_of(found, OCTOBER, tiers, account="CHU", focus=focus), focus)
    names = set(table.schema.names)
    assert mandatory | has <= names
    assert not lacks & names
    assert len(mandatory | has) == 21
    may_be_null = {"BillingAccountName", "ChargeClass", "ChargeDescription", "PricingQuantity", "PricingUnit"}
    assert all(not table.schema.field(name).nullable for name in (mandatory | has) - may_be_null)
    own = [name for name in table.schema.names if name.startswith("x_")]
    assert table.schema.names[-len(own) :] == own  # after FOCUS's
    (row,) = table.to_pylist()
    assert row["ListCost"] == row["ListUnitPrice"] * Decimal(row["PricingQuantity"])
    assert (row["ChargeClass"], row["ServiceCategory"], row["ChargeCategory"]) == (None, "Storage", "Usage")
    assert GRID.factors[0].country == row["RegionId"]


@pytest.mark.parametrize(
    ("amounts", "cents"),
    [
        (["0.333333", "0.333333", "0.333334"], [33, 33, 34]),
        (["0.005", "0.005"], [1, 0]),
        (["-0.006", "0.006"], [-1, 1]),
        (["1.004", "1.004", "1.004"], [101, 100, 100]),
        ([], []),
    ],
)
def test_cents_add_up(amounts: list[str], cents: list[int]) -> None:
    assert to_cents([Decimal(amount) for amount in amounts]) == cents
