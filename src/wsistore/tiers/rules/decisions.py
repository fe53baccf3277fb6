"""What `decide` says of each slide: one row per row of the facts, in their order."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa


class Retention(StrEnum):
    """Whether a slide has to be kept."""

    KEPT = "kept"
    """Until `keep_until`, which is still to come."""
    ENDED = "ended"
    """`keep_until` has come: the rules let it go."""
    NEVER_ENDS = "never-ends"
    UNKNOWN = "unknown"
    """A date that a rule needs is not known, or no rule applies: nothing lets it go."""
    SUSPENDED = "suspended"
    """A recourse is open."""


class Action(StrEnum):
    """What is to be done to a slide, from the least to the gravest."""

    NONE = "none"
    COPY = "copy"
    REENCODE = "reencode"
    MOVE = "move"
    DROP_COPY = "drop-copy"
    DETACH_IDENTITY = "detach-identity"
    DELETE = "delete"


class Blocked(StrEnum):
    """Why something that the rules want is not done."""

    HELD = "held"
    STALE_FEED = "stale-feed"
    """The dates are older than the rules allow for deleting."""
    STILL_CHARGED = "still-charged"
    """The copy's class charges for it in any case until a later day."""
    TIER_NOT_ALLOWED = "tier-not-allowed"
    """The tier's hosting certificate or location does not allow the data."""
    TOO_FEW_COPIES = "too-few-copies"
    """Fewer copies would remain than the rule wants, and it names no tier for another."""
    NO_GOOD_COPY = "no-good-copy"
    """All copies are suspect: to be repaired first."""
    NOT_DETACHABLE = "not-detachable"
    """The legal time is over, but what is known of the patient does not allow to say so."""


STEP = pa.struct(
    [
        pa.field("action", pa.string(), nullable=False),
        pa.field("tier", pa.string()),
        pa.field("source", pa.string()),
        pa.field("preset", pa.string()),
    ]
)
"""One thing to do.

``copy`` and ``move`` bring the slide to ``tier``, as ``preset`` (a move drops the copy in ``source``); ``reencode`` and
``drop-copy`` concern the copy in ``tier``; ``detach-identity`` and ``delete`` the whole slide.
"""

DECISIONS = pa.schema(
    [
        pa.field("slide", pa.string(), nullable=False),
        pa.field("case_id", pa.string()),
        pa.field("retention", pa.string(), nullable=False),  # a Retention
        pa.field("keep_until", pa.date32()),  # the first day on which it may go; null where never or unknown
        pa.field("keep_rule", pa.string()),  # the retention rule that decided
        pa.field("place_rule", pa.string()),  # the placement rule that matched first; null: none, it stays as it is
        pa.field("tier", pa.string()),  # where it is to be
        pa.field("preset", pa.string()),  # and how
        pa.field("copies_wanted", pa.int64()),
        pa.field("review_at", pa.date32()),  # when somebody is to look whether it is still wanted
        pa.field("action", pa.string(), nullable=False),  # the gravest of the steps; an Action
        pa.field("steps", pa.list_(STEP)),  # in the order in which they are done; null where there are none
        pa.field("blocked", pa.list_(pa.string())),  # of Blocked; null where nothing is
    ]
)
"""Of the table of decisions."""
