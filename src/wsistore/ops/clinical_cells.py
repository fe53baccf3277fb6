"""What the cells of a hospital's tables say: texts that become values, or are refused with the reason. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

from wsistore.clock import iso
from wsistore.ops.clinical_columns import IDENTITY_STATUSES, Cell, FeedColumn

LONGEST_NUMBER = 128
LONGEST_TEXT = 10_000
_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[T ]00:00(?::00(?:\.0+)?)?)?|(\d{4})(\d{2})(\d{2})")
_EARLIEST, _LATEST = date(1850, 1, 1), date(2199, 12, 31)
_NEVER = frozenset({"9999-12-31", "2999-12-31", "99991231", "29991231"})
_CODE = re.compile(r"[A-Z][A-Z0-9-]{1,15}:[A-Za-z0-9][A-Za-z0-9.+*/_-]{0,63}")
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u0080-\u009f\ud800-\udfff]")
_BREAKS = re.compile(r"[\t\r\n\u2028\u2029]")
_NIR = re.compile(r"[1-478]\d{4}(?:\d{2}|2[AB])\d{6}(\d{2})")
INS_OIDS = {
    "1.2.250.1.213.1.4.8": "NIR",
    "1.2.250.1.213.1.4.9": "NIA",
    "1.2.250.1.213.1.4.10": "NIR, for tests",
    "1.2.250.1.213.1.4.11": "NIR, for demonstrations",
}
"""OIDs of the INS, with what they are of."""


class WrongCell(Exception):  # noqa: N818 - becomes a message with its place
    """Why a cell says nothing that can be understood."""


def value_of(column: FeedColumn, text: str) -> Any:
    """Return what a cell that is not empty says; None where that is nothing.

    Raises
    ------
    WrongCell
        With the reason.

    """
    if _UNSEEN.search(text) or (column.cell is not Cell.TEXT and _BREAKS.search(text)):
        msg = "holds a control character, or one that UTF-8 cannot carry"
        raise WrongCell(msg)
    longest = LONGEST_NUMBER if column.cell is Cell.NUMBER else LONGEST_TEXT
    if len(text) > longest:
        msg = f"is {len(text)} characters long, at most {longest} are taken"
        raise WrongCell(msg)
    match column.cell:
        case Cell.DAY:
            return day_of(text)
        case Cell.LAST_DAY:
            return None if text in _NEVER else day_of(text)
        case Cell.MOMENT:
            return moment_of(text)
        case Cell.CODE:
            return _code(text)
        case Cell.CODES:
            return [_code(part) for part in dict.fromkeys(re.split(r"[\s|,;]+", text)) if part]
        case Cell.CHOICE:
            return _choice(column, text)
        case Cell.MATRICULE:
            return _matricule(text)
        case Cell.OID:
            return _oid(text)
        case _:
            return text


def day_of(text: str) -> str:
    """Return a day, ISO 8601: ``1960-12-31``, or ``19601231`` as HL7 writes it."""
    match = _DAY.fullmatch(text)
    try:
        parts = [int(part) for part in match.groups() if part] if match else []
        found = date(*parts) if parts else None
    except ValueError:
        found = None
    if found is None:
        msg = f"{_shown(text)} is no day: write 1960-12-31, or nothing if it is not known"
        raise WrongCell(msg)
    if not _EARLIEST <= found <= _LATEST:
        msg = f"{_shown(text)} is out of range"
        raise WrongCell(msg)
    return found.isoformat()


def moment_of(text: str) -> str:
    """Return a moment, ISO 8601 in UTC; without a zone it is the machine's time, a day alone begins at midnight."""
    try:
        found = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        msg = f"{_shown(text)} is no moment: write 2026-01-31T14:30, with +01:00 where the zone matters"
        raise WrongCell(msg) from error
    if not _EARLIEST <= found.date() <= _LATEST:
        msg = f"{_shown(text)} is out of range"
        raise WrongCell(msg)
    return iso(found)


def _code(text: str) -> str:
    if not _CODE.fullmatch(text):
        msg = f"{_shown(text)} is no code: write its system, a colon, and the code, as in ADICAP:DE"
        raise WrongCell(msg)
    return text


def _choice(column: FeedColumn, text: str) -> str:
    if column.name == "identity_status" and text.casefold() in IDENTITY_STATUSES:
        return IDENTITY_STATUSES[text.casefold()]
    by_folded = {choice.casefold(): choice for choice in column.choices}
    if text.casefold() not in by_folded:
        msg = f"{_shown(text)} is none of {', '.join(column.choices)}"
        raise WrongCell(msg)
    return by_folded[text.casefold()]


def _matricule(text: str) -> str:
    found = text.replace(" ", "").upper()
    match = _NIR.fullmatch(found)
    # Corsica's departments count as 19 and 18.
    number = found[:13].replace("2A", "19").replace("2B", "18")
    if match is None or 97 - int(number) % 97 != int(match[1]):
        msg = "is no matricule of 13 characters and the right key of 2 digits"
        raise WrongCell(msg)
    return found


def _oid(text: str) -> str:
    if text not in INS_OIDS:
        msg = f"{_shown(text)} is no OID of the INS: they are {', '.join(INS_OIDS)}"
        raise WrongCell(msg)
    return text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
