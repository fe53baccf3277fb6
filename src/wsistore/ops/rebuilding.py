"""A lost catalogue made anew from the tiers alone, or an old backup of it brought up to date from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsistore import settings as site_settings
from wsistore.catalog import Catalog, TierRecord, sealing
from wsistore.catalog.rebuilt import Rebuilt, create
from wsistore.catalog.sqlite import database_path
from wsistore.clock import Clock, SystemClock, iso
from wsistore.compress.archive import open_stored
from wsistore.compress.companion import Companion
from wsistore.errors import Kind, SiteError
from wsistore.model import Preset, random_key
from wsistore.ops.gathering import Found, LedgerProof, gather
from wsistore.ops.identity_keys import keys_on, site_identities
from wsistore.ops.merging import Merged, merge
from wsistore.ops.signing import known_keys
from wsistore.ops.site import account
from wsistore.ops.tier_opening import open_tier
from wsistore.settings import Settings, TierSettings
from wsistore.storage.base import Storage
from wsistore.storage.open import check_tier
from wsistore.tiers.commits import Commit

_SEALED = (
    "identities are sealed by keys that are not at hand, so that cases have no patients yet: bring the keys back "
    "('wsistore keys recover'), then run 'wsistore keys seal'"
)


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """What a rebuild has found."""

    tiers: tuple[str, ...]
    slides: int
    copies: int
    """Good ones, by their commits and the sizes of their objects."""
    holds: int
    events: int
    from_companions: int
    """Slides that no ledger knew of: what the site said of them has to be said again."""
    suspect: tuple[str, ...]
    """Copies of which objects are missing or of another size."""
    without_copies: tuple[str, ...]
    """Slides without a good copy in the tiers that were read."""
    problems: tuple[str, ...]
    proofs: tuple[LedgerProof, ...]
    set_aside: str = ""
    """Where the catalogue lies that was there before."""
    seconds: float = field(default=0.0, compare=False)


def rebuild_catalog(
    folder: Path,
    tiers: Sequence[str] = (),
    *,
    base: Path | None = None,
    replace: bool = False,
    clock: Clock | None = None,
    actor: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Rebuilding:
    """Make a site's catalogue from what its tiers know.

    Slides, cases, copies, sources, holds and chains of events come from the tiers' ledgers; which copies there are,
    from the commits that lie there; whether they are whole, from a listing. Contents are not read: `verify` or `scrub`
    do that. The catalogue appears whole or not at all. Nothing else should work with the site meanwhile.

    Parameters
    ----------
    folder
        The site: its ``wsistore.toml``, and its keys if there are any.
    tiers
        Names of the tiers that are read; by default all of them.
    base
        A backup of the catalogue: what it knows counts as that of a tier does.
    replace
        Set a catalogue aside that is there.
    clock, actor
        For the event that every slide gets.
    tell
        Hears what is being done.

    Returns
    -------
    Rebuilding
        What was found. Copies in tiers that were not read are not in the catalogue.

    Raises
    ------
    SiteError
        If there is a catalogue and `replace` is false (`Kind.SITE_EXISTS`); if there is no such tier.
    StorageError
        If a tier is not there, or fails.

    """
    time = clock or SystemClock()
    begun = time.monotonic_seconds()
    settings = site_settings.load(folder)
    place = database_path(settings.catalog_url)
    if place.exists() and not replace:
        msg = f"There is a catalogue already: {place}."
        raise SiteError(msg, kind=Kind.SITE_EXISTS, remedy="With --replace it is set aside.")
    chosen = [settings.tier(name) for name in tiers] or list(settings.tiers)
    storages = {tier.name: _opened(settings, tier, time) for tier in chosen}
    known = known_keys(settings)
    found = [gather(tier.name, tier.id, storages[tier.name], known, tell) for tier in chosen]
    if base is not None:
        found.append(_of_backup(base, time))
    tell("writing the catalogue")
    merged, aside = Merged(), list[str]()
    keys = _identity_keys(storages, base, time)
    is_told = _write(
        settings,
        found,
        merge(found, _reader(storages), actor=actor or account(), now=time.now(), merged=merged),
        lambda place: aside.append(_set_aside(place, time)),
        keys,
    )
    if not is_told:
        merged.problems.append(_SEALED)
    proofs = tuple(one.proof for one in found if one.proof is not None)
    return Rebuilding(
        tiers=tuple(tier.name for tier in chosen),
        slides=merged.slides,
        copies=merged.copies,
        holds=merged.holds,
        events=merged.events,
        from_companions=merged.from_companions,
        suspect=tuple(merged.suspect),
        without_copies=tuple(merged.without_copies),
        problems=tuple(merged.problems),
        proofs=proofs,
        set_aside="".join(aside),
        seconds=time.monotonic_seconds() - begun,
    )


def _opened(settings: Settings, tier: TierSettings, clock: Clock) -> Storage:
    storage = open_tier(tier, retries=settings.retries, clock=clock, keys=settings.keys)
    check_tier(storage, tier.id)
    return storage


def _reader(storages: Mapping[str, Storage]) -> Callable[[str, Commit], Companion]:
    def read(tier: str, commit: Commit) -> Companion:
        return open_stored(storages[tier], commit.place, packed=commit.preset is Preset.PACK).companion

    return read


def _of_backup(path: Path, clock: Clock) -> Found:
    """Return what a backup of the catalogue knows, as a tier that holds no copies."""
    found = Found("backup")
    with Catalog.open(f"sqlite:///{path}", clock=clock, read_only=True) as catalog:
        seq = catalog.last_change()
        for state, events in catalog.all_states():
            slide = state["slide"]["slide"]
            found.states[slide] = (seq, state)
            found.events[slide] = {event.number: event for event in events}
    return found


def _identity_keys(storages: Mapping[str, Storage], base: Path | None, clock: Clock) -> dict[str, str]:
    """Return the wrapped identity keys that the tiers have, and the backup."""
    found: dict[str, str] = {}
    if base is not None:
        with Catalog.open(f"sqlite:///{base}", clock=clock, read_only=True) as catalog:
            found |= sealing.keys(catalog)
    for storage in storages.values():
        found |= keys_on(storage)  # wrapped by a newer version of the site key than in a backup
    return found


def _set_aside(place: Path, clock: Clock) -> str:
    """Give what has the catalogue's name another one; return it, or nothing if there was none.

    A log of SQLite's that lies there alone goes too: it would be taken for the new catalogue's. The file goes first:
    one without its log would look like a whole catalogue, and be an old one.
    """
    stamp = iso(clock.now()).replace(":", "").replace("-", "")[:15]
    aside = place.with_name(f"{place.name}.before-{stamp}-{random_key(4)}")
    there = [suffix for suffix in ("", "-wal", "-shm") if os.path.lexists(f"{place}{suffix}")]
    for suffix in there:
        Path(f"{place}{suffix}").rename(f"{aside}{suffix}")
    return str(aside) if there else ""


def _write(
    settings: Settings,
    found: Sequence[Found],
    rebuilt: Iterator[Rebuilt],
    make_way: Callable[[Path], None],
    keys: Mapping[str, str],
) -> bool:
    ids = {tier.name: tier.id for tier in settings.tiers}
    cursors = {ids[one.tier]: one.cursor for one in found if one.cursor is not None}
    tiers = [TierRecord(name=tier.name, id=tier.id, url=tier.url) for tier in settings.tiers]
    heard = [one.cursor.seq for one in found if one.cursor is not None]
    heard += [seq for one in found for seq, _ in one.states.values()]
    first = max(heard, default=0) + 1
    return create(
        settings.catalog_url,
        rebuilt,
        tiers,
        cursors,
        first_change=first,
        make_way=make_way,
        keys=keys,
        identities=site_identities(settings),
    )
