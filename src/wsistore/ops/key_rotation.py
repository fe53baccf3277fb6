"""A new version of the site key: all data keys are wrapped anew, the companions themselves stay as they are.

That a rotation is under way stands in ``rotation.json`` in the folder of keys, so that the next run goes on with the
same version. An old version is kept until it is told to be forgotten, and until nothing on any tier needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from wsistore.clock import Clock
from wsistore.compress.keys import Place
from wsistore.errors import ConflictError, Kind, SiteError, WsistoreError
from wsistore.keys import folder as files
from wsistore.keys import signing, site_keys
from wsistore.keys.site_keys import SiteKeys
from wsistore.ops.identity_keys import rewrap_catalog
from wsistore.ops.side_by_side import side_by_side
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.site_keys import show_keys
from wsistore.tiers.keyring import TierKeys, keys_of

STATE, _KIND = "rotation.json", "wsistore-key-rotation"
SETTLED = timedelta(hours=1)
"""How old a version must be before older ones are forgotten: a process that read the keys just before it was made may
still be writing a data key that an older one wraps."""


@dataclass(frozen=True, slots=True)
class TierFailure:
    """A tier, or a data key of it, that could not be dealt with."""

    tier: str
    kind: Kind
    message: str


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did."""

    version: int
    """The version that is current now."""
    resumed: bool
    """Whether an earlier run had begun it."""
    rewrapped: int
    """Data keys that were wrapped anew by this run."""
    forgotten: tuple[int, ...]
    """Versions that were removed."""
    failures: tuple[TierFailure, ...]
    """Where something is still wrapped by an old version; running it again goes on."""


def rotate_keys(
    site: Site,
    *,
    signing_too: bool = False,
    forget_old: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Rotated:
    """Wrap all data keys of all tiers by a new version of the site key.

    May be killed at any point and run again.

    Parameters
    ----------
    site
        An open site.
    signing_too
        Replace the signing key as well; what the old one signed stays valid for those who have its public half.
    forget_old
        Make no new version, but remove the old ones, once nothing needs them.
    progress
        Gets the number of data keys just looked at.

    Raises
    ------
    SiteError
        If the site has no site key, or cannot be written.
    ConflictError
        If old versions are to be forgotten, and may be needed.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    folder = site.settings.keys
    if not site_keys.has_site_key(folder):
        msg = f"There is no site key in {folder}."
        raise SiteError(msg, kind=Kind.KEY_MISSING, remedy="Make keys: wsistore keys init.")
    with files.locked(folder):
        return _forget(site, progress) if forget_old else _rotate(site, folder, signing_too, progress)


def _rotate(site: Site, folder: Path, signing_too: bool, progress: Callable[[int], None]) -> Rotated:
    resumed = _begin(folder, signing_too)
    keys = _next_version(folder, site.clock)
    count, failures = _rewrap_all(site, keys, progress)
    if not failures:
        files.remove(folder / STATE)
    return Rotated(keys.current, resumed, count, (), tuple(failures))


def _begin(folder: Path, signing_too: bool) -> bool:
    """Note that a rotation begins, and to which version; say whether one was under way."""
    if (folder / STATE).exists():
        return True
    keys = _load(folder)
    signer = signing.open_signer(folder) if signing_too else None
    fields = {"to": keys.current + 1, "signing": "" if signer is None else signer.key_id}
    files.replace(folder / STATE, files.encode(_KIND, fields))
    return False


def _next_version(folder: Path, clock: Clock) -> SiteKeys:
    """Return the keys once the version that the rotation is to make is there."""
    path = folder / STATE
    fields = files.decode(path, files.read(path) or b"", _KIND)
    try:
        wanted, replaced = int(fields["to"]), str(fields["signing"])
    except (LookupError, TypeError, ValueError) as error:
        raise files.damaged(path) from error
    signer = signing.open_signer(folder)
    if signer is not None and signer.key_id == replaced:
        signing.rotate_signer(folder, clock)
    keys = _load(folder)
    return keys if keys.current >= wanted else site_keys.add_version(folder, clock)


def _rewrap_all(site: Site, keys: SiteKeys, progress: Callable[[int], None]) -> tuple[int, list[TierFailure]]:
    count, failures = rewrap_catalog(site, keys), []
    for tier in site.settings.tiers:
        try:
            found = keys_of(site.tier(tier.name))
            tried = [] if found is None else _rewrap(found, keys, progress)
        except WsistoreError as error:
            tried = [error]
        count += sum(done is True for done in tried)
        errors = [done for done in tried if isinstance(done, WsistoreError)]
        if errors:
            failures.append(TierFailure(tier.name, errors[0].kind, str(errors[0])))
    return count, failures


def _rewrap(tier: TierKeys, keys: SiteKeys, progress: Callable[[int], None]) -> list[bool | WsistoreError]:
    """Wrap all data keys of a tier anew; what goes wrong with one keeps none of the others from it."""

    def one(place: Place) -> bool | WsistoreError:
        try:
            return tier.rewrap(place, keys)
        except WsistoreError as error:
            return error

    tried = []
    for done in side_by_side(list(tier.places()), one):
        progress(1)
        tried.append(done)
    return tried


def _forget(site: Site, progress: Callable[[int], None]) -> Rotated:
    folder = site.settings.keys
    keys = _load(folder)
    old = [version for version in keys.versions if version != keys.current]
    if not old:
        return Rotated(keys.current, False, 0, (), ())
    _check_forgettable(site, keys)
    count, failures = _rewrap_all(site, keys, progress)
    if failures:
        return Rotated(keys.current, False, count, (), tuple(failures))
    for version in old:
        site_keys.forget_version(folder, version)
    return Rotated(keys.current, False, count, tuple(old), ())


def _check_forgettable(site: Site, keys: SiteKeys) -> None:
    folder = site.settings.keys
    if (folder / STATE).exists():
        msg = "A rotation is not finished."
        raise ConflictError(msg, remedy="Run 'wsistore keys rotate' until it says so.")
    if site.clock.now() - datetime.fromisoformat(keys.made[keys.current]) < SETTLED:
        msg = f"Version {keys.current} of the site key is new: work that began before may need older ones."
        raise ConflictError(msg, remedy="Run it again in an hour.")
    if not show_keys(site.settings).sheets_fit:
        msg = f"The recovery sheets do not hold version {keys.current} of the site key."
        raise ConflictError(msg, kind=Kind.KEY_MISSING, remedy="Make new ones first: wsistore keys sheet.")
    known = {tier.name for tier in site.settings.tiers}
    gone = {copy.tier for copies in site.catalog.current_copies().values() for copy in copies} - known
    if gone:
        msg = f"The catalogue knows of copies in {', '.join(sorted(gone))}, which the settings do not have."
        raise ConflictError(msg, kind=Kind.TIER_UNKNOWN, remedy="Put the tier back into wsistore.toml first.")


def _load(folder: Path) -> SiteKeys:
    keys = site_keys.load(folder)
    if keys is None:
        msg = f"There is no site key in {folder}."
        raise SiteError(msg, kind=Kind.KEY_MISSING, remedy="Bring it back: wsistore keys recover.")
    return keys
