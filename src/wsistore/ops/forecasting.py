"""A forecast: scenarios of the coming years side by side, written as Parquet and as a page."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from wsistore.clock import Clock, SystemClock
from wsistore.errors import ConflictError, InputError, Kind
from wsistore.ops.report_data import tier_models
from wsistore.ops.site import Site
from wsistore.reports import sets
from wsistore.reports.forecast.page import page_of, words_of
from wsistore.reports.forecast.reading import Around, read_scenario
from wsistore.reports.forecast.running import Forecast, bands, forecast
from wsistore.reports.forecast.shipped import scenario_path, shipped_files, shipped_scenarios
from wsistore.reports.forecast.tables import Row, table, tables_of
from wsistore.reports.models import METHOD
from wsistore.reports.periods import Month
from wsistore.reports.samples import Band, Draws
from wsistore.reports.terms import ReportSettings, read_settings
from wsistore.settings.values import did_you_mean

PAGE = "forecast.html"
MOST_YEARS = 50
MOST_SCENARIOS = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scenario comes to over all years; money without tax."""

    name: str
    title: str
    eur: Band
    kwh: Band
    gco2e: Band
    bytes_stored: Band
    """When the last year ends."""
    slides: Band
    spent: Band
    """EUR paid for own hardware in these years; in `eur` it is written off over its life."""
    more_eur: Band
    """Than the scenario that it is compared with, draw by draw."""
    more_gco2e: Band

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        banded = ("eur", "kwh", "gco2e", "bytes_stored", "slides", "spent", "more_eur", "more_gco2e")
        return {
            "scenario": self.name,
            "title": self.title,
            **{name: getattr(self, name)._asdict() for name in banded},
        }


@dataclass(frozen=True, slots=True)
class Forecasted:
    """A forecast that was made."""

    begins: str
    years: int
    against: str
    outcomes: list[Outcome]
    folder: Path | None
    files: list[str] = field(default_factory=list)
    forecasts: Sequence[Forecast] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "begins": self.begins,
            "years": self.years,
            "against": self.against,
            "folder": None if self.folder is None else str(self.folder),
            "files": self.files,
            "scenarios": [one.to_json() for one in self.outcomes],
        }


def forecast_scenarios(
    named: Sequence[str],
    *,
    site: Site | None = None,
    years: int = 10,
    begins: str | None = None,
    against: str | None = None,
    out: Path | None = None,
    language: str = "en",
    clock: Clock | None = None,
) -> Forecasted:
    """Forecast scenarios side by side.

    Parameters
    ----------
    named
        Files, or names of scenarios that ship; none: all that ship.
    site
        Whose reports.toml and price lists hold: time zone, grid, draws; a scenario's tier that names no prices has
        those of the site's tier of its name.
    years
        From `begins` on.
    begins
        A month, such as ``2027-01``; by default the first month of the year to come.
    against
        Name of the scenario that the others are compared with; by default the first.
    out
        Folder of the Parquet sets and the page; by default nothing is written.
    language
        Of the page: ``en`` or ``fr``.
    clock
        The present, where there is no site.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If a scenario is wrong (`Kind.SCENARIO_INVALID`), or there is no such month, language or scenario.
    SiteError
        If the site's reports.toml or price lists are wrong.
    StorageError
        If what comes out cannot be written.

    """
    words_of(language)
    if not 1 <= years <= MOST_YEARS:
        msg = f"A forecast of {years} years is not made."
        raise _invalid(msg, f"Name 1 to {MOST_YEARS} years.")
    settings = ReportSettings() if site is None else read_settings(site.folder)
    now = (clock or (SystemClock() if site is None else site.clock)).now()
    month = first_month(begins, settings, now)
    around = _around(site, settings, month)
    paths = [scenario_path(one) for one in named] or list(shipped_scenarios().values())
    if len(paths) > MOST_SCENARIOS:
        msg = f"{len(paths)} scenarios are too many for one page."
        raise _invalid(msg, f"Name {MOST_SCENARIOS} at most.")
    scenarios = [read_scenario(path, around) for path in paths]
    names = [one.name for one in scenarios]
    if len(set(names)) < len(names):
        msg = f"Two scenarios have the same name: {', '.join(names)}."
        raise _invalid(msg, "Give one of them another 'name'.")
    if against is not None and against not in names:
        hint = did_you_mean(against, names)
        msg = f"There is no scenario {against!r} here{hint}."
        raise _invalid(msg, f"They are: {', '.join(names)}.")
    draws = Draws(settings.seed, settings.draws)
    found = forecast(scenarios, month, years, draws)
    base = found[names.index(against)] if against is not None else found[0]
    outcomes = [outcome_of(one, base) for one in found]
    files = [] if out is None else write_forecast(out, found, base, draws, language)
    return Forecasted(str(month), years, base.scenario.name, outcomes, out, files, found)


