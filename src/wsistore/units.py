"""Physical units and how people read them."""

from __future__ import annotations

MIB = 1024 * 1024
UM_PER_CM = 10_000.0
UM_PER_INCH = 25_400.0
UM_PER_MM = 1_000.0
UM_PER_NM = 0.001


def format_bytes(size_bytes: float) -> str:
    """Return a number of bytes with a decimal unit, as storage is sold: ``35.5 MB``."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.95 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000.0
    raise AssertionError
