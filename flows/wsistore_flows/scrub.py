"""The flow that reads copies again before they rot unnoticed, and repairs what is damaged from good copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from prefect import flow

from wsistore import ops
from wsistore.errors import InputError, IntegrityError, Kind
from wsistore.ops.results import Failure
from wsistore.ops.scrub_results import Finding, ScrubRow, ScrubStatus, TierReport
from wsistore.units import format_bytes, parse_bytes
from wsistore_flows.hooks import HOOKS
from wsistore_flows.running import FLOW, Run, State, Told, night
from wsistore_flows.states import ended, may_be_told

_BAD = (ScrubStatus.DAMAGED, ScrubStatus.LOST)


@flow(name="scrub", **FLOW, **HOOKS)
def scrub(
    site: str | None = None,
    tiers: list[str] | None = None,
    deep: bool = False,
    budget: str | None = None,
    everything: bool = False,
) -> State:
    """Compare tiers with the catalogue, read the copies that are due again, and repair what is damaged.

    Parameters
    ----------
    site
        The site's folder; by default the one that WSISTORE_HOME tells.
    tiers
        Names of tiers; by default all.
    deep
        Whether sources are rebuilt and pixels compared, too.
    budget
        Read at most so much, such as ``200GB``, instead of what the period asks for.
    everything
        Whether every copy is read, whenever it was read last.

    """
    return night("scrub", site, partial(_scrub, tiers=tiers, deep=deep, budget=budget, everything=everything))


@dataclass(slots=True)
class _Tally:
    """What was found; rows of good copies are not kept."""

    count: Counter[str] = field(default_factory=Counter)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes_read: int = 0
    rows: list[ScrubRow] = field(default_factory=list)
    tiers: list[TierReport] = field(default_factory=list)

    def add(self, result: ScrubRow | Finding | TierReport) -> None:
        """Count a result."""
        if isinstance(result, TierReport):
            self.tiers.append(result)
        elif isinstance(result, Finding):
            self.found[result.tier, str(result.what)] += 1
        else:
            self.count[str(result.status)] += 1
            self.bytes_read += result.bytes_read
            if result.status is not ScrubStatus.GOOD:
                self.rows.append(result)

    @property
    def failures(self) -> list[Failure]:
        """What is damaged still; else why tiers and copies could not be read."""
        bad = [_damage(row) for row in self.rows if row.status in _BAD]
        unread = [row.error for row in self.rows if row.status is ScrubStatus.UNREAD and row.error is not None]
        return bad or [tier.error for tier in self.tiers if tier.error is not None] + unread


def _scrub(run: Run, tiers: Sequence[str] | None, deep: bool, budget: str | None, everything: bool) -> State:
    budget_bytes = _bytes(budget)
    tally = _Tally()
    names = list(dict.fromkeys(tiers or [tier.name for tier in run.site.settings.tiers]))
    # A budget is spent on whatever tier has waited longest, so it is one part of the run; else each tier is.
    parts = [names] if budget_bytes is not None else [[name] for name in names]
    with run.executor() as executor:
        for part in parts:

            def work(part: Sequence[str] = part) -> None:
                results = ops.scrub(
                    run.site,
                    part,
                    deep=deep,
                    budget_bytes=budget_bytes,
                    everything=everything,
                    executor=executor,
                    tell=Told().waiting,
                )
                with closing(results):  # type: ignore[type-var]
                    for result in results:
                        tally.add(result)

            # What a tier does not give now is read by the next run, and said; twice the work would be for nothing.
            run.step(f"read {', '.join(part)}", work, again=False)
    _show(run, tally)
    read = sum(tier.read for tier in tally.tiers)
    message = f"{read} copies, {format_bytes(tally.bytes_read)} read"
    parts_of = {name: count for name, count in sorted(tally.count.items()) if name != ScrubStatus.GOOD}
    message += "".join(f", {count} {name}" for name, count in parts_of.items())
    overdue = sum(tier.overdue for tier in tally.tiers)
    message += f", {overdue} overdue" if overdue else ""
    run.facts.update(read=read, bytes_read=tally.bytes_read, overdue=overdue, **parts_of)
    return ended(message, tally.failures)


def _bytes(text: str | None) -> int | None:
    try:
        return None if text is None else parse_bytes(text)
    except ValueError as error:
        msg = f"The budget {text!r} is no size."
        raise InputError(msg, kind=Kind.SETTINGS_INVALID, remedy="Write it as 200GB.") from error


def _damage(row: ScrubRow) -> Failure:
    """Return the failure of a copy that is damaged still."""
    lost = "and so are all others of its slide: it is LOST" if row.status is ScrubStatus.LOST else "and not repaired"
    remedy = "See docs/moves.md, and wsistore scrub for the details."
    message = f"The copy of slide {row.slide} in tier {row.tier} is damaged, {lost}. {remedy}"
    return Failure(str(Kind.CORRUPT), message, IntegrityError.exit_code)


def _show(run: Run, tally: _Tally) -> None:
    rows: list[dict[str, Any]] = [
        {
            "tier": tier.tier,
            "copies": tier.copies,
            "read": tier.read,
            "size": format_bytes(tier.bytes_read),
            "overdue": tier.overdue,
            "every copy read by": (tier.round_by or "")[:10],
            **{str(what): count for what, count in tier.findings.items()},
            "why not": "" if tier.error is None else may_be_told(tier.error.message, tier.error.kind),
        }
        for tier in tally.tiers
    ]
    run.shown.table("tiers", rows, "What was read of each tier.")
    if tally.rows:
        wrong = [
            {
                "slide": row.slide,
                "tier": row.tier,
                "status": str(row.status),
                "why": "" if row.error is None else may_be_told(row.error.message, row.error.kind),
            }
            for row in tally.rows
        ]
        run.shown.table("copies", wrong, "Copies that were not good, or could not be read.")
