"""The parts of a page that say what changed, what was saved, how sure figures are, and where they are from."""

from __future__ import annotations

from wsistore.reports.pages import charts, document, queries
from wsistore.reports.pages.coefficients import shared
from wsistore.reports.pages.content import Content
from wsistore.reports.pages.document import Cell, Column
from wsistore.reports.pages.naming import who_is, why
from wsistore.reports.pages.texts import Texts
from wsistore.reports.samples import Band
from wsistore.reports.savings import Saving

_NUMBER_PLACES = 4
_TB = 1e12


def change_section(texts: Texts, content: Content) -> str:
    """Return what changed against the month before, and why."""
    title = texts("nav.change")
    if content.before is None or content.total.before is None or content.total.change is None:
        return document.section("change", title, [document.paragraph(texts("change.no_before"))])
    whole = content.total
    lead = texts(
        "change.lead",
        month=texts.month(content.month).capitalize(),
        before=texts.month(content.before),
        change=texts.money(whole.eur - (whole.before or 0), sign=True),
    )
    band = texts("change.band", band=texts.band(content.total.change, lambda euros: texts.rough(euros, sign=True)))
    parts = [document.paragraph(f"{lead} {band}")]
    if not content.changes:
        return document.section("change", title, [*parts, document.paragraph(texts("change.none"))])
    bars = [charts.Bar(f"{who_is(texts, one.who)} · {one.tier}", float(one.difference)) for one in content.changes]
    name, told = texts("change.largest"), texts("change.chart_told")
    drawn = charts.bars_across("changes", name, told, bars, lambda v: texts.rough(v, sign=True), signed=True)
    parts += [document.figure(drawn, name), _changes(texts, content)]
    if content.more_changes:
        parts.append(document.paragraph(texts("change.more", count=content.more_changes), "small"))
    parts.append(document.query(texts("page.rows_of"), queries.by_meter(content.before, content.month), "changes"))
    return document.section("change", title, parts)


def _changes(texts: Texts, content: Content) -> str:
    columns = [Column(texts("col.department")), Column(texts("col.tier"))]
    columns += [Column(texts(f"col.{name}"), True) for name in ("before", "now", "change")]
    columns += [Column(texts("col.why"), is_prose=True), Column(texts("col.carbon"), True)]
    rows: list[list[Cell | str]] = [
        [
            who_is(texts, one.who),
            one.tier,
            texts.money(one.before),
            texts.money(one.now),
            Cell(texts.money(one.difference, sign=True), one.difference),
            why(texts, one),
            texts.carbon(one.gco2e, sign=True),
        ]
        for one in content.changes
    ]
    return document.table(texts("change.largest"), columns, rows, is_titled=True)


# --- savings ----------------------------------------------------------------------------------------------------------


def savings_section(texts: Texts, content: Content, first: str, ratio: float) -> str:
    """Return what moves and folds saved.

    Parameters
    ----------
    texts
        Of the page's language.
    content
        Of the month.
    first
        The tier that slides are taken into.
    ratio
        Bytes of a Zarr store per byte of the vendor's file.

    """
    title = texts("nav.savings")
    if not content.savings:
        return document.section("savings", title, [document.paragraph(texts("savings.none"))])
    parts = [document.paragraph(texts("savings.lead"))]
    for one in content.savings:
        told = texts(f"savings.{one.against}_told", tier=first, ratio=texts.number(ratio, 1))
        parts += [document.heading(3, texts(f"savings.{one.against}")), document.paragraph(told)]
        parts += [_waterfall(texts, one), _kinds(texts, one)]
    notes = f"{texts('savings.band_note')} {texts('savings.actual_note')}"
    parts.append(document.paragraph(notes, "small"))
    return document.section("savings", title, parts)


def _waterfall(texts: Texts, one: Saving) -> str:
    steps = [charts.Bar(texts("savings.baseline"), one.baseline_eur.central, is_sum=True)]
    steps += [charts.Bar(texts(f"savings.{step.name}"), -step.eur.central) for step in one.steps]
    steps.append(charts.Bar(texts("savings.actual"), one.actual_eur.central, is_sum=True))
    title = f"{texts(f'savings.{one.against}')} – {texts('savings.chart')}"
    told = "; ".join(f"{step.name}: {texts.money(step.value)}" for step in steps)
    drawn = charts.waterfall(f"saving-{one.against}", title, told, steps, texts.rough)
    return document.figure(drawn, title)


