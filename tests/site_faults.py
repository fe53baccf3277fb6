"""Faults between a site and its tier, and processes that die: what tests of crashes share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from wsistore import ops
from wsistore.catalog import Catalog
from wsistore.catalog.owner import Owner
from wsistore.storage.base import Storage
from wsistore.storage.fault import Fault, FaultStorage, Rule, RunAfter, RunBefore
from wsistore.storage.wrapper import Verb

DEAD = str(Owner(host=Owner.current().host, boot=Owner.current().boot, pid=2**22 + 1, start=1))
"""A process of this machine that cannot live."""


class Crash(BaseException):
    """The process ends here: no handler may run. See `crashing`."""


def faulty(site: ops.Site, *rules: Rule) -> FaultStorage:
    """Put faults between a site and its tier."""
    storage = FaultStorage(plain(site), rules)
    site._tiers["hot"] = storage
    return storage


def plain(site: ops.Site) -> Storage:
    """Return the tier without faults."""
    storage = site._tiers.get("hot") or site.tier("hot")
    while isinstance(storage, FaultStorage):
        storage = storage.inner
    return storage


def mended(site: ops.Site) -> None:
    """Take the faults away."""
    site._tiers["hot"] = plain(site)


def crashing(site: ops.Site, slide: Path) -> bool:
    """Ingest in a process that ends at the first `Crash`: from there on neither tier nor catalogue is touched.

    Returns
    -------
    bool
        Whether it came to the crash.

    """
    site.owner = DEAD
    crashed = False

    try:
        with ExitStack() as patches:
            for name in ("abandon", "release", "forget_attempt", "extend_lease", "claim", "commit"):
                original = getattr(Catalog, name)

                def unless_dead(*args: object, _original: Callable = original, **kwargs: object) -> object:
                    if getattr(site._tiers["hot"], "is_dead", False):
                        raise Crash
                    return _original(*args, **kwargs)

                patches.enter_context(mock.patch.object(Catalog, name, unless_dead))
            ops.ingest_one(site, slide, tier="hot")
    except Crash:
        crashed = True
    site.owner = str(Owner.current())
    mended(site)
    return crashed


class DyingStorage(FaultStorage):
    """From the crash on, every call of every thread fails as a dead process's calls do: they are not made."""

    is_dead = False

    def strike(self, verb: Verb, key: str) -> Fault | None:
        if self.is_dead:
            raise Crash
        return super().strike(verb, key)


def dying(site: ops.Site, nth: int, *, after: bool) -> None:
    """Let the process die at the `nth` storage call, before or after it is carried out."""

    def die() -> None:
        storage.is_dead = True
        raise Crash

    storage = DyingStorage(plain(site), [Rule(RunAfter(die) if after else RunBefore(die), nth=nth)])
    site._tiers["hot"] = storage
