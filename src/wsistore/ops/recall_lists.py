"""Lists of patients, cases and slides as people paste them: out of spreadsheets, mails and laboratory systems. Pure."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from wsistore.errors import InputError, Kind

MOST_BYTES = 4 * 1024 * 1024
"""Of a list: a tumour board has some dozen lines."""

_DELIMITERS = ("\t", ";", ",", "|")
_HEADERS = frozenset(
    {"ipp", "patient", "patients", "patient id", "patient number", "no patient", "numéro de patient", "nip", "id"}
    | {"case", "cases", "case id", "case number", "cas", "dossier", "numéro", "numéro de cas", "numero", "examen"}
    | {"slide", "slides", "lame", "lames", "name", "nom", "accession", "accession number", "no", "n°", "nr"}
)
_NOTHING = re.compile("[\u200b-\u200f\u2060\ufeff\x00]")
"""What is pasted and not seen."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list."""

    number: int
    """From 1, as in the file; of what was given several times the first."""
    cells: tuple[str, ...]
    """Without quotes and white space around them; never empty."""
    times: int = 1
    """How often the list has it."""

    @property
    def text(self) -> str:
        """The line for people."""
        return "; ".join(self.cells)

    @property
    def is_header(self) -> bool:
        """Whether it names columns, as far as its words tell."""
        return any(re.sub(r"[\s_.-]+", " ", cell).strip().casefold() in _HEADERS for cell in self.cells)


def decode(data: bytes) -> str:
    """Return the text of a file: UTF-8, UTF-16 with its mark (as spreadsheets save "Unicode text"), or Windows' own.

    Raises
    ------
    InputError
        If it is too large for a list, or none.

    """
    if len(data) > MOST_BYTES:
        msg = f"A list of {len(data)} bytes is none of patients or cases."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give a CSV file or plain text.")
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        msg = "The list is a spreadsheet's own file."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Save it as CSV, or paste its cells into a text file.")
    for encoding in ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig",):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("cp1252", "replace")


def parse(text: str) -> list[Line]:
    """Return the lines of a pasted list or a CSV file; empty ones are left out, repeated ones are one.

    Columns are separated by tabs, semicolons, commas or bars: by what most of the lines have.
    """
    rows = text.splitlines()
    delimiter = _delimiter(rows)
    found: dict[tuple[str, ...], Line] = {}
    for number, row in enumerate(rows, 1):
        cells = tuple(filter(None, map(_clean, _cells(row, delimiter))))
        if not cells:
            continue
        before = found.get(cells)
        found[cells] = Line(number, cells) if before is None else Line(before.number, cells, before.times + 1)
    return list(found.values())


def lines_of(words: Iterable[str]) -> list[Line]:
    """Return words of a command line as a list: each is one cell, whatever is in it."""
    seen = Counter(filter(None, map(_clean, words)))
    return [Line(number, (word,), times) for number, (word, times) in enumerate(seen.items(), 1)]


def _delimiter(rows: Iterable[str]) -> str | None:
    counts = Counter({mark: sum(mark in row for row in rows) for mark in _DELIMITERS})
    best = max(_DELIMITERS, key=lambda mark: counts[mark])  # the first of equally frequent ones
    return best if counts[best] else None


def _cells(row: str, delimiter: str | None) -> list[str]:
    # Line by line: a quote that nobody closed must not swallow the lines that follow.
    if '"' not in row:
        return row.split(delimiter) if delimiter else [row]
    try:
        return next(csv.reader([row.strip()], delimiter=delimiter or "\t"), [])
    except csv.Error:
        return row.split(delimiter) if delimiter else [row]


def _clean(cell: str) -> str:
    return _NOTHING.sub("", cell).strip().strip("\"'").strip()
