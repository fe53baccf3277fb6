"""What a month's page needs beside the rows: what the report says of itself, and invoices that were compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsistore.clock import iso
from wsistore.errors import InputError, Kind
from wsistore.reports import sets
from wsistore.reports.pages.content import About, Compared
from wsistore.reports.periods import Month

_FOREIGN = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
_COMPARED = ["InvoiceIssuerName", "ResourceName", "SkuMeter", "x_InvoicedEur", "x_ModelledEur", "x_IsAlert"]


def read_about(out: Path, month: Month) -> About:
    """Return what the report of a month says of itself.

    Raises
    ------
    InputError
        If the month was not reported, or what is there cannot be read.

    """
    folder = sets.partition(out, sets.USAGE, month)
    about = sets.read_about(folder)
    if about is None:
        msg = f"{out} has no report of {month}."
        raise InputError(msg, kind=Kind.PATH_MISSING, remedy=f"Write it: wsistore report --month {month} -o {out}")
    try:
        return _about(about, month, read_compared(out, month))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{folder / sets.ABOUT}: is not what a report wrote ({error!r})."
        raise InputError(msg, remedy="Report the month again, or put the file back from a backup.") from error


def _about(about: dict[str, Any], month: Month, compared: list[Compared]) -> About:
    created = str(about["CreationDate"])
    return About(
        site=str(about["site"]),
        closed_at=about.get("closed_at"),
        created=created,
        is_over=created >= iso(month.ends),
        method=str(about["method"]),
        focus=str(about["FocusVersion"]),
        unexplained={str(tier): float(part) for tier, part in about.get("unexplained", {}).items()},
        compared=compared,
    )


def read_compared(out: Path, month: Month) -> list[Compared]:
    """Return what was invoiced for a month, beside what is modelled; nothing if no invoice was compared.

    Raises
    ------
    InputError
        If a file cannot be read.

    """
    found = []
    for path in sorted(sets.partition(out, sets.COMPARED, month).glob("*.parquet")):
        try:
            rows = pq.ParquetFile(path).read(columns=_COMPARED).to_pylist()
        except _FOREIGN as error:
            msg = f"{path}: cannot be read ({error})."
            raise InputError(msg, remedy="Compare the month's invoices again: wsistore invoice match.") from error
        found += [_compared(row) for row in rows]
    return found


def _compared(row: dict[str, Any]) -> Compared:
    issuer, tier, meter, invoiced, modelled, is_alert = (row[name] for name in _COMPARED)
    return Compared(issuer or "", tier or "", meter or "", invoiced, modelled, bool(is_alert))
