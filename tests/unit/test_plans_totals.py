"""Totals and limits of a plan: nothing is lost between rows and totals, and what does not fit waits or stops it."""

from __future__ import annotations

from dataclasses import replace
from datetime import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning_kit import DELETE, GENEROUS, MOVE, TERMS, TIERS, a_copy, a_plan, step
from wsistore.tiers.plans.coefficients import Coefficients
from wsistore.tiers.plans.totals import SUMMED, added
from wsistore.tiers.rules.values import Limits, Window

Row = tuple[dict[str, Any], dict[str, Any]]
"""What is told of a slide, and of its decision."""

GB = 1_000_000_000
COPY = {"steps": [step("copy", "warm")]}
DROP = {"steps": [step("drop-copy", "warm")]}
TOLD: tuple[dict[str, Any], ...] = (
    {},
    MOVE,
    DELETE,
    COPY,
    DROP,
    {"blocked": ["held", "stale-feed"], "retention": "ended"},
    {"steps": [step("detach-identity")]},
)


def waiting(limits: Limits, *rows: Row, **other: Any) -> list[str | None]:
    """Return for which limit each row waits."""
    _, table = a_plan([slide for slide, _ in rows], [told for _, told in rows], limits=limits, **other)
    found: list[str | None] = table["postponed"].to_pylist()
    return found


def limited(**told: Any) -> Limits:
    return replace(GENEROUS, **told)


# --- conservation -----------------------------------------------------------------------------------------------------

_slides = st.lists(
    st.tuples(
        st.sampled_from([None, "C1", "C2"]),
        st.sampled_from([None, "UF-1", "UF-2"]),
        st.integers(0, 3 * GB),
        st.sampled_from(TOLD),
    ),
    max_size=12,
)


@given(slides=_slides, budget=st.one_of(st.none(), st.integers(0, 5 * GB)))
@settings(max_examples=40, deadline=None)
def test_totals_are_the_sums_of_the_rows(slides: list[Any], budget: int | None) -> None:
    facts = [
        {"case_id": case, "department": unit, "copies": [a_copy("hot", size), a_copy("warm", size)]}
        for case, unit, size, _ in slides
    ]
    header, rows = a_plan(facts, [told for *_, told in slides], limits=limited(move_bytes_per_day=budget))
    totals = header.totals

    done = [row for row in rows.to_pylist() if row["postponed"] is None]
    late = [row for row in rows.to_pylist() if row["postponed"] is not None]
    for name in SUMMED:
        expected = sum(row[name] for row in done)
        if name.endswith(("_now", "_after")):
            expected += sum(row[name.replace("_after", "_now")] for row in late)
        assert totals.all.sums[name] == pytest.approx(expected), name
    for parts in (totals.by_action, totals.by_rule, totals.by_department):
        assert added(parts.values()).is_close(totals.all) or not slides
    for name in ("bytes", "eur_year", "kwh_year", "gco2e_year"):
        for when in ("now", "after"):
            by_tier = sum(getattr(one, f"{name}_{when}") for one in totals.by_tier.values())
            assert by_tier == pytest.approx(totals.all.sums[f"{name}_{when}"])
    assert sum(one.slides for one in totals.postponed.values()) == totals.all.waiting == len(late)
    assert sum(totals.retention.values()) == totals.all.slides == len(slides)


def test_totals_name_actions_rules_departments_and_what_is_not_done() -> None:
    header, _ = a_plan(
        [{"department": "UF-1"}, {"department": "UF-1"}, {}, {}],
        [MOVE, DELETE, {"blocked": ["held"], "retention": "unknown"}, {}],
    )
    totals = header.totals

    assert {name: one.slides for name, one in totals.by_action.items()} == {"delete": 1, "move": 1, "none": 2}
    assert {name: one.slides for name, one in totals.by_rule.items()} == {"archive": 3, "csp": 1}
    assert {name: one.slides for name, one in totals.by_department.items()} == {"": 2, "UF-1": 2}
    assert dict(totals.blocked) == {"held": 1}
    assert dict(totals.retention) == {"ended": 1, "kept": 2, "unknown": 1}
    assert (totals.by_tier["hot"].slides_now, totals.by_tier["hot"].slides_after) == (4, 2)
    assert (totals.by_tier["cold"].slides_now, totals.by_tier["cold"].slides_after) == (0, 1)


def test_reasons_say_what_who_and_why() -> None:
    _, rows = a_plan(
        [{}] * 6,
        [
            MOVE,
            DELETE,
            {"blocked": ["held", "stale-feed"]},
            {"place_rule": None, "retention": "never-ends", "keep_rule": "teaching"},
            {"retention": "suspended"},
            {"steps": [step("copy", "warm", None, "keep"), step("drop-copy", "hot")], "action": "copy"},
        ],
        limits=limited(move_bytes_per_day=GB),
    )
    later = "It waits: as many bytes as the rules allow in a day go before it."
    not_done = "Not all is done: it is on hold; the patients' dates are older than the rules allow for deleting."
    assert rows["reason"].to_pylist() == [
        f"archive wants it in cold as pack: move from hot to cold as pack. {later}",
        "The time that csp keeps it is over: delete it.",
        f"archive wants it in cold, where it is. {not_done}",
        "No placement rule applies: it stays as it is; teaching keeps it for ever.",
        "archive wants it in cold, where it is; a recourse is open.",
        "archive wants it in cold: copy to warm as keep, then drop the copy in hot.",
    ]


# --- limits -----------------------------------------------------------------------------------------------------------


