"""What hardware of a hospital's own costs per stored byte: purchase, upkeep, staff, space and power over its life."""

from __future__ import annotations

from dataclasses import dataclass, fields

from wsistore.tiers.unit_texts import HOURS_PER_YEAR
from wsistore.tiers.value_files import NOTHING, Kind, Mark, Value

_MONTHS = 12.0
_ORDER = list(Mark)


@dataclass(frozen=True, slots=True)
class Hardware:
    """One storage system, whole. Money without tax."""

    usable_tb: Value
    """What it can hold, redundancy and spare room taken off; charged is what was bought, used or not."""
    purchase: Value
    lifetime_years: Value
    """Over which the purchase is written off."""
    upkeep_per_year: Value = NOTHING
    """Maintenance contract, spare parts, licences."""
    staff_per_year: Value = NOTHING
    space_per_year: Value = NOTHING
    """Rent and upkeep of the room that it takes."""
    watts: Value = NOTHING
    """That the system draws, all of it, before PUE; nothing: reckoned by its medium."""
    per_kwh: Value = NOTHING


HARDWARE_KINDS = {
    "usable_tb": Kind("TB", 0.01, 1e6),
    "purchase": Kind("money", 0.0, 1e9),
    "lifetime_years": Kind("year", 1.0, 30.0),
    "upkeep_per_year": Kind("money/year", 0.0, 1e9),
    "staff_per_year": Kind("money/year", 0.0, 1e9),
    "space_per_year": Kind("money/year", 0.0, 1e9),
    "watts": Kind("W", 0.0, 1e7),
    "per_kwh": Kind("money/kWh", 0.0, 10.0),
}
HARDWARE_KEYS = tuple(one.name for one in fields(Hardware))
HARDWARE_NEEDED = ("usable_tb", "purchase", "lifetime_years")
HARDWARE_MONEY = frozenset({"purchase", "upkeep_per_year", "staff_per_year", "space_per_year", "per_kwh"})


def storage_price(hardware: Hardware, pue: Value) -> Value:
    """Return what a usable TB costs in a month; low has all that is cheap and long-lived at once, high the opposite.

    Parameters
    ----------
    hardware
        The system; its power costs nothing where watts or the price of a kWh are not given.
    pue
        Of its room.

    """

    def at(purchase: float, lifetime: float, running: float, watts: float, usable: float) -> float:
        return (purchase / lifetime + running + watts) / usable / _MONTHS

    one = hardware
    parts = (one.upkeep_per_year, one.staff_per_year, one.space_per_year)
    power = [
        getattr(one.watts, end) / 1000 * HOURS_PER_YEAR * getattr(pue, end) * getattr(one.per_kwh, end)
        for end in ("low", "central", "high")
    ]
    used = (one.purchase, one.lifetime_years, one.usable_tb, *(part for part in (*parts, one.watts) if part.high))
    return Value(
        at(one.purchase.low, one.lifetime_years.high, sum(p.low for p in parts), power[0], one.usable_tb.high),
        at(
            one.purchase.central,
            one.lifetime_years.central,
            sum(p.central for p in parts),
            power[1],
            one.usable_tb.central,
        ),
        at(one.purchase.high, one.lifetime_years.low, sum(p.high for p in parts), power[2], one.usable_tb.low),
        source=f"hardware: {one.purchase.source}",
        mark=max((value.mark for value in used), key=_ORDER.index),
    )


def kwh_per_usable_tb_year(hardware: Hardware) -> Value | None:
    """Return the energy of a usable TB in a year, before PUE; None where the system's power is not known."""
    watts, usable = hardware.watts, hardware.usable_tb
    if not watts.high:
        return None
    low, central, high = (
        power / 1000 * HOURS_PER_YEAR / size
        for power, size in ((watts.low, usable.high), (watts.central, usable.central), (watts.high, usable.low))
    )
    return Value(low, central, high, watts.source, watts.mark)
