"""What a recall would fetch, by which way, by when and at what price: from the catalogue and price lists alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock

from wsistore.catalog import recalls
from wsistore.catalog.recalls import CopyLine, Found
from wsistore.errors import WsistoreError
from wsistore.model import Evidence
from wsistore.ops.early import prices_of
from wsistore.ops.freezing import archive_class
from wsistore.ops.recall_lists import Line
from wsistore.ops.site import Site
from wsistore.settings import TierSettings
from wsistore.storage.archive import Retrieval, archive_of
from wsistore.storage.tape import TAPE
from wsistore.tiers.expected_cost import Range
from wsistore.tiers.prices import Mark, Prices
from wsistore.tiers.retrievals import RetrievalOption, cheapest_by, retrievals

COPIED_BYTES_PER_SECOND = 25e6
"""At which slides are taken to arrive once they can be read: slow, for it counts against a deadline."""
UNKNOWN_SECONDS = 48 * 3600.0
"""Of a way back that no price list of the site knows, as of a tape library: as long as the slowest that is sold."""

_NO_COPY = "No copy of it is good: 'wsistore verify' and 'wsistore scrub' tell more."


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidePlan:
    """What becomes of one slide."""

    slide: str
    name: str
    case: str | None
    patient: str | None
    copy: CopyLine | None
    """The copy that can be read, or is to be asked for; None if there is none."""
    option: RetrievalOption | None = None
    """How it is asked for; None if nothing needs to be."""
    expected_at: datetime | None = None
    """By when it is there at the latest; None if it is there, or never will be."""
    error: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether it can be read at once."""
        return self.copy is not None and self.option is None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan:
    """What a line of the list means."""

    line: Line
    slides: tuple[str, ...] = ()
    problem: str = ""
    """Why it means nothing, or nothing sure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallPlan:
    """All of it."""

    lines: tuple[LinePlan, ...]
    slides: tuple[SlidePlan, ...]
    tier: str
    by: datetime | None
    keep: timedelta

    @property
    def asked(self) -> tuple[SlidePlan, ...]:
        """Slides that have to be asked for."""
        return tuple(one for one in self.slides if one.option is not None)

    @property
    def eur(self) -> Range:
        """What asking for them costs."""
        return sum((one.option.eur for one in self.slides if one.option is not None), Range(0.0, 0.0, 0.0))

    @property
    def bytes_asked(self) -> int:
        """Size of what has to be asked for."""
        return sum(one.copy.bytes_stored for one in self.asked if one.copy is not None)

    @property
    def expected_at(self) -> datetime | None:
        """By when all of them are there at the latest; None if they are."""
        return max((one.expected_at for one in self.slides if one.expected_at is not None), default=None)


def plan(
    site: Site, lines: Sequence[Line], *, by: datetime | None, tier: str, keep: timedelta, now: datetime
) -> RecallPlan:
    """Say what a recall would do; no object is asked for anything.

    Parameters
    ----------
    site
        An open site.
    lines
        Slides, cases and patients.
    by
        When they are needed.
    tier
        Where what has to be asked for is to come.
    keep
        For how long it stays there.
    now
        When it would be asked for.

    Raises
    ------
    SiteError
        If prices that a tier names are not there, or the catalogue fails.

    """
    meant = recalls.slides_meant(site.catalog, (cell for line in lines for cell in line.cells))
    explained = tuple(_explained(site, line, meant) for line in _without_header(lines, meant))
    found = {one.slide: one for words in meant.values() for group in words.values() for one in group}
    wanted = list(dict.fromkeys(slide for line in explained for slide in line.slides))
    missing = [slide for slide in wanted if slide not in found]
    found |= recalls.found_slides(site.catalog, missing)
    copies = recalls.copies_of(site.catalog, wanted)
    ways = Ways(site, tier)
    slides = [choose(ways, found[slide], copies.get(slide, ()), by, now) for slide in wanted]
    return RecallPlan(lines=explained, slides=tuple(_in_a_row(slides)), tier=tier, by=by, keep=keep)


# --- which slides -----------------------------------------------------------------------------------------------------


def _without_header(lines: Sequence[Line], meant: Mapping[str, object]) -> Sequence[Line]:
    if lines and lines[0].is_header and not any(cell in meant for cell in lines[0].cells):
        return lines[1:]
    return lines


def _explained(site: Site, line: Line, meant: Mapping[str, Mapping[str, Sequence[Found]]]) -> LinePlan:
    """Return the slides that all cells of a line agree on."""
    sets: list[set[str]] = []
    for cell in line.cells:
        kinds = [{one.slide for one in found} for found in meant.get(cell, {}).values()]
        if not kinds:
            continue
        least = min(kinds, key=len)
        if any(not least <= other for other in kinds):
            return LinePlan(line=line, problem=f"{cell!r} is the number of a case and of another patient.")
        sets.append(least)
    if not sets:
        return _by_key(site, line)
    agreed = set.intersection(*sets)
    if not agreed:
        return LinePlan(line=line, problem="Its numbers belong to different patients or cases.")
    order = [one.slide for cell in line.cells for found in meant.get(cell, {}).values() for one in found]
    return LinePlan(line=line, slides=tuple(dict.fromkeys(slide for slide in order if slide in agreed)))


def _by_key(site: Site, line: Line) -> LinePlan:
    """Take a line of one word for the beginning of a slide's key."""
    if len(line.cells) == 1:
        try:
            return LinePlan(line=line, slides=(site.catalog.resolve(line.cells[0]),))
        except WsistoreError:
            pass
    return LinePlan(line=line, problem="not found")


