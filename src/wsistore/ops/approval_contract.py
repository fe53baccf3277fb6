"""What approving needs to know of a plan, and its totals, whatever reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.tiers.rules.decisions import Action

IRREVERSIBLE = frozenset({Action.DELETE, Action.DETACH_IDENTITY})
"""What cannot be undone."""


class PlanHeader(Protocol):
    """What approving reads of a plan's header."""

    @property
    def made_at(self) -> datetime:
        """When it was made."""

    @property
    def at(self) -> datetime:
        """The moment for which the rules were applied."""

    @property
    def expires_at(self) -> datetime:
        """Until when it may be applied."""

    @property
    def author(self) -> str:
        """Who made it."""

    @property
    def over_limit(self) -> object:
        """Whether, or by what, it is over a limit that nobody can approve; false or empty if it is not."""


class ApprovablePlan(Protocol):
    """A plan that was read from its file: see `wsistore.tiers.plans.read_plan`."""

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""

    @property
    def header(self) -> PlanHeader:
        """What it says of itself."""

    @property
    def rows(self) -> pa.Table | Iterable[pa.RecordBatch]:
        """`wsistore.tiers.plans.rows.PLAN`; read anew each time that it is asked for."""


class ApprovalScope(StrEnum):
    """What of a plan an approval or a visa is for."""

    ALL = "all"
    MOVES = "moves"
    """What can be undone: copy, move, reencode, drop-copy."""
    DELETIONS = "deletions"
    """What cannot: delete, detach-identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a plan would do, in figures."""

    actions: dict[str, int] = field(default_factory=dict)
    """Slides by what is done to them."""
    postponed: int = 0
    bytes_touched: int = 0
    """Moved from tier to tier, or given up with copies."""
    bytes_deleted: int = 0
    """Of slides that are deleted."""
    eur_once: float = 0.0
    eur_year_saved: float = 0.0

    @property
    def parts(self) -> tuple[ApprovalScope, ...]:
        """What has to be approved."""
        deletes = any(self.actions.get(action, 0) for action in IRREVERSIBLE)
        moves = any(count for action, count in self.actions.items() if action not in IRREVERSIBLE)
        return (*([ApprovalScope.MOVES] if moves else []), *([ApprovalScope.DELETIONS] if deletes else []))

    @property
    def slides(self) -> int:
        """How many slides it does something to."""
        return sum(self.actions.values())


def batches(plan: ApprovablePlan) -> Iterator[pa.RecordBatch]:
    """Yield a plan's rows."""
    rows = plan.rows
    yield from rows.to_batches(max_chunksize=1 << 16) if isinstance(rows, pa.Table) else rows


def acting(plan: ApprovablePlan) -> Iterator[pa.RecordBatch]:
    """Yield those rows of a plan by which something is done when it is applied."""
    for batch in batches(plan):
        yield batch.filter(pc.and_(pc.not_equal(batch["action"], str(Action.NONE)), pc.is_null(batch["postponed"])))


def totals(plan: ApprovablePlan) -> Totals:
    """Return a plan's totals, from its rows and not from what its header says of them."""
    actions: Counter[str] = Counter()
    figures = dict.fromkeys(("touched", "deleted", "once", "saved"), 0.0)
    postponed = 0
    for batch in batches(plan):
        postponed += len(batch) - batch["postponed"].null_count
    for batch in acting(plan):
        deleted = pc.equal(batch["action"], str(Action.DELETE))
        actions.update(batch["action"].to_pylist())
        given_up = pc.max_element_wise(pc.subtract(batch["bytes_now"], batch["bytes_after"]), 0)
        figures["touched"] += _sum(pc.max_element_wise(batch["bytes_moved"], given_up))
        figures["deleted"] += _sum(batch["bytes_now"].filter(deleted))
        figures["once"] += _sum(batch["eur_once"]) + _sum(batch["eur_retrieval"]) + _sum(batch["eur_early"])
        figures["saved"] += _sum(batch["eur_year_now"]) - _sum(batch["eur_year_after"])
    return Totals(
        actions={str(action): actions[action] for action in Action if actions[action]},
        postponed=postponed,
        bytes_touched=int(figures["touched"]),
        bytes_deleted=int(figures["deleted"]),
        eur_once=figures["once"],
        eur_year_saved=figures["saved"],
    )


def _sum(values: pa.Array) -> float:
    return pc.sum(values).as_py() or 0
