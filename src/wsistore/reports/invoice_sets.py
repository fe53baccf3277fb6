"""The data set ``invoices/``: which tier and kind of usage a line is of, and the files that imports are kept in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsistore.errors import InputError, StorageError
from wsistore.reports.columns import INVOICES, schema_of
from wsistore.reports.invoice_files import Line, month_of
from wsistore.reports.invoice_terms import (
    METERS,
    InvoiceTerms,
    LineRule,
    gigabyte_of,
    is_issued_by,
    is_of_archive,
    meter_of,
)
from wsistore.reports.invoice_units import converted
from wsistore.reports.periods import Month
from wsistore.reports.sets import INVOICED, PartWriter, partition
from wsistore.reports.terms import TierModel
from wsistore.settings.values import did_you_mean

_LONGEST = timedelta(days=32)
"""Charges for longer than a month are compared with no month's usage."""
_OF_CLASS = ("storage", "retrieval", "early-deletion")
"""Kinds of usage whose lines name the storage class; what is read is charged for all classes alike."""
_LEAST = Decimal("0.0000000001")
_FOREIGN = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
_ORDER = ("InvoiceIssuerName", "BillingAccountId", "InvoiceId", "ChargePeriodStart", "x_Source")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Assigner:
    """Says what lines of invoices are for.

    Parameters
    ----------
    terms
        Of reports.toml.
    tiers
        By name.
    zone
        Of the site's months.
    where
        The file, for messages.

    """

    terms: InvoiceTerms
    tiers: Mapping[str, TierModel]
    zone: str
    where: str

    def rows(self, lines: Sequence[Line], source: str) -> list[Row]:
        """Return the rows of ``invoices/``.

        Raises
        ------
        InputError
            If a line names a tier or a kind of usage that there is not.
        SiteError
            If the rate of its currency is not known.

        """
        return [self._row(line, source) for line in lines]

    def _row(self, line: Line, source: str) -> Row:
        month = month_of(line.charged, self.zone)
        mine = [rule for rule in self.terms.rules if rule.fits(line.issuer, line.resource, line.names)]
        meter = self._meter(line, mine)
        tier = self._tier(line, mine, meter)
        if tier in self.tiers and meter == "retrieval" and not self.tiers[tier].prices.retrievals:
            meter = "egress"  # what is charged for reading where nothing has to be restored
        gigabyte = next((rule.gigabyte for rule in mine if rule.gigabyte), "") or gigabyte_of(line.issuer)
        quantity = None if line.quantity is None else converted(line.quantity, line.unit, month, gigabyte)
        is_long = line.charged[1] - line.charged[0] > _LONGEST
        rate = Decimal(repr(self.terms.rate(line.currency, line.charged[0].date())))
        cost = line.amount.quantize(_LEAST, ROUND_HALF_EVEN)
        return {
            **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
            **_told(line),
            "x_CostBasis": "invoiced",
            "x_ChargeMonth": str(month),
            "x_Tier": None if is_long else tier or None,
            "x_Meter": meter or None,
            "x_Quantity": None if quantity is None else quantity[0],
            "x_Unit": None if quantity is None else quantity[1],
            "x_BilledCostEur": (cost * rate).quantize(_LEAST, ROUND_HALF_EVEN),
            "x_IsElsewhere": any(rule.ignore for rule in mine),
            "x_Line": line.number,
            "x_Source": source,
        }

    def _tier(self, line: Line, rules: Sequence[LineRule], meter: str) -> str:
        if line.tier and line.tier not in self.tiers:
            hint = did_you_mean(line.tier, tuple(self.tiers))
            msg = f"{self.where}: line {line.number}: there is no tier {line.tier!r}{hint}."
            raise InputError(msg, remedy=f"Tiers are: {', '.join(sorted(self.tiers))}.")
        told = line.tier or next((rule.tier for rule in rules if rule.tier), "")
        if told:
            return told
        theirs = [tier for tier in self.tiers.values() if tier.provider and is_issued_by(line.issuer, tier.provider)]
        by_bucket = [tier.name for tier in theirs if tier.bucket and tier.bucket == line.resource]
        if line.resource and any(tier.bucket for tier in theirs):
            # A line of another bucket is for something else, however few tiers there are.
            return by_bucket[0] if len(by_bucket) == 1 else ""
        if line.service_category not in ("Storage", ""):
            return ""
        if len(theirs) > 1 and meter in _OF_CLASS:
            is_archive = is_of_archive((*line.names, line.service))
            theirs = [tier for tier in theirs if bool(tier.prices.retrievals) is is_archive]
        return theirs[0].name if len(theirs) == 1 else ""

    def _meter(self, line: Line, rules: Sequence[LineRule]) -> str:
        if line.kind and line.kind not in METERS:
            hint = did_you_mean(line.kind, METERS)
            msg = f"{self.where}: line {line.number}: there is no kind of usage {line.kind!r}{hint}."
            raise InputError(msg, remedy=f"Kinds are: {', '.join(METERS)}.")
        told = line.kind or next((rule.meter for rule in rules if rule.meter), "")
        return told or meter_of((*line.names, line.service, line.unit))


