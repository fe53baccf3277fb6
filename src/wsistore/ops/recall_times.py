"""Moments and spans of time as people write them. Pure but for the machine's time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta

from wsistore.errors import InputError, Kind

_SPAN = re.compile(r"(\d{1,5})\s*(h|d|w)")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_MOST = timedelta(days=3650)


def moment_of(text: str, now: datetime) -> datetime:
    """Return a moment in UTC: ``2026-12-01 08:00``, ``2026-12-01T08:00+01:00``, or ``08:00``, the next one.

    Without a zone it is the machine's time.

    Raises
    ------
    InputError
        If it is none, or is over.

    """
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}", text.strip()):
            local = now.astimezone()
            at = datetime.combine(local.date(), time.fromisoformat(text.strip().zfill(5))).astimezone()
            found = (at if at > local else _tomorrow(at)).astimezone(UTC)
        else:
            found = datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        msg = f"{text!r} is no moment."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Write '2026-12-01 08:00' or '08:00'.") from error
    if found <= now:
        msg = f"{text} is over: it is {now.astimezone():%Y-%m-%d %H:%M} now."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give a moment to come.")
    return found


def span_of(text: str) -> timedelta:
    """Return a span of time such as ``12h``, ``14d`` or ``2w``.

    Raises
    ------
    InputError
        If it is none, or is nothing or more than ten years.

    """
    match = _SPAN.fullmatch(text.strip())
    found = int(match[1]) * _UNITS[match[2]] if match else timedelta(0)
    if not timedelta(0) < found <= _MOST:
        msg = f"{text!r} is no span of time."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Write hours, days or weeks: '12h', '14d', '2w'.")
    return found


def local(moment: datetime | None, now: datetime) -> str:
    """Return a moment as a person reads it on this machine: the time, and the day unless it is today."""
    if moment is None:
        return ""
    here = moment.astimezone()
    return f"{here:%H:%M}" if here.date() == now.astimezone().date() else f"{here:%Y-%m-%d %H:%M}"


def _tomorrow(at: datetime) -> datetime:
    # By the calendar, not by 24 hours: the clocks may change in the night.
    return (at.replace(tzinfo=None) + timedelta(days=1)).astimezone()
