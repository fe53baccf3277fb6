"""What is where and what is in flight: slides, copies with their evidence, events."""

from wsistore.catalog.catalog import Catalog
from wsistore.catalog.claims import AlreadyClaimed
from wsistore.catalog.columns import COLUMNS, ConditionColumn
from wsistore.catalog.owner import Owner, is_alive
from wsistore.catalog.records import (
    Attempt,
    AttemptState,
    CopyRecord,
    CopyRow,
    SlideRecord,
    SlideRow,
    SourceRecord,
    SourceRow,
    SourceState,
    TierRecord,
)

__all__ = [
    "COLUMNS",
    "AlreadyClaimed",
    "Attempt",
    "AttemptState",
    "Catalog",
    "ConditionColumn",
    "CopyRecord",
    "CopyRow",
    "Owner",
    "SlideRecord",
    "SlideRow",
    "SourceRecord",
    "SourceRow",
    "SourceState",
    "TierRecord",
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
