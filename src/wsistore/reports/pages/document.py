"""One self-contained page of HTML: its frame and style, and the parts that pages are made of.

No script, no font, no picture from elsewhere: the page works offline and looks the same in ten years. What is given as
`markup` is HTML already; everything else is text, and is escaped here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_SIGN = re.compile("([+\u2212])(€)")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table: text, and if it is a figure the figure itself, for programs that read the page."""

    text: str
    value: object = None
    figure: str = ""
    """What figure it is, such as ``tier/hot/eur``; with `value`."""
    note: str = ""
    """Smaller, beneath."""

    def markup(self) -> str:
        """Return it as HTML."""
        note = f'<small class="note">{escape(self.note)}</small>' if self.note else ""
        return data(self.text, self.value, self.figure) + note


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; figures stand to the right."""

    title: str
    is_figure: bool = False
    is_prose: bool = False
    """Sentences: it is wide, also where the table has to be scrolled."""

    @property
    def kind(self) -> str:
        """Class of its cells."""
        return "figure" if self.is_figure else ("prose" if self.is_prose else "")


def data(text: str, value: object = None, figure: str = "") -> str:
    """Return a figure as HTML's ``data``, whose value is exact; plain text without a value."""
    if value is None:
        return escape(text)
    name = f' data-figure="{escape(figure)}"' if figure else ""
    return f'<data value="{escape(str(value))}"{name}>{escape(text)}</data>'


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph."""
    return f"<p{_class(kind)}>{_safe(text)}</p>"


def heading(level: int, text: str, key: str = "") -> str:
    """Return a heading."""
    name = f' id="{escape(key)}"' if key else ""
    return f"<h{level}{name}>{escape(text)}</h{level}>"


def section(key: str, title: str, parts: Iterable[str]) -> str:
    """Return a section with its heading."""
    body = "\n".join(part for part in parts if part)
    return f'<section aria-labelledby="{escape(key)}">\n{heading(2, title, key)}\n{body}\n</section>'


def figure(chart: str, caption: str) -> str:
    """Return a chart (markup) with its caption; on a narrow screen it scrolls sideways."""
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><div class="wide" tabindex="0" role="region" '
        f'aria-label="{escape(caption)}"><div class="chart">{chart}</div></div></figure>'
    )


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell | str]],
    *,
    foot: Sequence[Cell | str] = (),
    is_titled: bool = False,
) -> str:
    """Return a table whose first column heads its rows; on a narrow screen it scrolls sideways.

    The caption is for screen readers alone where `is_titled` says that a heading above has the same words.
    """
    head = "".join(f'<th scope="col"{_class(one.kind)}>{escape(one.title)}</th>' for one in columns)
    body = "\n".join(_row(columns, row) for row in rows)
    last = f"<tfoot>{_row(columns, foot)}</tfoot>" if foot else ""
    name = f"<caption{_class('unseen' if is_titled else '')}>{escape(caption)}</caption>"
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table>{name}'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>{last}</table></div>"
    )


def _row(columns: Sequence[Column], row: Sequence[Cell | str]) -> str:
    cells = []
    for place, (column, cell) in enumerate(zip(columns, row, strict=True)):
        inner = cell.markup() if isinstance(cell, Cell) else _safe(cell)
        kind = _class(column.kind)
        cells.append(f'<th scope="row"{kind}>{inner}</th>' if place == 0 else f"<td{kind}>{inner}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def card(title: str, value: str, notes: Sequence[str]) -> str:
    """Return a key figure; `value` is markup."""
    small = "".join(f"<p>{_safe(note)}</p>" for note in notes if note)
    return f'<div class="card"><h3>{escape(title)}</h3><p class="value">{value}</p>{small}</div>'


def cards(found: Iterable[str]) -> str:
    """Return key figures beside each other."""
    return f'<div class="cards">{"".join(found)}</div>'


def query(title: str, sql: str, key: str) -> str:
    """Return a query behind figures, folded away on the screen."""
    return (
        f'<details class="query"><summary>{escape(title)}</summary>'
        f'<pre data-query="{escape(key)}"><code>{escape(sql)}</code></pre></details>'
    )


def notice(text: str, kind: str = "") -> str:
    """Return a sentence that must not be overlooked."""
    return f'<p class="notice{" " + escape(kind) if kind else ""}" role="note">{escape(text)}</p>'


def navigation(label: str, links: Sequence[tuple[str, str]]) -> str:
    """Return links within the page: key and title."""
    items = "".join(f'<li><a href="#{escape(key)}">{escape(title)}</a></li>' for key, title in links)
    return f'<nav aria-label="{escape(label)}"><ol>{items}</ol></nav>'


def page(language: str, title: str, skip: str, header: str, body: str, footer: str) -> str:
    """Return the whole page.

    Parameters
    ----------
    language
        Code of its language.
    title
        In the browser's tab.
    skip
        Words of the link that leads past the header.
    header, body, footer
        Markup.

    """
    style = (resources.files("wsistore.reports.pages") / "words" / "page.css").read_text("utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="{escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing is loaded from anywhere, not even by what might be smuggled into a name.
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n<body>\n'
        f'<a class="skip" href="#main">{escape(skip)}</a>\n<header>\n{header}\n</header>\n<main id="main">\n{body}\n'
        f"</main>\n<footer>\n{footer}\n</footer>\n</body>\n</html>\n"
    )


def _safe(text: str) -> str:
    """Return text as HTML; a sign stays with its amount."""
    return escape(_SIGN.sub("\\1\u2060\\2", text))


def _class(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""
