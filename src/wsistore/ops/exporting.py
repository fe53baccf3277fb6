"""Handing a slide's pixels on as OME-Zarr: a folder or an ``.ozx``, as stored or in a codec that more tools read."""

from __future__ import annotations

import filecmp
import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from PIL import Image

from wsistore.catalog.records import CopyRow
from wsistore.compress import recode
from wsistore.compress.archive import PackedView, proven_blocks
from wsistore.compress.reader import StoredSlide
from wsistore.compress.zips import Entry, write_ozx
from wsistore.errors import (
    BrokenError,
    InputError,
    Kind,
    UnsupportedError,
    WsistoreError,
)
from wsistore.events import EventKind
from wsistore.model import Mode, ObjectRecord
from wsistore.ops.opening import open_stored
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, from_open_copy
from wsistore.ops.targets import new_file, publish_folder, require_free, scratch_folder
from wsistore.storage.base import Storage
from wsistore.units import MIB

_SUFFIXES = (".ome.zarr", ".zarr", ".ozx")


class ExportCodec(StrEnum):
    """How the pixels of an export are encoded."""

    AS_STORED = "as-stored"
    """The scanner's tiles, byte for byte."""
    JPEG = "jpeg"
    """The scanner's JPEG tiles or strips as chunks that `imagecodecs_jpeg` decodes; refused where the source has no
    JPEG tiles, because encoding them would lose bits."""
    ZSTD = "zstd"
    """Pixels, compressed with zstd: every Zarr reader reads them. Five to seven times the source's size."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    slide: str
    target: str
    codec: ExportCodec
    bytes_written: int
    private: str | None
    """Folder with label, macro and metadata, if they were asked for."""
    seconds: float


def export(
    site: Site,
    slide: str,
    target: Path,
    *,
    codec: ExportCodec = ExportCodec.AS_STORED,
    with_private: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Exported:
    """Write a slide's OME-Zarr hierarchy to `target`.

    Parameters
    ----------
    site
        An open site.
    slide
        Key, unique beginning of one, or name.
    target
        A folder that does not exist yet (``X.ome.zarr``), or a file ending in ``.ozx``.
    codec
        See `ExportCodec`.
    with_private
        Also write label, macro and metadata, which identify the patient, into the folder ``X.private`` beside it. That
        folder gets its name first: who finds `target` finds both. If it is there already, file for file what would be
        written, as an interrupted export leaves it, it stays.
    progress
        Gets the number of bytes just written.

    Raises
    ------
    MissingError
        If there is no such slide.
    ConflictError
        If something is at `target` already.
    UnsupportedError
        If the slide cannot be had in that codec without loss, or is kept whole and no codec was asked for.
    StorageError, IntegrityError
        If the tier or the target fails, or stored bytes are not what was recorded of them.
    BrokenError
        If a tile of the source cannot be decoded, where the codec asks for that. In each case nothing is left at
        `target`.

    """
    started = site.clock.monotonic_seconds()
    key = site.catalog.resolve(slide)
    zipped = _check_target(target)
    private = _private_folder(target) if with_private else None

    def write(copy: CopyRow, stored: StoredSlide) -> tuple[CopyRow, list[ObjectRecord], int]:
        objects = commit_of(copy).objects
        records = [record for record in objects if record.key.startswith(stored.place.store)]
        if with_private or stored.companion.mode is Mode.WHOLE:  # what is decoded of the companion is proven first, too
            _prove(stored.storage, [record for record in objects if not record.key.startswith(stored.place.store)])
        with scratch_folder(target) as scratch:
            _write_store(site, key, stored, records, scratch / "store", codec, progress)
            if private is not None:
                _write_private(site, key, stored, scratch / "private")
            return copy, records, _publish(scratch, target, private, zipped=zipped)

    copy, records, size = from_open_copy(site, key, write)
    detail = {"tier": copy.tier, "codec": str(codec), "bytes": size, "private": with_private}
    detail |= {"bytes_read": sum(record.size_bytes for record in records), "objects": len(records)}
    site.note(key, EventKind.EXPORTED, detail)
    seconds = site.clock.monotonic_seconds() - started
    return Exported(key, str(target), codec, size, None if private is None else str(private), seconds)


def _private_folder(target: Path) -> Path:
    suffix = next(suffix for suffix in _SUFFIXES if target.name.endswith(suffix))
    return target.with_name(target.name.removesuffix(suffix) + ".private")


def _is_same(made: Path, there: Path) -> bool:
    """Say whether the folder `there` has exactly the files of `made`, which has no subfolders."""
    if not there.is_dir() or there.is_symlink():
        return False
    names = sorted(path.name for path in made.iterdir())
    if names != sorted(path.name for path in there.iterdir()):
        return False
    return filecmp.cmpfiles(made, there, names, shallow=False)[0] == names


def _check_target(target: Path) -> bool:
    """Say whether `target` is to be a zip file."""
    require_free(target)
    if target.suffix == ".ozx":
        return True
    if target.suffix != ".zarr":
        msg = f"{target} names neither a Zarr folder nor an .ozx file."
        raise InputError(msg, kind=Kind.UNSUPPORTED_FORMAT, remedy="Give a name that ends in .ome.zarr or .ozx.")
    return False


def _publish(scratch: Path, target: Path, private: Path | None, *, zipped: bool) -> int:
    """Give what was made its names, the private folder first; return the hierarchy's size in bytes."""
    is_new = private is not None and not _is_same(scratch / "private", private)
    if private is not None and is_new:
        publish_folder(scratch / "private", private)
    try:
        return _publish_store(scratch / "store", target, zipped=zipped)
    except BaseException:
        if private is not None and is_new:
            shutil.rmtree(private, ignore_errors=True)
        raise


