"""The tuner's verdict: costs of measured candidates, the choice among them, and the sentence that explains it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from wsistore import __version__
from wsistore.compress.presets import Encoding
from wsistore.compress.recoded import SOURCE
from wsistore.compress.tuning.candidates import Candidate
from wsistore.compress.tuning.measure import Measurement
from wsistore.errors import InputError, Kind
from wsistore.model import Preset
from wsistore.ops.tuning_profiles import ProfileKey
from wsistore.tiers.expected_cost import TIE, Access, Amount, Choice, Cost, choose, expected_cost
from wsistore.tiers.prices import NOTHING, Prices, Value

Json = dict[str, Any]

_MOST_YEARS = 1000.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a choice depends on beside the slide."""

    tier: str
    prices: Prices
    access: Access
    horizon_years: float

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises
        ------
        InputError
            Naming the number.

        """
        if not 0 < self.horizon_years <= _MOST_YEARS:
            expected = f"years, more than 0 and at most {_MOST_YEARS:g}"
            raise _wrong(self.horizon_years, expected, of="horizon")
        for name, number in (("recalls", self.access.recalls), ("ranges", self.access.ranges)):
            if not 0 <= number < 1e12:
                raise _wrong(number, expected="reads per year, not negative", of=name)

    def with_decline(self, decline: float | None) -> Terms:
        """Return the terms with storage that gets cheaper by this part each year; None leaves what the prices say."""
        if decline is None:
            return self
        if not 0 <= decline < 1:
            raise _wrong(decline, expected="a part from 0 to below 1", of="decline")
        told = Value(decline, decline, decline, "told")
        return replace(self, prices=replace(self.prices, storage_decline_per_year=told))

    def to_json(self) -> Json:
        """Return the terms as JSON values."""
        used = {name: value for name, value in asdict(self.prices).items() if name not in {"name", "title", "medium"}}
        nothing = asdict(NOTHING)
        return {
            "tier": self.tier,
            "prices": self.prices.name,
            "recalls_per_year": self.access.recalls,
            "ranges_per_year": self.access.ranges,
            "horizon_years": self.horizon_years,
            "values": {name: value for name, value in used.items() if value != nothing},
        }


def _wrong(number: float, expected: str, *, of: str) -> InputError:
    msg = f"The {of} cannot be {number:g}: expected {expected}."
    return InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give another number.")


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate."""

    candidate: Candidate
    measurement: Measurement
    """Of the slide; of several slides the mean."""
    packed: bool
    """Whether one zip each for store and companion is cheaper here."""
    cost: Cost

    @property
    def encoding(self) -> Encoding:
        """What re-encoding would be told."""
        return self.candidate.in_preset(Preset.PACK if self.packed else Preset.FOLD)

    @property
    def euros(self) -> float:
        """Central estimate of the whole cost."""
        return self.cost.total.eur.central

    def to_json(self) -> Json:
        """Return the candidate as JSON values."""
        return {
            "candidate": self.candidate.name,
            "encoding": {**asdict(self.encoding), "preset": str(self.encoding.preset)},
            **asdict(self.measurement),
            "cost": {**{name: asdict(amount) for name, amount in _parts(self.cost)}},
        }


