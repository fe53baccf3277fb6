"""Forecasts that a controller can reckon by hand, and that agree with the reports' charges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.forecast_kit import BEGINS, GB, PRESETS, central, ran, scenario, slides, stages, tier
from tests.report_kit import exactly
from wsistore.reports.forecast.running import bands, cumulative, forecast
from wsistore.reports.forecast.scenario import CopyAt, ForecastTier, Path, ReadsAt, SizeKind, Slides, Stage
from wsistore.reports.models import TierCosts, charges
from wsistore.reports.samples import Draws
from wsistore.reports.usage import Group, Usage, What
from wsistore.storage.archive import Retrieval
from wsistore.tiers.grid import Grid, GridFactor
from wsistore.tiers.hardware import Hardware
from wsistore.tiers.prices import RetrievalPrice
from wsistore.tiers.value_files import NOTHING, Value

TB = 1e12
OWN = Hardware(
    usable_tb=exactly(10.0), purchase=exactly(6_000.0), lifetime_years=exactly(3.0), upkeep_per_year=exactly(400.0)
)
"""2000 EUR a year to write off and 400 to run: 240 EUR per TB and year, 20 per month."""


def own_tier(**more: Any) -> ForecastTier:
    return tier(prices={"hardware": OWN, "storage_per_tb_month": exactly(20.0)}, **more)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_slides_that_stay_where_they_are() -> None:
    """100 slides of 1 GB a month, evenly: 50 on average in January, 150 in February … 1150 in December.

    That is 7200 slide-months or 7.2 TB-months at 20 EUR; in the second year 1200 more in each month.
    """
    found = ran(scenario())
    assert central(found.total.eur) == pytest.approx([7.2 * 20, (14.4 + 7.2) * 20])
    assert central(cumulative(found.total.eur)) == pytest.approx([144.0, 576.0])
    assert central(found.slides_kept) == pytest.approx([1200, 2400])
    assert central(found.all_bytes) == pytest.approx([1.2 * TB, 2.4 * TB])


def test_slides_that_move_when_they_are_a_year_old() -> None:
    """In the second year the first year's slides are in cold, as half of the bytes, at 2 EUR per TB and month."""
    cold = tier("cold", prices={"storage_per_tb_month": exactly(2.0)})
    found = ran(scenario(tier(), cold, stages=stages((0, "hot", "keep"), (12, "cold", "half"))))
    assert central(found.parts["hot", What.STORAGE].eur) == pytest.approx([144.0, 14.4 * 20])
    assert central(found.parts["cold", What.STORAGE].eur) == pytest.approx([0.0, 7.2 * 0.5 * 2])
    assert central(found.bytes_stored["cold"]) == pytest.approx([0.0, 0.6 * TB])


@pytest.mark.parametrize("months", [0.25, 90 / (365.25 / 12), 7.5])
def test_ages_need_not_be_whole_months(months: float) -> None:
    """100 slides a month that stay for `months`: 100 t of them at first, then always as many; the integral of that."""
    cold = tier("cold", prices={"storage_per_tb_month": exactly(2.0)})
    found = ran(scenario(tier(), cold, stages=stages((0, "hot", "keep"), (months, "cold", "keep"))), 2)
    hot = 0.1 * (months**2 / 2 + months * (12 - months))
    assert central(found.parts["hot", What.STORAGE].eur) == pytest.approx([hot * 20, 0.1 * months * 12 * 20])
    assert central(found.parts["cold", What.STORAGE].eur)[0] == pytest.approx((7.2 - hot) * 2)


def test_energy_and_carbon() -> None:
    """10 kWh x 2 raw x PUE 1.5 per TB and year, at 50 g; 3 kg x 2 raw: by the true hours of the months."""
    found = ran(scenario(), 1)
    stored = found.parts["hot", What.STORAGE]
    lengths = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) / 365.25
    tb_years = ((np.arange(12) + 0.5) * 0.1 * lengths).sum()
    assert central(stored.kwh) == pytest.approx([30 * tb_years])
    assert central(stored.operational_g) == pytest.approx([1500 * tb_years])
    assert central(stored.embodied_g) == pytest.approx([6000 * tb_years])
    # Reading back what was written: 1.2 TB at 0.001 kWh per GB.
    assert central(found.total.kwh) == pytest.approx([30 * tb_years + 1.2])


