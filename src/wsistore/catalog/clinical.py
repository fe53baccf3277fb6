"""The catalogue's part that knows what people and the hospital say of slides, cases and patients."""

from __future__ import annotations

from wsistore.catalog.clinical_import import Importing
from wsistore.catalog.collections import Collecting


class Clinical(Collecting, Importing):
    """Collections and tags, and the hospital's tables."""
