"""A move whose process dies, as by ``kill -9``: the new copy is proven and committed, the catalogue does not know yet.

``python -m demo.dying SITE SLIDE TIER``
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from unittest import mock

from wsistore import ops
from wsistore.catalog import Catalog
from wsistore.execute import SerialExecutor


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, slide: str, tier: str) -> None:
    """Move a slide, and never come to the end."""
    with (
        mock.patch.object(Catalog, "commit_reencode", _die),
        ops.open_site(Path(folder), actor="demo") as site,
    ):
        list(ops.move(site, [slide], tier, executor=SerialExecutor()))


if __name__ == "__main__":
    main(*sys.argv[1:])
