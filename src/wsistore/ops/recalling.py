"""Slides brought back from archives by a time: asked for at once, waited for in other calls, kept for a while.

A recall is written down before anything is asked for, and every slide of it as it goes on. So whoever comes next, the
same command, `advance`, or a recovery, goes on where another process died; asking twice costs nothing. The copies that
come are made as by `wsistore.ops.moving.copy`, and are temporary from the moment of their commit on.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from wsistore.catalog import recalls
from wsistore.catalog.recalls import RecallRow, RecallState, SlideRecall
from wsistore.clock import iso
from wsistore.errors import InputError, Kind, WsistoreError
from wsistore.execute import Executor
from wsistore.model import random_key
from wsistore.ops.moving import move
from wsistore.ops.recall_lists import Line
from wsistore.ops.recall_plans import RecallPlan, SlidePlan, Ways, plan
from wsistore.ops.recall_results import RecallStatus
from wsistore.ops.recall_status import planned_status, status_of, statuses, with_figures
from wsistore.ops.recall_steps import look_and_ask, ready, until_of, without_ready
from wsistore.ops.side_by_side import side_by_side
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.watching import Watcher

KEEP = timedelta(days=14)
"""How long what was recalled stays, where nobody says otherwise: a meeting may be put off by a week."""

_POLL_SECONDS = (1.0, 300.0)
"""Least and longest pause between two looks."""
_WAITING = (RecallState.PLANNED, RecallState.ASKED)

_log = logging.getLogger(__name__)


def recall(
    site: Site,
    lines: Sequence[Line],
    *,
    by: datetime | None = None,
    tier: str | None = None,
    keep: timedelta = KEEP,
    max_eur: float | None = None,
    confirmed: bool = False,
    dry_run: bool = False,
) -> RecallStatus:
    """Ask for slides that lie in archives; returns at once.

    May be repeated: the same recall goes on. What can be read at once anywhere costs nothing and stays where it is; a
    temporary copy stays as long as this recall needs it.

    Parameters
    ----------
    site
        An open site.
    lines
        Slides, cases and patients; see `wsistore.ops.recall_lists`.
    by
        When they are needed; by default whenever it is cheapest.
    tier
        Where they are to come; by default the site's first tier.
    keep
        For how long they stay there after that.
    max_eur
        What it may cost at most; by default what the site's settings say.
    confirmed
        Whether it may cost what it does.
    dry_run
        Only say what would be done.

    Returns
    -------
    RecallStatus
        How it stands. Where it needs to be confirmed, nothing was begun.

    Raises
    ------
    SiteError
        If there is no such tier, or the site cannot be written.
    InputError
        If `lines` are empty, or the tier is an archive itself.

    """
    target = site.tier_settings(tier or site.settings.tiers[0].name)
    if target.archive is not None:
        msg = f"Tier {target.name} is an archive itself: nothing that comes there can be read at once."
        raise InputError(msg, kind=Kind.SETTINGS_INVALID, remedy="Name another one with --tier.")
    if not lines:
        msg = "Nothing was named that could be recalled."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give slides, cases or a list.")
    if not dry_run and site.catalog.read_only:
        raise read_only_error(site)
    now = site.clock.now()
    planned = plan(site, lines, by=by, tier=target.name, keep=keep, now=now)
    limit = site.settings.recall_max_eur if max_eur is None else max_eur
    over = limit is not None and planned.eur.high > limit and not confirmed
    if dry_run or over:
        return planned_status(planned, limit, over=over)
    row = _begin(site, planned, None if confirmed else limit, now)
    _ask(site, row)
    return with_figures(status_of(site, row.name), planned)


def advance(
    site: Site,
    names: Sequence[str] = (),
    *,
    executor: Executor | None = None,
    watcher: Watcher | None = None,
) -> int:
    """Move recalls on: ask for what was not, or not all, asked for; copy what can be read by now.

    Parameters
    ----------
    site
        An open site.
    names
        Of recalls; by default all that wait.
    executor
        Encodes slides on the way; by default Dask, started when it is first needed.
    watcher
        Is told how it goes.

    Returns
    -------
    int
        Slides that failed now; the next call tries again.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    failed = 0
    for row in recalls.recalls(site.catalog, names, going=not names):
        try:
            failed += _advance(site, row, executor, watcher)
        except WsistoreError as error:
            _log.warning("recall %s cannot go on now: %s", row.name, error)
            failed += 1
    return failed


