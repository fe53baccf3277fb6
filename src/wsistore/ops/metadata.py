"""What the site says of its slides, from a table: ``--metadata slides.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from wsistore.errors import InputError, Kind, MissingError

_FILE_COLUMN = "file"
_DELIMITERS = ",;\t"
_REMEDY = "The table needs a header with the column 'file' (a slide's file or folder name) and one row per slide."


@dataclass(slots=True)
class Metadata:
    """Rows of a metadata table by the file that they speak of."""

    path: Path
    rows: Mapping[str, Mapping[str, str]]
    used: set[str] = field(default_factory=set)

    def of(self, source: Path) -> Mapping[str, str]:
        """Return what is said of a source; nothing if nothing is. The row that names most of its path counts."""
        name = self._row(source)
        if name is None:
            return {}
        self.used.add(name)
        return self.rows[name]

    def check(self, sources: Sequence[Path]) -> None:
        """Refuse a row that speaks of several sources: one patient's data must not come to another's slide.

        Raises
        ------
        InputError
            Naming the row and two of the sources.

        """
        owners: dict[str, Path] = {}
        for source in sources:
            name = self._row(source)
            if name is None:
                continue
            other = owners.setdefault(name, source)
            if other.absolute() != source.absolute():
                msg = f"In the table {self.path}, {name!r} may mean {other} or {source}."
                raise _invalid(msg, "Write more of the path into the column 'file'.")

    @property
    def unused(self) -> list[str]:
        """Files that the table speaks of and that were not met."""
        return sorted(self.rows.keys() - self.used)

    def _row(self, source: Path) -> str | None:
        """Return the name of the row that speaks of `source`: its path, or the end of it, the longest first.

        Where a folder holds several DICOM series the source is one instance, and the folder's row speaks of it too.
        """
        if str(source) in self.rows:
            return str(source)
        whole = source.absolute()
        for path in (whole, whole.parent) if source.suffix.lower() in {".dcm", ".dicom", ".dic"} else (whole,):
            for start in range(len(path.parts)):
                name = str(PurePath(*path.parts[start:]))
                if name in self.rows:
                    return name
        return None


def read_metadata(path: Path) -> Metadata:
    """Read a metadata table: CSV with comma, semicolon or tab, UTF-8.

    Parameters
    ----------
    path
        Its column ``file`` names a slide's file or folder, by name or with as much of its path as tells it from
        others; every other column is kept by its name (``case_id``, ``patient_id``, ``block``, ``stain``, …). Empty
        cells say nothing, and empty rows are passed over.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it cannot be read or understood, naming the line.

    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        msg = f"There is no table {path}."
        raise MissingError(msg, remedy="Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        msg = f"The table {path} cannot be read: {error}."
        raise _invalid(msg, "Check the path; save it as UTF-8.") from error
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count), strict=True)
    rows: dict[str, dict[str, str]] = {}
    try:
        names = _header(path, next(reader, []))
        for cells in reader:
            if any(cell.strip() for cell in cells):
                _add(rows, names, cells, f"{path}, line {reader.line_num}")
    except csv.Error as error:
        msg = f"The table {path} is damaged in line {reader.line_num}: {error}."
        raise _invalid(msg, _REMEDY) from error
    return Metadata(path, rows)


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if _FILE_COLUMN not in names:
        msg = f"The table {path} has no column {_FILE_COLUMN!r}; it has {', '.join(filter(None, names)) or 'none'}."
        raise _invalid(msg, _REMEDY)
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        msg = f"The table {path} has several columns {', '.join(map(repr, sorted(twice)))}."
        raise _invalid(msg, "Leave one of them.")
    return names


def _add(rows: dict[str, dict[str, str]], names: Sequence[str], cells: Sequence[str], where: str) -> None:
    if len(cells) != len(names):
        msg = f"{where} has {len(cells)} cells, the header has {len(names)}."
        raise _invalid(msg, _REMEDY)
    row = {name: cell.strip() for name, cell in zip(names, cells, strict=True) if cell.strip()}
    if "" in row:
        msg = f"{where} has {row['']!r} in a column without a name."
        raise _invalid(msg, _REMEDY)
    file = row.pop(_FILE_COLUMN, "")
    if not file or str(PurePath(file)) in rows:
        msg = f"{where} names " + (f"{file} a second time." if file else "no file.")
        raise _invalid(msg, _REMEDY)
    rows[str(PurePath(file))] = row


def _invalid(message: str, remedy: str) -> InputError:
    return InputError(message, kind=Kind.METADATA_INVALID, remedy=remedy)
