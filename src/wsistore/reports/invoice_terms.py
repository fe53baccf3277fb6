"""What a site says of its invoices: which lines are of which tier, dated rates; tables of reports.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

from wsistore.errors import SiteError
from wsistore.reports.usage import What
from wsistore.settings.values import did_you_mean
from wsistore.tiers.value_files import Json, ValueReader

_RULE = ("tier", "meter", "issuer", "resource", "sku", "gigabyte", "ignore")
_RATE = ("currency", "from", "central", "source")
METERS = (*map(str, What), "tax")
_SHIPPED = resources.files("wsistore.reports") / "data" / "invoice-lines.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRule:
    """Which lines of invoices are of a tier; each pattern has ``*`` and ``?``, and fits in any case."""

    tier: str = ""
    """Nothing: left to what the line's resource and issuer tell."""
    meter: str = ""
    """Nothing: left to the words of the line."""
    issuer: str = "*"
    resource: str = "*"
    sku: str = "*"
    gigabyte: str = ""
    """What the issuer calls a gigabyte: GB or GiB; nothing: as it comes."""
    ignore: bool = False
    """Whether the line is for something else than slides."""

    def fits(self, issuer: str, resource: str, names: tuple[str, ...]) -> bool:
        """Say whether a line is meant."""
        return (
            _like(issuer, self.issuer)
            and _like(resource, self.resource)
            and (self.sku == "*" or any(_like(name, self.sku) for name in names))
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """Euros per unit of a currency from a day on."""

    currency: str
    begins: date
    eur: float


@dataclass(frozen=True, slots=True)
class InvoiceTerms:
    """What reports.toml says of invoices."""

    rules: tuple[LineRule, ...] = ()
    rates: tuple[Rate, ...] = field(default=())

    def rate(self, currency: str, day: date) -> float:
        """Return the euros per unit of a currency on a day.

        Raises
        ------
        SiteError
            If no rate is known.

        """
        if currency == "EUR":
            return 1.0
        known = [one for one in self.rates if one.currency == currency and one.begins <= day]
        if not known:
            msg = f"reports.toml has no rate of {currency!r} for {day}, in which an invoice is."
            remedy = f'Add [[rate]] with currency = "{currency}", from = {day:%Y-%m-01} and central = EUR per unit.'
            raise SiteError(msg, remedy=remedy)
        return max(known, key=lambda one: one.begins).eur


def _like(text: str, pattern: str) -> bool:
    return fnmatchcase(text.casefold(), pattern.casefold())


def read_invoice_terms(reader: ValueReader, document: Json) -> InvoiceTerms:
    """Return what the tables [[invoice]] and [[rate]] of reports.toml say.

    Raises
    ------
    SiteError
        If they are wrong; the message names the key.

    """
    rules = tuple(_rule(reader, table) for table in _tables(reader, document, "invoice"))
    rates = tuple(_rate(reader, table) for table in _tables(reader, document, "rate"))
    if len({(one.currency, one.begins) for one in rates}) < len(rates):
        msg = f"{reader.where}: two [[rate]] are of the same currency and day."
        raise SiteError(msg, remedy="Keep one of them.")
    return InvoiceTerms(rules, rates)


def _tables(reader: ValueReader, document: Json, key: str) -> list[Json]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise reader.wrong(found, f"tables, each written as [[{key}]]", key)
    return found


def _rule(reader: ValueReader, table: Json) -> LineRule:
    reader.known(table, "invoice", _RULE)
    texts = {key: value for key, value in table.items() if key != "ignore"}
    for key, value in texts.items():
        if not isinstance(value, str) or not value.strip():
            raise reader.wrong(value, "a text in double quotes that is not empty", f"invoice.{key}")
    if "meter" in texts and texts["meter"] not in METERS:
        hint = did_you_mean(texts["meter"], METERS)
        raise reader.wrong(texts["meter"], f"one of: {', '.join(METERS)}{hint}", "invoice.meter")
    if texts.get("gigabyte", "GB") not in ("GB", "GiB"):
        raise reader.wrong(texts["gigabyte"], '"GB" for 10^9 bytes or "GiB" for 2^30', "invoice.gigabyte")
    ignore = table.get("ignore", False)
    if not isinstance(ignore, bool):
        raise reader.wrong(ignore, "true or false", "invoice.ignore")
    if not ignore and not {"tier", "meter", "gigabyte"} & set(texts):
        raise reader.wrong(dict(table), "a tier, a meter, a gigabyte or ignore = true", "invoice")
    return LineRule(**texts, ignore=ignore)


def _rate(reader: ValueReader, table: Json) -> Rate:
    reader.known(table, "rate", _RATE)
    currency, begins, central = (table.get(key) for key in ("currency", "from", "central"))
    if not isinstance(currency, str) or not re.fullmatch(r"[A-Z]{3}", currency) or currency == "EUR":
        raise reader.wrong(currency, 'a currency of three capitals other than EUR, such as "USD"', "rate.currency")
    if type(begins) is not date:
        raise reader.wrong(begins, "the day from which the rate holds, such as 2026-01-01", "rate.from")
    if isinstance(central, bool) or not isinstance(central, int | float) or not 1e-6 <= central <= 1e6:
        raise reader.wrong(central, "EUR per unit, above 0", "rate.central")
    return Rate(currency, begins, float(central))


# --- what comes with wsistore -----------------------------------------------------------------------------------------


@cache
def _shipped() -> dict[str, Any]:
    return tomllib.loads(_SHIPPED.read_text("utf-8"))


def meter_of(names: tuple[str, ...]) -> str:
    """Return the kind of usage that the words of a line tell; nothing if they tell none."""
    text = " | ".join(names).casefold()
    lines: list[Mapping[str, str]] = _shipped()["line"]
    return next((line["meter"] for line in lines if re.search(line["pattern"], text)), "")


def is_issued_by(issuer: str, provider: str) -> bool:
    """Say whether an invoice's issuer is a tier's provider."""
    names = (f"*{provider}*", *_shipped()["issuers"].get(provider, ()))
    return any(_like(issuer, name) for name in names)


def is_of_archive(names: tuple[str, ...]) -> bool:
    """Say whether the words of a line name an archive class, which has to be restored before it can be read."""
    return re.search(_shipped()["archive"]["pattern"], " | ".join(names).casefold()) is not None


def gigabyte_of(issuer: str) -> str:
    """Return what an issuer calls a gigabyte: GB (10^9 bytes) unless it is known to mean GiB."""
    return next((unit for pattern, unit in _shipped()["gigabytes"].items() if _like(issuer, pattern)), "GB")