def test_a_ramp_up_and_growth() -> None:
    made = slides(1200.0, ramp_up=(0.25, 0.5, 1.0), growth_per_year=exactly(0.1))
    assert central(ran(scenario(slides=made), 5).slides_new) == pytest.approx([300, 600, 1200, 1320, 1452])
    assert central(ran(scenario(slides=slides(growth_per_year=exactly(0.1))), 3).slides_new) == pytest.approx(
        [1200, 1320, 1452]
    )


def test_a_stock_that_is_there_already() -> None:
    """1200 slides that came over the year before: half of them are over 6 months old when the forecast begins."""
    made = slides(0.0, stock=1200.0, stock_years=1.0)
    cold = tier("cold")
    found = ran(scenario(tier(), cold, slides=made, stages=stages((0, "hot", "keep"), (6, "cold", "keep"))), 1)
    assert central(found.slides_new) == [0.0]
    # 600 slides in hot at first, none after six months: 300 on average over these.
    assert central(found.parts["hot", What.STORAGE].eur) == pytest.approx([0.3 * 6 * 20])
    assert central(found.bytes_stored["cold"]) == pytest.approx([1.2 * TB])


def test_sizes_are_mixed_and_whole_slides_get_no_smaller() -> None:
    kinds = (
        SizeKind(name="a", part=0.75, bytes=exactly(GB)),
        SizeKind(name="b", part=0.25, bytes=exactly(5 * GB), is_whole=True),
    )
    made = Slides(per_year=exactly(1200.0), kinds=kinds)
    found = ran(scenario(slides=made, stages=stages((0, "hot", "half"))), 1)
    assert central(found.all_bytes) == pytest.approx([1200 * (0.75 * 0.5 + 1.25) * GB])


def test_slides_are_deleted_when_their_time_is_over() -> None:
    found = ran(scenario(keep_months=12.0), 3)
    assert central(found.slides_kept) == pytest.approx([1200, 1200, 1200])
    assert central(found.total.eur) == pytest.approx([144, 288, 288])


def test_parts_of_the_slides_go_their_own_way() -> None:
    cold = tier("cold", prices={"storage_per_tb_month": exactly(2.0)})
    most = Path("all", 0.75, stages((0.0, "hot", "keep")))
    some = Path("some", 0.25, stages((0.0, "cold", "keep")))
    found = ran(scenario(tier(), cold, paths=(most, some)), 1)
    assert central(found.parts["hot", What.STORAGE].eur) == pytest.approx([144 * 0.75])
    assert central(found.parts["cold", What.STORAGE].eur) == pytest.approx([14.4 * 0.25])


def test_a_copy_that_two_stages_have_is_made_once() -> None:
    """Writing costs 1 EUR per 1000 objects; the copy in hot stays when one in cold is added."""
    paid = {"put_per_1000": exactly(1.0)}
    both = (Stage(0.0, (CopyAt("hot", "keep"),)), Stage(6.0, (CopyAt("hot", "keep"), CopyAt("cold", "half"))))
    found = ran(scenario(tier(prices=paid), tier("cold", prices=paid), stages=both), 1)
    assert central(found.parts["hot", What.WRITES].eur) == pytest.approx([1200 * 10 / 1000])
    assert central(found.parts["cold", What.WRITES].eur) == pytest.approx([600 * 2 / 1000])


# --- requests, reading, archives --------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_and_what_is_copied_is_read() -> None:
    """1 EUR per GB read in hot: every slide once read back, those that move once more."""
    read = {"egress_per_gb": exactly(1.0)}
    found = ran(scenario(tier(prices=read), tier("cold"), stages=stages((0, "hot", "keep"), (6, "cold", "half"))), 1)
    assert central(found.parts["hot", What.EGRESS].eur) == pytest.approx([1200 + 600])


