"""How recalls stand, and what one would cost: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from wsistore.catalog import recalls
from wsistore.catalog.recalls import Found, RecallRow, RecallState, SlideRecall
from wsistore.clock import iso
from wsistore.errors import MissingError
from wsistore.ops.recall_plans import RecallPlan, SlidePlan
from wsistore.ops.recall_results import CaseStatus, Coming, RecallStatus, SlideStatus, by_case, coming, not_found
from wsistore.ops.site import Site

_WAITING = (RecallState.PLANNED, RecallState.ASKED)


def status_of(site: Site, name: str) -> RecallStatus:
    """Return how a recall stands, as far as is known; nothing is asked of any tier.

    Raises
    ------
    MissingError
        If there is no such recall.

    """
    row = next(iter(recalls.recalls(site.catalog, [name])), None)
    if row is None:
        msg = f"There is no recall {name!r}."
        raise MissingError(msg, remedy="'wsistore recall --status' shows those that there are.")
    now, slides = site.clock.now(), recalls.slides_of(site.catalog, name)
    found = recalls.found_slides(site.catalog, [one.slide for one in slides])
    order = {slide: n for n, slide in enumerate(slide for line in row.lines for slide in line["slides"])}
    shown = [
        _slide_status(one, found[one.slide], row, now)
        for one in sorted(slides, key=lambda one: order.get(one.slide, len(order)))
        if one.slide in found
    ]
    cases = [
        *by_case(shown, found),
        *(not_found(line["text"], line["problem"]) for line in row.lines if line["problem"]),
    ]
    waiting = [one.expected_at for one in slides if one.state in _WAITING and one.expected_at]
    return RecallStatus(
        name=row.name,
        tier=row.tier,
        by=row.by,
        cases=tuple(cases),
        expected_at=max(waiting, default=None),
        eur_high=row.eur,
        eur=row.eur,
        max_eur=row.max_eur,
        needs_confirmation=any(one.state is RecallState.CONFIRM for one in slides),
    )


def statuses(site: Site, names: Sequence[str] = ()) -> list[RecallStatus]:
    """Return how recalls stand; by default of all that have not expired.

    Raises
    ------
    MissingError
        If there is none by one of the names.

    """
    chosen = list(names) or [row.name for row in recalls.recalls(site.catalog)]
    return [status_of(site, name) for name in chosen]


def with_figures(status: RecallStatus, planned: RecallPlan) -> RecallStatus:
    """Return how a recall stands, with what it was to cost when it was planned."""
    eur = planned.eur
    return replace(
        status,
        eur_low=eur.low,
        eur=eur.central,
        eur_high=eur.high,
        bytes_asked=planned.bytes_asked,
        ways=_ways(planned),
    )


def _ways(planned: RecallPlan) -> tuple[str, ...]:
    asked = [(one.copy.tier, str(one.option.retrieval)) for one in planned.asked if one.copy and one.option]
    return tuple(f"{way} from {tier}" for tier, way in sorted(set(asked)))


def planned_status(planned: RecallPlan, limit: float | None, *, over: bool) -> RecallStatus:
    """Return what a recall would do; where it is `over` its limit nothing of it is begun."""
    found = {
        one.slide: Found(slide=one.slide, name=one.name, case=one.case, patient=one.patient) for one in planned.slides
    }
    shown = [_planned_slide(one, planned.by, over=over) for one in planned.slides]
    problems: list[CaseStatus] = [not_found(one.line.text, one.problem) for one in planned.lines if one.problem]
    expected = planned.expected_at
    return RecallStatus(
        name="",
        tier=planned.tier,
        by=None if planned.by is None else iso(planned.by),
        cases=(*by_case(shown, found), *problems),
        expected_at=None if expected is None else iso(expected),
        max_eur=limit,
        needs_confirmation=over,
        eur_low=planned.eur.low,
        eur=planned.eur.central,
        eur_high=planned.eur.high,
        bytes_asked=planned.bytes_asked,
        ways=_ways(planned),
    )


def _planned_slide(one: SlidePlan, by: datetime | None, *, over: bool) -> SlideStatus:
    state = Coming.READY if one.is_ready else Coming.FAILED
    if one.option is not None:
        is_late = by is not None and one.expected_at is not None and one.expected_at > by
        state = Coming.CONFIRM if over else Coming.LATE if is_late else Coming.ON_ITS_WAY
    return SlideStatus(
        slide=one.slide,
        name=one.name,
        case=one.case,
        state=state,
        tier="" if one.copy is None else one.copy.tier,
        expected_at=None if one.expected_at is None else iso(one.expected_at),
        reason=one.error,
    )


def _slide_status(one: SlideRecall, found: Found, row: RecallRow, now: datetime) -> SlideStatus:
    state, reason = coming(one, row.by, now)
    expected = one.expected_at if state in (Coming.ON_ITS_WAY, Coming.LATE) else None
    return SlideStatus(
        slide=one.slide,
        name=found.name,
        case=found.case,
        state=state,
        tier=one.tier,
        expected_at=expected,
        reason=reason,
    )
