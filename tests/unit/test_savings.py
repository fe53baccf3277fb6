"""What was saved: months that a controller reckons by hand, and bands that are those of differences."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pages_kit import HARDWARE, Hospital, site_of, write_month
from tests.report_kit import begun, costs, dropped, exactly, lying, model, slides, told
from wsistore import ops
from wsistore.errors import InputError, SiteError
from wsistore.ops.report_data import tier_costs, tier_models
from wsistore.reports.facts import Fact, cost, read_facts, tax
from wsistore.reports.kept import read_kept
from wsistore.reports.metering import Meter
from wsistore.reports.models import Totals, charges, totals
from wsistore.reports.periods import Month
from wsistore.reports.row_samples import RowSamples
from wsistore.reports.samples import Draws
from wsistore.reports.savings import ZARR_PER_VENDOR_BYTE, Against, Saving, StepName, read_zarr_ratio, savings
from wsistore.reports.terms import read_settings
from wsistore.tiers.value_files import Value

TB = 10**12
OCTOBER = Month(2026, 10)
ONE = exactly(1.0)
PRICES = 'version = 1\ntitle = "{name}"\nmedium = "hdd"\n[storage_per_tb_month]\ncentral = {price}\n'
PROVIDED = 'timezone = "UTC"\n[tiers.hot]\nprovider = "P"\n[tiers.warm]\nprovider = "P"\n'


def site_with(folder: Path, terms: str = PROVIDED, **prices: str) -> Path:
    """Make a site of hot (20 EUR per TB and month) and warm (8), charged by a provider unless told otherwise."""
    site = site_of(folder, Hospital(tiers=("hot", "warm"), settings=terms))
    toml = site / "wsistore.toml"
    for name, price in (("hot", 20), ("warm", 8)):
        (site / f"{name}.toml").write_text(prices.get(name, PRICES.format(name=name, price=price)), "utf-8")
        toml.write_text(
            toml.read_text().replace(f'url = "tiers/{name}"', f'url = "tiers/{name}"\nprices = "./{name}.toml"')
        )
    return site


def saved(folder: Path, site: Path, events: list, known: dict[str, int], ratio: Value = ONE) -> dict:
    """Return the month's savings by what is compared with."""
    with ops.open_site(site) as opened:
        write_month(opened, folder / "out", OCTOBER, events, slides(**{n: (size, "A") for n, size in known.items()}))
        samples = samples_of(opened)
    facts = read_facts(folder / "out", OCTOBER, OCTOBER)
    kept = read_kept(folder / "out", OCTOBER, OCTOBER.ends)
    return {one.against: one for one in savings(facts, kept, OCTOBER, samples, "hot", ratio)}


def samples_of(site: ops.Site) -> RowSamples:
    terms = read_settings(site.folder)
    return RowSamples(tier_costs(tier_models(site, terms, OCTOBER), terms, OCTOBER), Draws(terms.seed, terms.draws))


def steps(one: Saving) -> dict[StepName, float]:
    return {step.name: round(step.eur.central, 6) for step in one.steps}


# Two slides since before the month: one of 2 TB in hot as it came; one of 4 TB, folded to 3 TB, in warm.
EVENTS = [
    begun("a", 1, "2026-01-01", size=2 * TB),
    begun("b", 1, "2026-01-01", size=4 * TB),
    begun("b", 2, "2026-02-01", "warm", size=3 * TB, preset="fold"),
    dropped("b", 3, "2026-02-02", size=4 * TB),
]
KNOWN = {"a": 2 * TB, "b": 4 * TB}


def test_against_all_hot_and_against_two_stores(tmp_path: Path) -> None:
    found = saved(tmp_path, site_with(tmp_path / "site"), EVENTS, KNOWN)
    hot, beside = found[Against.ALL_HOT], found[Against.BESIDE]
    # All hot: 6 TB at 20 = 120. Now: 2 at 20 and 3 at 8 = 64. Moving 4 TB from 20 to 8 saves 48, folding 1 TB at 8, 8.
    assert (hot.baseline_eur.central, hot.actual_eur.central) == (pytest.approx(120), pytest.approx(64))
    assert steps(hot) == {StepName.MOVES: 48, StepName.FOLDS: 8, StepName.COPIES: 0, StepName.DOING: 0}
    assert hot.allocated_eur.central == pytest.approx(56)
    assert hot.cash_eur.central == pytest.approx(56)  # all of it is paid to a provider
    assert (hot.purchase.tb, hot.purchase.eur) == (0, None)
    # File and Zarr: 2 x 2 TB at 20 and 2 x 4 TB at 8 = 144.
    assert beside.baseline_eur.central == pytest.approx(144)
    assert steps(beside) == {StepName.ONE: 72, StepName.FOLDS: 8}
    assert beside.cash_eur.central == pytest.approx(80)