def _publish_store(made: Path, target: Path, *, zipped: bool) -> int:
    """Give the hierarchy `made` its name, packed or as it is; return its size in bytes."""
    if zipped:
        with new_file(target) as out:
            _zip(made, out)
            return out.tell()
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    publish_folder(made, target)
    return size


def _write_store(
    site: Site,
    key: str,
    stored: StoredSlide,
    records: Sequence[ObjectRecord],
    folder: Path,
    codec: ExportCodec,
    progress: Callable[[int], None],
) -> None:
    whole = stored.companion.mode is Mode.WHOLE
    if whole and codec is not ExportCodec.ZSTD:
        size = sum(height * width * 3 for height, width in stored.companion.levels)
        msg = f"Slide {key} is kept whole ({stored.companion.mode_reason}): it has no tiles to hand on. "
        msg += f"Its pixels are {size} bytes before compression."
        raise UnsupportedError(msg, remedy="Ask for --codec zstd, which decodes them.")
    if codec is ExportCodec.ZSTD:
        _prove(stored.storage, records)
        with open_stored(site, key) as slide, _decoding(key):
            recode.write_pixels(slide.group, folder, progress)
        return
    if codec is ExportCodec.JPEG:
        recode.jpeg_only(stored)
    for name, blocks in _hierarchy(stored, records):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            for block in blocks:
                out.write(block)
                progress(len(block))
    if codec is ExportCodec.JPEG:
        recode.unfold(stored, folder)


def _hierarchy(stored: StoredSlide, records: Sequence[ObjectRecord]) -> Iterator[tuple[str, Iterator[memoryview]]]:
    """Yield the names of the store's objects, and their blocks, which are proven at the latest when they end."""
    prefix, storage = stored.place.store, stored.storage
    if not isinstance(storage, PackedView):
        yield from ((record.key.removeprefix(prefix), proven_blocks(storage, record)) for record in records)
        return
    _prove(storage, records)
    for info in storage.list(prefix):
        yield info.key.removeprefix(prefix), storage.stream(info.key, block_bytes=MIB)


def _prove(storage: Storage, records: Sequence[ObjectRecord]) -> None:
    for record in records:
        for _ in proven_blocks(storage, record):
            pass


@contextmanager
def _decoding(key: str) -> Iterator[None]:
    """Say of which slide it is that a decoder complains; its exceptions are of any kind."""
    try:
        yield
    except (WsistoreError, OSError):
        raise
    except Exception as error:
        msg = f"Slide {key} has a tile that cannot be decoded ({error})."
        raise BrokenError(msg, remedy="Export it as stored: that decodes nothing.") from error


def _zip(folder: Path, out: io.FileIO) -> None:
    """Pack a hierarchy; equal ones give equal files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    write_ozx(out, [Entry(p.relative_to(folder).as_posix(), p.stat().st_size, _blocks(p)) for p in files])


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as data:
        while block := data.read(MIB):
            yield block


def _write_private(site: Site, key: str, stored: StoredSlide, folder: Path) -> None:
    folder.mkdir()
    with open_stored(site, key) as slide:
        for name, picture in slide.associated.items():
            pixels = picture[..., 0] if picture.shape[-1] == 1 else picture
            Image.fromarray(pixels).save(folder / f"{Path(name).name}.png")
        if slide.icc_profile:
            (folder / "profile.icc").write_bytes(slide.icc_profile)
    companion = stored.companion
    document = {
        "slide": key,
        "format": companion.source_format,
        "files": [{"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in companion.files],
        "scanned_at": companion.scanned_at,
        "identifying": dict(companion.identifying),
        "metadata": dict(companion.metadata),
    }
    (folder / "metadata.json").write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
