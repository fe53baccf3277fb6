"""A month's report: metered from the chains of events, compared with what lies on the tiers, written as Parquet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from wsistore import __version__
from wsistore.clock import iso
from wsistore.errors import ConflictError, InputError, Kind
from wsistore.ops.inventory import SITES_OWN
from wsistore.ops.report_data import lost_tier, tier_costs, tier_models
from wsistore.ops.report_parts import Task, metered
from wsistore.ops.report_results import Report, lines, quality
from wsistore.ops.site import Site
from wsistore.reports import sets
from wsistore.reports.columns import FOCUS_VERSIONS, schema_of
from wsistore.reports.focus import Row, rows_of
from wsistore.reports.metering import Meter
from wsistore.reports.models import METHOD, Charge, TierCosts, charges, sci, totals
from wsistore.reports.periods import US_PER_HOUR, Month, micros
from wsistore.reports.reconciling import MOST_UNEXPLAINED, Expected, Reconciled, reconcile
from wsistore.reports.samples import Draws
from wsistore.reports.terms import ReportSettings, TierModel, read_settings

SCHEMA_ID = "wsistore-usage-1"

_log = logging.getLogger(__name__)

Seen = Callable[[int], None]


def report(
    site: Site,
    month: str,
    out: Path,
    *,
    close: bool = False,
    look: bool = True,
    focus: str = "1.2",
    scheduler: str | None = None,
    workers: int | None = None,
    seen: Seen = lambda _: None,
) -> Report:
    """Write a month's report as Parquet: ``usage/``, ``inventory/`` and ``events/``.

    A month that is closed is never written anew: what comes out otherwise today goes into rows of correction, which
    are charged in the month that it is now.

    Parameters
    ----------
    site
        An open site.
    month
        Such as ``2026-10``, in the time zone of the site's reports.toml. Of one that is not over, what was used so far.
    out
        Folder of the sets; those of other months in it stay.
    close
        Whether the month is to be closed.
    look
        Whether the tiers are listed and compared with what was metered. Without, a month cannot be closed.
    focus
        Version of FOCUS, ``1.2`` or ``1.4``.
    scheduler
        A Dask scheduler, whose workers reach the site's folder: a large site is metered there, part by part. By default
        in processes of this machine, and a small one in this.
    workers
        How many processes; by default one per core.
    seen
        Gets the number of slides read so far, now and then.

    Raises
    ------
    InputError
        If it is no month, or one that has not begun; if what was written of a closed month cannot be read.
    ConflictError
        If the month cannot be closed: it is not over, or more than 0.1 % of a tier's bytes are not explained. What was
        metered is written all the same.
    SiteError
        If prices, coefficients or reports.toml are wrong, or the catalogue fails.
    StorageError
        If a tier cannot be listed, or the files cannot be written.

    """
    made = report_anyway(
        site, month, out, close=close, look=look, focus=focus, scheduler=scheduler, workers=workers, seen=seen
    )
    if close and made.why_open:
        msg = f"The month {made.month} does not close: {made.why_open}"
        raise ConflictError(msg, remedy="Its report is written as a draft. See docs/reports.md, Closing a month.")
    return made


def report_anyway(
    site: Site,
    month: str,
    out: Path,
    *,
    close: bool,
    look: bool,
    focus: str = "1.2",
    scheduler: str | None = None,
    workers: int | None = None,
    seen: Seen = lambda _: None,
) -> Report:
    """Do as `report`; a month that cannot be closed is no error: the result says why."""
    settings = read_settings(site.folder)
    period = Month.parse(month, settings.timezone)
    now = site.clock.now()
    if focus not in FOCUS_VERSIONS:
        msg = f"FOCUS {focus!r} is not written here."
        raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy=f"Versions are: {', '.join(FOCUS_VERSIONS)}.")
    if period.begins > now:
        msg = f"The month {period} has not begun."
        raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy="Name a month that is over, or the current one.")
    return _Work(site, settings, period, out, now, focus, scheduler, workers).run(close=close, look=look, seen=seen)


@dataclass
class _Work:
    """The making of one report."""

    site: Site
    settings: ReportSettings
    month: Month
    out: Path
    now: datetime
    focus: str
    scheduler: str | None
    workers: int | None
    models: dict[str, TierModel] = field(default_factory=dict)
    expected: dict[str, Expected] = field(default_factory=dict)
    moving: set[str] = field(default_factory=set)

    def run(self, *, close: bool, look: bool, seen: Seen) -> Report:
        self.models = tier_models(self.site, self.settings, self.month)
        folder = sets.partition(self.out, sets.USAGE, self.month)
        about = sets.read_about(folder) or {}
        was_closed = about.get("closed_at")
        metered = self._metered(write=not was_closed, seen=seen)
        for group in metered.by_month[self.month]:
            self.models.setdefault(group.tier, lost_tier(group.tier, self.settings))
        costs = tier_costs(self.models, self.settings, self.month)
        found = list(charges(metered.by_month[self.month], self.month, costs))
        account = self.settings.account or self.site.settings.name
        rows = rows_of(found, self.month, costs, account=account, focus=self.focus)
        reconciled = self._reconciled() if look else []
        corrected = self._write(rows, folder, is_closed=bool(was_closed))
        why_open = self._why_open(reconciled, look=look)
        closes = close and not was_closed and not why_open
        closed_at = was_closed or (iso(self.now) if closes else None)
        slides = metered.slide_us[self.month] / self.month.length_us
        files = self._files(about, is_closed=bool(was_closed))
        if not was_closed:
            sets.write_about(folder, self._about(costs, reconciled, closed_at, files))
        made = self._result(found, rows, reconciled, corrected, closed_at, folder, files, slides)
        return made if was_closed else replace(made, why_open=why_open)

    # --- metering

    def _metered(self, *, write: bool, seen: Seen) -> Meter:
        least = {name: round(model.least_days * 24 * US_PER_HOUR) for name, model in self.models.items()}
        task = Task(
            folder=self.site.folder,
            months=(self.month,),
            least_us={name: left for name, left in least.items() if left},
            until_us=micros(self.now),
            classes={name: model.prices.name for name, model in self.models.items()},
            moment=self.month if write else None,
        )
        meter, slides = Meter(task.months), 0
        with ExitStack() as stack:
            writers = [stack.enter_context(self._writer(name)) for name in (sets.INVENTORIES, sets.CHAINS) if write]
            for part in metered(self.site, task, scheduler=self.scheduler, workers=self.workers, tell=_log.info):
                meter.merge(part.meter)
                self.moving |= part.moving
                for tier, expected in part.expected.items():
                    self.expected.setdefault(tier, Expected()).merge(expected)
                for writer, tables in zip(writers, (part.inventory, part.events), strict=False):
                    for table in tables:
                        writer.write(table)
                slides += part.slides
                seen(slides)
        return meter

    def _writer(self, name: str) -> sets.PartWriter:
        path = sets.partition(self.out, name, self.month) / sets.PART
        return sets.PartWriter(path, schema_of(sets.columns_of(name)), self._header(name))

    def _header(self, name: str) -> dict[str, Any]:
        return {
            "set": name,
            "month": str(self.month),
            "timezone": self.month.zone,
            "site": self.site.settings.name,
            "FocusVersion": self.focus,
            "method": METHOD,
            "seed": self.settings.seed,
            "draws": self.settings.draws,
        }

    # --- reconciling

    def _reconciled(self) -> list[Reconciled]:
        moving = self.moving | {attempt.attempt for attempt in self.site.catalog.open_attempts()}
        found = []
        for tier in self.site.settings.tiers:
            infos = self.site.tier(tier.name).list()
            listed = ((info.key, info.size_bytes) for info in infos)
            expected = self.expected.get(tier.name, Expected())
            found.append(reconcile(tier.name, listed, expected, moving=moving, is_own=SITES_OWN))
        return found

    def _why_open(self, reconciled: Sequence[Reconciled], *, look: bool) -> str:
        if self.month.ends > self.now:
            return "it is not over."
        if not look:
            return "the tiers were not looked at."
        bad = [one for one in reconciled if not one.is_good]
        names = ", ".join(f"{one.tier} ({one.unexplained_bytes} bytes, {one.part:.2%})" for one in bad)
        return f"more than {MOST_UNEXPLAINED:.1%} of what was metered is not explained in {names}." if bad else ""

    # --- writing

    def _write(self, rows: list[Row], folder: Path, *, is_closed: bool) -> int:
        """Write the month's rows, or those that correct it; return how many of the latter."""
        if not is_closed:
            sets.write_rows(folder / sets.PART, rows, self.focus, self._header(sets.USAGE))
            return 0
        billing = Month.of(self.now, self.month.zone)
        changed = sets.corrections(sets.written_rows(self.out, self.month), rows, billing)
        if changed:
            target = sets.partition(self.out, sets.USAGE, billing)
            count = len(list((self.out / sets.USAGE).glob(f"month=*/corrections-{self.month}-*.parquet")))
            path = target / f"corrections-{self.month}-{count + 1:03}.parquet"
            sets.write_rows(path, changed, self.focus, self._header(sets.USAGE))
        return len(changed)

    def _files(self, about: Mapping[str, Any], *, is_closed: bool) -> dict[str, str]:
        """Return the digests of the month's files.

        Raises
        ------
        InputError
            If a closed month is not what it was when it was closed.

        """
        found = {}
        for name in (sets.USAGE, sets.INVENTORIES, sets.CHAINS):
            path = sets.partition(self.out, name, self.month) / sets.PART
            found[path.relative_to(self.out).as_posix()] = sets.digest(path)
        known = about.get("files")
        if is_closed and known != found:
            msg = f"The files of the closed month {self.month} are not what they were when it was closed."
            raise InputError(msg, remedy="Put them back from a backup: a closed month is not written anew.")
        return found

    def _about(
        self, costs: Mapping[str, TierCosts], reconciled: Sequence[Reconciled], closed_at: str | None, files: Any
    ) -> dict[str, Any]:
        return {
            "FocusVersion": self.focus,
            "SchemaId": SCHEMA_ID,
            "CreationDate": iso(self.now),
            "DataGenerator": f"wsistore {__version__}",
            **{key: value for key, value in self._header(sets.USAGE).items() if key != "FocusVersion"},
            "grid": {name: [one.factor.country, one.factor.year] for name, one in sorted(costs.items())},
            "prices": {name: one.prices.name for name, one in sorted(costs.items())},
            "unexplained": {one.tier: one.part for one in reconciled},
            "closed_at": closed_at,
            "files": files,
        }

    # --- what is said of it

    def _result(
        self,
        found: list[Charge],
        rows: list[Row],
        reconciled: list[Reconciled],
        corrected: int,
        closed_at: str | None,
        folder: Path,
        files: Mapping[str, str],
        slides: float,
    ) -> Report:
        draws = Draws(self.settings.seed, self.settings.draws)
        score = sci(totals(found, draws), slides)
        return Report(
            month=str(self.month),
            timezone=self.month.zone,
            folder=str(folder),
            total=lines(found, rows, draws, lambda _: "")[0],
            tiers=lines(found, rows, draws, lambda group: group.tier),
            departments=lines(found, rows, draws, lambda group: group.department or ""),
            slides=slides,
            sci=None if score is None else score.band,
            quality=quality(rows),
            reconciled=reconciled,
            rows=len(rows),
            corrections=corrected,
            is_over=self.month.ends <= self.now,
            closed_at=closed_at,
            files=files,
        )
