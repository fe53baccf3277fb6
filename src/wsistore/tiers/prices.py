"""What a tier costs: prices with low, central and high, each with its source, from files that a site can replace."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

from wsistore.errors import SiteError
from wsistore.settings.values import did_you_mean
from wsistore.storage.archive import Retrieval
from wsistore.tiers.energy import DATA, ENERGY_KINDS, MEDIA, Energy, EnergyTables, Medium, energy_tables
from wsistore.tiers.hardware import (
    HARDWARE_KEYS,
    HARDWARE_KINDS,
    HARDWARE_MONEY,
    HARDWARE_NEEDED,
    Hardware,
    storage_price,
)
from wsistore.tiers.value_files import (
    NOTHING,
    ONE,
    Json,
    Kind,
    Mark,
    Value,
    ValueReader,
    own_text,
    parsed,
    product,
)

__all__ = [
    "NOTHING",
    "Energy",
    "Hardware",
    "Mark",
    "Medium",
    "Prices",
    "RetrievalPrice",
    "Value",
    "default_prices",
    "known_prices",
    "load_prices",
    "temperature",
]

FORMAT_VERSION = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_REMEDY = "Mend the file; docs/tuning.md lists its keys."


@dataclass(frozen=True, slots=True)
class RetrievalPrice:
    """One way back from an archive class."""

    retrieval: Retrieval
    hours: Value
    """From asking to reading: what is typical (central), and what is stated at most (high)."""
    per_gb: Value = NOTHING
    per_1000: Value = NOTHING
    """Of objects that are asked for."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a tier costs. Money is in euros, whatever the currency of the file; TB and GB are decimal."""

    name: str
    title: str
    medium: Medium
    energy: Energy
    storage_per_tb_month: Value
    raw_per_usable: Value = ONE
    """Bytes on the medium per stored byte: redundancy and spare room. Concerns energy; the price has it already."""
    storage_decline_per_year: Value = NOTHING
    """Part by which the price of storage falls each year."""
    put_per_1000: Value = NOTHING
    get_per_1000: Value = NOTHING
    transition_per_1000: Value = NOTHING
    """Of objects that the service moves to this class, after they were written in another one."""
    retrieval_per_gb: Value = NOTHING
    """The tier's fee for reading, where nothing has to be restored first."""
    egress_per_gb: Value = NOTHING
    """The network's fee for what is read."""
    least_days: Value = NOTHING
    """Storage that is billed at least."""
    least_object_bytes: Value = NOTHING
    overhead_bytes_per_object: Value = NOTHING
    """What an object is billed for beyond its size, at the price of the tier."""
    overhead_standard_bytes_per_object: Value = NOTHING
    """The same, at the price of the service's standard class."""
    standard_per_tb_month: Value = NOTHING
    """Of the service's standard class: what overheads and restored copies cost."""
    cpu_per_core_hour: Value = NOTHING
    waiting_per_hour: Value = NOTHING
    """What an hour of a person is worth who waits for a tile to be undone."""
    retrievals: tuple[RetrievalPrice, ...] = ()
    """Ways back, where objects have to be restored before they can be read."""
    vat: Value = NOTHING
    """Part of a price that comes on top as tax and cannot be recovered; all other figures are without it."""
    hardware: Hardware | None = None
    """The hospital's own, where the price of storage is reckoned from it."""


_MONEY = frozenset(
    {"storage_per_tb_month", "put_per_1000", "get_per_1000", "transition_per_1000", "retrieval_per_gb",
     "egress_per_gb", "standard_per_tb_month", "cpu_per_core_hour", "waiting_per_hour"}
)  # fmt: skip
_NO_VALUES = frozenset({"name", "title", "medium", "energy", "retrievals", "hardware"})
_VALUES = tuple(f.name for f in fields(Prices) if f.name not in _NO_VALUES)
_TOP = ("version", "title", "currency", "medium", "eur_per_unit", "energy", "retrieval", "hardware", *_VALUES)
_RETRIEVAL = ("name", "hours", "per_gb", "per_1000")
_KINDS = {
    **dict.fromkeys(("storage_per_tb_month", "standard_per_tb_month"), Kind("money/TB/month", most=100_000)),
    **dict.fromkeys(("put_per_1000", "get_per_1000", "transition_per_1000"), Kind("money/1000 requests", most=1000)),
    **dict.fromkeys(("retrieval_per_gb", "egress_per_gb", "per_gb"), Kind("money/GB", most=100)),
    "per_1000": Kind("money/1000 requests", most=1000),
    "least_days": Kind("day", most=36_525),
    **dict.fromkeys(
        ("least_object_bytes", "overhead_bytes_per_object", "overhead_standard_bytes_per_object"), Kind("B", most=1e9)
    ),
    **dict.fromkeys(("cpu_per_core_hour",), Kind("money/core/hour", most=1000)),
    "waiting_per_hour": Kind("money/hour", most=100_000),
    "hours": Kind("hour", most=10_000),
    "raw_per_usable": Kind("1", 1.0, 100.0),
    "storage_decline_per_year": Kind("1"),
    "vat": Kind("1", 0.0, 0.5),
    "eur_per_unit": Kind(least=1e-6, most=1e6),
    **ENERGY_KINDS,
    **HARDWARE_KINDS,
}  # fmt: skip
"""What values are by the last part of their key. Absurd is what no price list nor measurement was ever near to."""


