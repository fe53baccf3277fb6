"""What recalls report: a state per case that people understand who never heard of storage classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from wsistore.catalog.recalls import Found, RecallState, SlideRecall
from wsistore.clock import iso

Json = dict[str, Any]


class Coming(StrEnum):
    """How a case, or a slide, stands."""

    READY = "ready"
    ON_ITS_WAY = "on its way"
    LATE = "late"
    """It is not here, or will not be, when it is needed."""
    CONFIRM = "needs confirmation of cost"
    NOT_FOUND = "not found"
    FAILED = "failed"
    EXPIRED = "expired"
    """It was ready, and its time is over."""


_WORST = (
    *(Coming.NOT_FOUND, Coming.FAILED, Coming.CONFIRM, Coming.LATE, Coming.ON_ITS_WAY),
    *(Coming.EXPIRED, Coming.READY),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideStatus:
    """One slide."""

    slide: str
    name: str
    case: str | None
    state: Coming
    tier: str = ""
    """Where it is, or comes from."""
    expected_at: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseStatus:
    """One case; or a slide that is of none, or a line that means nothing."""

    case: str
    patient: str | None
    state: Coming
    slides: tuple[SlideStatus, ...] = ()
    expected_at: str | None = None
    """By when all of it is there at the latest."""
    reason: str = ""

    @property
    def ready(self) -> int:
        """Slides that are there."""
        return sum(slide.state is Coming.READY for slide in self.slides)

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        document = asdict(self)
        document["slides"] = [asdict(slide) for slide in self.slides]
        return document | {"ready": self.ready}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallStatus:
    """A recall, or the plan of one."""

    name: str
    """Nothing while it is only planned."""
    tier: str
    by: str | None
    cases: tuple[CaseStatus, ...]
    expected_at: str | None = None
    eur_low: float = 0.0
    eur: float = 0.0
    """Of what has to be asked for, when it was planned."""
    eur_high: float = 0.0
    max_eur: float | None = None
    bytes_asked: int = 0
    ways: tuple[str, ...] = ()
    """How objects are asked for."""
    needs_confirmation: bool = False
    """It may cost more than it may: nothing was begun."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is waited for any more."""
        return not any(case.state in (Coming.ON_ITS_WAY, Coming.LATE) for case in self.cases)

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        return {
            "recall": self.name,
            "tier": self.tier,
            "by": self.by,
            "expected_at": self.expected_at,
            "eur": {"low": round(self.eur_low, 4), "central": round(self.eur, 4), "high": round(self.eur_high, 4)},
            "max_eur": self.max_eur,
            "bytes_asked": self.bytes_asked,
            "ways": list(self.ways),
            "needs_confirmation": self.needs_confirmation,
            "slides": sum(len(case.slides) for case in self.cases),
            "ready": sum(case.ready for case in self.cases),
            "cases": [case.to_json() for case in self.cases],
        }


def coming(row: SlideRecall, by: str | None, now: datetime) -> tuple[Coming, str]:
    """Return how a slide of a recall stands, and why where that is to be told."""
    match row.state:
        case RecallState.READY:
            return Coming.READY, ""
        case RecallState.CONFIRM:
            return Coming.CONFIRM, row.error
        case RecallState.FAILED:
            return Coming.FAILED, row.error
        case RecallState.EXPIRED:
            return Coming.EXPIRED, ""
    moment = iso(now)
    if by is not None and (moment > by or (row.expected_at or "") > by):
        return Coming.LATE, row.error
    overdue = row.expected_at is not None and moment > row.expected_at
    return Coming.ON_ITS_WAY, row.error or ("It takes longer than the service states." if overdue else "")


def by_case(slides: Iterable[SlideStatus], found: dict[str, Found]) -> list[CaseStatus]:
    """Return slides as cases, in their order; a slide of no case is one by itself."""
    groups: dict[str, list[SlideStatus]] = {}
    for slide in slides:
        groups.setdefault(slide.case or slide.name, []).append(slide)
    return [_case(case, some, found) for case, some in groups.items()]


def not_found(text: str, problem: str) -> CaseStatus:
    """Return a line that means nothing."""
    reason = "" if problem == str(Coming.NOT_FOUND) else problem
    return CaseStatus(case=text, patient=None, state=Coming.NOT_FOUND, reason=reason)


def _case(case: str, slides: Sequence[SlideStatus], found: dict[str, Found]) -> CaseStatus:
    states = {slide.state for slide in slides}
    patients = sorted({patient for slide in slides if (patient := found[slide.slide].patient)})
    return CaseStatus(
        case=case,
        patient=", ".join(patients) or None,
        state=next(state for state in _WORST if state in states),
        slides=tuple(slides),
        expected_at=max((slide.expected_at for slide in slides if slide.expected_at is not None), default=None),
        reason=next((slide.reason for slide in slides if slide.reason), ""),
    )
