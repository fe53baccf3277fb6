"""Sheets of figures: summary, tiers, departments, months. Sums are formulas; bands cannot be summed, and are not."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from wsistore.reports.pages.book import Area, Column, Formula, Sheet, cell, quoted, sum_of
from wsistore.reports.pages.charts import COLOURS
from wsistore.reports.pages.content import Content, Item
from wsistore.reports.pages.naming import item_name
from wsistore.reports.pages.texts import Texts

_KG, _TB = 1000.0, 1e12
_BAND_PLACES = (3, 4, 10, 11)


class Sums:
    """Where the sums of a sheet of items stand."""

    def __init__(self, sheet: str, row: int, columns: dict[str, int]) -> None:
        self.sheet, self.row, self.columns = sheet, row, columns

    def cell(self, column: str) -> str:
        """Return a sum as formulas name it."""
        return f"{quoted(self.sheet)}!{cell(self.row, self.columns[column])}"


def tier_sheet(sheet: Sheet, texts: Texts, content: Content, rows: Area, history: Area) -> Sums:
    """Write what each tier cost."""
    return _items(sheet, texts, content, "tier", content.tiers, rows, history)


def department_sheet(sheet: Sheet, texts: Texts, content: Content, rows: Area, history: Area) -> Sums:
    """Write what each department cost."""
    return _items(sheet, texts, content, "department", content.departments, rows, history)


def _items(
    sheet: Sheet, texts: Texts, content: Content, kind: str, items: Sequence[Item], rows: Area, history: Area
) -> Sums:
    names = ("name", "tb", "eur", "low", "high", "tax", "kwh", "operational", "embodied", "gco2e", "glow", "ghigh")
    titles = (
        *(texts(f"col.{kind}"), f"{texts('col.stored')}, TB", texts("col.cost_eur")),
        *(f"{texts('col.low')}, €", f"{texts('col.high')}, €", f"{texts('col.tax')}, €", f"{texts('col.energy')}, kWh"),
        *(f"{texts(f'col.{name}')}, kg CO₂e" for name in ("operational", "embodied", "carbon", "low", "high")),
        *(f"{texts('col.before')}, €", f"{texts('col.change')}, €"),
    )
    kinds = ["text", "figure", "eur", "eur", "eur", "eur", *["figure"] * 6, "eur", "eur_sign"]
    columns = [Column(t, k, 30 if n == 0 else 14) for n, (t, k) in enumerate(zip(titles, kinds, strict=True))]
    start = sheet.row + 1
    lines = [_line(texts, content, kind, item, start + n, rows, history) for n, item in enumerate(items)]
    last = start + len(lines) - 1
    whole = content.total
    sums = [sum_of(start, last, place, sum(_value(line[place]) for line in lines)) for place in range(1, 14)]
    foot: list[Any] = [texts("col.total"), *sums]
    bands = (whole.eur_band.low, whole.eur_band.high, whole.gco2e.low / _KG, whole.gco2e.high / _KG)
    for place, value in zip(_BAND_PLACES, bands, strict=True):
        foot[place] = value
    if content.before is None:
        foot[12:] = ["", ""]
    sheet.table(columns, lines, foot=foot)
    return Sums(sheet.name, last + 1, {name: n for n, name in enumerate((*names, "before", "change"))})


def _line(texts: Texts, content: Content, kind: str, item: Item, row: int, rows: Area, history: Area) -> list[Any]:
    name = f"$A{row + 1}"

    def summed(column: str, value: float | Decimal, category: str = "Usage") -> Formula:
        return rows.sum_where(column, float(value), **{kind: name, "category": f'"{category}"'})

    use, made = (
        summed("operational", item.operational_g.central / _KG),
        summed("embodied", item.embodied_g.central / _KG),
    )
    line: list[Any] = [item_name(texts, item), summed("tb", item.bytes_stored / _TB), summed("eur", item.eur)]
    line += [item.eur_band.low, item.eur_band.high, summed("eur", item.tax, "Tax")]
    line += [summed("kwh", item.kwh.central), use, made]
    line += [Formula(f"={cell(row, 7)}+{cell(row, 8)}", use.value + made.value)]
    line += [item.gco2e.low / _KG, item.gco2e.high / _KG]
    if content.before is None or item.before is None:
        return [*line, "", ""]
    before = history.sum_where("eur", float(item.before), month=f'"{content.before}"', **{kind: name})
    return [*line, before, Formula(f"={cell(row, 2)}-{cell(row, 12)}", float(item.eur - item.before))]


def _value(one: object) -> float:
    if isinstance(one, Formula):
        return one.value
    return float(one) if isinstance(one, int | float | Decimal) else 0.0


# --- months -----------------------------------------------------------------------------------------------------------


def month_sheet(sheet: Sheet, texts: Texts, content: Content, history: Area) -> None:
    """Write what each month cost, by tier, with a chart."""
    tiers = sorted({tier for point in content.points for tier in point.tiers})
    titles = [texts("col.month"), f"{texts('col.stored')}, TB", texts("col.cost_eur")]
    titles += [f"{texts(f'col.{name}')}, €" for name in ("low", "high")]
    titles += [f"{texts(f'col.{name}')}, kg CO₂e" for name in ("operational", "embodied")]
    kinds = ["text", "figure", "eur", "eur", "eur", "figure", "figure", *["eur"] * len(tiers)]
    columns = [Column(t, k, 14) for t, k in zip([*titles, *(f"{t}, €" for t in tiers)], kinds, strict=True)]
    start = sheet.row + 1
    head = sheet.row
    lines: list[list[Any]] = []
    for number, point in enumerate(content.points):
        name = f"$A{start + number + 1}"

        def summed(column: str, value: float, month: str = name, **equal: str) -> Formula:
            return history.sum_where(column, value, month=month, **equal)

        line: list[Any] = [str(point.month), summed("tb", point.bytes_stored / _TB), summed("eur", float(point.eur))]
        line += [point.eur_band.low, point.eur_band.high]
        line += [summed("operational", point.operational_g / _KG), summed("embodied", point.embodied_g / _KG)]
        line += [
            summed("eur", float(point.tiers.get(t, 0)), tier=f'"{t.replace(chr(34), chr(34) * 2)}"') for t in tiers
        ]
        lines.append(line)
    sheet.table(columns, lines)
    _chart(sheet, texts("cost.chart_time"), head, start, len(lines), len(tiers))


def _chart(sheet: Sheet, title: str, head: int, start: int, count: int, tiers: int) -> None:
    if count < 2 or not tiers:
        return
    chart = sheet.book.book.add_chart({"type": "column", "subtype": "stacked"})
    for place in range(7, 7 + tiers):
        chart.add_series(
            {
                "name": [sheet.name, head, place],
                "categories": [sheet.name, start, 0, start + count - 1, 0],
                "values": [sheet.name, start, place, start + count - 1, place],
                "fill": {"color": COLOURS[(place - 7) % len(COLOURS)]},
            }
        )
    chart.set_title({"name": title, "name_font": {"size": 12}})
    chart.set_y_axis({"num_format": "#,##0 €", "major_gridlines": {"visible": True, "line": {"color": "#d5dbe1"}}})
    chart.set_legend({"position": "bottom"})
    chart.set_size({"width": 900, "height": 320})
    sheet.sheet.insert_chart(sheet.row + 1, 0, chart)


# --- summary ----------------------------------------------------------------------------------------------------------


def summary(sheet: Sheet, texts: Texts, content: Content, tiers: Sums, departments: Sums) -> None:
    """Write the figures that people look for first; each says where it is from."""
    whole, kept = content.total, content.kept

    def of(column: str, value: float | Decimal) -> Formula:
        return Formula(f"={tiers.cell(column)}", float(value))

    columns = [Column(texts("col.name"), "text", 38), Column(texts("col.central"), "eur", 16)]
    columns += [Column(texts(f"col.{name}"), "eur", 16) for name in ("low", "high")] + [Column(texts("col.unit"))]
    columns += [Column(texts("col.source"), "text", 24)]
    where = texts("sheet.tiers")
    grams = whole.gco2e
    rows: list[list[Any]] = [
        [texts("key.cost"), of("eur", whole.eur), whole.eur_band.low, whole.eur_band.high, "€", where],
        [texts("key.tax"), of("tax", whole.tax), "", "", "€", where],
        [texts("key.carbon"), of("gco2e", grams.central / _KG), grams.low / _KG, grams.high / _KG, "kg CO₂e", where],
        [texts("key.energy"), of("kwh", whole.kwh.central), whole.kwh.low, whole.kwh.high, "kWh", where],
        [texts("key.stored"), of("tb", whole.bytes_stored / _TB), "", "", "TB", where],
        [texts("key.slides"), kept.slides, "", "", "", "inventory/, events/"],
    ]
    if content.sci is not None:
        rows.append([texts("key.sci"), content.sci.central, content.sci.low, content.sci.high, "g CO₂e", "SCI"])
    if content.before is not None and whole.before is not None and whole.change is not None:
        name = f"{texts('col.change')}: {texts.month(content.month)} – {texts.month(content.before)}"
        ends = [whole.change.low, whole.change.high]
        rows.append([name, of("change", whole.eur - whole.before), *ends, "€", where])
    check = Formula(f"=ROUND({tiers.cell('eur')}-{departments.cell('eur')},6)", 0.0)
    rows.append([texts("sheet.check"), check, "", "", "€", texts("sheet.departments")])
    sheet.table(columns, rows)
