"""How an elimination list looks: the form and the list of slides, ready to print on A4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any

from openpyxl import Workbook
from openpyxl.cell import Cell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.properties import PageSetupProperties
from openpyxl.worksheet.worksheet import Worksheet

from wsistore.ops.visas_given import GivenVisa

_BOLD, _TITLE, _SMALL = Font(bold=True), Font(bold=True, size=14), Font(size=9, italic=True)
_HEAD = PatternFill("solid", fgColor="DDE3EA")
_THIN = Side(style="thin", color="999999")
_BOX = Border(left=_THIN, right=_THIN, top=_THIN, bottom=_THIN)
_WRAP = Alignment(wrap_text=True, vertical="top")
_GB = 1e9
Value = str | int | float | date | None
_ROLES = {
    "director": "Le directeur de l'établissement",
    "dim-physician": "Le médecin responsable de l'information médicale (DIM)",
    "departmental-archives": "Le directeur des archives départementales",
}
_GROUPS = (
    ("N°", 6),
    ("Règle de conservation", 34),
    ("Sort", 20),
    ("Unité", 16),
    ("Dates extrêmes", 16),
    ("Échéances", 24),
    ("Lames", 10),
    ("Volume libéré (Go)", 13),
    ("Observations des archives", 28),
)
_SLIDES = (
    ("N°", 8),
    ("Clé de la lame", 26),
    ("Sort", 20),
    ("Règle de conservation", 34),
    ("Échéance", 12),
    ("Examen", 12),
    ("Unité", 16),
    ("Organe (code)", 18),
    ("Octets libérés", 16),
    ("À conserver", 13),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One slide of the list."""

    slide: str
    done: str
    """What is done to it, in French."""
    rule: str
    until: date | None
    """When its legal time ended."""
    since: date | None
    """When the specimen was received; None where the hospital did not say."""
    department: str
    organ: str
    bytes: int
    """What is freed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Slides that one line of the form is about."""

    rule: str
    done: str
    department: str
    lines: Sequence[Line]

    @property
    def years(self) -> str:
        """The years of the examinations; ``?`` among them where that of some is not known."""
        known = [line.since.year for line in self.lines if line.since]
        unknown = ["?"] if len(known) < len(self.lines) else []
        return ", ".join([*([_span([str(year) for year in known])] if known else []), *unknown])

    @property
    def ends(self) -> str:
        """The days on which their legal times ended."""
        return _span([line.until.strftime("%d/%m/%Y") for line in sorted(self.lines, key=_until) if line.until])

    @property
    def bytes(self) -> int:
        """Their volume."""
        return sum(line.bytes for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """All that the list says."""

    site: str
    plan: str
    made_at: datetime
    expires_at: datetime
    author: str
    written_at: datetime
    visas: Mapping[str, GivenVisa | None]
    """By role; None where a visa is to be given."""
    lines: Sequence[Line]

    def groups(self) -> list[Group]:
        """Return the slides by what is done to them, rule and unit."""

        def key(line: Line) -> tuple[str, str, str]:
            return (line.done, line.rule, line.department)

        return [
            Group(done=done, rule=rule, department=department, lines=list(some))
            for (done, rule, department), some in groupby(sorted(self.lines, key=key), key)
        ]


def workbook(form: Form) -> Workbook:
    """Return the list as a workbook."""
    book = Workbook()
    book.properties.creator = "wsistore"
    book.properties.title = f"Bordereau d'élimination {form.plan[:12]}"
    # Openpyxl would ask the machine's clock.
    book.properties.created = book.properties.modified = form.written_at.replace(tzinfo=None)
    sheet = book.active
    if not isinstance(sheet, Worksheet):
        sheet = book.create_sheet()
    sheet.title = "Bordereau"
    row = _head(sheet, form)
    row = _groups(sheet, form, row)
    _visas(sheet, form, row + 2)
    _list(book.create_sheet("Lames"), form)
    return book


def _head(sheet: Worksheet, form: Form) -> int:
    _put(sheet, 1, 1, "Bordereau d'élimination d'archives publiques", font=_TITLE)
    _put(sheet, 2, 1, "Lames d'anatomie pathologique numérisées (code du patrimoine, art. L. 212-2)", font=_SMALL)
    facts: tuple[tuple[str, Value], ...] = (
        ("Établissement", form.site),
        ("Bordereau n°", form.plan[:12]),
        ("Établi le", form.written_at.strftime("%d/%m/%Y")),
        ("Plan du", form.made_at.strftime("%d/%m/%Y")),
        ("Valable jusqu'au", form.expires_at.strftime("%d/%m/%Y")),
        ("Établi par", form.author),
        ("Empreinte du plan (SHA-256)", form.plan),
        ("Nombre de lames", len(form.lines)),
        ("Volume libéré (Go)", _gigabytes(sum(line.bytes for line in form.lines))),
    )
    for row, (name, value) in enumerate(facts, start=4):
        _put(sheet, row, 1, name, font=_BOLD)
        _put(sheet, row, 3, value)
    _fit(sheet, _GROUPS, "1:1")
    return 4 + len(facts) + 1


def _groups(sheet: Worksheet, form: Form, row: int) -> int:
    _titles(sheet, row, _GROUPS)
    for number, group in enumerate(form.groups(), start=1):
        row += 1
        years, ends = group.years, group.ends
        size = _gigabytes(group.bytes)
        what: list[Value] = [number, group.rule, group.done, group.department, years, ends]
        for column, value in enumerate([*what, len(group.lines), size, ""], start=1):
            _put(sheet, row, column, value, border=_BOX, alignment=_WRAP)
    row += 1
    total = _gigabytes(sum(line.bytes for line in form.lines))
    sums: dict[int, Value] = {2: "Total", 7: len(form.lines), 8: total}
    for column, value in sums.items():
        _put(sheet, row, column, value, font=_BOLD)
    return row


def _visas(sheet: Worksheet, form: Form, row: int) -> None:
    _put(sheet, row, 1, "Visas", font=_BOLD)
    for role, visa in form.visas.items():
        row += 1
        sheet.row_dimensions[row].height = 48
        given = "" if visa is None else f"{visa.reference}, le {visa.date} ; lames conservées : {len(visa.kept)}"
        _put(sheet, row, 1, _ROLES.get(role, role), border=_BOX, alignment=_WRAP)
        _put(sheet, row, 4, given or "Référence, date, signature :", border=_BOX, alignment=_WRAP)
        sheet.merge_cells(start_row=row, start_column=1, end_row=row, end_column=3)
        sheet.merge_cells(start_row=row, start_column=4, end_row=row, end_column=9)
    note = "Les lames sont désignées par leur clé (feuille « Lames ») ; aucune donnée d'identité ne figure ici."
    _put(sheet, row + 2, 1, note, font=_SMALL)


def _list(sheet: Worksheet, form: Form) -> None:
    _titles(sheet, 1, _SLIDES)
    kept = {slide for visa in form.visas.values() if visa is not None for slide in visa.kept}
    for number, line in enumerate(form.lines, start=1):
        mark = "oui" if line.slide in kept else ""
        values: list[Value] = [number, line.slide, line.done, line.rule, line.until, line.since]
        values += [line.department, line.organ, line.bytes, mark]
        for column, value in enumerate(values, start=1):
            _put(sheet, number + 1, column, value)
    last = len(form.lines) + 2
    _put(sheet, last, 2, "Total", font=_BOLD)
    _put(sheet, last, 9, sum(line.bytes for line in form.lines), font=_BOLD)
    sheet.freeze_panes = "A2"
    _fit(sheet, _SLIDES, "1:1")


def _titles(sheet: Worksheet, row: int, columns: Sequence[tuple[str, int]]) -> None:
    for column, (title, _) in enumerate(columns, start=1):
        _put(sheet, row, column, title, font=_BOLD, fill=_HEAD, border=_BOX, alignment=_WRAP)


def _fit(sheet: Worksheet, columns: Sequence[tuple[str, int]], repeated: str) -> None:
    for column, (_, width) in enumerate(columns, start=1):
        sheet.column_dimensions[get_column_letter(column)].width = width
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.paperSize = 9  # A4
    sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight = 1, 0
    sheet.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
    sheet.print_title_rows = repeated
    if sheet.oddFooter is not None and sheet.oddFooter.right is not None:
        sheet.oddFooter.right.text = "&P / &N"


def _put(sheet: Worksheet, row: int, column: int, value: Value, **style: Any) -> None:
    cell = sheet.cell(row=row, column=column)
    if isinstance(cell, Cell):
        if isinstance(value, str):
            # A rule's name that begins with '=' is a name and no formula.
            cell.value = ILLEGAL_CHARACTERS_RE.sub("�", value)
            cell.data_type = "s"
        else:
            cell.value = value
            if isinstance(value, date):
                cell.number_format = "dd/mm/yyyy"
            elif isinstance(value, int):
                cell.number_format = "#,##0"
        for name, wanted in style.items():
            setattr(cell, name, wanted)


def _gigabytes(size: int) -> float:
    """Return a volume as people read it: small ones are not nothing."""
    return round(size / _GB, 3 if size >= _GB / 100 else 6)


def _until(line: Line) -> date:
    return line.until or date.min


def _span(values: Sequence[str]) -> str:
    first_to_last = sorted(set(values)) if values and len(values[0]) == 4 else list(dict.fromkeys(values))
    return " – ".join(dict.fromkeys((first_to_last[0], first_to_last[-1]))) if first_to_last else ""