def _invalid(message: str, remedy: str) -> InputError:
    return InputError(message, kind=Kind.CONDITION_INVALID, remedy=remedy)


def first_month(begins: str | None, settings: ReportSettings, now: datetime) -> Month:
    """Return the month that a forecast begins with: January of the next year unless told otherwise."""
    if begins is not None:
        return Month.parse(begins, settings.timezone)
    return Month(Month.of(now, settings.timezone).year + 1, 1, settings.timezone)


def _around(site: Site | None, settings: ReportSettings, month: Month) -> Around:
    tiers = {} if site is None else tier_models(site, settings, month)
    return Around(grid=settings.grid, country=settings.country, tiers=tiers, at=month.begins.date())


def outcome_of(one: Forecast, against: Forecast) -> Outcome:
    """Return what a forecast comes to over all its years, and how much more that is than another."""

    def summed(rows: Any) -> Band:
        return bands(rows.sum(axis=0, keepdims=True))[0]

    return Outcome(
        name=one.scenario.name,
        title=one.scenario.title,
        eur=summed(one.total.eur),
        kwh=summed(one.total.kwh),
        gco2e=summed(one.total.gco2e),
        bytes_stored=bands(one.all_bytes[-1:])[0],
        slides=bands(one.slides_kept[-1:])[0],
        spent=summed(one.spent),
        more_eur=summed(one.total.eur - against.total.eur),
        more_gco2e=summed(one.total.gco2e - against.total.gco2e),
    )


def write_forecast(out: Path, found: Sequence[Forecast], against: Forecast, draws: Draws, language: str) -> list[str]:
    """Write the Parquet sets and the page; return the names of the files.

    Raises
    ------
    StorageError
        If they cannot be written.

    """
    header = {
        "set": "forecast",
        "begins": str(against.begins),
        "timezone": against.begins.zone,
        "years": against.years,
        "against": against.scenario.name,
        "method": METHOD,
        "seed": draws.seed,
        "draws": draws.count,
    }
    written = []
    for name, rows in tables_of(found, against).by_name.items():
        path = out / f"{name}.parquet"
        _write_set(path, name, rows, header)
        written.append(path.name)
    page = out / PAGE
    draft = page.with_name(f".{PAGE}.{secrets.token_hex(8)}")
    with sets.translated(page):
        draft.write_text(page_of(found, against, draws, language), "utf-8")
        draft.replace(page)
    return [*written, PAGE]


def _write_set(path: Path, name: str, rows: Sequence[Row], header: dict[str, Any]) -> None:
    made = table(name, rows)
    with sets.PartWriter(path, made.schema, {**header, "set": f"forecast-{name}"}) as writer:
        writer.write(made)


# --- scenarios that ship ----------------------------------------------------------------------------------------------


def scenario_files() -> dict[str, Path]:
    """Return the scenarios that come with wsistore, by name."""
    return shipped_scenarios()


def copy_scenarios(folder: Path) -> list[Path]:
    """Copy all scenarios that ship, with what they refer to, into a folder, to be changed.

    Raises
    ------
    ConflictError
        If one of the files is there already.
    StorageError
        If they cannot be written.

    """
    targets = {path: folder / path.name for path in shipped_files()}
    for target in targets.values():
        if target.exists():
            msg = f"{target} is there already."
            raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Name another folder.")
    with sets.translated(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path, target in targets.items():
            shutil.copyfile(path, target)
    return list(targets.values())
