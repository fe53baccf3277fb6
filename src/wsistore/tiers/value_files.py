"""Values with low, central and high out of TOML, each with unit, source and mark; or a message that names the key."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from wsistore.errors import SiteError
from wsistore.settings.values import did_you_mean
from wsistore.tiers.unit_texts import factor

Json = Mapping[str, Any]

_VALUE = ("low", "central", "high", "unit", "source", "mark")
_MOST = 1e12


class Mark(StrEnum):
    """How sure a value is."""

    SEEN = "seen"
    SEEN_SECOND = "seen-2nd"
    """In a secondary or a vendor's source."""
    DERIVED = "derived"
    UNVERIFIED = "unverified"
    """Recalled, not checked."""
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Value:
    """An estimate with its range and where it is from."""

    low: float
    central: float
    high: float
    source: str = "none stated"
    mark: Mark = Mark.ASSUMED


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value of a certain key has to be."""

    unit: str = ""
    """In which it is kept; ``money`` stands for the file's currency. Nothing: it has none."""
    least: float = 0.0
    most: float = _MOST
    """Beyond these it is absurd: a slip of the comma, or of the unit."""


NOTHING = Value(0.0, 0.0, 0.0)
ONE = Value(1.0, 1.0, 1.0)


def product(value: Value, rate: Value) -> Value:
    """Return low times low, central times central, high times high, with the source of `value`."""
    return Value(value.low * rate.low, value.central * rate.central, value.high * rate.high, value.source, value.mark)


def quotient(value: Value, divisor: Value) -> Value:
    """Return `value` divided so that low is least: by the high of `divisor`; with the source of `value`."""
    low, central, high = value.low / divisor.high, value.central / divisor.central, value.high / divisor.low
    return Value(low, central, high, value.source, value.mark)


class ValueReader:
    """Reads values of one file.

    Parameters
    ----------
    where
        The file, for messages.
    kinds
        By the last part of a key; what is not in it has no unit, and is not negative.
    remedy
        What to do about a wrong value.

    """

    def __init__(self, where: str, kinds: Mapping[str, Kind], remedy: str) -> None:
        self.where, self.kinds, self.remedy = where, kinds, remedy

    def value(self, tables: Json, key: str, *, currency: str = "EUR") -> Value:
        """Return the value under `key`, in the unit of its kind.

        Parameters
        ----------
        tables
            What holds it, by `key`.
        key
            Its dotted name.
        currency
            Of the file.

        Raises
        ------
        SiteError
            If it is none, in another unit, out of order or absurd.

        """
        table = tables[key]
        if not isinstance(table, dict):
            raise self.wrong(table, f"a table, written as [{key}] with the key 'central'", key)
        self.known(table, key, _VALUE)
        if "central" not in table:
            msg = f"{self.where}: key '{key}.central' is missing."
            raise SiteError(msg, remedy=self.remedy)
        scale = self._factor(table, key, currency)
        low, central, high = (
            self._number(table.get(part, table["central"]), scale, key, part) for part in ("low", "central", "high")
        )
        if not low <= central <= high:
            raise self.wrong([low, central, high], "low, central and high in this order", key)
        return Value(low, central, high, *self._told(table, key))

    def _told(self, table: Json, key: str) -> tuple[str, Mark]:
        source, mark = table.get("source", "none stated"), table.get("mark", Mark.ASSUMED)
        if not isinstance(source, str):
            raise self.wrong(source, "a text that says where the value is from", f"{key}.source")
        marks = [str(known) for known in Mark]
        if mark not in marks:
            raise self.wrong(mark, f"one of: {', '.join(marks)}{did_you_mean(str(mark), marks)}", f"{key}.mark")
        return source, Mark(mark)

    def _kind(self, key: str) -> Kind:
        return self.kinds.get(key.rpartition(".")[2], Kind())

    def _factor(self, table: Json, key: str, currency: str) -> float:
        if "unit" not in table:
            return 1.0
        wanted, given = self._kind(key).unit.replace("money", currency), table["unit"]
        if not wanted:
            raise self.wrong(given, "no unit: this value has none", f"{key}.unit")
        try:
            return factor(given if isinstance(given, str) else repr(given), wanted)
        except ValueError:
            raise self.wrong(given, f"{wanted!r}, or a unit of the same kind", f"{key}.unit") from None

    def _number(self, value: object, scale: float, key: str, part: str) -> float:
        # TOML's true is Python's 1; it knows nan and inf, too.
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _MOST:
            raise self.wrong(value, "a number that is not negative", f"{key}.{part}")
        kind, found = self._kind(key), float(value) * scale
        if not kind.least <= found <= kind.most:
            span = f"a number from {kind.least:g} to {kind.most:g} {kind.unit.replace('money', 'of money')}".rstrip()
            raise self.wrong(value, span, f"{key}.{part}")
        return found

    def known(self, table: Json, prefix: str, keys: Iterable[str]) -> None:
        """Refuse keys that nobody knows."""
        keys = tuple(keys)
        for key in table:
            if key not in keys:
                dotted = f"{prefix}.{key}" if prefix else key
                msg = f"{self.where}: unknown key {dotted!r}{did_you_mean(key, keys)}."
                raise SiteError(msg, remedy=f"Here the keys may be: {', '.join(keys)}.")

    def wrong(self, value: object, expected: str, key: str) -> SiteError:
        """Return the error of a wrong value."""
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "…"
        return SiteError(f"{self.where}: key {key!r} is {shown}; expected {expected}.", remedy=self.remedy)


def own_text(path: Path, key: str) -> str:
    """Return the text of a site's own file, which the setting `key` names."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error})."
        raise SiteError(msg, remedy=f"Check the key {key!r} of the tier in wsistore.toml.") from error
    except ValueError as error:
        msg = f"{path}: is not UTF-8 ({error})."
        raise SiteError(msg, remedy="Save the file as UTF-8.") from error


def parsed(where: str, text: str) -> Json:
    """Return what a TOML text says; `SiteError` if it is none."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"{where}: is no valid TOML: {error}."
        raise SiteError(msg, remedy="Mend the line; text values need double quotes.") from error
