"""Whether catalogue and tiers tell the same: every ledger read, proven, and compared with the catalogue's chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wsistore.errors import WsistoreError
from wsistore.events import Event
from wsistore.ops.gathering import LedgerProof, gather_ledger
from wsistore.ops.results import Failure
from wsistore.ops.signing import known_keys
from wsistore.ops.site import Site


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """What the ledger of a tier proves."""

    tier: str
    proof: LedgerProof | None
    """None if the tier has no ledger, or could not be read."""
    waiting: int
    """Slides of which the tier was not told the latest yet."""
    problems: tuple[str, ...]
    error: Failure | None = None
    """Why the tier could not be read."""


def check_ledgers(site: Site, tiers: Sequence[str] = ()) -> Iterator[LedgerCheck]:
    """Read the ledgers of tiers (by default of all), and compare them with the catalogue.

    A catalogue that was altered, or put back from an old backup, does not have the events that the tiers were told of.
    """
    known = known_keys(site.settings)
    for name in tiers or [tier.name for tier in site.settings.tiers]:
        try:
            found = gather_ledger(name, site.tier_settings(name).id, site.tier(name), known)
        except WsistoreError as error:
            yield LedgerCheck(name, None, 0, (), Failure.of(error))
            continue
        problems = list(found.problems)
        waiting = 0
        for slide, told in sorted(found.events.items()):
            mine = {event.number: event for event in site.catalog.events(slide)}
            problems += _differences(slide, told, mine, name)
            waiting += max(mine, default=0) > max(told)
        waiting += len({row.slide for row in site.catalog.slides()} - found.events.keys())
        yield LedgerCheck(name, found.proof, waiting, tuple(problems))


def _differences(slide: str, told: dict[int, Event], mine: dict[int, Event], tier: str) -> Iterator[str]:
    missing = sorted(told.keys() - mine.keys())
    if missing:
        yield f"slide {slide}: the catalogue lacks events {missing[0]} to {missing[-1]} that tier {tier} was told of"
    other = sorted(number for number in told.keys() & mine.keys() if told[number].hash != mine[number].hash)
    if other:
        yield f"slide {slide}, event {other[0]}: is another one in the catalogue than the one that tier {tier} was told"
