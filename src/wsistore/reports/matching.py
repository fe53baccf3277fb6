"""What was invoiced against what was metered and modelled: the variance by SKU, and what it comes of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import Any

from wsistore.reports.focus import money
from wsistore.reports.periods import Month
from wsistore.reports.terms import TierModel

MOST_VARIANCE = Decimal("0.02")
"""Part of what is modelled: more is an alert …"""
LEAST_VARIANCE = Decimal("0.01")
"""… if it is more than so many EUR, too: invoices are rounded to the cent."""
_LEAST = Decimal("0.0000000001")
_BINARY = 1.024**3
_NEAR = 0.005
_ONLY_MODELLED = ("encoding", "idle-capacity")
"""Kinds of usage that no provider of storage invoices."""

Row = Mapping[str, Any]


class Status(StrEnum):
    """What became of one comparison."""

    MATCHED = "matched"
    NOT_INVOICED = "not-invoiced"
    """Metered at a provider's tier, and on no invoice."""
    NOT_METERED = "not-metered"
    """Invoiced for a known tier, and not metered there."""
    NOT_COMPARED = "not-compared"
    """Of own hardware, where purchases and what is charged for them are different things; or tax that is recovered."""
    UNASSIGNED = "unassigned"
    """Nobody knows what the invoice is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variance:
    """One kind of usage of one tier, or one issuer's tax or unassigned lines. Money is in EUR."""

    status: Status
    issuer: str
    tier: str
    """Nothing: of none."""
    meter: str
    price_id: str
    unit: str
    invoiced: Decimal
    modelled: Decimal
    invoiced_quantity: float | None = None
    metered_quantity: float | None = None
    lines: int = 0
    skus: Sequence[str] = ()

    @property
    def variance(self) -> Decimal:
        """Invoiced less modelled."""
        return self.invoiced - self.modelled

    @property
    def part(self) -> Decimal | None:
        """Of what is modelled; None where that is nothing."""
        return self.variance / abs(self.modelled) if self.modelled else None

    @property
    def is_alert(self) -> bool:
        """Whether somebody ought to look at it."""
        if self.status is Status.NOT_COMPARED or abs(self.variance) <= LEAST_VARIANCE:
            return False
        return self.part is None or abs(self.part) > MOST_VARIANCE

    @property
    def effects(self) -> tuple[Decimal, Decimal] | None:
        """Parts of the variance that are of the quantity and of the price; None where a quantity is not known.

        They add up to the variance: (quantity invoiced - metered) x modelled price, and the rest.
        """
        if not self.metered_quantity or self.invoiced_quantity is None:
            return None
        of_quantity = float(self.modelled) * (self.invoiced_quantity / self.metered_quantity - 1)
        found = money(of_quantity)
        return found, (self.variance - found).quantize(_LEAST, ROUND_HALF_EVEN)

    @property
    def hint(self) -> str:
        """What it looks like; nothing if it looks like nothing known."""
        if not self.is_alert or not self.metered_quantity or not self.invoiced_quantity:
            return ""
        ratio = self.invoiced_quantity / self.metered_quantity
        if self.unit.startswith("GB") and abs(ratio * _BINARY - 1) < _NEAR:
            return "looks like GiB called GB: see gigabyte in [[invoice]]"
        if self.unit.startswith("GB") and abs(ratio / _BINARY - 1) < _NEAR:
            return "looks like GB taken for GiB: see gigabyte in [[invoice]]"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        effects = self.effects
        return {
            "status": str(self.status),
            "issuer": self.issuer,
            "tier": self.tier,
            "meter": self.meter,
            "sku_price": self.price_id,
            "invoiced": str(self.invoiced),
            "modelled": str(self.modelled),
            "variance": str(self.variance),
            "part": None if self.part is None else float(self.part),
            "unit": self.unit,
            "invoiced_quantity": self.invoiced_quantity,
            "metered_quantity": self.metered_quantity,
            "quantity_effect": None if effects is None else str(effects[0]),
            "price_effect": None if effects is None else str(effects[1]),
            "is_alert": self.is_alert,
            "lines": self.lines,
            "skus": list(self.skus),
            "hint": self.hint,
        }

    def row(self, month: Month) -> dict[str, Any]:
        """Return the row of ``variances/``."""
        effects = self.effects or (None, None)
        return {
            "ChargePeriodStart": month.begins,
            "ChargePeriodEnd": month.ends,
            "InvoiceIssuerName": self.issuer or None,
            "ResourceName": self.tier or None,
            "SkuMeter": self.meter or None,
            "SkuPriceId": self.price_id or None,
            "x_Status": str(self.status),
            "x_InvoicedEur": self.invoiced,
            "x_ModelledEur": self.modelled,
            "x_VarianceEur": self.variance,
            "x_Variance": None if self.part is None else float(self.part),
            "x_InvoicedQuantity": self.invoiced_quantity,
            "x_MeteredQuantity": self.metered_quantity,
            "x_Unit": self.unit or None,
            "x_QuantityEffectEur": effects[0],
            "x_PriceEffectEur": effects[1],
            "x_IsAlert": self.is_alert,
            "x_Lines": self.lines,
            "x_InvoicedSkus": ", ".join(self.skus) or None,
            "x_Hint": self.hint or None,
        }


@dataclass(slots=True)
class _Side:
    """What one side says of one kind of usage."""

    eur: Decimal = Decimal(0)
    quantity: float = 0.0
    is_known: bool = True
    """Whether `quantity` is all of it."""
    unit: str = ""
    issuers: set[str] = field(default_factory=set)
    price_id: str = ""
    skus: set[str] = field(default_factory=set)
    lines: int = 0

    def count(self, quantity: float | None, unit: str) -> None:
        if quantity is None or (self.unit and unit != self.unit):
            self.is_known = False
            return
        self.quantity, self.unit = self.quantity + quantity, unit


