"""What tests of forecasts share: scenarios with round figures that can be reckoned by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.report_kit import GRID, exactly, model
from wsistore.reports.forecast.running import Forecast, forecast
from wsistore.reports.forecast.scenario import (
    CopyAt,
    ForecastTier,
    Path,
    PresetFigures,
    Scenario,
    SizeKind,
    Slides,
    Stage,
)
from wsistore.reports.periods import Month
from wsistore.reports.samples import Draws, Floats
from wsistore.tiers.value_files import Value

BEGINS = Month(2027, 1)
GB = 1e9
PRESETS = {
    "keep": PresetFigures(name="keep", ratio=exactly(1.0), objects=10.0),
    "half": PresetFigures(name="half", ratio=exactly(0.5), objects=2.0),
}


def slides(per_year: float | Value = 1200.0, size: float | Value = GB, **more: Any) -> Slides:
    """Return slides that are all alike."""
    count, each = (one if isinstance(one, Value) else exactly(one) for one in (per_year, size))
    return Slides(per_year=count, kinds=(SizeKind(name="all", part=1.0, bytes=each),), **more)


def tier(name: str = "hot", *, least_days: float = 0.0, **more: Any) -> ForecastTier:
    """Return a tier of 20 EUR per TB and month, unless `prices` say otherwise."""
    made = model(name, **more.pop("prices", {}))
    return ForecastTier(model=replace(made, least_days=least_days), **more)


def stages(*found: tuple[float, str, str]) -> tuple[Stage, ...]:
    """Return stages of one copy each: age in months, tier, preset."""
    return tuple(Stage(age, (CopyAt(where, preset),)) for age, where, preset in found)


def scenario(*tiers: ForecastTier, **more: Any) -> Scenario:
    """Return a scenario; unless `stages` say otherwise all slides stay in the first tier as they are."""
    found = tiers or (tier(),)
    path = Path("all", 1.0, more.pop("stages", stages((0.0, found[0].name, "keep"))), more.pop("keep_months", None))
    given: dict[str, Any] = {
        "name": "made-up",
        "file": "made-up.yaml",
        "title": "Made up",
        "slides": slides(),
        "paths": (path,),
        "tiers": {one.name: one for one in found},
        "presets": PRESETS,
        "grid": GRID,
    }
    return Scenario(**(given | more))


def ran(one: Scenario, years: int = 2, draws: Draws | None = None) -> Forecast:
    """Forecast a scenario."""
    (found,) = forecast([one], BEGINS, years, draws or Draws(count=200))
    return found


def central(rows: Floats) -> list[float]:
    """Return the central estimates of years."""
    found: list[float] = rows[:, 0].tolist()
    return found
