"""Prices: every shipped value has a source, a site's own file replaces them, and a wrong one is refused by its key."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from wsistore import settings as site_settings
from wsistore.errors import Kind, SiteError
from wsistore.tiers.prices import Mark, Medium, default_prices, known_prices, load_prices

GOOD = """
version = 1
title = "Our SAN"
medium = "ssd"
[storage_per_tb_month]
low = 10
central = 12
high = 20
source = "contract 2026"
mark = "seen"
"""


def own(folder: Path, text: str) -> Path:
    path = folder / "san.toml"
    path.write_text(text, "utf-8")
    return path


def shipped(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("wsistore.tiers") / "data" / name).read_text("utf-8"))


def ways_of(name: str) -> list[dict[str, Any]]:
    ways: list[dict[str, Any]] = shipped(f"prices/{name}.toml").get("retrieval", [])
    return ways


@pytest.mark.parametrize("name", known_prices())
def test_every_shipped_price_has_a_source_and_says_how_sure_it_is(name: str) -> None:
    tables = {key: value for key, value in shipped(f"prices/{name}.toml").items() if isinstance(value, dict)}

    assert "storage_per_tb_month" in tables
    values = [*tables.values(), *(value for way in ways_of(name) for key, value in way.items() if key != "name")]
    assert all(table["source"].strip() and table["mark"] in set(Mark) for table in values)
    assert load_prices(name).name == name


def test_every_coefficient_of_energy_has_a_source() -> None:
    tables = shipped("energy.toml")

    assert all(table["source"].strip() and table["mark"] in set(Mark) for table in tables.values())
    assert all(table["low"] <= table["central"] <= table["high"] for table in tables.values())


def test_values_are_those_of_the_sources() -> None:
    assert load_prices("ovh-cold-archive").storage_per_tb_month.central == 1.3
    assert load_prices("scaleway-glacier").retrievals[0].per_gb.central == 0.009
    assert load_prices("ovh-cold-archive").retrievals[0].per_gb.central == 0.005
    assert load_prices("ovh-cold-archive").retrievals[0].hours.high == 48
    assert load_prices("ovh-cold-archive").least_days.central == 180
    assert load_prices("hospital-disk").storage_per_tb_month.high == 60
    assert load_prices("hospital-disk").energy.kwh_per_tb_year.central == 5.7
    assert load_prices("ovh-cold-archive").energy.embodied_kg_per_tb_year.central == 0.08


def test_dollars_become_euros() -> None:
    prices = load_prices("aws-s3-standard")

    assert prices.storage_per_tb_month.central == pytest.approx(24 * 0.92)
    assert prices.storage_per_tb_month.high == pytest.approx(24 * 1.0)
    assert load_prices("aws-s3-ia").least_object_bytes.central == 131072  # no money


@pytest.mark.parametrize(
    ("tier", "prices"),
    [("hot", "hospital-disk"), ("warm", "ovh-standard"), ("cold", "ovh-cold-archive"), ("tape-2", "ovh-cold-archive"),
     ("anything", "hospital-disk")],
)  # fmt: skip
def test_a_tier_without_prices_has_those_that_its_name_suggests(tier: str, prices: str) -> None:
    assert default_prices(tier) == prices


def test_a_site_has_its_own(tmp_path: Path) -> None:
    own(tmp_path, GOOD + '\n[energy.pue]\ncentral = 2.0\nsource = "our meter"\nmark = "seen"\n')

    prices = load_prices("san.toml", tmp_path)

    assert (prices.name, prices.title, prices.medium) == ("san", "Our SAN", Medium.SSD)
    assert (prices.storage_per_tb_month.low, prices.storage_per_tb_month.high) == (10, 20)
    assert prices.energy.pue.central == prices.energy.pue.low == 2.0
    assert prices.energy.kwh_per_tb_year.central == 10.5  # of the medium, as shipped
    assert prices.get_per_1000.central == 0


def test_settings_name_a_tiers_prices(tmp_path: Path) -> None:
    site_settings.write_new(tmp_path, tiers={"hot": "h"})
    file = tmp_path / "wsistore.toml"
    assert site_settings.load(tmp_path).tiers[0].prices == ""

    file.write_text(file.read_text().replace('preset = "keep"', 'preset = "keep"\nprices = "prices/san.toml"'))
    assert site_settings.load(tmp_path).tiers[0].prices == "prices/san.toml"

    file.write_text(file.read_text().replace('"prices/san.toml"', "7"))
    with pytest.raises(SiteError, match=r"tiers\.hot\.prices"):
        site_settings.load(tmp_path)


def test_an_unknown_name_suggests_another() -> None:
    with pytest.raises(SiteError, match="did you mean 'ovh-cold-archive'") as caught:
        load_prices("ovh-cold-archiv")

    assert caught.value.kind is Kind.SETTINGS_INVALID
    assert "hospital-disk" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("storage_per_tb_month", "storage_per_tb_mont"), "did you mean 'storage_per_tb_month'"),
        (GOOD.replace("central = 12", "centrall = 12"), "storage_per_tb_month.centrall"),
        (GOOD.replace("central = 12", ""), "storage_per_tb_month.central"),
        (GOOD.replace("central = 12", "central = true"), "storage_per_tb_month.central"),
        (GOOD.replace("central = 12", "central = -1"), "not negative"),
        (GOOD.replace("high = 20", "high = nan"), "storage_per_tb_month.high"),
        (GOOD.replace("high = 20", "high = 11"), "low, central and high in this order"),
        (GOOD.replace('mark = "seen"', 'mark = "sene"'), "did you mean 'seen'"),
        (GOOD.replace('source = "contract 2026"', "source = 3"), "storage_per_tb_month.source"),
        (GOOD.replace("version = 1", "version = 2"), "version"),
        (GOOD.replace('"ssd"', '"sdd"'), "did you mean 'ssd'"),
        (GOOD.replace('"ssd"', "[1]"), "medium"),
        (GOOD + "\n[energy.puee]\ncentral = 2.0\n", "energy.puee"),
        (GOOD + "\nenergy = 3\n", "energy"),
        (GOOD + "\n[storage_decline_per_year]\ncentral = 1.0\n", "storage_decline_per_year"),
        ('currency = "USD"\n' + GOOD, "currency"),
        ("storage_per_tb_month = 12\n", "storage_per_tb_month"),
        ("", "storage_per_tb_month"),
        ("version = 1\ntitle = Our SAN\n", "line 2"),
        ("a" * 10 + "=" + "[" * 5000, "TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = own(tmp_path, text)

    with pytest.raises(SiteError) as caught:
        load_prices(str(path))

    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert caught.value.remedy


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"\n')

    for name, said in (("nothing.toml", "No such file"), ("latin.toml", "UTF-8"), ("./", "directory")):
        with pytest.raises(SiteError, match=said):
            load_prices(name, tmp_path)


# --- energy profiles --------------------------------------------------------------------------------------------------


def test_own_coefficients_replace_the_shipped_and_the_price_file_replaces_both(tmp_path: Path) -> None:
    (tmp_path / "sweden.toml").write_text("[grid_g_per_kwh]\ncentral = 20\n[pue]\ncentral = 1.1\n")
    own(tmp_path, GOOD + "[energy.pue]\ncentral = 1.9\n")
    shipped_ones = load_prices("ovh-standard").energy
    ones = load_prices("ovh-standard", tmp_path, energy="./sweden.toml").energy
    assert (ones.grid_g_per_kwh.central, ones.pue.central) == (20, 1.1)
    assert ones.watts_per_core == shipped_ones.watts_per_core
    assert load_prices("san.toml", tmp_path, energy="sweden.toml").energy.pue.central == 1.9
    assert load_prices("san.toml", tmp_path, energy="sweden.toml").energy.grid_g_per_kwh.central == 20
    assert load_prices("ovh-standard", energy="france").energy == shipped_ones


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("frence", "", r"no energy profile called 'frence' \(did you mean 'france'"),
        ("own.toml", None, "own.toml: cannot be read.*'energy' of the tier"),
        ("own.toml", "[grid]\ncentral = 1", r"own\.toml: unknown key 'grid'"),
        ("own.toml", "[pue]\nlow = 1", r"own\.toml: key 'pue\.central' is missing"),
        ("own.toml", "[pue]\ncentral = -1", r"own\.toml: key 'pue\.low' is -1"),
        ("own.toml", "pue = 1", r"own\.toml: key 'pue' is 1; expected a table"),
        ("own.toml", "pue = ", r"own\.toml: is no valid TOML"),
    ],
)
def test_wrong_coefficients_are_named(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "own.toml").write_text(text)
    with pytest.raises(SiteError, match=said):
        load_prices("ovh-standard", tmp_path, energy=name)


WAYS = (
    GOOD
    + """
