"""Values of a scenario's file: a plain number, or a table with low, central and high, unit, source and mark."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from wsistore.errors import InputError, Kind
from wsistore.reports.forecast.scenario import DAYS_PER_MONTH, MONTHS_PER_YEAR, PresetFigures
from wsistore.tiers.plans.sizes import ASSUMED
from wsistore.tiers.plans.speeds import ENCODE_CPU_SECONDS_PER_GB, UNDO_CPU_SECONDS_PER_GB
from wsistore.tiers.value_files import NOTHING, Json, Mark, Value, ValueReader
from wsistore.tiers.value_files import Kind as ValueKind
from wsistore.units import parse_bytes

REMEDY = "Mend the file; docs/forecast.md describes it."
_AGE = re.compile(r"(\d{1,5}(?:\.\d+)?) ?(day|week|month|year)s?")
_MONTHS = {"day": 1 / DAYS_PER_MONTH, "week": 7 / DAYS_PER_MONTH, "month": 1.0, "year": MONTHS_PER_YEAR}
_PART = ValueKind("1", 0.0, 0.9)
_KINDS: Mapping[str, ValueKind] = {
    "per_year": ValueKind(most=1e9),
    "growth_per_year": ValueKind("1", 0.0, 1.0),
    "bytes": ValueKind("B", 0.0, 1e13),
    "ratio": ValueKind("1", 0.0, 100.0),
    "cpu_seconds_per_gb": ValueKind(most=1e6),
    "storage_decline_per_year": _PART,
    "fees_rise_per_year": ValueKind("1", 0.0, 1.0),
    "reads": ValueKind(most=100_000.0),
    "part": _PART,
}
"""What values are, by the last part of their key."""
_OURS = "wsistore: three real slides and the H&E of a compact scanner (docs/tuning.md, DESIGN.md section 4)"


def shipped_presets() -> dict[str, PresetFigures]:
    """Return how copies are in the presets that there are: what plans assume where nothing is measured."""
    lows_and_highs = {"keep": (1.0, 1.0), "fold": (0.68, 0.80), "pack": (0.67, 0.78)}
    found = {}
    for name, (low, high) in lows_and_highs.items():
        assumed = ASSUMED[name]
        source, mark = (_OURS, Mark.DERIVED) if name != "keep" else ("the scanner's bytes as they are", Mark.SEEN)
        seconds = UNDO_CPU_SECONDS_PER_GB if name == "keep" else ENCODE_CPU_SECONDS_PER_GB
        cpu = Value(seconds / 2, seconds, seconds * 2, "wsistore tune on one slide (docs/tuning.md)", Mark.DERIVED)
        ratio = Value(low, assumed.bytes_per_byte, high, source, mark)
        found[name] = PresetFigures(name=name, ratio=ratio, objects=assumed.objects, cpu_seconds_per_gb=cpu)
    return found


class ScenarioReader(ValueReader):
    """Reads values of one scenario's file.

    Parameters
    ----------
    where
        The file, for messages.

    """

    def __init__(self, where: str) -> None:
        super().__init__(where, _KINDS, REMEDY)

    def missing(self, key: str) -> InputError:
        """Return the error of a key that has to be there."""
        msg = f"{self.where}: key {key!r} is missing."
        return InputError(msg, kind=Kind.SCENARIO_INVALID, remedy=self.remedy)

    def needed(self, table: Json, prefix: str, key: str) -> None:
        """Refuse a table without a key."""
        if key not in table:
            raise self.missing(f"{prefix}.{key}" if prefix else key)

    def of(
        self, table: Json, key: str, default: Value | None = None, *, least: float = 0.0, part: bool = False
    ) -> Value:
        """Return the value under the last part of `key`: a number, a size such as '1.6 GB', or a table.

        Parameters
        ----------
        table
            What holds it.
        key
            Its dotted name.
        default
            Where it is not there; nothing unless given.
        least
            That it has to be.
        part
            Whether it is a part from 0 to below 1, whatever its key.

        """
        name = key.rpartition(".")[2]
        if name not in table:
            return NOTHING if default is None else default
        found = {f"{key}.part" if part else key: self._tabled(table[name], key)}
        value = self.value(found, f"{key}.part" if part else key)
        if value.low < least:
            raise self.wrong(value.low, f"at least {least:g}", key)
        return value

    def _tabled(self, value: object, key: str) -> object:
        """Return a value as a table; sizes with their unit become bytes."""
        if isinstance(value, dict):
            return {name: self._bytes(one, key) for name, one in value.items()}
        found = self._bytes(value, key)
        if not isinstance(found, int | float) or isinstance(found, bool):
            expected = "a number, a table with low, central and high, or (of bytes) a size such as '1.6 GB'"
            raise self.wrong(value, expected, key)
        return {"central": found}

    def _bytes(self, value: object, key: str) -> object:
        if not key.endswith(".bytes") or not isinstance(value, str) or not value[:1].isdigit():
            return value
        try:
            return parse_bytes(value)
        except ValueError as error:
            raise self.wrong(value, f"a size such as '1.6 GB' ({error})", key) from error

    def optional(self, table: Json, key: str, default: float, *, least: float = 0.0, most: float = 1e12) -> float:
        """Return a number; `default` where it is not there."""
        name = key.rpartition(".")[2]
        if name not in table:
            return default
        return self._within(table[name], key, least, most)

    def _within(self, value: object, key: str, least: float, most: float) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(value, f"a number from {least:g} to {most:g}", key)
        return float(value)

    def numbers(self, table: Json, key: str, *, most: float) -> tuple[float, ...]:
        """Return a list of numbers from 0 to `most`; empty where it is not there."""
        name = key.rpartition(".")[2]
        value = table.get(name, [])
        if not isinstance(value, list) or len(value) > 100:
            raise self.wrong(value, f"a list of numbers from 0 to {most:g}, such as [0.3, 0.7, 1]", key)
        return tuple(self._within(one, f"{key}[{number}]", 0.0, most) for number, one in enumerate(value, 1))

    def text(self, table: Json, key: str, default: str | None = None) -> str:
        """Return a text that is not empty; `default` where it is not there."""
        name = key.rpartition(".")[2]
        if name not in table and default is not None:
            return default
        value = table.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(value, "a text that is not empty", key)
        return value.strip()

    def flag(self, table: Json, key: str) -> bool:
        """Return true or false; false where it is not there."""
        value = table.get(key.rpartition(".")[2], False)
        if not isinstance(value, bool):
            raise self.wrong(value, "true or false", key)
        return value

    def table(self, table: Json, key: str, keys: Sequence[str]) -> Json:
        """Return a table that has no other keys than these."""
        name = key.rpartition(".")[2]
        if name not in table:
            raise self.missing(key)
        found = table[name]
        if not isinstance(found, dict):
            raise self.wrong(found, f"a table with the keys {', '.join(keys)}", key)
        self.known(found, key, keys)
        return found

    def tables(self, found: object, key: str, *, values: bool = False) -> dict[str, Any]:
        """Return a table of tables, each under its name; with `values` also of plain numbers."""
        good = isinstance(found, dict) and bool(found)
        if not good or not all(isinstance(name, str) for name in found):  # type: ignore[attr-defined]
            raise self.wrong(found, "a table of names, each with a table of its own", key)
        tables: dict[str, Any] = dict(found)  # type: ignore[call-overload]
        for name, one in tables.items():
            if not isinstance(one, dict) and not (values and _plain(one)):
                raise self.wrong(one, "a table", f"{key}.{name}")
        return tables

    def age(self, table: Json, key: str) -> float:
        """Return an age in months: ``90 days``, ``2 years``, or 0."""
        value = table.get(key.rpartition(".")[2], 0)
        if value == 0 and not isinstance(value, bool):
            return 0.0
        match = _AGE.fullmatch(value) if isinstance(value, str) and value.isascii() else None
        months = float(match[1]) * _MONTHS[match[2]] if match else -1.0
        if not 0 <= months <= 200 * MONTHS_PER_YEAR:
            raise self.wrong(value, "an age such as '90 days', '18 months' or '2 years'", key)
        return months


def _plain(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
