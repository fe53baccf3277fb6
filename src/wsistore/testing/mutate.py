"""Makes bad and odd files from good ones. Each maker writes a new file or folder and leaves its model alone."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import tifffile

from wsistore.errors import UnsupportedError
from wsistore.testing.encode import Encoding, cut, encode, shared_tables, split_tables
from wsistore.testing.files import ASCII, LONG, LONG8, SHORT, Tag, big_directory, tag, translated
from wsistore.testing.pictures import Rgb
from wsistore.testing.tissue import tissue

BOMB_SIDE = 2**31


# --- whole files ------------------------------------------------------------------------------------------------------


def truncated(path: Path, out: Path, at: int) -> Path:
    """Write the first `at` bytes of `path`; a negative number leaves out so many at the end."""
    return _rewritten(path, out, lambda data: data[:at])


def zero_length(out: Path) -> Path:
    """Write an empty file."""
    with translated(out):
        out.write_bytes(b"")
    return out


def jpeg_renamed(out: Path) -> Path:
    """Write an ordinary JPEG picture, whatever the name says."""
    with translated(out):
        out.write_bytes(encode(tissue(200, 300, seed=1), Encoding()))
    return out


def flipped(path: Path, out: Path, at: int) -> Path:
    """Copy `path` with every bit of the byte at `at` turned over."""
    return _rewritten(path, out, lambda data: data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])


def bomb(out: Path, *, tiles: Literal["few", "claimed"] = "few") -> Path:
    """Write a BigTIFF of about 1 kB that declares one level of 2^31 x 2^31 pixels in tiles of 256.

    Parameters
    ----------
    out
        File to write.
    tiles
        ``"few"``: the table of tiles has two entries; ``"claimed"``: it claims an entry for each of the 2^46 tiles,
        far past the end of the file.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    StorageError
        If the file cannot be written.

    """
    one = encode(np.full((256, 256, 3), 240, np.uint8), Encoding(quality=30))
    start = 16 + len(one) + -len(one) % 8
    count = (BOMB_SIDE // 256) ** 2
    tags = [
        tag(256, LONG, BOMB_SIDE), tag(257, LONG, BOMB_SIDE), tag(258, SHORT, 8, 8, 8), tag(259, SHORT, 7),
        tag(262, SHORT, 6), tag(270, ASCII, b"a slide of four exapixels\0"), tag(277, SHORT, 3), tag(284, SHORT, 1),
        tag(322, SHORT, 256), tag(323, SHORT, 256), tag(530, SHORT, 2, 2),
    ]  # fmt: skip
    if tiles == "few":
        tags += [tag(324, LONG8, 16, 16), tag(325, LONG8, len(one), len(one))]
    else:
        tags += [Tag(code, LONG8, count, (start).to_bytes(8, "little")) for code in (324, 325)]
    with translated(out):
        directory = big_directory(tags, start, 0)
        header = b"II+\0\x08\0\0\0" + start.to_bytes(8, "little")
        out.write_bytes(header + one + bytes(-len(one) % 8) + directory)
    return out


# --- tiles of a TIFF --------------------------------------------------------------------------------------------------


def tile_offset_past_end(path: Path, out: Path, tile: int = 0, *, page: int = 0) -> Path:
    """Copy `path` with the offset of one tile pointing behind the end of the file."""

    def change(table: _Table) -> None:
        table.offsets[tile] = table.size + 4096

    return _retabled(path, out, page, change)


def shared_offsets(path: Path, out: Path, tiles: tuple[int, int] = (0, 1), *, page: int = 0) -> Path:
    """Copy `path` with the second of two tiles pointing at the bytes of the first: odd, but legal."""

    def change(table: _Table) -> None:
        table.offsets[tiles[1]] = table.offsets[tiles[0]]
        table.counts[tiles[1]] = table.counts[tiles[0]]

    return _retabled(path, out, page, change)


def overlapping(path: Path, out: Path, tile: int = 0, *, page: int = 0) -> Path:
    """Copy `path` with the length of a tile reaching into the bytes that follow, half way into the next tile.

    JPEG decoders stop at the end of the image, so the pixels stay the same.
    """

    def change(table: _Table) -> None:
        table.counts[tile] += max(1, table.counts[tile + 1] // 2)

    return _retabled(path, out, page, change)


def sparse(path: Path, out: Path, tiles: Collection[int] = (0,), *, page: int = 0) -> Path:
    """Copy `path` with some tiles missing: offset and length 0. Their bytes stay where they were, unused."""

    def change(table: _Table) -> None:
        for tile in tiles:
            table.offsets[tile] = table.counts[tile] = 0

    return _retabled(path, out, page, change)


def padded(path: Path, out: Path, tile: int = 0, *, page: int = 0, padding: bytes = bytes(37)) -> Path:
    """Copy `path` with one tile moved to the end of the file and `padding` counted as part of it."""

    def change(table: _Table) -> None:
        data = table.read(tile) + padding
        table.offsets[tile], table.counts[tile] = table.append(data), len(data)

    return _retabled(path, out, page, change)


def tiles_of_differing_tables(out: Path, *, overriding: bool = False, picture: Rgb | None = None) -> Path:
    """Write a TIFF whose neighbouring tiles have different quantisation tables: legal, to be stored and restored.

    Parameters
    ----------
    out
        File to write.
    overriding
        There is a JPEGTables tag too, which every second tile relies on and every other overrides.
    picture
        (y, x, 3), uint8; None: some tissue.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    StorageError
        If the file cannot be written.

    """
    picture = tissue(512, 768, seed=5) if picture is None else picture
    qualities = itertools.cycle((80, 50, 65) if not overriding else (80, 50))
    tiles = [encode(one, Encoding(quality=next(qualities))) for row in cut(picture, 256, 256) for one in row]
    if overriding:
        tiles = [split_tables(one)[1] if number % 2 == 0 else one for number, one in enumerate(tiles)]
    tables = shared_tables(picture, Encoding(quality=80)) if overriding else None
    with translated(out), tifffile.TiffWriter(out) as writer:
        writer.write(
            iter(tiles), shape=picture.shape, dtype=picture.dtype, tile=(256, 256), photometric="ycbcr",
            subsampling=(2, 2), compression=7, jpegtables=tables, metadata=None, software=False,
        )  # fmt: skip
    return out


# --- folders of DICOM instances ---------------------------------------------------------------------------------------


def dicom_without(folder: Path, out: Path, index: int) -> Path:
    """Copy a folder of instances, leaving out the one at `index` in the order of their names."""
    with translated(folder):
        files = sorted(one for one in folder.iterdir() if one.is_file())
        del files[index]
        return _copied(files, out)


def mixed_series(folders: Sequence[Path], out: Path) -> Path:
    """Copy the instances of several folders into one; names are made different by a number in front."""
    out.mkdir(parents=True, exist_ok=True)
    for number, folder in enumerate(folders):
        with translated(folder):
            _copied(sorted(one for one in folder.iterdir() if one.is_file()), out, prefix=f"{number}-")
    return out


def _copied(files: Sequence[Path], out: Path, prefix: str = "") -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for one in files:
        shutil.copyfile(one, out / f"{prefix}{one.name}")
    return out


# --- how --------------------------------------------------------------------------------------------------------------


def _rewritten(path: Path, out: Path, change: Callable[[bytes], bytes]) -> Path:
    with translated(path):
        data = path.read_bytes()
        out.write_bytes(change(data))
    return out


class _Table:
    """Where the tiles of one page lie: lists to be changed, then saved."""

    def __init__(self, file: BinaryIO, page: tifffile.TiffPage, byteorder: str, size: int) -> None:
        self._file = file
        self._entries = [page.tags[code] for code in ((324, 325) if 324 in page.tags else (273, 279))]
        self._types = [f"{byteorder}u{entry.valuebytecount // entry.count}" for entry in self._entries]
        self.offsets, self.counts = (self._load(number).tolist() for number in (0, 1))
        self.size = size

    def _load(self, number: int) -> npt.NDArray[np.uint64]:
        self._file.seek(self._entries[number].valueoffset)
        return np.frombuffer(self._file.read(self._entries[number].valuebytecount), self._types[number])

    def read(self, tile: int) -> bytes:
        """Return a tile's bytes."""
        self._file.seek(self.offsets[tile])
        return self._file.read(self.counts[tile])

    def append(self, data: bytes) -> int:
        """Write `data` at the end of the file and return where."""
        offset = self._file.seek(0, 2)
        self._file.write(data)
        return offset

    def save(self) -> None:
        """Write the lists back, in the type that they had."""
        for entry, kind, values in zip(self._entries, self._types, (self.offsets, self.counts), strict=True):
            if max(values) > np.iinfo(kind).max:
                msg = f"{max(values)} does not fit into the {kind} table of tag {entry.code}."
                raise UnsupportedError(msg, remedy="Take a model whose tables are wider.")
            self._file.seek(entry.valueoffset)
            self._file.write(np.asarray(values, kind).tobytes())


def _retabled(path: Path, out: Path, page: int, change: Callable[[_Table], None]) -> Path:
    """Copy `path` and let `change` alter where the tiles of one page lie."""
    with translated(path):
        shutil.copyfile(path, out)
        with tifffile.TiffFile(path) as tiff, out.open("r+b") as file:
            model = tiff.pages[page]
            if not isinstance(model, tifffile.TiffPage):
                model = model.aspage()
            table = _Table(file, model, tiff.byteorder, path.stat().st_size)
            change(table)
            table.save()
    return out