# --- by which way -----------------------------------------------------------------------------------------------------


class Ways:
    """The ways back from the tiers of a site.

    Parameters
    ----------
    site
        An open site.
    target
        The tier that slides come to.

    """

    def __init__(self, site: Site, target: str) -> None:
        self._site, self._target = site, site.tier_settings(target)
        self._tiers = {tier.name: tier for tier in site.settings.tiers}
        self._prices: dict[str, Prices] = {}
        self._offered: dict[str, tuple[Retrieval, ...] | None] = {}
        self._refused: set[tuple[str, Retrieval]] = set()
        self.pricing = Lock()
        """Held from the look at a recall's cost until what is asked for was added to it."""

    def refuse(self, tier: str, way: Retrieval) -> None:
        """Note that a tier has no room for a way back now: the others are what there is."""
        self._refused.add((tier, way))

    def is_refused(self, tier: str, way: str) -> bool:
        """Say whether a tier was noted to have no room for a way back now."""
        return any(refused == (tier, way) for refused in self._refused)

    def is_read_at_once(self, copy: CopyLine) -> bool:
        """Say whether a copy lies where everything can be read at once."""
        tier = self._tiers.get(copy.tier)
        return tier is not None and tier.archive is None and copy.evidence is Evidence.READ_BACK

    def options(self, copy: CopyLine) -> list[RetrievalOption]:
        """Return the ways back for a copy, the cheapest first; none if its tier is none of the site's."""
        return [one for one in self._all_options(copy) if (copy.tier, one.retrieval) not in self._refused]

    def is_worth_waiting(self, copy: CopyLine, seconds: float | None) -> bool:
        """Say whether only a way that was refused would be fast enough, so that it is better tried again.

        Another way that is typically fast enough is not waited with: each hour makes it later.
        """
        if seconds is None or not self._refused:
            return False
        others = self.options(copy)
        if any(one.typical_seconds <= seconds for one in others):
            return False
        return any(one.most_seconds <= seconds for one in self._all_options(copy) if one not in others)

    def _all_options(self, copy: CopyLine) -> list[RetrievalOption]:
        tier = self._tiers.get(copy.tier)
        if tier is None:
            return []
        prices = self._prices_of(tier)
        days = 7 if tier.archive is None else tier.archive.restore_days
        objects = max(1, copy.objects - 1)  # the commit is readable
        leaves = (tier.scheme, tier.endpoint, tier.region) != (
            self._target.scheme,
            self._target.endpoint,
            self._target.region,
        )
        found = retrievals(prices, copy.bytes_stored, objects, days=days, leaves=leaves)
        offered = self._offered_by(tier)
        chosen = [option for option in found if offered is None or option.retrieval in offered]
        if not chosen:
            chosen = [_unpriced(way) for way in offered or (Retrieval.STANDARD,)]
        speed = 1.0 if tier.archive is None or tier.archive.simulated_speed is None else tier.archive.simulated_speed
        return [
            replace(one, typical_seconds=one.typical_seconds / speed, most_seconds=one.most_seconds / speed)
            for one in chosen
        ]

    def option(self, copy: CopyLine, seconds: float | None) -> RetrievalOption | None:
        """Return the way that is taken: the cheapest that is fast enough, else the fastest there is.

        Where nothing is pressing, the one that the tier's settings name, else the cheapest.
        """
        options = self.options(copy)
        if seconds is not None:
            fastest = min(options, key=lambda option: (option.most_seconds, option.eur.central), default=None)
            return cheapest_by(options, seconds) or fastest
        archive = self._tiers[copy.tier].archive if copy.tier in self._tiers else None
        named = [one for one in options if archive is not None and one.retrieval == archive.retrieval]
        return next(iter(named or options), None)

    def _prices_of(self, tier: TierSettings) -> Prices:
        if tier.name not in self._prices:
            self._prices[tier.name] = prices_of(self._site, tier)
        return self._prices[tier.name]

    def _offered_by(self, tier: TierSettings) -> tuple[Retrieval, ...] | None:
        """Return the ways that the tier itself has, which may be fewer than its price list; None if it cannot say."""
        if tier.name not in self._offered:
            try:
                archive = archive_of(self._site.tier(tier.name))
            except WsistoreError:
                archive = None
            name = archive_class(tier) or (TAPE if tier.archive is not None and tier.archive.tape is not None else "")
            self._offered[tier.name] = None if archive is None else archive.retrievals(name or None) or None
        return self._offered[tier.name]


