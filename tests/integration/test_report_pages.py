"""Pages in a real browser, workbooks in a real spreadsheet program: the figures are those of the Parquet sets."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import openpyxl
import pytest
from playwright.sync_api import Browser

from tests.browser_kit import chromium, new_page, recalculated
from tests.pages_kit import ODD, Hospital, written
from wsistore import ops
from wsistore.ops.pages_of_month import Pages, report_pages
from wsistore.reports.pages.texts import texts_of

MOST_BYTES = 2_000_000
CASES = {
    "odd": Hospital(own_hardware=True),
    "empty": Hospital(departments=(), months=1),
    "one": Hospital(tiers=("hot",), departments=("A",), months=1),
    "many": Hospital(
        tiers=("hot", "nvme", "warm", "warm-2", "cold", "tape", "archive", "glacier"),
        departments=tuple(f"UF{2100 + number} Service d'anatomie et de cytologie n° {number}" for number in range(40)),
        months=2,
    ),
}


class Case(NamedTuple):
    out: Path
    pages: dict[str, Pages]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    found = {}
    for name, hospital in CASES.items():
        site, out = written(tmp_path_factory.mktemp(name), hospital)
        with ops.open_site(site) as opened:
            found[name] = Case(
                out, {lang: report_pages(opened, "2026-10", out, language=lang) for lang in ("en", "fr")}
            )
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def sums(out: Path, what: str, by: str = "''") -> dict[str, Any]:
    """Return sums of the month's rows, straight from the files."""
    query = f"""select {by} as name, sum({what}) from read_parquet('{out}/usage/*/*.parquet')
        where ChargePeriodStart = timestamptz '2026-09-30 22:00:00+00' and ChargeCategory = 'Usage' group by 1"""
    return dict(duckdb.execute(query).fetchall())


WHO = "case when SkuMeter = 'idle-capacity' then '(idle)' else coalesce(nullif(x_Department, ''), '(unknown)') end"
CARBON = "x_OperationalGco2eCentral + x_EmbodiedGco2eCentral"


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("name", CASES)
def test_pages_in_a_browser(cases: dict[str, Case], browser: Browser, name: str, width: int) -> None:
    language = "fr" if width == 768 else "en"
    case = cases[name]
    said: list[str] = []
    asked: list[str] = []
    page = new_page(browser, viewport={"width": width, "height": 900})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(case.pages[language].html.as_uri())
    assert said == []
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing but tables and charts scrolls
    assert page.evaluate("document.documentElement.lang") == language
    shown = dict(
        page.eval_on_selector_all("data[data-figure]", "all => all.map(one => [one.dataset.figure, one.value])")
    )
    page.close()
    assert Decimal(shown["total/eur"]) == sums(case.out, "EffectiveCost").get("", 0)
    for kind, by in (("tier", "ResourceName"), ("department", WHO)):
        for figure, what in (("eur", "EffectiveCost"), ("bytes", "x_BytesStored"), ("gco2e", CARBON)):
            real = sums(case.out, what, by)
            mine = {
                k.removeprefix(f"{kind}/").removesuffix(f"/{figure}"): float(v)
                for k, v in shown.items()
                if k.startswith(f"{kind}/") and k.endswith(f"/{figure}")
            }
            assert mine == pytest.approx({key: float(value) for key, value in real.items()}), (kind, figure)


def test_what_is_seen_adds_up_to_the_cent(cases: dict[str, Case], browser: Browser) -> None:
    page = new_page(browser)
    page.goto(cases["many"].pages["en"].html.as_uri())
    for kind in ("tier", "department"):
        cells = page.eval_on_selector_all(
            f"data[data-figure^='{kind}/'][data-figure$='/eur']", "all => all.map(e => e.textContent)"
        )
        total = page.locator("data[data-figure='total/eur']").inner_text()
        assert sum(Decimal(re.sub("[€,]", "", cell)) for cell in cells) == Decimal(re.sub("[€,]", "", total))
    page.close()


def test_queries_on_the_page_give_its_figures(cases: dict[str, Case], browser: Browser, monkeypatch: Any) -> None:
    page = new_page(browser)
    page.goto(cases["odd"].pages["fr"].html.as_uri())
    queries = dict(
        page.eval_on_selector_all("pre[data-query]", "all => all.map(e => [e.dataset.query, e.textContent])")
    )
    shown = dict(page.eval_on_selector_all("data[data-figure]", "all => all.map(e => [e.dataset.figure, e.value])"))
    page.close()
    assert set(queries) == {"tiers", "departments", "months", "changes"}
    monkeypatch.chdir(cases["odd"].out)
    for name, kind in (("tiers", "tier"), ("departments", "department")):
        rows = duckdb.execute(queries[name]).fetchall()
        assert len(rows) == len({key for key in shown if key.startswith(f"{kind}/") and key.endswith("/eur")})
        for key, eur, size, kwh, grams in rows:
            assert Decimal(shown[f"{kind}/{key}/eur"]) == eur
            assert [float(shown[f"{kind}/{key}/{one}"]) for one in ("bytes", "kwh", "gco2e")] == pytest.approx(
                [size, kwh, grams]
            )
    months: dict[str, Decimal] = {}
    for begins, _, eur, *_ in duckdb.execute(queries["months"]).fetchall():
        months[f"{begins:%Y-%m}"] = months.get(f"{begins:%Y-%m}", Decimal(0)) + eur
    assert sorted(months.values()) == sorted(Decimal(v) for k, v in shown.items() if re.fullmatch("month/.*/eur", k))
    before, now = duckdb.execute(f"select sum(before), sum(now) from ({queries['changes']})").fetchall()[0]
    assert now - before == Decimal(shown["sum/change"])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("language", ["en", "fr"])
