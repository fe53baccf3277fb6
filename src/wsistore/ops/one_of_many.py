"""One slide of many: what goes wrong with it is its result, and keeps no other out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from wsistore.errors import WsistoreError
from wsistore.ops.move_results import MoveResult, MoveStatus
from wsistore.ops.results import Failure
from wsistore.ops.site import Site

_log = logging.getLogger(__name__)


def reported(site: Site, key: str, tier: str | None, act: Callable[[], MoveResult]) -> MoveResult:
    """Do something to one slide of many: what goes wrong is a result."""
    started = site.clock.monotonic_seconds()
    try:
        result = act()
    except WsistoreError as error:
        failure = error
    except Exception as error:  # one slide's surprise must not keep the others out
        _log.exception("slide %s failed in a way that wsistore does not know", key)
        failure = WsistoreError(f"Slide {key}: {error!r}.", remedy="Please report this with the log.")
    else:
        return replace(result, seconds=site.clock.monotonic_seconds() - started)
    seconds = site.clock.monotonic_seconds() - started
    return MoveResult(slide=key, status=MoveStatus.FAILED, tier=tier, seconds=seconds, error=Failure.of(failure))