def known_prices() -> tuple[str, ...]:
    """Return the names of the prices that come with wsistore, sorted."""
    files = (DATA / "prices").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def default_prices(tier: str) -> str:
    """Return the name of the prices that a tier has whose settings name none: by what its name says it is."""
    return {"cold": "ovh-cold-archive", "warm": "ovh-standard"}.get(temperature(tier), "hospital-disk")


def temperature(tier: str) -> str:
    """Return ``hot``, ``warm`` or ``cold`` by a tier's name; what says nothing is hot."""
    for kind, words in (("cold", ("cold", "archive", "glacier", "tape")), ("warm", ("warm", "cool"))):
        if any(word in tier for word in words):
            return kind
    return "hot"


def load_prices(name: str, folder: Path | None = None, *, energy: str = "", at: date | None = None) -> Prices:
    """Read prices.

    Parameters
    ----------
    name
        One of `known_prices`, or the path of a file of the site's own: whatever has a ``/`` or ends in ``.toml``.
    folder
        What relative paths start at; by default the current folder.
    energy
        Coefficients of energy and carbon that the price file builds on: ``france``, which comes with wsistore and is
        the default, or the path of a file of the same tables as tiers/data/energy.toml, of which it may leave out any.
    at
        The day whose rate turns another currency into euros, where the file has dated rates; by default the latest.

    Raises
    ------
    SiteError
        If there are none, or the file is wrong; the message names the file, the key and what is expected.

    """
    if "/" in name or name.endswith(".toml"):
        path = (folder or Path()) / Path(name).expanduser()
        reader = _Reader(str(path), energy_tables(energy, folder), at)
        return reader.prices(path.stem, parsed(str(path), own_text(path, "prices")))
    if name not in known_prices():
        msg = f"There are no prices called {name!r}{did_you_mean(name, known_prices())}."
        raise SiteError(msg, remedy=f"Name a file of your own, or one of: {', '.join(known_prices())}.")
    where = f"prices/{name}.toml"
    reader = _Reader(where, energy_tables(energy, folder), at)
    return reader.prices(name, parsed(where, (DATA / "prices" / f"{name}.toml").read_text("utf-8")))


