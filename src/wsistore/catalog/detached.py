"""What may be said of a slide that was parted from its patient: nothing gives it back to anybody."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select

from wsistore.catalog import schema
from wsistore.catalog.schema_ending import DETACHING

KEPT = ("stain", "organ", "diagnoses")
"""What is kept of a slide's metadata: what can be seen on it. The names of all else are the site's own."""


def sayable(connection: Connection, slide: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what of `metadata` may be kept of a slide: all, unless it was parted from its patient."""
    events = schema.events
    query = select(events.c.number).where(events.c.slide == slide, DETACHING).limit(1)
    if connection.execute(query).first() is None:
        return dict(metadata)
    return {name: value for name, value in metadata.items() if name in KEPT}
