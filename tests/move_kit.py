"""What tests of moves share: sites of tiers in memory, and processes that die at a call of a tier or the catalogue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

from tests.catalog_kit import new_url as new_catalog
from tests.site_faults import DEAD, READS, Crash, SiteRef
from tests.site_kit import committed_keys, restored, stored_keys
from wsistore import ops
from wsistore import settings as site_settings
from wsistore.catalog import Catalog
from wsistore.catalog.owner import Owner
from wsistore.clock import Clock
from wsistore.execute import SerialExecutor
from wsistore.storage.base import Storage
from wsistore.storage.fault import Fault, FaultStorage, RunAfter, RunBefore
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.open import create_tier
from wsistore.storage.wrapper import Verb, WrappedStorage

TIERS = ("hot", "warm", "cold")

STEPS = (
    *("begin_attempt", "begin_reencode", "extend_lease", "release", "abandon", "forget_attempt", "mark_written"),
    *("claim", "commit", "claim_reencode", "commit_reencode", "adopt_reencode", "close_attempt"),
    *("start_drop", "prove_drop", "finish_drop", "revive", "record_verification", "record_failure", "append_event"),
    *("hold", "release_holds"),
)
"""Methods of the catalogue that write what moves do."""


def tiered_site(folder: Path, *, clock: Clock | None = None, versions: bool = False) -> ops.Site:
    """Make and open a site of three tiers in memory."""
    made = site_settings.write_new(folder, tiers={name: f"memory://{folder}/{name}" for name in TIERS})
    new_catalog(folder)
    site = ops.open_site(folder, clock=clock)
    for tier in made.tiers:
        storage = MemoryStorage(tier.name, versions=versions, clock=clock)
        create_tier(storage, tier.id, tier.name)
        site._tiers[tier.name] = storage
    return site


def reopened(site: ops.Site) -> ops.Site:
    """Open the same site once more, as another process does; its tiers are the same."""
    other = ops.open_site(site.folder, clock=site.clock)
    other._tiers |= {name: bare(site, name) for name in TIERS}
    return other


def bare(site: ops.Site, tier: str) -> Storage:
    """Return a tier without faults."""
    storage = site._tiers[tier]
    while isinstance(storage, WrappedStorage):
        storage = storage.inner
    return storage


def mended(site: ops.Site) -> None:
    """Take all faults away."""
    for tier in TIERS:
        site._tiers[tier] = bare(site, tier)


def move(site: ops.Site, slide: str, to: str, **options: object) -> ops.MoveResult:
    """Move one slide in this process."""
    options.setdefault("executor", SerialExecutor())
    (result,) = ops.move(site, [slide], to, **options)  # type: ignore[arg-type]
    return result


def moved(site: ops.Site, slide: str, to: str, **options: object) -> ops.MoveResult:
    """Move one slide in this process; it may not fail."""
    result = move(site, slide, to, **options)
    assert result.error is None, result.error
    return result


def drop(site: ops.Site, slide: str, tier: str) -> ops.MoveResult:
    """Drop one slide's copy in this process."""
    (result,) = ops.drop(site, [slide], tier)
    return result


@contextmanager
def in_process() -> Iterator[None]:
    """Let workers use the site's own storages, one object at a time: so calls come in the order in which they count."""
    with (
        mock.patch("wsistore.ops.reencode_attempt.tier_ref", SiteRef),
        mock.patch("wsistore.compress.copying._COPIERS", 1),
        mock.patch("wsistore.ops.deleting._DELETERS", 1),
        mock.patch("wsistore.compress.recording._SMALL_WRITERS", 1),
    ):
        yield