currency = "USD"
[eur_per_unit]
central = 0.5
[[retrieval]]
name = "bulk"
hours = {central = 12, high = 48}
per_gb = {central = 0.02}
[[retrieval]]
name = "standard"
hours = {central = 5}
per_1000 = {central = 1}
"""
)


def test_ways_back_are_read_and_their_prices_become_euros(tmp_path: Path) -> None:
    text = WAYS.replace('currency = "USD"\n', "").replace("version = 1", 'version = 1\ncurrency = "USD"')
    bulk, standard = load_prices(str(own(tmp_path, text))).retrievals
    assert (bulk.retrieval, bulk.hours.central, bulk.hours.high) == ("bulk", 12, 48)
    assert (bulk.per_gb.central, bulk.per_1000.central) == (0.01, 0)
    assert (standard.retrieval, standard.per_1000.central, standard.hours.high) == ("standard", 0.5, 5)


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("[retrieval]\nname = 'bulk'", "retrieval"),
        ("[[retrieval]]\nhours = {central = 1}", "retrieval.name"),
        ("[[retrieval]]\nname = 'slow'\nhours = {central = 1}", "retrieval.name"),
        ("[[retrieval]]\nname = 'bulk'", "retrieval.hours"),
        ("[[retrieval]]\nname = 'bulk'\nhours = 12", "retrieval.hours"),
        ("[[retrieval]]\nname = 'bulk'\nhours = {central = -1}", "retrieval.hours.low"),
        ("[[retrieval]]\nname = 'bulk'\nhours = {central = 1}\nper_tb = {central = 1}", "retrieval.per_tb"),
        ("[[retrieval]]\nname = 'bulk'\nhours = {central = 1}\n" * 2, "retrieval.name"),
        ("[[retrieval]]\nname = 'bulk'\nhours = {central = 1}\n[retrieval_per_gb]\ncentral = 1", "retrieval_per_gb"),
    ],
)
def test_a_wrong_way_back_is_refused_by_its_key(tmp_path: Path, more: str, key: str) -> None:
    with pytest.raises(SiteError) as caught:
        load_prices(str(own(tmp_path, GOOD + more)))
    assert f"'{key}'" in caught.value.message
