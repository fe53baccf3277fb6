"""Typed values out of a parsed TOML document, or a message that names file, key, value and what is expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from wsistore.errors import SiteError
from wsistore.settings.values import did_you_mean
from wsistore.units import parse_bytes, parse_percent

_CREDENTIALS_IN_URL = re.compile(r"//[^/@]*@")


@dataclass(frozen=True, slots=True)
class TableReader:
    """Reads keys of tables; each method's `prefix` is the dotted name of the table, for messages."""

    path: Path
    """The file that the document is from."""

    def known(self, table: Mapping[str, Any], prefix: str, keys: Sequence[str]) -> None:
        """Refuse a table with other keys than `keys`."""
        for key in table:
            if key not in keys:
                msg = f"{self.path}: unknown key {dotted(prefix, key)!r}{did_you_mean(key, keys)}."
                raise SiteError(msg, remedy=f"Here the keys may be: {', '.join(keys)}.")

    def table(self, parent: Mapping[str, Any], prefix: str, key: str, keys: Sequence[str]) -> Mapping[str, Any]:
        """Return a table, empty where there is none; its keys may be `keys`."""
        table = parent.get(key, {})
        if not isinstance(table, dict):
            raise self.wrong(table, f"a table, written as [{dotted(prefix, key)}]", prefix, key)
        self.known(table, dotted(prefix, key), keys)
        return table

    def text(self, table: Mapping[str, Any], prefix: str, key: str, default: str | None) -> str:
        """Return a text that is not blank; without a default it must be there."""
        if key not in table and default is not None:
            return default
        value = table.get(key)
        if value is None:
            msg = f"{self.path}: key {dotted(prefix, key)!r} is missing."
            raise SiteError(msg, remedy=f'Add a line: {key} = "…" under [{prefix}].')
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(value, "a text in double quotes that is not empty", prefix, key)
        return value

    def integer(self, table: Mapping[str, Any], prefix: str, key: str, default: int, least: int, most: int) -> int:
        """Return a whole number from `least` to `most`."""
        value = table.get(key, default)
        # TOML's true is Python's 1.
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(value, f"a whole number from {least} to {most}", prefix, key)
        return value

    def flag(self, table: Mapping[str, Any], prefix: str, key: str, default: bool) -> bool:
        """Return true or false."""
        value = table.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(value, "true or false, without quotes", prefix, key)
        return value

    def one_of(self, table: Mapping[str, Any], prefix: str, key: str, default: str | None, names: Iterable[str]) -> str:
        """Return one of `names`."""
        value, names = self.text(table, prefix, key, default), list(names)
        if value not in names:
            raise self.wrong(value, f"one of: {', '.join(names)}{did_you_mean(value, names)}", prefix, key)
        return value

    def matching(self, table: Mapping[str, Any], prefix: str, key: str, pattern: str, expected: str) -> str:
        """Return a text that matches `pattern` whole, or nothing where the key is absent."""
        value = self.text(table, prefix, key, "")
        if value and not re.fullmatch(pattern, value):
            raise self.wrong(value, expected, prefix, key)
        return value

    def size(self, table: Mapping[str, Any], prefix: str, key: str) -> int | None:
        """Return bytes, written as a number or as ``40 TB``; None where the key is absent."""
        return self._amount(table, prefix, key, parse_bytes, "a size such as '40 TB' or '64 MiB', of a byte or more")

    def rate(self, table: Mapping[str, Any], prefix: str, key: str) -> int | None:
        """Return bytes per second, written as ``200 MB/s``; None where the key is absent."""

        def parse(text: str) -> int:
            return parse_bytes(text, per_second=True)

        return self._amount(table, prefix, key, parse, "a rate such as '200 MB/s' or '1 Gbit/s', of a byte or more")

    def _amount(
        self, table: Mapping[str, Any], prefix: str, key: str, parse: Callable[[str], int], expected: str
    ) -> int | None:
        if key not in table:
            return None
        value = table[key]
        try:
            amount = parse(value) if isinstance(value, str) else 0
        except ValueError:
            amount = 0
        if amount < 1:
            raise self.wrong(value, expected, prefix, key)
        return amount

    def percent(self, table: Mapping[str, Any], prefix: str, key: str, default: float) -> float:
        """Return a part of one, written as ``85 %``."""
        if key not in table:
            return default
        value = table[key]
        try:
            return parse_percent(value if isinstance(value, str) else "")
        except ValueError:
            raise self.wrong(value, "a percentage such as '85 %'", prefix, key) from None

    def day(self, table: Mapping[str, Any], prefix: str, key: str) -> date:
        """Return a day, written as TOML's date or as a text of the same form; it must be there."""
        value = table.get(key)
        if value is None:
            self.text(table, prefix, key, None)
        if isinstance(value, str):
            try:
                # Only the long form: date.fromisoformat would take weeks, too.
                return date.fromisoformat(value if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else "")
            except ValueError:
                pass
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self.wrong(value, "a day such as 2027-05-31", prefix, key)
        return value

    def wrong(self, value: object, expected: str, prefix: str, key: str) -> SiteError:
        """Return the error that says what is wrong with a value."""
        # A password that somebody wrote into a URL must not end up in a log.
        shown = _CREDENTIALS_IN_URL.sub("//…@", repr(value))
        shown = shown if len(shown) <= 80 else shown[:77] + "…"
        return SiteError(
            f"{self.path}: key {dotted(prefix, key)!r} is {shown}; expected {expected}.",
            remedy="Mend the settings file.",
        )


def dotted(prefix: str, key: str) -> str:
    """Return the dotted name of a key."""
    return f"{prefix}.{key}" if prefix else key
