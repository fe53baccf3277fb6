"""What the demonstration's own slides have cost so far: a page, a workbook and Parquet, metered from their events."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from rich import box
from rich.table import Table

from wsistore import ops
from wsistore.ops.pages_of_month import Pages, report_pages
from wsistore.reports.pages.content import Item
from wsistore.reports.pages.naming import item_name
from wsistore.reports.pages.texts import Texts, texts_of


def month(home: Path, out: Path) -> tuple[list[Table | str], bool]:
    """Report the current month of a site.

    Parameters
    ----------
    home
        The site.
    out
        Folder of the report, which stays.

    Returns
    -------
    list
        What is to be shown.
    bool
        Whether departments add up to the total, and what lies on the tiers is what was metered.

    """
    with ops.open_site(home, actor="demo") as site:
        made = ops.report(site, f"{site.clock.now():%Y-%m}", out)
        french, english = (report_pages(site, made.month, out, language=language) for language in ("fr", "en"))
    whole = english.content
    adds_up = sum((item.eur for item in whole.departments), Decimal(0)) == whole.total.eur
    return _told(english, french.html), adds_up and all(one.is_good for one in made.reconciled)


def _told(shown: Pages, french: Path) -> list[Table | str]:
    texts, whole = texts_of("en"), shown.content.total
    title = "What keeping these slides has cost so far this month, in money and in carbon"
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("")
    for name in ("stored on average", "cost", "its band", "carbon"):
        table.add_column(name, justify="right", no_wrap=True)
    for items in (shown.content.tiers, shown.content.departments):
        for item in items:
            table.add_row(item_name(texts, item), *_cells(texts, item))
        table.add_section()
    table.add_row("all", *_cells(texts, whole), style="bold")
    lines: list[Table | str] = [table]
    lines += [f"Changed: {who}, {tier}: {why}" for who, tier, _, why in shown.changes()]
    lines += [f"{sentence[0].upper()}{sentence[1:]}." for sentence in shown.savings()]
    lines.append("Little is kept here, and not for long: docs/images/report-en.png shows the month of a hospital.")
    lines.append(f"The report: [bold]{shown.html}[/]")
    lines.append(f"in French: {french}; workbooks and Parquet are beside them.")
    return lines


def _cells(texts: Texts, item: Item) -> tuple[str, ...]:
    band = f"{texts.rough(item.eur_band.low)} – {texts.rough(item.eur_band.high)}"
    return texts.bytes(item.bytes_stored), texts.rough(float(item.eur)), band, texts.carbon(item.gco2e.central)
