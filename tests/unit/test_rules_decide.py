"""What rules mean for slides: who is kept until when, who belongs where, what is done and what is not and why."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from tests.rules_kit import ENDED, KEEP_20, NAIVE, NOW, TIERS, ago, copy_in, decided, facts_of, rules_of, steps
from wsistore.errors import InputError
from wsistore.model import Preset
from wsistore.tiers.rules import TierFacts, decide
from wsistore.tiers.rules.decisions import DECISIONS

MIDNIGHT = datetime.combine(date(2020, 3, 1), datetime.min.time())
NEVER = [{"begins": date(2015, 1, 1), "ends": None}]


# --- retention --------------------------------------------------------------------------------------------------------


def test_nothing_is_said_without_rules() -> None:
    (found,) = decided(rules_of(""), ENDED)
    assert (found["retention"], found["action"], found["keep_rule"], found["place_rule"]) == (
        "unknown",
        "none",
        None,
        None,
    )


def test_no_rule_that_applies_lets_nothing_go() -> None:
    rules = rules_of("retention:\n  - {name: a, where: stain = 'HE', keep_until: birth_date}")
    (found,) = decided(rules, {"stain": "PAS", "birth_date": date(1900, 1, 1)})
    assert (found["retention"], found["action"], found["keep_rule"]) == ("unknown", "none", None)


def test_the_longest_wins_and_the_first_of_equals() -> None:
    rules = rules_of(
        """
        retention:
          - {name: short, keep_until: last_encounter + interval 5 year}
          - {name: long, keep_until: last_encounter + interval 40 year}
          - {name: as-long, keep_until: last_encounter + interval 480 month}
        """
    )
    (found,) = decided(rules, ENDED)
    assert (found["keep_rule"], found["keep_until"], found["retention"]) == ("long", date(2040, 1, 1), "kept")


def test_a_condition_that_is_unknown_keeps_for_ever_unless_a_certain_rule_replaces_it() -> None:
    text = """
        retention:
          - {name: unsure, where: stain = 'HE', keep_until: last_encounter}
          - {name: sure, keep_until: last_encounter + interval 1 year REPLACES}
        """
    (found,) = decided(rules_of(text.replace("REPLACES", "")), ENDED)
    assert (found["retention"], found["keep_rule"]) == ("unknown", "unsure")
    (found,) = decided(rules_of(text.replace("REPLACES", ", replaces: unsure")), ENDED)
    assert (found["retention"], found["keep_rule"], found["action"]) == ("ended", "sure", "delete")
    (found,) = decided(rules_of(text.replace("REPLACES", ", replaces: unsure")), {})
    assert (found["retention"], found["action"]) == ("unknown", "none")


def test_a_rule_that_is_replaced_replaces_nothing() -> None:
    rules = rules_of(
        """
        retention:
          - {name: base, keep_until: last_encounter + interval 50 year}
          - {name: shorter, keep_until: last_encounter + interval 5 year, replaces: base}
          - {name: over, where: stain = 'HE', keep_until: last_encounter + interval 7 year, replaces: shorter}
        """
    )
    plain, replaced = decided(rules, ENDED | {"stain": "PAS"}, ENDED | {"stain": "HE"})
    assert (plain["keep_rule"], plain["keep_until"]) == ("shorter", date(2005, 1, 1))
    assert (replaced["keep_rule"], replaced["keep_until"]) == ("base", date(2050, 1, 1))


def test_what_never_ends_outlasts_what_is_unknown() -> None:
    rules = rules_of(KEEP_20 + "  - {name: for-ever, where: stain = 'HE', keep_until: never-ends}\n")
    known, unknown = decided(rules, {"stain": "HE"}, {"stain": None, **ENDED})
    assert (known["retention"], known["keep_rule"]) == ("never-ends", "for-ever")
    assert (unknown["retention"], unknown["keep_rule"]) == ("unknown", "for-ever")


def test_a_moment_within_a_day_ends_on_the_next() -> None:
    rules = rules_of("retention:\n  - {name: a, keep_until: ingested_at + interval 1 year}")
    midnight, noon = decided(rules, {"ingested_at": MIDNIGHT}, {"ingested_at": MIDNIGHT + timedelta(hours=12)})
    assert (midnight["keep_until"], noon["keep_until"]) == (date(2021, 3, 1), date(2021, 3, 2))


def test_a_moment_ends_on_no_day_of_the_time_zone_that_begins_before_it() -> None:
    text = "time_zone: {}\nretention:\n  - {{name: a, keep_until: ingested_at + interval 1 year}}"
    late, early = ({"ingested_at": MIDNIGHT + timedelta(hours=hours)} for hours in (23.5, 2))
    for zone, expected in (
        ("UTC", (date(2021, 3, 2), date(2021, 3, 2))),
        ("Europe/Paris", (date(2021, 3, 3), date(2021, 3, 2))),
        ("America/Cayenne", (date(2021, 3, 2), date(2021, 3, 2))),
    ):
        found = decided(rules_of(text.format(zone)), late, early, {"ingested_at": MIDNIGHT})
        assert tuple(one["keep_until"] for one in found) == (*expected, date(2021, 3, 1))


@pytest.mark.parametrize(
    ("since", "months", "until"),
    [
        (date(2004, 2, 29), 120, date(2014, 3, 1)),
        (date(2004, 2, 29), 240, date(2024, 2, 29)),
        (date(2000, 1, 31), 1, date(2000, 3, 1)),
        (date(2001, 1, 31), 1, date(2001, 3, 1)),
        (date(2001, 1, 30), 1, date(2001, 3, 1)),
        (date(2001, 1, 28), 1, date(2001, 2, 28)),
        (date(2000, 8, 31), 1, date(2000, 10, 1)),
    ],
)
def test_months_never_end_early(since: date, months: int, until: date) -> None:
    for text in (f"birth_date + interval {months} month", f"interval '{months}' months + birth_date"):
        (found,) = decided(rules_of(f"retention:\n  - {{name: a, keep_until: {text}}}"), {"birth_date": since})
        assert found["keep_until"] == until


def test_a_day_beyond_the_calendar_or_a_value_that_cannot_be_computed_is_unknown() -> None:
    rules = rules_of("retention:\n  - {name: a, keep_until: birth_date + interval 9000 year}")
    (found,) = decided(rules, {"birth_date": date(1990, 1, 1)})
    assert (found["retention"], found["keep_until"]) == ("unknown", None)
    rules = rules_of("retention:\n  - {name: a, keep_until: \"cast(metadata['until'] as date)\"}")
    rows = [{"metadata": [("until", value)]} for value in ("2020-01-01", "soon", "infinity", "-infinity")]
    assert [found["retention"] for found in decided(rules, *rows, {})] == ["ended", *["unknown"] * 4]


def test_days_are_those_of_the_rules_time_zone() -> None:
    rules = KEEP_20 + "time_zone: {}\n"
    late = datetime(2019, 12, 31, 23, 30, tzinfo=UTC)
    for zone, expected in (("UTC", "kept"), ("Europe/Paris", "ended"), ("America/Cayenne", "kept")):
        (found,) = decided(rules_of(rules.format(zone)), ENDED | {"feed_as_of": late.replace(tzinfo=None)}, now=late)
        assert found["retention"] == expected


def test_an_open_recourse_stops_only_rules_that_it_suspends() -> None:
    rules = rules_of("retention:\n  - {name: a, keep_until: last_encounter}")
    assert decided(rules, ENDED | {"recourse": NEVER})[0]["action"] == "delete"
    (found,) = decided(rules_of(KEEP_20), ENDED | {"recourse": NEVER})
    assert (found["retention"], found["keep_until"], found["action"]) == ("suspended", None, "none")


# --- what stops deletion ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "blocked"),
    [
        ({"holds": 1}, ["held"]),
        ({"feed_as_of": None}, ["stale-feed"]),
        ({"feed_as_of": ago(7.001)}, ["stale-feed"]),
        ({"feed_as_of": NAIVE + timedelta(days=2)}, ["stale-feed"]),
        ({"feed_as_of": None, "holds": 2}, ["held", "stale-feed"]),
    ],
)
def test_deletion_is_blocked_and_said(more: dict[str, Any], blocked: list[str]) -> None:
    fresh, stopped = decided(rules_of(KEEP_20), ENDED | {"feed_as_of": ago(7)}, ENDED | more)
    assert (fresh["action"], fresh["blocked"]) == ("delete", None)
    assert (stopped["retention"], stopped["action"], stopped["blocked"]) == ("ended", "none", blocked)


def test_what_may_not_be_deleted_is_still_put_in_its_place() -> None:
    rules = rules_of(KEEP_20 + "placement:\n  - {name: all, tier: cold}\n", TIERS)
    (found,) = decided(rules, ENDED | {"feed_as_of": None, "copies": [copy_in("hot")]})
    assert (steps(found), found["blocked"]) == (["move hot>cold keep"], ["stale-feed"])


def test_what_is_deleted_is_not_moved_first() -> None:
    rules = rules_of(KEEP_20 + "placement:\n  - {name: all, tier: cold}\n", TIERS)
    assert steps(decided(rules, ENDED | {"copies": [copy_in("hot")]})[0]) == ["delete"]


# --- detaching --------------------------------------------------------------------------------------------------------

INTEREST = (
    KEEP_20 + "  - {name: keep, where: \"stain = 'HE'\", keep_until: never-ends, at_legal_end: detach-identity}\n"
)


@pytest.mark.parametrize(
    ("more", "action", "blocked"),
    [
        (ENDED, "detach-identity", None),
        ({"last_encounter": date(2010, 1, 1)}, "none", None),
        ({}, "none", ["not-detachable"]),
        (ENDED | {"recourse": NEVER}, "none", None),
        (ENDED | {"holds": 1}, "none", ["held"]),
        (ENDED | {"feed_as_of": None}, "none", ["stale-feed"]),
        (ENDED | {"identity_detached": True}, "none", None),
        ({"identity_detached": True}, "none", None),
    ],
)
def test_identity_is_detached_at_the_legal_end(more: dict[str, Any], action: str, blocked: list[str] | None) -> None:
    (found,) = decided(rules_of(INTEREST), {"stain": "HE", **more})
    assert (found["retention"], found["action"], found["blocked"]) == ("never-ends", action, blocked)


def test_identity_is_not_detached_where_it_is_unknown_whether_the_slide_is_of_interest() -> None:
    (found,) = decided(rules_of(INTEREST), ENDED)
    assert (found["retention"], found["action"]) == ("unknown", "none")


def test_without_another_rule_there_is_no_legal_end() -> None:
    rules = rules_of("retention:\n  - {name: keep, keep_until: never-ends, at_legal_end: detach-identity}")
    assert decided(rules, ENDED)[0]["blocked"] == ["not-detachable"]


def test_a_slide_is_put_in_its_place_and_detached_in_one_go() -> None:
    rules = rules_of(INTEREST + "placement:\n  - {name: all, tier: warm}\n", TIERS)
    (found,) = decided(rules, ENDED | {"stain": "HE", "copies": [copy_in("hot")]})
    assert (steps(found), found["action"]) == (["move hot>warm keep", "detach-identity"], "detach-identity")


@pytest.mark.parametrize(
    ("every", "since", "due"),
    [
        ("5 year", date(2021, 11, 22), date(2031, 11, 22)),
        ("5 year", date(2021, 11, 23), date(2026, 11, 23)),
        ("5 year", date(2024, 2, 29), date(2029, 3, 1)),
        ("18 month", date(2026, 1, 31), date(2027, 7, 31)),
        ("1 month", date(2026, 10, 31), date(2026, 12, 1)),
        ("2 week", date(2026, 11, 8), date(2026, 12, 6)),
        ("10 day", date(2027, 1, 1), date(2027, 1, 11)),
    ],
)
def test_reviews_are_due_at_whole_periods_after_ingest(every: str, since: date, due: date) -> None:
    rules = rules_of(f"retention:\n  - {{name: keep, keep_until: never-ends, review_every: {every}}}")
    known, unknown = decided(rules, {"ingested_at": datetime.combine(since, datetime.min.time())}, {})
    assert (known["review_at"], unknown["review_at"]) == (due, None)


# --- placement --------------------------------------------------------------------------------------------------------

PLACES = """
placement:
  - {name: active, where: signed_out_at is null, tier: hot}
  - {name: looked-at, where: last_access > now - interval 30 day, tier: warm, encode: fold}
  - {name: archive, tier: cold, encode: pack}
