"""The command forecast: scenarios that ship, files, sets that any tool reads, a page whose figures are the sets'."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.site_kit import cli, new_site
from wsistore.reports.forecast.page import words_of
from wsistore.reports.forecast.tables import COLUMNS

SCENARIO = """\
version: 1
title: "<b>Ours</b> & theirs"
slides:
  per_year: {low: 800, central: 1200, high: 2000}
  sizes: {all: {bytes: 1 GB}}
stages: [{tier: hot}]
tiers: {hot: {prices: hospital-disk}}
"""
OTHER = "version: 1\nlike: ours.yaml\ntitle: Cheaper\ntiers: {hot: {prices: ovh-standard}}\n"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "ours.yaml", tmp_path / "other.yaml"]
    for path, text in zip(found, (SCENARIO, OTHER), strict=True):
        path.write_text(text)
    return found


def run(files: list[Path], *more: object, site: Path | None = None) -> Any:
    named = [word for path in files for word in ("--scenario", path)]
    return cli(site, "forecast", *named, *more)


class Figures(HTMLParser):
    """Figures of a page, by what they are."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, float] = {}
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href") and value]
        if tag == "data" and given.get("data-figure"):
            self.found[str(given["data-figure"])] = float(str(given["value"]))


def test_sets_and_page_tell_the_same(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(files, "--years", 3, "--from", "2027-04", "-o", out, "--json")
    assert done.code == 0
    (told,) = done.lines
    assert told["files"] == [*(f"{name}.parquet" for name in COLUMNS), "forecast.html"]
    figures = Figures((out / "forecast.html").read_text("utf-8")).found
    years = pq.read_table(out / "years.parquet").to_pylist()
    assert [row["PeriodStart"].isoformat() for row in years[:3]] == ["2027-04-01", "2028-04-01", "2029-04-01"]
    for one in told["scenarios"]:
        mine = [row for row in years if row["Scenario"] == one["scenario"]]
        assert one["eur"]["central"] == pytest.approx(mine[-1]["CumulativeEurCentral"])
        assert sum(row["EurCentral"] for row in mine) == pytest.approx(one["eur"]["central"])
        assert figures[f"{one['scenario']}/eur"] == pytest.approx(one["eur"]["central"])
        for row in mine:
            assert figures[f"{row['Scenario']}/{row['Year']}/eur"] == pytest.approx(row["EurCentral"])
            assert figures[f"{row['Scenario']}/{row['Year']}/gco2e-sum"] == pytest.approx(row["CumulativeGco2eCentral"])
    more = pq.read_table(out / "differences.parquet").to_pylist()[-1]
    assert (more["Scenario"], more["Against"]) == ("other", "ours")
    assert more["CumulativeEurLow"] == pytest.approx(told["scenarios"][1]["more_eur"]["low"])
    assert figures["other/eur-more"] == pytest.approx(more["CumulativeEurCentral"])


def test_duckdb_adds_parts_up_to_years(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(files, "--years", 2, "-o", out).code == 0
    rows = (
        duckdb.connect()
        .execute(
            "select p.Scenario, p.Year, sum(p.EurCentral) - any_value(y.EurCentral) as eur, "
            "sum(p.OperationalGco2eCentral + p.EmbodiedGco2eCentral) - any_value(y.Gco2eCentral) as grams "
            f"from '{out}/parts.parquet' p join '{out}/years.parquet' y on p.Scenario = y.Scenario and p.Year = y.Year "
            "group by all"
        )
        .fetchall()
    )
    assert len(rows) == 4
    assert all(abs(eur) < 1e-6 and abs(grams) < 1e-3 for _, _, eur, grams in rows)


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_columns_are_those_that_are_told(files: list[Path], tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    assert run(files, "--years", 1, "-o", out).code == 0
    schema = pq.read_schema(out / f"{name}.parquet")
    assert [(one.name, one.type, one.nullable) for one in schema] == [
        (one.name, one.type, one.nullable) for one in COLUMNS[name]
    ]
    header = json.loads(schema.metadata[b"wsistore.report"])
    assert {"begins", "seed", "draws", "method", "against"} <= set(header)


def test_the_same_forecast_is_the_same_bytes(files: list[Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run(files, "--years", 2, "--from", "2027-01", "-o", tmp_path / name).code == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_page_stands_alone_and_takes_no_markup_from_files(files: list[Path], tmp_path: Path, language: str) -> None:
    out = tmp_path / "out"
    assert run(files, "--years", 2, "-o", out, "--lang", language).code == 0
    page = (out / "forecast.html").read_text("utf-8")
    found = Figures(page)
    assert f'<html lang="{language}">' in page
    assert "b" not in found.tags  # the title is text
    assert "&lt;b&gt;Ours&lt;/b&gt; &amp; theirs" in page
    assert "script" not in found.tags
    assert all(link.startswith(("#", "data:")) for link in found.links)
    assert len(page) < 2_000_000
    assert "{" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)  # every word has its values


def test_a_french_page_has_french_titles(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(SCENARIO.replace("slides:", "title_fr: Le nôtre\nslides:", 1))
    for language, title in (("en", "&lt;b&gt;Ours"), ("fr", "Le nôtre")):
        assert run([path], "--years", 1, "-o", tmp_path / language, "--lang", language).code == 0
        assert f">{title}" in (tmp_path / language / "forecast.html").read_text("utf-8")


def test_both_languages_say_the_same_things() -> None:
    english, french = (words_of(language).words["forecast"] for language in ("en", "fr"))
    assert set(english) == set(french)
    for key, text in english.items():
        holes = [sorted(re.findall(r"\{\w+\}", one)) for one in (text, french[key])]
        assert holes[0] == holes[1], key


def test_what_is_printed_for_people(files: list[Path]) -> None:
    done = run(files, "--years", 2, "--from", "2027-01", "--against", "other")
    assert done.code == 0
    lines = done.out.splitlines()
    assert re.search(r"^ours +2,400 +2\.4 TB +\d", lines[1])
    assert "2 years from 2027-01, without tax, compared with other" in done.out
    assert "With -o DIR" in done.err


@pytest.mark.parametrize(
    ("options", "code", "what"),
    [
        (("--scenario", "./none.yaml"), 4, "There is no file"),
        (("--scenario", "al-hot"), 4, "did you mean 'all-hot'"),
        (("--against", "nothing"), 3, "There is no scenario 'nothing'"),
        (("--from", "2027-13"), 3, "is no month"),
        (("--lang", "de"), 3, "de"),
        (("--scenario", "ours", "--scenario", "ours"), 3, "the same name"),
        (("--years", "0"), 2, ""),
    ],
)
def test_what_is_wrong_is_said(options: tuple[str, ...], code: int, what: str) -> None:
    done = cli(None, "forecast", *options)
    assert done.code == code
    assert what in done.err


def test_a_scenario_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO.replace("tier: hot}", "tier: hto}"))
    done = cli(None, "forecast", "--scenario", path, "--json")
    assert done.code == 3
    assert done.error["kind"] == "scenario-invalid"
    assert f"{path}: key 'stages[1].tier' is 'hto'; expected one of: hot (did you mean 'hot'?)" in done.error["message"]


def test_a_folder_that_cannot_be_written(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert run(files, "--years", 1, "-o", tmp_path / "out").code == 6


def test_a_sites_prices_and_settings_hold(files: list[Path], tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    files[0].write_text(SCENARIO.replace("{prices: hospital-disk}", "{}"))
    (site / "own.toml").write_text("[storage_per_tb_month]\ncentral = 1\n")
    plain = run(files[:1], "--years", 1, "--json", site=site).lines[0]["scenarios"][0]["eur"]["central"]
    text = (site / "wsistore.toml").read_text()
    (site / "wsistore.toml").write_text(text.replace("[tiers.hot]", '[tiers.hot]\nprices = "./own.toml"'))
    (site / "reports.toml").write_text('timezone = "Europe/Paris"\ndraws = 300\n')
    own = run(files[:1], "--years", 1, "--json", site=site).lines[0]["scenarios"][0]["eur"]["central"]
    assert (plain, own) == pytest.approx((144.0, 7.2))


def test_scenarios_that_ship_can_be_copied_and_changed(tmp_path: Path) -> None:
    listed = [line["scenario"] for line in cli(None, "forecast", "scenarios", "--json").lines]
    assert cli(None, "forecast", "copy", tmp_path / "mine").code == 0
    done = run([tmp_path / "mine" / f"{name}.yaml" for name in listed], "--years", 1, "--json")
    assert [one["scenario"] for one in done.lines[0]["scenarios"]] == listed
    assert cli(None, "forecast", "copy", tmp_path / "mine").code == 5


def test_a_forecast_begins_with_a_year() -> None:
    assert cli(None, "forecast", "--scenario", "all-hot", "--years", "1", "--json").lines[0]["begins"].endswith("-01")
