"""Indexes by which a recovery finds the few slides, of millions, that are being deleted or parted from patients."""

from __future__ import annotations

from sqlalchemy import Index, text

from wsistore.catalog.schema import events, sources

# To the letter in queries too, not as parameters: only then are the indexes used.
DELETING = text("state = 'deleting'")
DETACHING = text("kind = 'identity-detaching'")

Index("deleting_sources", sources.c.slide, sqlite_where=DELETING, postgresql_where=DELETING)
Index("detaching_events", events.c.slide, sqlite_where=DETACHING, postgresql_where=DETACHING)
