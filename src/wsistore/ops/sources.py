"""Opening what is to be taken in, and saying of which file it is that something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsistore.compress.shard_writer import CheckTile
from wsistore.errors import BrokenError, ConflictError, InputError, Kind
from wsistore.ops.busy import is_being_written
from wsistore.slides.base import Source, SourceFile
from wsistore.slides.check import TileChecker
from wsistore.slides.registry import open_source


class RescanError(Exception):
    """A tile carries what the sampled ones did not: the level must be scanned tile by tile.

    Parameters
    ----------
    where
        The tile, as a phrase.

    """

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


def open_at_rest(path: Path, *, scan_all: bool) -> Source:
    """Describe the slide at `path`; see `wsistore.slides.registry.open_source`.

    Raises
    ------
    InputError
        If it cannot be kept.
    ConflictError
        If another process is writing one of its files.

    """
    source = open_source(path, scan_all=scan_all)
    for file in source.files:
        if not _is_utf8(file.name):
            msg = f"The name of the file {file.path} is not UTF-8; it could not be given back under that name."
            raise InputError(msg, kind=Kind.SOURCE_UNREADABLE, remedy="Rename the file.")
        if is_being_written(file.path):
            msg = f"{file.path} is still open for writing by another process."
            raise ConflictError(msg, kind=Kind.SOURCE_BUSY, remedy="Run again when it is completely written.")
    return source


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def checker_of(source: Source, level: int) -> CheckTile | None:
    """Return what looks at every tile of a level on its way into the store; None for a slide that is kept whole.

    The check raises `BrokenError` on a tile that cannot be kept, and `RescanError`.
    """
    found = source.levels[level]
    if found.coding is None:
        return None
    checker = TileChecker(found)

    def check(tile: int, data: memoryview) -> None:
        verdict = checker(data)
        if verdict.good:
            return
        row, column = divmod(tile, found.grid[1])
        file = source.files[int(found.segments["file"][0])].path
        where = f"{file}: the tile in row {row}, column {column} of level {level}"
        if verdict.problem:
            msg = f"{where} {verdict.problem}."
            raise BrokenError(msg, remedy="Copy the file again from the scanner, or export it again.")
        raise RescanError(where)

    return check


@contextmanager
def naming(path: Path, source: Source) -> Iterator[None]:
    """Say of which source it is that something is wrong, and whether that is because it changed meanwhile.

    Raises
    ------
    InputError
        With the path in its message.
    ConflictError
        If the source is no longer as it was described.

    """
    try:
        yield
    except InputError as error:
        if not all(_is_as_described(file) for file in source.files):
            msg = f"{path} changed while it was being read."
            remedy = "Run again when it is completely written."
            raise ConflictError(msg, kind=Kind.SOURCE_CHANGED, remedy=remedy) from error
        if path.name not in error.message:
            error.message = f"{path}: {error.message}"
        raise


def _is_as_described(file: SourceFile) -> bool:
    try:
        now = file.path.stat()
    except OSError:
        return False
    return (now.st_size, now.st_mtime_ns) == (file.size_bytes, file.mtime_ns)
