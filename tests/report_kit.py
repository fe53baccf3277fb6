"""What tests of reports share: events as a catalogue has them, and tiers with round prices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from wsistore.reports.happened import RAW, happened
from wsistore.reports.intervals import COPIES, SLIDES, intervals
from wsistore.reports.metering import Meter
from wsistore.reports.models import TierCosts
from wsistore.reports.periods import Month
from wsistore.reports.samples import Draws
from wsistore.reports.terms import TierModel
from wsistore.tiers.energy import Energy, Medium
from wsistore.tiers.grid import Grid, GridFactor
from wsistore.tiers.prices import Prices
from wsistore.tiers.value_files import Value

Event = tuple[str, int, datetime, str, dict[str, Any]]


def utc(text: str) -> datetime:
    """Return a moment of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def exactly(number: float) -> Value:
    """Return a value without a range."""
    return Value(number, number, number)


def begun(slide: str, number: int, at: str, tier: str = "hot", *, size: int = 10**12, **more: Any) -> Event:
    """Return the event of a copy's begin."""
    kind = more.pop("kind", "ingested" if number == 1 else "copied")
    commit = f"commits/{slide}/{more.pop('commit', 1):08}.json"
    detail = {"tier": tier, "commit": commit, "preset": "keep", "bytes_stored": size, "objects": 4, "version": 1}
    return (slide, number, utc(at), kind, detail | more)


def dropped(slide: str, number: int, at: str, tier: str = "hot", *, size: int = 10**12, commit: int = 1) -> Event:
    """Return the event of a copy's end."""
    detail = {"tier": tier, "commit": f"commits/{slide}/{commit:08}.json", "bytes_stored": size, "objects": 4}
    return (slide, number, utc(at), "dropped", detail)


def told(events: Sequence[Event]) -> pa.Table:
    """Return events with what they tell of usage."""
    rows = sorted(events, key=lambda event: event[:2])
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], [], [], []]
    columns[4] = [detail if isinstance(detail, str) else json.dumps(detail) for detail in columns[4]]
    return happened(pa.table(columns, RAW))


def slides(**known: tuple[int, str | None]) -> pa.Table:
    """Return what is known of slides: size of the source, and department."""
    rows = [{"slide": name, "bytes_source": size, "department": unit} for name, (size, unit) in sorted(known.items())]
    return pa.Table.from_pylist(rows, SLIDES)


def copies(*rows: dict[str, Any]) -> pa.Table:
    """Return copies that the catalogue knows."""
    return pa.Table.from_pylist(list(rows), COPIES)


def lying(events: Sequence[Event], known: pa.Table | None = None, there: pa.Table | None = None) -> pa.Table:
    """Return when copies lay where."""
    return intervals(
        told(events), slides() if known is None else known, COPIES.empty_table() if there is None else there
    )


def metered(events: Sequence[Event], *months: Month, known: pa.Table | None = None, **options: Any) -> Meter:
    """Return what was used in some months."""
    meter = Meter(months, **options)
    meter.add(lying(events, known), told(events))
    return meter


def model(name: str = "hot", **prices: Any) -> TierModel:
    """Return a tier with round prices: 20 EUR per TB and month, 10 kWh per TB and year, PUE 1.5, two raw per usable."""
    energy = {
        "kwh_per_tb_year": exactly(10.0),
        "embodied_kg_per_tb_year": exactly(3.0),
        "pue": exactly(1.5),
        "grid_g_per_kwh": exactly(50.0),
        "watts_per_core": exactly(4.0),
        "network_kwh_per_gb": exactly(0.001),
    }
    energy |= prices.pop("energy", {})
    values = {"storage_per_tb_month": exactly(20.0), "raw_per_usable": exactly(2.0), **prices}
    return TierModel(
        name=name, prices=Prices(name=name, title=name, medium=Medium.HDD, energy=Energy(**energy), **values)
    )


GRID = Grid((GridFactor("FR", 2024, exactly(50.0), exactly(20.0), exactly(30.0)),))


def costs(*models: TierModel, draws: Draws | None = None) -> dict[str, TierCosts]:
    """Return prices and coefficients by tier."""
    return {one.name: TierCosts(one, 2026, GRID, draws or Draws()) for one in models}
