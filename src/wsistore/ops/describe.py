"""What there is: slides, their copies, and what happened to them, as JSON values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from wsistore.catalog import CopyRow, SlideRow
from wsistore.catalog.columns import verified_at
from wsistore.ops.site import Site

Json = dict[str, Any]


def list_slides(site: Site, where: str | None = None) -> Iterator[Json]:
    """Yield the slides of a site, oldest first; with `where`, those for which the SQL condition is true.

    Raises
    ------
    InputError
        If the condition is wrong or does more than is allowed.

    """
    return (_slide(site, row) for row in site.catalog.slides(where))


def show(site: Site, slide: str) -> Json:
    """Return all that the catalogue knows of a slide: `list_slides`'s values, its files, and all copies.

    Raises
    ------
    MissingError
        If there is no such slide.

    """
    row = site.catalog.slide(site.catalog.resolve(slide))
    source = site.catalog.source(row.slide)
    return {
        **_slide(site, row),
        "fingerprint": source.fingerprint,
        "path": source.path,
        "files": [asdict(file) for file in source.files],
        "copies": [_copy(copy) for copy in site.catalog.copies(row.slide)],
        "events": len(site.catalog.events(row.slide)),
    }


def check_events(site: Site) -> list[str]:
    """Return what is wrong with the chains of events, in words; nothing if they are whole."""
    return site.catalog.check_chains()


def _slide(site: Site, row: SlideRow) -> Json:
    copies = [copy for copy in site.catalog.copies(row.slide) if copy.version == row.version]
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
    }


def _copy(copy: CopyRow) -> Json:
    return {
        "tier": copy.tier,
        "preset": str(copy.preset),
        "version": copy.version,
        "state": str(copy.state),
        "bytes_stored": copy.bytes_stored,
        "objects": copy.objects,
        "evidence": str(copy.evidence),
        "verified_at": copy.verified_at,
        "attempt": copy.attempt,
        "commit": copy.commit_key,
        "fallbacks": dict(copy.fallbacks),
    }
