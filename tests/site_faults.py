"""Faults between a site and its tier, and processes that die: what tests of crashes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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


READS = frozenset({Verb.GET, Verb.GET_MANY, Verb.STREAM, Verb.HEAD, Verb.LIST, Verb.VERSIONS, Verb.LOOK})
"""Calls that leave a tier as it is: who dies at one leaves behind what one who died just before it does."""


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


WRITES = (
    *("begin_attempt", "begin_reencode", "extend_lease", "release", "abandon", "forget_attempt"),
    *("claim", "commit", "claim_reencode", "commit_reencode", "prove_drop", "finish_drop", "revive"),
)
"""Methods of the catalogue by which an attempt goes on."""


def crashing(site: ops.Site, slide: Path) -> bool:
    """Ingest in a process that ends at the first `Crash`; see `died`."""
    return died(site, lambda: ops.ingest_one(site, slide, tier="hot"))


def died(site: ops.Site, act: Callable[[], object]) -> bool:
    """Do something in a process that ends at the first `Crash`: from there on neither tier nor catalogue is touched.

    Returns
    -------
    bool
        Whether it came to the crash.

    """
    site.owner = DEAD
    crashed = False

    try:
        with ExitStack() as patches:
            for name in WRITES:
                original = getattr(Catalog, name)

                def unless_dead(*args: object, _original: Callable = original, **kwargs: object) -> object:
                    if getattr(site._tiers["hot"], "is_dead", False):
                        raise Crash
                    result = _original(*args, **kwargs)
                    if isinstance(storage := site._tiers["hot"], DyingStorage):
                        storage.has_changed = True
                    return result

                patches.enter_context(mock.patch.object(Catalog, name, unless_dead))
            act()
    except Crash:
        crashed = True
    site.owner = str(Owner.current())
    mended(site)
    return crashed


class SiteRef:
    """Lets workers of this process get at a site's tier as it is now, with its faults."""

    def __init__(self, site: ops.Site, tier: str) -> None:
        self.site, self.tier = site, tier

    def __call__(self) -> Storage:
        return self.site.tier(self.tier)


@contextmanager
def shared_tiers() -> Iterator[None]:
    """Let workers of this process use the site's own storages: only so do they meet its faults."""
    with mock.patch("wsistore.ops.reencode_attempt.tier_ref", SiteRef):
        yield


class DyingStorage(FaultStorage):
    """From the crash on, every call of every thread fails as a dead process's calls do: they are not made."""

    is_dead = False
    only_anew = False
    has_changed = True
    """Whether tier or catalogue are others than at the call that counted last; see `dying`."""

    def strike(self, verb: Verb, key: str) -> Fault | None:
        if self.is_dead:
            raise Crash
        is_anew, self.has_changed = self.has_changed, verb not in READS
        return super().strike(verb, key) if is_anew or not self.only_anew else None


def dying(site: ops.Site, nth: int, *, after: bool, only_anew: bool = False) -> None:
    """Let the process die at the `nth` storage call, before or after it is carried out.

    With `only_anew`, only calls count before which something was changed since the last one that counted: a death
    before any other call leaves behind what a death before that one does.
    """

    def die() -> None:
        storage.is_dead = True
        raise Crash

    storage = DyingStorage(plain(site), [Rule(RunAfter(die) if after else RunBefore(die), nth=nth)])
    storage.only_anew = only_anew
    site._tiers["hot"] = storage
