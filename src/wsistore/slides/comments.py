"""Which comments in a coded tile are harmless: the whole signatures of known encoders, and nothing else."""

from __future__ import annotations

import re

_MOST_BYTES = 64
"""Longer comments are no signature (but for Kakadu's table of layers, which has a form of its own)."""

# Every repetition is bounded and no two neighbours can match the same character: the time is linear in the comment,
# and a number too long to be a version (a birth date, a case number) does not pass for one.
_VERSION = rb"(?:,? ?(?:version |v\.? ?|-v)?\d{1,2}(?:[.,]\d{1,3}){0,3})?"

_ENCODER = re.compile(
    rb"(?:created by:? )?"
    rb"(?:kakadu(?: software)?|jj2000|openjpeg|jasper|libjpeg(?:-turbo)?|mozjpeg|lavc|grok(?: image compression)?"
    rb"|lead technologies(?:,? inc\.?)?|intel\(r\) (?:jpeg library|ipp jpeg encoder)|independent jpeg group"
    rb"|imagemagick|graphicsmagick|vips|aperio image library|hamamatsu nanozoomer digital pathology"
    rb"|hamamatsu photonics|adobe jpeg)" + _VERSION,
    re.IGNORECASE,
)
_GD = re.compile(
    rb"creator: gd-jpeg v1\.0 \(using IJG JPEG v\d{2}\),(?: default)? quality(?: = \d{1,3})?", re.IGNORECASE
)
_KAKADU_LAYERS = re.compile(
    rb"kdu-layer-info: log_2\{delta-d\((?:squared-error|mse)\)/delta-l\(bytes\)\}, l\(bytes\)"
    rb"(?:\n {0,5}-?\d{1,3}\.\d, {1,3}\d\.\de[+-]\d{2,3}){0,64}",
    re.IGNORECASE,
)
"""One line per quality layer: a slope with one decimal, a length with two significant digits."""


def harmless(comment: bytes) -> bool:
    """Say whether a comment is an encoder's signature with a version: it can tell nothing of a patient."""
    text = comment.strip(b"\0\r\n\t ")
    if len(text) <= _MOST_BYTES:
        return not text or bool(_ENCODER.fullmatch(text) or _GD.fullmatch(text))
    return bool(_KAKADU_LAYERS.fullmatch(text) or _GD.fullmatch(text))
