"""What is where and what is in flight: slides, copies with their evidence, events."""

from wsistore.catalog.catalog import Catalog
from wsistore.catalog.claims import AlreadyClaimed, SeriesClaimed
from wsistore.catalog.columns import COLUMNS, ConditionColumn
from wsistore.catalog.drops import NotProven
from wsistore.catalog.grants import GrantRow
from wsistore.catalog.owner import Owner, is_alive
from wsistore.catalog.plans import ApprovalRow, PlanRecord, PlanRow, PlanState, RosterRow, RowState, SlideStep, VisaRow
from wsistore.catalog.projects import CohortRow, ProjectRow
from wsistore.catalog.records import (
    Attempt,
    AttemptKind,
    AttemptState,
    CopyRecord,
    CopyRow,
    DropRule,
    Hold,
    Proof,
    SlideRecord,
    SlideRow,
    SourceRecord,
    SourceRow,
    SourceState,
    TierRecord,
)
from wsistore.catalog.tokens import TokenRow

__all__ = [
    "COLUMNS",
    "AlreadyClaimed",
    "ApprovalRow",
    "Attempt",
    "AttemptKind",
    "AttemptState",
    "Catalog",
    "CohortRow",
    "ConditionColumn",
    "CopyRecord",
    "CopyRow",
    "DropRule",
    "GrantRow",
    "Hold",
    "NotProven",
    "Owner",
    "PlanRecord",
    "PlanRow",
    "PlanState",
    "ProjectRow",
    "Proof",
    "RosterRow",
    "RowState",
    "SeriesClaimed",
    "SlideRecord",
    "SlideRow",
    "SlideStep",
    "SourceRecord",
    "SourceRow",
    "SourceState",
    "TierRecord",
    "TokenRow",
    "VisaRow",
    "create",
    "is_alive",
    "migrate",
]


def create(url: str) -> None:
    """Make a new, empty catalogue; see `wsistore.catalog.revisions.create`."""
    from wsistore.catalog import revisions

    revisions.create(url)


def migrate(url: str) -> None:
    """Bring a catalogue up to this release's schema; see `wsistore.catalog.revisions.migrate`."""
    from wsistore.catalog import revisions

    revisions.migrate(url)
