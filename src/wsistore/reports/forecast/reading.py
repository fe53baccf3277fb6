"""From a scenario's file, YAML or TOML, to `Scenario`, or to a message that names file and key and what was meant."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from wsistore.errors import InputError, Kind, MissingError, SiteError
from wsistore.reports.forecast.paths import paths_of, reads_from
from wsistore.reports.forecast.scenario import ForecastTier, PresetFigures, Scenario, SizeKind, Slides
from wsistore.reports.forecast.scenario_values import ScenarioReader, shipped_presets
from wsistore.reports.terms import COUNTRY, TierModel
from wsistore.settings.values import TIER_NAME, did_you_mean
from wsistore.tiers.grid import Grid, load_grid
from wsistore.tiers.prices import default_prices, load_prices
from wsistore.tiers.rules.positions import parse_yaml
from wsistore.tiers.value_files import Json, Value

VERSION = 1
REMEDY = "Mend the file; docs/forecast.md describes it."
MOST_BYTES = 1 << 20
_TOP = (
    *("version", "name", "like", "title", "title_fr", "about", "country", "slides", "stages", "paths", "keep_years"),
    *("reads", "presets", "tiers", "grid", "grid_decline_per_year"),
)
_SLIDES = ("per_year", "growth_per_year", "ramp_up", "sizes", "stock", "stock_years")
_SIZE = ("part", "bytes", "whole")
_PRESET = ("ratio", "objects", "cpu_seconds_per_gb")
_TIER = ("prices", "energy", "country", "storage_decline_per_year", "fees_rise_per_year", "verify_every_days", "owned")
_OWNED = ("systems", "years")
_MOST_LIKE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a scenario does not say."""

    grid: Grid = field(default_factory=load_grid)
    country: str = COUNTRY
    tiers: Mapping[str, TierModel] = field(default_factory=dict)
    """Of the site, by name: a scenario's tier that names no prices has those of the site's tier of its name."""
    at: date | None = None
    """The day whose rates turn another currency into euros."""


def read_scenario(path: Path, around: Around | None = None) -> Scenario:
    """Read a scenario.

    Parameters
    ----------
    path
        Of the file; one that ends in ``.toml`` is TOML, any other YAML.
    around
        What the file does not say.

    Raises
    ------
    MissingError
        If there is no such file.
    InputError
        If it is no scenario (`Kind.SCENARIO_INVALID`); the message names the file and the key.

    """
    try:
        return _Reading(path, around or Around()).scenario()
    except SiteError as error:
        # Prices and coefficients have messages of their own: what is wrong is a file of the user's all the same.
        raise InputError(error.message, kind=Kind.SCENARIO_INVALID, remedy=error.remedy) from error


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"There is no file {path}."
        remedy = "'wsistore forecast scenarios' lists those that ship; or name another file."
        raise MissingError(msg, kind=Kind.PATH_MISSING, remedy=remedy) from error
    except (OSError, ValueError) as error:
        raise _wrong(path, f"cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if len(content) > MOST_BYTES:
        raise _wrong(path, f"is larger than {MOST_BYTES} bytes: no scenario that people wrote.")
    found = _toml(path, content) if path.suffix.lower() == ".toml" else _yaml(path, content)
    if not isinstance(found, dict):
        raise _wrong(path, "is no table of keys and values.")
    return found


def _toml(path: Path, content: bytes) -> Any:
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"is no valid TOML: {error}.") from error


def _yaml(path: Path, content: bytes) -> Any:
    try:
        return parse_yaml(content, str(path)).plain()
    except InputError as error:
        raise InputError(error.message.replace(" in rules", ""), kind=Kind.SCENARIO_INVALID, remedy=REMEDY) from error
    except RecursionError as error:
        raise _wrong(path, "is nested too deeply.") from error


def _wrong(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}", kind=Kind.SCENARIO_INVALID, remedy=REMEDY)