def variances(usage: Iterable[Row], invoiced: Iterable[Row], tiers: Mapping[str, TierModel]) -> list[Variance]:
    """Return how a month's invoices agree with its usage, by tier and kind.

    Parameters
    ----------
    usage
        Rows of ``usage/`` of the month's charge period, corrections included.
    invoiced
        Rows of ``invoices/`` that charge for the month.
    tiers
        All tiers: those without a provider are the site's own hardware.

    Returns
    -------
    list of Variance
        Every line of an invoice is in exactly one of them, but those for something else; by tier and kind, then tax,
        then what is unassigned.

    """
    modelled, taxes = _modelled(usage, tiers)
    billed: dict[tuple[str, str], _Side] = defaultdict(_Side)
    loose: dict[tuple[str, str, str], _Side] = defaultdict(_Side)
    for row in invoiced:
        if row["x_IsElsewhere"]:
            continue
        if row["ChargeCategory"] == "Tax":
            side = loose["tax", row["InvoiceIssuerName"], "tax"]
        elif row["x_Tier"] is None or row["x_Meter"] is None:
            side = loose["unassigned", row["InvoiceIssuerName"], row["x_Meter"] or ""]
        else:
            side = billed[row["x_Tier"], row["x_Meter"]]
        _bill(side, row)
    found = [
        _compared(tier, meter, modelled.get((tier, meter), _Side()), billed.get((tier, meter)), tiers)
        for tier, meter in sorted({*modelled, *billed})
    ]
    for issuer in sorted({*taxes} - {key[1] for key in loose if key[0] == "tax"}):
        loose["tax", issuer, "tax"].issuers.add(issuer)
    return found + [_loose(key, side, taxes) for key, side in sorted(loose.items(), key=lambda item: item[0])]


def _modelled(
    usage: Iterable[Row], tiers: Mapping[str, TierModel]
) -> tuple[dict[tuple[str, str], _Side], dict[str, Decimal]]:
    found: dict[tuple[str, str], _Side] = defaultdict(_Side)
    taxes: dict[str, Decimal] = defaultdict(Decimal)
    for row in usage:
        tier = row["ResourceName"]
        if not _is_bought(tier, tiers) or row["SkuMeter"] in _ONLY_MODELLED:
            continue
        if row["ChargeCategory"] == "Tax":
            taxes[row["InvoiceIssuerName"]] += row["EffectiveCost"]
            continue
        side = found[tier, row["SkuMeter"]]
        side.eur += row["EffectiveCost"]
        side.issuers.add(row["InvoiceIssuerName"])
        side.price_id = row["SkuPriceId"] or ""
        side.count(row["PricingQuantity"], row["PricingUnit"] or "")
    return found, taxes


def _is_bought(tier: str, tiers: Mapping[str, TierModel]) -> bool:
    return tier in tiers and bool(tiers[tier].provider)


def _bill(side: _Side, row: Row) -> None:
    side.eur += row["x_BilledCostEur"]
    side.lines += 1
    side.issuers.add(row["InvoiceIssuerName"])
    sku = row["SkuPriceId"] or row["SkuId"] or row["SkuMeter"] or row["ChargeDescription"]
    if sku:
        side.skus.add(sku)
    if row["ChargeCategory"] == "Usage":
        side.count(row["x_Quantity"], row["x_Unit"] or "")


def _compared(tier: str, meter: str, modelled: _Side, billed: _Side | None, tiers: Mapping[str, TierModel]) -> Variance:
    status = Status.MATCHED
    if not _is_bought(tier, tiers):
        status = Status.NOT_COMPARED
    elif billed is None:
        status = Status.NOT_INVOICED
    elif not modelled.price_id:
        status = Status.NOT_METERED
    sides = [modelled] if billed is None else [modelled, billed]
    unit = modelled.unit or sides[-1].unit
    is_alike = billed is not None and billed.is_known and billed.unit == unit != ""
    return Variance(
        status=status,
        issuer=", ".join(sorted(set().union(*(side.issuers for side in sides)))),
        tier=tier,
        meter=meter,
        price_id=modelled.price_id,
        unit=unit,
        invoiced=Decimal(0) if billed is None else billed.eur,
        modelled=modelled.eur,
        invoiced_quantity=billed.quantity if billed is not None and is_alike else None,
        metered_quantity=modelled.quantity if modelled.price_id else None,
        lines=0 if billed is None else billed.lines,
        skus=() if billed is None else sorted(billed.skus),
    )


def _loose(key: tuple[str, str, str], side: _Side, taxes: Mapping[str, Decimal]) -> Variance:
    what, issuer, meter = key
    status, due = Status.UNASSIGNED, Decimal(0)
    if what == "tax":
        due = taxes.get(issuer, Decimal(0))
        # Without tax in the price list the site recovers it: it is no cost.
        status = (Status.MATCHED if side.lines else Status.NOT_INVOICED) if due else Status.NOT_COMPARED
    return Variance(
        status=status,
        issuer=issuer,
        tier="",
        meter=meter,
        price_id="",
        unit="",
        invoiced=side.eur,
        modelled=due,
        lines=side.lines,
        skus=sorted(side.skus),
    )


def paid(found: Sequence[Variance]) -> tuple[Decimal, Decimal]:
    """Return what was invoiced and what was modelled, without tax, of all that was compared."""
    mine = [one for one in found if one.status is not Status.NOT_COMPARED and one.meter != "tax"]
    mine = [one for one in mine if one.status is not Status.UNASSIGNED]
    return sum((one.invoiced for one in mine), Decimal(0)), sum((one.modelled for one in mine), Decimal(0))
