"""Costs of a plan's rows, by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from tests.planning_kit import (
    AT,
    COLD,
    DELETE,
    GENEROUS,
    HOT,
    MOVE,
    TERMS,
    TIERS,
    WARM,
    a_copy,
    a_plan,
    around,
    decisions_of,
    facts_of,
    step,
)
from wsistore.compress.tuning.measure import Measurement
from wsistore.storage.archive import Retrieval
from wsistore.tiers.expected_cost import Access, expected_cost
from wsistore.tiers.plans.coefficients import Coefficients, retrieval, storage_per_year
from wsistore.tiers.plans.flat import copies_of
from wsistore.tiers.plans.making import make
from wsistore.tiers.plans.sizes import ASSUMED, Rest, Sizes, measured_sizes
from wsistore.tiers.plans.speeds import Speeds
from wsistore.tiers.prices import NOTHING, Prices, known_prices, load_prices
from wsistore.tiers.retrievals import retrievals

GB = 1_000_000_000


def one_row(slide: dict[str, Any], told: dict[str, Any], **other: Any) -> dict[str, Any]:
    """Return the row of a plan for one slide."""
    _, rows = a_plan([slide], [told], **other)
    (row,) = rows.to_pylist()
    return dict(row)


def test_a_move_to_the_archive_by_hand() -> None:
    row = one_row({}, MOVE)

    # 1 GB as keep; pack is assumed to take 0.74 of the source, in 3 objects
    assert (row["bytes_now"], row["bytes_after"], row["bytes_moved"]) == (GB, 740_000_000, GB)
    # 0.001 TB x 20 EUR x 12 months; (0.74 GB + 3 x 1 MB) x 2 EUR x 12 months
    assert row["eur_year_now"] == pytest.approx(0.001 * 20 * 12)
    assert row["eur_year_after"] == pytest.approx(0.000743 * 2 * 12)
    # 3 objects x (PUT 1 + transition 2 + GET 0.5) / 1000; 0.74 GB are read back for 0.01 each; 200 CPU seconds
    assert row["eur_once"] == pytest.approx(3 * 3.5 / 1000 + 0.74 * 0.01 + 200 / 3600 * 0.36)
    assert (row["eur_retrieval"], row["eur_early"]) == (0.0, 0.0)
    assert row["payback_years"] == pytest.approx(row["eur_once"] / (row["eur_year_now"] - row["eur_year_after"]))
    # 0.001 TB x 10 kWh x PUE 1.5; on two bytes of tape for each that is stored
    assert row["kwh_year_now"] == pytest.approx(0.001 * 10 * 1.5)
    assert row["kwh_year_after"] == pytest.approx(0.00074 * 2 * 10 * 1.5)
    # 100 g per kWh and 2 kg per TB for the medium
    assert row["gco2e_year_now"] == pytest.approx(0.015 * 100 + 0.001 * 2000)
    # out 1 GB, in and back 0.74 GB; 200 s of 2 W at PUE 1.5
    assert row["kwh_once"] == pytest.approx(0.001 * (1 + 2 * 0.74) + 2 * 1.5 * 200 / 3600 / 1000)
    assert row["gco2e_once"] == pytest.approx(row["kwh_once"] * 100)
    # 1 GB at 5 MB/s, then 40 objects are taken away, 50 a second
    assert row["seconds"] == pytest.approx(200 + 40 / 50)


def test_a_copy_as_it_is_keeps_its_size_and_needs_no_encoding() -> None:
    row = one_row({"copies": [a_copy("hot", 700_000_000, "fold")]}, {"steps": [step("copy", "warm", None, "fold")]})

    assert (row["bytes_now"], row["bytes_after"], row["bytes_moved"]) == (700_000_000, 1_400_000_000, 700_000_000)
    assert row["eur_once"] == 0.0  # neither tier charges for requests, and nothing is encoded
    assert row["eur_year_after"] == pytest.approx(0.0007 * (20 + 10) * 12)
    assert row["payback_years"] is None
    assert row["seconds"] == pytest.approx(7.0)


def test_reading_from_the_archive_costs_the_cheapest_way_or_the_one_that_is_named() -> None:
    slide = {"copies": [a_copy("cold", 740_000_000, "pack")]}
    told = {"steps": [step("move", "warm", "cold", "keep")]}
    kept = 12 * 0.00074 * 7 / 365.25 * 12
    named = Coefficients([replace(TIERS[0], retrieval="standard"), *TIERS[1:]], speeds=TERMS.speeds)

    cheapest, standard = one_row(slide, told), one_row(slide, told, terms=named)

    assert cheapest["eur_retrieval"] == pytest.approx(0.74 * (0.01 + 0.005) + kept)
    assert standard["eur_retrieval"] == pytest.approx(0.74 * (0.01 + 0.02) + kept)


def test_bytes_that_stay_in_their_service_cost_no_egress() -> None:
    near = Coefficients([TIERS[0], replace(TIERS[2], service=TIERS[0].service)], speeds=TERMS.speeds)
    row = one_row({"copies": [a_copy("cold", GB, "keep")]}, {"steps": [step("copy", "warm", "cold")]}, terms=near)

    assert row["eur_retrieval"] == pytest.approx(0.005 + 12 * 0.001 * 7 / 365.25 * 12)


@pytest.mark.parametrize(
    "told", [DELETE, {"steps": [step("drop-copy", "cold")]}, {"steps": [step("move", "warm", "cold")]}]
)
def test_leaving_a_class_early_costs_what_it_still_bills(told: dict[str, Any]) -> None:
    until = (AT + timedelta(days=73.05)).replace(tzinfo=None)
    row = one_row({"copies": [a_copy("cold", GB, charged_until=until), a_copy("hot")]}, told)

    assert row["eur_early"] == pytest.approx(2 * 0.001 * 73.05 / (365.25 / 12))


def test_a_copy_that_was_paid_for_long_enough_costs_nothing_to_drop() -> None:
    until = (AT - timedelta(days=1)).replace(tzinfo=None)
    row = one_row(
        {"copies": [a_copy("cold", GB, charged_until=until), a_copy("hot")]}, {"steps": [step("drop-copy", "cold")]}
    )

    assert row["eur_early"] == 0.0


def test_encoding_anew_takes_the_place_of_the_copy() -> None:
    row = one_row({"copies": [a_copy("warm")]}, {"steps": [step("reencode", "warm", None, "fold")]})

    assert (row["bytes_now"], row["bytes_after"], row["bytes_moved"]) == (GB, 770_000_000, 0)
    assert row["eur_once"] == pytest.approx(100 / 3600 * 0.36)
    assert row["seconds"] == pytest.approx(100 + 40 / 50)


def test_encoding_anew_in_the_same_preset_is_work_too() -> None:
    """Another fold height, as the tuner now wants it."""
    copies = [a_copy("warm", 800_000_000, "fold")]
    row = one_row({"copies": copies}, {"steps": [step("reencode", "warm", None, "fold")]})

    assert row["bytes_after"] == 800_000_000
    assert row["eur_once"] == pytest.approx(0.8 * 100 / 3600 * 0.36)


def test_decisions_of_other_slides_or_in_another_order_make_no_plan() -> None:
    facts = facts_of([{}, {}])
    decisions = decisions_of(facts, [{}, MOVE])
    wrong = [
        (facts, decisions.take([1, 0])),
        (facts, decisions.slice(1)),
        (facts.take([1, 0]), decisions.take([1, 0])),
        (facts.take([0, 0]), decisions.take([0, 0])),
        (facts, decisions.drop_columns(["blocked"])),
    ]
    for one, other in wrong:
        with pytest.raises(ValueError, match="same slides"):
            make(one, other, TERMS, GENEROUS, around())


def test_deleting_ends_all_copies_and_detaching_none() -> None:
    copies = [a_copy("hot"), a_copy("cold", 5, "pack")]
    assert one_row({"copies": copies}, DELETE)["bytes_after"] == 0
    kept = one_row({"copies": copies}, {"steps": [step("detach-identity")]})
    assert kept["bytes_after"] == kept["bytes_now"] == GB + 5
    assert kept["eur_year_after"] == kept["eur_year_now"]


def test_several_steps_of_one_slide_add_up() -> None:
    steps = [step("copy", "warm", None, "keep"), step("move", "cold", "hot", "pack")]
    row = one_row({}, {"steps": steps})

    assert row["bytes_after"] == GB + 740_000_000
    assert row["bytes_moved"] == 2 * GB


def test_the_best_copy_is_read() -> None:
    copies = [a_copy("cold", 740_000_000, "pack"), a_copy("hot", state="suspect"), a_copy("warm", GB + 1)]
    row = one_row({"copies": copies}, {"steps": [step("copy", "hot", None, "keep")]})

    assert row["bytes_moved"] == GB + 1  # not the damaged copy, nor the one that has to be asked for
    assert row["eur_retrieval"] == 0.0


def test_a_slide_without_any_copy_can_be_planned() -> None:
    row = one_row({"copies": None}, {"blocked": ["no-good-copy"]})

    assert (row["bytes_now"], row["bytes_after"], row["eur_year_now"], row["payback_years"]) == (0, 0, 0.0, None)


@pytest.mark.parametrize("name", known_prices())
def test_storage_is_reckoned_as_the_tuner_reckons_it(name: str) -> None:
    prices = replace(load_prices(name), least_days=NOTHING, storage_decline_per_year=NOTHING)
    tier = replace(TIERS[0], prices=prices)
    for size, objects in ((1e9, 40), (1e4, 3), (3e12, 1)):
        measured = Measurement(size, 0.0, 0.0, 0.0, 0.0, 0.0, objects)
        expected = expected_cost(measured, prices, Access(0.0, 0.0), 1.0).storage

        eur, kwh, carbon = storage_per_year(
            Coefficients([tier]), np.array([0]), np.array([size]), np.array([float(objects)])
        )

        assert eur[0] == pytest.approx(expected.eur.central)
        assert kwh[0] == pytest.approx(expected.kwh.central)
        assert carbon[0] == pytest.approx(expected.gco2e.central)


@pytest.mark.parametrize("name", [name for name in known_prices() if load_prices(name).retrievals])
@pytest.mark.parametrize("way", ["", *Retrieval])
def test_ways_back_are_reckoned_as_recalls_reckon_them(name: str, way: str) -> None:
    prices = load_prices(name)
    archive = replace(TIERS[0], prices=prices, is_archive=True, retrieval=str(way))
    options = retrievals(prices, 2 * GB, 39, days=7.0)
    named = [option for option in options if str(option.retrieval) == way]
    expected = (named or options)[0]

    found = retrieval(
        Coefficients([archive, TIERS[1]]), np.array([0]), np.array([1]), np.array([2.0 * GB]), np.array([40.0])
    )

    assert found[0] == pytest.approx(expected.eur.central)


# --- sizes ------------------------------------------------------------------------------------------------------------


def sizes_of(*copies: dict[str, Any], tuned: dict[str, float] | None = None, **told: Any) -> Sizes:
    facts = facts_of([{"copies": [copy], **told} for copy in copies])
    return measured_sizes(facts, copies_of(facts, TERMS.names, AT), tuned)


def test_copies_that_are_there_say_how_large_others_will_be() -> None:
    sizes = sizes_of(*(a_copy("warm", size, "fold") for size in (600_000_000, 700_000_000, 800_000_000)))

    found = sizes.ratio("tiles", "aperio-svs", "fold")
    assert (found.bytes_per_byte, found.objects, found.rests_on, found.copies) == (0.7, 40.0, Rest.FORMAT, 3)
    assert sizes.ratio("tiles", "ndpi", "fold").rests_on is Rest.PRESET
    assert sizes.ratio("tiles", "aperio-svs", "pack") == ASSUMED["pack"]


def test_few_copies_and_damaged_ones_say_nothing() -> None:
    good = [a_copy("warm", 600_000_000, "fold")] * 2
    sizes = sizes_of(*good, a_copy("warm", 9, "fold", state="suspect"), tuned={"fold": 0.72})

    assert sizes.ratio("tiles", "aperio-svs", "fold").rests_on is Rest.TUNER
    assert sizes.ratio("tiles", "aperio-svs", "fold").bytes_per_byte == 0.72


def test_slides_that_are_kept_whole_get_no_smaller() -> None:
    assert Sizes(tuned={"fold": 0.7}).ratio("whole", "mrxs", "fold").bytes_per_byte == 1.0


def test_what_estimates_rest_on_is_told() -> None:
    known = {"copies": [a_copy(), a_copy("warm", 5, "pack")]}
    header, _ = a_plan([{}, known], [MOVE, MOVE])

    assert header.estimated == {"assumed": 1}


# --- speeds -----------------------------------------------------------------------------------------------------------


def test_what_is_not_measured_is_assumed_and_slower_on_fewer_cores() -> None:
    one, four = Speeds(jobs=1), Speeds(jobs=4)

    assert one.copy_rate("anywhere") == 25e6
    assert one.encode_rate("fold") == pytest.approx(1e9 / (580 + 40))
    assert four.encode_rate("fold") == pytest.approx(1e9 / (145 + 40))
    assert Speeds(encoding={"fold": 7e6}).encode_rate("fold") == 7e6


def test_prices_of_the_kit_are_what_the_figures_say() -> None:
    assert [one.storage_per_tb_month.central for one in (HOT, WARM, COLD)] == [20, 10, 2]
    assert isinstance(HOT, Prices)
