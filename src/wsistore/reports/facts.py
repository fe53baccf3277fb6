"""What the rows of ``usage/`` say, summed to what people are shown: figures of pages and workbooks are from here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wsistore.errors import InputError
from wsistore.reports.periods import Month
from wsistore.reports.sets import USAGE

_FOREIGN = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
_KEY = {
    "ChargePeriodStart": "period",
    "BillingPeriodStart": "billed",
    "ResourceName": "tier",
    "SkuMeter": "meter",
    "x_Department": "department",
    "ChargeCategory": "category",
    "ChargeClass": "kind",
    "x_QualityCost": "quality",
}
_SUMS = {
    "EffectiveCost": "eur",
    "PricingQuantity": "quantity",
    "x_BytesStored": "bytes_stored",
    "x_BytesLogical": "bytes_logical",
    "x_Copies": "copies",
    "x_EffectiveCostLow": "eur_low",
    "x_EffectiveCostHigh": "eur_high",
    "x_EnergyKwhCentral": "kwh",
    "x_OperationalGco2eCentral": "operational_g",
    "x_EmbodiedGco2eCentral": "embodied_g",
}
COLUMNS = (*_KEY, *_SUMS)


@dataclass(frozen=True, slots=True)
class Fact:
    """Sum of rows that agree in all that people are told apart by."""

    month: Month
    """Of the usage."""
    billed: Month
    """In which it is charged: another one only of corrections."""
    tier: str
    meter: str
    department: str | None
    is_tax: bool
    is_correction: bool
    quality: str
    """Of the cost."""
    eur: Decimal
    quantity: float
    """As it is priced, in the unit of its meter."""
    bytes_stored: float
    bytes_logical: float
    copies: float
    eur_low: float
    eur_high: float
    kwh: float
    operational_g: float
    embodied_g: float

    @property
    def gco2e(self) -> float:
        """Of use and of manufacture."""
        return self.operational_g + self.embodied_g


SUMMED = tuple(_SUMS.values())


def read_facts(out: Path, first: Month, last: Month) -> list[Fact]:
    """Return what was written of the usage of some months, corrections in later partitions included.

    Parameters
    ----------
    out
        Folder of the sets.
    first, last
        Both included.

    Raises
    ------
    InputError
        If a file cannot be read.

    """
    found: list[Fact] = []
    for path in sorted((out / USAGE).glob("month=*/*.parquet")):
        try:
            table = pq.ParquetFile(path).read(columns=list(COLUMNS))
            begins = pc.field("ChargePeriodStart")
            mine = table.filter((begins >= pa.scalar(first.begins)) & (begins <= pa.scalar(last.begins)))
            found += _facts(mine, first.zone)
        except _FOREIGN as error:
            msg = f"{path}: cannot be read ({error})."
            raise InputError(msg, remedy="Put it back from a backup, or report its month again.") from error
    return found


def _facts(table: pa.Table, zone: str) -> Iterable[Fact]:
    if not table.num_rows:
        return
    summed = table.group_by(list(_KEY)).aggregate([(name, "sum") for name in _SUMS])
    for row in summed.to_pylist():
        sums: dict[str, Any] = {short: row[f"{name}_sum"] or 0.0 for name, short in _SUMS.items()}
        yield Fact(
            month=_month(row["ChargePeriodStart"], zone),
            billed=_month(row["BillingPeriodStart"], zone),
            tier=row["ResourceName"] or "",
            meter=row["SkuMeter"] or "",
            department=row["x_Department"],
            is_tax=row["ChargeCategory"] == "Tax",
            is_correction=row["ChargeClass"] == "Correction",
            quality=row["x_QualityCost"],
            **{**sums, "eur": Decimal(sums["eur"])},
        )


def _month(moment: datetime, zone: str) -> Month:
    return Month.of(moment, zone)


def cost(facts: Iterable[Fact]) -> Decimal:
    """Return what facts cost, without tax."""
    return sum((fact.eur for fact in facts if not fact.is_tax), Decimal(0))


def tax(facts: Iterable[Fact]) -> Decimal:
    """Return the tax in facts."""
    return sum((fact.eur for fact in facts if fact.is_tax), Decimal(0))


def total(facts: Iterable[Fact], name: str) -> float:
    """Return the sum of one figure of `SUMMED` over facts."""
    return float(sum(float(getattr(fact, name)) for fact in facts))


def names_of(facts: Sequence[Fact], name: str) -> list[Any]:
    """Return the values of one field, sorted, None last."""
    if name not in {one.name for one in fields(Fact)}:
        raise AttributeError(name)
    found = {getattr(fact, name) for fact in facts}
    return sorted(found, key=lambda value: (value is None, value))