class _Reading:
    """Reads one scenario, and those that it is like."""

    def __init__(self, path: Path, around: Around) -> None:
        self.path, self.around = path, around
        self.document: dict[str, Any] = {}
        self.files: dict[str, Path] = {}
        """Which file each key is from."""
        self._gather(path, [])

    def _gather(self, path: Path, above: Sequence[Path]) -> None:
        """Take all keys of a file, then those of the file that it is like and that it has not itself."""
        found = _document(path)
        reader = ScenarioReader(str(path))
        reader.known(found, "", _TOP)
        if found.get("version") != VERSION:
            raise reader.wrong(found.get("version"), f"{VERSION}, or upgrade wsistore", "version")
        for key, value in found.items():
            if key not in self.document:
                self.document[key], self.files[key] = value, path
        if "like" in found:
            other = path.parent / reader.text(found, "like")
            if len(above) >= _MOST_LIKE or other.resolve() in [one.resolve() for one in (*above, path)]:
                raise reader.wrong(found["like"], "a file that is not like this one in turn", "like")
            self._gather(other, [*above, path])

    def reader(self, key: str) -> ScenarioReader:
        return ScenarioReader(str(self.files.get(key, self.path)))

    def scenario(self) -> Scenario:
        own = ScenarioReader(str(self.path))
        name = own.text(self.document, "name") if self.files.get("name") == self.path else self.path.stem
        tiers, grid = self._tiers(), self._grid()
        self._check_countries(tiers, grid)
        presets = self._presets()
        keep = self.reader("keep_years").optional(self.document, "keep_years", 0.0, least=1.0, most=200.0)
        readers = {key: self.reader(key) for key in ("stages", "paths", "reads")}
        return Scenario(
            name=name,
            file=str(self.path),
            title=self.reader("title").text(self.document, "title", name),
            title_fr=self._french(),
            about=self.reader("about").text(self.document, "about", ""),
            slides=self._slides(),
            paths=paths_of(self.document, readers, tiers, presets, keep),
            tiers=tiers,
            presets=presets,
            reads=reads_from(self.document, readers["reads"]),
            grid=grid,
            grid_decline=self._grid_decline(grid),
        )

    def _french(self) -> str:
        """Return the French title, where it is of the file that the title is of."""
        if self.files.get("title_fr") != self.files.get("title"):
            return ""
        return self.reader("title_fr").text(self.document, "title_fr", "") if "title_fr" in self.document else ""

    # --- slides

    def _slides(self) -> Slides:
        reader = self.reader("slides")
        table = reader.table(self.document, "slides", _SLIDES)
        for key in ("per_year", "sizes"):
            reader.needed(table, "slides", key)
        sizes = reader.tables(table["sizes"], "slides.sizes")
        kinds = tuple(self._size(reader, name, one) for name, one in sizes.items())
        total = sum(kind.part for kind in kinds)
        if abs(total - 1.0) > 1e-6:
            raise reader.wrong(round(total, 6), "parts that sum to 1", "slides.sizes")
        stock = reader.optional(table, "slides.stock", 0.0, most=1e9)
        return Slides(
            per_year=reader.of(table, "slides.per_year"),
            growth_per_year=reader.of(table, "slides.growth_per_year"),
            ramp_up=reader.numbers(table, "slides.ramp_up", most=1.0),
            kinds=kinds,
            stock=stock,
            stock_years=reader.optional(table, "slides.stock_years", 1.0, least=1 / 12, most=100.0),
        )

    def _size(self, reader: ScenarioReader, name: str, table: Json) -> SizeKind:
        key = f"slides.sizes.{name}"
        reader.known(table, key, _SIZE)
        reader.needed(table, key, "bytes")
        return SizeKind(
            name=name,
            part=reader.optional(table, f"{key}.part", 1.0, most=1.0),
            bytes=reader.of(table, f"{key}.bytes", least=1.0),
            is_whole=reader.flag(table, f"{key}.whole"),
        )

    def _presets(self) -> dict[str, PresetFigures]:
        presets = shipped_presets()
        if "presets" not in self.document:
            return presets
        reader = self.reader("presets")
        for name, table in reader.tables(self.document["presets"], "presets").items():
            key, known = f"presets.{name}", presets.get(name)
            reader.known(table, key, _PRESET)
            if known is None:
                reader.needed(table, key, "ratio")
            presets[name] = PresetFigures(
                name=name,
                ratio=reader.of(table, f"{key}.ratio", known.ratio if known else None),
                objects=reader.optional(table, f"{key}.objects", known.objects if known else 40.0, least=1.0, most=1e7),
                cpu_seconds_per_gb=reader.of(
                    table, f"{key}.cpu_seconds_per_gb", known.cpu_seconds_per_gb if known else None
                ),
            )
            if presets[name].ratio.low <= 0:
                raise reader.wrong(presets[name].ratio.low, "a ratio above 0", f"{key}.ratio")
        return presets

    # --- tiers and the grid

    def _tiers(self) -> dict[str, ForecastTier]:
        reader = self.reader("tiers")
        reader.needed(self.document, "", "tiers")
        found = reader.tables(self.document["tiers"], "tiers")
        for name in found:
            if not TIER_NAME.fullmatch(name):
                raise reader.wrong(name, "a tier's name of lower-case letters, digits, '-' and '_'", "tiers")
        return {name: self._tier(reader, name, table) for name, table in found.items()}

    def _tier(self, reader: ScenarioReader, name: str, table: Json) -> ForecastTier:
        key = f"tiers.{name}"
        reader.known(table, key, _TIER)
        model = self._model(reader, name, table)
        owned = reader.table(table, f"{key}.owned", _OWNED) if "owned" in table else {}
        if owned and model.prices.hardware is None:
            raise reader.wrong(owned, "none: the prices of this tier have no [hardware]", f"{key}.owned")
        decline = model.prices.storage_decline_per_year
        return ForecastTier(
            model=model,
            storage_decline=reader.of(table, f"{key}.storage_decline_per_year", decline),
            fees_rise=reader.of(table, f"{key}.fees_rise_per_year"),
            verify_every_days=reader.optional(table, f"{key}.verify_every_days", 0.0, least=1.0, most=36_525.0),
            owned_systems=reader.optional(owned, f"{key}.owned.systems", 0.0, most=10_000.0),
            owned_years=reader.optional(owned, f"{key}.owned.years", 0.0, most=100.0),
        )

    def _model(self, reader: ScenarioReader, name: str, table: Json) -> TierModel:
        key, folder = f"tiers.{name}", Path(reader.where).parent
        country = reader.text(self.document, "country", self.around.country)
        if "prices" not in table and name in self.around.tiers and "energy" not in table:
            known = self.around.tiers[name]
            return replace(known, country=reader.text(table, f"{key}.country", known.country))
        named_prices = reader.text(table, f"{key}.prices", default_prices(name))
        energy = reader.text(table, f"{key}.energy", "")
        try:
            prices = load_prices(named_prices, folder, energy=energy, at=self.around.at)
        except SiteError as error:
            msg = f"{reader.where}: {key}: {error.message}"
            raise InputError(msg, kind=Kind.SCENARIO_INVALID, remedy=error.remedy) from error
        return TierModel(
            name=name,
            prices=prices,
            country=reader.text(table, f"{key}.country", country),
            is_archive=bool(prices.retrievals),
            least_days=prices.least_days.central,
        )

    def _grid(self) -> Grid:
        if "grid" not in self.document:
            return self.around.grid
        found = load_grid(self.document["grid"], self.reader("grid").where)
        own = {(one["country"], one["year"]) for one in self.document["grid"]}
        known = {(one.country, one.year): one for one in self.around.grid.factors}
        mine = {(one.country, one.year): one for one in found.factors if (one.country, one.year) in own}
        return Grid(tuple((known | mine).values()))

    def _grid_decline(self, grid: Grid) -> dict[str, Value]:
        if "grid_decline_per_year" not in self.document:
            return {}
        reader = self.reader("grid_decline_per_year")
        found = reader.tables(self.document["grid_decline_per_year"], "grid_decline_per_year", values=True)
        for country in found:
            if country not in grid.countries():
                hint = did_you_mean(country, grid.countries())
                raise reader.wrong(country, f"one of {', '.join(grid.countries())}{hint}", "grid_decline_per_year")
        return {country: reader.of(found, f"grid_decline_per_year.{country}", part=True) for country in found}

    def _check_countries(self, tiers: Mapping[str, ForecastTier], grid: Grid) -> None:
        for name, tier in tiers.items():
            if tier.model.country not in grid.countries():
                known = ", ".join(grid.countries())
                hint = did_you_mean(tier.model.country, grid.countries())
                expected = f"one of {known}, or one that a table of 'grid' gives a factor for{hint}"
                raise self.reader("tiers").wrong(tier.model.country, expected, f"tiers.{name}.country")
