"""The Parquet sets of a forecast: years, parts, tiers, differences, and all values that they rest on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

from wsistore.reports.columns import Column
from wsistore.reports.forecast.running import Forecast, bands, cumulative
from wsistore.reports.forecast.values_used import values_used
from wsistore.reports.samples import Band, Floats

YEARS, PARTS, TIERS, DIFFERENCES, VALUES = "years", "parts", "tiers", "differences", "values"
Row = dict[str, Any]

_FLOAT, _TEXT, _COUNT = pa.float64(), pa.string(), pa.int32()


def _banded(name: str, meaning: str) -> tuple[Column, ...]:
    ends = (("Low", "5th percentile"), ("Central", "central estimate"), ("High", "95th percentile"))
    return tuple(Column(f"{name}{end}", _FLOAT, False, f"{meaning}: {which}") for end, which in ends)


_OF = (Column("Scenario", _TEXT, False, "name of the scenario"),)
_WHEN = (
    Column("Year", _COUNT, False, "of the forecast, from 1"),
    Column("PeriodStart", pa.date32(), False, "first day of it"),
)
_TIER = Column("Tier", _TEXT, False, "name of the tier")
COLUMNS: Mapping[str, tuple[Column, ...]] = {
    YEARS: (
        *_OF,
        *_WHEN,
        *_banded("SlidesNew", "slides that come in the year"),
        *_banded("SlidesKept", "slides that are kept when the year ends"),
        *_banded("BytesStored", "bytes in all tiers when the year ends"),
        *_banded("Eur", "EUR of the year, without tax, own hardware written off over its life"),
        *_banded("CumulativeEur", "the same since the forecast's begin"),
        *_banded("PurchasesEur", "EUR paid in the year for hardware of the hospital's own"),
        *_banded("EnergyKwh", "electricity of the year with PUE, kWh"),
        *_banded("OperationalGco2e", "carbon of that electricity, gCO2e"),
        *_banded("EmbodiedGco2e", "carbon of manufacture in the year, gCO2e"),
        *_banded("Gco2e", "both, gCO2e"),
        *_banded("CumulativeGco2e", "both since the forecast's begin, gCO2e"),
    ),
    PARTS: (
        *_OF,
        *_WHEN,
        _TIER,
        Column("Kind", _TEXT, False, "kind of usage, as SkuMeter of reports"),
        *_banded("Eur", "EUR of the year, without tax"),
        *_banded("EnergyKwh", "electricity with PUE, kWh"),
        *_banded("OperationalGco2e", "carbon of that electricity, gCO2e"),
        *_banded("EmbodiedGco2e", "carbon of manufacture, gCO2e"),
    ),
    TIERS: (
        *_OF,
        *_WHEN,
        _TIER,
        *_banded("BytesStored", "bytes when the year ends"),
        *_banded("Systems", "systems of own hardware when the year ends"),
        *_banded("SystemsBought", "systems that were bought in the year, replacements included"),
        *_banded("PurchasesEur", "EUR paid for them"),
    ),
    DIFFERENCES: (
        *_OF,
        Column("Against", _TEXT, False, "name of the scenario that it is compared with"),
        *_WHEN,
        *_banded("CumulativeEur", "EUR more than the other since the forecast's begin, draw by draw"),
        *_banded("CumulativeEnergyKwh", "kWh more"),
        *_banded("CumulativeGco2e", "gCO2e more"),
        *_banded("BytesStored", "bytes more when the year ends"),
    ),
    VALUES: (
        *_OF,
        Column("Key", _TEXT, False, "what the value is"),
        Column("Low", _FLOAT, False, "low"),
        Column("Central", _FLOAT, False, "central"),
        Column("High", _FLOAT, False, "high"),
        Column("Unit", _TEXT, False, "unit; nothing: a number"),
        Column("Source", _TEXT, False, "where it is from"),
        Column("Mark", _TEXT, False, "how sure it is: seen, seen-2nd, derived, unverified or assumed"),
    ),
}
"""Of each set."""


@dataclass(frozen=True, slots=True)
class Tables:
    """All sets of a forecast, by name."""

    by_name: Mapping[str, list[Row]]


def tables_of(found: Sequence[Forecast], against: Forecast) -> Tables:
    """Return the rows of all sets, in order: by scenario, year, tier, kind.

    Parameters
    ----------
    found
        Forecasts of the same years and draws.
    against
        One of them: what the others are compared with.

    """
    return Tables(
        {
            YEARS: [row for one in found for row in _years(one)],
            PARTS: [row for one in found for row in _parts(one)],
            TIERS: [row for one in found for row in _tiers(one)],
            DIFFERENCES: [row for one in found if one is not against for row in _differences(one, against)],
            VALUES: [
                {"Scenario": one.scenario.name, **used.to_row()} for one in found for used in values_used(one.scenario)
            ],
        }
    )


def table(name: str, rows: Iterable[Row]) -> pa.Table:
    """Return rows of a set as a table of its columns."""
    columns = COLUMNS[name]
    schema = pa.schema([pa.field(one.name, one.type, nullable=one.nullable) for one in columns])
    return pa.Table.from_pylist(list(rows), schema)


def _when(one: Forecast, year: int) -> Row:
    begins = one.begins
    return {"Year": year + 1, "PeriodStart": date(begins.year + year, begins.number, 1)}


def _put(row: Row, name: str, band: Band) -> None:
    for end, value in zip(("Low", "Central", "High"), band, strict=True):
        row[f"{name}{end}"] = value


def _rows(one: Forecast, figures: Mapping[str, Floats], **fixed: object) -> Iterator[Row]:
    """Yield a row per year with the bands of some figures, each (years, columns)."""
    found = {name: bands(rows) for name, rows in figures.items()}
    for year in range(one.years):
        row: Row = {"Scenario": one.scenario.name, **_when(one, year), **fixed}
        for name, banded in found.items():
            _put(row, name, banded[year])
        yield row


def _years(one: Forecast) -> Iterator[Row]:
    total = one.total
    return _rows(
        one,
        {
            "SlidesNew": one.slides_new,
            "SlidesKept": one.slides_kept,
            "BytesStored": one.all_bytes,
            "Eur": total.eur,
            "CumulativeEur": cumulative(total.eur),
            "PurchasesEur": one.spent,
            "EnergyKwh": total.kwh,
            "OperationalGco2e": total.operational_g,
            "EmbodiedGco2e": total.embodied_g,
            "Gco2e": total.gco2e,
            "CumulativeGco2e": cumulative(total.gco2e),
        },
    )


def _parts(one: Forecast) -> Iterator[Row]:
    found = []
    for (tier, what), amounts in one.parts.items():
        figures = {
            "Eur": amounts.eur,
            "EnergyKwh": amounts.kwh,
            "OperationalGco2e": amounts.operational_g,
            "EmbodiedGco2e": amounts.embodied_g,
        }
        found += list(_rows(one, figures, Tier=tier, Kind=str(what)))
    return iter(sorted(found, key=lambda row: (row["Year"], row["Tier"], row["Kind"])))


def _tiers(one: Forecast) -> Iterator[Row]:
    found = []
    for tier in sorted({*one.bytes_stored, *one.equipment}):
        own = one.equipment.get(tier)
        nothing = one.total.eur * 0.0
        figures = {
            "BytesStored": one.bytes_stored.get(tier, nothing),
            "Systems": nothing if own is None else own.systems,
            "SystemsBought": nothing if own is None else own.bought,
            "PurchasesEur": nothing if own is None else own.spent,
        }
        found += list(_rows(one, figures, Tier=tier))
    return iter(sorted(found, key=lambda row: (row["Year"], row["Tier"])))


def _differences(one: Forecast, against: Forecast) -> Iterator[Row]:
    mine, theirs = one.total, against.total
    return _rows(
        one,
        {
            "CumulativeEur": cumulative(mine.eur - theirs.eur),
            "CumulativeEnergyKwh": cumulative(mine.kwh - theirs.kwh),
            "CumulativeGco2e": cumulative(mine.gco2e - theirs.gco2e),
            "BytesStored": one.all_bytes - against.all_bytes,
        },
        Against=against.scenario.name,
    )
