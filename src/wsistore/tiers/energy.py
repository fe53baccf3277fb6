"""Energy and carbon of media and of work: coefficients that come with wsistore, and what a site puts in their place."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Self

from wsistore.errors import SiteError
from wsistore.settings.values import did_you_mean
from wsistore.tiers.value_files import Json, Kind, Value, ValueReader, own_text, parsed, quotient

DATA = resources.files("wsistore.tiers") / "data"
_ENERGY = ("france",)
"""Names of what tiers/data/energy.toml says."""


class Medium(StrEnum):
    """What the bytes lie on: decides energy and carbon."""

    HDD = "hdd"
    SSD = "ssd"
    TAPE = "tape"


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy and carbon of a medium and of work; units are in the names."""

    kwh_per_tb_year: Value
    """At the drive, per TB on the medium, before redundancy and PUE."""
    embodied_kg_per_tb_year: Value
    """kgCO2e of manufacture per TB on the medium and year."""
    pue: Value
    grid_g_per_kwh: Value
    watts_per_core: Value
    network_kwh_per_gb: Value


MEDIA = tuple(str(medium) for medium in Medium)
ENERGY_KINDS = {
    **{f"{medium}_kwh_per_tb_year": Kind("kWh/TB/year", most=10_000) for medium in MEDIA},
    **{f"{medium}_embodied_kg_per_tb_year": Kind("kgCO2e/TB/year", most=10_000) for medium in MEDIA},
    **{f"{medium}_embodied_kg_per_tb": Kind("kgCO2e/TB", most=100_000) for medium in MEDIA},
    **{f"{medium}_lifetime_years": Kind("year", 1.0, 100.0) for medium in MEDIA},
    "pue": Kind("1", 1.0, 10.0),
    "grid_g_per_kwh": Kind("gCO2e/kWh", most=5000),
    "watts_per_core": Kind("W/core", most=1000),
    "network_kwh_per_gb": Kind("kWh/GB", most=100),
}
_RATES = {
    f"{medium}_embodied_kg_per_tb_year": (f"{medium}_embodied_kg_per_tb", f"{medium}_lifetime_years")
    for medium in MEDIA
}
"""What each rate per year is made of."""


def energy_tables(name: str, folder: Path | None) -> Json:
    """Return the coefficients that come with wsistore, with those of a site's own file in their place."""
    shipped = tomllib.loads((DATA / "energy.toml").read_text("utf-8"))
    if name in {"", *_ENERGY}:
        return shipped
    if "/" not in name and not name.endswith(".toml"):
        msg = f"There is no energy profile called {name!r}{did_you_mean(name, _ENERGY)}."
        raise SiteError(msg, remedy=f"Name a file of your own, or one of: {', '.join(_ENERGY)}.")
    path = (folder or Path()) / Path(name).expanduser()
    own = parsed(str(path), own_text(path, "energy"))
    reader = ValueReader(str(path), ENERGY_KINDS, "Mend the file; docs/tuning.md lists its keys.")
    return EnergyTables.of(reader, shipped, own, prefix="").tables


@dataclass(frozen=True, slots=True)
class EnergyTables:
    """Coefficients of all media, of which a tier has one."""

    reader: ValueReader
    tables: Json

    @classmethod
    def of(cls, reader: ValueReader, tables: Json, own: object, *, prefix: str = "energy") -> Self:
        """Return `tables` with a file's `own` in the place of others; a rate replaces what it is made of.

        Raises
        ------
        SiteError
            If the file has others than there are, or wrong ones, or contradicts itself.

        """
        if not isinstance(own, dict):
            raise reader.wrong(own, "a table, written as [energy.pue] and so on", "energy")
        reader.known(own, prefix, tuple(ENERGY_KINDS))
        found = {**tables, **own}
        for key, table in own.items():
            dotted = f"{prefix}.{key}" if prefix else key
            reader.value({dotted: table}, dotted)
        for rate, parts in _RATES.items():
            both = [part for part in parts if part in own]
            if rate in own and both:
                raise reader.wrong(own[rate], f"none beside {both[0]!r}, which it is made of", rate)
            for key in parts if rate in own else [rate] if both else []:
                found.pop(key, None)
        return cls(reader, found)

    def value(self, key: str) -> Value:
        """Return one coefficient."""
        if key not in self.tables:
            msg = f"{self.reader.where}: the coefficient {key!r} is missing."
            raise SiteError(msg, remedy=self.reader.remedy)
        return self.reader.value({f"energy.{key}": self.tables[key]}, f"energy.{key}")

    def energy(self, medium: Medium) -> Energy:
        """Return those that a tier on `medium` has."""
        rate = f"{medium}_embodied_kg_per_tb_year"
        embodied = self.value(rate) if rate in self.tables else quotient(*map(self.value, _RATES[rate]))
        return Energy(
            self.value(f"{medium}_kwh_per_tb_year"),
            embodied,
            self.value("pue"),
            self.value("grid_g_per_kwh"),
            self.value("watts_per_core"),
            self.value("network_kwh_per_gb"),
        )
