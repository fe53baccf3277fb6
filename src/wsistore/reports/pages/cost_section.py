"""The part of a page that says what it cost: key figures, tiers, departments, months, invoices, corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from wsistore.reports.focus import to_cents
from wsistore.reports.pages import charts, document, queries
from wsistore.reports.pages.content import Content, Item, Point
from wsistore.reports.pages.document import Cell, Column
from wsistore.reports.pages.naming import item_key, item_name, meter_name
from wsistore.reports.pages.texts import Texts

_BARS = 15
_LITTLE = 1
"""EUR: below, cents tell nothing."""
_SERIES = 8


def key_figures(texts: Texts, content: Content) -> str:
    """Return the figures that people look for first."""
    whole, kept = content.total, content.kept
    found = [
        document.card(
            texts("key.cost"),
            document.data(_amount(texts, content, whole), whole.eur, "total/eur"),
            [texts("key.band", band=texts.band(whole.eur_band, texts.rough)), _change(texts, content)],
        )
    ]
    if whole.tax:
        found.append(document.card(texts("key.tax"), document.data(texts.money(whole.tax), whole.tax, "total/tax"), []))
    parts = texts(
        "key.carbon_parts",
        operational=texts.carbon(whole.operational_g.central),
        embodied=texts.carbon(whole.embodied_g.central),
    )
    carbon = document.data(texts.carbon(whole.gco2e.central), whole.gco2e.central, "total/gco2e")
    band = texts("key.band", band=texts.band(whole.gco2e, texts.carbon))
    found.append(document.card(texts("key.carbon"), carbon, [band, parts]))
    energy = document.data(texts.energy(whole.kwh.central), whole.kwh.central, "total/kwh")
    found.append(
        document.card(texts("key.energy"), energy, [texts("key.band", band=texts.band(whole.kwh, texts.energy))])
    )
    stored = document.data(texts.bytes(whole.bytes_stored), whole.bytes_stored, "total/bytes")
    logical = texts("key.logical", logical=texts.bytes(kept.bytes_logical))
    found.append(document.card(texts("key.stored"), stored, [logical]))
    notes = []
    if content.sci is not None:
        score = texts.carbon(content.sci.central)
        notes.append(texts("key.sci_is", score=score, band=texts.band(content.sci, texts.carbon)))
    slides = document.data(texts.number(kept.slides, 0 if kept.slides >= 100 else 1), kept.slides, "total/slides")
    found.append(document.card(texts("key.slides"), slides, notes))
    return document.cards(found)


def _change(texts: Texts, content: Content) -> str:
    if content.before is None or content.total.before is None:
        return texts("key.none_before")
    change = texts.money(content.total.eur - content.total.before, sign=True)
    return texts("key.change", change=change, month=texts.month(content.before))


def cost_section(texts: Texts, content: Content) -> str:
    """Return tiers, departments, months."""
    if not content.tiers:
        return document.section("cost", texts("nav.cost"), [document.paragraph(texts("page.no_rows"))])
    parts = [document.paragraph(texts("cost.lead")), document.heading(3, texts("cost.by_tier")), _tiers(texts, content)]
    rows_of = texts("page.rows_of")
    parts.append(document.query(rows_of, queries.by_tier(content.month), "tiers"))
    parts.append(document.heading(3, texts("cost.by_department")))
    parts += [_department_chart(texts, content), _departments(texts, content)]
    parts.append(document.query(rows_of, queries.by_department(content.month), "departments"))
    parts.append(document.heading(3, texts("cost.over_time")))
    parts += _months(texts, content)
    first = content.points[0].month
    parts.append(document.query(rows_of, queries.by_month(first, content.month), "months"))
    parts += [*_invoices(texts, content), *_corrections(texts, content)]
    return document.section("cost", texts("nav.cost"), parts)


# --- tiers and departments --------------------------------------------------------------------------------------------


def _columns(texts: Texts, first: str, *, has_tax: bool, has_before: bool) -> list[Column]:
    names = [("stored", True), ("cost", True), *([("tax", True)] if has_tax else [])]
    names += [("change", True)] if has_before else []
    names += [("energy", True), ("carbon", True)]
    return [Column(texts(f"col.{first}")), *(Column(texts(f"col.{name}"), figure) for name, figure in names)]


def _amount(texts: Texts, content: Content, item: Item) -> str:
    """Return what an item cost, in cents that add up; of a site that costs next to nothing, more of it."""
    return texts.rough(float(item.eur)) if content.total.eur < _LITTLE else texts.cents(item.cents)


def _row(texts: Texts, content: Content, item: Item, kind: str, name: Cell | str) -> list[Cell | str]:
    has_tax = bool(content.total.tax)
    key = f"{kind}/{item_key(item)}" if kind != "total" else "sum"
    row: list[Cell | str] = [name, Cell(texts.bytes(item.bytes_stored), item.bytes_stored, f"{key}/bytes")]
    band = texts.span(item.eur_band.low, item.eur_band.high, texts.rough)
    row.append(Cell(_amount(texts, content, item), item.eur, f"{key}/eur", band))
    if has_tax:
        row.append(Cell(texts.money(item.tax), item.tax, f"{key}/tax"))
    if item.before is not None:
        row.append(Cell(texts.money(item.eur - item.before, sign=True), item.eur - item.before, f"{key}/change"))
    row.append(Cell(texts.energy(item.kwh.central), item.kwh.central, f"{key}/kwh"))
    carbon = texts.span(item.gco2e.low, item.gco2e.high, texts.carbon)
    row.append(Cell(texts.carbon(item.gco2e.central), item.gco2e.central, f"{key}/gco2e", carbon))
    return row


def _tiers(texts: Texts, content: Content) -> str:
    rows = []
    for item in content.tiers:
        title, provider = content.providers.get(str(item.key), ("", ""))
        name = Cell(str(item.key), note=f"{title} ({provider or texts('who.own')})")
        rows.append(_row(texts, content, item, "tier", name))
    return _items_table(texts, content, "tier", texts("cost.by_tier"), rows)


def _departments(texts: Texts, content: Content) -> str:
    rows = [_row(texts, content, item, "department", Cell(item_name(texts, item))) for item in content.departments]
    return _items_table(texts, content, "department", texts("cost.by_department"), rows)


def _items_table(texts: Texts, content: Content, first: str, caption: str, rows: Sequence[list[Cell | str]]) -> str:
    has_tax = bool(content.total.tax)
    columns = _columns(texts, first, has_tax=has_tax, has_before=content.before is not None)
    foot = _row(texts, content, content.total, "total", texts("col.total"))
    return document.table(caption, columns, rows, foot=foot, is_titled=True)


def _department_chart(texts: Texts, content: Content) -> str:
    found = [item for item in content.departments if item.eur]
    if len(found) < 2:
        return ""
    bars = [
        charts.Bar(item_name(texts, item), float(item.eur), item.eur_band.low, item.eur_band.high)
        for item in found[:_BARS]
    ]
    if len(found) > _BARS:
        rest = sum((item.eur for item in found[_BARS:]), Decimal(0))
        bars.append(charts.Bar(texts("cost.others", count=len(found) - _BARS), float(rest)))
    told = texts("cost.chart_department_told", count=len(found), name=bars[0].name, amount=texts.cents(found[0].cents))
    title = texts("cost.chart_department")
    return document.figure(charts.bars_across("departments", title, told, bars, texts.rough), title)


# --- months -----------------------------------------------------------------------------------------------------------


def _months(texts: Texts, content: Content) -> list[str]:
    points = content.points
    labels = [
        texts.short_month(point.month, year=place == 0 or point.month.number == 1 or place + 1 == len(points))
        for place, point in enumerate(points)
    ]
    parts = []
    if len(points) > 1:
        parts = [_time_chart(texts, content, labels), _carbon_chart(texts, content, labels)]
    columns = [Column(texts("col.month")), Column(texts("col.stored"), True), Column(texts("col.cost"), True)]
    columns += [Column(texts(f"col.{name}"), True) for name in ("operational", "embodied", "carbon")]
    rows = [_month_row(texts, point) for point in reversed(points)]
    parts.append(document.table(texts("cost.over_time"), columns, rows, is_titled=True))
    parts.append(document.paragraph(texts("cost.months_note"), "small"))
    return parts


def _month_row(texts: Texts, point: Point) -> list[Cell | str]:
    key = f"month/{point.month}"
    note = texts("cost.corrected") if point.is_corrected else ""
    carbon = texts.span(point.gco2e.low, point.gco2e.high, texts.carbon)
    return [
        Cell(texts.month(point.month), note=note),
        Cell(texts.bytes(point.bytes_stored), point.bytes_stored, f"{key}/bytes"),
        Cell(
            texts.money(point.eur),
            point.eur,
            f"{key}/eur",
            texts.span(point.eur_band.low, point.eur_band.high, texts.rough),
        ),
        Cell(texts.carbon(point.operational_g), point.operational_g, f"{key}/operational"),
        Cell(texts.carbon(point.embodied_g), point.embodied_g, f"{key}/embodied"),
        Cell(texts.carbon(point.gco2e.central), point.gco2e.central, f"{key}/gco2e", carbon),
    ]


def _time_chart(texts: Texts, content: Content, labels: Sequence[str]) -> str:
    points = content.points
    sums: dict[str, Decimal] = {}
    for point in points:
        for tier, amount in point.tiers.items():
            sums[tier] = sums.get(tier, Decimal(0)) + amount
    names = sorted(sums, key=lambda name: (-sums[name], name))
    shown, others = names[:_SERIES], names[_SERIES:]
    series = [charts.Series(name, [float(point.tiers.get(name, 0)) for point in points]) for name in shown]
    if others:
        rest = [float(sum((point.tiers.get(name, Decimal(0)) for name in others), Decimal(0))) for point in points]
        series[-1:] = [series[-1], charts.Series(texts("cost.others", count=len(others)), rest)]
    last = points[-1]
    told = texts(
        "cost.chart_time_told",
        count=len(points),
        first=texts.month(points[0].month),
        last=texts.month(last.month),
        month=texts.month(last.month),
        amount=texts.money(last.eur),
        band=texts.band(last.eur_band, texts.rough),
    )
    bands = [(point.eur_band.low, point.eur_band.high) for point in points]
    title, place = texts("cost.chart_time"), len(points) - 1
    drawn = charts.stacked_bars("time", title, told, labels, series, texts.rough, bands=bands, marked=place)
    return document.figure(drawn, title)


def _carbon_chart(texts: Texts, content: Content, labels: Sequence[str]) -> str:
    points = content.points
    series = [
        charts.Series(texts("col.operational"), [point.operational_g for point in points]),
        charts.Series(texts("col.embodied"), [point.embodied_g for point in points]),
    ]
    bands = [(point.gco2e.low, point.gco2e.high) for point in points]
    title, place = texts("cost.chart_carbon"), len(points) - 1
    told = f"{title}. {texts('page.chart_table')}"
    how: Callable[[float], str] = texts.carbon
    drawn = charts.stacked_bars("carbon", title, told, labels, series, how, bands=bands, marked=place)
    return document.figure(drawn, title)


# --- invoices and corrections -----------------------------------------------------------------------------------------


def _invoices(texts: Texts, content: Content) -> list[str]:
    parts = [document.heading(3, texts("cost.invoices")), document.paragraph(texts("cost.invoices_lead"))]
    if not content.compared:
        return [*parts, document.paragraph(texts("cost.no_invoices"))]
    columns = [Column(texts("col.issuer")), Column(texts("col.tier")), Column(texts("col.usage"))]
    columns += [Column(texts(f"col.{name}"), True) for name in ("invoiced", "modelled", "change", "alert")]
    rows: list[list[Cell | str]] = []
    for one in content.compared:
        less = one.invoiced - one.modelled
        part = texts.percent(float(less / one.modelled), sign=True) if one.modelled else ""
        rows.append(
            [
                one.issuer or "–",
                one.tier or "–",
                meter_name(texts, one.meter) if one.meter else "–",
                Cell(texts.money(one.invoiced), one.invoiced, f"invoiced/{one.tier}/{one.meter}"),
                texts.money(one.modelled),
                Cell(texts.money(less, sign=True), note=part),
                "!" if one.is_alert else "",
            ]
        )
    return [*parts, document.table(texts("cost.invoices"), columns, rows, is_titled=True)]


def _corrections(texts: Texts, content: Content) -> list[str]:
    if not content.corrections:
        return []
    columns = [Column(texts("col.booked_for")), Column(texts("col.tier")), Column(texts("col.cost"), True)]
    cents = to_cents([one.eur for one in content.corrections])
    rows: list[list[Cell | str]] = [
        [texts.month(one.month), one.tier, Cell(texts.money(Decimal(amount) / 100, sign=True), one.eur)]
        for one, amount in zip(content.corrections, cents, strict=True)
    ]
    title = texts("cost.corrections")
    lead = document.paragraph(texts("cost.corrections_lead"))
    return [document.heading(3, title), lead, document.table(title, columns, rows, is_titled=True)]
