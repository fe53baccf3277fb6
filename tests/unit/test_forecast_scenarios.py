"""Scenario files: YAML or TOML, like one another, with messages that name the file, the key and what was meant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.report_kit import exactly, model
from wsistore.errors import InputError, Kind, MissingError, WsistoreError
from wsistore.reports.forecast.reading import Around, read_scenario
from wsistore.reports.forecast.running import forecast
from wsistore.reports.forecast.scenario import CopyAt
from wsistore.reports.forecast.scenario_values import shipped_presets
from wsistore.reports.forecast.shipped import scenario_path, shipped_scenarios
from wsistore.reports.forecast.values_used import values_used
from wsistore.reports.periods import Month
from wsistore.reports.samples import Draws
from wsistore.tiers.expected_cost import EXPECTED_ACCESS
from wsistore.tiers.plans.sizes import ASSUMED
from wsistore.tiers.value_files import Mark

WHOLE = """\
version: 1
slides:
  per_year: {low: 1000, central: 1200, high: 2000, source: "our own count", mark: seen}
  growth_per_year: {low: 0, central: 5, high: 10, unit: "%"}
  ramp_up: [0.3, 0.7, 1]
  sizes:
    at-40x: {part: 0.5, bytes: 2 GB}
    at-20x: {part: 0.5, bytes: {low: 0.5 GB, central: 1 GB, high: 2 GB}, whole: true}
stages:
  - {tier: hot}
  - {after: 90 days, tier: warm, preset: fold, also: [{tier: cold, preset: pack}]}
  - {after: 2 years, tier: cold, preset: pack}
keep_years: 20
reads:
  - {after: 0, per_year: 4}
  - {after: 6 months, low: 0.1, central: 0.5, high: 2}
tiers:
  hot: {prices: hospital-disk, verify_every_days: 30, storage_decline_per_year: 0.1}
  warm: {prices: ovh-standard}
  cold: {prices: ovh-cold-archive, country: RE, fees_rise_per_year: {central: 0.02}}
grid:
  - {country: FR, year: 2030, total: {central: 30}}
grid_decline_per_year:
  FR: 0.02
  RE: {low: 0, central: 0.05, high: 0.1}
"""


def written(folder: Path, text: str, name: str = "s.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_all_that_a_file_may_say(tmp_path: Path) -> None:
    found = read_scenario(written(tmp_path, WHOLE))
    assert (found.name, found.title) == ("s", "s")
    assert found.slides.per_year.high == 2000
    assert found.slides.per_year.mark is Mark.SEEN
    assert found.slides.growth_per_year.central == pytest.approx(0.05)
    assert [kind.bytes.central for kind in found.slides.kinds] == [2e9, 1e9]
    (path,) = found.paths
    assert [stage.after_months for stage in path.stages] == pytest.approx([0, 90 / (365.25 / 12), 24])
    assert path.stages[1].copies == (CopyAt("warm", "fold"), CopyAt("cold", "pack"))
    assert path.keep_months == 240
    assert found.tiers["cold"].model.least_days == 180
    assert found.tiers["cold"].model.country == "RE"
    assert found.grid.factor("FR", 2031).total.central == 30
    assert found.grid.factor("FR", 2029).total.central == 56  # those that ship stay
    assert found.grid_decline["FR"].central == 0.02
    assert [read.per_year.central for read in found.reads] == [4, 0.5]


def test_toml_says_the_same(tmp_path: Path) -> None:
    toml = """
version = 1
stages = [{tier = "hot"}, {after = "2 years", tier = "cold", preset = "pack"}]
[slides]
per_year = 1200
sizes.all.bytes = {central = 1.6, unit = "GB"}
[tiers]
hot.prices = "hospital-disk"
cold.prices = "ovh-cold-archive"
"""
    yaml = """