def test_copies_are_verified_as_often_as_the_tier_says() -> None:
    read = {"egress_per_gb": exactly(1.0)}
    one, other = (
        ran(scenario(tier(prices=read, verify_every_days=days)), 1).parts["hot", What.EGRESS].eur for days in (0, 30)
    )
    years = ran(scenario(), 1).parts["hot", What.STORAGE].kwh[0, 0] / 30  # TB-years
    assert other[0, 0] - one[0, 0] == pytest.approx(years * 1000 * 365.25 / 30)


def test_people_read_slides_by_their_age() -> None:
    """Twice a year in the first six months, never after: of an archive they are asked back first."""
    way = RetrievalPrice(Retrieval.STANDARD, NOTHING, exactly(0.1))
    cold = tier("cold", prices={"retrievals": (way,), "egress_per_gb": exactly(1.0)})
    reads = (ReadsAt(0.0, exactly(2.0)), ReadsAt(6.0, exactly(0.0)))
    found = ran(scenario(cold, reads=reads), 1)
    lying = [min(month + 1, 6) - (0.5 if month < 6 else 0.0) for month in range(12)]  # hundreds of slides
    lengths = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) / 365.25
    expected = 100 * 2 * float((np.array(lying) * lengths).sum())
    assert central(found.parts["cold", What.RETRIEVAL].eur) == pytest.approx([expected * 0.1])
    assert central(found.parts["cold", What.EGRESS].eur) == pytest.approx([1200 + expected])


def test_leaving_a_class_early_is_paid_for() -> None:
    """90 of 180 days are left of 600 slides; a month has 365.25 / 12 days."""
    months = 90 / (365.25 / 12)
    found = ran(
        scenario(tier(least_days=180.0), tier("cold"), stages=stages((0, "hot", "keep"), (months, "cold", "keep"))), 1
    )
    gone = 1200 * (12 - months) / 12
    assert central(found.parts["hot", What.EARLY].eur) == pytest.approx([gone / 1000 * 20 * months])


def test_encoding_takes_time() -> None:
    half = replace(PRESETS["half"], cpu_seconds_per_gb=exactly(360.0))
    paid = {"cpu_per_core_hour": exactly(0.05)}
    made = scenario(
        tier(), tier("cold", prices=paid), stages=stages((0, "hot", "keep"), (6, "cold", "half")),
        presets={**PRESETS, "half": half},
    )  # fmt: skip
    assert central(ran(made, 1).parts["cold", What.ENCODING].eur) == pytest.approx([600 * 0.1 * 0.05])


# --- the years that come ----------------------------------------------------------------------------------------------


def test_prices_fall_and_rise() -> None:
    falling = tier(storage_decline=exactly(0.1), fees_rise=exactly(0.5), prices={"egress_per_gb": exactly(1.0)})
    found = ran(scenario(falling), 3)
    assert central(found.parts["hot", What.STORAGE].eur) == pytest.approx([144, 432 * 0.9, 720 * 0.81])
    assert central(found.parts["hot", What.EGRESS].eur) == pytest.approx([1200, 1800, 2700])


def test_the_grid_of_each_year_then_a_decline() -> None:
    """50 g in 2027, 30 from 2028 on, a tenth less each year after that."""
    factors = tuple(GridFactor("FR", year, exactly(grams)) for year, grams in ((2024, 50.0), (2028, 30.0)))
    found = ran(scenario(grid=Grid(factors), grid_decline={"FR": exactly(0.1)}), 4).total
    assert (found.operational_g[:, 0] / found.kwh[:, 0]).tolist() == pytest.approx([50, 30, 27, 24.3])
    only = ran(scenario(grid=Grid(factors[:1]), grid_decline={"FR": exactly(0.1)}), 3).total
    assert (only.operational_g[:, 0] / only.kwh[:, 0]).tolist() == pytest.approx([50, 45, 40.5])


