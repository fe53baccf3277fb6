"""wsistore keeps a hospital's whole slide images: the vendor's file and the Zarr store are the same bytes.

``import wsistore`` is cheap: what it names is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wsistore.errors import WsistoreError
from wsistore.optional import needing

if TYPE_CHECKING:
    from wsistore.client.connecting import connect
    from wsistore.client.slide import Slide
    from wsistore.ops.opening import open_slide

__version__ = "0.1.0"

__all__ = ["Slide", "WsistoreError", "__version__", "connect", "open_slide"]


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is first asked for (PEP 562)."""
    if name == "open_slide":
        with needing("Opening slides of a site, files and URLs", "site"):
            from wsistore.ops.opening import open_slide

        return open_slide
    if name == "connect":
        with needing("Connecting to a gateway", "client"):
            from wsistore.client.connecting import connect

        return connect
    if name == "Slide":
        from wsistore.client.slide import Slide

        return Slide
    msg = f"module 'wsistore' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
