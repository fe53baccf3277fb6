"""The companion's ``files.json.zst``: what a slide came as, where its skeleton lies, what may name a patient."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from numcodecs.zstd import Zstd

from wsistore.compress.metadata import FORMAT
from wsistore.compress.skeleton import SkeletonIndex
from wsistore.errors import IntegrityError, Kind
from wsistore.model import FileRecord, Mode, fingerprint
from wsistore.slides.base import Associated, Scanner, Source

Json = Any

_ZSTD_LEVEL = 15


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
    """Return ``files.json.zst``: UTF-8 JSON, compressed with zstd."""
    document = {"format": FORMAT, **asdict(companion)}
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return bytes(Zstd(level=_ZSTD_LEVEL, checksum=True).encode(text.encode()))


def decode(data: bytes, *, where: str) -> Companion:
    """Return the companion from ``files.json.zst``; `where` is its key, for messages.

    Raises
    ------
    IntegrityError
        If it is damaged, or of a format that this version does not know.

    """
    try:
        document = json.loads(Zstd().decode(data))
        version = document.pop("format")
        if version != FORMAT:
            msg = f"{where} has format {version}; this wsistore reads format {FORMAT}."
            raise IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="Read it with a newer wsistore.")
        return _from_json(document)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{where} is damaged ({error!r})."
        raise IntegrityError(msg, remedy="Restore the slide from another copy.") from error


def _from_json(document: dict[str, Json]) -> Companion:
    skeleton, size = document["skeleton"], document["um_per_px"]
    return Companion(
        **{
            **document,
            "mode": Mode(document["mode"]),
            "files": tuple(FileRecord(**f) for f in document["files"]),
            "skeleton": SkeletonIndex(tuple(skeleton["frames"]), skeleton["size_bytes"]) if skeleton else None,
            "levels": tuple((height, width) for height, width in document["levels"]),
            "um_per_px": (size[0], size[1]) if size else None,
            "scanner": Scanner(**document["scanner"]),
            "associated": tuple(Associated(**a) for a in document["associated"]),
            "warnings": tuple(document["warnings"]),
            "history": tuple(document["history"]),
        }
    )
