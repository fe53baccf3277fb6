"""Byte ranges of HTTP (RFC 9110, section 14): what a request asks for of an object whose size is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from wsistore.storage.base import Span

MOST_RANGES = 16
"""In one request. A reader of shards asks for a chunk or for some neighbours; thousands of ranges are an attack."""

_RANGE = re.compile(rb"(\d*)-(\d*)")
_MOST_DIGITS = 18
"""Numbers with more are beyond every object's end."""
_FAR = 10**_MOST_DIGITS


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Nothing of what was asked for is there, or it was asked for in too many parts: 416."""


Wanted = Sequence[Span] | Unsatisfiable | None
"""Spans within the object, in the order asked; None: all of it."""


def parse(header: bytes | None, size_bytes: int) -> Wanted:
    """Return what a ``Range`` header asks for.

    What is no byte range is ignored, as the standard wants. Ranges that overlap are answered with the whole object,
    which is less than they are together.

    Parameters
    ----------
    header
        Its value; None where there is none.
    size_bytes
        Of the object.

    """
    if header is None or header[:6].lower() != b"bytes=":
        return None
    texts = header[6:].split(b",", MOST_RANGES + 1)
    if len(texts) > MOST_RANGES:
        return Unsatisfiable()
    spans: list[Span] = []
    for text in texts:
        match = _RANGE.fullmatch(text.strip(b" \t"))
        if match is None or not (match[1] or match[2]):
            return None
        first, last = _number(match[1]), _number(match[2])
        if first is not None and last is not None and last < first:
            return None
        span = _within(first, last, size_bytes)
        if span is not None:
            spans.append(span)
    if not spans:
        return Unsatisfiable()
    return None if len(spans) > 1 and _overlap(spans) else spans


def _number(text: bytes) -> int | None:
    if not text:
        return None
    return int(text) if len(text) <= _MOST_DIGITS else _FAR


def _within(first: int | None, last: int | None, size: int) -> Span | None:
    """Return the part of an object that a range means; None if there is nothing of it."""
    if first is None:
        length = min(last or 0, size)
        return Span(size - length, length) if length else None
    if first >= size:
        return None
    end = size if last is None else min(last + 1, size)
    return Span(first, end - first)


def _overlap(spans: Sequence[Span]) -> bool:
    end = 0
    for span in sorted(spans, key=lambda one: one.start):
        if span.start < end:
            return True
        end = span.start + span.length_bytes
    return False
