"""What if the rules had other ages: over the slides that a catalogue has, as the rules themselves decide."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from tests.forecast_kit import PRESETS, scenario, slides, tier
from tests.plan_kit import memory_tiers, slides_in
from wsistore import ops
from wsistore.errors import InputError, Kind
from wsistore.model import Preset
from wsistore.ops.forecasting_ages import what_if, with_ages
from wsistore.reports.forecast.running import forecast_of
from wsistore.reports.forecast.scenario import CopyAt, PresetFigures
from wsistore.reports.forecast.stock import Stock, activity_of
from wsistore.reports.periods import Month
from wsistore.reports.samples import Draws
from wsistore.testing.catalogue import Hospital, made_facts
from wsistore.testing.clock import ManualClock
from wsistore.tiers.rules import TierFacts, decide, parse_rules

BEGINS = datetime(2031, 7, 1, tzinfo=UTC)
TIERS = {"hot": TierFacts(), "warm": TierFacts(preset=Preset.FOLD), "cold": TierFacts(preset=Preset.PACK)}
RULES = parse_rules(
    b"""
version: 1
feed_max_age: 9000 days
retention:
  - {name: legal, keep_until: last_encounter + interval 20 year}
placement:
  - {name: recent, where: ingested_at > now - interval 2 year, tier: hot}
  - {name: priors, where: ingested_at > now - INTERVAL '5 years', tier: warm, also: cold}
  - {name: archive, tier: cold}
""",
    "rules.yaml",
).bind(TIERS)
FIGURES = {
    name: PresetFigures(name=name, ratio=PRESETS["keep"].ratio, objects=2.0) for name in ("keep", "fold", "pack")
}


def moments(years: int) -> list[datetime]:
    return [BEGINS.replace(year=BEGINS.year + year) for year in range(years + 1)]


def months(years: int) -> tuple[Month, ...]:
    found = [Month(2031, 7)]
    while len(found) < 12 * years:
        found.append(found[-1].next)
    return tuple(found)


def test_what_lies_where_is_what_the_rules_decide() -> None:
    """Each slide's tier by `decide` at the end of each year, summed one by one."""
    facts = made_facts(400, hospital=Hospital(at=BEGINS))
    stock = Stock.of(facts, [RULES], tuple(TIERS), BEGINS)
    one = scenario(*(tier(name) for name in TIERS), presets=FIGURES, slides=slides(0.0))
    done = activity_of(stock, RULES, one, moments(3), months(3), 11)
    found = forecast_of(one, done, Draws(count=10))
    size, holds = facts["bytes_source"].to_pylist(), facts["holds"].to_pylist()
    for year, at in enumerate(moments(3)[1:]):
        expected = dict.fromkeys(TIERS, 0.0)
        kept = 0
        for row, its, held in zip(decide(facts, RULES, at).to_pylist(), size, holds, strict=True):
            if row["retention"] == "ended" and not held:
                continue
            kept += 1
            for name in {"recent": ["hot"], "priors": ["warm", "cold"], "archive": ["cold"]}[row["place_rule"]]:
                expected[name] += its
        assert {name: rows[year, 0] for name, rows in found.bytes_stored.items()} == pytest.approx(expected)
        assert found.slides_kept[year, 0] == kept


def test_copies_are_made_once_read_from_what_is_there_and_encoded_when_nothing_is_like_them() -> None:
    facts = made_facts(300, hospital=Hospital(at=BEGINS))
    stock = Stock.of(facts, [RULES], tuple(TIERS), BEGINS)
    one = scenario(*(tier(name) for name in TIERS), presets=FIGURES, slides=slides(0.0))
    done = activity_of(stock, RULES, one, moments(2), months(2), 3).done
    masks = [stock.now, *(stock.wanted(RULES, at) for at in moments(2))]
    for bit, copy in enumerate(stock.copies):
        new = [stock.size[(after & ~before & (1 << bit)) != 0].sum() for before, after in pairwise(masks[:3])]
        first = sum(new)
        assert done[copy].written[0, 0] == pytest.approx(first)
    read = sum(one.read[:, 0].sum() for one in done.values())
    written = sum(one.written[:, 0].sum() for one in done.values())
    nowhere = stock.size[stock.now == 0].sum()
    assert nowhere == 0
    assert read == pytest.approx(2 * written)  # read back, and from somewhere
    assert sum(one.encoded[:, 0].sum() for one in done.values()) <= written