def wait(
    site: Site,
    names: Sequence[str],
    *,
    executor: Executor | None = None,
    watcher: Watcher | None = None,
    poll_seconds: float | None = None,
) -> list[RecallStatus]:
    """Move recalls on until nothing is waited for any more, or their deadlines have passed."""
    while True:
        advance(site, names, executor=executor, watcher=watcher)
        found, now = statuses(site, names), iso(site.clock.now())
        going = [one for one in found if not one.is_done and (one.by is None or one.by > now)]
        if not going:
            return found
        site.clock.sleep(poll_seconds or _pause(going, site.clock.now()))


# --- begun ------------------------------------------------------------------------------------------------------------


def _begin(site: Site, planned: RecallPlan, max_eur: float | None, now: datetime) -> RecallRow:
    """Write down what is to be asked for; return the recall, or the one that asked for the same before."""
    slides = sorted(one.slide for one in planned.slides)
    by = None if planned.by is None else iso(planned.by)
    same = json.dumps([slides, planned.tier, by, planned.keep.total_seconds()]).encode()
    digest = hashlib.sha256(same).hexdigest()
    before = recalls.same(site.catalog, digest)
    if before is not None:
        if max_eur is None:
            recalls.confirm(site.catalog, before.name)
        _begin_again(site, before, planned)
        return before
    row = RecallRow(
        name=random_key(6),
        digest=digest,
        asked_at=iso(now),
        actor=site.actor,
        by=by,
        tier=planned.tier,
        keep_seconds=int(planned.keep.total_seconds()),
        max_eur=max_eur,
        eur=0.0,
        lines=[{"text": one.line.text, "slides": list(one.slides), "problem": one.problem} for one in planned.lines],
    )
    recalls.begin(site.catalog, row, [_slide_row(row, one) for one in planned.slides])
    return row


def _slide_row(row: RecallRow, one: SlidePlan) -> SlideRecall:
    state = RecallState.FAILED if one.copy is None else RecallState.PLANNED
    return SlideRecall(
        recall=row.name,
        slide=one.slide,
        state=state,
        tier="" if one.copy is None else one.copy.tier,
        attempt="" if one.copy is None else one.copy.attempt,
        retrieval="" if one.option is None else str(one.option.retrieval),
        expected_at=None if one.expected_at is None else iso(one.expected_at),
        error=one.error,
    )


def _begin_again(site: Site, row: RecallRow, planned: RecallPlan) -> None:
    """Let what failed, or has gone since, be asked for once more."""
    plans = {one.slide: one for one in planned.slides}
    for one in recalls.slides_of(site.catalog, row.name):
        if one.state not in (*_WAITING, RecallState.CONFIRM) and one.slide in plans:
            recalls.note(site.catalog, _slide_row(row, plans[one.slide]))


def _ask(site: Site, row: RecallRow) -> None:
    """Ask for everything; what can be read already is left to `advance`, but what is ready is so at once."""
    waiting = [one for one in recalls.slides_of(site.catalog, row.name) if one.state is RecallState.PLANNED]
    rest = without_ready(site, row, waiting)
    ways = Ways(site, row.tier)
    for _ in side_by_side(rest, lambda one: look_and_ask(site, row, one, ways)):
        pass


# --- moved on ---------------------------------------------------------------------------------------------------------


def _advance(site: Site, row: RecallRow, executor: Executor | None, watcher: Watcher | None) -> int:
    waiting = [
        one for one in recalls.slides_of(site.catalog, row.name) if one.state in (*_WAITING, RecallState.CONFIRM)
    ]
    rest = [one for one in without_ready(site, row, waiting) if one.state is not RecallState.CONFIRM]
    ways = Ways(site, row.tier)
    looked = list(side_by_side(rest, lambda one: look_and_ask(site, row, one, ways)))
    here = {one.slide: one for one in looked if one is not None}
    if not here:
        return 0
    until, failed = until_of(row, site.clock.now()), 0
    for result in move(site, list(here), row.tier, keep_source=True, until=until, executor=executor, watcher=watcher):
        one = here[result.slide]
        if result.error is not None:
            failed += 1
            recalls.note_error(site.catalog, one, result.error.message)
            continue
        ready(site, row, one, row.tier)
    return failed


def _pause(going: Sequence[RecallStatus], now: datetime) -> float:
    """Return how long to wait before the next look: a part of the time that is left, as far as is known."""
    moments = [moment for one in going for moment in (one.expected_at, one.by) if moment is not None]
    left = min((datetime.fromisoformat(moment) - now).total_seconds() for moment in moments) if moments else 0.0
    return min(max(left / 4, _POLL_SECONDS[0]), _POLL_SECONDS[1])