def test_the_method_tells_this_example() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "method.md").read_text("utf-8")
    (example,) = re.findall(r"^Worked example: (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    figures = [int(number) for number in re.findall(r"\d+", example)]
    assert figures == [2, 20, 4, 3, 8, 64, 120, 48, 8, 144]


def test_own_hardware_saves_no_cash_but_room(tmp_path: Path) -> None:
    own = HARDWARE.replace("central = 100\n", "central = 5\n")  # 5 TB are installed, for 60 000
    site = site_with(tmp_path / "site", PROVIDED.replace('[tiers.hot]\nprovider = "P"\n', ""), hot=own)
    hot = saved(tmp_path, site, EVENTS, KNOWN)[Against.ALL_HOT]
    assert hot.cash_eur.central == pytest.approx(-24)  # the provider's 3 TB at 8 are paid, and nothing else less
    assert hot.purchase.tb == pytest.approx(4)
    assert hot.purchase.beyond_tb == pytest.approx(1)  # 6 TB would be needed, 5 are there
    assert hot.purchase.eur == pytest.approx((11_000, 12_000, 13_200), abs=0.1)
    assert hot.allocated_eur.central > 0


def test_a_second_copy_costs_more_and_what_is_done_counts_against_us(tmp_path: Path) -> None:
    events = [begun("a", 1, "2026-01-01", size=TB), begun("a", 2, "2026-02-01", "warm", size=TB)]
    events += [begun("c", 1, "2026-09-01", size=TB, cpu_seconds=0.0)]
    hot = saved(tmp_path, site_with(tmp_path / "site"), events, {"a": TB, "c": TB})[Against.ALL_HOT]
    assert steps(hot) == {StepName.MOVES: 12, StepName.FOLDS: 0, StepName.COPIES: -20, StepName.DOING: 0}
    assert hot.allocated_eur.central == pytest.approx(-8)


def test_bands_are_those_of_the_difference(tmp_path: Path) -> None:
    wide = 'version = 1\ntitle = "t"\nmedium = "hdd"\n[storage_per_tb_month]\nlow = 10\ncentral = 20\nhigh = 60\n'
    folded = [begun("a", 1, "2026-01-01", size=3 * TB, preset="fold")]
    site = site_with(tmp_path / "site", hot=wide)
    hot = saved(tmp_path, site, folded, {"a": 4 * TB})[Against.ALL_HOT]
    # 4 TB less 3 TB at the same price, whatever it is: the band of 1 TB (docs/method.md), not that of 4 less 3.
    assert hot.allocated_eur == pytest.approx((11, 20, 56), abs=0.1)
    nothing = saved(tmp_path, site, folded, {"a": 3 * TB})[Against.ALL_HOT]
    assert nothing.allocated_eur == pytest.approx((0, 0, 0), abs=0.1)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0])
def test_a_larger_zarr_saves_more(tmp_path: Path, ratio: float) -> None:
    beside = saved(tmp_path, site_with(tmp_path / "site"), EVENTS, KNOWN, exactly(ratio))[Against.BESIDE]
    assert beside.allocated_eur.central == pytest.approx(72 * ratio + 8)


def test_the_ratio_is_the_sites(tmp_path: Path) -> None:
    site = site_with(tmp_path / "site")
    assert read_zarr_ratio(site) == ZARR_PER_VENDOR_BYTE
    (site / "reports.toml").write_text(
        "[savings.zarr_per_vendor_byte]\ncentral = 2.5\nsource = 'measured'\nmark = 'seen'\n"
    )
    assert read_zarr_ratio(site).central == 2.5
    assert read_settings(site).timezone == "UTC"
    for text, word in (
        ("savings = 3", "table"),
        ("[savings.zarr_per_vendor_byte]\ncentral = -1", "zarr_per_vendor_byte"),
    ):
        (site / "reports.toml").write_text(text)
        with pytest.raises(SiteError, match=word):
            read_zarr_ratio(site)


