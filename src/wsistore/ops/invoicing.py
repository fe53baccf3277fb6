"""What providers invoiced: taken in, listed, and compared with what was metered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from wsistore.errors import ConflictError, InputError, Kind, SiteError
from wsistore.ops.report_data import tier_models
from wsistore.ops.site import Site
from wsistore.reports import sets
from wsistore.reports.columns import VARIANCES, schema_of
from wsistore.reports.invoice_files import billing_keys, read_lines
from wsistore.reports.invoice_sets import Assigner, digest_of, files, path_of, read_rows, write_lines
from wsistore.reports.matching import Status, Variance, paid, variances
from wsistore.reports.periods import Month
from wsistore.reports.terms import ReportSettings, TierModel, read_settings

_INVOICES = "invoices"
"""Key of the digests of the invoices that a closed month was compared with."""


@dataclass(frozen=True, slots=True)
class Imported:
    """One file that was taken in, and what its lines are for."""

    source: str
    """SHA-256 of the file."""
    is_new: bool
    """Whether it was not there before."""
    lines: int
    issuers: Sequence[str]
    months: Sequence[str]
    """Billing months."""
    eur: Decimal
    """All of it but tax."""
    tax: Decimal
    unassigned: Decimal
    """EUR of lines whose tier or kind of usage nobody knows."""
    replaced: int
    """Lines of earlier imports that are gone."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        found = {name: getattr(self, name) for name in ("source", "is_new", "lines", "replaced")}
        money = {name: str(getattr(self, name)) for name in ("eur", "tax", "unassigned")}
        return found | {"issuers": list(self.issuers), "months": list(self.months)} | money


@dataclass(frozen=True, slots=True)
class Invoice:
    """Lines of one invoice that were taken in."""

    issuer: str
    account: str
    invoice: str
    month: str
    """Billing month."""
    lines: int
    eur: Decimal
    tax: Decimal
    sources: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        found = {name: getattr(self, name) for name in ("issuer", "account", "invoice", "month", "lines")}
        return found | {"eur": str(self.eur), "tax": str(self.tax), "sources": list(self.sources)}


@dataclass(frozen=True, slots=True)
class Matched:
    """A month's invoices against its usage."""

    month: str
    file: str
    """Where ``variances/`` has it."""
    variances: Sequence[Variance]
    invoiced: Decimal
    """EUR without tax, of all that was compared."""
    modelled: Decimal
    invoices: int

    @property
    def alerts(self) -> list[Variance]:
        """What somebody ought to look at."""
        return [one for one in self.variances if one.is_alert]

    @property
    def part(self) -> Decimal | None:
        """Variance of the whole as a part of what is modelled; None if that is nothing."""
        return (self.invoiced - self.modelled) / self.modelled if self.modelled else None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "month": self.month,
            "file": self.file,
            "invoices": self.invoices,
            "invoiced": str(self.invoiced),
            "modelled": str(self.modelled),
            "part": None if self.part is None else float(self.part),
            "alerts": len(self.alerts),
            "variances": [one.to_json() for one in self.variances],
        }


