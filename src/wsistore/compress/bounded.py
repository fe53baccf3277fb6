"""Reading small stored documents that may be damaged or forged: never more memory than a sound one would take."""

from __future__ import annotations

import json
from typing import Any

import imagecodecs

from wsistore.errors import IntegrityError

MOST_JSON_BYTES = 32 * 1024 * 1024
"""The largest JSON document that is read; sound ones have some kB, those of huge DICOM series a few MB."""
REMEDY = "Restore the slide from another copy."


def json_object(data: bytes, *, where: str) -> dict[str, Any]:
    """Return the JSON object that `data` is; `where` is its key, for messages.

    Raises
    ------
    IntegrityError
        If it is not one, or too large to be sound.

    """
    if len(data) > MOST_JSON_BYTES:
        msg = f"{where} is damaged (more than {MOST_JSON_BYTES} bytes of JSON)."
        raise IntegrityError(msg, remedy=REMEDY)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        msg = f"{where} is damaged ({str(error)[:200]})."
        raise IntegrityError(msg, remedy=REMEDY) from error
    if not isinstance(document, dict):
        msg = f"{where} is damaged (no JSON object)."
        raise IntegrityError(msg, remedy=REMEDY)
    return document


def zstd(data: bytes, most: int, *, where: str) -> bytes:
    """Return what a zstd frame holds, if that is at most `most` bytes.

    Raises
    ------
    IntegrityError
        If the frame is damaged, or holds more, whatever size it declares.

    """
    try:
        return bytes(imagecodecs.zstd_decode(data, out=most))
    except (RuntimeError, ValueError) as error:
        msg = f"{where} is damaged ({error})."
        raise IntegrityError(msg, remedy=REMEDY) from error


def text(value: Any) -> str:
    """Return `value` if it is text.

    Raises
    ------
    TypeError
        If it is not.

    """
    if not isinstance(value, str):
        msg = f"{value!r:.80} where text is due"
        raise TypeError(msg)
    return value


def count(value: Any, least: int = 0) -> int:
    """Return `value` if it is a whole number from `least` to 2^53, the largest that JSON keeps exactly.

    Raises
    ------
    TypeError
        If it is not.

    """
    if type(value) is not int or not least <= value <= 2**53:
        msg = f"{value!r:.80} where a whole number of at least {least} is due"
        raise TypeError(msg)
    return value


def mapping(value: Any) -> dict[str, Any]:
    """Return `value` if it is a JSON object.

    Raises
    ------
    TypeError
        If it is not.

    """
    if not isinstance(value, dict):
        msg = f"{value!r:.80} where a JSON object is due"
        raise TypeError(msg)
    return value