def _told(line: Line) -> Row:
    """Return what the line itself says; names of accounts and resources are left out."""
    return {
        "BillingAccountId": line.account,
        "BillingAccountName": None,
        "BillingCurrency": line.currency,
        "BillingPeriodStart": line.billed[0],
        "BillingPeriodEnd": line.billed[1],
        "ChargeCategory": line.category,
        "ChargeClass": "Correction" if line.is_correction else None,
        "ChargeDescription": line.description or None,
        "ChargePeriodStart": line.charged[0],
        "ChargePeriodEnd": line.charged[1],
        "InvoiceId": line.invoice or None,
        **dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName"), line.issuer),
        "PricingQuantity": line.quantity,
        "PricingUnit": line.unit or None,
        "RegionId": line.region or None,
        "ServiceCategory": line.service_category or "Other",
        "ServiceName": line.service or line.issuer,
        "SkuId": line.sku or None,
        "SkuMeter": line.meter or None,
        "SkuPriceId": line.price_id or None,
    }


# --- files ------------------------------------------------------------------------------------------------------------


def digest_of(body: bytes) -> str:
    """Return the SHA-256 of an imported file."""
    return hashlib.sha256(body).hexdigest()


def path_of(out: Path, month: Month, source: str) -> Path:
    """Return where the lines of an import lie that were billed in a month."""
    return partition(out, INVOICED, month) / f"{source[:16]}.parquet"


def files(out: Path) -> list[Path]:
    """Return the files of all imports, sorted."""
    return sorted((out / INVOICED).glob("month=*/*.parquet"))


def read_rows(paths: Iterable[Path], month: str = "") -> list[Row]:
    """Return imported lines, of one month's charges or all, in the order of files.

    Raises
    ------
    InputError
        If a file cannot be read.

    """
    rows: list[Row] = []
    for path in paths:
        try:
            filters = [("x_ChargeMonth", "=", month)] if month else None
            rows += pq.read_table(path, filters=filters, partitioning=None).to_pylist()
        except _FOREIGN as error:
            msg = f"{path}: cannot be read ({error})."
            raise InputError(msg, remedy="Delete it and import the invoice again.") from error
    return rows


def write_lines(path: Path, rows: Sequence[Row]) -> None:
    """Write one file of ``invoices/``; without rows it is deleted.

    Raises
    ------
    StorageError
        If it cannot be written.

    """
    if not rows:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            msg = f"{path}: cannot be deleted ({error.strerror or error})."
            raise StorageError(msg, remedy="Check the folder's permissions.") from error
        return
    schema = schema_of(INVOICES)
    ordered = sorted(rows, key=lambda row: (*(str(row[name] or "") for name in _ORDER), row["x_Line"]))
    with PartWriter(path, schema, {"set": INVOICED}) as writer:
        writer.write(pa.Table.from_pylist(list(ordered), schema))
