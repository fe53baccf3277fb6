"""Charges as rows of FOCUS, the FinOps specification of cost and usage, with our own columns after its."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pyarrow as pa

from wsistore.reports.columns import schema_of, usage_columns
from wsistore.reports.models import METHOD, Charge, Qualities, Quality, TierCosts
from wsistore.reports.periods import Month
from wsistore.reports.samples import Band
from wsistore.reports.usage import Group, What

Row = dict[str, Any]

KEY = ("ResourceName", "SkuMeter", "ChargeCategory", "x_Department", "x_Preset", "x_Rule", "x_QualityUsage")
"""What a row of a month is known by, and what rows are sorted by."""
_LEAST = Decimal("0.0000000001")
_WORDS = {
    What.STORAGE: "Slides kept in tier {tier}",
    What.OVERHEAD: "What tier {tier} keeps of each object beside it",
    What.WRITES: "Requests that wrote to tier {tier}",
    What.READS: "Requests that read from tier {tier}",
    What.EGRESS: "Bytes read from tier {tier}",
    What.RETRIEVAL: "Bytes asked back from tier {tier}",
    What.EARLY: "Rest of the least time of copies that left tier {tier}",
    What.ENCODING: "Encoding for tier {tier}",
    What.IDLE: "Capacity of tier {tier} that nobody used",
}


def money(amount: float) -> Decimal:
    """Return an amount as it is written: ten places after the point, so that rows add up exactly."""
    return Decimal(repr(float(amount))).quantize(_LEAST, ROUND_HALF_EVEN)


def to_cents(amounts: Sequence[Decimal]) -> list[int]:
    """Return amounts in cents that add up to the cents of their sum: the largest remainders are rounded up."""
    exact = [amount * 100 for amount in amounts]
    wanted = int(sum(exact, Decimal(0)).quantize(Decimal(1), ROUND_HALF_EVEN))
    floors = [int(amount // 1) if amount >= 0 else -int(-amount // 1) - (-amount % 1 > 0) for amount in exact]
    order = sorted(range(len(exact)), key=lambda n: (floors[n] - exact[n], n))
    for place in order[: wanted - sum(floors)]:
        floors[place] += 1
    return floors


def rows_of(
    found: Iterable[Charge],
    month: Month,
    costs: Mapping[str, TierCosts],
    *,
    account: str,
    focus: str = "1.2",
) -> list[Row]:
    """Return the rows of a month: one per charge, and one of tax per tier and department where there is tax.

    Parameters
    ----------
    found
        Charges of the month.
    month
        The month.
    costs
        Of all tiers.
    account
        Whom it is charged to.
    focus
        Version of FOCUS: ``1.2`` or ``1.4``.

    """
    rows, taxed = [], defaultdict(list)
    for charge in found:
        rows.append(_row(charge, month, costs[charge.group.tier], account, focus))
        taxed[charge.group.tier, charge.group.department].append(rows[-1])
    for (tier, department), mine in taxed.items():
        vat = costs[tier].prices.vat.central
        if vat:
            rows.append(_tax(mine, costs[tier], month, department, account, focus, vat))
    return sorted(rows, key=sort_key)


def sort_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what rows are sorted by: null before all texts."""
    period = row["ChargePeriodStart"]
    return (period, *((row[name] is not None, row[name] or "") for name in KEY), row["ChargeClass"] or "")


def table_of(rows: Sequence[Row], focus: str = "1.2") -> pa.Table:
    """Return rows as a table with the schema of ``usage/``."""
    schema = schema_of(usage_columns(focus))
    return pa.Table.from_pylist(list(rows), schema)


def _row(charge: Charge, month: Month, costs: TierCosts, account: str, focus: str) -> Row:
    eur, kwh = charge.eur.band, charge.kwh.band
    price, cost = money(charge.price.central), money(charge.eur.central)
    frequency = "Recurring" if charge.what is What.IDLE else "Usage-Based"
    return {
        **_place(costs, month, account, focus),
        "ChargeCategory": "Usage",
        "ChargeDescription": _WORDS[charge.what].format(tier=charge.group.tier),
        "ChargeFrequency": frequency,
        "ConsumedQuantity": charge.consumed,
        "ConsumedUnit": charge.consumed_unit,
        **dict.fromkeys(("ContractedCost", "EffectiveCost", "ListCost"), cost),
        **dict.fromkeys(("ContractedUnitPrice", "ListUnitPrice"), price),
        "PricingCategory": "Standard",
        "PricingQuantity": charge.quantity,
        "PricingUnit": charge.unit,
        "ServiceCategory": "Compute" if charge.what is What.ENCODING else "Storage",
        "ServiceSubcategory": _subcategory(charge.what, costs),
        "SkuId": costs.prices.name,
        "SkuMeter": str(charge.what),
        "SkuPriceId": f"{costs.prices.name}/{charge.what}",
        **_told_apart(charge.group, charge.qualities),
        "x_BytesStored": charge.bytes_stored,
        "x_BytesLogical": charge.bytes_logical,
        "x_Copies": charge.copies,
        "x_Objects": charge.objects,
        **_band("EffectiveCost", eur),
        **_band("EnergyKwh", kwh),
        **_band("OperationalGco2e", charge.operational_g.band),
        **_band("EmbodiedGco2e", charge.embodied_g.band),
        **_parts(charge, costs),
    }