def choose(ways: Ways, slide: Found, copies: Iterable[CopyLine], by: datetime | None, now: datetime) -> SlidePlan:
    """Say what becomes of a slide: it is ready where a copy can be read at once, else one is asked for."""
    named = SlidePlan(slide=slide.slide, name=slide.name, case=slide.case, patient=slide.patient, copy=None)
    copies = list(copies)
    ready = [copy for copy in copies if ways.is_read_at_once(copy)]
    if ready:
        # Those that stay first, then those that stay longest.
        return replace(named, copy=max(ready, key=lambda copy: (copy.expires_at is None, copy.expires_at or "")))
    found: list[tuple[CopyLine, RetrievalOption, datetime]] = []
    for copy in copies:
        copying = timedelta(seconds=copy.bytes_stored / COPIED_BYTES_PER_SECOND)
        option = ways.option(copy, None if by is None else (by - now - copying).total_seconds())
        if option is not None:
            found.append((copy, option, now + timedelta(seconds=option.most_seconds) + copying))
    if not found:
        return replace(named, error=_NO_COPY)
    copy, option, at = min(found, key=lambda one: (by is not None and one[2] > by, one[1].eur.central, one[2]))
    return replace(named, copy=copy, option=option, expected_at=at)


def _in_a_row(slides: Sequence[SlidePlan]) -> list[SlidePlan]:
    """Let slides that come together arrive one after the other."""
    found, waiting = [], 0.0
    for one in slides:
        if one.expected_at is None or one.copy is None:
            found.append(one)
            continue
        found.append(replace(one, expected_at=one.expected_at + timedelta(seconds=waiting)))
        waiting += one.copy.bytes_stored / COPIED_BYTES_PER_SECOND
    return found


def _unpriced(way: Retrieval) -> RetrievalOption:
    nothing = Range(0.0, 0.0, 0.0)
    return RetrievalOption(way, nothing, nothing, UNKNOWN_SECONDS, UNKNOWN_SECONDS, Mark.ASSUMED)
