"""Whether a tier may be given one more copy: it is open, and has room for it. Asked before anything is written."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from wsistore.catalog.usage import Usage, usage_by_tier
from wsistore.errors import FullError, Kind, SiteError
from wsistore.ops.site import Site
from wsistore.units import format_bytes


def check_open(site: Site, tier: str) -> None:
    """Refuse a tier that takes no new copies.

    Raises
    ------
    SiteError
        If its hosting certificate has ended, or its settings close it (`Kind.TIER_CLOSED`).

    """
    why = site.tier_settings(tier).why_closed(site.clock.now().date())
    if why:
        remedy = "Choose another tier, or bring 'hds_certificate' or 'closed' in wsistore.toml up to date; "
        remedy += "what is there can be read, verified, restored, moved away and dropped."
        msg = f"{why} It takes no new copies."
        raise SiteError(msg, kind=Kind.TIER_CLOSED, remedy=remedy)


class Room:
    """Room in a tier for one copy: taken before the first byte is written, kept until the block ends.

    Parameters
    ----------
    site
        An open site. All threads that use it share the tiers' room; other processes are seen when their copies are
        committed, so that together they may go over a capacity by what they are just writing.
    tier
        Name of the tier.

    """

    def __init__(self, site: Site, tier: str) -> None:
        self.warnings: tuple[str, ...] = ()
        """What is to be said, if it was taken: that the tier is over its high watermark."""
        self._site, self._tier = site, tier

    def take(self, what: str, bytes_needed: int) -> None:
        """Take room for `what` (words for a message), of `bytes_needed` at most.

        Raises
        ------
        SiteError
            If the tier takes no new copies (`Kind.TIER_CLOSED`).
        FullError
            If it would hold more than its capacity (`Kind.CAPACITY_EXCEEDED`).

        """
        check_open(self._site, self._tier)
        settings = self._site.tier_settings(self._tier)
        capacity = settings.capacity_bytes
        if capacity is None:
            return
        used, fits = self._site.reservations.take(
            self._tier,
            bytes_needed,
            capacity,
            by=self,
            now=self._site.clock.monotonic_seconds(),
            ask=lambda: usage_by_tier(self._site.catalog).get(self._tier, Usage()).bytes_stored,
        )
        if not fits:
            msg = f"{what} needs up to {format_bytes(bytes_needed)} in tier {self._tier}, which has "
            msg += f"{format_bytes(max(0, capacity - used))} left of its capacity of {format_bytes(capacity)}."
            remedy = "Move or drop slides there, or raise 'capacity' in wsistore.toml if there is more."
            raise FullError(msg, kind=Kind.CAPACITY_EXCEEDED, remedy=remedy)
        fill = (used + bytes_needed) / capacity
        if fill > settings.high_watermark:
            mark, low = settings.high_watermark, settings.low_watermark
            said = f"Tier {self._tier} gets {fill:.0%} full, above its high watermark of {mark:.0%}"
            self.warnings = (f"{said}: relieve it to {low:.0%}.",)

    def __enter__(self) -> Self:
        """Return it; nothing is taken yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what was taken; what was written counts from here on by the catalogue."""
        self._site.reservations.give_back(self._tier, by=self, is_written=error is None)
