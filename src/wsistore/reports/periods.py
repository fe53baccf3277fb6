"""Months as a site counts them: in its time zone, with the hours that they really have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from wsistore.errors import InputError, Kind, SiteError

_US = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTH = re.compile(r"(\d{4})-(\d{2})")
_YEARS = range(1990, 2200)

US_PER_HOUR = 3_600_000_000
US_PER_YEAR = 8766 * US_PER_HOUR
"""Of 365.25 days: what rates per year are meant for."""


def micros(moment: datetime) -> int:
    """Return the microseconds from 1970 to `moment`."""
    return (moment - _EPOCH) // _US


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name, such as ``Europe/Paris``; `SiteError` if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        msg = f"There is no time zone {name!r}."
        raise SiteError(msg, remedy="Name one such as 'Europe/Paris', 'Indian/Reunion' or 'UTC'.") from error


@dataclass(frozen=True)
class Month:
    """One month; it begins and ends at midnight of the site's time zone."""

    year: int
    number: int
    """From 1."""
    zone: str = "UTC"

    @classmethod
    def parse(cls, text: str, zone: str = "UTC") -> Self:
        """Return the month that ``2026-10`` is; `InputError` if it is none."""
        match = _MONTH.fullmatch(text) if text.isascii() else None
        if match is None or int(match[1]) not in _YEARS or not 1 <= int(match[2]) <= 12:
            msg = f"{text!r} is no month."
            raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy="Write it as 2026-10.")
        zone_of(zone)
        return cls(int(match[1]), int(match[2]), zone)

    @classmethod
    def of(cls, moment: datetime, zone: str = "UTC") -> Self:
        """Return the month that `moment` lies in."""
        local = moment.astimezone(zone_of(zone))
        return cls(local.year, local.month, zone)

    def __str__(self) -> str:
        """Return it as ``2026-10``."""
        return f"{self.year:04}-{self.number:02}"

    @property
    def next(self) -> Month:
        """The month after it."""
        return Month(self.year + self.number // 12, self.number % 12 + 1, self.zone)

    @property
    def before(self) -> Month:
        """The month before it."""
        return Month(self.year - (self.number == 1), (self.number - 2) % 12 + 1, self.zone)

    @cached_property
    def begins(self) -> datetime:
        """Its first moment, in UTC."""
        return datetime(self.year, self.number, 1, tzinfo=zone_of(self.zone)).astimezone(UTC)

    @cached_property
    def ends(self) -> datetime:
        """The first moment after it, in UTC."""
        return self.next.begins

    @property
    def begins_us(self) -> int:
        """`begins` in microseconds from 1970."""
        return micros(self.begins)

    @property
    def ends_us(self) -> int:
        """`ends` in microseconds from 1970."""
        return micros(self.ends)

    @property
    def length_us(self) -> int:
        """Microseconds from begin to end: an hour less in March and more in October where clocks are changed."""
        return self.ends_us - self.begins_us


def months_of_year(year: int, zone: str = "UTC") -> tuple[Month, ...]:
    """Return the twelve months of a year."""
    return tuple(Month(year, number, zone) for number in range(1, 13))
