"""Rules against a slow reference in plain Python, and what must hold whatever the rules and whatever is known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rules_kit import NAIVE, NOW, TIERS, copy_in, fact, facts_of, rules_of
from tests.rules_reference import Rule, Until, When, add_years, first_rules, retention
from wsistore.tiers.rules import Rules, decide, explain
from wsistore.tiers.rules.facts import SCHEMA
from wsistore.tiers.rules.placement import Site, Situation, place
from wsistore.tiers.rules.shipped import shipped_rules

FEW = settings(max_examples=max(5, settings().max_examples // 12), deadline=None)
"""Each example is a table of many slides."""

# --- what is known ----------------------------------------------------------------------------------------------------

_days = st.sampled_from(
    [
        *(None, date(1930, 1, 1), date(1960, 5, 1), date(1996, 2, 29), date(2000, 1, 1), date(2004, 2, 29)),
        *(date(2006, 11, 22), date(2006, 11, 23), date(2015, 3, 31), date(2020, 2, 29)),
    ]
)
_recourse = st.fixed_dictionaries(
    {
        "begins": st.sampled_from([None, date(2004, 1, 1), date(2012, 5, 1), date(2016, 7, 1), date(2026, 1, 1)]),
        "ends": st.sampled_from([None, date(2005, 3, 1), date(2013, 5, 1), date(2018, 7, 1), date(2027, 1, 1)]),
    }
)
_moments = st.sampled_from([None, *(NAIVE - timedelta(days=days) for days in (0, 5, 60, 400, 4000))])
_copies = st.lists(
    st.builds(
        copy_in,
        st.sampled_from(["hot", "warm", "cold", "gone"]),
        st.sampled_from(["keep", "fold", "pack"]),
        st.sampled_from(["committed"] * 5 + ["suspect"]),
        charged_until=st.sampled_from([None, None, NAIVE - timedelta(days=1), NAIVE + timedelta(days=9)]),
        expires_at=st.sampled_from([None, None, None, NAIVE + timedelta(days=3)]),
    ),
    max_size=3,
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "case_id": st.sampled_from([None, "A", "B", "C"]),
            "last_encounter": _days,
            "birth_date": _days,
            "death_date": _days,
            "recourse": st.none() | st.lists(_recourse, max_size=3),
            "collections": st.sampled_from([[], ["teaching"], ["other", "teaching"]]),
            "stain": st.sampled_from([None, "HE", "PAS"]),
            "signed_out_at": _moments,
            "last_access": _moments,
            "ingested_at": _moments,
            "feed_as_of": st.sampled_from([None, NAIVE, NAIVE, NAIVE, NAIVE - timedelta(days=8)]),
            "holds": st.sampled_from([0, 0, 0, 1]),
            "identity_detached": st.sampled_from([False, False, True]),
            "copies": _copies,
        }
    ),
    min_size=1,
    max_size=30,
)

# --- rules, as SQL and as they are ------------------------------------------------------------------------------------


def _strict(function: Callable[..., Any], *names: str) -> Callable[[Any, datetime], Any]:
    """Return a function of facts that is unknown where one of them is."""
    return lambda row, _now: None if any(row[n] is None for n in names) else function(*(row[n] for n in names))


def _years(name: str, years: int) -> Until:
    return Until(f"{name} + interval {years} year", lambda row, _now: add_years(row[name], years))


def _later(one: Until, other: Until) -> Until:
    def day(row: Any, now: datetime) -> date | None:
        assert one.day is not None
        assert other.day is not None
        days = [day for day in (one.day(row, now), other.day(row, now)) if day is not None]
        return max(days) if len(days) == 2 else None

    return Until(f"greatest({one.sql}, {other.sql})", day)


_dated = st.builds(
    _years, st.sampled_from(["last_encounter", "birth_date", "death_date"]), st.sampled_from([0, 5, 10, 20, 28])
)
_until = _dated | st.builds(_later, _dated, _dated) | st.just(Until("never-ends", None))
ALWAYS = When("", lambda _row, _now: True)
CONDITIONS = (
    When("stain = 'HE'", _strict(lambda stain: stain == "HE", "stain")),
    When("stain <> 'HE'", _strict(lambda stain: stain != "HE", "stain")),
    When("list_has_any(collections, ['teaching'])", lambda row, _now: "teaching" in row["collections"]),
    When("death_date < last_encounter", _strict(lambda death, last: death < last, "death_date", "last_encounter")),
    When("not (birth_date > date '1990-01-01')", _strict(lambda birth: birth <= date(1990, 1, 1), "birth_date")),
    When(
        "signed_out_at < now - interval 90 day",
        lambda row, now: row["signed_out_at"] and row["signed_out_at"] < now.replace(tzinfo=None) - timedelta(days=90),
    ),
)
_when = st.sampled_from([ALWAYS, ALWAYS, *CONDITIONS])


@st.composite
def retention_rules(draw: st.DrawFn, *, now_counts: bool = True) -> list[Rule]:
    """Draw up to four rules; each may replace some that come after it."""
    count = draw(st.integers(0, 4))
    found = []
    for number in range(count):
        until = draw(_until)
        when = draw(_when if now_counts else _when.filter(lambda when: "now" not in when.sql))
        later = [f"r{other}" for other in range(number + 1, count)]
        replaces = tuple(draw(st.lists(st.sampled_from(later), unique=True, max_size=2))) if later else ()
        detach = until.day is None and draw(st.booleans())
        found.append(Rule(f"r{number}", when, until, draw(st.booleans()), replaces, detach))
    return found


@st.composite
def placement_rules(draw: st.DrawFn) -> str:
    """Draw up to three placement rules."""
    lines = []
    for number, when in enumerate(draw(st.lists(st.sampled_from(CONDITIONS), unique=True, max_size=2))):
        lines.append(f'  - {{name: p{number}, where: "{when.sql}", {draw(_target)}}}')
    lines.append(f"  - {{name: last, {draw(_target)}}}")
    return "placement:\n" + "\n".join(lines) + "\n"


_target = st.sampled_from(
    [
        "tier: hot",
        "tier: warm, encode: fold",
        "tier: cold, encode: pack, copies: 2",
        "tier: cold, also: [warm]",
        "tier: hot, copies: 3",
    ]
)


def text_of(rules: list[Rule]) -> str:
    return "retention:\n" + "".join(rule.yaml() for rule in rules) if rules else ""


@lru_cache(maxsize=200)
def bound(text: str) -> Rules:
    return rules_of(text, TIERS)


def decisions(rules: Rules, found: list[dict[str, Any]], now: datetime = NOW) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = decide(facts_of(*found), rules, now, threads=1).to_pylist()
    return answer


def goes(decision: dict[str, Any]) -> bool:
    """Return whether something irrevocable is done."""
    return any(step["action"] in {"delete", "detach-identity"} for step in decision["steps"] or [])


# --- the fast path and the slow one -----------------------------------------------------------------------------------


@FEW
@given(rows, retention_rules())
def test_retention_is_what_the_reference_says(found: list[dict[str, Any]], rules: list[Rule]) -> None:
    for row, one in zip(found, decisions(bound(text_of(rules)), found), strict=True):
        wanted = retention(rules, fact(**row), NOW)
        assert {key: one[key] for key in ("retention", "keep_until", "keep_rule")} == {
            key: wanted[key] for key in ("retention", "keep_until", "keep_rule")
        }
        may = row["feed_as_of"] == NAIVE and not row["holds"]
        assert (one["action"] == "delete") == (wanted["retention"] == "ended" and may)
        assert (one["action"] == "detach-identity") == (wanted["detach"] and may)


@FEW
@given(rows, st.lists(st.sampled_from(CONDITIONS), unique=True, max_size=4))
def test_the_rule_that_wins_for_a_case_is_what_the_reference_says(
    found: list[dict[str, Any]], conditions: list[When]
) -> None:
    lines = [f'  - {{name: p{n}, where: "{when.sql}", tier: hot}}' for n, when in enumerate(conditions)]
    rules = bound("placement:\n" + "\n".join(lines) if lines else "")
    wanted = first_rules(conditions, [fact(**row) for row in found], NOW)
    assert [one["place_rule"] for one in decisions(rules, found)] == [None if n is None else f"p{n}" for n in wanted]


@FEW
@given(rows, placement_rules())
def test_steps_in_bulk_are_those_for_each_slide_alone(found: list[dict[str, Any]], text: str) -> None:
    rules = bound(text)
    site = Site.of(rules, NOW.date())
    for row, one in zip(found, decisions(rules, found), strict=True):
        lasting = [copy for copy in row["copies"] if copy["expires_at"] is None]
        good = [copy for copy in lasting if copy["state"] == "committed"]
        presets = {copy["tier"]: frozenset(c["preset"] for c in good if c["tier"] == copy["tier"]) for copy in good}
        now = Situation(
            presets,
            frozenset(copy["tier"] for copy in lasting if copy["state"] == "suspect"),
            frozenset(copy["tier"] for copy in lasting if copy["charged_until"] and copy["charged_until"] > NAIVE),
            bool(row["holds"]),
        )
        (rule,) = (rule for rule in rules.placement if rule.name == one["place_rule"])
        wanted = place(rule, now, site)
        assert one["steps"] == ([step.to_row() for step in wanted.steps] or None)
        assert one["blocked"] == ([str(reason) for reason in wanted.blocked] or None)


# --- what must hold ---------------------------------------------------------------------------------------------------


@FEW
@given(rows, retention_rules(), placement_rules())
def test_a_hold_never_takes_anything_away(found: list[dict[str, Any]], rules: list[Rule], places: str) -> None:
    read = bound(text_of(rules) + places)
    held = decisions(read, [row | {"holds": 1} for row in found])
    for one in held:
        assert {step["action"] for step in one["steps"] or []} <= {"copy"}


@FEW
@given(rows, retention_rules(), st.data())
def test_making_what_is_known_unknown_never_lets_more_go(
    found: list[dict[str, Any]], rules: list[Rule], data: st.DataObject
) -> None:
    _never_more(bound(text_of(rules)), found, data)


@FEW
@given(st.sampled_from(sorted(shipped_rules())), rows, st.data())
def test_nor_does_it_under_the_rules_that_ship(name: str, found: list[dict[str, Any]], data: st.DataObject) -> None:
    _never_more(_shipped(name), found, data)


@lru_cache
def _shipped(name: str) -> Rules:
    return shipped_rules()[name].rules().bind(TIERS)


def _never_more(rules: Rules, found: list[dict[str, Any]], data: st.DataObject) -> None:
    less = [dict(row) for row in found]
    for row in less:
        name = data.draw(
            st.sampled_from(["last_encounter", "birth_date", "death_date", "feed_as_of", "stain", "recourse"])
        )
        if name == "recourse":
            part = data.draw(st.sampled_from(["begins", "ends"]))
            row["recourse"] = [one | {part: None} for one in row["recourse"] or []]
        else:
            row[name] = None
    before, after = decisions(rules, found), decisions(rules, less)
    for known, unknown in zip(before, after, strict=True):
        assert goes(known) or not goes(unknown)


@FEW
@given(rows, retention_rules(now_counts=False), st.integers(1, 20_000))
def test_a_later_now_never_shortens_retention(found: list[dict[str, Any]], rules: list[Rule], days: int) -> None:
    read, later = bound(text_of(rules)), NOW + timedelta(days=days)
    for before, after in zip(decisions(read, found), decisions(read, found, later), strict=True):
        first, then = before["keep_until"], after["keep_until"]
        assert (first is None) == (then is None)
        # A recourse that is still to begin makes it longer when it has; nothing makes it shorter while it is kept.
        assert first is None or max(then, later.date()) >= first
        assert after["retention"] != "ended" or after["keep_until"] <= later.date()


@FEW
@given(rows, retention_rules(), placement_rules(), st.data())
def test_order_and_partitioning_by_case_do_not_matter(
    found: list[dict[str, Any]], rules: list[Rule], places: str, data: st.DataObject
) -> None:
    read = bound(text_of(rules) + places)
    table = facts_of(*found)
    whole = {one["slide"]: one for one in decide(table, read, NOW, threads=1).to_pylist()}
    shuffled = table.take(pa.array(data.draw(st.permutations(range(len(found))))))
    assert {one["slide"]: one for one in decide(shuffled, read, NOW, threads=2).to_pylist()} == whole
    part = {case: data.draw(st.integers(0, 2)) for case in ("A", "B", "C")}
    of_row = [part[row["case_id"]] if row["case_id"] else number % 3 for number, row in enumerate(found)]
    pieces = [table.filter(pa.array([one == number for one in of_row])) for number in range(3)]
    assert {one["slide"]: one for piece in pieces for one in decide(piece, read, NOW, threads=1).to_pylist()} == whole


@FEW
@given(rows, placement_rules())
def test_placing_never_leaves_too_few_good_copies_and_comes_to_an_end(found: list[dict[str, Any]], text: str) -> None:
    rules = bound(text)
    for row, one in zip(found, decisions(rules, found), strict=True):
        good = {copy["tier"] for copy in row["copies"] if copy["expires_at"] is None and copy["state"] == "committed"}
        charged = {copy["tier"] for copy in row["copies"] if copy["charged_until"] and copy["charged_until"] > NAIVE}
        after = dict.fromkeys(good)
        for step in one["steps"] or []:
            gone = {"move": step["source"], "drop-copy": step["tier"]}.get(step["action"])
            assert gone is None or gone in good
            lasting = [copy for copy in row["copies"] if copy["tier"] == gone and copy["expires_at"] is None]
            assert gone not in charged or not any(
                copy["charged_until"] == NAIVE + timedelta(days=9) for copy in lasting
            )
            after.pop(gone or "", None)
            if step["action"] in {"copy", "move"}:
                after[step["tier"]] = None
        assert len(after) >= min(len(good), one["copies_wanted"])
        # A suspect copy is waited for: a scrub repairs it, or says that it is gone.
        suspect = [copy_in(copy["tier"], "keep", "suspect") for copy in row["copies"] if copy["state"] == "suspect"]
        done = [*(copy_in(tier, one["preset"]) for tier in after), *suspect]
        (again,) = decisions(rules, [row | {"copies": done, "case_id": None}])
        if again["place_rule"] == one["place_rule"] and not one["blocked"] and good:
            assert not any(step["action"] != "reencode" for step in again["steps"] or []), (one, again)


@settings(parent=FEW, max_examples=5)
@given(rows, retention_rules(), placement_rules())
def test_explaining_agrees_with_deciding(found: list[dict[str, Any]], rules: list[Rule], places: str) -> None:
    read = bound(text_of(rules) + places)
    table = facts_of(*found)
    for one in decisions(read, found)[:3]:
        text = " ".join(explain(table, read, NOW, one["slide"]))
        assert (f"until {one['keep_until']}" in text or f"on {one['keep_until']}" in text) or one["keep_until"] is None
        assert one["keep_rule"] is None or repr(one["keep_rule"]) in text
        assert ("It is deleted for good" in text) == (one["action"] == "delete")
        assert ("it is parted from its patient." in text and "Its legal time is over" in text) == any(
            step["action"] == "detach-identity" for step in one["steps"] or []
        )
        if one["action"] != "delete":
            assert f"So it belongs in {one['tier']}" in text
            assert repr(one["place_rule"]) in text
        assert ("Nothing is to be done now" in text) == (one["action"] == "none")
        assert ("A hold is on it" in text) == ("held" in (one["blocked"] or []))


@FEW
@given(st.text(max_size=60))
def test_any_value_of_a_slide_stays_a_value(text: str) -> None:
    rules = bound("retention:\n  - {name: a, where: \"metadata['k'] = 'x' or stain = 'x'\", keep_until: birth_date}\n")
    row = {"stain": text, "metadata": [("k", text)], "case_id": text, "birth_date": date(2000, 1, 1)}
    (one,) = decisions(rules, [row])
    assert (one["action"] == "delete") == (text == "x")
    assert one["case_id"] == text


def test_the_kit_has_every_fact() -> None:
    assert set(fact()) == set(SCHEMA.names)
