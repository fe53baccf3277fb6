"""Where copies are to be, and the steps there: for one slide.

Millions of slides are in a few hundred situations: this is asked once for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from wsistore.model import Preset
from wsistore.tiers.rules.decisions import Action, Blocked
from wsistore.tiers.rules.values import PlacementRule, Rules


@dataclass(frozen=True, slots=True)
class Situation:
    """How a slide's copies are; those that were recalled for a time are not among them."""

    good: Mapping[str, frozenset[str]]
    """Tiers with a good copy, and the presets of those."""
    suspect: frozenset[str] = frozenset()
    """Tiers with a copy whose last verification failed."""
    charged: frozenset[str] = frozenset()
    """Tiers whose class charges for their copy even if it goes now."""
    held: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do; see `wsistore.tiers.rules.decisions.STEP`."""

    action: Action
    tier: str | None = None
    source: str | None = None
    preset: Preset | None = None

    def to_row(self) -> dict[str, Any]:
        """Return it as a value of the table of decisions."""
        preset = None if self.preset is None else str(self.preset)
        return {"action": str(self.action), "tier": self.tier, "source": self.source, "preset": preset}


@dataclass(slots=True)
class Placed:
    """What is to be done about a slide's copies, and what is not done and why."""

    steps: list[Step] = field(default_factory=list)
    blocked: list[Blocked] = field(default_factory=list)

    def block(self, reason: Blocked, *, when: bool = True) -> None:
        """Note a reason, once."""
        if when and reason not in self.blocked:
            self.blocked.append(reason)


@dataclass(frozen=True, slots=True)
class Site:
    """What the rules know of the site's tiers on one day."""

    rules: Rules
    not_allowed: Mapping[str, str]
    taking_none: Mapping[str, str]

    @classmethod
    def of(cls, rules: Rules, today: date) -> Site:
        """Return it for a day."""
        return cls(rules, rules.not_allowed(today), rules.taking_none(today))

    def copies(self, rule: PlacementRule) -> int:
        """Return how many good copies a rule wants at least."""
        return rule.copies or self.required(rule.tier)

    def required(self, tier: str) -> int:
        """Return how many other good copies have to remain when the one in a tier goes."""
        facts = self.rules.tiers.get(tier)
        return 1 if facts is None else facts.required_copies

    def preset(self, rule: PlacementRule, tier: str) -> Preset | None:
        """Return how a rule wants the copy in a tier; None: nobody says."""
        facts = self.rules.tiers.get(tier)
        return rule.encode or (None if facts is None else facts.preset)

    def is_archive(self, tier: str) -> bool:
        """Return whether what is in a tier has to be restored before it can be read."""
        facts = self.rules.tiers.get(tier)
        return facts is not None and facts.archive


def place(rule: PlacementRule, now: Situation, site: Site) -> Placed:
    """Return the steps that bring a slide's copies to where `rule` wants them."""
    placed = Placed()
    if not now.good:
        placed.block(Blocked.NO_GOOD_COPY, when=bool(now.suspect))
        return placed
    missing = [tier for tier in rule.tiers if tier not in now.good and tier not in now.suspect]
    bring = [tier for tier in missing if tier not in site.taking_none]
    settled = len(bring) == len(missing) and not any(tier in site.not_allowed for tier in rule.tiers)
    placed.block(Blocked.TIER_NOT_ALLOWED, when=not settled)
    free, waiting = _leaving(rule, now, site, placed, named=len(bring) + _named(rule, now), settled=settled)
    _bring(rule, bring, free, waiting if not _urgent(rule, now, site, bring) else [], site, placed)
    _encode(rule, now, site, placed)
    placed.steps += [Step(Action.DROP_COPY, tier) for tier in free]
    return placed


def _named(rule: PlacementRule, now: Situation) -> int:
    """Return how many of the tiers that a rule names have a good copy."""
    return sum(tier in now.good for tier in rule.tiers)


def _leaving(
    rule: PlacementRule, now: Situation, site: Site, placed: Placed, *, named: int, settled: bool
) -> tuple[list[str], list[str]]:
    """Return the tiers whose copies may go, and those whose copies are to go but have to wait."""
    others = sorted(tier for tier in now.good if tier not in rule.tiers)
    wanted = site.copies(rule)
    # Movers drop no copy before its own tier's settings are content with how many remain.
    needed = max([wanted, *(site.required(tier) for tier in others)])
    placed.block(
        Blocked.TOO_FEW_COPIES, when=named + len(others) < wanted or (bool(others) and wanted < needed > named)
    )
    # What is paid for anyway stays first.
    staying = sorted(others, key=lambda tier: tier not in now.charged)[: max(0, needed - named)]
    leaving = [tier for tier in others if tier not in staying] if settled else []
    waiting = [tier for tier in leaving if now.held or tier in now.charged]
    placed.block(Blocked.HELD, when=now.held and bool(waiting))
    placed.block(Blocked.STILL_CHARGED, when=not now.held and bool(waiting))
    return [tier for tier in leaving if tier not in waiting], waiting


def _urgent(rule: PlacementRule, now: Situation, site: Site, bring: list[str]) -> bool:
    """Return whether a copy has to come even though the one that it is to replace cannot go yet.

    It has, where copies are too few, and where the slide is to be readable and is not.
    """
    too_few = len(now.good) < site.copies(rule)
    wakes = rule.tier in bring and not site.is_archive(rule.tier) and all(map(site.is_archive, now.good))
    return too_few or wakes


def _bring(
    rule: PlacementRule, bring: list[str], free: list[str], waiting: list[str], site: Site, placed: Placed
) -> None:
    """Add the steps that make the missing copies; takes those that a move drops out of `free`."""
    replaced = list(waiting)
    for tier in bring:
        preset = site.preset(rule, tier)
        if free:
            placed.steps.append(Step(Action.MOVE, tier, free.pop(0), preset))
        elif replaced:
            # Two copies would cost more than one: it comes when the other one may go.
            replaced.pop(0)
        else:
            placed.steps.append(Step(Action.COPY, tier, None, preset))


def _encode(rule: PlacementRule, now: Situation, site: Site, placed: Placed) -> None:
    """Add the steps that encode anew what stays where it is."""
    for tier in rule.tiers:
        preset = site.preset(rule, tier)
        if tier not in now.good or preset is None or str(preset) in now.good[tier] or tier in site.taking_none:
            continue
        placed.block(Blocked.HELD, when=now.held)
        placed.block(Blocked.STILL_CHARGED, when=not now.held and tier in now.charged)
        if not now.held and tier not in now.charged:
            placed.steps.append(Step(Action.REENCODE, tier, None, preset))
