"""What moves and folds saved in a month, against two other ways of keeping the same slides.

Three kinds of savings are kept apart, and are never added: what is *allocated* less (by the price lists, which charge
own hardware by the byte), what *cash* is paid less in the month (only of tiers that somebody else charges for), and
which *purchase* of own hardware is put off (a sum at one moment, not per month). The band of each is that of the
difference: coefficients that both sides share cancel out, draw by draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from wsistore.reports.facts import Fact, total
from wsistore.reports.kept import Kept
from wsistore.reports.models import TierCosts, Totals
from wsistore.reports.periods import US_PER_YEAR, Month
from wsistore.reports.row_samples import RowSamples
from wsistore.reports.samples import Band, Sample
from wsistore.reports.terms import FILE_NAME
from wsistore.reports.usage import What
from wsistore.tiers.value_files import Kind, Mark, Value, ValueReader, own_text, parsed

_TB = 1e12
_KILO = 1000.0
_KINDS = {"zarr_per_vendor_byte": Kind("1", 0.1, 100.0)}
ZARR_PER_VENDOR_BYTE = Value(
    1.0,
    1.0,
    4.0,
    "tiles kept as JPEG take the vendor's bytes again (central, cautious); users meet 4 times (NKI-AI/fastslide#16) to "
    "10 times (ome/ngff index.md) where tiles are decoded",
    Mark.ASSUMED,
)
"""Bytes of a Zarr store that is made beside the vendor's file, per byte of that file."""


class Against(StrEnum):
    """What is compared with. Members are added, never renamed."""

    ALL_HOT = "all-hot"
    """One copy of each vendor's file in the first tier, and nothing else: no moves, no folds, no second copies."""
    BESIDE = "file-and-zarr"
    """The same copies in the same tiers, each of the vendor's file and of a Zarr store beside it."""


class StepName(StrEnum):
    """What makes up a difference. Members are added, never renamed."""

    MOVES = "moves"
    FOLDS = "folds"
    COPIES = "copies"
    """More copies than one per slide: they cost more."""
    DOING = "doing"
    """Requests, reading, retrievals, encoding, least times: charged to us alone."""
    ONE = "one-store"
    """The store is the file: it is not kept twice."""


@dataclass(frozen=True, slots=True)
class Step:
    """A part of what was saved; negative where it cost more."""

    name: StepName
    eur: Band
    kwh: Band
    gco2e: Band


@dataclass(frozen=True, slots=True)
class Purchase:
    """Own hardware that need not be bought."""

    tb: float
    """Usable TB fewer, on average over the month; negative: more."""
    beyond_tb: float | None = None
    """Of these what would not have fitted into what is installed: that purchase was put off. None: not known."""
    installed_tb: float | None = None
    eur: Band | None = None
    """Of `beyond_tb`, at what the hardware was bought for per usable TB; None where no own tier tells its hardware."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Against one other way."""

    against: Against
    baseline_eur: Band
    baseline_gco2e: Band
    actual_eur: Band
    """Of the month, without tax and without own capacity that nobody used."""
    actual_gco2e: Band
    steps: Sequence[Step]
    allocated_eur: Band
    allocated_kwh: Band
    allocated_gco2e: Band
    cash_eur: Band
    purchase: Purchase


@dataclass(frozen=True, slots=True)
class _Tier:
    """What lay in one tier, in TB on average over the month, and what a TB costs there."""

    costs: TierCosts
    logical: float
    stored: float
    billed: float
    eur: Sample
    """Per billed TB."""
    kwh: Sample
    """Per stored TB."""
    gco2e: Sample


@dataclass(frozen=True, slots=True)
class Spent:
    """Money, energy and carbon of a difference."""

    eur: Sample
    kwh: Sample
    gco2e: Sample

    def __add__(self, other: Spent) -> Spent:
        """Add each of the three."""
        return Spent(self.eur + other.eur, self.kwh + other.kwh, self.gco2e + other.gco2e)


