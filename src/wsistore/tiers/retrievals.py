"""Ways back from an archive, with what each costs and how long it takes: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wsistore.storage.archive import Retrieval
from wsistore.tiers.expected_cost import RESTORED_DAYS, Range, restore_eur
from wsistore.tiers.prices import Mark, Prices, Value

_HOUR = 3600.0
_GB = 1e9
_ORDER = list(Mark)
"""From the surest mark to the least sure."""


@dataclass(frozen=True, slots=True)
class RetrievalOption:
    """One way back for certain objects."""

    retrieval: Retrieval
    restore_eur: Range
    """The service's fee, and that of the copies while they are kept."""
    egress_eur: Range
    """The network's fee, if the bytes then leave the service."""
    typical_seconds: float
    most_seconds: float
    """As the service states, from asking to reading."""
    mark: Mark
    """Of the least sure of the prices and times that this rests on."""

    @property
    def eur(self) -> Range:
        """Both fees together."""
        return self.restore_eur + self.egress_eur


def retrievals(
    prices: Prices, size_bytes: int, objects: int, *, days: float = RESTORED_DAYS, leaves: bool = True
) -> tuple[RetrievalOption, ...]:
    """Return the ways back, the cheapest first and of equally cheap ones the fastest.

    Parameters
    ----------
    prices
        Of the tier; one whose objects are read at once has no ways back, and none are needed.
    size_bytes, objects
        Of all that is to come back.
    days
        For which the copies are to stay readable.
    leaves
        Whether the bytes are then read from outside the service, as they are for another tier elsewhere.

    Raises
    ------
    ValueError
        If bytes, objects or days are negative.

    """
    if size_bytes < 0 or objects < 0 or days < 0:
        msg = f"{size_bytes} bytes in {objects} objects cannot be kept for {days} days"
        raise ValueError(msg)
    egress = Range.of(prices.egress_per_gb) * (size_bytes / _GB if leaves else 0.0)
    options = []
    for way in prices.retrievals:
        rests_on: list[Value] = [way.hours, way.per_gb, way.per_1000]
        options.append(
            RetrievalOption(
                retrieval=way.retrieval,
                restore_eur=restore_eur(way, prices, size_bytes, objects, days),
                egress_eur=egress,
                typical_seconds=way.hours.central * _HOUR,
                most_seconds=way.hours.high * _HOUR,
                mark=max((value.mark for value in rests_on if value.high or value.mark is not Mark.ASSUMED), key=_sure),
            )
        )
    return tuple(sorted(options, key=lambda option: (option.eur.central, option.most_seconds)))


def cheapest_by(options: Iterable[RetrievalOption], seconds: float) -> RetrievalOption | None:
    """Return the cheapest way whose stated longest time is at most `seconds`; None if no way is so fast."""
    fast = [option for option in options if option.most_seconds <= seconds]
    return min(fast, key=lambda option: (option.eur.central, option.most_seconds), default=None)


def _sure(mark: Mark) -> int:
    return _ORDER.index(mark)
