"""Which comments in a coded tile are harmless: the signatures of encoders, and nothing else."""

from __future__ import annotations

import re

_VERSION = rb"(?:[\s,;:\-]*(?:version|ver\.?|v|library|build|release)?[\s.:,]*\d[\d.,\-]*)*"

_HARMLESS = re.compile(
    rb"(?:created by:?\s*)?"
    rb"(?:kakadu(?: software)?|jj2000|openjpeg|jasper|libjpeg(?:-turbo)?|mozjpeg|lavc|grok(?: image compression)?"
    rb"|lead technologies(?:,? inc\.?)?|intel\(r\) (?:jpeg library|ipp jpeg encoder)|independent jpeg group"
    rb"|creator: gd-jpeg|imagemagick|graphicsmagick|vips|aperio image library"
    rb"|hamamatsu nanozoomer digital pathology|hamamatsu photonics|adobe jpeg)" + _VERSION,
    re.IGNORECASE,
)

_KAKADU_LAYERS = re.compile(
    rb"kdu-layer-info: log_2\{delta-d\((?:squared-error|mse)\)/delta-l\(bytes\)\}, l\(bytes\)[\s\d.,e+\-]*",
    re.IGNORECASE,
)


def harmless(comment: bytes) -> bool:
    """Say whether a comment is an encoder's signature with a version: it can tell nothing of a patient."""
    text = comment.strip(b"\0\r\n\t ")
    return not text or bool(_HARMLESS.fullmatch(text) or _KAKADU_LAYERS.fullmatch(text))