class Fate:
    """Counts the calls of all tiers and the steps of the catalogue, and ends the process at one of them.

    Parameters
    ----------
    nth
        Which, from 1.
    after
        Whether it is carried out before.
    changes
        Whether only what changes something counts: steps of the catalogue, and calls that are no `READS`.

    """

    def __init__(self, nth: int, *, after: bool, changes: bool = False) -> None:
        self.nth, self.after, self.changes = nth, after, changes
        self.calls: list[str] = []
        self.is_dead = False
        self._counted = 0
        self._lock = threading.Lock()

    def strikes(self, call: str) -> bool:
        """Count a call; say whether it is the one. A dead process makes none."""
        with self._lock:
            if self.is_dead:
                raise Crash
            self.calls.append(call)
            if self.changes and call.split(":")[1] in READS:
                return False
            self._counted += 1
            return self._counted == self.nth

    def die(self) -> None:
        """End the process."""
        self.is_dead = True
        raise Crash


class FatedStorage(FaultStorage):
    """A tier whose calls are counted by a fate."""

    def __init__(self, inner: Storage, fate: Fate, tier: str) -> None:
        super().__init__(inner)
        self.fate, self.tier = fate, tier

    def strike(self, verb: Verb, key: str) -> Fault | None:
        if not self.fate.strikes(f"{self.tier}:{verb}:{key}"):
            return None
        return RunAfter(self.fate.die) if self.fate.after else RunBefore(self.fate.die)


def dies(
    site: ops.Site, act: Callable[[], object], nth: int, *, after: bool, owner: str = DEAD, changes: bool = False
) -> Fate:
    """Do something in a process that ends at its `nth` call of a tier or step of the catalogue; see `Fate`.

    With `changes`, deaths before each one leave behind all that deaths before and after every call would: to die after
    a call is to die before the next one that changes something, but for what other threads do.
    """
    fate = Fate(nth, after=after, changes=changes)
    for tier in TIERS:
        site._tiers[tier] = FatedStorage(bare(site, tier), fate, tier)
    own, site.owner = site.owner, owner
    try:
        with ExitStack() as patches:
            for name in STEPS:
                patches.enter_context(mock.patch.object(Catalog, name, _counted(getattr(Catalog, name), name, fate)))
            act()
    except Crash:
        assert fate.is_dead
    finally:
        site.owner = own
        mended(site)
    return fate


def _counted(original: Callable, name: str, fate: Fate) -> Callable:
    def step(*args: object, **kwargs: object) -> object:
        if not fate.strikes(f"catalogue:{name}"):
            return original(*args, **kwargs)
        if fate.after:
            original(*args, **kwargs)
        fate.die()
        raise AssertionError

    return step


def places(site: ops.Site, slide: str) -> dict[str, str]:
    """Return tier and state of a slide's copies as they count."""
    return {copy.tier: str(copy.state) for copy in site.catalog.copies(slide)}


def assert_whole(site: ops.Site, slide: str, files: dict[str, bytes]) -> None:
    """Check that what is committed is there, and that the slide comes back from a copy that proves good now."""
    for copy in site.catalog.copies(slide):
        if copy.state == "committed":
            assert copy.commit_key in stored_keys(bare(site, copy.tier))
    assert restored(site, slide) == files
    assert site.catalog.check_chains() == []


def assert_at_rest(site: ops.Site, slide: str, files: dict[str, bytes], *tiers: str) -> None:
    """Check that the slide has good copies in `tiers` and nowhere else, and that nothing was left behind."""
    assert places(site, slide) == dict.fromkeys(tiers, "committed")
    assert site.catalog.open_attempts() == []
    assert site.catalog.open_drops() == []
    for tier in TIERS:
        assert stored_keys(bare(site, tier)) == committed_keys(site, tier), tier
    known = {(copy.tier, copy.commit_key) for copy in site.catalog.copies(slide)}
    lying = {(tier, key) for tier in TIERS for key in stored_keys(bare(site, tier)) if key.startswith("commits/")}
    assert {one for one in lying if slide in one[1]} == known
    assert all(result.ok for result in ops.verify(site, [slide]))
    assert_whole(site, slide, files)


def only_owner() -> str:
    """Return this process as owners are named."""
    return str(Owner.current())
