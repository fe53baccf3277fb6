"""Reads what providers invoice: exports in FOCUS (CSV or Parquet, of any version), or a table that people typed."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsistore.errors import InputError, Kind
from wsistore.reports.periods import Month
from wsistore.settings.values import did_you_mean

MOST_BYTES = 4 * 10**9
_FOCUS = ("BilledCost", "BillingCurrency", "ChargeCategory", "ChargePeriodEnd", "ChargePeriodStart")
"""Without these a table is no invoice in FOCUS."""
_ISSUERS = ("InvoiceIssuerName", "InvoiceIssuer", "ServiceProviderName", "ProviderName", "PublisherName")
_NAMES = ("SkuMeter", "SkuId", "SkuPriceId", "ChargeDescription", "x_UsageType", "x_Operation", "ServiceSubcategory")
_TABLE = {
    "month": ("month", "mois", "period", "période", "periode"),
    "sku": ("sku", "référence", "reference", "product", "produit"),
    "description": ("description", "libellé", "libelle", "désignation", "designation"),
    "quantity": ("quantity", "quantité", "quantite"),
    "unit": ("unit", "unité", "unite"),
    "amount": ("amount", "montant", "montant ht", "montant_ht", "total ht"),
    "tax": ("tax", "vat", "tva"),
    "currency": ("currency", "devise"),
    "invoice": ("invoice", "facture", "invoice_id", "numéro de facture"),
    "issuer": ("issuer", "provider", "fournisseur", "émetteur"),
    "tier": ("tier",),
    "meter": ("meter",),
}
"""Names of columns that people may write, in English and French, in any case."""
CATEGORIES = ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
_SPACES = str.maketrans("", "", " \u00a0\u202f'_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of an invoice, before anybody knows which tier it is of."""

    number: int
    """In the file, from 1."""
    issuer: str
    account: str
    invoice: str
    """Nothing: not issued yet, or not told."""
    billed: tuple[datetime, datetime]
    """Billing period; its end is the first moment after it."""
    charged: tuple[datetime, datetime]
    category: str
    is_correction: bool
    amount: Decimal
    currency: str
    quantity: float | None
    unit: str
    service: str
    service_category: str
    names: tuple[str, ...]
    """What says what the line is for, the SKU first."""
    sku: str
    meter: str
    """As the issuer calls it."""
    price_id: str
    description: str
    resource: str
    region: str
    tier: str = ""
    """Where the file itself says it."""
    kind: str = ""
    """Of usage, where the file itself says it."""


