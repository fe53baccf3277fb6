"""The one way in: opens a path with the first reader that knows it, and looks into its tiles."""

from __future__ import annotations

from pathlib import Path

from wsistore.errors import BrokenError, InputError, Kind, MissingError, UnsupportedError
from wsistore.model import Mode
from wsistore.slides.aperio import AperioReader
from wsistore.slides.base import Reader, Source
from wsistore.slides.boundary import NoTileGridError, translated
from wsistore.slides.dicom import DicomReader
from wsistore.slides.discover import find_slides
from wsistore.slides.generic import GenericTiffReader
from wsistore.slides.ndpi import NdpiReader
from wsistore.slides.ome import OmeTiffReader
from wsistore.slides.sample import examine
from wsistore.slides.whole import WholeModeReader, instead

__all__ = ["READERS", "find_slides", "open_source"]

READERS: tuple[Reader, ...] = (
    DicomReader(), NdpiReader(), AperioReader(), OmeTiffReader(), GenericTiffReader(), WholeModeReader(),
)  # fmt: skip
"""In the order in which they are asked."""

_HEAD_BYTES = 4096
_OTHER_KINDS = (
    (b"\xff\xd8\xff", "a JPEG picture"), (b"\x89PNG\r\n", "a PNG picture"), (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"), (b"%PDF", "a PDF document"), (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"), (b"7z\xbc\xaf", "a 7-Zip archive"), (b"Rar!", "a RAR archive"),
)  # fmt: skip
_COUNTS_AS_HEADER = {".mrxs", ".vms", ".vmu"}
"""Slides whose main file is only an index (that of MIRAX is a JPEG picture)."""


def open_source(path: Path, *, scan_all: bool = False) -> Source:
    """Describe the slide at a path.

    A handful of tiles per level is decoded. Where they carry comments that may identify somebody, all tiles of the
    level are looked at and the comments left out of the segments. A slide whose tiles cannot be taken one by one comes
    back in `whole` mode with the reason.

    Parameters
    ----------
    path
        A file, or the folder of one DICOM series.
    scan_all
        Look at every tile; to be used when `TileChecker` finds something that the sample did not show.

    Raises
    ------
    MissingError
        If there is nothing at `path`.
    UnsupportedError
        If it is not a slide, or none that can be kept.
    BrokenError
        If it is damaged, truncated, empty, or declares what cannot be.
    IncompleteError
        If parts of it are missing or mixed.
    InputError
        If it cannot be read.

    """
    head = _head(path)
    for reader in READERS:
        with translated(path):
            source = reader.read(path) if reader.claims(path, head) else None
        if source is not None:
            return _examined(source, scan_all=scan_all)
    msg = f"{path} is not a slide in any format that is known here."
    raise UnsupportedError(msg, kind=Kind.NOT_A_SLIDE, remedy="Name a slide's file or the folder of a DICOM series.")


def _examined(source: Source, *, scan_all: bool) -> Source:
    if source.mode is Mode.WHOLE:
        return source
    try:
        return examine(source, scan_all=scan_all)
    except NoTileGridError as error:
        return instead(source, error.message)


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, nothing for a folder; refuse what is certainly no slide."""
    with translated(path):
        if not path.exists():
            msg = f"There is nothing at {path}."
            raise MissingError(msg, remedy="Check the path.")
        if path.is_dir():
            return b""
        if not path.is_file():
            msg = f"{path} is neither a file nor a folder."
            raise InputError(msg, kind=Kind.SOURCE_UNREADABLE, remedy="Name a slide's file.")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    if not head:
        msg = f"The file {path} is empty."
        remedy = "If it is still being copied, run again when it is complete; else get it anew."
        raise BrokenError(msg, kind=Kind.SOURCE_EMPTY, remedy=remedy)
    if not any(head):
        msg = f"The file {path} begins with zeros only: it was probably not copied to the end."
        remedy = "If it is still being copied, run again when it is complete; else get it anew."
        if _at_dicom_magic(path) != b"DICM":
            raise BrokenError(msg, kind=Kind.SOURCE_TRUNCATED, remedy=remedy)
    for magic, what in _OTHER_KINDS:
        if head.startswith(magic) and path.suffix.lower() not in _COUNTS_AS_HEADER:
            msg = f"{path} is {what}, not a slide, whatever its name says."
            raise UnsupportedError(msg, kind=Kind.NOT_A_SLIDE, remedy="Leave it out, or get the slide itself.")
    return head


def _at_dicom_magic(path: Path) -> bytes:
    with translated(path), path.open("rb") as file:
        file.seek(128)
        return file.read(4)