"""


def test_the_first_rule_that_is_true_wins_and_unknown_is_not_true() -> None:
    rules = rules_of(PLACES, TIERS)
    rows: list[dict[str, Any]] = [{}, {"signed_out_at": ago(9), "last_access": ago(1)}, {"signed_out_at": ago(9)}]
    found = [(one["place_rule"], one["tier"], one["preset"], one["copies_wanted"]) for one in decided(rules, *rows)]
    assert found == [("active", "hot", "keep", 1), ("looked-at", "warm", "fold", 1), ("archive", "cold", "pack", 1)]


def test_slides_of_a_case_stay_together_and_others_alone() -> None:
    rules = rules_of(PLACES, TIERS)
    old = {"signed_out_at": ago(900), "last_access": ago(800)}
    rows: list[dict[str, Any]] = [
        old | {"case_id": "A"},
        old,
        old | {"case_id": "B"},
        old | {"case_id": "A", "last_access": ago(1)},
        old,
    ]
    assert [one["place_rule"] for one in decided(rules, *rows)] == [
        "looked-at",
        "archive",
        "archive",
        "looked-at",
        "archive",
    ]


def test_no_rule_that_is_true_leaves_it_where_it_is() -> None:
    rules = rules_of("placement:\n  - {name: a, where: stain = 'HE', tier: cold}", TIERS)
    (found,) = decided(rules, {"copies": [copy_in("hot")]})
    assert (found["place_rule"], found["tier"], found["action"]) == (None, None, "none")


STILL = NAIVE + timedelta(days=10)
CHARGED = copy_in("warm", charged_until=STILL)


@pytest.mark.parametrize(
    ("rule", "copies", "more", "done", "blocked"),
    [
        # where it belongs already
        ("tier: hot", [copy_in("hot")], {}, [], None),
        ("tier: hot", [], {}, [], None),
        # moves, copies, drops
        ("tier: cold", [copy_in("hot")], {}, ["move hot>cold keep"], None),
        ("tier: cold, encode: pack", [copy_in("hot")], {}, ["move hot>cold pack"], None),
        ("tier: cold", [copy_in("hot"), copy_in("cold")], {}, ["drop-copy hot"], None),
        ("tier: cold, also: [warm]", [copy_in("hot")], {}, ["move hot>cold keep", "copy warm keep"], None),
        ("tier: cold", [copy_in("hot"), copy_in("warm")], {}, ["move hot>cold keep", "drop-copy warm"], None),
        ("tier: cold, also: [warm]", [copy_in("hot"), copy_in("cold")], {}, ["move hot>warm keep"], None),
        # enough copies
        ("tier: cold, copies: 2", [copy_in("hot"), copy_in("cold")], {}, [], None),
        ("tier: cold, copies: 2", [copy_in("hot")], {}, ["copy cold keep"], None),
        ("tier: cold, copies: 2", [copy_in("hot"), copy_in("warm"), copy_in("cold")], {}, ["drop-copy warm"], None),
        ("tier: cold, copies: 3", [copy_in("hot"), copy_in("cold")], {}, [], ["too-few-copies"]),
        ("tier: hot, copies: 2", [copy_in("hot")], {}, [], ["too-few-copies"]),
        # encoded anew
        ("tier: hot, encode: fold", [copy_in("hot")], {}, ["reencode hot fold"], None),
        ("tier: hot, encode: fold", [copy_in("hot", "fold")], {}, [], None),
        # suspect and temporary copies
        ("tier: cold", [copy_in("hot", state="suspect")], {}, [], ["no-good-copy"]),
        ("tier: cold", [copy_in("hot"), copy_in("cold", state="suspect")], {}, [], None),
        ("tier: hot", [copy_in("hot"), copy_in("cold", state="suspect")], {}, [], None),
        ("tier: cold", [copy_in("cold"), copy_in("hot", expires_at=STILL)], {}, [], None),
        ("tier: hot", [copy_in("cold"), copy_in("hot", expires_at=STILL)], {}, ["move cold>hot keep"], None),
        # what the class charges for
        ("tier: cold", [copy_in("warm", charged_until=STILL)], {}, [], ["still-charged"]),
        ("tier: cold", [copy_in("warm", charged_until=ago(0))], {}, ["move warm>cold keep"], None),
        ("tier: cold", [CHARGED, copy_in("hot")], {}, ["move hot>cold keep"], ["still-charged"]),
        ("tier: cold", [copy_in("warm", charged_until=STILL), copy_in("cold")], {}, [], ["still-charged"]),
        ("tier: warm, encode: fold", [copy_in("warm", charged_until=STILL)], {}, [], ["still-charged"]),
        # but a slide that is to be read is not left in an archive for that
        ("tier: hot", [copy_in("cold", charged_until=STILL)], {}, ["copy hot keep"], ["still-charged"]),
        ("tier: hot, copies: 2", [copy_in("warm", charged_until=STILL)], {}, ["copy hot keep"], None),
        # holds
        ("tier: cold", [copy_in("hot")], {"holds": 1}, [], ["held"]),
        ("tier: cold", [copy_in("hot"), copy_in("cold")], {"holds": 1}, [], ["held"]),
        ("tier: hot", [copy_in("cold")], {"holds": 1}, ["copy hot keep"], ["held"]),
        ("tier: cold, copies: 2", [copy_in("hot")], {"holds": 1}, ["copy cold keep"], None),
        ("tier: hot, also: [warm]", [copy_in("hot")], {"holds": 1}, ["copy warm keep"], None),
        ("tier: hot, encode: fold", [copy_in("hot")], {"holds": 1}, [], ["held"]),
        ("tier: hot", [copy_in("hot")], {"holds": 1}, [], None),
    ],
)  # fmt: skip
def test_steps(
    rule: str, copies: list[dict[str, Any]], more: dict[str, Any], done: list[str], blocked: list[str] | None
) -> None:
    rules = rules_of(f"placement:\n  - {{name: all, {rule}}}", TIERS)
    (found,) = decided(rules, {"copies": copies, **more})
    assert (steps(found), found["blocked"]) == (done, blocked)
    assert found["action"] == (max(done, key=_gravity).split()[0] if done else "none")


def _gravity(step: str) -> int:
    return ["copy", "reencode", "move", "drop-copy"].index(step.split()[0])


@pytest.mark.parametrize(
    "refused", [TierFacts(closed="full"), TierFacts(certified_until=date(2026, 11, 21), remote=True)]
)
def test_nothing_goes_to_a_tier_that_may_not_take_it_and_nothing_is_dropped_for_it(refused: TierFacts) -> None:
    rules = rules_of("placement:\n  - {name: all, tier: cold, also: [warm]}", TIERS | {"cold": refused})
    (found,) = decided(rules, {"copies": [copy_in("hot")]})
    assert (steps(found), found["blocked"]) == (["copy warm keep"], ["tier-not-allowed"])
    (found,) = decided(rules, {"copies": [copy_in("hot"), copy_in("warm")]})
    assert (steps(found), found["blocked"]) == ([], ["tier-not-allowed"])


def test_a_copy_in_a_tier_that_is_not_allowed_is_told_of() -> None:
    rules = rules_of(
        "hosting: {locations: [FR]}\nplacement:\n  - {name: all, tier: hot}", {"hot": TierFacts(location="US")}
    )
    (found,) = decided(rules, {"copies": [copy_in("hot")]})
    assert (steps(found), found["blocked"]) == ([], ["tier-not-allowed"])


def test_what_the_tiers_say_holds_where_the_rule_says_nothing() -> None:
    tiers = {"hot": TierFacts(), "cold": TierFacts(preset=Preset.PACK, required_copies=2)}
    (found,) = decided(rules_of("placement:\n  - {name: all, tier: cold}", tiers), {"copies": [copy_in("hot")]})
    assert (found["preset"], found["copies_wanted"], steps(found)) == ("pack", 2, ["copy cold pack"])


def test_a_copy_stays_while_its_own_tier_asks_for_more_others() -> None:
    tiers = {"hot": TierFacts(required_copies=2), "warm": TierFacts(), "cold": TierFacts()}
    rules = rules_of("placement:\n  - {name: all, tier: cold}", tiers)
    two, three = decided(
        rules, {"copies": [copy_in("hot"), copy_in("cold")]}, {"copies": [copy_in("warm"), copy_in("cold")]}
    )
    assert (steps(two), two["blocked"]) == ([], ["too-few-copies"])
    assert (steps(three), three["blocked"]) == (["drop-copy warm"], None)


def test_unbound_rules_know_nothing_of_tiers() -> None:
    (found,) = decided(rules_of("placement:\n  - {name: all, tier: cold}"), {"copies": [copy_in("hot")]})
    assert (found["preset"], steps(found)) == (None, ["move hot>cold"])


# --- the tables -------------------------------------------------------------------------------------------------------


def test_the_table_is_as_documented_and_in_order() -> None:
    rules = rules_of(KEEP_20 + PLACES, TIERS)
    table = facts_of(*({"last_encounter": date(1990 + n, 1, 1), "copies": [copy_in("hot")]} for n in range(40)))
    found = decide(table, rules, NOW)
    assert found.schema == DECISIONS
    assert found["slide"].to_pylist() == table["slide"].to_pylist()
    assert decide(table.slice(0, 0), rules, NOW).schema == DECISIONS
    assert decide(table.slice(7, 5), rules, NOW).to_pylist() == found.slice(7, 5).to_pylist()
    pieces = pa.concat_tables([table.slice(0, 3), table.slice(3, 0), table.slice(3)])
    assert decide(pieces, rules, NOW).to_pylist() == found.to_pylist()


def test_only_the_columns_that_the_rules_need_must_be_there() -> None:
    rules = rules_of(KEEP_20, TIERS)
    table = facts_of(ENDED)
    assert decide(table.select(rules.columns), rules, NOW).to_pylist() == decide(table, rules, NOW).to_pylist()
    with pytest.raises(InputError, match="no column 'last_encounter'"):
        decide(table.drop_columns(["last_encounter"]), rules, NOW)
    wrong = table.set_column(table.column_names.index("holds"), "holds", pa.array(["x"]))
    with pytest.raises(InputError, match="another type"):
        decide(wrong, rules, NOW)


def test_the_present_has_a_time_zone() -> None:
    with pytest.raises(InputError, match="no time zone"):
        decide(facts_of({}), rules_of(""), NAIVE)


def test_collections_that_are_not_said_are_none() -> None:
    rules = rules_of(
        "retention:\n  - {name: a, where: \"not list_has_any(collections, ['x'])\", keep_until: last_encounter}"
    )
    assert decided(rules, ENDED | {"collections": None})[0]["action"] == "delete"
    rules = rules_of(
        "retention:\n  - {name: a, where: \"not list_contains(diagnoses, 'x')\", keep_until: last_encounter}"
    )
    assert decided(rules, ENDED | {"diagnoses": None})[0]["retention"] == "unknown"


# --- nothing gets in through values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["' or true --", "x'; drop table facts; --", "\x00", '"', "{}", "$now", "🔬" * 9, "%s"]
)
def test_values_are_values(value: str) -> None:
    rules = rules_of(
        "retention:\n  - {name: a, where: \"metadata['k'] = 'yes' and stain = 'HE'\", keep_until: last_encounter}"
    )
    rows = [
        ENDED | {"stain": "HE", "metadata": [("k", "yes")], "case_id": "A"},
        ENDED | {"stain": value, "metadata": [(value, value)], "case_id": value},
    ]
    good, bad = decided(rules, *rows)
    assert (good["action"], bad["action"]) == ("delete", "none")
    assert bad["case_id"] == value
    rules = rules_of("placement:\n  - {name: a, tier: cold}", TIERS)
    (found,) = decided(rules, {"copies": [copy_in(value)]})
    assert found["steps"][0]["source"] == value
