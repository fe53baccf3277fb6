"""The gateway of a site without what it costs to be careful: no tokens, no grants, no limits, no access log.

Started as ``python -m bench.workers.open_gateway SITE PORT PROCESSES PROJECT PSEUDONYM SLIDE``.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from wsistore.clock import Clock
from wsistore.model import Mode
from wsistore.ops.research_access import READ, SLIDE_COLUMNS, Caller, Limits, ProjectView, SharedSlide
from wsistore.ops.site import open_site
from wsistore.serve import making, server
from wsistore.serve.access_log import AccessLog, Visit
from wsistore.serve.gateway import Gateway
from wsistore.serve.limits import Limiter, Rates, new_table
from wsistore.serve.sessions import new_key

_NO_LIMITS = Limits(1e9, None, 10**9, None)


class Everybody:
    """Lets all see one slide."""

    def __init__(self, project: str, pseudonym: str, slide: str) -> None:
        self._caller = Caller("anybody", "none", frozenset({project}), None, frozenset({READ}))
        shared = {pseudonym: SharedSlide(pseudonym, slide, Mode.TILES, 0)}
        rows = SLIDE_COLUMNS.empty_table()
        self._view = ProjectView(project, "", None, 0, _NO_LIMITS, frozenset({READ}), rows, shared)

    def caller(self, authorization: str | None) -> Caller:
        return self._caller

    def project(self, caller: Caller, name: str) -> ProjectView:
        return self._view

    def admit(self, authorization: str | None, project: str) -> tuple[Caller, ProjectView | None]:
        return self._caller, self._view

    def projects(self, caller: Caller) -> list[ProjectView]:
        return [self._view]

    def spend(self, caller: Caller, project: str, size_bytes: int) -> None:
        pass

    def spent(self, caller: Caller, project: str) -> int:
        return 0

    def close(self) -> None:
        pass


class NoLimits(Limiter):
    """Lets all requests in."""

    def enter(self, who: str, limits: Rates) -> float:
        return 0.0

    def leave(self, who: str, size_bytes: int) -> None:
        pass

    def pass_through(self, who: str, limits: Rates, size_bytes: int) -> bool:
        return True


class NoLog(AccessLog):
    """Keeps nothing, and looks at nothing."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self.is_well = True

    def check(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def write(self, visit: Visit) -> None:
        pass

    def note(self, named: str, began_seconds: float, status: int, size_bytes: int) -> None:
        pass

    def flush(self) -> None:
        pass


def make(shared: making.Shared, project: str, pseudonym: str, slide: str) -> Gateway:
    """Return the application, put together as that of `wsistore serve` but for what is left out."""
    left_out: Any = making
    left_out.Limiter, left_out.AccessLog = NoLimits, NoLog
    return making.of_site(open_site(shared.folder), Everybody(project, pseudonym, slide), shared, close_site=True)


if __name__ == "__main__":
    site_folder, port, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    own = making.Shared(site_folder, new_table(site_folder / f"open-gateway-{port}"), new_key())
    listening = server._listen("127.0.0.1", port)
    config = server.configured(partial(make, own, *sys.argv[4:7]), workers=processes)
    server.run(config, listening)
