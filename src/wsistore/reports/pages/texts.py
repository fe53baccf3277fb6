"""What is said, and how numbers are written, in one language: words are data (``words/``), never in the code."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from importlib import resources
from typing import Any

from wsistore.errors import InputError, Kind
from wsistore.reports.periods import Month
from wsistore.reports.samples import Band

LANGUAGES = ("en", "fr")
MINUS = "−"
_CENT = Decimal("0.01")
_SMALL, _NOTHING = 0.01, 1e-9
_NO_BREAK, _NARROW = "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True)
class Texts:
    """One language.

    Parameters
    ----------
    language
        Its code.
    words
        Tables of texts.

    """

    language: str
    words: Mapping[str, Mapping[str, Any]]

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of a dotted key, with values filled in."""
        table, _, name = key.partition(".")
        text = str(self.words[table][name])
        return text.format(**values) if values else text

    def has(self, key: str) -> bool:
        """Return whether there is such a text."""
        table, _, name = key.partition(".")
        return name in self.words.get(table, {})

    # --- numbers

    def number(self, value: float | Decimal, places: int = 0, *, sign: bool = False) -> str:
        """Return a number with as many places; never a negative zero."""
        rounded = Decimal(repr(value) if isinstance(value, float) else value).quantize(
            Decimal(1).scaleb(-places), ROUND_HALF_EVEN
        )
        text = f"{abs(rounded):,f}".replace(",", "\0").replace(".", self._format("decimal"))
        text = text.replace("\0", self._format("thousands"))
        before = MINUS if rounded < 0 else ("+" if sign and rounded > 0 else "")
        return before + text

    def money(self, euros: float | Decimal, places: int = 2, *, sign: bool = False) -> str:
        """Return an amount in euros."""
        text = self.number(euros, places, sign=sign)
        mark = text[0] if text[0] in f"{MINUS}+" else ""
        return mark + self._format("money").replace("{amount}", text[len(mark) :])

    def cents(self, cents: int) -> str:
        """Return an amount that is told in cents."""
        return self.money(Decimal(cents) * _CENT)

    def rough(self, euros: float, *, sign: bool = False) -> str:
        """Return an amount of a chart or of a band: cents only where they matter, two digits of what is less."""
        if _NOTHING < abs(euros) < _SMALL:
            return self.money(euros, 1 - math.floor(math.log10(abs(euros))), sign=sign)
        return self.money(euros, 2 if _NOTHING < abs(euros) < 100 else 0, sign=sign)

    def percent(self, part: float, places: int = 1, *, sign: bool = False) -> str:
        """Return a part of one in percent."""
        return self._format("percent").replace("{amount}", self.number(part * 100, places, sign=sign))

    def bytes(self, size: float, *, sign: bool = False) -> str:
        """Return bytes in a decimal unit, as storage is sold."""
        value, units = abs(size), list(self.words["format"]["bytes"])
        while value >= 999.95 and len(units) > 1:
            value, units = value / 1000, units[1:]
        amount = value if size >= 0 else -value
        is_whole = units[0] == self.words["format"]["bytes"][0]
        return f"{self.number(amount, 0 if is_whole else 1, sign=sign)}{_NO_BREAK}{units[0]}"

    def carbon(self, grams: float, *, sign: bool = False) -> str:
        """Return a mass of CO2e."""
        return self._scaled(grams, list(self.words["format"]["carbon"]), sign=sign)

    def energy(self, kwh: float, *, sign: bool = False) -> str:
        """Return electricity."""
        return self._scaled(kwh * 1000, ["Wh", "kWh", "MWh"], sign=sign)

    def _scaled(self, value: float, units: list[str], *, sign: bool) -> str:
        amount = value
        while abs(amount) >= 1000 and len(units) > 1:
            amount, units = amount / 1000, units[1:]
        places = 0 if abs(amount) >= 100 or not amount else (1 if abs(amount) >= 10 else 2)
        if _NOTHING < abs(amount) < _SMALL:
            places = 1 - math.floor(math.log10(abs(amount)))
        return f"{self.number(amount, places, sign=sign)}{_NO_BREAK}{units[0]}"

    # --- what is made of them

    def band(self, band: Band, how: Any) -> str:
        """Return a band in words; `how` writes one of its ends."""
        return self("page.band", low=how(band.low), high=how(band.high))

    def span(self, low: float, high: float, how: Any) -> str:
        """Return the ends of a band, shorter than `band` where no minus can be taken for the dash."""
        return f"{how(low)} – {how(high)}" if low >= 0 else self("page.band", low=how(low), high=how(high))

    def month(self, month: Month) -> str:
        """Return a month: ``October 2026``."""
        return f"{self.words['format']['months'][month.number - 1]} {month.year}"

    def short_month(self, month: Month, *, year: bool) -> str:
        """Return a month for an axis."""
        name = self.words["format"]["short_months"][month.number - 1]
        return f"{name} {month.year % 100:02}" if year else str(name)

    def _format(self, name: str) -> str:
        return str(self.words["format"][name])


@cache
def texts_of(language: str) -> Texts:
    """Return the texts of a language.

    Raises
    ------
    InputError
        If there are none.

    """
    if language not in LANGUAGES:
        msg = f"Reports are not written in {language!r}."
        raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy=f"Languages are: {', '.join(LANGUAGES)}.")
    file = resources.files("wsistore.reports.pages") / "words" / f"{language}.toml"
    return Texts(language, tomllib.loads(file.read_text("utf-8")))
