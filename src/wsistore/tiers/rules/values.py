"""What a file of rules says, as frozen values. They pickle, so that workers elsewhere can decide by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

from wsistore.catalog.expressions import Expression
from wsistore.errors import InputError, Kind
from wsistore.model import Preset
from wsistore.settings import TierSettings
from wsistore.settings.values import did_you_mean

VERSION = 1
"""Of the file's schema."""


FEED_MAX_AGE = timedelta(days=7)
"""Where a file says nothing: a weekly export that failed once is noticed."""


class Unit(StrEnum):
    """Of a period of the calendar."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Period:
    """So many days, weeks, months or years."""

    count: int
    unit: Unit

    def __str__(self) -> str:
        """As people write it: ``5 years``."""
        return f"{self.count} {self.unit}{'' if self.count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How long slides are kept at least."""

    name: str
    where: Expression | None
    """None: it applies to every slide."""
    keep_until: Expression | None
    """The first day on which it lets a slide go; None: it never does."""
    suspended_by_recourse: bool = False
    replaces: tuple[str, ...] = ()
    """Rules that do not count where this one applies and its day is known."""
    detach: bool = False
    """Whether the slide is parted from its patient when all other rules that apply have ended."""
    review_every: Period | None = None
    line: int = 0
    """Of the file, from 1."""


@dataclass(frozen=True, slots=True)
class PlacementRule:
    """Where slides are to be."""

    name: str
    where: Expression | None
    """None: it is true for every slide."""
    tier: str
    also: tuple[str, ...] = ()
    """Further tiers where a copy must be."""
    encode: Preset | None = None
    """None: as each tier's settings say."""
    copies: int | None = None
    """So many verified copies at least; None: as the tier's settings say."""
    line: int = 0

    @property
    def tiers(self) -> tuple[str, ...]:
        """All tiers that it names, the first one first."""
        return (self.tier, *self.also)


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the day, of the rules' time zone, in which a plan may work. It may span midnight."""

    begins: time
    ends: time

    def contains(self, moment: datetime, zone: tzinfo = UTC) -> bool:
        """Return whether `moment` (timezone-aware) lies in it."""
        now = moment.astimezone(zone).time()
        if self.begins < self.ends:
            return self.begins <= now < self.ends
        return now >= self.begins or now < self.ends

    def __str__(self) -> str:
        """As people write it: ``20:00-06:00``."""
        return f"{self.begins:%H:%M}-{self.ends:%H:%M}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one plan, or one day, may do at most. `decide` does not know of them: plans do."""

    move_bytes_per_day: int | None = None
    window: Window | None = None
    high_watermarks: Mapping[str, float] = field(default_factory=dict)
    """By tier: the part of its capacity, from 0 to 1, up to which plans may fill it; others as their settings say."""
    cost_at_most_eur: float | None = None
    """What applying one plan may cost once."""
    delete_at_most: float = 0.001
    """Part of the catalogue's slides, from 0 to 1, that one plan may delete or part from their patients."""
    move_at_most: float = 0.05
    """The same, of slides that one plan may move, copy, encode anew, or drop copies of."""


@dataclass(frozen=True, slots=True)
class Hosting:
    """What tiers must be to hold the data."""

    certificate: bool = False
    """Whether tiers of another host need a valid hosting certificate (in France: HDS)."""
    own: tuple[str, ...] = ()
    """Tiers that the hospital hosts itself, which need none; those on file systems are anyway."""
    locations: tuple[str, ...] = ()
    """Where the bytes may be; nothing: anywhere. Compared with the tiers' `location`, whatever the case."""

    def refusal(self, name: str, tier: TierFacts, today: date) -> str:
        """Return why the data may not be in a tier on the day `today`, as the end of a sentence; nothing if it may."""
        if self.certificate and tier.remote and name not in self.own:
            if tier.certified_until is None:
                return "its host has no certificate for health data"
            if tier.certified_until < today:
                return f"its host's certificate was valid until {tier.certified_until}"
        if self.locations and tier.location.casefold() not in {place.casefold() for place in self.locations}:
            place = f"is in {tier.location}" if tier.location else "does not say where it is"
            return f"it {place}, and the rules allow {', '.join(self.locations)}"
        return ""


