"""What pages say: both languages alike, numbers as people write them, changes that are explained to the last cent."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pages_kit import Hospital, written
from wsistore import ops
from wsistore.errors import InputError
from wsistore.ops.closing_month import close_month
from wsistore.ops.pages_of_month import Pages, report_pages
from wsistore.reports import sets
from wsistore.reports.columns import schema_of
from wsistore.reports.facts import read_facts
from wsistore.reports.focus import table_of
from wsistore.reports.models import Quality
from wsistore.reports.pages import charts, document, naming
from wsistore.reports.pages.content import IDLE, UNKNOWN
from wsistore.reports.pages.reading import read_compared
from wsistore.reports.pages.texts import LANGUAGES, texts_of
from wsistore.reports.periods import Month
from wsistore.reports.savings import Against, StepName
from wsistore.reports.usage import What
from wsistore.tiers.value_files import Mark

PARIS = "Europe/Paris"
OCTOBER = Month(2026, 10, PARIS)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Pages]:
    site, out = written(
        tmp_path_factory.mktemp("site"), Hospital(departments=("A", "B", None), months=2, own_hardware=True)
    )
    with ops.open_site(site) as opened:
        return site, out, report_pages(opened, "2026-10", out)


# --- words and numbers ------------------------------------------------------------------------------------------------


def placeholders(text: Any) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(str(text)) if name}


def test_both_languages_say_the_same_things() -> None:
    english, french = (texts_of(language).words for language in LANGUAGES)
    assert {t: list(english[t]) for t in english} == {t: list(french[t]) for t in french}
    for table, words in english.items():
        if table != "format":
            for key, text in words.items():
                assert placeholders(text) == placeholders(french[table][key]), (table, key)


def test_whatever_can_be_said_has_words() -> None:
    texts = texts_of("fr")
    for prefix, names in (
        ("meter", What),
        ("mark", Mark),
        ("trust", Quality),
        ("savings", StepName),
        ("savings", Against),
    ):
        assert all(texts.has(f"{prefix}.{name}") for name in names), prefix
    with pytest.raises(InputError, match="'de'"):
        texts_of("de")


@pytest.mark.parametrize(
    ("how", "value", "english", "french"),
    [
        ("money", Decimal("1234567.891"), "€1,234,567.89", "1 234 567,89 €"),
        ("money", Decimal("-0.004"), "€0.00", "0,00 €"),
        ("money", -3.5, "−€3.50", "−3,50 €"),
        ("rough", 1234.5, "€1,234", "1 234 €"),
        ("rough", 0.000034, "€0.000034", "0,000034 €"),
        ("bytes", 1.5e12, "1.5 TB", "1,5 To"),
        ("bytes", 999, "999 B", "999 o"),
        ("carbon", 12_345.6, "12.3 kg CO₂e", "12,3 kg CO₂e"),
        ("energy", 0.25, "250 Wh", "250 Wh"),
        ("percent", 0.1234, "12.3%", "12,3 %"),
    ],
)
def test_numbers_are_written_as_each_language_does(how: str, value: Any, english: str, french: str) -> None:
    found = [re.sub(r"[\u00a0\u202f]", " ", getattr(texts_of(language), how)(value)) for language in ("en", "fr")]
    assert found == [english, french]


@settings(max_examples=60)
@given(cents=st.integers(-(10**12), 10**12))
def test_an_amount_can_be_read_back(cents: int) -> None:
    text = texts_of("fr").cents(cents)
    plain = re.sub(r"[\u00a0\u202f€]", "", text).replace("−", "-").replace(",", ".")
    assert Decimal(plain) * 100 == cents


# --- content ----------------------------------------------------------------------------------------------------------


def test_changes_are_explained_to_the_last_cent(reported: tuple[Path, Path, Pages]) -> None:
    content = reported[2].content
    assert content.changes
    for one in content.changes:
        assert float(one.difference) == pytest.approx(one.volume + one.price + sum(one.activity.values()), abs=1e-6)
    whole = content.total
    assert whole.before is not None
    total = sum((one.difference for one in content.changes), Decimal(0))
    assert content.more_changes == 0
    assert float(total) == pytest.approx(float(whole.eur - whole.before), abs=0.001 * 20)
    assert sum(item.cents for item in content.departments) == whole.cents == round(whole.eur * 100)
    assert {item.key for item in content.departments} >= {IDLE, UNKNOWN}


def test_a_correction_counts_in_the_month_that_it_corrects(tmp_path: Path) -> None:
    site, out = written(tmp_path, Hospital(departments=("A",), months=2))
    september = Month(2026, 9, PARIS)
    (row,) = [
        row
        for row in sets.written_rows(out, september)
        if row["SkuMeter"] == "storage" and row["ResourceName"] == "hot" and row["x_Department"] == "A"
    ]
    more = {"ChargeClass": "Correction", "BillingPeriodStart": OCTOBER.begins, "BillingPeriodEnd": OCTOBER.ends}
    twice = table_of([{**row, **more, "ListUnitPrice": None}])
    pq.write_table(twice, sets.partition(out, sets.USAGE, OCTOBER) / "corrections-2026-09-001.parquet")
    before = sum((f.eur for f in read_facts(out, september, september) if not f.is_correction), Decimal(0))
    with ops.open_site(site) as opened:
        content = report_pages(opened, "2026-10", out).content
        page = report_pages(opened, "2026-10", out, language="fr").html.read_text("utf-8")
    assert [(one.month, one.tier, one.eur) for one in content.corrections] == [(september, "hot", row["EffectiveCost"])]
    assert content.points[0].is_corrected
    assert content.points[0].eur == before + row["EffectiveCost"]
    assert content.total.before == content.points[0].eur
    assert all(fact.month != OCTOBER for fact in read_facts(out, september, september))
    assert "Corrections passées ce mois-ci" in page


def test_invoices_stand_beside_and_are_not_added(reported: tuple[Path, Path, Pages], tmp_path: Path) -> None:
    site, out, made = reported
    zero = {"x_VarianceEur": Decimal(12), "x_Status": "matched", "x_Lines": 1, "x_IsAlert": True}
    row = {"ChargePeriodStart": OCTOBER.begins, "ChargePeriodEnd": OCTOBER.ends, "InvoiceIssuerName": "<OVH>"}
    row |= {"ResourceName": "warm", "SkuMeter": "storage", "x_InvoicedEur": Decimal(112), "x_ModelledEur": Decimal(100)}
    path = sets.partition(out, sets.COMPARED, OCTOBER) / sets.PART
    path.parent.mkdir(parents=True)
    schema = schema_of(sets.columns_of(sets.COMPARED))
    pq.write_table(pa.Table.from_pylist([row | zero], schema), path)
    assert [(one.tier, one.invoiced, one.is_alert) for one in read_compared(out, OCTOBER)] == [
        ("warm", Decimal(112), True)
    ]
    with ops.open_site(site) as opened:
        again = report_pages(opened, "2026-10", out)
    assert again.content.total.eur == made.content.total.eur
    text = again.html.read_text("utf-8")
    assert "&lt;OVH&gt;" in text
    assert "+12.0%" in text
    path.unlink()


def test_what_is_not_there_or_broken_is_named(reported: tuple[Path, Path, Pages], tmp_path: Path) -> None:
    site, out, _ = reported
    with ops.open_site(site) as opened:
        with pytest.raises(InputError, match="has no report of 2026-01"):
            report_pages(opened, "2026-01", out)
        about = sets.partition(out, sets.USAGE, OCTOBER) / sets.ABOUT
        before = about.read_text("utf-8")
        for broken in ("{}", "[]", '{"CreationDate": 1}'):
            about.write_text(broken, "utf-8")
            with pytest.raises(InputError):
                report_pages(opened, "2026-10", out)
        about.write_text(before, "utf-8")
        part = sets.partition(out, sets.USAGE, OCTOBER) / sets.PART
        body = part.read_bytes()
        part.write_bytes(body[: len(body) // 2])
        with pytest.raises(InputError, match="part-0"):
            report_pages(opened, "2026-10", out)
        part.write_bytes(body)


def test_a_draft_a_closed_and_an_unfinished_month_say_so(reported: tuple[Path, Path, Pages]) -> None:
    texts, content = texts_of("en"), reported[2].content

    def said(**changed: Any) -> str:
        return " ".join(text for text, _ in naming.state(texts, replace(content, **changed)))

    assert said().startswith("Draft")
    assert said(closed_at="2026-11-02T10:00:00.000000Z").startswith("Closed on 2026-11-02 10:00 UTC")
    assert said(is_over=False).startswith("The month is not over")


# --- charts and pages -------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)
FIGURES = st.floats(-1e9, 1e9)


@settings(max_examples=25, deadline=None)
@given(bars=st.lists(st.tuples(NAMES, FIGURES), max_size=12))
def test_charts_are_whole_whatever_they_show(bars: list[tuple[str, float]]) -> None:
    given_bars = [charts.Bar(name, value, value - 1, value + 1) for name, value in bars]
    labels = [name for name, _ in bars]
    positive = [charts.Series(name, [abs(value)] * len(bars)) for name, value in bars]
    fmt = texts_of("fr").rough
    for drawn in (
        charts.bars_across("a", "<t>", "d & d", given_bars, fmt, signed=True),
        charts.waterfall("b", "t", "d", given_bars, fmt),
        charts.stacked_bars("c", "t", "d", labels, positive, fmt, bands=[(0.0, 1.0)] * len(bars)),
        charts.lines("d", "t", "d", labels, [charts.Series("x", [v for _, v in bars])], fmt),
    ):
        root = ElementTree.fromstring(drawn)  # it is well-formed
        assert "nan" not in drawn
        for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
            left, wide = float(rect.get("x", 0)), float(rect.get("width", 0))
            assert left >= -0.1
            assert left + wide <= charts.WIDTH + 0.1


@settings(max_examples=60)
@given(least=st.floats(-1e9, 0), span=st.floats(0, 1e9))
def test_ticks_are_round_rising_and_enclose(least: float, span: float) -> None:
    ticks = charts.nice_ticks(least, least + span)
    assert ticks == sorted(set(ticks))
    assert 3 <= len(ticks) <= 9
    slack = 1e-8 * max(1, abs(least), span)  # less than a line of the chart is wide
    assert ticks[0] <= least + slack
    assert ticks[-1] >= least + span - slack


@settings(max_examples=40)
@given(text=NAMES)
def test_no_text_becomes_markup(text: str) -> None:
    table = document.table(text, [document.Column(text)], [[document.Cell(text, text, text, text)]])
    assert "".join(ElementTree.fromstring(table).itertext()).count("<") == 4 * text.count("<")


def test_the_monthly_close_writes_pages_in_both_languages(tmp_path: Path) -> None:
    ops.init_site(tmp_path / "site")
    with ops.open_site(tmp_path / "site") as site:
        done = close_month(site, "2026-01", tmp_path / "out", close=False)
    names = [f"report-2026-01-{language}.{ending}" for language in ("en", "fr") for ending in ("html", "xlsx")]
    assert sorted(Path(path).name for path in done.pages) == names
    assert all(Path(path).stat().st_size > 5000 for path in done.pages)
