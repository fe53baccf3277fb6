"""What tests of archives and recalls share: sites whose tier ``cold`` is a rehearsed archive on a manual clock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from unittest import mock

from tests.catalog_kit import new_url as new_catalog
from tests.move_kit import STEPS, Fate, FatedStorage, _counted
from tests.site_faults import DEAD, Crash
from tests.site_kit import tiny_svs
from wsistore import ops
from wsistore import settings as site_settings
from wsistore.catalog import Catalog
from wsistore.execute import SerialExecutor
from wsistore.ops.recall_lists import lines_of
from wsistore.storage.archive_sim import ArchiveStorage
from wsistore.storage.base import Storage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.open import create_tier
from wsistore.testing.clock import ManualClock

TIERS = ("hot", "warm", "cold")
HOUR = 3600.0
ARCHIVE = """
[tiers.cold.archive]
class = "{name}"
simulated_speed = 1
restore_days = {days}
"""


def archive_site(
    folder: Path,
    clock: ManualClock,
    *,
    name: str = "GLACIER",
    days: int = 1,
    versions: bool = False,
    more: str = "",
    prices: str = "aws-s3-glacier",
) -> ops.Site:
    """Make and open a site of three tiers in memory, of which ``cold`` archives what is verified."""
    site_settings.write_new(folder, tiers={name: f"memory://{folder}/{name}" for name in TIERS})
    path = folder / "wsistore.toml"
    before, table, after = path.read_text().partition("[tiers.cold]\n")
    text = f'{before}{table}prices = "{prices}"\n{after}{ARCHIVE.format(name=name, days=days)}{more}'
    path.write_text(text)
    made = site_settings.load(folder)
    new_catalog(folder)
    site = ops.open_site(folder, clock=clock)
    for tier in made.tiers:
        storage: Storage = MemoryStorage(tier.name, versions=versions, clock=clock)
        if tier.name == "cold":
            storage = ArchiveStorage(storage, clock)
        create_tier(storage, tier.id, tier.name)
        site._tiers[tier.name] = storage
    return site


def reopened(site: ops.Site) -> ops.Site:
    """Open the same site once more, as another process does; its tiers are the same."""
    other = ops.open_site(site.folder, clock=site.clock)
    other._tiers |= site._tiers
    return other


def archive(site: ops.Site) -> ArchiveStorage:
    """Return the rehearsed archive."""
    storage = site._tiers["cold"]
    assert isinstance(storage, ArchiveStorage)
    return storage


def ingested(site: ops.Site, folder: Path, seed: int = 1, **metadata: str) -> tuple[str, dict[str, bytes]]:
    """Take in one small slide; return its key and its files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = tiny_svs(folder / f"slide-{seed}.svs", seed)
    (result,) = ops.ingest(site, [path])
    assert result.slide is not None, result.error
    if metadata:
        site.catalog.put_metadata({result.slide: metadata})
    return result.slide, {path.name: path.read_bytes()}


def classes(site: ops.Site, slide: str) -> dict[str, str]:
    """Return the classes of all objects of a slide's copies in the archive, by key."""
    storage = archive(site)
    keys = [info.key for info in storage.list() if slide in info.key]
    return {key: storage.look(key).storage_class or "STANDARD" for key in keys}


def recall(site: ops.Site, *words: str, hours: float | None = None, **options: object) -> ops.RecallStatus:
    """Recall slides, cases or patients, needed in so many hours."""
    by = None if hours is None else site.clock.now() + timedelta(hours=hours)
    return ops.recall(site, lines_of(words), by=by, **options)  # type: ignore[arg-type]


def advance(site: ops.Site) -> int:
    """Move all recalls on in this process."""
    return ops.advance(site, executor=SerialExecutor())


def states(status: ops.RecallStatus) -> dict[str, str]:
    """Return the state of every case."""
    return {case.case: str(case.state) for case in status.cases}


def expiries(site: ops.Site, slide: str) -> dict[str, str | None]:
    """Return by tier until when a slide's copies stay."""
    return {copy.tier: copy.expires_at for copy in site.catalog.copies(slide)}


def dies(site: ops.Site, act: Callable[[], object], nth: int, *, after: bool, steps: tuple[str, ...] = STEPS) -> Fate:
    """Do something in a process that ends at its `nth` call of a tier or step of the catalogue; see `Fate.is_dead`."""
    fate, tiers = Fate(nth, after=after), dict(site._tiers)
    for tier, storage in tiers.items():
        site._tiers[tier] = FatedStorage(storage, fate, tier)
    own, site.owner = site.owner, DEAD
    try:
        with ExitStack() as patches:
            for name in steps:
                patches.enter_context(mock.patch.object(Catalog, name, _counted(getattr(Catalog, name), name, fate)))
            act()
    except Crash:
        assert fate.is_dead
    finally:
        site.owner = own
        site._tiers.update(tiers)
    return fate
