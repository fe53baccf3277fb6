"""The command scrub: copies read again before they rot unnoticed."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore import ops
from wsistore.cli.context import JsonOption, exit_code, opened, reported
from wsistore.cli.output import print_json, print_table, say, short, tell, warn
from wsistore.cli.progress import Bar
from wsistore.errors import IntegrityError
from wsistore.ops.scrub_results import Finding, ScrubRow, ScrubStatus, TierReport, What
from wsistore.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from wsistore.ops.results import Failure

_SHOWN = 50
"""Findings of a kind that are shown to people; programs get all."""
_BAD = frozenset({ScrubStatus.DAMAGED, ScrubStatus.LOST})


def scrub(
    context: typer.Context,
    tiers: Annotated[
        list[str] | None, typer.Option("--tier", metavar="TIER", help="Only this tier; may be given several times.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also rebuild the source, and compare pixels between the slide's copies.")
    ] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Read at most so much, such as 200GB, the longest unread first.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Read every copy, whenever it was read last.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be read.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read copies again before they rot unnoticed, compare tiers with the catalogue, and repair from good copies.

    Run it every night: each run reads as much as it takes to read every copy once in the tier's scrub_days.

    \b
      wsistore scrub
      wsistore scrub --tier hot --tier warm --budget 200GB
      wsistore scrub --tier cold --all --deep

    Exit code 0: all well, or repaired. 7: a copy is damaged and not repaired, or a slide is lost.
    """  # noqa: D301
    budget_bytes = _bytes(budget)
    tally = _Tally()
    with reported(as_json=as_json):
        with opened(context, writing=True) as site, Bar("scrub", shown=not as_json) as bar:
            found = ops.scrub(
                site,
                tiers or (),
                deep=deep,
                budget_bytes=budget_bytes,
                everything=everything,
                dry_run=dry_run,
                progress=bar.move,
                tell=(lambda _: None) if as_json else tell,
            )
            with closing(found):  # type: ignore[type-var]
                for result in found:
                    tally.add(result)
                    if as_json:
                        print_json(result.to_json())
        if as_json:
            print_json(tally.to_json())
        else:
            _print(tally, dry_run=dry_run)
        raise typer.Exit(tally.exit_code)


def _bytes(text: str | None) -> int | None:
    try:
        return None if text is None else parse_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from error


@dataclass(slots=True)
class _Tally:
    """What a run found. Rows of good copies are kept for the table; of findings only as many as are shown."""

    rows: list[ScrubRow] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    tiers: list[TierReport] = field(default_factory=list)

    def add(self, result: ScrubRow | Finding | TierReport) -> None:
        """Count a result."""
        if isinstance(result, ScrubRow):
            self.rows.append(result)
        elif isinstance(result, TierReport):
            self.tiers.append(result)
        else:
            self.found[result.what] += 1
            if self.found[result.what] <= _SHOWN:
                self.findings.append(result)

    def count(self, *statuses: ScrubStatus) -> int:
        """Return how many copies ended so."""
        return sum(row.status in statuses for row in self.rows)

    @property
    def bytes_read(self) -> int:
        """Of all copies."""
        return sum(row.bytes_read for row in self.rows)

    @property
    def damaged(self) -> int:
        """Copies that were not what they should be, repaired or not."""
        return self.count(ScrubStatus.REPAIRED, *_BAD)

    @property
    def round_by(self) -> str | None:
        """When every copy will have been read again."""
        return max((tier.round_by for tier in self.tiers if tier.round_by), default=None)

    @property
    def exit_code(self) -> int:
        """7 if something is damaged still; else those of the tiers and copies that could not be read."""
        if self.count(*_BAD):
            return IntegrityError.exit_code
        failures: list[Failure | None] = [tier.error for tier in self.tiers]
        failures += [row.error for row in self.rows if row.status is ScrubStatus.UNREAD]
        return exit_code({failure.exit_code for failure in failures if failure is not None})

    def to_json(self) -> dict[str, Any]:
        """Return the documented JSON object."""
        return {
            "kind": "summary",
            "copies": len(self.rows),
            "bytes_read": self.bytes_read,
            "good": self.count(ScrubStatus.GOOD),
            "repaired": self.count(ScrubStatus.REPAIRED),
            "damaged": self.count(ScrubStatus.DAMAGED),
            "lost": self.count(ScrubStatus.LOST),
            "unread": self.count(ScrubStatus.UNREAD),
            "planned": self.count(ScrubStatus.PLANNED),
            "findings": dict(sorted(self.found.items())),
            "round_by": self.round_by,
            "seconds": max((round(tier.seconds, 3) for tier in self.tiers), default=0.0),
        }


