"""What a month's page and workbook tell: figures with bands, what changed and why, savings. No words, no layout."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from wsistore.reports.facts import Fact, cost, tax, total
from wsistore.reports.focus import to_cents
from wsistore.reports.kept import Kept
from wsistore.reports.models import Quality
from wsistore.reports.pages.coefficients import Coefficient
from wsistore.reports.periods import Month
from wsistore.reports.row_samples import RowSamples
from wsistore.reports.samples import Band
from wsistore.reports.savings import Saving
from wsistore.reports.usage import What

_CHANGES = 10
_POINTS = 13
_Key = TypeVar("_Key", bound=Hashable)


class Who(NamedTuple):
    """Whom a charge is of."""

    kind: str
    """``department``, ``unknown`` or ``idle`` (own capacity that nobody used)."""
    name: str = ""


UNKNOWN, IDLE = Who("unknown"), Who("idle")


def who(fact: Fact) -> Who:
    """Return whom a fact is of."""
    if fact.meter == What.IDLE:
        return IDLE
    return Who("department", fact.department) if fact.department else UNKNOWN


@dataclass(frozen=True, slots=True)
class Item:
    """Of one tier, one department, or all."""

    key: Any
    """The tier's name, or `Who`."""
    eur: Decimal
    """Without tax, all places."""
    cents: int
    """The same in cents that add up to those of the total."""
    tax: Decimal
    bytes_stored: float
    bytes_logical: float
    copies: float
    eur_band: Band
    kwh: Band
    operational_g: Band
    embodied_g: Band
    gco2e: Band
    before: Decimal | None
    """The month before, without tax; None where that was not reported."""
    gco2e_before: float | None
    change: Band | None
    """EUR; of the difference to the month before, by the same draws in both."""


@dataclass(frozen=True, slots=True)
class Change:
    """What changed of one tier's charges to one department, and why. EUR without tax."""

    tier: str
    who: Who
    before: Decimal
    now: Decimal
    volume: float
    """Of more or fewer bytes, at the old price."""
    price: float
    """Of another price, for the new bytes."""
    activity: Mapping[str, float]
    """By kind of usage, of all that is not storage."""
    bytes_before: float
    bytes_now: float
    gco2e: float

    @property
    def difference(self) -> Decimal:
        """Now less before."""
        return self.now - self.before


@dataclass(frozen=True, slots=True)
class Point:
    """One month among others."""

    month: Month
    eur: Decimal
    eur_band: Band
    tiers: Mapping[str, Decimal]
    operational_g: float
    embodied_g: float
    gco2e: Band
    bytes_stored: float
    is_corrected: bool
    """Whether rows of correction are in it."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What was booked in the month of another month's usage."""

    month: Month
    tier: str
    eur: Decimal


@dataclass(frozen=True, slots=True)
class Compared:
    """What was invoiced for a tier, beside what is modelled; the two are never added."""

    issuer: str
    tier: str
    meter: str
    invoiced: Decimal
    modelled: Decimal
    is_alert: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Of one month."""

    site: str
    month: Month
    before: Month | None
    """The month that it is compared with; None where that was not reported."""
    closed_at: str | None
    is_over: bool
    created: str
    method: str
    focus: str
    total: Item
    tiers: Sequence[Item]
    departments: Sequence[Item]
    points: Sequence[Point]
    """The month and those before it that were reported, the last one last."""
    changes: Sequence[Change]
    more_changes: int
    """That are smaller than those in `changes`."""
    kept: Kept
    sci: Band | None
    """gCO2e per slide and month."""
    savings: Sequence[Saving]
    quality: Mapping[str, Decimal]
    """EUR by the quality of the price."""
    unexplained: Mapping[str, float]
    """By tier; empty where the tiers were not looked at."""
    corrections: Sequence[Correction]
    compared: Sequence[Compared]
    coefficients: Sequence[Coefficient]
    providers: Mapping[str, tuple[str, str]]
    """By tier: its price list's title, and who charges for it (nothing: the site itself)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a report says of itself, and what is not in its rows."""

    site: str
    closed_at: str | None
    created: str
    is_over: bool
    method: str
    focus: str
    unexplained: Mapping[str, float]
    compared: Sequence[Compared] = ()


def content(
    facts: Sequence[Fact],
    month: Month,
    samples: RowSamples,
    kept: Kept,
    about: About,
    saved: Sequence[Saving],
    listed: Sequence[Coefficient],
) -> Content:
    """Return what is to be told of a month.

    Parameters
    ----------
    facts
        Of the month and of months before it; of the month itself, what is known today.
    month
        The month.
    samples
        Of the facts, for bands.
    kept
        Slides and bytes that were kept.
    about
        What the report says of itself.
    saved
        Savings of the month.
    listed
        Prices and coefficients.

    """
    mine = [fact for fact in facts if fact.month == month]
    previous = _previous(month)
    prior = [fact for fact in facts if fact.month == previous]
    build = _Items(samples, mine, prior)
    changes = _changes(mine, prior) if prior else []
    (whole,) = build.items(lambda _: "", [""])
    return Content(
        site=about.site,
        month=month,
        before=previous if prior else None,
        closed_at=about.closed_at,
        is_over=about.is_over,
        created=about.created,
        method=about.method,
        focus=about.focus,
        total=whole,
        tiers=build.items(lambda fact: fact.tier),
        departments=build.items(who),
        points=[_point([f for f in facts if f.month == one], one, samples) for one in _months(facts, month)],
        changes=changes[:_CHANGES],
        more_changes=max(len(changes) - _CHANGES, 0),
        kept=kept,
        sci=None if kept.slides <= 0 else whole.gco2e.times(1 / kept.slides),
        savings=saved,
        quality=_quality(mine),
        unexplained=about.unexplained,
        corrections=_corrections(facts, month),
        compared=about.compared,
        coefficients=listed,
        providers={name: (one.prices.title, one.tier.provider) for name, one in sorted(samples.costs.items())},
    )


