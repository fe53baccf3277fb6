"""Physical units, and how people read and write them."""

from __future__ import annotations

import re

MIB = 1024 * 1024
UM_PER_CM = 10_000.0
UM_PER_INCH = 25_400.0
UM_PER_MM = 1_000.0
UM_PER_NM = 0.001

_PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtpe]?)(i?)(b|byte|bytes|bit|bits)?\s*(/s)?", re.IGNORECASE)
_MOST_BYTES = 2**63


def format_bytes(size_bytes: float) -> str:
    """Return a number of bytes with a decimal unit, as storage is sold: ``35.5 MB``."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.95 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000.0
    raise AssertionError


def parse_bytes(text: str, *, per_second: bool = False) -> int:
    """Return the bytes that a person means by ``40 TB`` (decimal), ``64 MiB`` (binary), ``1.5 GB`` or ``4096``.

    Parameters
    ----------
    text
        A number that is not negative, and a unit: ``B``, ``kB``, ``MB``, … ``EB``, ``KiB``, ``MiB``, … ``EiB``, or
        the same with ``bit`` as networks are sold; without one, bytes. Capitals do not matter, nor do spaces.
    per_second
        Whether it is a rate, which ends in ``/s``: ``200 MB/s``, ``1 Gbit/s``.

    Raises
    ------
    ValueError
        If it is no such text, or 2⁶³ bytes or more.

    """
    kind = "rate such as '200 MB/s' or '1 Gbit/s'" if per_second else "size such as '40 TB' or '64 MiB'"
    # Of letters and digits only ASCII's are meant; \d knows others.
    match = _QUANTITY.fullmatch(text.strip()) if text.isascii() else None
    if match is None or (match[5] is not None) != per_second or (match[3] and not match[2]):
        msg = f"{text!r} is no {kind}"
        raise ValueError(msg)
    base = 1024 if match[3] else 1000
    # In whole numbers: a float would round what is exact.
    whole, _, fraction = match[1].partition(".")
    factor = int(base ** _PREFIXES[match[2].lower()])
    parts = int(10 ** len(fraction)) * (8 if (match[4] or "").lower().startswith("bit") else 1)
    value = int(whole + fraction) * factor // parts
    if value >= _MOST_BYTES:
        msg = f"{text!r} is more than any storage holds"
        raise ValueError(msg)
    return value


def parse_percent(text: str) -> float:
    """Return the part of one that ``85 %`` is, from 0 to 1.

    Raises
    ------
    ValueError
        If it is no percentage from 0 to 100.

    """
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s*%", text.strip()) if text.isascii() else None
    if match is None or float(match[1]) > 100:
        msg = f"{text!r} is no percentage such as '85 %'"
        raise ValueError(msg)
    return float(match[1]) / 100
