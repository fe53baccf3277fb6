"""Units as files of coefficients write them, and what turns one into another: ``EUR/GiB`` into ``EUR/GB``."""

from __future__ import annotations

HOURS_PER_YEAR = 8766.0
"""Of 365.25 days; a month is a twelfth of it."""

_SCALES: dict[str, dict[str, float]] = {
    "bytes": {
        "B": 1.0,
        **{f"{prefix}B": 1000.0**power for power, prefix in enumerate("kMGTP", 1)},
        **{f"{prefix}iB": 1024.0**power for power, prefix in enumerate("KMGTP", 1)},
    },
    "time": {"hour": 1.0, "day": 24.0, "month": HOURS_PER_YEAR / 12, "year": HOURS_PER_YEAR},
    "energy": {"Wh": 1e-3, "kWh": 1.0, "MWh": 1e3},
    "mass": {"gCO2e": 1e-3, "kgCO2e": 1.0, "tCO2e": 1e3},
    "power": {"W": 1.0, "kW": 1e3},
    "requests": {"request": 1.0, "1000 requests": 1e3, "10000 requests": 1e4, "million requests": 1e6},
    "number": {"1": 1.0, "%": 0.01},
    "core": {"core": 1.0},
    "money": {},
}
_KINDS = {name: (kind, scale) for kind, names in _SCALES.items() for name, scale in names.items()}


def factor(given: str, wanted: str) -> float:
    """Return by what a value in the unit `given` is multiplied to be one in `wanted`.

    Parameters
    ----------
    given, wanted
        Such as ``EUR/TB/month``: names joined by ``/``, where the first is counted and the others are per. Three
        capitals are a currency. Bytes are decimal (``GB``) or binary (``GiB``), never one for the other.

    Raises
    ------
    ValueError
        If `given` is no unit, or not of the same kind as `wanted`; the message says which.

    """
    one, other = given.split("/"), wanted.split("/")
    if len(one) != len(other):
        msg = f"{given!r} is not a unit like {wanted!r}"
        raise ValueError(msg)
    product = 1.0
    for place, (mine, theirs) in enumerate(zip(one, other, strict=True)):
        scale = _scale(mine.strip(), theirs, given, wanted)
        product = product * scale if place == 0 else product / scale
    return product


def _scale(given: str, wanted: str, whole: str, expected: str) -> float:
    if given == wanted:
        return 1.0
    kind, scale = _KINDS.get(given, ("", 0.0))
    other, base = _KINDS.get(wanted, ("money", 0.0))
    if not kind or kind != other:
        msg = f"{whole!r} is not a unit like {expected!r}"
        raise ValueError(msg)
    return scale / base
