"""The companion's ``files.json.zst``: what a slide came as, where its skeleton lies, what may name a patient."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from numcodecs.zstd import Zstd

from wsistore.compress import bounded
from wsistore.compress.metadata import FORMAT
from wsistore.compress.skeleton import SkeletonIndex
from wsistore.errors import IntegrityError, Kind, UnsupportedError
from wsistore.model import FileRecord, Mode, ObjectRecord, fingerprint
from wsistore.slides.base import Associated, Scanner, Source

Json = Any

_ZSTD_LEVEL = 15


@dataclass(frozen=True, slots=True, eq=False)
class KeepRecord:
    """What the slide's store was in the preset `keep`: what it takes to write that again, and the proof that it is."""

    arrays: tuple[Mapping[str, Json], ...]
    """The zarr.json of every level's image."""
    objects: tuple[ObjectRecord, ...]
    """All objects of the store; keys are relative to it."""
    orders: Mapping[str, tuple[int, ...]]
    """Numbers of a shard's chunks in the order in which they lay, by the shard's relative key: only for shards where
    the layout does not tell (tiles that share their bytes have one row in it)."""


@dataclass(frozen=True, slots=True, eq=False)
class Companion:
    """What the private companion knows of a slide beside the bytes themselves."""

    slide: str
    attempt: str
    mode: Mode
    mode_reason: str
    source_format: str
    files: tuple[FileRecord, ...]
    skeleton: SkeletonIndex | None
    levels: tuple[tuple[int, int], ...]
    """(height, width) in pixels, largest first."""
    um_per_px: tuple[float, float] | None
    magnification: float | None
    scanner: Scanner
    scanned_at: str | None
    series: str | None
    associated: tuple[Associated, ...]
    metadata: Mapping[str, Json]
    identifying: Mapping[str, str]
    warnings: tuple[str, ...]
    history: tuple[Mapping[str, Json], ...] = field(default=())
    """What was done to the encoding, oldest first: ``at``, ``action``, ``preset``, ``software``."""
    keep: KeepRecord | None = None
    """None in the preset `keep` itself, and for a slide that is kept whole."""

    @property
    def fingerprint(self) -> str:
        """Identity of the source's content."""
        return fingerprint(self.files)


def describe(
    source: Source,
    slide: str,
    attempt: str,
    files: Sequence[FileRecord],
    skeleton: SkeletonIndex | None,
    history: Sequence[Mapping[str, Json]],
) -> Companion:
    """Return the companion of a source."""
    return Companion(
        slide=slide,
        attempt=attempt,
        mode=source.mode,
        mode_reason=source.mode_reason,
        source_format=source.format,
        files=tuple(files),
        skeleton=skeleton,
        levels=tuple((level.height, level.width) for level in source.levels),
        um_per_px=source.um_per_px,
        magnification=source.magnification,
        scanner=source.scanner,
        scanned_at=source.scanned_at,
        series=source.series,
        associated=source.associated,
        metadata=source.metadata,
        identifying=source.identifying,
        warnings=source.warnings,
        history=tuple(history),
    )


def encode(companion: Companion) -> bytes:
    """Return ``files.json.zst``: UTF-8 JSON, compressed with zstd.

    Raises
    ------
    UnsupportedError
        If the vendor's metadata are larger than what `decode` reads.

    """
    document = {"format": FORMAT, **asdict(companion)}
    keep = companion.keep
    if keep is None:
        del document["keep"]
    else:
        document["keep"]["objects"] = [[record.key, record.size_bytes, record.sha256] for record in keep.objects]
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) > bounded.MOST_JSON_BYTES:
        msg = f"The metadata of {companion.files[0].name} take {len(text)} bytes as JSON."
        raise UnsupportedError(msg, remedy=f"Remove what is not metadata: at most {bounded.MOST_JSON_BYTES} are kept.")
    return bytes(Zstd(level=_ZSTD_LEVEL, checksum=True).encode(text))


def decode(data: bytes, *, where: str) -> Companion:
    """Return the companion from ``files.json.zst``; `where` is its key, for messages.

    Raises
    ------
    IntegrityError
        If it is damaged, or of a format that this version does not know.

    """
    document = bounded.json_object(bounded.zstd(data, bounded.MOST_JSON_BYTES, where=where), where=where)
    version = document.pop("format", None)
    if version != FORMAT:
        msg = f"{where} has format {version}; this wsistore reads format {FORMAT}."
        raise IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="Read it with a newer wsistore.")
    try:
        return _from_json(document)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        msg = f"{where} is damaged ({str(error)[:200]})."
        raise IntegrityError(msg, remedy=bounded.REMEDY) from error


def _from_json(document: dict[str, Json]) -> Companion:
    size, skeleton = document["um_per_px"], document["skeleton"]
    for name in ("slide", "attempt", "mode_reason", "source_format"):
        bounded.text(document[name])
    return Companion(
        **{
            **document,
            "mode": Mode(document["mode"]),
            "files": tuple(_file(**f) for f in document["files"]),
            "skeleton": None if skeleton is None else _skeleton(**skeleton),
            "levels": tuple(
                (bounded.count(height, 1), bounded.count(width, 1)) for height, width in document["levels"]
            ),
            "um_per_px": None if size is None else (float(size[0]), float(size[1])),
            "magnification": None if document["magnification"] is None else float(document["magnification"]),
            "scanner": Scanner(**document["scanner"]),
            "associated": tuple(_picture(**a) for a in document["associated"]),
            "metadata": bounded.mapping(document["metadata"]),
            "identifying": bounded.mapping(document["identifying"]),
            "warnings": tuple(bounded.text(w) for w in document["warnings"]),
            "history": tuple(bounded.mapping(entry) for entry in document["history"]),
            "keep": _keep(document["keep"]) if document.get("keep") is not None else None,
        }
    )


def _file(name: Json, size_bytes: Json, sha256: Json) -> FileRecord:
    return FileRecord(bounded.text(name), bounded.count(size_bytes), bounded.text(sha256))


def _skeleton(frames: Json, size_bytes: Json) -> SkeletonIndex:
    return SkeletonIndex(tuple(bounded.count(frame, 1) for frame in frames), bounded.count(size_bytes))


def _keep(record: Json) -> KeepRecord:
    objects = (
        ObjectRecord(bounded.text(key), bounded.count(size), bounded.text(sha256))
        for key, size, sha256 in record["objects"]
    )
    orders = bounded.mapping(record["orders"])
    return KeepRecord(
        tuple(bounded.mapping(array) for array in record["arrays"]),
        tuple(objects),
        {key: tuple(bounded.count(number) for number in order) for key, order in orders.items()},
    )


def _picture(name: Json, height: Json, width: Json, locator: Json) -> Associated:
    return Associated(bounded.text(name), bounded.count(height), bounded.count(width), bounded.mapping(locator))