def read_zarr_ratio(folder: Path) -> Value:
    """Return the bytes of a Zarr store per byte of the vendor's file that a site reckons with.

    Raises
    ------
    SiteError
        If what the ``[savings]`` of its reports.toml says is wrong.

    """
    path = folder / FILE_NAME
    if not path.exists():
        return ZARR_PER_VENDOR_BYTE
    table = parsed(str(path), own_text(path, FILE_NAME)).get("savings", {})
    reader = ValueReader(str(path), _KINDS, "Mend the file; docs/reports.md lists its keys.")
    if not isinstance(table, dict):
        raise reader.wrong(table, "a table, written as [savings.zarr_per_vendor_byte]", "savings")
    reader.known(table, "savings", tuple(_KINDS))
    if not table:
        return ZARR_PER_VENDOR_BYTE
    key = "savings.zarr_per_vendor_byte"
    return reader.value({key: table["zarr_per_vendor_byte"]}, key)


def savings(
    facts: Sequence[Fact], kept: Kept, month: Month, samples: RowSamples, first: str, zarr_ratio: Value
) -> list[Saving]:
    """Return what was saved in a month, against each other way; none where nothing was kept.

    Parameters
    ----------
    facts
        Of the month.
    kept
        Slides and bytes that were kept in it.
    month
        The month.
    samples
        Of the facts.
    first
        The tier that slides are taken into: the hot one.
    zarr_ratio
        Bytes of a Zarr store per byte of the vendor's file.

    """
    years = month.length_us / US_PER_YEAR
    mine = [fact for fact in facts if not fact.is_tax and fact.meter != What.IDLE]
    if not kept.bytes_logical or first not in samples.costs:
        return []
    tiers = _tiers(mine, samples, years)
    doing = samples.totals(fact for fact in mine if fact.meter != What.STORAGE)
    return [
        _all_hot(kept.bytes_logical / _TB, _unused(samples.costs[first], years), tiers, doing, mine, samples),
        _beside(samples.draws.of("zarr_per_vendor_byte", zarr_ratio), tiers, doing, mine, samples),
    ]


def _tiers(facts: Sequence[Fact], samples: RowSamples, years: float) -> list[_Tier]:
    found = []
    for name in sorted({fact.tier for fact in facts}):
        stored = [fact for fact in facts if fact.tier == name and fact.meter == What.STORAGE]
        costs, billed = samples.costs[name], total(stored, "quantity") / _KILO
        unused = _unused(costs, years)
        bytes_stored = total(stored, "bytes_stored") / _TB
        spent = samples.totals(stored)
        found.append(
            _Tier(
                costs=costs,
                logical=total(stored, "bytes_logical") / _TB,
                stored=bytes_stored,
                billed=billed,
                eur=spent.eur * (1 / billed) if billed > 0 else unused.eur,
                kwh=spent.kwh * (1 / bytes_stored) if bytes_stored > 0 else unused.kwh,
                gco2e=spent.gco2e * (1 / bytes_stored) if bytes_stored > 0 else unused.gco2e,
            )
        )
    return found


def _unused(costs: TierCosts, years: float) -> _Tier:
    """Return a tier as it costs by its price list, with nothing in it."""
    kwh = costs.kwh_per_tb_year * years
    carbon = kwh * costs.grid + costs.embodied_g_per_tb_year * years
    return _Tier(costs, 0.0, 0.0, 0.0, costs.price("storage_per_tb_month"), kwh, carbon)


def _all_hot(
    tb: float, hot: _Tier, tiers: Sequence[_Tier], doing: Totals, facts: Sequence[Fact], samples: RowSamples
) -> Saving:
    here = next((one for one in tiers if one.costs is hot.costs and one.billed > 0), hot)
    nothing = Spent(*[samples.nothing] * 3)
    moves, folds, copies = nothing, nothing, tb
    for one in tiers:
        copies -= one.logical
        moves += Spent(
            (here.eur - one.eur) * one.logical,
            (here.kwh - one.kwh) * one.logical,
            (here.gco2e - one.gco2e) * one.logical,
        )
        folds += _folded(one)
    extra = Spent(here.eur * copies, here.kwh * copies, here.gco2e * copies)
    whole = Spent(here.eur * tb, here.kwh * tb, here.gco2e * tb)
    steps = {StepName.MOVES: moves, StepName.FOLDS: folds, StepName.COPIES: extra, StepName.DOING: _minus(doing)}
    own_tb = tb if _is_own(hot.costs) else 0.0
    rooms = tiers if any(one.costs is hot.costs for one in tiers) else [hot, *tiers]
    paid = samples.nothing if _is_own(hot.costs) else whole.eur
    return _saving(Against.ALL_HOT, whole, steps, paid - _paid(facts, samples), _purchase(own_tb, rooms), samples)