def test_bytes_per_day_fill_up_to_the_last_byte() -> None:
    three: list[Row] = [({}, MOVE)] * 3
    assert waiting(limited(move_bytes_per_day=2 * GB), *three) == [None, None, "move_bytes_per_day"]
    assert waiting(limited(move_bytes_per_day=2 * GB - 1), *three)[1:] == ["move_bytes_per_day"] * 2
    assert waiting(limited(), *three) == [None] * 3


def test_slides_of_a_case_wait_together() -> None:
    rows: list[Row] = [({"case_id": "C1"}, MOVE), ({"case_id": "C2"}, MOVE), ({"case_id": "C1"}, MOVE)]
    assert waiting(limited(move_bytes_per_day=2 * GB), *rows) == [None, "move_bytes_per_day", None]
    rows[0] = ({"case_id": "C1", "copies": [a_copy("hot", 5 * GB)]}, MOVE)
    assert waiting(limited(move_bytes_per_day=3 * GB), *rows) == ["move_bytes_per_day", None, "move_bytes_per_day"]


def test_what_moves_nothing_does_not_wait_for_bytes() -> None:
    rows: list[Row] = [({}, MOVE), ({}, DELETE), ({"copies": [a_copy(), a_copy("warm")]}, DROP), ({}, {})]
    assert waiting(limited(move_bytes_per_day=0), *rows) == ["move_bytes_per_day", None, None, None]


def test_a_case_that_is_larger_than_the_limit_keeps_no_other_waiting() -> None:
    rows: list[Row] = [({"copies": [a_copy("hot", 9 * GB)]}, MOVE), ({}, MOVE)]
    assert waiting(limited(move_bytes_per_day=2 * GB), *rows) == ["move_bytes_per_day", None]


def test_the_window_is_as_long_as_measured_speeds_say() -> None:
    # 200.8 s each (test_plans_costs.py)
    ten_minutes = Window(time(23, 55), time(0, 5))
    assert waiting(limited(window=ten_minutes), *([({}, MOVE)] * 3)) == [None, None, "window"]
    assert waiting(limited(window=Window(time(20), time(20))), *([({}, MOVE)] * 3)) == [None] * 3  # the whole day


def test_a_plan_costs_no_more_than_its_ceiling() -> None:
    header, _ = a_plan([{}], [MOVE])
    each = header.totals.all.eur_spent
    found = waiting(limited(cost_at_most_eur=2.5 * each), *([({}, MOVE)] * 3))
    assert found == [None, None, "cost_at_most"]


def test_no_tier_is_filled_above_its_watermark() -> None:
    cold = replace(TIERS[0], capacity_bytes=10 * GB, used_bytes=7 * GB, high_watermark=0.85)
    terms = Coefficients([cold, *TIERS[1:]], speeds=TERMS.speeds)
    rows: list[Row] = [({}, MOVE), ({}, MOVE), ({}, MOVE), ({}, COPY)]
    # 1.5 GB are free below the watermark; a pack takes 0.74
    assert waiting(limited(), *rows, terms=terms) == [None, None, "capacity:cold", None]
    lower = limited(high_watermarks={"cold": 0.775})
    assert waiting(lower, *rows, terms=terms) == [None, "capacity:cold", "capacity:cold", None]


def test_a_tier_above_its_watermark_is_relieved_first() -> None:
    full = replace(TIERS[2], capacity_bytes=2 * GB, used_bytes=3 * GB)
    terms = Coefficients([TIERS[0], TIERS[1], full], speeds=TERMS.speeds)
    rows: list[Row] = [({}, MOVE), ({"copies": [a_copy("warm")]}, {"steps": [step("move", "cold", "warm", "pack")]})]
    assert waiting(limited(move_bytes_per_day=GB), *rows) == [None, "move_bytes_per_day"]  # hot costs more
    assert waiting(limited(move_bytes_per_day=GB), *rows, terms=terms) == ["move_bytes_per_day", None]


def test_further_copies_come_before_moves_that_save_money() -> None:
    rows: list[Row] = [({}, MOVE), ({}, COPY)]
    assert waiting(limited(move_bytes_per_day=GB), *rows) == ["move_bytes_per_day", None]


@given(order=st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_what_fits_does_not_depend_on_keys(order: list[int]) -> None:
    sizes = [1, 2, 3, 4, 5, 6]
    slides: list[Row] = [({"copies": [a_copy("hot", sizes[n] * GB)]}, MOVE) for n in order]
    found = waiting(limited(move_bytes_per_day=10 * GB), *slides)
    moved = sum(sizes[n] for n, limit in zip(order, found, strict=True) if limit is None)
    assert moved <= 10


@pytest.mark.parametrize(
    ("told", "slides", "wanted", "over"),
    [
        (DELETE, 2000, 2, []),
        (DELETE, 2000, 3, ["delete_at_most"]),
        ({"steps": [step("detach-identity")]}, 2000, 3, ["delete_at_most"]),
        (MOVE, 100, 5, []),
        (MOVE, 100, 6, ["move_at_most"]),
        (COPY, 100, 6, ["move_at_most"]),
        (DELETE, 10, 1, ["delete_at_most"]),
    ],
)
def test_a_rule_that_would_touch_too_many_slides_is_stopped(
    told: dict[str, Any], slides: int, wanted: int, over: list[str]
) -> None:
    header, _ = a_plan([{}] * slides, [told] * wanted + [{}] * (slides - wanted), limits=Limits())
    assert [one.limit for one in header.over_limit] == over
    for one in header.over_limit:
        assert (one.slides, one.catalogue) == (wanted, slides)
        assert f"{wanted} of {slides} slides" in str(one)


def test_what_waits_counts_too() -> None:
    limits = Limits(move_bytes_per_day=0)
    header, _ = a_plan([{}] * 10, [MOVE] * 10, limits=limits)
    assert [one.limit for one in header.over_limit] == ["move_at_most"]
