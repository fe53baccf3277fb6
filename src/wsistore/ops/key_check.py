"""Whether every companion that is encrypted can still be decrypted: losing a key is losing slides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from wsistore.catalog.records import CopyRow
from wsistore.compress.keys import Place
from wsistore.errors import Kind, WsistoreError
from wsistore.keys import site_keys
from wsistore.keys.site_keys import SiteKeys, WrappedKey
from wsistore.ops.identity_check import check_identities
from wsistore.ops.key_finding import KeyFinding, failed
from wsistore.ops.key_rotation import STATE
from wsistore.ops.side_by_side import side_by_side
from wsistore.ops.site import Site
from wsistore.ops.site_keys import check_apart, show_keys
from wsistore.ops.stored import commit_of, place_of
from wsistore.ops.tier_rows import Result
from wsistore.storage.base import Span
from wsistore.storage.encrypted import EncryptedStorage
from wsistore.storage.sealing import MAGIC
from wsistore.tiers.keyring import TierKeys, keys_of

_NAMED = 5
"""Slides that a line names at most."""


def check_keys(site: Site) -> Iterator[KeyFinding]:
    """Yield what there is to say of a site's keys: `Result.FAILED` where something cannot be read any more.

    The folder, its permissions, the recovery sheets; the identities in the catalogue; then on every tier all data keys,
    each of which is unwrapped, and all copies that the catalogue knows there. Companions themselves are not read: that
    is what `verify` does.
    """
    yield from _folder(site)
    try:
        keys = site_keys.load(site.settings.keys)
    except WsistoreError:
        return  # the line above says so
    yield from check_identities(site)
    for tier in site.settings.tiers:
        try:
            storage = site.tier(tier.name)
            found = keys_of(storage)
            if found is not None and isinstance(storage, EncryptedStorage):
                yield from _tier(site, tier.name, storage, found, keys)
        except WsistoreError as error:
            yield failed("data-keys", error, tier.name)


def is_sound(findings: list[KeyFinding]) -> bool:
    """Say whether nothing is lost."""
    return all(finding.result is not Result.FAILED for finding in findings)


# --- the folder -------------------------------------------------------------------------------------------------------


def _folder(site: Site) -> Iterator[KeyFinding]:
    folder = site.settings.keys
    try:
        check_apart(site.settings)
        shown = show_keys(site.settings)
    except WsistoreError as error:
        yield failed("folder", error)
        return
    encrypting = [tier.name for tier in site.settings.tiers if tier.encrypt_companions]
    if not shown.versions:
        wanted = f", and {', '.join(encrypting)} should encrypt" if encrypting else ""
        result = Result.FAILED if encrypting else Result.NO
        remedy = "wsistore keys recover, if there were keys; else wsistore keys init." if encrypting else ""
        yield KeyFinding("site-key", "", result, f"there is no site key in {folder}{wanted}", remedy)
    else:
        names = ", ".join(f"{one.version} ({one.name})" for one in shown.versions)
        yield KeyFinding("site-key", "", Result.OK, f"site {shown.site}, versions {names}")
    signs = f"signs as {shown.signing}" if shown.signing else "there is none"
    yield KeyFinding("signing-key", "", Result.OK if shown.signing else Result.NO, signs)
    if shown.versions:
        yield _sheets(shown.sheets_made, fit=shown.sheets_fit)
        yield from _place(site, folder)
    if (folder / STATE).exists():
        yield KeyFinding("rotation", "", Result.WARNING, "a rotation is not finished", "Run: wsistore keys rotate")


def _sheets(made: str, *, fit: bool) -> KeyFinding:
    if fit:
        return KeyFinding("sheets", "", Result.OK, f"made on {made[:10]} for the keys that are there")
    figure = f"those of {made[:10]} do not hold all keys" if made else "none were ever made"
    return KeyFinding("sheets", "", Result.WARNING, figure, "Make a new pair: wsistore keys sheet --to DIR")


def _place(site: Site, folder: Path) -> Iterator[KeyFinding]:
    """Warn of keys that would be lost together with what they are for."""
    device = folder.stat().st_dev
    paths = [tier.path for tier in site.settings.tiers if tier.path is not None]
    if len(paths) == len(site.settings.tiers) and all(p.exists() and p.stat().st_dev == device for p in paths):
        figure = "the keys lie on the same file system as all tiers"
        yield KeyFinding("place", "", Result.WARNING, figure, "Keep a copy elsewhere; the sheets count as one.")


# --- a tier -----------------------------------------------------------------------------------------------------------


def _tier(
    site: Site, tier: str, storage: EncryptedStorage, ring: TierKeys, keys: SiteKeys | None
) -> Iterator[KeyFinding]:
    places = list(ring.places())
    looked = list(side_by_side(places, lambda place: _look(ring, place, keys)))
    wrong = [found for found in looked if isinstance(found, WsistoreError)]
    wrapped = [found for found in looked if isinstance(found, WrappedKey)]
    versions = Counter(found.site_key for found in wrapped if not found.destroyed)
    figure = f"{sum(versions.values())} data keys"
    if versions:
        figure += " (" + ", ".join(f"version {v}: {n}" for v, n in sorted(versions.items())) + ")"
    destroyed = sum(bool(found.destroyed) for found in wrapped)
    figure += f", {destroyed} destroyed" if destroyed else ""
    if wrong:
        figure += f"; {len(wrong)} cannot be used: {wrong[0].message}"
        yield KeyFinding("data-keys", tier, Result.FAILED, figure, wrong[0].remedy)
    elif keys is not None and any(version != keys.current for version in versions):
        yield KeyFinding("data-keys", tier, Result.WARNING, figure, "Wrap all by the current one: wsistore keys rotate")
    else:
        yield KeyFinding("data-keys", tier, Result.OK, figure)
    yield from _copies(site, tier, storage, {(place.slide, place.attempt) for place in places})


def _look(ring: TierKeys, place: Place, keys: SiteKeys | None) -> WrappedKey | WsistoreError | None:
    try:
        found = ring.look(place)
        if found is not None and not found.destroyed and keys is not None:
            keys.unwrap(found, where=f"The companion of slide {found.slide}")
    except WsistoreError as error:
        return error
    return found


def _copies(site: Site, tier: str, storage: EncryptedStorage, known: set[tuple[str, str]]) -> Iterator[KeyFinding]:
    """Look at the copies without a data key: they must not be encrypted."""
    copies = [copy for found in site.catalog.current_copies().values() for copy in found if copy.tier == tier]
    without = [copy for copy in copies if (copy.slide, copy.attempt) not in known]
    lost = side_by_side(without, lambda copy: _is_sealed(storage, copy))
    sealed = [copy for copy, is_lost in zip(without, lost, strict=True) if is_lost]
    if sealed:
        named = ", ".join(copy.slide for copy in sealed[:_NAMED]) + (" …" if len(sealed) > _NAMED else "")
        figure = f"{len(sealed)} encrypted companions have lost their data keys: {named}"
        remedy = "Restore keyring/ of the tier from a backup; else copy the slides here from another tier."
        yield KeyFinding("copies", tier, Result.FAILED, figure, remedy)
    plain = len(without) - len(sealed)
    if plain and site.tier_settings(tier).encrypt_companions:
        figure = f"{plain} of {len(copies)} companions lie as they are, from before the setting"
        yield KeyFinding("copies", tier, Result.WARNING, figure, "Encode them anew, or move them out and in again.")
    elif not sealed:
        yield KeyFinding("copies", tier, Result.OK, f"{len(copies)} copies")


def _is_sealed(storage: EncryptedStorage, copy: CopyRow) -> bool:
    first = next((r.key for r in commit_of(copy).objects if r.key.startswith(place_of(copy).private)), None)
    try:
        return first is not None and storage.inner.get(first, Span(0, len(MAGIC))) == MAGIC
    except WsistoreError as error:
        if error.kind is Kind.OBJECT_MISSING:
            return False  # verify says so
        raise
