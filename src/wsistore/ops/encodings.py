"""Which encoding is meant, and what is kept of one."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from wsistore.catalog.records import CopyRow
from wsistore.compress.presets import ENCODINGS, MOST_FOLD_HEIGHT, Encoding
from wsistore.errors import InputError, Kind
from wsistore.model import Preset


def settings_of(encoding: Encoding) -> dict[str, Any]:
    """Return an encoding's settings, as a copy's row and history keep them."""
    return {key: value for key, value in asdict(encoding).items() if key != "preset"}


def preset_encoding(preset: Preset, fold_height: int | None = None) -> Encoding:
    """Return the encoding of a preset, with another fold height if one is given.

    Raises
    ------
    InputError
        If the preset has no folds, or the height is none.

    """
    found = ENCODINGS[preset]
    if fold_height is None:
        return found
    if preset is Preset.KEEP:
        msg = "The preset 'keep' has no folds."
        raise InputError(msg, kind=Kind.SETTINGS_INVALID, remedy="Leave --fold-height out, or ask for 'fold'.")
    if not 1 <= fold_height <= MOST_FOLD_HEIGHT:
        msg = f"A fold of {fold_height} tiles cannot be."
        raise InputError(msg, kind=Kind.SETTINGS_INVALID, remedy=f"Give a height from 1 to {MOST_FOLD_HEIGHT}.")
    return replace(found, fold_height=fold_height)


def fold_height_of(copy: CopyRow) -> int:
    """Return how many tiles a chunk of a copy has at most."""
    value = copy.encoding.get("fold_height", 1)
    return value if isinstance(value, int) else 1