def read_lines(path: Path, *, zone: str, issuer: str = "", currency: str = "") -> tuple[bytes, list[Line]]:
    """Return a file's bytes and the lines of invoices in it.

    Parameters
    ----------
    path
        CSV (comma, semicolon or tabulator; UTF-8; may be compressed by gzip) or Parquet.
    zone
        In which the months of a table of people's begin.
    issuer, currency
        Where the file does not say them.

    Raises
    ------
    InputError
        If it cannot be read, or is no invoice: the message names line and column.

    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _wrong(path, "is larger than 4 GB", "Import a month at a time.")
        body = path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})."
        raise InputError(msg, kind=Kind.PATH_MISSING, remedy="Name the file that the provider delivered.") from error
    names, rows = _parquet(path, body) if body[:4] == b"PAR1" else _csv(path, body)
    known = {name.strip().casefold(): name for name in names}
    if len(known) < len(names):
        raise _wrong(path, "has two columns of one name", "Keep one of them.")
    if all(name.casefold() in known for name in ("BilledCost", "ChargeCategory")):
        maker: _Focus | _Table = _Focus(path, known, issuer)
    else:
        maker = _Table(path, known, zone, issuer, currency)
    lines = [line for number, row in enumerate(rows, 1) for line in maker.lines(number, row)]
    if not lines:
        raise _wrong(path, "has no lines", "Name the file that the provider delivered.")
    return body, lines


def _wrong(path: Path, what: str, remedy: str) -> InputError:
    return InputError(f"{path}: {what}.", kind=Kind.METADATA_INVALID, remedy=remedy)


def _parquet(path: Path, body: bytes) -> tuple[list[str], Iterator[Mapping[str, Any]]]:
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        wanted = {name.casefold() for name in (*_FOCUS, *_FOCUS_MORE, *_ISSUERS, *_NAMES)}
        names = [name for name in file.schema_arrow.names if name.casefold() in wanted]
        rows = file.read(columns=names).to_pylist()
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise _wrong(path, f"is no Parquet file that can be read ({error})", "Fetch it again.") from error
    return names, iter(rows)


def _csv(path: Path, body: bytes) -> tuple[list[str], Iterator[Mapping[str, Any]]]:
    try:
        if body[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
                body = packed.read(MOST_BYTES)
        text = body.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _wrong(path, f"is neither Parquet nor CSV in UTF-8 ({error})", "Save it as CSV, UTF-8.") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise _wrong(path, f"line {reader.line_num}: is no CSV ({error})", "Save it as CSV again.") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise _wrong(path, f"line {number + 1}: has not as many cells as the first line", "Save it as CSV again.")
    return list(reader.fieldnames or []), iter(rows)


class _Reader:
    """Cells of a row by the name of their column."""

    def __init__(self, path: Path, known: Mapping[str, str]) -> None:
        self.path, self.known = path, known

    def has(self, name: str) -> bool:
        return name.casefold() in self.known

    def text(self, row: Mapping[str, Any], name: str) -> str:
        value = row.get(self.known.get(name.casefold(), ""))
        return "" if value is None or str(value).casefold() in ("null", "nan") else str(value).strip()

    def amount(self, row: Mapping[str, Any], name: str, number: int) -> Decimal | None:
        value = row.get(self.known.get(name.casefold(), ""))
        if isinstance(value, bool | bytes):
            raise self.wrong(number, name, value, "a number")
        if isinstance(value, int | float | Decimal):
            value = repr(value) if isinstance(value, float) else str(value)
        text = "" if value is None else str(value).strip()
        if text.casefold() in ("", "null"):
            return None
        try:
            found = Decimal(self._plain(text))
        except InvalidOperation:
            raise self.wrong(number, name, text, "a number") from None
        if not found.is_finite() or abs(found) >= 10**15:
            raise self.wrong(number, name, text, "a number of less than sixteen digits")
        return found

    def _plain(self, text: str) -> str:
        return text

    def need(self, row: Mapping[str, Any], name: str, number: int) -> str:
        text = self.text(row, name)
        if not text:
            raise self.wrong(number, name, text, "a text")
        return text

    def wrong(self, number: int, name: str, value: object, expected: str) -> InputError:
        shown = self.known.get(name.casefold(), name)
        return _wrong(
            self.path, f"line {number}: {shown!r} is {str(value)[:60]!r}; expected {expected}", "Mend the line."
        )


_FOCUS_MORE = (
    *("BillingAccountId", "BillingPeriodStart", "BillingPeriodEnd", "ChargeClass", "InvoiceId", "PricingQuantity"),
    *("PricingUnit", "ConsumedQuantity", "ConsumedUnit", "ServiceName", "ServiceCategory", "ResourceId"),
    *("ResourceName", "RegionId"),
)


class _Focus(_Reader):
    """Rows of FOCUS, of any version."""

    def __init__(self, path: Path, known: Mapping[str, str], issuer: str) -> None:
        super().__init__(path, known)
        missing = [name for name in _FOCUS if not self.has(name)]
        if missing:
            raise _wrong(path, f"lacks the columns {', '.join(missing)}", "Export it again, with all columns of FOCUS.")
        self._issuer = issuer

    def lines(self, number: int, row: Mapping[str, Any]) -> list[Line]:
        charged = (self._moment(row, "ChargePeriodStart", number), self._moment(row, "ChargePeriodEnd", number))
        billed = charged
        if self.text(row, "BillingPeriodStart") and self.text(row, "BillingPeriodEnd"):
            billed = (self._moment(row, "BillingPeriodStart", number), self._moment(row, "BillingPeriodEnd", number))
        for begin, end in (charged, billed):
            if begin >= end:
                raise self.wrong(number, "ChargePeriodEnd", end, f"a moment after {begin}")
        category, amount = self.text(row, "ChargeCategory"), self.amount(row, "BilledCost", number)
        if category not in CATEGORIES:
            raise self.wrong(number, "ChargeCategory", category, f"one of: {', '.join(CATEGORIES)}")
        if amount is None:
            raise self.wrong(number, "BilledCost", "", "a number")
        issuer = self._issuer or next((text for name in _ISSUERS if (text := self.text(row, name))), "")
        if not issuer:
            raise self.wrong(number, "InvoiceIssuerName", "", "who issues it, or --issuer")
        quantity, unit = self._quantity(row, number)
        return [
            Line(
                number=number,
                issuer=issuer,
                account=self.text(row, "BillingAccountId"),
                invoice=self.text(row, "InvoiceId"),
                billed=billed,
                charged=charged,
                category=category,
                is_correction=self.text(row, "ChargeClass") == "Correction",
                amount=amount,
                currency=self._currency(row, number),
                quantity=quantity,
                unit=unit,
                service=self.text(row, "ServiceName"),
                service_category=self.text(row, "ServiceCategory"),
                names=tuple(text for name in _NAMES if (text := self.text(row, name))),
                sku=self.text(row, "SkuId"),
                meter=self.text(row, "SkuMeter") or self.text(row, "x_UsageType"),
                price_id=self.text(row, "SkuPriceId"),
                description=self.text(row, "ChargeDescription"),
                resource=self.text(row, "ResourceName") or self.text(row, "ResourceId"),
                region=self.text(row, "RegionId"),
            )
        ]

    def _quantity(self, row: Mapping[str, Any], number: int) -> tuple[float | None, str]:
        for kind in ("Pricing", "Consumed"):
            found, unit = self.amount(row, f"{kind}Quantity", number), self.text(row, f"{kind}Unit")
            if found is not None and unit:
                return float(found), unit
        return None, ""

    def _currency(self, row: Mapping[str, Any], number: int) -> str:
        text = self.text(row, "BillingCurrency").upper()
        if len(text) != 3 or not text.isascii() or not text.isalpha():
            raise self.wrong(number, "BillingCurrency", text, "a currency of three letters, such as EUR")
        return text

    def _moment(self, row: Mapping[str, Any], name: str, number: int) -> datetime:
        value = row.get(self.known.get(name.casefold(), ""))
        if not isinstance(value, datetime):
            text = self.need(row, name, number).removesuffix(" UTC")
            try:
                value = datetime.fromisoformat(text)
            except ValueError:
                raise self.wrong(number, name, text, "a moment such as 2026-10-01T00:00:00Z") from None
        # FOCUS wants UTC; what has no zone is that.
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


class _Table(_Reader):
    """Rows that people typed from an invoice on paper: month, amount, and what they are for."""

    def __init__(self, path: Path, known: Mapping[str, str], zone: str, issuer: str, currency: str) -> None:
        super().__init__(path, {})
        spoken = {word: name for name, words in _TABLE.items() for word in words}
        for word, given in known.items():
            if word not in spoken:
                hint = did_you_mean(word, tuple(spoken))
                raise _wrong(path, f"has a column {given!r} that nobody knows{hint}", _COLUMNS_REMEDY)
            if spoken[word] in self.known:
                raise _wrong(path, f"has two columns for the {spoken[word]}", "Keep one of them.")
            self.known = {**self.known, spoken[word]: given}
        for name in ("month", "amount"):
            if name not in self.known:
                raise _wrong(path, f"lacks the column {name!r}", _COLUMNS_REMEDY)
        self._zone, self._issuer, self._coin = zone, issuer, currency

    def lines(self, number: int, row: Mapping[str, Any]) -> list[Line]:
        month = Month.parse(self.text(row, "month"), self._zone)
        amount, tax = self.amount(row, "amount", number), self.amount(row, "tax", number)
        if amount is None:
            raise self.wrong(number, "amount", "", "a number")
        quantity, tier, kind = self.amount(row, "quantity", number), self.text(row, "tier"), self.text(row, "meter")
        issuer = self.text(row, "issuer") or self._issuer
        if not issuer:
            raise self.wrong(number, "issuer", "", "who issues the invoice, or --issuer")
        sku, description = self.text(row, "sku"), self.text(row, "description")
        span = (month.begins, month.ends)
        line = Line(
            number=number,
            issuer=issuer,
            account="",
            invoice=self.text(row, "invoice"),
            billed=span,
            charged=span,
            category="Usage",
            is_correction=False,
            amount=amount,
            currency=(self.text(row, "currency") or self._coin or "EUR").upper(),
            quantity=None if quantity is None else float(quantity),
            unit=self.text(row, "unit"),
            service=description or sku,
            service_category="Storage",
            names=tuple(text for text in (sku, description) if text),
            sku=sku,
            meter="",
            price_id="",
            description=description,
            resource="",
            region="",
            tier=tier,
            kind=kind,
        )
        return [line] if not tax else [line, _tax_of(line, tax)]

    def _plain(self, text: str) -> str:
        """Return a number as Python writes it: 1 234,50 and 1,234.50 are both known, 1,234 alone is not."""
        text = text.translate(_SPACES).removesuffix("€").removesuffix("EUR")
        comma, point = text.rfind(","), text.rfind(".")
        if comma >= 0 and point >= 0:
            text = text.replace("." if comma > point else ",", "")
        elif text.count(",") > 1 or text.count(".") > 1 or (comma >= 0 and len(text) - comma == 4):
            return "two readings"
        return text.replace(",", ".")


_COLUMNS_REMEDY = f"Columns may be: {', '.join(_TABLE)}; docs/invoices.md tells more."


def _tax_of(line: Line, tax: Decimal) -> Line:
    changed: dict[str, Any] = {"category": "Tax", "amount": tax, "quantity": None, "unit": "", "kind": "tax"}
    return Line(**{name: changed.get(name, getattr(line, name)) for name in Line.__slots__})


def billing_keys(lines: Sequence[Line], zone: str) -> dict[tuple[str, str, str], set[str]]:
    """Return the ids of invoices by issuer, account and billing month; nothing stands for an invoice without id."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for line in lines:
        found.setdefault((line.issuer, line.account, str(month_of(line.billed, zone))), set()).add(line.invoice)
    return found


def month_of(span: tuple[datetime, datetime], zone: str) -> Month:
    """Return the month of the site's that a period lies in: by its middle, so that months of UTC are the site's."""
    return Month.of(span[0] + (span[1] - span[0]) / 2, zone)
