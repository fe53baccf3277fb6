"""Finds the slides in a folder: which files are slides of their own, and which belong to another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from wsistore.errors import InputError, Kind, MissingError
from wsistore.slides.boundary import translated
from wsistore.slides.dicom import instances_in, series_in
from wsistore.slides.tiffscan import flavour_of
from wsistore.slides.whole import FOLDER_OF, files_of

_IMAGES = {
    ".svs", ".tif", ".tiff", ".btf", ".tf2", ".tf8", ".ndpi", ".ndpis", ".scn", ".bif", ".mrxs", ".vms", ".vmu",
    ".svslide", ".czi", ".qptiff", ".vsi", ".isyntax", ".i2syntax", ".afi", ".jp2", ".jpx", ".j2k", ".jpg", ".jpeg",
    ".png", ".bmp", ".gif", ".webp", ".zvi", ".lif", ".kfb", ".sdpc", ".mds", ".tmap", ".dzi",
}  # fmt: skip
"""Names that promise a picture. What does not open is reported, for nobody should believe that it was kept."""
_DICOM = {".dcm", ".dicom", ".dic"}
_WITH_FILES = {".mrxs", ".vms", ".vmu"}
_MAGIC_BYTES = 132


def find_slides(path: Path, recursive: bool = False) -> Iterator[Path]:
    """Yield the paths under `path` that `open_source` should be asked to open, in order of their names.

    A file is yielded as it is. In a folder, files that are images by name or content are yielded, and DICOM by series:
    the folder itself if it holds one series only, else one instance of each. Hidden files, and files that belong to
    another slide (the folder of a MIRAX slide, the pictures of a VMS one), are passed over, and so is whatever does not
    look like an image.

    Parameters
    ----------
    path
        A file or a folder.
    recursive
        Look into subfolders too; symbolic links to folders are not followed.

    Raises
    ------
    MissingError
        If there is nothing at `path`.
    InputError
        If a folder cannot be listed.

    """
    with translated(path):
        if not path.exists():
            msg = f"There is nothing at {path}."
            raise MissingError(msg, remedy="Check the path.")
        is_folder = path.is_dir()
    if not is_folder:
        yield path
        return
    yield from _in_folder(path)
    if recursive:
        for folder in _folders(path):
            yield from find_slides(folder, recursive=True)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        msg = f"The folder {folder} cannot be listed: {error.strerror}."
        raise InputError(msg, kind=Kind.SOURCE_UNREADABLE, remedy="Check its permissions.") from error


def _folders(folder: Path) -> list[Path]:
    """Return the subfolders that may hold slides: not hidden, not links, not those of a MIRAX or Olympus slide."""
    entries = _entries(folder)
    names = [Path(e.name) for e in entries if not e.is_dir(follow_symlinks=False)]
    own = {FOLDER_OF[name.suffix.lower()](name.stem) for name in names if name.suffix.lower() in FOLDER_OF}
    return [folder / e.name for e in entries if e.is_dir(follow_symlinks=False) and e.name not in own]


def _in_folder(folder: Path) -> Iterator[Path]:
    files = [folder / entry.name for entry in _entries(folder) if not entry.is_dir()]
    owned = _owned(files)
    dicom: list[Path] = []
    for path in files:
        if path.name in owned:
            continue
        kind = kind_of(path)
        if kind == "dicom":
            dicom.append(path)
        elif kind == "image":
            yield path
    if dicom:
        yield from _series(folder)


def _owned(files: list[Path]) -> set[str]:
    """Return the names of files that belong to a slide beside them."""
    owned: set[str] = set()
    for path in files:
        if path.suffix.lower() in _WITH_FILES - {".mrxs"}:
            try:
                owned.update(one.name for one in files_of(path)[1:])
            except InputError:
                continue  # opening the slide will say what is missing
    return owned


def kind_of(path: Path, *, by_name: bool = False) -> str:
    """Return ``image``, ``dicom`` or nothing, by name, else by content; with `by_name` the file is not opened."""
    suffix = path.suffix.lower()
    if suffix in _IMAGES:
        return "image"
    if suffix in _DICOM:
        return "dicom"
    if by_name:
        return ""
    try:
        with path.open("rb") as file:
            head = file.read(_MAGIC_BYTES)
    except OSError:
        return ""
    if head[128:] == b"DICM":
        return "dicom"
    return "image" if flavour_of(head) is not None else ""


def _series(folder: Path) -> Iterator[Path]:
    """Yield the address of every DICOM series in a folder, and every file that should be DICOM and is not."""
    by_series: dict[str, Path] = {}
    for found in instances_in(folder):
        by_series.setdefault(found.series, found.path)
    unreadable = [paths[0] for name, paths in series_in(folder).items() if name.startswith("unreadable:")]
    if len(by_series) == 1 and not unreadable:
        yield folder
        return
    yield from sorted([*by_series.values(), *unreadable])