def test_pages_are_small_alone_and_accessible(
    cases: dict[str, Case], browser: Browser, name: str, language: str
) -> None:
    path = cases[name].pages[language].html
    text = path.read_text("utf-8")
    assert path.stat().st_size < MOST_BYTES
    assert not re.search(r"<script|javascript:|@import|url\(\s*['\"]?http|(src|href)=[\"']?(https?:)?//", text)
    page = new_page(browser, java_script_enabled=True)
    page.goto(path.as_uri())
    count = page.evaluate("""() => ({
        unnamed: [...document.querySelectorAll('svg')].filter(one => !one.querySelector('title').textContent
            || !one.querySelector('desc').textContent || one.getAttribute('role') !== 'img').length,
        repeated: (all => all.length - new Set(all).size)([...document.querySelectorAll('[id]')].map(one => one.id)),
        untitled: [...document.querySelectorAll('table')].filter(one => !one.caption || !one.tHead).length,
        headings: document.querySelectorAll('h1').length,
        dangling: [...document.querySelectorAll('a[href^="#"]')].filter(
            one => !document.getElementById(one.hash.slice(1))).length,
        bold: document.querySelectorAll('main b').length,
    })""")
    page.close()
    assert count == {"unnamed": 0, "repeated": 0, "untitled": 0, "headings": 1, "dangling": 0, "bold": 0}


def test_a_page_prints_whole(cases: dict[str, Case], browser: Browser, tmp_path: Path) -> None:
    page = new_page(browser)
    page.goto(cases["many"].pages["fr"].html.as_uri())
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 703, "height": 1000})  # the width of an A4 page within its margins
    hidden = page.evaluate("""() => [...document.querySelectorAll('.wide')].filter(
        one => getComputedStyle(one).overflowX !== 'visible').length""")
    wide = page.evaluate(
        "Math.max(...[...document.querySelectorAll('table')].map(one => one.getBoundingClientRect().right))"
    )
    page.pdf(path=str(tmp_path / "page.pdf"), prefer_css_page_size=True)
    page.close()
    assert hidden == 0
    assert wide <= 703
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


# --- the workbook -----------------------------------------------------------------------------------------------------


def with_wrong_values(book: Path, folder: Path) -> Path:
    """Return the workbook with nonsense in the place of what formulas came out at."""
    target = folder / book.name
    with zipfile.ZipFile(book) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            body = old.read(name).decode("utf-8") if name.endswith(".xml") else ""
            if "worksheets/" in name and body:
                new.writestr(name, re.sub(r"(</f><v>)[^<]*(</v>)", r"\g<1>777777.77\g<2>", body))
            else:
                new.writestr(name, old.read(name))
    return target


@pytest.mark.parametrize(("name", "language"), [("odd", "fr"), ("many", "en"), ("empty", "en")])
def test_a_spreadsheet_program_comes_to_the_same(
    cases: dict[str, Case], tmp_path: Path, name: str, language: str
) -> None:
    case = cases[name]
    book = case.pages[language].xlsx
    (tmp_path / "wrong").mkdir()
    again = openpyxl.load_workbook(recalculated(with_wrong_values(book, tmp_path / "wrong"), tmp_path), data_only=True)
    formulas, values = openpyxl.load_workbook(book), openpyxl.load_workbook(book, data_only=True)
    found = 0
    for sheet in formulas:
        for row in sheet.iter_rows():
            for cell in row:
                mine, theirs = (one[sheet.title][cell.coordinate].value for one in (values, again))
                assert not str(theirs).startswith(("#", "Err:")), (sheet.title, cell.coordinate)
                if cell.data_type == "f":
                    found += 1
                    assert round(theirs, 2) == pytest.approx(round(mine, 2), abs=1e-9), (sheet.title, cell.coordinate)
    assert found >= (150 if name != "empty" else 10)
    tiers = again[texts_of(language)("sheet.tiers")]
    total: Any = next(row[2].value for row in tiers.iter_rows() if row[0].value == "Total")
    assert round(total, 2) == round(float(sums(case.out, "EffectiveCost").get("", 0)), 2)


def test_odd_names_are_texts_in_the_workbook(cases: dict[str, Case]) -> None:
    book = openpyxl.load_workbook(cases["odd"].pages["en"].xlsx)
    cells = {row[0].value: row[0].data_type for row in book["Departments"].iter_rows(min_row=6)}
    for name in filter(None, ODD):
        assert cells[name] == "s"
    sources = [row[8].value for row in book["Coefficients"].iter_rows(min_row=5) if row[8].value]
    assert len(sources) > 20


def test_the_same_report_is_the_same_page_and_workbook(cases: dict[str, Case], tmp_path: Path) -> None:
    site, out = written(tmp_path, CASES["odd"])
    with ops.open_site(site) as opened:
        made = report_pages(opened, "2026-10", out, language="fr")
    first = cases["odd"].pages["fr"]
    assert made.html.read_bytes() == first.html.read_bytes()
    assert made.xlsx.read_bytes() == first.xlsx.read_bytes()
