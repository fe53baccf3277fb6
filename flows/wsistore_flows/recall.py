"""The flow that brings slides back from archives by a time: asks for a list, and moves on what was asked for before.

Nothing is waited for here: an archive takes hours, and the next run goes on. The list is a file, for it names patients;
of a recall Prefect shows its name and numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from prefect import flow
from pydantic import Field

from wsistore import ops
from wsistore.errors import InputError, Kind
from wsistore.ops.recall_lists import MOST_BYTES, Line, decode, parse
from wsistore.ops.recall_results import Coming, RecallStatus
from wsistore.ops.recall_times import span_of
from wsistore.units import format_bytes
from wsistore_flows.hooks import HOOKS
from wsistore_flows.running import FLOW, Run, State, Told, done, night
from wsistore_flows.states import NOT_IN_TIME, NOTHING_TO_DO, WAITING_FOR_CONFIRMATION, ended

_BAD = (Coming.FAILED, Coming.NOT_FOUND)


@flow(name="recall", **FLOW, **HOOKS)
def recall(
    site: str | None = None,
    wanted: str | None = None,
    by: datetime | None = None,
    tier: str | None = None,
    keep: str = "14d",
    max_eur: Annotated[float, Field(ge=0)] | None = None,
    confirmed: bool = False,
) -> State:
    """Ask for the slides of a list by a time; without one, move on all that was asked for before.

    Parameters
    ----------
    site
        The site's folder; by default the one that WSISTORE_HOME tells.
    wanted
        Path of a list of patients, cases or slides (CSV or pasted text), in the site's folder unless it is absolute.
    by
        When they are needed; without an offset in the site's time zone.
    tier
        Where they are to come; by default the first tier.
    keep
        How long they stay there after that: ``12h``, ``14d``, ``2w``.
    max_eur
        What it may cost; by default what the site's settings say.
    confirmed
        Whether it may cost more than that.

    """
    asked = partial(_asked, by=by, tier=tier, keep=keep, max_eur=max_eur, confirmed=confirmed)
    return night("recall", site, partial(_recall, wanted=wanted, asked=asked))


def _recall(run: Run, wanted: str | None, asked: Any) -> State:
    planned: RecallStatus | None = None
    if wanted is not None:
        lines = _lines(run.site.folder / Path(wanted).expanduser())
        planned = run.step("ask for the list", lambda: asked(run, lines))
        if not planned.name:
            return _to_confirm(planned)
    names = [one.name for one in ops.statuses(run.site) if not one.is_done or one.needs_confirmation]
    if planned is not None and planned.name not in names:
        names.append(planned.name)
    if not names:
        return done("Nothing is waited for.", name=NOTHING_TO_DO)
    with run.executor() as executor:
        for name in names:
            # A slide that fails now is tried again by the next run, minutes from now.
            run.step(f"recall {name}", partial(ops.advance, run.site, [name], executor=executor, watcher=Told()))
    return _end(run, ops.statuses(run.site, names))


def _asked(
    run: Run,
    lines: Sequence[Line],
    *,
    by: datetime | None,
    tier: str | None,
    keep: str,
    max_eur: float | None,
    confirmed: bool,
) -> RecallStatus:
    span: timedelta = span_of(keep)
    moment = None if by is None else _moment(run, by)
    return ops.recall(run.site, lines, by=moment, tier=tier, keep=span, max_eur=max_eur, confirmed=confirmed)


def _moment(run: Run, by: datetime) -> datetime:
    """Return a moment in UTC; one without an offset is a clock's on the site's wall."""
    zone = ZoneInfo(run.flows.time_zone or "UTC")
    return (by if by.tzinfo is not None else by.replace(tzinfo=zone)).astimezone(UTC)


def _lines(path: Path) -> list[Line]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        msg = f"The list cannot be read ({error.strerror or type(error).__name__})."
        remedy = "Put it where the flows' account can read it, and give its path."
        raise InputError(msg, kind=Kind.SETTINGS_INVALID, remedy=remedy) from error
    return parse(decode(data))


def _to_confirm(planned: RecallStatus) -> State:
    limit = "nothing" if planned.max_eur is None else f"{planned.max_eur:.2f} EUR"
    price = f"{format_bytes(planned.bytes_asked)} would cost up to {planned.eur_high:.2f} EUR"
    remedy = "run it again with confirmed=true, or with a higher max_eur"
    return done(f"{price}, and it may cost {limit}: {remedy}.", name=WAITING_FOR_CONFIRMATION)


def _end(run: Run, found: Sequence[RecallStatus]) -> State:
    rows = [_row(one) for one in found]
    total: Counter[str] = Counter()
    for one in found:
        total.update(_states(one))
    run.facts.update({str(state): count for state, count in sorted(total.items())}, recalls=len(found))
    about = "Slides by how they stand. Which cases and patients they are of, says: wsistore recall --status."
    run.shown.table("recalls", rows, about)
    what = ", ".join(f"{count} {state}" for state, count in sorted(total.items()))
    message = f"{len(found)} recall{'s' if len(found) > 1 else ''}, slides or lines: {what}"
    if total[Coming.CONFIRM]:
        remedy = "Confirm the cost: wsistore recall --list with --yes, or this flow with confirmed=true"
        return done(f"{message}. {remedy}.", name=WAITING_FOR_CONFIRMATION)
    if total[Coming.LATE]:
        return done(f"{message}. The sooner ones can be read already.", name=NOT_IN_TIME)
    return ended(message, refused=sum(total[state] for state in _BAD))


def _states(one: RecallStatus) -> Counter[str]:
    states: Counter[str] = Counter(str(slide.state) for case in one.cases for slide in case.slides)
    states[str(Coming.NOT_FOUND)] += sum(case.state is Coming.NOT_FOUND for case in one.cases if not case.slides)
    return +states


def _row(one: RecallStatus) -> dict[str, Any]:
    states = _states(one)
    return {
        "recall": one.name,
        "to tier": one.tier,
        "needed by": (one.by or "")[:16].replace("T", " "),
        "expected": (one.expected_at or "")[:16].replace("T", " "),
        **{str(state): states[str(state)] for state in Coming},
    }
