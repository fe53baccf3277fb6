"""The use cases: the only door for the command line, the flows and Python programs.

What is named here is imported when it is first used, so that ``wsistore --help`` need not load what reads slides.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsistore.ops.attempts import Recovered, recover
    from wsistore.ops.describe import check_events, list_slides, show
    from wsistore.ops.exporting import ExportCodec, Exported, export
    from wsistore.ops.ingesting import ingest_one
    from wsistore.ops.many import ingest, verify_many
    from wsistore.ops.metadata import read_metadata
    from wsistore.ops.opening import open_slide, open_source
    from wsistore.ops.restoring import Restored, restore
    from wsistore.ops.results import Failure, IngestResult, IngestStatus, VerifyResult
    from wsistore.ops.site import Site, init_site, open_site
    from wsistore.ops.verifying import verify

_MODULES = {
    "Exported": "exporting",
    "ExportCodec": "exporting",
    "Failure": "results",
    "IngestResult": "results",
    "IngestStatus": "results",
    "Recovered": "attempts",
    "Restored": "restoring",
    "Site": "site",
    "VerifyResult": "results",
    "check_events": "describe",
    "export": "exporting",
    "ingest": "many",
    "ingest_one": "ingesting",
    "init_site": "site",
    "list_slides": "describe",
    "open_site": "site",
    "open_slide": "opening",
    "open_source": "opening",
    "read_metadata": "metadata",
    "recover": "attempts",
    "restore": "restoring",
    "show": "describe",
    "verify": "verifying",
    "verify_many": "many",
}

__all__ = [
    "ExportCodec",
    "Exported",
    "Failure",
    "IngestResult",
    "IngestStatus",
    "Recovered",
    "Restored",
    "Site",
    "VerifyResult",
    "check_events",
    "export",
    "ingest",
    "ingest_one",
    "init_site",
    "list_slides",
    "open_site",
    "open_slide",
    "open_source",
    "read_metadata",
    "recover",
    "restore",
    "show",
    "verify",
    "verify_many",
]


def __getattr__(name: str) -> Any:
    """Import a use case when it is first asked for (PEP 562)."""
    module = _MODULES.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{module}"), name)
