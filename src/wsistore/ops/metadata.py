"""What the site says of its slides, from a table: ``--metadata slides.csv``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wsistore.errors import InputError, Kind

_FILE_COLUMN = "file"
_REMEDY = "The table needs a header with the column 'file' (a slide's file or folder name) and one row per slide."


@dataclass(slots=True)
class Metadata:
    """Rows of a metadata table by the file that they speak of."""

    path: Path
    rows: Mapping[str, Mapping[str, str]]
    used: set[str] = field(default_factory=set)

    def of(self, source: Path) -> Mapping[str, str]:
        """Return what is said of a source, by its path or its name; nothing if nothing is."""
        for name in (str(source), source.name, source.parent.name):
            if name in self.rows:
                self.used.add(name)
                return self.rows[name]
        return {}

    @property
    def unused(self) -> list[str]:
        """Files that the table speaks of and that were not met."""
        return sorted(self.rows.keys() - self.used)


def read_metadata(path: Path) -> Metadata:
    """Read a metadata table: CSV with comma, semicolon or tab, UTF-8.

    Parameters
    ----------
    path
        Its column ``file`` names a slide's file or folder; every other column is kept by its name (``case_id``,
        ``patient_id``, ``block``, ``stain``, …). Empty cells say nothing.

    Raises
    ------
    InputError
        If it cannot be read or understood, naming the line.

    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"The table {path} cannot be read: {error}."
        raise _invalid(msg, "Check the path; save it as UTF-8.") from error
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:4096], ",;\t")
    except csv.Error:
        dialect = csv.excel
    reader = csv.DictReader(text.splitlines(), dialect=dialect, strict=True)
    rows: dict[str, dict[str, str]] = {}
    try:
        if _FILE_COLUMN not in (reader.fieldnames or ()):
            msg = f"The table {path} has no column {_FILE_COLUMN!r}; it has {', '.join(reader.fieldnames or ['none'])}."
            raise _invalid(msg, _REMEDY)
        for row in reader:
            _add(rows, row, f"{path}, line {reader.line_num}")
    except csv.Error as error:
        msg = f"The table {path} is damaged in line {reader.line_num}: {error}."
        raise _invalid(msg, _REMEDY) from error
    return Metadata(path, rows)


def _add(rows: dict[str, dict[str, str]], row: dict[str | None, str | None], where: str) -> None:
    if None in row or None in row.values():
        msg = f"{where} has not as many cells as the header."
        raise _invalid(msg, _REMEDY)
    cells = {str(key).strip(): str(value).strip() for key, value in row.items()}
    file = cells.pop(_FILE_COLUMN)
    if not file or file in rows:
        msg = f"{where} names " + (f"{file} a second time." if file else "no file.")
        raise _invalid(msg, _REMEDY)
    rows[file] = {key: value for key, value in cells.items() if value}


def _invalid(message: str, remedy: str) -> InputError:
    return InputError(message, kind=Kind.METADATA_INVALID, remedy=remedy)
