"""The expected cost against calculations by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tuning_kit import FREE, measurement, value
from wsistore.tiers.expected_cost import Access, Cost, Range, choose, expected_access, expected_cost

NOBODY = Access(0, 0)


def cost_of(**told: object) -> Cost:
    return expected_cost(measurement(bytes_stored=1e12, objects=100), replace(FREE, **told), NOBODY, 10.0)  # type: ignore[arg-type]


def test_storage_is_bytes_times_months_times_price() -> None:
    found = cost_of(storage_per_tb_month=value(5, 7, 9))

    assert found.storage.eur == Range(5 * 120, pytest.approx(7 * 120), 9 * 120)  # type: ignore[arg-type]
    assert found.total.eur.central == pytest.approx(840)


def test_storage_that_gets_cheaper() -> None:
    found = cost_of(storage_per_tb_month=value(10), storage_decline_per_year=value(0.1, 0.15, 0.2))

    def years(decline: float) -> float:
        return sum((1 - decline) ** year for year in range(10))

    assert found.storage.eur.central == pytest.approx(120 * years(0.15))
    assert found.storage.eur.low == pytest.approx(120 * years(0.2))
    assert found.storage.eur.high == pytest.approx(120 * years(0.1))


def test_a_part_of_a_year_costs_its_part() -> None:
    prices = replace(FREE, storage_per_tb_month=value(10), storage_decline_per_year=value(0.5))

    found = expected_cost(measurement(bytes_stored=1e12), prices, NOBODY, 1.5)

    assert found.storage.eur.central == pytest.approx(10 * 12 * (1 + 0.5 * 0.5))


def test_archive_classes_bill_their_least_time_and_their_overheads() -> None:
    prices = replace(FREE, storage_per_tb_month=value(12), least_days=value(365.25))
    short = expected_cost(measurement(bytes_stored=1e12), prices, NOBODY, 0.1)
    assert short.storage.eur.central == pytest.approx(144)

    prices = replace(FREE, storage_per_tb_month=value(1), overhead_bytes_per_object=value(40_960))
    many = expected_cost(measurement(bytes_stored=1e9, objects=41_156), prices, NOBODY, 1.0)
    one = expected_cost(measurement(bytes_stored=1e9, objects=41_156), prices, NOBODY, 1.0, packed=True)
    assert many.storage.eur.central == pytest.approx(12 * (1e9 + 41_156 * 40_960) / 1e12)
    assert one.storage.eur.central == pytest.approx(12 * (1e9 + 2 * 40_960) / 1e12)

    prices = replace(FREE, storage_per_tb_month=value(1), least_object_bytes=value(131_072))
    small = expected_cost(measurement(bytes_stored=1000, objects=10), prices, NOBODY, 1.0)
    assert small.storage.eur.central == pytest.approx(12 * 10 * 131_072 / 1e12)


def test_requests() -> None:
    prices = replace(FREE, put_per_1000=value(5), get_per_1000=value(0.4))

    found = expected_cost(measurement(objects=50), prices, Access(recalls=2, ranges=300), 10.0)

    assert found.requests.eur.central == pytest.approx(5 * 50 / 1000 + 0.4 * (2 * 50 + 300) * 10 / 1000)


def test_encoding_and_reading_cost_processor_time() -> None:
    prices = replace(FREE, cpu_per_core_hour=value(0.01, 0.04, 0.1), waiting_per_hour=value(60))
    one = measurement(encode_seconds=3600, decode_seconds=360, range_seconds=0.036)

    found = expected_cost(one, prices, Access(recalls=2, ranges=1000), 10.0)

    assert found.encoding.eur.central == pytest.approx(0.04)
    assert found.encoding.eur.high == pytest.approx(0.1)
    assert found.recalls.eur.central == pytest.approx(0.04 * 0.1 * 20)  # nobody waits at a recall
    assert found.ranges.eur.central == pytest.approx((0.04 + 60) * 0.036 / 3600 * 10_000)


def test_reading_costs_what_the_tier_and_the_network_ask() -> None:
    prices = replace(FREE, retrieval_per_gb=value(0.005), egress_per_gb=value(0.01))
    one = measurement(bytes_stored=2e9, range_bytes=1e6)

    found = expected_cost(one, prices, Access(recalls=0.5, ranges=100), 10.0)

    assert found.recalls.eur.central == pytest.approx(0.015 * 2 * 5)
    assert found.ranges.eur.central == pytest.approx(0.015 * 0.001 * 1000)


def test_energy_and_carbon() -> None:
    energy = replace(
        FREE.energy,
        kwh_per_tb_year=value(5),
        embodied_kg_per_tb_year=value(0.4),
        pue=value(1.5),
        grid_g_per_kwh=value(50),
        watts_per_core=value(4),
        network_kwh_per_gb=value(0.01),
    )
    prices = replace(FREE, energy=energy, raw_per_usable=value(2))
    one = measurement(bytes_stored=1e12, encode_seconds=3600)

    found = expected_cost(one, prices, Access(recalls=0.1, ranges=0), 10.0)

    assert found.storage.kwh.central == pytest.approx(5 * 2 * 10 * 1.5)
    assert found.storage.gco2e.central == pytest.approx(150 * 50 + 0.4 * 1000 * 2 * 10)
    assert found.encoding.kwh.central == pytest.approx(0.004 * 1.5)
    assert found.encoding.gco2e.central == pytest.approx(0.3)
    assert found.recalls.kwh.central == pytest.approx(0.01 * 1000)
    assert found.total.kwh.central == pytest.approx(150 + 0.006 + 10)


def euros(*amounts: float) -> list[Cost]:
    prices = replace(FREE, storage_per_tb_month=value(1 / 12))
    return [expected_cost(measurement(bytes_stored=a * 1e12), prices, NOBODY, 1.0) for a in amounts]


def test_the_cheapest_is_chosen() -> None:
    choice = choose(euros(5, 3, 4), [0, 8, 16])

    assert (choice.index, choice.least, choice.next_best) == (1, 1, 2)


def test_of_equally_cheap_ones_the_lowest_fold_is_chosen() -> None:
    choice = choose(euros(5, 3.01, 3), [0, 8, 16])

    assert (choice.index, choice.least, choice.next_best) == (1, 2, 2)
    assert choose(euros(5, 3.02, 3), [0, 8, 16]).index == 2  # more than half a percent
    assert choose(euros(0, 0, 0), [16, 8, 0]).index == 2


def test_a_single_candidate_is_chosen() -> None:
    assert choose(euros(1), [0]).next_best is None


def test_access_is_assumed_by_the_tiers_name() -> None:
    assert expected_access("hot").ranges > expected_access("warm").ranges > expected_access("deep-archive").ranges
