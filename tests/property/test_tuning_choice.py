"""The tuner's choice follows prices and access in the direction that everybody expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.tuning_kit import FREE, measurement, value
from wsistore.compress.tuning.measure import Measurement
from wsistore.tiers.expected_cost import TIE, Access, choose, expected_cost
from wsistore.tiers.prices import Prices

amounts = st.floats(0.0, 1e3, allow_subnormal=False)
measurements = st.builds(
    lambda size, encode, decode, one: measurement(
        bytes_stored=size, encode_seconds=encode, decode_seconds=decode, range_seconds=one, range_bytes=size / 1000
    ),
    st.floats(1e6, 1e10),
    st.floats(0, 1e4),
    st.floats(0, 1e3),
    st.floats(0, 10),
)
tables = st.lists(measurements, min_size=1, max_size=8)
factors = st.floats(1.01, 100)

PRICES = replace(
    FREE,
    storage_per_tb_month=value(2, 7, 20),
    cpu_per_core_hour=value(0.01, 0.04, 0.1),
    waiting_per_hour=value(0, 5, 60),
)


def chosen(table: Sequence[Measurement], prices: Prices, access: Access, *, tie: float = 0.0) -> Measurement:
    costs = [expected_cost(one, prices, access, 10.0) for one in table]
    return table[choose(costs, range(len(table)), tie=tie).index]


def not_more(first: float, second: float) -> bool:
    """Say that `first` is not more than `second` by more than what rounding does to sums."""
    return first <= second * (1 + 1e-6) + 1e-9


@given(tables, amounts, amounts, factors)
def test_more_recalls_never_choose_what_is_slower_to_decode(
    table: list[Measurement], recalls: float, ranges: float, factor: float
) -> None:
    few = chosen(table, PRICES, Access(recalls, ranges))
    many = chosen(table, PRICES, Access(recalls * factor + 1, ranges))

    assert not_more(many.decode_seconds, few.decode_seconds)


@given(tables, amounts, amounts, factors)
def test_more_ranges_never_choose_what_is_slower_to_read_a_tile_of(
    table: list[Measurement], recalls: float, ranges: float, factor: float
) -> None:
    few = chosen(table, PRICES, Access(recalls, ranges))
    many = chosen(table, PRICES, Access(recalls, ranges * factor + 1))

    assert not_more(many.range_seconds, few.range_seconds)


@given(tables, amounts, amounts, factors)
def test_cheaper_storage_never_chooses_what_is_smaller(
    table: list[Measurement], recalls: float, ranges: float, factor: float
) -> None:
    cheaper = replace(PRICES, storage_per_tb_month=value(PRICES.storage_per_tb_month.central / factor))
    access = Access(recalls, ranges)

    dear, cheap = chosen(table, PRICES, access), chosen(table, cheaper, access)

    assert not_more(dear.bytes_stored, cheap.bytes_stored)


@given(tables, amounts, amounts)
def test_a_tie_costs_next_to_nothing_and_a_second_look_changes_nothing(
    table: list[Measurement], recalls: float, ranges: float
) -> None:
    costs = [expected_cost(one, PRICES, Access(recalls, ranges), 10.0) for one in table]
    euros = [cost.total.eur.central for cost in costs]

    choice = choose(costs, range(len(table)))

    assert euros[choice.index] <= min(euros) * (1 + TIE) * (1 + 1e-12)
    assert choice == choose(costs, range(len(table)))


@given(measurements, amounts, amounts, st.floats(0.1, 40))
def test_low_central_and_high_are_in_order(one: Measurement, recalls: float, ranges: float, years: float) -> None:
    total = expected_cost(one, PRICES, Access(recalls, ranges), years).total

    for part in (total.eur, total.kwh, total.gco2e):
        assert 0 <= part.low <= part.central <= part.high
