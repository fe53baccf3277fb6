"""What a move is asked to do, and the copies of a slide that this concerns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from wsistore.catalog.records import CopyRow
from wsistore.compress.presets import Encoding
from wsistore.errors import Kind, MissingError
from wsistore.model import Preset
from wsistore.ops.jobs import is_encoded
from wsistore.ops.move_results import MoveResult, MoveStatus
from wsistore.ops.site import Site
from wsistore.ops.stored import current_copies


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for."""

    tier: str
    """Where the slides are to be."""
    source: str | None = None
    """The tier whose copies are dropped; by default the only other one."""
    keeps_source: bool = False
    preset: Preset | None = None
    """How they are to be encoded; by default as the tier's settings say."""
    until: datetime | None = None
    """Of copies that are only needed for a time: until when; by default they stay."""
    rules: Mapping[str, str] = field(default_factory=dict)
    """By slide, the placement rule that wants it."""


def leaving_copies(site: Site, key: str, order: Order) -> list[CopyRow]:
    """Return the copies that are to be dropped."""
    if order.keeps_source:
        return []
    others = [copy for copy in current_copies(site, key) if copy.tier != order.tier]
    tiers = sorted({copy.tier for copy in others})
    if order.source is None and len(tiers) > 1:
        msg = f"Slide {key} has copies in several tiers: {', '.join(tiers)}."
        raise MissingError(msg, kind=Kind.SLIDE_AMBIGUOUS, remedy="Say with --from which one is to go.")
    return [copy for copy in others if order.source in (None, copy.tier)]


def bytes_needed(site: Site, source: CopyRow, encoding: Encoding) -> int:
    """Return how many bytes a copy of `source` in an encoding has at most.

    As it is, it has as many as the one that is read; how small an encoding makes it is not known before.
    """
    if is_encoded(source, encoding):
        return source.bytes_stored
    return max(source.bytes_stored, site.catalog.slide(source.slide).bytes_source)


def result_of(site: Site, key: str, order: Order, status: MoveStatus, source: CopyRow, reason: str = "") -> MoveResult:
    """Return what is known of a slide that was read in one tier and is, or is to be, in another."""
    row = site.catalog.slide(key)
    mine = next((copy for copy in current_copies(site, key) if copy.tier == order.tier), None)
    return MoveResult(
        slide=key,
        name=row.name,
        status=status,
        source=source.tier if source.tier != order.tier else None,
        tier=order.tier,
        preset_before=source.preset,
        preset=mine.preset if mine else None,
        bytes_source=row.bytes_source,
        bytes_before=source.bytes_stored,
        bytes_stored=mine.bytes_stored if mine else None,
        objects=mine.objects if mine else None,
        verified_at=mine.verified_at if mine else None,
        fallbacks=mine.fallbacks if mine else {},
        reason=reason,
    )