def _tax(
    mine: Sequence[Row], costs: TierCosts, month: Month, department: str | None, account: str, focus: str, vat: float
) -> Row:
    due = sum((row["EffectiveCost"] for row in mine), Decimal(0)) * Decimal(repr(vat))
    cost = due.quantize(_LEAST, ROUND_HALF_EVEN)
    ends = {end: sum(row[f"x_EffectiveCost{end}"] for row in mine) * vat for end in ("Low", "Central", "High")}
    nothing = Band(0.0, 0.0, 0.0)
    sure = Qualities(Quality.ESTIMATED, Quality.ESTIMATED, Quality.ESTIMATED, Quality.ESTIMATED)
    return {
        **_place(costs, month, account, focus),
        "ChargeCategory": "Tax",
        "ChargeDescription": f"Tax on tier {costs.tier.name}, not recovered",
        "ChargeFrequency": "Usage-Based",
        **dict.fromkeys(("ContractedCost", "EffectiveCost", "ListCost"), cost),
        "ServiceCategory": "Storage",
        "ServiceSubcategory": _subcategory(What.STORAGE, costs),
        "SkuMeter": "tax",
        **_told_apart(Group(costs.tier.name, "", department, False), sure),
        **dict.fromkeys(("x_BytesStored", "x_BytesLogical", "x_Copies", "x_Objects"), 0.0),
        **{f"x_EffectiveCost{end}": value for end, value in ends.items()},
        **{key: 0.0 for name in ("EnergyKwh", "OperationalGco2e", "EmbodiedGco2e") for key in _band(name, nothing)},
    }


def _place(costs: TierCosts, month: Month, account: str, focus: str) -> Row:
    """Return the columns that say who, where and when."""
    tier, provider = costs.tier, costs.tier.provider or account
    names = ("ProviderName", "PublisherName") if focus == "1.2" else ("HostProviderName", "ServiceProviderName")
    return {
        "BilledCost": Decimal(0),
        "BillingAccountId": account,
        "BillingAccountName": account,
        "BillingCurrency": "EUR",
        **dict.fromkeys(("BillingPeriodStart", "ChargePeriodStart"), month.begins),
        **dict.fromkeys(("BillingPeriodEnd", "ChargePeriodEnd"), month.ends),
        "ChargeClass": None,
        **dict.fromkeys((*names, "InvoiceIssuerName"), provider),
        "RegionId": tier.country,
        "RegionName": tier.region or None,
        "ResourceId": tier.id or tier.name,
        "ResourceName": tier.name,
        "ResourceType": "Storage tier",
        "ServiceName": costs.prices.title,
        "x_CostBasis": "modelled",
        "x_GridGco2ePerKwh": costs.factor.total.central,
        "x_GridYear": costs.factor.year,
        "x_Pue": costs.pue.central,
        "x_Replication": costs.raw.central,
        "x_MethodVersion": METHOD,
    }


def _told_apart(group: Group, qualities: Qualities) -> Row:
    return {
        "x_Department": group.department,
        "x_Preset": group.preset or None,
        "x_Rule": group.rule or None,
        "x_QualityUsage": str(qualities.usage),
        "x_QualityCost": str(qualities.cost),
        "x_QualityEnergy": str(qualities.energy),
        "x_QualityEmbodied": str(qualities.embodied),
    }


def _subcategory(what: What, costs: TierCosts) -> str:
    if what is What.ENCODING:
        return "Other (Compute)"
    return "Object Storage" if costs.tier.is_object_storage else "File Storage"


def _band(name: str, band: Band) -> Row:
    return {f"x_{name}Low": band.low, f"x_{name}Central": band.central, f"x_{name}High": band.high}


def _parts(charge: Charge, costs: TierCosts) -> Row:
    """Return the operational carbon in its two parts, where they are told apart."""
    burnt, upstream = costs.factor.combustion, costs.factor.upstream
    if burnt is None or upstream is None:
        return {"x_CombustionGco2e": None, "x_UpstreamGco2e": None}
    kwh = charge.kwh.central
    return {"x_CombustionGco2e": kwh * burnt.central, "x_UpstreamGco2e": kwh * upstream.central}
