"""What making a report says: totals with their bands, and whether the month is closed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from wsistore.reports.focus import Row, to_cents
from wsistore.reports.models import Charge, Quality, totals
from wsistore.reports.reconciling import Reconciled
from wsistore.reports.samples import Band, Draws
from wsistore.reports.usage import Group


@dataclass(frozen=True, slots=True)
class Line:
    """Of one tier, one department, or all."""

    name: str
    bytes_stored: float
    """On average over the month."""
    bytes_logical: float
    copies: float
    cost: Decimal
    """EUR without tax, as the rows have it."""
    tax: Decimal
    eur: Band
    """Without tax."""
    kwh: Band
    operational_g: Band
    embodied_g: Band
    gco2e: Band
    """Of use and of manufacture: the band of the sum, which is narrower than the sum of the bands."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        bands = {name: getattr(self, name)._asdict() for name in ("eur", "kwh", "operational_g", "embodied_g", "gco2e")}
        money = {"cost": str(self.cost), "tax": str(self.tax)}
        sizes = {name: getattr(self, name) for name in ("bytes_stored", "bytes_logical", "copies")}
        return {"name": self.name, **sizes, **money, **bands}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A month's report."""

    month: str
    timezone: str
    folder: str
    """The month's partition of ``usage/``."""
    total: Line
    tiers: Sequence[Line]
    departments: Sequence[Line]
    """Add up to `total`; what is of no known department has the name nothing."""
    slides: float
    """Kept, on average."""
    sci: Band | None
    """gCO2e per slide and month; None if no slide was kept."""
    quality: Mapping[str, float]
    """Part of the cost by quality of its price."""
    reconciled: Sequence[Reconciled]
    """None where tiers were not looked at."""
    rows: int
    corrections: int
    """Rows that correct a month which was closed before."""
    is_over: bool
    """Whether the month was over when it was metered."""
    closed_at: str | None
    why_open: str = ""
    """Why it does not close; nothing if it is closed, or could be."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of what was written, by path in the report's folder."""

    @property
    def cents_of_departments(self) -> list[int]:
        """Costs of `departments` in cents, which add up to that of `total`."""
        return to_cents([line.cost for line in self.departments])

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "month": self.month,
            "timezone": self.timezone,
            "folder": self.folder,
            "total": self.total.to_json(),
            "tiers": [line.to_json() for line in self.tiers],
            "departments": [line.to_json() for line in self.departments],
            "slides": self.slides,
            "sci_g_per_slide": None if self.sci is None else self.sci._asdict(),
            "quality": dict(self.quality),
            "reconciled": [
                {
                    "tier": one.tier,
                    "metered_bytes": one.metered_bytes,
                    "listed_bytes": one.listed_bytes,
                    "own_bytes": one.own_bytes,
                    "moving_bytes": one.moving_bytes,
                    "unexplained_bytes": one.unexplained_bytes,
                    "unexplained": one.part,
                }
                for one in self.reconciled
            ],
            "rows": self.rows,
            "corrections": self.corrections,
            "is_over": self.is_over,
            "closed_at": self.closed_at,
            "why_open": self.why_open,
            "files": dict(self.files),
        }


def lines(found: Sequence[Charge], rows: Sequence[Row], draws: Draws, name_of: Callable[[Group], str]) -> list[Line]:
    """Return sums of charges by what `name_of` their group says, by name.

    Parameters
    ----------
    found
        Charges, for the bands.
    rows
        The same as rows, for costs to the last place, and tax.
    draws
        Of the charges.
    name_of
        Name of the line of a group.

    """
    charged: dict[str, list[Charge]] = defaultdict(list)
    for charge in found:
        charged[name_of(charge.group)].append(charge)
    money: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for row in rows:
        group = Group(row["ResourceName"], row["x_Preset"] or "", row["x_Department"], False)
        money[name_of(group), row["ChargeCategory"]] += row["EffectiveCost"]
    names = sorted(charged) or ([""] if name_of(Group("", "", None, False)) == "" else [])
    return [_line(name, charged[name], money[name, "Usage"], money[name, "Tax"], draws) for name in names]


def _line(name: str, mine: Sequence[Charge], cost: Decimal, tax: Decimal, draws: Draws) -> Line:
    total = totals(mine, draws)
    return Line(
        name=name,
        bytes_stored=sum(charge.bytes_stored for charge in mine),
        bytes_logical=sum(charge.bytes_logical for charge in mine),
        copies=sum(charge.copies for charge in mine),
        cost=cost,
        tax=tax,
        eur=total.eur.band,
        kwh=total.kwh.band,
        operational_g=total.operational_g.band,
        embodied_g=total.embodied_g.band,
        gco2e=total.gco2e.band,
    )


def quality(rows: Sequence[Row]) -> dict[str, float]:
    """Return which part of the cost rests on prices of which quality."""
    whole = sum((row["EffectiveCost"] for row in rows), Decimal(0))
    parts = {str(one): Decimal(0) for one in Quality}
    for row in rows:
        parts[row["x_QualityCost"]] += row["EffectiveCost"]
    return {name: float(part / whole) for name, part in parts.items() if part} if whole else {}
