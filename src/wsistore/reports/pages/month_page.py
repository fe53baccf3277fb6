"""A month's page: what it cost, what changed and why, what was saved against what, and where figures are from."""

from __future__ import annotations

from wsistore.reports.pages import document
from wsistore.reports.pages.content import Content
from wsistore.reports.pages.cost_section import cost_section, key_figures
from wsistore.reports.pages.naming import moment, state
from wsistore.reports.pages.other_sections import change_section, savings_section, sources_section, trust_section
from wsistore.reports.pages.texts import Texts

_PARTS = ("cost", "change", "savings", "trust", "sources")


def month_page(texts: Texts, content: Content, *, first_tier: str, zarr_ratio: float, draws: int) -> str:
    """Return the page as HTML, self-contained.

    Parameters
    ----------
    texts
        Of its language.
    content
        What it tells.
    first_tier
        The tier that slides are taken into.
    zarr_ratio
        Bytes of a Zarr store per byte of the vendor's file, central.
    draws
        That bands are made of.

    """
    month = texts.month(content.month)
    header = [
        document.heading(1, texts("page.heading", month=month)),
        document.paragraph(texts("page.sub", site=content.site, zone=content.month.zone), "sub"),
        *(document.notice(text, kind) for text, kind in state(texts, content)),
        key_figures(texts, content),
        document.navigation(texts("page.contents"), [(part, texts(f"nav.{part}")) for part in _PARTS]),
    ]
    body = [
        cost_section(texts, content),
        change_section(texts, content),
        savings_section(texts, content, first_tier, zarr_ratio),
        trust_section(texts, content, draws),
        sources_section(texts, content),
    ]
    footer = texts("page.footer", at=moment(content.created), method=content.method, focus=content.focus)
    title = texts("page.title", month=month, site=content.site)
    return document.page(
        texts.language, title, texts("page.skip"), "\n".join(header), "\n".join(body), document.paragraph(footer)
    )
