"""A month's workbook: the page's figures as formulas over the month's rows, with coefficients and their sources."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from wsistore.reports import sets
from wsistore.reports.facts import Fact
from wsistore.reports.focus import Row
from wsistore.reports.pages.book import Area, Book, Column, Sheet
from wsistore.reports.pages.content import IDLE, UNKNOWN, Content, who
from wsistore.reports.pages.figure_sheets import department_sheet, month_sheet, summary, tier_sheet
from wsistore.reports.pages.naming import state, who_is
from wsistore.reports.pages.other_sheets import about_sheet, change_sheet, coefficient_sheet, saving_sheet
from wsistore.reports.pages.texts import Texts
from wsistore.reports.usage import What

_KG = 1000.0
_TB = 1e12
_ROWS = {
    "tier": "ResourceName",
    "department": "x_Department",
    "usage": "SkuMeter",
    "preset": "x_Preset",
    "category": "ChargeCategory",
    "class": "ChargeClass",
    "billed": "BillingPeriodStart",
    "eur": "EffectiveCost",
    "quantity": "PricingQuantity",
    "unit": "PricingUnit",
    "price": "ListUnitPrice",
    "tb": "x_BytesStored",
    "kwh": "x_EnergyKwhCentral",
    "operational": "x_OperationalGco2eCentral",
    "embodied": "x_EmbodiedGco2eCentral",
    "quality": "x_QualityCost",
    "list": "SkuId",
}
_SCALED = {"tb": 1 / _TB, "operational": 1 / _KG, "embodied": 1 / _KG}
_TITLES = {
    "tb": "x_BytesStored, TB",
    "operational": "x_OperationalGco2eCentral, kg",
    "embodied": "x_EmbodiedGco2eCentral, kg",
}


def workbook(texts: Texts, content: Content, facts: Sequence[Fact], out: Path) -> bytes:
    """Return the workbook of a month.

    Parameters
    ----------
    texts
        Of its language.
    content
        What it tells.
    facts
        Of the month and of months before it.
    out
        Folder of the sets, which the rows are read from.

    Raises
    ------
    InputError
        If they cannot be read.

    """
    title = texts("page.title", month=texts.month(content.month), site=content.site)
    book = Book(title, datetime.fromisoformat(content.created))
    notes = [text for text, _ in state(texts, content)]
    front = book.sheet(texts("sheet.summary"), title, notes)
    tiers, departments, months, changes, saved = (
        book.sheet(texts(f"sheet.{name}"), texts(f"sheet.{name}"), _notes(texts, name))
        for name in ("tiers", "departments", "months", "changes", "savings")
    )
    rows = _rows(book, texts, sets.written_rows(out, content.month))
    shown = {point.month for point in content.points}
    history = _history(book, texts, [fact for fact in facts if fact.month in shown])
    sums = [
        tier_sheet(tiers, texts, content, rows, history),
        department_sheet(departments, texts, content, rows, history),
    ]
    month_sheet(months, texts, content, history)
    change_sheet(changes, texts, content)
    saving_sheet(saved, texts, content)
    coefficient_sheet(book, texts, content)
    about_sheet(book, texts, content)
    summary(front, texts, content, *sums)
    return book.done()


def _notes(texts: Texts, name: str) -> list[str]:
    if name == "changes":
        return [texts("change.chart_told")]
    if name == "savings":
        return [texts("savings.lead"), texts("savings.band_note")]
    sheet = texts("sheet.history" if name == "months" else "sheet.rows")
    return [texts("cost.lead"), texts("sheet.formula_note", sheet=sheet)]


def _rows(book: Book, texts: Texts, rows: Sequence[Row]) -> Area:
    """Write the month's rows of ``usage/``, corrections included, one by one."""
    sheet = book.sheet(texts("sheet.rows"), texts("sheet.rows"), [texts("about.not_added_told")])
    kinds = {"eur": "eur", "quantity": "plain", "price": "plain", **dict.fromkeys(("tb", "kwh", *_SCALED), "plain")}
    columns = [Column(_TITLES.get(name, title), kinds.get(name, "text"), 16) for name, title in _ROWS.items()]
    lines = [_line(texts, row) for row in rows]
    return _area(sheet, columns, lines, list(_ROWS))


def _line(texts: Texts, row: Row) -> list[object]:
    values: dict[str, object] = {name: row[column] for name, column in _ROWS.items()}
    for name, scale in _SCALED.items():
        values[name] = float(row[_ROWS[name]]) * scale
    whom = IDLE if row["SkuMeter"] == What.IDLE else UNKNOWN
    is_named = bool(row["x_Department"]) and whom != IDLE
    values["department"] = row["x_Department"] if is_named else who_is(texts, whom)
    values["billed"] = row["BillingPeriodStart"].isoformat()
    return list(values.values())


def _history(book: Book, texts: Texts, facts: Sequence[Fact]) -> Area:
    """Write rows of all months, summed to what the sheets tell apart."""
    sheet = book.sheet(texts("sheet.history"), texts("sheet.history"), [texts("sheet.all_months")])
    names = ("month", "tier", "department", "usage", "class", "eur", "tb", "kwh", "operational", "embodied")
    titles = (
        *("month", "ResourceName", "x_Department", "SkuMeter", "ChargeClass", "EffectiveCost", "x_BytesStored, TB"),
        *("x_EnergyKwhCentral", "x_OperationalGco2eCentral, kg", "x_EmbodiedGco2eCentral, kg"),
    )
    kinds = ["text"] * 5 + ["eur"] + ["plain"] * 4
    columns = [Column(title, kind, 16) for title, kind in zip(titles, kinds, strict=True)]
    lines: list[list[object]] = [
        [
            *(str(fact.month), fact.tier, who_is(texts, who(fact)), fact.meter),
            "Correction" if fact.is_correction else None,
            *(fact.eur, fact.bytes_stored / _TB, fact.kwh, fact.operational_g / _KG, fact.embodied_g / _KG),
        ]
        for fact in sorted((fact for fact in facts if not fact.is_tax), key=_order)
    ]
    return _area(sheet, columns, lines, names)


def _order(fact: Fact) -> tuple[str, ...]:
    return (str(fact.month), fact.tier, fact.department or "", fact.meter, str(fact.is_correction), fact.quality)


def _area(sheet: Sheet, columns: Sequence[Column], lines: Sequence[Sequence[object]], names: Sequence[str]) -> Area:
    first = sheet.table(columns, lines, freeze=True)
    return Area(sheet.name, first, max(first, first + len(lines) - 1), {name: n for n, name in enumerate(names)})
