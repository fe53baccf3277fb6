"""Carbon of electricity by country and year: one scope for all, with what is burnt and what is upstream apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wsistore.errors import SiteError
from wsistore.settings.values import did_you_mean
from wsistore.tiers.energy import DATA
from wsistore.tiers.value_files import Json, Kind, Mark, Value, ValueReader, parsed

SCOPE = "life-cycle"
"""Of every factor: mixing it with direct emissions would compare unlike things."""
_KEYS = ("country", "title", "year", "combustion", "upstream", "total")
_KINDS = dict.fromkeys(("combustion", "upstream", "total"), Kind("gCO2e/kWh", most=5000))
_YEARS = range(1990, 2101)
_ORDER = list(Mark)


@dataclass(frozen=True, slots=True)
class GridFactor:
    """Of one country or territory, in one year."""

    country: str
    year: int
    total: Value
    """gCO2e per kWh over the life cycle."""
    combustion: Value | None = None
    """What is burnt in power stations; None: not told apart."""
    upstream: Value | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """All factors that are known."""

    factors: tuple[GridFactor, ...]

    def factor(self, country: str, year: int) -> GridFactor:
        """Return the factor of a country for a year: that year's, else the nearest before, else the nearest after.

        Raises
        ------
        SiteError
            If none is known for the country.

        """
        mine = sorted((one for one in self.factors if one.country == country), key=lambda one: one.year)
        if not mine:
            names = sorted({one.country for one in self.factors})
            msg = f"No carbon factor of electricity is known for {country!r}{did_you_mean(country, names)}."
            raise SiteError(msg, remedy=f"Known are {', '.join(names)}; add [[grid]] to reports.toml for another.")
        before = [one for one in mine if one.year <= year]
        return before[-1] if before else mine[0]

    def countries(self) -> tuple[str, ...]:
        """Return the codes of all countries, sorted."""
        return tuple(sorted({one.country for one in self.factors}))


def load_grid(own: Sequence[Json] = (), where: str = "reports.toml", key: str = "grid") -> Grid:
    """Return the factors that come with wsistore, with a site's own in their place.

    Parameters
    ----------
    own
        Tables of the site, as those of tiers/data/grid.toml.
    where, key
        The file and the name of the tables, for messages.

    Raises
    ------
    SiteError
        If one of them is wrong.

    """
    shipped = parsed("grid.toml", (DATA / "grid.toml").read_text("utf-8"))["factor"]
    found = {(one.country, one.year): one for one in _factors(shipped, "grid.toml", "factor")}
    ours = list(_factors(own, where, key))
    if len({(one.country, one.year) for one in ours}) < len(ours):
        msg = f"{where}: two [[{key}]] are of the same country and year."
        raise SiteError(msg, remedy="Keep one of them.")
    return Grid(tuple((found | {(one.country, one.year): one for one in ours}).values()))


def _factors(tables: Sequence[Json], where: str, key: str) -> Iterable[GridFactor]:
    reader = ValueReader(where, _KINDS, "Mend the file; docs/method.md tells its keys.")
    if not isinstance(tables, list | tuple) or not all(isinstance(table, dict) for table in tables):
        raise reader.wrong(tables, f"tables, each written as [[{key}]]", key)
    for table in tables:
        yield _factor(reader, table, key)


def _factor(reader: ValueReader, table: Json, key: str) -> GridFactor:
    reader.known(table, key, _KEYS)
    country, year = table.get("country"), table.get("year")
    if not isinstance(country, str) or not country.strip():
        raise reader.wrong(country, 'a code such as "FR"', f"{key}.country")
    if type(year) is not int or year not in _YEARS:
        raise reader.wrong(year, f"a year from {_YEARS.start} to {_YEARS.stop - 1}", f"{key}.year")
    dotted = {f"{key}.{name}": value for name, value in table.items()}
    if "total" in table:
        if "combustion" in table or "upstream" in table:
            raise reader.wrong(table["total"], "none beside combustion and upstream, whose sum it is", f"{key}.total")
        return GridFactor(country, year, reader.value(dotted, f"{key}.total"))
    for part in ("combustion", "upstream"):
        if part not in table:
            msg = f"{reader.where}: key '{key}.{part}' of {country} {year} is missing."
            raise SiteError(msg, remedy="Give combustion and upstream, or their sum as total.")
    burnt, upstream = (reader.value(dotted, f"{key}.{part}") for part in ("combustion", "upstream"))
    total = Value(
        burnt.low + upstream.low,
        burnt.central + upstream.central,
        burnt.high + upstream.high,
        f"{burnt.source}; {upstream.source}",
        max(burnt.mark, upstream.mark, key=_ORDER.index),
    )
    return GridFactor(country, year, total, burnt, upstream)