def _previous(month: Month) -> Month:
    return Month(month.year - (month.number == 1), (month.number - 2) % 12 + 1, month.zone)


def _months(facts: Iterable[Fact], last: Month) -> list[Month]:
    found = {fact.month for fact in facts if fact.month.begins <= last.begins} | {last}
    return sorted(found, key=lambda month: month.begins)[-_POINTS:]


class _Items:
    """Makes items of the facts of a month and of the month before."""

    def __init__(self, samples: RowSamples, mine: Sequence[Fact], prior: Sequence[Fact]) -> None:
        self.samples, self.mine, self.prior = samples, mine, prior

    def items(self, key: Callable[[Fact], Hashable], keys: Sequence[Hashable] = ()) -> list[Item]:
        """Return one item per key, in the order of what they cost now."""
        now, before = _by(self.mine, key), _by(self.prior, key)
        names = sorted({*keys, *now, *before}, key=lambda name: (-cost(now.get(name, [])), repr(name)))
        cents = to_cents([cost(now.get(name, [])) for name in names])
        return [
            self._item(name, now.get(name, []), before.get(name, []), mine)
            for name, mine in zip(names, cents, strict=True)
        ]

    def _item(self, name: Hashable, now: Sequence[Fact], before: Sequence[Fact], cents: int) -> Item:
        found, old = self.samples.totals(now), self.samples.totals(before)
        has_before = bool(self.prior)
        return Item(
            key=name,
            eur=cost(now),
            cents=cents,
            tax=tax(now),
            bytes_stored=total(now, "bytes_stored"),
            bytes_logical=total(now, "bytes_logical"),
            copies=total(now, "copies"),
            eur_band=found.eur.band,
            kwh=found.kwh.band,
            operational_g=found.operational_g.band,
            embodied_g=found.embodied_g.band,
            gco2e=found.gco2e.band,
            before=cost(before) if has_before else None,
            gco2e_before=total(before, "gco2e") if has_before else None,
            change=(found.eur - old.eur).band if has_before else None,
        )


def _by(facts: Iterable[Fact], key: Callable[[Fact], _Key]) -> dict[_Key, list[Fact]]:
    found: dict[_Key, list[Fact]] = {}
    for fact in facts:
        found.setdefault(key(fact), []).append(fact)
    return found


def _changes(mine: Iterable[Fact], prior: Iterable[Fact]) -> list[Change]:
    """Return what changed, the largest first; what came out the same to the tenth of a cent is left out."""

    def key(fact: Fact) -> tuple[str, Who]:
        return fact.tier, who(fact)

    now, before = _by((f for f in mine if not f.is_tax), key), _by((f for f in prior if not f.is_tax), key)
    found = [_change(*name, before.get(name, []), now.get(name, [])) for name in {*now, *before}]
    told = [one for one in found if abs(one.difference) >= Decimal("0.001")]
    return sorted(told, key=lambda one: (-abs(one.difference), one.tier, one.who))


def _change(tier: str, whom: Who, before: Sequence[Fact], now: Sequence[Fact]) -> Change:
    stored = [[fact for fact in facts if fact.meter == What.STORAGE] for facts in (before, now)]
    (old_eur, new_eur), (old, new) = (
        [total(facts, "eur") for facts in stored],
        [total(facts, "quantity") for facts in stored],
    )
    price = old_eur / old if old > 0 else (new_eur / new if new > 0 else 0.0)
    volume = (new - old) * price
    meters = sorted({fact.meter for fact in (*before, *now)} - {str(What.STORAGE)})
    activity = {
        meter: total((f for f in now if f.meter == meter), "eur")
        - total((f for f in before if f.meter == meter), "eur")
        for meter in meters
    }
    return Change(
        tier=tier,
        who=whom,
        before=cost(before),
        now=cost(now),
        volume=volume,
        price=new_eur - old_eur - volume,
        activity=activity,
        bytes_before=total(before, "bytes_stored"),
        bytes_now=total(now, "bytes_stored"),
        gco2e=total(now, "gco2e") - total(before, "gco2e"),
    )


def _point(facts: Sequence[Fact], month: Month, samples: RowSamples) -> Point:
    found = samples.totals(facts)
    return Point(
        month=month,
        eur=cost(facts),
        eur_band=found.eur.band,
        tiers={str(name): cost(mine) for name, mine in _by(facts, lambda fact: fact.tier).items()},
        operational_g=total(facts, "operational_g"),
        embodied_g=total(facts, "embodied_g"),
        gco2e=found.gco2e.band,
        bytes_stored=total(facts, "bytes_stored"),
        is_corrected=any(fact.is_correction for fact in facts),
    )


def _quality(facts: Iterable[Fact]) -> dict[str, Decimal]:
    parts = _by((fact for fact in facts if not fact.is_tax), lambda fact: fact.quality)
    return {str(one): cost(parts[str(one)]) for one in Quality if str(one) in parts}


def _corrections(facts: Iterable[Fact], month: Month) -> list[Correction]:
    mine = [fact for fact in facts if fact.is_correction and fact.billed == month and not fact.is_tax]
    found = _by(mine, lambda fact: (fact.month.begins, fact.tier))
    return [Correction(group[0].month, group[0].tier, cost(group)) for _, group in sorted(found.items(), key=repr)]