class _Reader(ValueReader):
    """Turns a parsed file into prices, or says what is wrong with it."""

    def __init__(self, where: str, energy: Json, at: date | None = None) -> None:
        super().__init__(where, _KINDS, _REMEDY)
        self.energy, self.at = energy, at

    def prices(self, name: str, document: Json) -> Prices:
        self.known(document, "", _TOP)
        version = document.get("version", FORMAT_VERSION)
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise self.wrong(version, f"{FORMAT_VERSION}, or upgrade wsistore", "version")
        currency, rate = self._currency(document)
        medium, energy = self._medium(document), EnergyTables.of(self, self.energy, document.get("energy", {}))
        hardware = self._hardware(document, rate, currency)
        if hardware is None and "storage_per_tb_month" not in document:
            msg = f"{self.where}: the table [storage_per_tb_month] is missing."
            raise SiteError(msg, remedy=_REMEDY)
        values = {key: self.value(document, key, currency=currency) for key in _VALUES if key in document}
        values = {key: product(value, rate) if key in _MONEY else value for key, value in values.items()}
        if hardware is not None:
            values["storage_per_tb_month"] = storage_price(hardware, energy.value("pue"))
        decline = values.get("storage_decline_per_year", NOTHING)
        if not 0 <= decline.low <= decline.high < 1:
            raise self.wrong(decline.central, "a part from 0 to below 1", "storage_decline_per_year")
        title = document.get("title", name)
        if not isinstance(title, str):
            raise self.wrong(title, "a text", "title")
        ways = self._retrievals(document, rate, currency)
        return Prices(
            name=name,
            title=title,
            medium=medium,
            energy=energy.energy(medium),
            retrievals=ways,
            hardware=hardware,
            **values,
        )

    def _currency(self, document: Json) -> tuple[str, Value]:
        currency = document.get("currency", "EUR")
        if not isinstance(currency, str) or (currency != "EUR" and "eur_per_unit" not in document):
            raise self.wrong(currency, '"EUR", or another one together with a table [eur_per_unit]', "currency")
        if "eur_per_unit" not in document:
            return currency, ONE
        found = document["eur_per_unit"]
        if not isinstance(found, list):
            return currency, self.value(document, "eur_per_unit")
        dated: dict[date, Json] = {}
        for table in found:
            begins = table.get("from") if isinstance(table, dict) else None
            if type(begins) is not date or begins in dated:
                raise self.wrong(begins, "the day from which a rate holds, such as 2026-01-01, each once", "from")
            dated[begins] = {key: value for key, value in table.items() if key != "from"}
        days = sorted(day for day in dated if self.at is None or day <= self.at)
        if not days:
            raise self.wrong(sorted(map(str, dated)), f"a rate that holds on {self.at}", "eur_per_unit.from")
        return currency, self.value({"eur_per_unit": dated[days[-1]]}, "eur_per_unit")

    def _hardware(self, document: Json, rate: Value, currency: str) -> Hardware | None:
        if "hardware" not in document:
            return None
        table = document["hardware"]
        if not isinstance(table, dict):
            raise self.wrong(table, "tables, written as [hardware.purchase] and so on", "hardware")
        self.known(table, "hardware", HARDWARE_KEYS)
        for key in HARDWARE_NEEDED:
            if key not in table:
                msg = f"{self.where}: the table [hardware.{key}] is missing."
                raise SiteError(msg, remedy=_REMEDY)
        if "storage_per_tb_month" in document:
            key = "storage_per_tb_month"
            raise self.wrong(document[key], "none beside [hardware], from which it is reckoned", key)
        dotted = {f"hardware.{key}": value for key, value in table.items()}
        values = {key: self.value(dotted, f"hardware.{key}", currency=currency) for key in table}
        return Hardware(**{key: product(v, rate) if key in HARDWARE_MONEY else v for key, v in values.items()})

    def _retrievals(self, document: Json, rate: Value, currency: str) -> tuple[RetrievalPrice, ...]:
        found = document.get("retrieval", [])
        if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
            raise self.wrong(found, "tables, each written as [[retrieval]]", "retrieval")
        ways = tuple(self._retrieval(table, rate, currency) for table in found)
        if len({way.retrieval for way in ways}) < len(ways):
            raise self.wrong([str(way.retrieval) for way in ways], "each name once", "retrieval.name")
        if ways and "retrieval_per_gb" in document:
            key = "retrieval_per_gb"
            raise self.wrong(document[key], "none beside [[retrieval]]: put the price there", key)
        return ways

    def _retrieval(self, table: Json, rate: Value, currency: str) -> RetrievalPrice:
        self.known(table, "retrieval", _RETRIEVAL)
        names = [str(known) for known in Retrieval]
        name = table.get("name")
        if name not in names:
            raise self.wrong(name, f"one of: {', '.join(names)}{did_you_mean(str(name), names)}", "retrieval.name")
        if "hours" not in table:
            msg = f"{self.where}: key 'retrieval.hours' is missing."
            raise SiteError(msg, remedy=_REMEDY)
        dotted = {f"retrieval.{key}": value for key, value in table.items()}
        fees = {
            key: product(self.value(dotted, f"retrieval.{key}", currency=currency), rate)
            for key in ("per_gb", "per_1000")
            if key in table
        }
        return RetrievalPrice(Retrieval(name), self.value(dotted, "retrieval.hours"), **fees)

    def _medium(self, document: Json) -> Medium:
        value = document.get("medium", Medium.HDD)
        if value not in MEDIA:
            expected = f"one of: {', '.join(MEDIA)}{did_you_mean(str(value), MEDIA)}"
            raise self.wrong(value, expected, "medium")
        return Medium(value)