def _parts(cost: Cost) -> Iterator[tuple[str, Amount]]:
    for name in ("storage", "requests", "encoding", "recalls", "ranges", "total"):
        yield name, getattr(cost, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedSlide:
    """A slide that was measured."""

    slide: str
    """Its key, or the name of its file."""
    bytes_source: int
    sample_bytes: int
    sample_sha256: str
    measured: Json
    """By candidate."""
    from_kept_table: bool
    """Whether it was measured earlier: the same sample with the same software."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What the tuner found, and chose."""

    profile: ProfileKey
    terms: Terms
    rows: tuple[Row, ...]
    choice: Choice
    presets: Mapping[Preset, int]
    """Row that is taken if one of these presets is asked for."""
    slides: tuple[TunedSlide, ...]
    seed: int
    measured_at: str
    sensitivity: tuple[tuple[str, str], ...]
    """What the choice would be if a price or the access were another: what, and the candidate's name."""
    sentence: str
    path: Path | None = None
    """Where it is kept; None if it is not."""

    @property
    def chosen(self) -> Row:
        """The row that is taken."""
        return self.rows[self.choice.index]

    def kept_at(self, path: Path) -> Tuned:
        """Return the same with the file that it is kept in."""
        return replace(self, path=path)

    def to_json(self) -> Json:
        """Return the profile's document, all but its format."""
        return {
            **asdict(self.profile),
            "software": f"wsistore {__version__}",
            "at": self.measured_at,
            "seed": self.seed,
            "sentence": self.sentence,
            "chosen": self.chosen.candidate.name,
            "presets": {str(preset): _encoding(self.rows[n], preset) for preset, n in self.presets.items()},
            "terms": self.terms.to_json(),
            "sensitivity": [{"if": what, "chosen": name} for what, name in self.sensitivity],
            "candidates": [row.to_json() for row in self.rows],
            "slides": [asdict(slide) for slide in self.slides],
        }


def _encoding(row: Row, preset: Preset) -> Json:
    encoding = row.candidate.in_preset(preset)
    as_it_is = encoding.preset is Preset.KEEP
    return {
        "fold_height": encoding.fold_height,
        "candidate": SOURCE if as_it_is else encoding.candidate,
        "name": row.candidate.name,
    }


def decide(
    key: ProfileKey,
    candidates: Sequence[Candidate],
    measurements: Sequence[Measurement],
    slides: Sequence[TunedSlide],
    terms: Terms,
    *,
    seed: int,
    measured_at: str,
) -> Tuned:
    """Return the choice among measured candidates; the same table and terms always give the same.

    Candidates that come to the same on these slides (folds higher than they are) count once.
    """
    distinct = [n for n, one in enumerate(measurements) if one not in measurements[:n]]
    candidates, measurements = [candidates[n] for n in distinct], [measurements[n] for n in distinct]
    rows = _rows(candidates, measurements, terms)
    choice = _choice(rows)
    return Tuned(
        profile=key,
        terms=terms,
        rows=rows,
        choice=choice,
        presets={preset: _choice_in(rows, terms, preset) for preset in (Preset.FOLD, Preset.PACK)},
        slides=tuple(slides),
        seed=seed,
        measured_at=measured_at,
        sensitivity=tuple(_sensitivity(candidates, measurements, terms)),
        sentence=explain(rows, choice, terms),
    )


def _cost(measurement: Measurement, terms: Terms, *, packed: bool) -> Cost:
    return expected_cost(measurement, terms.prices, terms.access, terms.horizon_years, packed=packed)


def _rows(candidates: Sequence[Candidate], measurements: Sequence[Measurement], terms: Terms) -> tuple[Row, ...]:
    rows = []
    for candidate, measurement in zip(candidates, measurements, strict=True):
        loose, packed = (_cost(measurement, terms, packed=one) for one in (False, True))
        is_cheaper = packed.total.eur.central < loose.total.eur.central
        can_be = candidate.encoding.preset is not Preset.KEEP
        rows.append(Row(candidate, measurement, is_cheaper and can_be, packed if is_cheaper and can_be else loose))
    return tuple(rows)


def _choice(rows: Sequence[Row]) -> Choice:
    return choose([row.cost for row in rows], [row.candidate.fold_height for row in rows])


def _choice_in(rows: Sequence[Row], terms: Terms, preset: Preset) -> int:
    """Return which row is taken if a preset is asked for.

    JPEG tiles are folded then, whatever it costs; other tiles stay as they are where that is cheapest.
    """
    is_free = [row.candidate.is_recoding or row.candidate.encoding.preset is Preset.KEEP for row in rows]
    allowed = [n for n, row in enumerate(rows) if all(is_free) or row.candidate.encoding.preset is not Preset.KEEP]
    costs = [_cost(rows[n].measurement, terms, packed=preset is Preset.PACK) for n in allowed]
    return allowed[choose(costs, [rows[n].candidate.fold_height for n in allowed]).index]


def _sensitivity(
    candidates: Sequence[Candidate], measurements: Sequence[Measurement], terms: Terms
) -> Iterator[tuple[str, str]]:
    """Yield what would be chosen at the ends of the prices' ranges, and if slides were read more or less."""

    def chosen(other: Terms) -> str:
        rows = _rows(candidates, measurements, other)
        return rows[_choice(rows).index].candidate.name

    prices = terms.prices
    for field, words in (
        ("cpu_per_core_hour", "a core hour cost {:.2g} EUR"),
        ("storage_per_tb_month", "a TB and month cost {:.3g} EUR"),
        ("waiting_per_hour", "an hour of waiting cost {:.3g} EUR"),
    ):
        value: Value = getattr(prices, field)
        for end in sorted({value.low, value.high} - {value.central}):
            changed: dict[str, Any] = {field: replace(value, low=end, central=end, high=end)}
            other = replace(prices, **changed)
            yield words.format(end), chosen(replace(terms, prices=other))
    for factor, words in ((0.1, "slides were read a tenth as often"), (10.0, "slides were read ten times as often")):
        access = Access(terms.access.recalls * factor, terms.access.ranges * factor)
        yield words, chosen(replace(terms, access=access))


def explain(rows: Sequence[Row], choice: Choice, terms: Terms) -> str:
    """Return the choice in one sentence."""
    row, keep = rows[choice.index], rows[0]
    saved = 1 - row.measurement.bytes_stored / keep.measurement.bytes_stored
    what = f"{row.candidate.name} in {terms.tier}"
    text = f"{what}: as the scanner wrote it" if row is keep else f"{what}: {saved:.1%} smaller".replace("%", " %")
    if row is not keep:
        text += " than as the scanner wrote it"
    if choice.least != choice.index:
        other = rows[choice.least]
        text += f", as cheap as {other.candidate.name} (within {TIE:.1%} of the cost) but quicker to read a tile of"
        return text.replace("%", " %").replace("  %", " %") + "."
    if choice.next_best is None:
        return text + "."
    other = rows[choice.next_best]
    text += f", {euros(other.euros - row.euros)} cheaper per slide over {terms.horizon_years:g} years"
    text += f" than the next best ({other.candidate.name})"
    return text + _recall(row, other) + "."


def _recall(row: Row, other: Row) -> str:
    """Return what a whole-slide read of `row` takes more or less than one of `other`."""
    more = row.measurement.decode_seconds - other.measurement.decode_seconds
    if abs(more) < 0.05 * max(row.measurement.decode_seconds, other.measurement.decode_seconds):
        return ", and a recall costs as much CPU"
    shown = f"{abs(more):.2g} s of CPU"
    return f" although a recall costs {shown} more" if more > 0 else f", and a recall costs {shown} less"


def euros(amount: float) -> str:
    """Return an amount of money with as many digits as say something: ``0.31 EUR``, ``0.0042 EUR``."""
    if abs(amount) >= 0.1:
        return f"{amount:.2f} EUR"
    return f"{amount:.2g} EUR" if abs(amount) >= 1e-4 else "less than 0.0001 EUR"