def import_invoice(
    site: Site, path: Path, out: Path, *, issuer: str = "", currency: str = "", replace: bool = False
) -> Imported:
    """Take in a provider's invoice: an export in FOCUS, or a table that was typed.

    Parameters
    ----------
    site
        An open site.
    path
        CSV or Parquet.
    out
        Folder of the sets.
    issuer, currency
        Where the file does not say them.
    replace
        Whether earlier lines of the same invoices go: an export that was delivered anew. Without, it is refused.

    Raises
    ------
    InputError
        If the file is no invoice; the message names line and column.
    ConflictError
        If lines of the same invoice, or of the same issuer, account and month without a number, are there already; if
        they belong to a closed month.
    SiteError
        If reports.toml is wrong, or has no rate of the currency.
    StorageError
        If it cannot be written.

    """
    settings = read_settings(site.folder)
    body, lines = read_lines(path, zone=settings.timezone, issuer=issuer, currency=currency)
    source = digest_of(body)
    assigner = Assigner(settings.invoices, _tiers(site, settings), settings.timezone, str(path))
    rows = assigner.rows(lines, source)
    there = [file for file in files(out) if file.name.startswith(source[:16])]
    # The same file again is taken in anew: reports.toml may say by now what its lines are for.
    known = read_rows(set(files(out)) - set(there))
    gone = _conflicts(known, billing_keys(lines, settings.timezone), settings.timezone)
    if gone and not replace:
        one = gone[0]
        name = one["InvoiceId"] or f"of {one['BillingPeriodStart']:%Y-%m-%d}"
        msg = f"{path}: the invoice {name} of {one['InvoiceIssuerName']} is there already, from another file."
        raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="With --replace its lines take the place of those.")
    _keep_closed(out, gone, path)
    for file in sorted({file for file in files(out) if file not in there}) if gone else []:
        _rewrite(file, gone)
    by_month: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_month[str(_billing_month(row, settings.timezone))].append(row)
    for month, mine in by_month.items():
        write_lines(path_of(out, Month.parse(month, settings.timezone), source), mine)
    return _imported(rows, source, sorted(by_month), is_new=not there, replaced=len(gone))


def _tiers(site: Site, settings: ReportSettings) -> Mapping[str, TierModel]:
    # Names, providers and buckets do not depend on the month.
    models = tier_models(site, settings, Month.of(site.clock.now(), settings.timezone))
    for rule in settings.invoices.rules:
        if rule.tier and rule.tier not in models:
            msg = f"reports.toml: [[invoice]] speaks of the tier {rule.tier!r}, which the site has not."
            raise SiteError(msg, kind=Kind.SETTINGS_INVALID, remedy=f"The site's tiers are: {', '.join(models)}.")
    return models


def _billing_month(row: Mapping[str, Any], zone: str) -> Month:
    begin, end = row["BillingPeriodStart"], row["BillingPeriodEnd"]
    return Month.of(begin + (end - begin) / 2, zone)


def _conflicts(
    rows: Sequence[dict[str, Any]], keys: Mapping[tuple[str, str, str], set[str]], zone: str
) -> list[dict[str, Any]]:
    """Return lines of the same invoices; one without a number is any of its issuer's, account's and month's."""
    found = []
    for row in rows:
        ids = keys.get((row["InvoiceIssuerName"], row["BillingAccountId"], str(_billing_month(row, zone))))
        mine = row["InvoiceId"] or ""
        if ids is not None and (mine in ids or not mine or "" in ids):
            found.append(row)
    return found


