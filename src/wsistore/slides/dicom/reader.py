"""The reader of DICOM whole slide images: which files make one slide, and is it one."""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from pathlib import Path

from wsistore.errors import IncompleteError, Kind, MissingError, UnsupportedError
from wsistore.slides.base import Source
from wsistore.slides.dicom.discovery import SUFFIXES, Found, Scan, identify, looks_like, scan
from wsistore.slides.dicom.raw import unreadable
from wsistore.slides.dicom.source import source_of


class DicomReader:
    """DICOM whole slide images.

    A path is the folder of one series, or one instance, which stands for its series in the same folder. A folder of
    several series is refused by `read`; `wsistore.slides.dicom.series_in` tells them apart.
    """

    @property
    def name(self) -> str:
        """Name for messages."""
        return "DICOM"

    def claims(self, path: Path, head: bytes) -> bool:
        """Say whether `path` is a DICOM file or a folder with one, by name or content."""
        if head:
            return looks_like(head) or path.suffix.lower() in SUFFIXES
        if not path.is_dir():
            return path.suffix.lower() in SUFFIXES
        try:
            return any(_promises(entry) for entry in sorted(path.iterdir()))
        except OSError:
            return False

    def read(self, path: Path) -> Source | None:
        """Return the slide of a series, or None if a folder has no DICOM file.

        Raises
        ------
        InputError
            If the series is broken, incomplete, mixed with another, or no slide; names file and remedy.
        MissingError
            If `path` is not there.

        """
        try:
            return _read(path)
        except FileNotFoundError as error:
            msg = f"{error.filename or path} is not there."
            raise MissingError(msg, kind=Kind.PATH_MISSING, remedy="Check the path.") from error
        except OSError as error:
            raise unreadable(error.filename or str(path), error) from error


def _promises(path: Path) -> bool:
    if path.name.startswith(".") or not path.is_file():
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb", buffering=0) as file:
            return looks_like(file.read(132))
    except OSError:
        return False


def _read(path: Path) -> Source | None:
    folder = path if path.is_dir() else path.parent
    chosen = None if path.is_dir() else identify(path)
    seen = scan(folder)
    if path.is_dir():
        found = _only_series(folder, seen)
        if not found:
            return None
    elif chosen is None:
        msg = f"{path} is a DICOM directory, which names slides but is none."
        raise UnsupportedError(msg, kind=Kind.NOT_A_SLIDE, remedy="Name the folder of a series instead.")
    else:
        found = [one for one in seen.instances if one.series == chosen.series]
        if chosen not in found:  # a hidden file, named on purpose
            found.insert(0, chosen)
    _check_class(path, found)
    found, warnings = _without_copies(found)
    warnings += [f"{name} is no DICOM instance and is not kept" for name in seen.passed_over if path.is_dir()]
    warnings += [f"{error.message} It is not kept." for _, error in seen.failed]
    return source_of(folder, [one.path for one in found], warnings)


def _only_series(folder: Path, seen: Scan) -> list[Found]:
    """Return the instances of a folder's only series.

    Raises
    ------
    InputError
        If a file is broken or there are several series.

    """
    if seen.failed:
        raise seen.failed[0][1]
    series: dict[str, list[Found]] = {}
    for found in seen.instances:
        series.setdefault(found.series, []).append(found)
    if len(series) > 1:
        shown = [f"{uid} ({len(parts)} files, {parts[0].path.name} …)" for uid, parts in list(series.items())[:8]]
        msg = f"The folder {folder} holds {len(series)} series: {', '.join(shown)}."
        remedy = "Name one instance of the series that you mean, or move the others to folders of their own."
        raise IncompleteError(msg, kind=Kind.SOURCE_MIXED, remedy=remedy)
    return list(seen.instances)


def _check_class(path: Path, found: Sequence[Found]) -> None:
    if not any(one.is_slide for one in found):
        msg = f"{path} is no whole slide image but {found[0].class_name}."
        raise UnsupportedError(msg, kind=Kind.NOT_A_SLIDE, remedy="Only DICOM whole slide images are kept.")


def _without_copies(found: Sequence[Found]) -> tuple[list[Found], list[str]]:
    """Leave out files that are byte for byte the same instance as another.

    Raises
    ------
    IncompleteError
        If two different files have the same instance UID.

    """
    kept: dict[str, Found] = {}
    warnings = []
    for one in found:
        first = kept.setdefault(one.sop_instance, one)
        if first is one:
            continue
        if not filecmp.cmp(first.path, one.path, shallow=False):
            msg = f"{first.path} and {one.path} are different files of the same instance {one.sop_instance}."
            remedy = "Find out which one is right and leave only that one in the folder."
            raise IncompleteError(msg, kind=Kind.SOURCE_MIXED, remedy=remedy)
        warnings.append(f"{one.path.name} is a copy of {first.path.name} and is not kept")
    return list(kept.values()), warnings
