"""Copies and steps of many slides, taken out of their lists: one array per field, with the row that each belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.model import CopyState, Preset
from wsistore.tiers.rules.decisions import Action

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

PRESETS = tuple(str(preset) for preset in Preset)
ACTIONS = tuple(str(action) for action in Action)
_DAY_MICROSECONDS = 86_400e6


@dataclass(frozen=True, slots=True)
class Copies:
    """Copies of all slides; each array is (copies,), in the order of the rows."""

    row: Integers
    tier: Integers
    """Number of the tier among the names that were given."""
    preset: Integers
    """Number of the preset in `PRESETS`; -1 for one that is not known."""
    size: Floats
    """Bytes."""
    objects: Floats
    days_charged: Floats
    """Days from the moment of the plan for which its class charges for it in any case; 0 for none."""
    is_suspect: Flags


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of all decisions; each array is (steps,), in the order of the rows and then of the steps."""

    row: Integers
    action: Integers
    """Number of the action in `ACTIONS`."""
    tier: Integers
    """As in `Copies`; -1 where the step names none."""
    source: Integers
    """Likewise."""
    preset: Integers
    """As in `Copies`; -1 where the step names none."""

    def of(self, *actions: Action) -> Flags:
        """Say which steps are one of `actions`; (steps,)."""
        return np.isin(self.action, [ACTIONS.index(str(action)) for action in actions])


def copies_of(facts: pa.Table, tiers: Sequence[str], at: datetime) -> Copies:
    """Take the copies out of a table of `wsistore.tiers.rules.facts.SCHEMA`.

    Parameters
    ----------
    facts
        One row per slide.
    tiers
        Names that are numbered; they must be all that copies lie in.
    at
        The moment of the plan, timezone-aware.

    """
    column = _whole(facts["copies"])
    flat = pc.list_flatten(column)
    moment = pa.scalar(at.astimezone(UTC).replace(tzinfo=None), pa.timestamp("us"))
    charged = pc.struct_field(flat, "charged_until").cast(pa.int64()).fill_null(moment.cast(pa.int64()).as_py())
    left = charged.to_numpy(zero_copy_only=False).astype(np.float64) - moment.cast(pa.int64()).as_py()
    return Copies(
        row=_numbers(pc.list_parent_indices(column)),
        tier=codes_of(pc.struct_field(flat, "tier"), tiers),
        preset=_known(codes_of(pc.struct_field(flat, "preset"), PRESETS), len(PRESETS)),
        size=_numbers(pc.struct_field(flat, "bytes_stored")).astype(np.float64),
        objects=_numbers(pc.struct_field(flat, "objects")).astype(np.float64),
        days_charged=np.maximum(left / _DAY_MICROSECONDS, 0.0),
        is_suspect=codes_of(pc.struct_field(flat, "state"), (str(CopyState.SUSPECT),)) == 0,
    )


def steps_of(decisions: pa.Table, tiers: Sequence[str]) -> Steps:
    """Take the steps out of a table of `wsistore.tiers.rules.decisions.DECISIONS`; see `copies_of`."""
    column = _whole(decisions["steps"])
    flat = pc.list_flatten(column)
    return Steps(
        row=_numbers(pc.list_parent_indices(column)),
        action=codes_of(pc.struct_field(flat, "action"), ACTIONS),
        tier=_known(codes_of(pc.struct_field(flat, "tier"), tiers), len(tiers)),
        source=_known(codes_of(pc.struct_field(flat, "source"), tiers), len(tiers)),
        preset=_known(codes_of(pc.struct_field(flat, "preset"), PRESETS), len(PRESETS)),
    )


def tiers_in(facts: pa.Table, decisions: pa.Table) -> tuple[str, ...]:
    """Return the names of all tiers that copies lie in or that steps name, sorted."""
    copies = pc.list_flatten(_whole(facts["copies"]))
    steps = pc.list_flatten(_whole(decisions["steps"]))
    columns = [pc.struct_field(copies, "tier"), pc.struct_field(steps, "tier"), pc.struct_field(steps, "source")]
    found = {name for column in columns for name in pc.unique(column).to_pylist()}
    return tuple(sorted(name for name in found if name is not None))


def codes_of(column: pa.Array | pa.ChunkedArray, words: Sequence[str]) -> Integers:
    """Return the number of each value among `words`; nulls and what is not there get the number after the last."""
    found = pc.index_in(_whole(column), value_set=pa.array(words, pa.string()))
    return _numbers(pc.fill_null(found, len(words)))


def _known(codes: Integers, count: int) -> Integers:
    return np.where(codes < count, codes, -1)


def _numbers(column: pa.Array) -> Integers:
    found: Integers = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return one array of a column, whose lists count their rows from the first."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    found = column.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)