@dataclass(frozen=True, slots=True)
class TierFacts:
    """What rules have to know of a tier."""

    preset: Preset = Preset.KEEP
    required_copies: int = 1
    archive: bool = False
    """Whether what is in it has to be restored before it can be read."""
    remote: bool = False
    """Whether somebody else hosts it."""
    location: str = ""
    certified_until: date | None = None
    """Last day of its host's certificate for health data."""
    closed: str = ""
    """Why it takes no new copies; nothing if it does."""

    def why_closed(self, today: date) -> str:
        """Return why it takes no new copies on the day `today`, as the end of a sentence; nothing if it does."""
        if self.closed:
            return f"it is closed: {self.closed.rstrip('.')}"
        if self.certified_until is not None and self.certified_until < today:
            return f"its host's certificate was valid until {self.certified_until}"
        return ""

    @classmethod
    def of(cls, tier: TierSettings, *, archive: bool | None = None) -> TierFacts:
        """Return what the settings of a tier say.

        Parameters
        ----------
        tier
            The tier's settings.
        archive
            Whether it is one, where the caller asked the tier itself.

        """
        return cls(
            preset=tier.preset,
            required_copies=tier.required_copies,
            archive=tier.archive is not None if archive is None else archive,
            remote=tier.certificate is not None or tier.scheme not in {"file", "memory"},
            location=tier.location,
            certified_until=None if tier.certificate is None else tier.certificate.valid_until,
            closed=tier.closed,
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """All that one file of rules says."""

    name: str
    """Where they were read from, for messages."""
    digest: str
    """SHA-256 of the file's bytes, lower-case hexadecimal."""
    text: str
    """The whole file."""
    about: str = ""
    """What the rules are, for people."""
    sources: tuple[str, ...] = ()
    """Where they come from."""
    retention: tuple[RetentionRule, ...] = ()
    placement: tuple[PlacementRule, ...] = ()
    limits: Limits = Limits()
    hosting: Hosting = Hosting()
    feed_max_age: timedelta = FEED_MAX_AGE
    """Nothing is deleted or detached on dates from an older feed."""
    time_zone: tzinfo = UTC
    """Whose days and hours are meant."""
    tiers: Mapping[str, TierFacts] = field(default_factory=dict)
    """What the site's tiers are; nothing before `bind`."""

    @property
    def bound(self) -> bool:
        """Whether the site's tiers are known."""
        return bool(self.tiers)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table of facts that `decide` needs for these rules; others may be left out."""
        parts = [part for rule in self.retention for part in (rule.where, rule.keep_until)]
        parts += [rule.where for rule in self.placement]
        return tuple(sorted(ALWAYS.union(*(part.names for part in parts if part is not None))))

    def bind(self, tiers: Mapping[str, TierFacts]) -> Rules:
        """Return the rules for a site whose tiers are `tiers`, by name.

        Raises
        ------
        InputError
            If they name a tier that the site does not have (`Kind.RULES_INVALID`).

        """
        named = [(rule.line, f"rule {rule.name!r}", tier) for rule in self.placement for tier in rule.tiers]
        named += [(0, "limits", tier) for tier in self.limits.high_watermarks]
        named += [(0, "hosting", tier) for tier in self.hosting.own]
        for line, what, tier in named:
            if tier not in tiers:
                place = f"{self.name}, line {line}" if line else self.name
                msg = f"{place}: {what} names a tier {tier!r} that the site does not have{did_you_mean(tier, tiers)}."
                remedy = f"Its tiers are: {', '.join(tiers) or 'none'}."
                raise InputError(msg, kind=Kind.RULES_INVALID, remedy=remedy)
        return replace(self, tiers=dict(tiers))

    def not_allowed(self, today: date) -> dict[str, str]:
        """Return why the data may not be in tiers on the day `today`, as ends of sentences; allowed ones are absent."""
        found = {name: self.hosting.refusal(name, tier, today) for name, tier in self.tiers.items()}
        return {name: reason for name, reason in found.items() if reason}

    def taking_none(self, today: date) -> dict[str, str]:
        """Return why tiers take no new copies on the day `today`: those that are not allowed, or closed."""
        found = {name: tier.why_closed(today) for name, tier in self.tiers.items()}
        return {name: reason for name, reason in found.items() if reason} | self.not_allowed(today)

    def day(self, moment: datetime) -> date:
        """Return the day that a moment (timezone-aware) is in the rules' time zone."""
        return moment.astimezone(self.time_zone).date()


ALWAYS = frozenset(
    {"slide", "case_id", "mode", "ingested_at", "feed_as_of", "identity_detached", "holds", "recourse", "copies"}
)
"""Columns that `decide` needs whatever the rules say."""