def _keep_closed(out: Path, gone: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Refuse to replace lines that a closed month was compared with."""
    for month in sorted({row["x_ChargeMonth"] for row in gone}):
        about = sets.read_about(out / sets.COMPARED / f"month={month}") or {}
        sources = {Path(name).stem for name in about.get(_INVOICES, {})}
        if about.get("closed_at") and any(
            row["x_Source"][:16] in sources for row in gone if row["x_ChargeMonth"] == month
        ):
            msg = f"{path}: would replace an invoice that the closed month {month} was compared with."
            remedy = "Import the provider's correction (ChargeClass Correction, with a number of its own) instead."
            raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy=remedy)


def _rewrite(file: Path, gone: Sequence[Mapping[str, Any]]) -> None:
    names = {(row["x_Source"], row["x_Line"], row["ChargeCategory"]) for row in gone}
    rows = read_rows([file])
    kept = [row for row in rows if (row["x_Source"], row["x_Line"], row["ChargeCategory"]) not in names]
    if len(kept) < len(rows):
        write_lines(file, kept)


def _imported(
    rows: Sequence[Mapping[str, Any]], source: str, months: Sequence[str], *, is_new: bool, replaced: int
) -> Imported:
    own = [row for row in rows if not row["x_IsElsewhere"]]
    charged = [row for row in own if row["ChargeCategory"] != "Tax"]
    return Imported(
        source=source,
        is_new=is_new,
        lines=len(rows),
        issuers=sorted({row["InvoiceIssuerName"] for row in rows}),
        months=months,
        eur=_sum(charged),
        tax=_sum([row for row in own if row["ChargeCategory"] == "Tax"]),
        unassigned=_sum([row for row in charged if row["x_Tier"] is None or row["x_Meter"] is None]),
        replaced=replaced,
    )


def _sum(rows: Sequence[Mapping[str, Any]]) -> Decimal:
    return sum((row["x_BilledCostEur"] for row in rows), Decimal(0))


def list_invoices(site: Site, out: Path) -> list[Invoice]:
    """Return the invoices that were taken in, by billing month and issuer.

    Raises
    ------
    InputError
        If what was taken in cannot be read.

    """
    zone = read_settings(site.folder).timezone
    found: dict[tuple[str, str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in read_rows(files(out)):
        key = str(_billing_month(row, zone)), row["InvoiceIssuerName"], row["BillingAccountId"], row["InvoiceId"] or ""
        found[key].append(row)
    return [
        Invoice(
            issuer=issuer,
            account=account,
            invoice=number,
            month=month,
            lines=len(rows),
            eur=_sum([row for row in rows if row["ChargeCategory"] != "Tax"]),
            tax=_sum([row for row in rows if row["ChargeCategory"] == "Tax"]),
            sources=sorted({row["x_Source"] for row in rows}),
        )
        for (month, issuer, account, number), rows in sorted(found.items())
    ]


def match_invoices(site: Site, month: str, out: Path) -> Matched:
    """Compare what was invoiced for a month with its report, and write ``variances/``.

    Parameters
    ----------
    site
        An open site.
    month
        Such as ``2026-10``; its report must be in `out`.
    out
        Folder of the sets.

    Raises
    ------
    InputError
        If there is no report of the month, or what was written cannot be read.
    SiteError
        If reports.toml is wrong.
    StorageError
        If it cannot be written.

    """
    settings = read_settings(site.folder)
    period = Month.parse(month, settings.timezone)
    about = sets.read_about(sets.partition(out, sets.USAGE, period))
    if about is None:
        msg = f"There is no report of {period} in {out}."
        raise InputError(msg, kind=Kind.PATH_MISSING, remedy=f"wsistore report --month {period} -o {out}")
    tiers = tier_models(site, settings, period)
    paths = files(out)
    rows = read_rows(paths, str(period))
    found = variances(sets.written_rows(out, period), rows, tiers)
    folder = sets.partition(out, sets.COMPARED, period)
    used = {row["x_Source"][:16] for row in rows}
    digests = {file.relative_to(out).as_posix(): sets.digest(file) for file in paths if file.stem in used}
    schema = schema_of(VARIANCES)
    with sets.PartWriter(folder / sets.PART, schema, {"set": sets.COMPARED, "month": str(period)}) as writer:
        writer.write(pa.Table.from_pylist([one.row(period) for one in found], schema))
    sets.write_about(folder, {"month": str(period), "closed_at": about.get("closed_at"), _INVOICES: digests})
    invoiced, modelled = paid(found)
    numbers = {(row["InvoiceIssuerName"], row["BillingAccountId"], row["InvoiceId"]) for row in rows}
    return Matched(str(period), str(folder / sets.PART), found, invoiced, modelled, len(numbers))


def missing_invoices(matched: Matched) -> list[str]:
    """Return issuers of whom nothing was taken in although their tiers were used."""
    billed = {one.issuer for one in matched.variances if one.lines}
    unpaid = {one.issuer for one in matched.variances if one.status is Status.NOT_INVOICED and one.modelled}
    return sorted(unpaid - billed)