def _print(tally: _Tally, *, dry_run: bool) -> None:
    if tally.rows:
        columns = ("slide", "name", "tier", "status", "last read", "size", "seconds", "MB/s")
        print_table(columns, (_cells(row) for row in tally.rows), right=columns[5:])
    if tally.findings:
        titles = ("found", "tier", "key", "objects", "size", "removed")
        print_table(titles, (_finding(one) for one in tally.findings), right=titles[3:])
    _explain(tally)
    for tier in tally.tiers:
        if tier.archived:
            tell(f"{tier.tier} is an archive: it was compared with the catalogue, and not read.")
        if tier.overdue and not dry_run:
            warn(f"{tier.tier}: {tier.overdue} of {tier.copies} copies were not read for {tier.scrub_days} days.")
    say(_sentence(tally, dry_run=dry_run))


def _explain(tally: _Tally) -> None:
    """Say what is wrong, the worst last: there it is seen."""
    for what, count in sorted(tally.found.items()):
        if count > _SHOWN:
            tell(f"{count} objects or copies are {what}; {_SHOWN} of them are shown.")
    for one in tally.findings:
        if one.what is not What.ORPHANED:
            warn(f"{one.tier}: {one.key} is {one.what}. {one.message}")
    for tier in tally.tiers:
        if tier.error is not None:
            warn(f"{tier.tier} was left out, or a part of it ({tier.error.kind}): {tier.error.message}")
    for status in (ScrubStatus.UNREAD, ScrubStatus.REPAIRED, ScrubStatus.DAMAGED, ScrubStatus.LOST):
        for row in tally.rows:
            if row.status is status:
                wrong = "" if row.error is None else f" {row.error.message}"
                reason = f" {row.reason}" if row.reason else ""
                warn(
                    f"{row.slide} in {row.tier} is {str(status).upper() if status in _BAD else status}.{wrong}{reason}"
                )


def _sentence(tally: _Tally, *, dry_run: bool) -> str:
    size = format_bytes(tally.bytes_read)
    by = "" if tally.round_by is None else f", next full round done by {tally.round_by[:10]}"
    if dry_run:
        return f"{len(tally.rows)} copies, {size} would be read{by}."
    parts = [f"{len(tally.rows)} copies, {size} read, {tally.damaged} damaged"]
    parts.append(f"{tally.count(ScrubStatus.REPAIRED)} repaired")
    if tally.count(ScrubStatus.LOST):
        parts.append(f"{tally.count(ScrubStatus.LOST)} LOST")
    if tally.count(ScrubStatus.UNREAD):
        parts.append(f"{tally.count(ScrubStatus.UNREAD)} unread")
    parts += [f"{count} {what}" for what, count in sorted(tally.found.items())]
    return ", ".join(parts) + by + "."


def _cells(row: ScrubRow) -> tuple[str, ...]:
    speed = row.bytes_read / row.seconds / 1e6 if row.seconds else 0.0
    return (
        row.slide,
        row.name,
        row.tier,
        str(row.status),
        short(row.verified_before),
        format_bytes(row.bytes_read),
        f"{row.seconds:.1f}",
        f"{speed:.1f}" if speed else "",
    )


def _finding(one: Finding) -> tuple[str, ...]:
    removed = str(one.removed) if one.removed else ""
    return str(one.what), one.tier, one.key, str(one.objects), format_bytes(one.size_bytes), removed
