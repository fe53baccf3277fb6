"""What there is: slides, their copies, and what happened to them, as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from wsistore.catalog import CopyRow, SlideRow
from wsistore.catalog.columns import verified_at
from wsistore.ops.drop_rules import good_tiers, required_copies
from wsistore.ops.encodings import fold_height_of
from wsistore.ops.site import Site

Json = dict[str, Any]


def list_slides(site: Site, where: str | None = None) -> Iterator[Json]:
    """Yield the slides of a site, oldest first; with `where`, those for which the SQL condition is true.

    Raises
    ------
    InputError
        If the condition is wrong or does more than is allowed.

    """
    rows = site.catalog.slides(where)
    copies = site.catalog.current_copies() if rows else {}
    return (_slide(site, row, copies.get(row.slide, ())) for row in rows)


def show(site: Site, slide: str) -> Json:
    """Return all that the catalogue knows of a slide: `list_slides`'s values, its files, all copies, and its holds.

    Raises
    ------
    MissingError
        If there is no such slide.

    """
    row = site.catalog.slide(site.catalog.resolve(slide))
    source = site.catalog.source(row.slide)
    copies = site.catalog.copies(row.slide)
    sizes = {n: site.catalog.source(row.slide, n).size_bytes for n in {copy.version for copy in copies}}
    return {
        **_slide(site, row, [copy for copy in copies if copy.version == row.version]),
        "fingerprint": source.fingerprint,
        "path": source.path,
        "files": [asdict(file) for file in source.files],
        "copies": [_copy(copy, sizes[copy.version]) for copy in copies],
        "holds": [
            {"reason": hold.reason, "actor": hold.actor, "placed_at": hold.placed_at}
            for hold in site.catalog.holds(row.slide)
        ],
        "events": len(site.catalog.events(row.slide)),
    }


def check_events(site: Site) -> list[str]:
    """Return what is wrong with the chains of events, in words; nothing if they are whole."""
    return site.catalog.check_chains()


def _slide(site: Site, row: SlideRow, copies: Sequence[CopyRow]) -> Json:
    return {
        "slide": row.slide,
        "name": row.name,
        "format": row.format,
        "mode": str(row.mode),
        "width": row.width,
        "height": row.height,
        "um_per_px": None if row.um_per_px is None else list(row.um_per_px),
        "magnification": row.magnification,
        "series": row.series,
        "version": row.version,
        "created_at": row.created_at,
        "metadata": dict(row.metadata),
        "bytes_source": row.bytes_source,
        "bytes_stored": sum(copy.bytes_stored for copy in copies),
        "tiers": [copy.tier for copy in copies],
        "verified_at": verified_at(copies),
        "copies_good": len(good_tiers(site, copies)),
        "copies_required": required_copies(site, [copy.tier for copy in copies]),
    }


def _copy(copy: CopyRow, bytes_source: int) -> Json:
    return {
        "tier": copy.tier,
        "preset": str(copy.preset),
        "fold_height": fold_height_of(copy),
        "version": copy.version,
        "state": str(copy.state),
        "bytes_source": bytes_source,
        "bytes_stored": copy.bytes_stored,
        "objects": copy.objects,
        "evidence": str(copy.evidence),
        "verified_at": copy.verified_at,
        "seen_at": copy.seen_at,
        "expires_at": copy.expires_at,
        "attempt": copy.attempt,
        "commit": copy.commit_key,
        "fallbacks": dict(copy.fallbacks),
    }
