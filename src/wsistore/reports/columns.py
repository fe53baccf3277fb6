"""The columns of the Parquet sets, each with type and meaning: the schemas, and what docs/reports.md must say."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

MONEY = pa.decimal128(28, 10)
MOMENT = pa.timestamp("us", tz="UTC")
_TEXT, _NUMBER, _COUNT, _FLAG = pa.string(), pa.float64(), pa.int64(), pa.bool_()


class Column(NamedTuple):
    """One column of a data set."""

    name: str
    type: pa.DataType
    nullable: bool
    meaning: str


def _need(name: str, kind: pa.DataType, meaning: str) -> Column:
    return Column(name, kind, False, meaning)


def _may(name: str, kind: pa.DataType, meaning: str) -> Column:
    return Column(name, kind, True, meaning)


_COMMON = (
    _need("BilledCost", MONEY, "what was invoiced: 0 in this set, which is modelled"),
    _need("BillingAccountId", _TEXT, "whom it is charged to"),
    _may("BillingAccountName", _TEXT, "the same, for people"),
    _need("BillingCurrency", _TEXT, "EUR"),
    _need("BillingPeriodEnd", MOMENT, "first moment after the billing month"),
    _need("BillingPeriodStart", MOMENT, "first moment of the billing month, in the site's time zone"),
    _need("ChargeCategory", _TEXT, "Usage or Tax"),
    _may("ChargeClass", _TEXT, "Correction where the row corrects a closed month, else null"),
    _may("ChargeDescription", _TEXT, "what the charge is, in words"),
    _may("ChargeFrequency", _TEXT, "Usage-Based, or Recurring for idle capacity"),
    _need("ChargePeriodEnd", MOMENT, "first moment after the month of the usage"),
    _need("ChargePeriodStart", MOMENT, "first moment of the month of the usage"),
    _may("ConsumedQuantity", _NUMBER, "what was used, as it was metered"),
    _may("ConsumedUnit", _TEXT, "its unit: GB-Hours, GB-Months, GB, Requests or Core-Hours; GB is 10^9 bytes"),
    _need("ContractedCost", MONEY, "contracted price times quantity; the price list is the contract's"),
    _may("ContractedUnitPrice", MONEY, "EUR per pricing unit, without tax"),
    _need("EffectiveCost", MONEY, "what it costs, central estimate, without tax (tax has rows of its own)"),
    _need("InvoiceIssuerName", _TEXT, "who charges for it"),
    _need("ListCost", MONEY, "list price times quantity"),
    _may("ListUnitPrice", MONEY, "EUR per pricing unit, without tax"),
    _may("PricingCategory", _TEXT, "Standard"),
    _may("PricingQuantity", _NUMBER, "quantity as it is priced, with overheads and least sizes"),
    _may("PricingUnit", _TEXT, "its unit"),
)
_PROVIDER_12 = (
    _need("ProviderName", _TEXT, "who provides the tier; the site itself for hardware of its own"),
    _need("PublisherName", _TEXT, "the same"),
)
_PROVIDER_14 = (
    _need("HostProviderName", _TEXT, "on whose hardware the bytes lie; the site itself for its own"),
    _need("ServiceProviderName", _TEXT, "who provides the tier"),
)
_REST = (
    _may("RegionId", _TEXT, "country or territory whose electricity the tier takes"),
    _may("RegionName", _TEXT, "the provider's region, where reports.toml names it"),
    _may("ResourceId", _TEXT, "the tier's id"),
    _may("ResourceName", _TEXT, "the tier's name"),
    _may("ResourceType", _TEXT, "Storage tier"),
    _need("ServiceCategory", _TEXT, "Storage, or Compute for encoding"),
    _need("ServiceName", _TEXT, "title of the tier's price list"),
    _may("ServiceSubcategory", _TEXT, "Object Storage, File Storage, or Other (Compute)"),
    _may("SkuId", _TEXT, "name of the price list"),
    _may("SkuMeter", _TEXT, "kind of usage: storage, egress, …"),
    _may("SkuPriceId", _TEXT, "price list and kind"),
)


def _band(name: str, kind: pa.DataType, meaning: str) -> tuple[Column, ...]:
    ends = {"Low": "5th percentile", "Central": "central estimate", "High": "95th percentile"}
    return tuple(_need(f"x_{name}{end}", kind, f"{meaning}: {what}") for end, what in ends.items())


_OWN = (
    _need("x_CostBasis", _TEXT, "modelled; invoices are another data set, and the two are never added"),
    _may("x_Department", _TEXT, "of the slide's case; null where it is not known, and of idle capacity"),
    _may("x_Preset", _TEXT, "how the copies are encoded: keep, fold or pack"),
    _may("x_Rule", _TEXT, "placement rule of the plan that made the copies; null: people did, or not known"),
    _need("x_BytesStored", _NUMBER, "bytes that lay there, on average over the month"),
    _need("x_BytesLogical", _NUMBER, "bytes of the vendor's files that they stand for"),
    _need("x_Copies", _NUMBER, "copies that lay there, on average"),
    _need("x_Objects", _NUMBER, "objects that lay there, on average"),
    *_band("EffectiveCost", _NUMBER, "EUR, without tax"),
    *_band("EnergyKwh", _NUMBER, "electricity with PUE, kWh"),
    *_band("OperationalGco2e", _NUMBER, "carbon of that electricity, gCO2e"),
    *_band("EmbodiedGco2e", _NUMBER, "carbon of manufacture, gCO2e"),
    _may(
        "x_CombustionGco2e", _NUMBER, "part of the operational carbon that is burnt in power stations; null: not known"
    ),
    _may("x_UpstreamGco2e", _NUMBER, "the rest of it; null: not told apart"),
    _need("x_GridGco2ePerKwh", _NUMBER, "grid factor, location-based, life cycle, central"),
    _need("x_GridYear", pa.int32(), "year that the factor is of"),
    _need("x_Pue", _NUMBER, "PUE, central"),
    _need("x_Replication", _NUMBER, "raw bytes per stored byte, central"),
    _need("x_QualityUsage", _TEXT, "of the quantity: measured, metered, estimated or assumed"),
    _need("x_QualityCost", _TEXT, "of the price"),
    _need("x_QualityEnergy", _TEXT, "of the energy"),
    _need("x_QualityEmbodied", _TEXT, "of the embodied carbon"),
    _need("x_MethodVersion", _TEXT, "version of the method (docs/method.md)"),
)

FOCUS_VERSIONS = ("1.2", "1.4")


def usage_columns(focus: str = "1.2") -> tuple[Column, ...]:
    """Return the columns of ``usage/``: those of a FOCUS version by name, then our own."""
    provider = _PROVIDER_12 if focus == "1.2" else _PROVIDER_14
    return (*sorted((*_COMMON, *provider, *_REST)), *_OWN)


INVENTORY = (
    _need("Bucket", _TEXT, "the tier's name"),
    _need("Key", _TEXT, "key of the copy's commit object"),
    _need("Size", _COUNT, "bytes of all its objects"),
    _need("LastModifiedDate", MOMENT, "when it was committed"),
    _need("StorageClass", _TEXT, "name of the tier's price list"),
    _need("ObjectCount", _COUNT, "objects, the commit included"),
    _need("LogicalSize", _COUNT, "bytes of the vendor's files"),
    _need("Slide", _TEXT, "the slide's random key: a pseudonym, never a name nor a number of the hospital's"),
    _may("Preset", _TEXT, "how it is encoded"),
    _may("Department", _TEXT, "of the slide's case"),
    _need("IsEstimated", _FLAG, "whether its begin is not known by an event"),
)
EVENTS = (
    _need("Slide", _TEXT, "the slide's random key"),
    _need("Number", pa.int32(), "place in the slide's chain"),
    _need("At", MOMENT, "when"),
    _need("Kind", _TEXT, "what happened (docs/command-line.md, events)"),
    _may("Tier", _TEXT, "where"),
    _may("FromTier", _TEXT, "which tier a copy was made from"),
    _may("Preset", _TEXT, "how the copy is encoded"),
    _may("Version", pa.int32(), "of the slide's source"),
    _may("BytesStored", _COUNT, "size of the copy"),
    _may("ObjectCount", _COUNT, "its objects"),
    _may("BytesRead", _COUNT, "bytes read for it"),
    _may("CpuSeconds", _NUMBER, "of encoding"),
    _may("Retrieval", _TEXT, "way back from an archive"),
)
INVOICES = (
    _need("BilledCost", MONEY, "what was invoiced, in the currency of the invoice"),
    _need("BillingAccountId", _TEXT, "the account at the issuer; empty where the file does not say it"),
    _may("BillingAccountName", _TEXT, "never kept: it may name a person"),
    _need("BillingCurrency", _TEXT, "of the invoice"),
    _need("BillingPeriodEnd", MOMENT, "first moment after the billing period, as invoiced"),
    _need("BillingPeriodStart", MOMENT, "first moment of the billing period, as invoiced"),
    _need("ChargeCategory", _TEXT, "Usage, Purchase, Tax, Credit or Adjustment"),
    _may("ChargeClass", _TEXT, "Correction where the line corrects an earlier invoice, else null"),
    _may("ChargeDescription", _TEXT, "the line's text"),
    _need("ChargePeriodEnd", MOMENT, "first moment after what is charged for"),
    _need("ChargePeriodStart", MOMENT, "first moment of it"),
    _need("ContractedCost", MONEY, "the same as BilledCost: exports of invoices are not asked for more"),
    _need("EffectiveCost", MONEY, "the same"),
    _may("InvoiceId", _TEXT, "number of the invoice; null: not told, or not issued yet"),
    _need("InvoiceIssuerName", _TEXT, "who invoices"),
    _need("ListCost", MONEY, "the same as BilledCost"),
    _may("PricingQuantity", _NUMBER, "quantity, as invoiced"),
    _may("PricingUnit", _TEXT, "its unit, as invoiced"),
    _need("ProviderName", _TEXT, "the issuer"),
    _need("PublisherName", _TEXT, "the issuer"),
    _may("RegionId", _TEXT, "the provider's region"),
    _need("ServiceCategory", _TEXT, "as invoiced, else Other"),
    _need("ServiceName", _TEXT, "as invoiced"),
    _may("SkuId", _TEXT, "as invoiced"),
    _may("SkuMeter", _TEXT, "as invoiced"),
    _may("SkuPriceId", _TEXT, "as invoiced"),
    _need("x_CostBasis", _TEXT, "invoiced; what is modelled is another data set, and the two are never added"),
    _need("x_ChargeMonth", _TEXT, "month of the site's that is charged for, such as 2026-10"),
    _may("x_Tier", _TEXT, "tier that the line is of; null: of none that is known"),
    _may("x_Meter", _TEXT, "kind of usage, as usage/ has it in SkuMeter; null: not recognised"),
    _may("x_Quantity", _NUMBER, "quantity in the unit of usage/; null where the unit is not known"),
    _may("x_Unit", _TEXT, "that unit; GB is 10^9 bytes"),
    _need("x_BilledCostEur", MONEY, "BilledCost in EUR, by the rate of the first day that is charged for"),
    _need("x_IsElsewhere", _FLAG, "whether reports.toml says that the line is for something else than slides"),
    _need("x_Line", pa.int32(), "line of the imported file, from 1"),
    _need("x_Source", _TEXT, "SHA-256 of the imported file"),
)
VARIANCES = (
    _need("ChargePeriodEnd", MOMENT, "first moment after the month"),
    _need("ChargePeriodStart", MOMENT, "first moment of the month"),
    _may("InvoiceIssuerName", _TEXT, "who invoices"),
    _may("ResourceName", _TEXT, "tier; null: of none that is known"),
    _may("SkuMeter", _TEXT, "kind of usage; null: not recognised"),
    _may("SkuPriceId", _TEXT, "price list and kind of usage"),
    _need("x_Status", _TEXT, "matched, not-invoiced, not-metered, not-compared or unassigned"),
    _need("x_InvoicedEur", MONEY, "what was invoiced, EUR without tax (of tax: the tax)"),
    _need("x_ModelledEur", MONEY, "what usage/ says, corrections included"),
    _need("x_VarianceEur", MONEY, "invoiced less modelled"),
    _may("x_Variance", _NUMBER, "that as a part of modelled; null where nothing is modelled"),
    _may("x_InvoicedQuantity", _NUMBER, "quantity of the invoice; null where a line has none that is understood"),
    _may("x_MeteredQuantity", _NUMBER, "quantity of usage/"),
    _may("x_Unit", _TEXT, "of both"),
    _may("x_QuantityEffectEur", MONEY, "part of the variance that is of the quantity, at the modelled price"),
    _may("x_PriceEffectEur", MONEY, "part of the variance that is of the price, at the invoiced quantity"),
    _need("x_IsAlert", _FLAG, "whether it is above 2 % and a cent"),
    _need("x_Lines", _COUNT, "lines of invoices"),
    _may("x_InvoicedSkus", _TEXT, "their SKUs, sorted, with commas"),
    _may("x_Hint", _TEXT, "what the variance looks like, where it looks like something known"),
)


def schema_of(columns: tuple[Column, ...]) -> pa.Schema:
    """Return the Arrow schema of a data set."""
    return pa.schema([pa.field(one.name, one.type, one.nullable) for one in columns])