def _beside(ratio: Sample, tiers: Sequence[_Tier], doing: Totals, facts: Sequence[Fact], samples: RowSamples) -> Saving:
    nothing = Spent(*[samples.nothing] * 3)
    one_store, folds, whole, paid = nothing, nothing, Spent(doing.eur, doing.kwh, doing.gco2e), samples.nothing
    own_tb = 0.0
    for one in tiers:
        zarr = ratio * one.logical
        again = Spent(one.eur * zarr, one.kwh * zarr, one.gco2e * zarr)
        file = Spent(one.eur * one.logical, one.kwh * one.logical, one.gco2e * one.logical)
        one_store, folds, whole = one_store + again, folds + _folded(one), whole + again + file
        if _is_own(one.costs):
            own_tb += one.logical * (1 + ratio.central)
        else:
            paid += again.eur + file.eur
    cash = paid - _paid([fact for fact in facts if fact.meter == What.STORAGE], samples)
    steps = {StepName.ONE: one_store, StepName.FOLDS: folds}
    return _saving(Against.BESIDE, whole, steps, cash, _purchase(own_tb, tiers), samples)


def _saving(
    against: Against,
    whole: Spent,
    steps: Mapping[StepName, Spent],
    cash: Sample,
    purchase: Purchase,
    samples: RowSamples,
) -> Saving:
    saved = Spent(*[samples.nothing] * 3)
    for step in steps.values():
        saved += step
    return Saving(
        against=against,
        baseline_eur=whole.eur.band,
        baseline_gco2e=whole.gco2e.band,
        actual_eur=(whole.eur - saved.eur).band,
        actual_gco2e=(whole.gco2e - saved.gco2e).band,
        steps=[Step(name, step.eur.band, step.kwh.band, step.gco2e.band) for name, step in steps.items()],
        allocated_eur=saved.eur.band,
        allocated_kwh=saved.kwh.band,
        allocated_gco2e=saved.gco2e.band,
        cash_eur=cash.band,
        purchase=purchase,
    )


def _folded(one: _Tier) -> Spent:
    """Return what it saves that copies are smaller than the vendor's files."""
    less = one.logical - one.stored
    return Spent(one.eur * (one.logical - one.billed), one.kwh * less, one.gco2e * less)


def _minus(spent: Totals) -> Spent:
    return Spent(spent.eur * -1.0, spent.kwh * -1.0, spent.gco2e * -1.0)


def _is_own(costs: TierCosts) -> bool:
    """Return whether nobody else charges for the tier."""
    return costs.prices.hardware is not None or not costs.tier.provider


def _paid(facts: Sequence[Fact], samples: RowSamples) -> Sample:
    """Return what is paid to others: encoding is done on the site's own machines."""
    mine = [fact for fact in facts if not _is_own(samples.costs[fact.tier]) and fact.meter != What.ENCODING]
    return samples.totals(mine).eur


def _purchase(needed_tb: float, tiers: Sequence[_Tier]) -> Purchase:
    """Return what need not be bought where the other way would take `needed_tb` of own room."""
    own = [one for one in tiers if _is_own(one.costs)]
    used = sum(one.stored for one in own)
    known = [one.costs.prices.hardware for one in own if one.costs.prices.hardware is not None]
    if not known or not known[0].purchase.high:
        return Purchase(needed_tb - used)
    installed = sum(hardware.usable_tb.central for hardware in known)
    beyond = max(needed_tb, installed) - max(used, installed)
    first = known[0]
    per_tb = Band(
        first.purchase.low / first.usable_tb.high,
        first.purchase.central / first.usable_tb.central,
        first.purchase.high / first.usable_tb.low,
    )
    return Purchase(needed_tb - used, beyond, installed, per_tb.times(beyond))