version: 1
stages: [{tier: hot}, {after: 24 months, tier: cold, preset: pack}]
slides: {per_year: 1200, sizes: {all: {bytes: 1600 MB}}}
tiers: {hot: {prices: hospital-disk}, cold: {prices: ovh-cold-archive}}
"""
    one, other = read_scenario(written(tmp_path, toml, "s.toml")), read_scenario(written(tmp_path, yaml))
    assert replace(one, file="") == replace(other, file="")


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        ("version: 1", "version: 2", "version", "upgrade wsistore"),
        ("keep_years: 20", "keep_year: 20", "keep_year", "Did you mean 'keep_years'"),
        ("tier: warm, preset: fold", "tier: wram, preset: fold", "stages[2].tier", "one of: hot, warm, cold"),
        ("tier: warm, preset: fold", "tier: warm, preset: folds", "stages[2].preset", "fold"),
        ("after: 90 days", "after: 90", "stages[2].after", "an age such as '90 days'"),
        ("after: 90 days", "after: 3 years", "stages[3].after", "a later age"),
        ("  - {tier: hot}", "  - {after: 1 day, tier: hot}", "stages[1].after", "begins with the slide"),
        ("preset: pack}]", "preset: pack}, {tier: cold, preset: pack}]", "stages[2].also[2]", "another tier or preset"),
        ("part: 0.5, bytes: 2 GB", "part: 0.4, bytes: 2 GB", "slides.sizes", "sum to 1"),
        ("bytes: 2 GB", "bytes: 2 GBit/s", "slides.sizes.at-40x.bytes", "a size such as '1.6 GB'"),
        ("bytes: 2 GB", "bytes: -2", "slides.sizes.at-40x.bytes", "not negative"),
        ("low: 1000", "low: 1300", "slides.per_year", "low, central and high in this order"),
        ("low: 1000", "lwo: 1000", "slides.per_year.lwo", "Did you mean 'low'"),
        ('unit: "%"', 'unit: "GB"', "slides.growth_per_year.unit", "'1'"),
        ("ramp_up: [0.3, 0.7, 1]", "ramp_up: [0.3, 7]", "slides.ramp_up[2]", "from 0 to 1"),
        ("ramp_up: [0.3, 0.7, 1]", "ramp_up: fast", "slides.ramp_up", "a list of numbers"),
        ("whole: true", "whole: maybe", "slides.sizes.at-20x.whole", "true or false"),
        ("mark: seen", "mark: certain", "slides.per_year.mark", "seen"),
        ("prices: ovh-standard", "prices: ovh-standart", "tiers.warm", "did you mean 'ovh-standard'"),
        ("prices: ovh-standard", "prices: ./none.toml", "tiers.warm", "cannot be read"),
        ("country: RE", "country: XX", "tiers.cold.country", "FR"),
        ("FR: 0.02", "XX: 0.02", "grid_decline_per_year", "one of"),
        ("FR: 0.02", "FR: 1.5", "grid_decline_per_year.FR", "0.9"),
        ("storage_decline_per_year: 0.1", "storage_decline_per_year: 1", "storage_decline_per_year", "0.9"),
        ("verify_every_days: 30", "verify_every_days: often", "tiers.hot.verify_every_days", "a number"),
        ("verify_every_days: 30", "owned: {systems: 1}", "tiers.hot.owned", "[hardware]"),
        ("keep_years: 20", "keep_years: 2", "keep_years", "more years than"),
        ("after: 6 months, low: 0.1", "after: 6 months, per_year: 1, low: 0.1", "reads[2].per_year", "either"),
        ("after: 6 months", "after: 0", "reads", "grow"),
        ("slides:", "slide:", "slide", "Did you mean 'slides'"),
        ("stages:", "paths:", "paths", "a table of names"),
        ("tiers:", "titles:", "titles", "Here the keys may be"),
    ],
)
def test_messages_name_file_key_and_what_was_meant(tmp_path: Path, old: str, new: str, key: str, what: str) -> None:
    assert WHOLE.count(old) >= 1
    path = written(tmp_path, WHOLE.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_scenario(path)
    assert caught.value.kind is Kind.SCENARIO_INVALID
    assert str(tmp_path) in caught.value.message
    assert key in caught.value.message
    assert what.casefold() in str(caught.value).casefold()


@pytest.mark.parametrize("key", ["slides", "stages", "tiers"])
def test_what_is_missing_is_named(tmp_path: Path, key: str) -> None:
    lines, keep = [], True
    for line in WHOLE.splitlines():
        keep = line.startswith(" ") and keep if line.startswith((" ", "-")) else not line.startswith(f"{key}:")
        lines += [line] if keep else []
    with pytest.raises(InputError, match=f"s.yaml: key '{key}' is missing"):
        read_scenario(written(tmp_path, "\n".join(lines)))


def test_broken_files_say_where(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"s\.yaml, line 2"):
        read_scenario(written(tmp_path, "version: 1\nslides: ]\n"))
    with pytest.raises(InputError, match=r"s\.yaml, line 2.*anchors"):
        read_scenario(written(tmp_path, "version: 1\nslides: &a {}\n"))
    with pytest.raises(InputError, match=r"s\.toml: is no valid TOML"):
        read_scenario(written(tmp_path, "version = \n", "s.toml"))
    with pytest.raises(MissingError):
        read_scenario(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_scenario(tmp_path)


def test_a_file_is_like_another_one_but_for_what_it_says_itself(tmp_path: Path) -> None:
    written(tmp_path, WHOLE, "base.yaml")
    own = read_scenario(written(tmp_path, "version: 1\nlike: base.yaml\nkeep_years: 30\n", "own.yaml"))
    base = read_scenario(tmp_path / "base.yaml")
    assert (own.name, own.paths[0].keep_months) == ("own", 360)
    assert replace(own, name="", file="", title="", paths=()) == replace(base, name="", file="", title="", paths=())
    written(tmp_path, WHOLE.replace("tier: warm", "tier: wram", 1), "base.yaml")
    with pytest.raises(InputError, match=r"base\.yaml: key 'stages\[2\]\.tier'"):  # the file that the mistake is in
        read_scenario(tmp_path / "own.yaml")


def test_files_that_are_like_each_other_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "version: 1\nlike: b.yaml\n", "a.yaml")
    written(tmp_path, "version: 1\nlike: a.yaml\n", "b.yaml")
    with pytest.raises(InputError, match="like this one in turn"):
        read_scenario(tmp_path / "a.yaml")


def test_a_tier_without_prices_has_those_of_the_sites_tier_of_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE.replace("{prices: ovh-standard}", "{}"))
    own = model("warm", storage_per_tb_month=exactly(3.0))
    found = read_scenario(path, Around(tiers={"warm": own, "hot": own}))
    assert found.tiers["warm"].model == own
    assert found.tiers["hot"].model.prices.name == "hospital-disk"
    assert read_scenario(path).tiers["warm"].model.prices.name == "ovh-standard"


# --- what ships -------------------------------------------------------------------------------------------------------


def test_scenarios_that_ship_are_those_that_people_ask_for() -> None:
    found = {name: read_scenario(path) for name, path in shipped_scenarios().items()}
    assert list(found) == [
        "all-hot",
        "vendor-plus-zarr",
        "s3-lifecycle",
        "ours",
        "ours-on-premises",
        "ours-in-the-cloud",
    ]
    assert len({one.slides for one in found.values()}) == 1  # the same hospital
    assert len({one.title for one in found.values()} | {one.title_fr for one in found.values()}) == 12
    for one in found.values():
        assert {copy.tier for path in one.paths for stage in path.stages for copy in stage.copies} == set(one.tiers)
        for used in values_used(one):
            assert used.value.source != "none stated", (one.name, used.key)
            assert used.value.low <= used.value.central <= used.value.high
    # The same price list goes on alike, whatever the scenario.
    declines = {(t.model.prices.name, t.storage_decline) for one in found.values() for t in one.tiers.values()}
    assert len({name for name, _ in declines}) == len(declines)
    assert found["ours-on-premises"].tiers["warm"].model.prices.hardware is not None


def test_what_is_assumed_is_what_plans_and_the_tuner_assume() -> None:
    presets = shipped_presets()
    assert {name: one.ratio.central for name, one in presets.items()} == {
        name: ratio.bytes_per_byte for name, ratio in ASSUMED.items()
    }
    reads = read_scenario(scenario_path("ours")).reads
    assert [read.per_year.central for read in reads] == [
        EXPECTED_ACCESS[one].recalls for one in ("hot", "warm", "cold")
    ]


def test_a_name_that_does_not_ship() -> None:
    with pytest.raises(MissingError, match="did you mean 'all-hot'"):
        scenario_path("allhot")
    assert scenario_path("./allhot.yaml") == Path("allhot.yaml")


# --- whatever a file says ---------------------------------------------------------------------------------------------

_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=6), one, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data(), odd=_ODD)
def test_nothing_but_our_errors_comes_of_odd_values(tmp_path: Path, data: st.DataObject, odd: Any) -> None:
    document: Any = YAML(typ="safe").load(WHOLE)
    place: Any = document
    while True:  # walk to some place, and put the odd value there
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = odd
            break
        place = place[key]
    path = written(tmp_path, json.dumps(document, ensure_ascii=True), "odd.yaml")
    try:
        found = read_scenario(path)
    except WsistoreError:
        return
    assert forecast([found], Month(2027, 1), 2, Draws(count=200))[0].total.eur.min() >= 0


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode), ending=st.sampled_from(["yaml", "toml"]))
def test_nothing_but_our_errors_comes_of_odd_bytes(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"odd.{ending}"
    path.write_bytes(content)
    with pytest.raises(WsistoreError):
        read_scenario(path)