def test_an_age_is_replaced_and_nothing_else() -> None:
    found = with_ages(RULES, {"recent": "90 days", "priors": "10 years", "legal": "30 years"})
    assert [rule.where.text for rule in found.placement if rule.where] == [
        "ingested_at > now - interval 90 day",
        "ingested_at > now - interval 10 year",
    ]
    (legal,) = found.retention
    assert legal.keep_until is not None
    assert legal.keep_until.text == "last_encounter + interval 30 year"
    facts = made_facts(200, hospital=Hospital(at=BEGINS))
    hot = [pc.sum(pc.equal(decide(facts, one, BEGINS)["tier"], "hot")).as_py() or 0 for one in (RULES, found)]
    assert hot[0] > hot[1]


@pytest.mark.parametrize(
    ("ages", "what"),
    [
        ({"recnet": "5 years"}, "did you mean 'recent'"),
        ({"archive": "5 years"}, "has 0 ages, not one"),
        ({"recent": "soon"}, "Write it as '90 days'"),
    ],
)
def test_ages_that_cannot_be_replaced(ages: dict[str, str], what: str) -> None:
    with pytest.raises(InputError) as caught:
        with_ages(RULES, ages)
    assert caught.value.kind is Kind.RULES_INVALID
    assert what in str(caught.value)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with memory_tiers(tmp_path / "site", ManualClock(datetime(2026, 12, 31, tzinfo=UTC))) as opened:
        slides_in(opened, tmp_path, 3)
        (opened.folder / "rules.yaml").write_text(
            "version: 1\nplacement:\n"
            "  - {name: recent, where: ingested_at > now - interval 1 year, tier: hot}\n"
            "  - {name: archive, tier: cold}\n"
        )
        yield opened


def test_over_a_real_catalogue(site: ops.Site, tmp_path: Path) -> None:
    """Slides that came a day before lie in hot for a year, and in the other case for five."""
    size = pc.sum(ops.facts_table(site)["bytes_stored"]).as_py()
    found = what_if(site, {"recent": "5 years"}, years=6, out=tmp_path / "out")
    first, second = found.forecasts
    hot = [one.bytes_stored["hot"][:, 0] for one in (first, second)]
    assert np.count_nonzero(hot[0]) == 0  # after a year none is there any more
    assert np.count_nonzero(hot[1]) == 4
    assert found.begins == "2027-01"
    rules, other = found.outcomes
    assert (rules.name, other.name) == ("rules", "other-rules")
    assert other.more_eur.central > 0
    assert other.more_eur.low > 0  # whatever a TB costs: the same draws
    assert hot[1][0] == pytest.approx(size)
    assert (tmp_path / "out" / "forecast.html").exists()
    (slide,) = {row["slide"] for row in ops.facts_table(site).to_pylist()[:1]}
    assert slide not in (tmp_path / "out" / "forecast.html").read_text()


def test_the_same_ages_make_no_difference(site: ops.Site) -> None:
    (_, other) = what_if(site, {"recent": "1 year"}, years=2).outcomes
    assert tuple(other.more_eur) == (0.0, 0.0, 0.0)
    assert tuple(other.more_gco2e) == (0.0, 0.0, 0.0)


def test_a_catalogue_without_slides(tmp_path: Path) -> None:
    with memory_tiers(tmp_path / "site") as opened:
        (opened.folder / "rules.yaml").write_text("version: 1\nplacement:\n  - {name: all, tier: hot}\n")
        assert tuple(what_if(opened, {}, years=1).outcomes[0].eur) == (0.0, 0.0, 0.0)


def test_copies_that_rules_want_are_told_apart() -> None:
    stock = Stock.of(made_facts(5, hospital=Hospital(at=BEGINS)), [RULES], tuple(TIERS), BEGINS)
    assert {CopyAt("warm", "fold"), CopyAt("cold", "pack"), CopyAt("hot", "keep")} <= set(stock.copies)