def test_own_hardware_is_bought_when_it_is_needed_and_again_when_it_is_worn_out() -> None:
    """12 TB a year into systems of 10 TB that last 3 years.

    Bought: 1 in January 2027, 1 when the first is full; the third at 20 TB, in the second year; those of the first year
    again in the fourth. Each costs 2000 + 400 EUR a year, used or not.
    """
    found = ran(scenario(own_tier(), slides=slides(12_000.0)), 4)
    own = found.equipment["hot"]
    assert central(own.bought) == [2, 1, 1, 3]
    assert central(own.systems) == [2, 3, 4, 5]
    assert central(own.spent) == [12_000, 6_000, 6_000, 18_000]
    # 12 months of the first, and of the second from November on, when 10 TB are passed.
    assert central(found.total.eur)[0] == pytest.approx((12 + 2) * 200)
    used = found.parts["hot", What.STORAGE].eur[0, 0]
    assert found.parts["hot", What.IDLE].eur[0, 0] == pytest.approx(2800 - used)


def test_hardware_that_is_there_is_not_bought_again_before_its_time() -> None:
    found = ran(scenario(own_tier(owned_systems=1.0, owned_years=2.0), slides=slides(1200.0)), 3)
    assert central(found.equipment["hot"].bought) == [0, 1, 0]


def test_later_systems_cost_what_they_cost_then() -> None:
    made = scenario(own_tier(storage_decline=exactly(0.5)), slides=slides(1200.0))
    found = ran(made, 5)
    assert central(found.equipment["hot"].spent) == [6000, 0, 0, 6000 / 8, 0]
    assert central(found.total.eur) == pytest.approx([2400, 2400, 2400, 2000 / 8 + 400, 2000 / 8 + 400])


# --- the reports' models ----------------------------------------------------------------------------------------------


def test_a_year_costs_what_the_reports_charge_for_its_months() -> None:
    """The usage of each month, made up independently and charged by the reports, with ranges."""
    wide = {"storage_per_tb_month": Value(10.0, 20.0, 60.0), "put_per_1000": Value(1.0, 2.0, 3.0)}
    hot, draws = tier(prices=wide), Draws(count=400)
    found = ran(scenario(hot), 1, draws)
    costs = TierCosts(hot.model, 2027, scenario().grid, draws)
    month, eur, grams = BEGINS, draws.exactly(0.0), draws.exactly(0.0)
    for number in range(12):
        kept, length = 50 + 100 * number, month.length_us
        size = round(GB * kept) * length
        usage = Usage(
            byte_us=size, logical_byte_us=size, object_us=10 * kept * length, copy_us=kept * length,
            puts=1000, gets=1000, bytes_read=100 * 10**9,
        )  # fmt: skip
        for charge in charges({Group("hot", "keep", None, False): usage}, month, {"hot": costs}):
            eur, grams = eur + charge.eur, grams + charge.operational_g + charge.embodied_g
        month = month.next
    assert bands(found.total.eur)[0] == pytest.approx(eur.band)
    assert bands(found.total.gco2e)[0] == pytest.approx(grams.band)


def test_the_band_of_a_difference_is_that_of_the_difference() -> None:
    """Both rest on the same price and slides: that one has a tenth more bytes is certain, whatever they cost."""
    wide = tier(prices={"storage_per_tb_month": Value(10.0, 20.0, 60.0)})
    many = slides(Value(800.0, 1200.0, 2000.0))
    more = replace(PRESETS["keep"], name="more", ratio=exactly(1.1))
    presets = {**PRESETS, "more": more}
    one = scenario(wide, slides=many, presets=presets)
    other = scenario(wide, slides=many, presets=presets, stages=stages((0, "hot", "more")), name="other")
    first, second = forecast([one, other], BEGINS, 1, Draws(count=400))
    least, _, most = bands(second.total.eur - first.total.eur)[0]
    a, b = bands(first.total.eur)[0], bands(second.total.eur)[0]
    assert a == pytest.approx((least * 10, 144, most * 10))
    assert 0 < least < most < b.high - a.low  # bands subtracted end by end would say far more
    assert a.high > b.low  # and yet it is certain that the second costs more
