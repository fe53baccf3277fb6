"""Sheets of a month's workbook that say what changed, what was saved, where figures are from, and what this is."""

from __future__ import annotations

from typing import Any

from wsistore.reports.pages.book import Book, Column, Formula, Sheet, cell
from wsistore.reports.pages.content import Content
from wsistore.reports.pages.naming import moment, state, who_is, why
from wsistore.reports.pages.texts import MINUS, Texts
from wsistore.reports.savings import Saving

_KG = 1000.0


def change_sheet(sheet: Sheet, texts: Texts, content: Content) -> None:
    """Write the largest changes: what of each is volume, price, and activity."""
    columns = [Column(texts("col.department"), "text", 30), Column(texts("col.tier"), "text", 14)]
    columns += [Column(f"{texts(f'col.{name}')}, €", "eur") for name in ("before", "now")]
    columns += [Column(f"{texts('col.change')}, €", "eur_sign"), Column(f"{texts('meter.storage')}: TB", "eur_sign")]
    columns += [Column(f"{texts('meter.storage')}: €/TB", "eur_sign"), Column(texts("savings.doing"), "eur_sign")]
    columns += [Column(texts("col.why"), "text", 80)]
    first, rows = sheet.row + 1, []
    for place, one in enumerate(content.changes):
        row = first + place
        change = Formula(f"={cell(row, 3)}-{cell(row, 2)}", float(one.difference))
        parts = [one.volume, one.price, sum(one.activity.values())]
        rows.append([who_is(texts, one.who), one.tier, one.before, one.now, change, *parts, why(texts, one)])
    sheet.table(columns, rows)


def saving_sheet(sheet: Sheet, texts: Texts, content: Content) -> None:
    """Write what was saved, against each other way."""
    for one in content.savings:
        sheet.write(sheet.row, 0, texts(f"savings.{one.against}"), "bold")
        sheet.row += 1
        _saving(sheet, texts, one)
    if not content.savings:
        sheet.write(sheet.row, 0, texts("savings.none"), "text")


def _saving(sheet: Sheet, texts: Texts, one: Saving) -> None:
    columns = [Column(texts("col.part"), "text", 40), Column("€", "eur", 16)]
    columns += [Column(texts("col.low"), "eur", 16), Column(texts("col.high"), "eur", 16)]
    columns += [Column("kg CO₂e", "figure", 16)]
    first = sheet.row + 1
    rows: list[list[Any]] = [
        [
            texts("savings.baseline"),
            one.baseline_eur.central,
            one.baseline_eur.low,
            one.baseline_eur.high,
            one.baseline_gco2e.central / _KG,
        ]
    ]
    for step in one.steps:
        name = f"{MINUS} {texts(f'savings.{step.name}')}"
        rows.append([name, step.eur.central, step.eur.low, step.eur.high, step.gco2e.central / _KG])
    last = first + len(rows) - 1

    def left(column: int, value: float) -> Formula:
        return Formula(f"={cell(first, column)}-SUM({cell(first + 1, column)}:{cell(last, column)})", value)

    actual = [left(1, one.actual_eur.central), one.actual_eur.low, one.actual_eur.high]
    rows.append([texts("savings.actual"), *actual, left(4, one.actual_gco2e.central / _KG)])
    end = last + 1
    saved = Formula(f"={cell(first, 1)}-{cell(end, 1)}", one.allocated_eur.central)
    carbon = Formula(f"={cell(first, 4)}-{cell(end, 4)}", one.allocated_gco2e.central / _KG)
    rows.append([texts("savings.allocated"), saved, one.allocated_eur.low, one.allocated_eur.high, carbon])
    rows.append([texts("savings.cash"), one.cash_eur.central, one.cash_eur.low, one.cash_eur.high, ""])
    bought = one.purchase
    ends: list[Any] = ["", "", ""] if bought.eur is None else [bought.eur.central, bought.eur.low, bought.eur.high]
    rows.append([f"{texts('savings.purchase')} ({texts.bytes(bought.tb * 1e12)})", *ends, ""])
    sheet.table(columns, rows)


def coefficient_sheet(book: Book, texts: Texts, content: Content) -> None:
    """Write prices and coefficients, with their sources."""
    title = texts("sheet.coefficients")
    sheet = book.sheet(title, texts("sources.coefficients"), [texts("sources.lead")])
    columns = [Column(texts("col.tier")), Column(texts("col.name"), "text", 32)]
    columns += [Column(texts(f"col.{name}"), "plain", 12) for name in ("low", "central", "high")]
    columns += [Column(texts("col.unit"), "text", 18), Column(texts("col.year"), "plain", 8)]
    columns += [Column(texts("col.mark"), "text", 22), Column(texts("col.source"), "text", 110)]
    rows: list[list[Any]] = [
        [
            *(one.tier, one.name, one.value.low, one.value.central, one.value.high, one.unit, one.year),
            *(texts(f"mark.{one.value.mark}"), one.value.source),
        ]
        for one in content.coefficients
    ]
    sheet.table(columns, rows, freeze=True)


def about_sheet(book: Book, texts: Texts, content: Content) -> None:
    """Write what this is, and what it is not."""
    sheet = book.sheet(texts("sheet.about"), texts("sheet.about"))
    month = texts.month(content.month)
    footer = texts("page.footer", at=moment(content.created), method=content.method, focus=content.focus)
    told = [
        (texts("about.what"), texts("about.what_told", site=content.site, month=month)),
        *((texts("about.state"), text) for text, _ in state(texts, content)),
        (texts("about.not_added"), texts("about.not_added_told")),
        (texts("about.bands"), texts("savings.band_note")),
        (texts("about.method"), texts("about.method_told", method=content.method)),
        ("CO₂e", texts("trust.missing")),
        ("", footer),
    ]
    columns = [Column(texts("col.name"), "wrap", 24), Column("", "wrap", 110)]
    sheet.table(columns, told)
