"""A workbook in the making: its formats, and tables whose sums are formulas with the values that they come out at.

Programs that do not calculate (viewers, scripts) see the values; those that do come to the same. Sums compare names
letter by letter (``EXACT``): in a criterion of ``SUMIFS`` a department called ``<B>`` would be a comparison, and ``A*``
a pattern.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import xlsxwriter
from xlsxwriter.utility import xl_col_to_name, xl_rowcol_to_cell

_TINT = "#e8edf1"
_HEAD_HEIGHT = 28
"""Of two lines, in points."""
_FORMATS: Mapping[str, Mapping[str, Any]] = {
    "title": {"bold": True, "font_size": 16},
    "note": {"font_color": "#52606d", "text_wrap": False},
    "head": {"bold": True, "bg_color": _TINT, "bottom": 1, "text_wrap": True, "valign": "top"},
    "head_figure": {"bold": True, "bg_color": _TINT, "bottom": 1, "text_wrap": True, "valign": "top", "align": "right"},
    "text": {"valign": "top"},
    "wrap": {"valign": "top", "text_wrap": True},
    "bold": {"bold": True, "top": 1},
    "eur": {"num_format": "#,##0.00"},
    "eur_bold": {"num_format": "#,##0.00", "bold": True, "top": 1},
    "eur_sign": {"num_format": "+#,##0.00;-#,##0.00;0.00"},
    "eur_sign_bold": {"num_format": "+#,##0.00;-#,##0.00;0.00", "bold": True, "top": 1},
    "figure": {"num_format": "#,##0.000"},
    "figure_bold": {"num_format": "#,##0.000", "bold": True, "top": 1},
    "plain": {"num_format": "General"},
    "percent": {"num_format": "0.0%"},
    "whole": {"num_format": "#,##0.0"},
}


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula, and what it comes out at."""

    text: str
    value: float


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, the name of its format, and its width in letters."""

    title: str
    kind: str = "text"
    width: float = 14


class Book:
    """Writes sheets.

    Parameters
    ----------
    title
        Of the workbook, for its properties.
    created
        When its figures were made: the same report is the same bytes.

    """

    def __init__(self, title: str, created: datetime) -> None:
        self._buffer = io.BytesIO()
        self.book = xlsxwriter.Workbook(self._buffer, {"in_memory": True})
        moment = created.astimezone(UTC).replace(tzinfo=None, microsecond=0)
        self.book.set_properties({"title": title, "author": "wsistore", "created": moment})
        self.formats = {name: self.book.add_format({"font_name": "Arial", "font_size": 10, **dict(one)})
                        for name, one in _FORMATS.items()}  # fmt: skip

    def sheet(self, name: str, title: str, notes: Sequence[str] = ()) -> Sheet:
        """Return a new sheet with its title and notes."""
        return Sheet(self, name, title, notes)

    def done(self) -> bytes:
        """Return the workbook."""
        self.book.close()
        return self._buffer.getvalue()


class Sheet:
    """One sheet: a title, notes, and tables below each other."""

    def __init__(self, book: Book, name: str, title: str, notes: Sequence[str]) -> None:
        self.book, self.name = book, name
        self.sheet = book.book.add_worksheet(name)
        self.sheet.hide_gridlines(2)
        self.sheet.set_landscape()
        self.sheet.set_paper(9)
        self.sheet.fit_to_pages(1, 0)
        self.row = 0
        self.write(0, 0, title, "title")
        for place, note in enumerate(notes, 1):
            self.write(place, 0, note, "note")
        self.row = len(notes) + 2

    def write(self, row: int, column: int, value: object, kind: str) -> None:
        """Write one cell; a text is never taken for a formula."""
        style = self.book.formats[kind]
        if isinstance(value, Formula):
            self.sheet.write_formula(row, column, value.text, style, value.value)
        elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            self.sheet.write_number(row, column, float(value), style)
        elif value is None or value == "":
            self.sheet.write_blank(row, column, None, style)
        else:
            self.sheet.write_string(row, column, clean(str(value)), style)

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[object]],
        *,
        foot: Sequence[object] = (),
        freeze: bool = False,
    ) -> int:
        """Write a table at the next free row; return the row of its first line of figures, from 0."""
        for place, column in enumerate(columns):
            is_text = column.kind in ("text", "wrap")
            self.write(self.row, place, column.title, "head" if is_text else "head_figure")
            self.sheet.set_column(place, place, column.width)
        self.sheet.set_row(self.row, _HEAD_HEIGHT)
        first = self.row + 1
        if freeze:
            self.sheet.freeze_panes(first, 1)
            self.sheet.repeat_rows(self.row)
            self.sheet.autofilter(self.row, 0, max(first, self.row + len(rows)), len(columns) - 1)
        for number, row in enumerate(rows):
            for place, (column, value) in enumerate(zip(columns, row, strict=True)):
                self.write(first + number, place, value, column.kind)
        self.row = first + len(rows)
        for place, value in enumerate(foot):
            kind = f"{columns[place].kind}_bold"
            self.write(self.row, place, value, kind if kind in _FORMATS else "bold")
        self.row += 2 + bool(foot)
        return first


@dataclass(frozen=True, slots=True)
class Area:
    """Lines of figures of a sheet that formulas speak of."""

    sheet: str
    first: int
    last: int
    """Both from 0, both included."""
    columns: Mapping[str, int]

    def span(self, column: str) -> str:
        """Return a column of it, as formulas name it."""
        letter = xl_col_to_name(self.columns[column], col_abs=True)
        return f"{quoted(self.sheet)}!{letter}${self.first + 1}:{letter}${self.last + 1}"

    def sum_where(self, column: str, value: float, **equal: str) -> Formula:
        """Return the sum of a column over lines where other columns are what cells or quoted texts say.

        Parameters
        ----------
        column
            Which is summed.
        value
            What it comes out at.
        equal
            By column: a cell such as ``$A5``, or a text in double quotes.

        """
        terms = [f"EXACT({self.span(name)},{wanted})" for name, wanted in equal.items()]
        return Formula(f"=SUMPRODUCT({'*'.join([*terms, self.span(column)])})", value)


def sum_of(first: int, last: int, column: int, value: float) -> Formula:
    """Return the sum of a column of the same sheet; rows from 0, both included."""
    if last < first:
        return Formula("=0", 0.0)
    return Formula(f"=SUM({cell(first, column)}:{cell(last, column)})", value)


def cell(row: int, column: int) -> str:
    """Return the name of a cell; both from 0."""
    return str(xl_rowcol_to_cell(row, column))


def quoted(sheet: str) -> str:
    """Return a sheet's name as formulas write it."""
    return "'" + sheet.replace("'", "''") + "'"


def clean(text: str) -> str:
    """Return a text that a cell can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")[:32_000]
