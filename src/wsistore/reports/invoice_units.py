"""Units as invoices write them, turned into those that usage is metered in: GB-Months, GB, Requests, Core-Hours."""

from __future__ import annotations

import re

from wsistore.reports.periods import US_PER_HOUR, Month

_SIZES = {
    "": 1.0,
    **{prefix: 1000.0**power for power, prefix in enumerate("kmgtp", 1)},
    **{f"{prefix}i": 1024.0**power for power, prefix in enumerate("kmgtp", 1)},
}
_BYTES = re.compile(r"([kmgtp]?i?)(?:b|o|bytes?|octets?)")
_MONTH = re.compile(r"mo|mos|months?|mois")
_HOUR = re.compile(r"h|hrs?|hours?|heures?")
_REQUESTS = re.compile(r"(\d+(?:\.\d+)?|)\s*([km]|thousand|million|)\s*(?:requests?|requêtes?|operations?|api calls?)")
_MANY = {"": 1.0, "k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6}
_GB = 1e9


def converted(quantity: float, unit: str, month: Month, gigabyte: str = "GB") -> tuple[float, str] | None:
    """Return a quantity in the unit that usage is metered in, and that unit; None if the unit is not known.

    Parameters
    ----------
    quantity
        How many of `unit`.
    unit
        As the invoice has it: ``GB-Mo``, ``GiB-Months``, ``Byte-Hours``, ``GB``, ``1000 Requests``, …
    month
        Of the usage: a GB-month is a GB for all its hours.
    gigabyte
        ``GB`` if the issuer's gigabyte is 10^9 bytes, ``GiB`` if what it calls GB is 2^30.

    """
    text = unit.strip().lower()
    requests = _REQUESTS.fullmatch(text)
    if requests is not None:
        return quantity * float(requests[1] or 1) * _MANY[requests[2]], "Requests"
    if re.fullmatch(r"(v?core|v?cpu)[- ]?(?:h|hrs?|hours?)", text):
        return quantity, "Core-Hours"
    size, *rest = [part for part in re.split(r"[-/* ·.×]", text) if part] or [""]
    factor = _bytes_of(size, gigabyte)
    if factor is None or len(rest) > 1:
        return None
    amount = quantity * factor / _GB
    if not rest:
        return amount, "GB"
    if _MONTH.fullmatch(rest[0]):
        return amount, "GB-Months"
    if _HOUR.fullmatch(rest[0]):
        return amount * US_PER_HOUR / month.length_us, "GB-Months"
    return None


def _bytes_of(text: str, gigabyte: str) -> float | None:
    match = _BYTES.fullmatch(text)
    if match is None:
        return None
    prefix = match[1]
    if gigabyte == "GiB" and prefix and not prefix.endswith("i"):
        prefix += "i"
    return _SIZES.get(prefix)