def _kinds(texts: Texts, one: Saving) -> str:
    columns = [Column(texts("col.kind")), Column(texts("col.amount"), True), Column(texts("col.band"), True)]
    columns.append(Column(texts("col.meaning"), is_prose=True))
    key = f"saving/{one.against}"
    rows: list[list[Cell | str]] = [
        _kind(texts, "allocated", one.allocated_eur, f"{key}/allocated", texts("savings.allocated_told")),
        _kind(texts, "cash", one.cash_eur, f"{key}/cash", texts("savings.cash_told")),
        _purchase(texts, one, key),
        [
            texts("savings.carbon"),
            Cell(texts.carbon(one.allocated_gco2e.central), one.allocated_gco2e.central, f"{key}/gco2e"),
            texts.span(one.allocated_gco2e.low, one.allocated_gco2e.high, texts.carbon),
            "",
        ],
        [
            texts("savings.energy"),
            Cell(texts.energy(one.allocated_kwh.central), one.allocated_kwh.central, f"{key}/kwh"),
            texts.span(one.allocated_kwh.low, one.allocated_kwh.high, texts.energy),
            "",
        ],
    ]
    return document.table(texts(f"savings.{one.against}"), columns, rows, is_titled=True)


def _kind(texts: Texts, name: str, band: Band, key: str, told: str) -> list[Cell | str]:
    ends = texts.span(band.low, band.high, texts.rough)
    return [texts(f"savings.{name}"), Cell(texts.money(band.central), band.central, key), ends, told]


def _purchase(texts: Texts, one: Saving, key: str) -> list[Cell | str]:
    bought = one.purchase
    room = texts.bytes(bought.tb * _TB)
    if bought.eur is None or bought.beyond_tb is None or bought.installed_tb is None:
        told = texts("savings.purchase_unknown", tb=room) if bought.tb else texts("savings.purchase_none")
        return [texts("savings.purchase"), "–", "–", told]
    sizes = {"installed": texts.bytes(bought.installed_tb * _TB), "beyond": texts.bytes(bought.beyond_tb * _TB)}
    told = texts("savings.purchase_told", tb=room, **sizes)
    return _kind(texts, "purchase", bought.eur, f"{key}/purchase", told)


# --- trust and sources ------------------------------------------------------------------------------------------------


def trust_section(texts: Texts, content: Content, draws: int) -> str:
    """Return what figures are worth."""
    parts = [document.paragraph(texts("trust.lead", draws=texts.number(draws)))]
    whole = sum(content.quality.values())
    if content.quality and whole:
        columns = [Column(texts("col.quality")), Column(texts("col.cost"), True), Column(texts("col.share"), True)]
        rows: list[list[Cell | str]] = [
            [texts(f"trust.{name}"), Cell(texts.money(amount), amount), texts.percent(float(amount / whole), 0)]
            for name, amount in content.quality.items()
        ]
        parts.append(document.table(texts("trust.quality"), columns, rows))
    if content.unexplained:
        columns = [Column(texts("col.tier")), Column(texts("col.unexplained"), True)]
        rows = [[tier, Cell(texts.percent(part, 3), part)] for tier, part in sorted(content.unexplained.items())]
        parts.append(document.table(texts("trust.reconciled"), columns, rows))
    else:
        parts.append(document.paragraph(texts("trust.reconciled_none")))
    parts += [document.paragraph(texts("trust.market")), document.paragraph(texts("trust.missing"))]
    return document.section("trust", texts("nav.trust"), parts)


def sources_section(texts: Texts, content: Content) -> str:
    """Return prices and coefficients with their sources."""
    columns = [Column(texts("col.name")), Column(texts("col.tier"))]
    columns += [Column(texts(f"col.{name}"), True) for name in ("low", "central", "high")]
    columns += [Column(texts(f"col.{name}"), is_prose=name == "source") for name in ("unit", "mark", "source")]
    rows: list[list[Cell | str]] = [
        [
            f"{one.name} {one.year}" if one.year else one.name,
            ", ".join(tiers),
            *(short(texts, end) for end in (one.value.low, one.value.central, one.value.high)),
            one.unit,
            texts(f"mark.{one.value.mark}"),
            one.value.source,
        ]
        for one, tiers in shared(content.coefficients)
    ]
    parts = [document.paragraph(texts("sources.lead")), document.paragraph(texts("sources.files"))]
    if not rows:
        return document.section("sources", texts("nav.sources"), parts)
    parts.append(document.heading(3, texts("sources.coefficients")))
    parts.append(document.table(texts("sources.coefficients"), columns, rows, is_titled=True))
    return document.section("sources", texts("nav.sources"), parts)


def short(texts: Texts, value: float) -> str:
    """Return a coefficient with as many places as it has, four at most."""
    text = f"{value:.{_NUMBER_PLACES}f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.0f}"
    if value and text in ("0", ""):
        text = f"{value:.2g}"
        return text.replace(".", str(texts.words["format"]["decimal"]))
    places = len(text.partition(".")[2])
    return texts.number(value, places)
