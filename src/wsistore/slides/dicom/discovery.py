"""Which DICOM instances and series lie in a folder, by headers alone.

A series is addressed by its folder if it is the only one there, else by the path of any of its instances; `series_in`
puts the instance first whose name sorts first, and that one is the address which discovery uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wsistore.errors import InputError, Kind, MissingError
from wsistore.slides.dicom.header import MAGIC, PREAMBLE_BYTES, peek_identity, uid_name
from wsistore.slides.dicom.instance import WHOLE_SLIDE
from wsistore.slides.dicom.raw import broken, unreadable

SUFFIXES = frozenset({".dcm", ".dicom", ".dic"})
"""Names that promise DICOM; other files are looked at too, but none of them is missed."""

_DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR."""


@dataclass(frozen=True, slots=True)
class Found:
    """One instance in a folder."""

    path: Path
    series: str
    sop_class: str
    sop_instance: str

    @property
    def is_slide(self) -> bool:
        """Whether it is a whole slide image."""
        return self.sop_class == WHOLE_SLIDE

    @property
    def class_name(self) -> str:
        """What it is, for people."""
        return uid_name(self.sop_class) or "an unnamed class"


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies in a folder."""

    instances: tuple[Found, ...]
    passed_over: tuple[str, ...]
    """Names of the files that are no instances: other formats, DICOMDIR."""
    failed: tuple[tuple[Path, InputError], ...]
    """Files that should be instances but whose headers cannot be read."""


def looks_like(head: bytes) -> bool:
    """Return whether a file that begins with `head` is DICOM."""
    return head[128:PREAMBLE_BYTES] == MAGIC


def identify(path: Path) -> Found | None:
    """Read which instance of which series a file is; None for a DICOMDIR.

    Raises
    ------
    MissingError
        If it is not there.
    InputError
        If it is empty, not DICOM, damaged or unreadable.

    """
    try:
        with path.open("rb", buffering=0) as file:
            found = peek_identity(file, str(path))
    except FileNotFoundError as error:
        msg = f"{path} is not there."
        raise MissingError(msg, kind=Kind.PATH_MISSING, remedy="Check the path.") from error
    except OSError as error:
        raise unreadable(str(path), error) from error
    if found.sop_class == _DIRECTORY:
        return None
    if not (found.series and found.sop_instance):
        raise broken(str(path), "it has no series or no instance UID")
    return Found(path, found.series, found.sop_class, found.sop_instance)


def scan(folder: Path) -> Scan:
    """Look at every file of a folder, without hidden files and subfolders.

    Raises
    ------
    InputError
        If the folder cannot be listed.
    MissingError
        If it is not there.

    """
    instances, passed_over, failed = [], [], []
    for path in _files(folder):
        try:
            found = identify(path) if path.suffix.lower() in SUFFIXES or _begins_as_dicom(path) else None
        except InputError as error:
            failed.append((path, error))
            continue
        if found is None:
            passed_over.append(path.name)
        else:
            instances.append(found)
    return Scan(tuple(instances), tuple(passed_over), tuple(failed))


def instances_in(folder: Path) -> Iterator[Found]:
    """Yield the instances in a folder by name, passing over whatever is none or cannot be read.

    Raises
    ------
    InputError, MissingError
        If the folder cannot be listed.

    """
    yield from scan(folder).instances


def series_in(folder: Path) -> dict[str, list[Path]]:
    """Return the series in a folder that have a whole slide image, each with its files by name.

    A file that should be an instance but cannot be read stands alone under ``unreadable:<name>``: whoever reads it
    gets the error that it deserves, instead of never hearing of it.

    Raises
    ------
    InputError, MissingError
        If the folder cannot be listed.

    """
    seen = scan(folder)
    slides = {found.series for found in seen.instances if found.is_slide}
    series: dict[str, list[Path]] = {}
    for found in seen.instances:
        if found.series in slides:
            series.setdefault(found.series, []).append(found.path)
    series.update({f"unreadable:{path.name}": [path] for path, _ in seen.failed})
    return series


def _files(folder: Path) -> list[Path]:
    try:
        # Hidden files are nobody's slides: file managers leave them beside every file, under its name.
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except FileNotFoundError as error:
        msg = f"The folder {folder} is not there."
        raise MissingError(msg, kind=Kind.PATH_MISSING, remedy="Check the path.") from error
    except OSError as error:
        raise unreadable(str(folder), error) from error


def _begins_as_dicom(path: Path) -> bool:
    try:
        with path.open("rb", buffering=0) as file:
            return looks_like(file.read(PREAMBLE_BYTES))
    except OSError as error:
        raise unreadable(str(path), error) from error
