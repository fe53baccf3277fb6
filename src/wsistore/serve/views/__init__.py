"""What a slide looks like from outside: its Zarr documents by allow-list, its chunks as stored, as JPEG, as pixels."""

from __future__ import annotations

from wsistore.serve.views.opened import OpenViews
from wsistore.serve.views.slide_views import SlideViews, StoredObject, View, ViewLevel

__all__ = ["OpenViews", "SlideViews", "StoredObject", "View", "ViewLevel"]
