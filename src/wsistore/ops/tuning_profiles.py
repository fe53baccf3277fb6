"""Kept choices of the tuner: a JSON file per scanner, stain, source codec and tier in the site's ``profiles``."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsistore.compress.presets import ENCODINGS, MOST_FOLD_HEIGHT, Encoding
from wsistore.compress.tuning.measure import Measurement
from wsistore.errors import Kind, SiteError
from wsistore.model import Preset
from wsistore.slides.base import Scanner

Json = dict[str, Any]

FOLDER = "profiles"
FORMAT_VERSION = 1
UNKNOWN = "unknown"
_REMEDY = "Remove the file, and run 'wsistore tune' again."
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """Which slides are alike: each part in lower case, with nothing but letters, digits and ``-``."""

    scanner: str
    stain: str
    codec: str
    """Of the source's tiles: ``jpeg``, ``jpeg-strips``, ``jpeg2k``, …"""
    tier: str

    @property
    def file_name(self) -> str:
        """Name of the profile's file."""
        return f"{self.scanner}-{self.stain}-{self.codec}-{self.tier}.json"

    @property
    def name(self) -> str:
        """As ``--profile`` takes it."""
        return f"{self.scanner}/{self.stain}"


def slug(text: str | None) -> str:
    """Return `text` as a part of a profile's name."""
    words = re.sub(r"[^a-z0-9]+", "-", (text or "").lower()).strip("-")
    return words[:48].strip("-") or UNKNOWN


def scanner_name(scanner: Scanner, source_format: str) -> str:
    """Return the name of a scanner's model as far as the source tells, else of its maker, else of the format."""
    maker, model = slug(scanner.manufacturer), slug(scanner.model)
    if model != UNKNOWN:
        return model if maker == UNKNOWN or model.startswith(maker) else slug(f"{maker} {model}")
    return maker if maker != UNKNOWN else slug(source_format)


def path_of(folder: Path, key: ProfileKey) -> Path:
    """Return where the profile of a site lies."""
    return folder / FOLDER / key.file_name


def find_profile(folder: Path, key: ProfileKey, preset: Preset) -> Encoding | None:
    """Return the encoding that the tuner chose for slides of this kind in a preset; None if it was not asked.

    Parameters
    ----------
    folder
        The site's.
    key
        Scanner, stain, codec and tier.
    preset
        What is wanted; for `Preset.KEEP` there is nothing to choose.

    Raises
    ------
    SiteError
        If the profile's file is damaged, or of a newer wsistore.

    """
    if preset is Preset.KEEP:
        return ENCODINGS[preset]
    document = read_profile(folder, key)
    if document is None:
        return None
    try:
        chosen = document["presets"][str(preset)]
        height, candidate = chosen["fold_height"], chosen["candidate"]
        if type(height) is not int or not 1 <= height <= MOST_FOLD_HEIGHT or not isinstance(candidate, str):
            raise _damaged(path_of(folder, key), f"the choice {chosen!r:.80} is no encoding")
    except (KeyError, TypeError) as error:
        raise _damaged(path_of(folder, key), f"{error!r:.100}") from error
    return Encoding(preset, height, candidate, packed=preset is Preset.PACK)


def read_profile(folder: Path, key: ProfileKey) -> Json | None:
    """Return a profile's document; None if there is none.

    Raises
    ------
    SiteError
        If the file cannot be read, or is damaged, or of a newer wsistore.

    """
    path = path_of(folder, key)
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MOST_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})."
        raise SiteError(msg, remedy="Make the file readable.") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(document, dict):
        raise _damaged(path, "it is no JSON object")
    if document.get("format") != FORMAT_VERSION:
        msg = f"{path}: has format {document.get('format')!r:.40}; this wsistore reads format {FORMAT_VERSION}."
        raise SiteError(msg, remedy="Use a newer wsistore, or remove the file and run 'wsistore tune' again.")
    return document


def write_profile(folder: Path, key: ProfileKey, document: Json) -> Path:
    """Keep a profile: whole or not at all, in place of an earlier one.

    Raises
    ------
    SiteError
        If it cannot be written.

    """
    path = path_of(folder, key)
    text = json.dumps({"format": FORMAT_VERSION, **document}, indent=1, ensure_ascii=False) + "\n"
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(exist_ok=True)
        try:
            with draft.open("xb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error})."
        raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Make the folder writable, or use --no-keep.") from error
    return path


def measurements_to_json(measurements: Mapping[str, Measurement]) -> Json:
    """Return a slide's measurements by the candidates' names as JSON values."""
    return {name: asdict(one) for name, one in measurements.items()}


def measurements_from_json(document: object, names: tuple[str, ...], where: Path) -> tuple[Measurement, ...] | None:
    """Return kept measurements of the candidates `names`; None if they are not all there.

    Raises
    ------
    SiteError
        If they are damaged.

    """
    if not isinstance(document, dict) or not set(names) <= document.keys():
        return None
    try:
        found = tuple(Measurement(**document[name]) for name in names)
        for one in found:
            numbers = [v for k, v in asdict(one).items() if k != "fallbacks"]
            if not all(isinstance(n, int | float) and 0 <= n < 1e18 for n in numbers):
                raise _damaged(where, "a figure is no number")
    except TypeError as error:
        raise _damaged(where, str(error)) from error
    return found


def _damaged(path: Path, what: str) -> SiteError:
    return SiteError(f"{path}: is damaged ({what}).", remedy=_REMEDY)
