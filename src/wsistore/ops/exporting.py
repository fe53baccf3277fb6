"""Handing a slide's pixels on as OME-Zarr: a folder or an ``.ozx``, as stored or in a codec that more tools read."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import mkdtemp

from PIL import Image

from wsistore.compress import recode
from wsistore.compress.reader import StoredSlide
from wsistore.errors import ConflictError, FullError, InputError, Kind, StorageError, UnsupportedError
from wsistore.events import EventKind
from wsistore.model import Mode
from wsistore.ops.opening import open_stored
from wsistore.ops.site import Site
from wsistore.ops.stored import open_copy


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
        Also write label, macro and metadata, which identify the patient, into the folder ``X.private`` beside it.
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
        If the tier, the target or the copy fails. In each case nothing is left at `target`.

    """
    started = site.clock.monotonic_seconds()
    key = site.catalog.resolve(slide)
    zipped = _check_target(target)
    private = target.with_name(target.name.split(".")[0] + ".private") if with_private else None
    if private is not None:
        _check_free(private)
    copy, _, stored = open_copy(site, key)
    with _scratch(target) as scratch:
        made = scratch / "store"
        _write_store(site, key, stored, made, codec, progress)
        if zipped:
            made = _zip(made, scratch / "store.ozx")
        if private is not None:
            _write_private(site, key, stored, scratch / "private")
            (scratch / "private").rename(private)
        size = sum(p.stat().st_size for p in (made.rglob("*") if made.is_dir() else [made]) if p.is_file())
        made.rename(target)
    detail = {"tier": copy.tier, "codec": str(codec), "bytes": size, "private": with_private}
    site.note(key, EventKind.EXPORTED, detail)
    seconds = site.clock.monotonic_seconds() - started
    return Exported(key, str(target), codec, size, None if private is None else str(private), seconds)


def _check_target(target: Path) -> bool:
    """Say whether `target` is to be a zip file."""
    _check_free(target)
    if target.suffix == ".ozx":
        return True
    if target.suffix != ".zarr":
        msg = f"{target} names neither a Zarr folder nor an .ozx file."
        raise InputError(msg, kind=Kind.UNSUPPORTED_FORMAT, remedy="Give a name that ends in .ome.zarr or .ozx.")
    return False


def _check_free(target: Path) -> None:
    if os.path.lexists(target):
        msg = f"There is something at {target} already."
        raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Give another name, or move it away.")


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Yield a temporary folder on the target's file system; translate what its disk says."""
    folder: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(dir=target.parent, prefix=".wsistore-", suffix=".part"))
        yield folder
    except OSError as error:
        kind = FullError if error.errno in {28, 122} else StorageError
        msg = f"{target} cannot be written: {error.strerror}."
        raise kind(msg, remedy="Make room or give another place, and run again.") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _write_store(
    site: Site, key: str, stored: StoredSlide, folder: Path, codec: ExportCodec, progress: Callable[[int], None]
) -> None:
    whole = stored.companion.mode is Mode.WHOLE
    if whole and codec is not ExportCodec.ZSTD:
        size = sum(height * width * 3 for height, width in stored.companion.levels)
        msg = f"Slide {key} is kept whole ({stored.companion.mode_reason}): it has no tiles to hand on. "
        msg += f"Its pixels are {size} bytes before compression."
        raise UnsupportedError(msg, remedy="Ask for --codec zstd, which decodes them.")
    if codec is ExportCodec.ZSTD:
        with open_stored(site, key) as slide:
            recode.write_pixels(slide.group, folder, progress)
        return
    if codec is ExportCodec.JPEG:
        recode.jpeg_only(stored)
    for info in stored.storage.list(stored.place.store):
        name = info.key.removeprefix(stored.place.store)
        data = stored.storage.get(info.key)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        progress(len(data))
    if codec is ExportCodec.JPEG:
        recode.unfold(stored, folder)


def _zip(folder: Path, target: Path) -> Path:
    """Pack a hierarchy as RFC-9 says: stored entries, the root's zarr.json first, other metadata next."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    root = folder / "zarr.json"
    files.sort(key=lambda p: (p != root, p.name != "zarr.json"))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.comment = json.dumps(
            {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}
        ).encode()
        for path in files:
            archive.write(path, path.relative_to(folder).as_posix())
    return target


def _write_private(site: Site, key: str, stored: StoredSlide, folder: Path) -> None:
    folder.mkdir()
    with open_stored(site, key) as slide:
        for name, picture in slide.associated.items():
            Image.fromarray(picture.squeeze()).save(folder / f"{Path(name).name}.png")
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