def test_nothing_kept_nothing_saved(tmp_path: Path) -> None:
    assert saved(tmp_path, site_with(tmp_path / "site"), [], {}) == {}


# --- what was kept ----------------------------------------------------------------------------------------------------


def test_slides_count_once_for_as_long_as_they_are_there(tmp_path: Path) -> None:
    half = OCTOBER.begins + timedelta(days=15.5)
    events = [
        begun("a", 1, "2026-01-01", size=TB),
        begun("a", 2, "2026-10-05", "warm", size=TB),
        begun("b", 1, f"{half:%Y-%m-%dT%H:%M}", size=TB),
        begun("b", 2, f"{half:%Y-%m-%dT%H:%M}", "warm", size=TB),
    ]
    saved(tmp_path, site_with(tmp_path / "site"), events, {"a": 3 * TB, "b": 2 * TB})
    kept = read_kept(tmp_path / "out", OCTOBER, OCTOBER.ends)
    assert kept.slides == pytest.approx(1.5)
    assert kept.bytes_logical == pytest.approx(4 * TB)
    # Of a month that is not over what was there so far.
    assert read_kept(tmp_path / "out", OCTOBER, half).slides == pytest.approx(0.5)
    (tmp_path / "out" / "inventory" / "month=2026-10" / "part-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot be read"):
        read_kept(tmp_path / "out", OCTOBER, OCTOBER.ends)


# --- samples of rows --------------------------------------------------------------------------------------------------


def test_bands_of_rows_are_those_that_the_report_says(tmp_path: Path) -> None:
    site = site_of(tmp_path / "site", Hospital(settings='timezone = "UTC"\n'))
    events = [begun(f"s{n}", 1, "2026-10-03", size=(n + 1) * TB, cpu_seconds=1e6) for n in range(4)]
    events += [begun("s1", 2, "2026-10-09", "cold", size=TB, **{"from": "hot", "bytes_read": TB, "cpu_seconds": 5e6})]
    known = slides(**{f"s{n}": ((n + 1) * TB, "AB"[n % 2]) for n in range(4)})
    with ops.open_site(site) as opened:
        write_month(opened, tmp_path / "out", OCTOBER, events, known)
        samples = samples_of(opened)
    facts = read_facts(tmp_path / "out", OCTOBER, OCTOBER)
    found = samples.totals(facts)
    direct = reckoned(site, events, known)
    for name in ("eur", "kwh", "operational_g", "embodied_g", "gco2e"):
        assert getattr(found, name).band == pytest.approx(getattr(direct, name).band, rel=1e-6), name
    assert float(cost(facts)) == pytest.approx(direct.eur.central, rel=1e-9)
    assert tax(facts) == 0


def reckoned(site: Path, events: list, known: Any) -> Totals:
    """Return the sums as the report itself makes them, of charges."""
    with ops.open_site(site) as opened:
        terms = read_settings(site)
        mine = tier_costs(tier_models(opened, terms, OCTOBER), terms, OCTOBER)
    meter = Meter([OCTOBER])
    meter.add(lying(events, known), told(events))
    return totals(charges(meter.by_month[OCTOBER], OCTOBER, mine), Draws(terms.seed, terms.draws))


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(st.floats(0.01, 1e6), min_size=1, max_size=6))
def test_sums_of_samples_do_not_depend_on_how_rows_are_cut(parts: list[float]) -> None:
    samples = RowSamples(costs(model(storage_per_tb_month=Value(10, 20, 60))), Draws())

    def fact(amount: float) -> Fact:
        sums = dict.fromkeys(("quantity", "bytes_stored", "bytes_logical", "copies", "kwh", "embodied_g"), amount)
        ends = {"eur_low": amount / 2, "eur_high": amount * 3, "operational_g": amount * 50}
        place = {"month": OCTOBER, "billed": OCTOBER, "tier": "hot", "meter": "storage", "department": None}
        kind = {"is_tax": False, "is_correction": False, "quality": "assumed"}
        return Fact(**place, **kind, eur=Decimal(repr(amount)), **sums, **ends)  # type: ignore[arg-type]

    one, many = samples.totals([fact(sum(parts))]), samples.totals([fact(part) for part in parts])
    assert many.eur.band == pytest.approx(one.eur.band)
    assert many.gco2e.band == pytest.approx(one.gco2e.band)
    assert one.eur.band == pytest.approx(tuple(sum(parts) * share for share in (0.55, 1.0, 2.8)), rel=0.01)
