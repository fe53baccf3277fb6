"""Identities that a site held in the clear, sealed: in its catalogue, and in the ledgers that its tiers were told.

It may be killed at any point and run again. First the identity key lies everywhere that what it seals will; then the
catalogue is sealed, and its file written anew; then each tier's ledger begins anew, one after the other, so that the
others could still make up for a lost catalogue. Ledgers that a bucket locks stay until it lets them go.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsistore.catalog import sealing
from wsistore.catalog.sqlite import database_path
from wsistore.errors import InputError, Kind, WsistoreError
from wsistore.keys import identities
from wsistore.ops.identity_keys import ensure_identity_key, lay_down
from wsistore.ops.ledgers import tell
from wsistore.ops.results import Failure
from wsistore.ops.site import Site, read_only_error
from wsistore.storage.base import Storage
from wsistore.storage.encrypted import EncryptedStorage
from wsistore.storage.erasing import erase, lying
from wsistore.tiers.ledger import LEDGER

_log = logging.getLogger(__name__)
_ROUNDS = 5
"""How often a ledger is erased that others write to meanwhile."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What sealing did."""

    rows: int
    """Of the catalogue that held identities in the clear."""
    ledgers: tuple[str, ...]
    """Tiers whose ledgers began anew."""
    failures: tuple[tuple[str, Failure], ...]
    """Tiers whose ledgers may still hold identities in the clear, and why; running it again goes on."""
    copies: tuple[str, ...]
    """Files beside the catalogue that may hold them: backups, and catalogues that were set aside."""


def seal_identities(site: Site) -> Sealed:
    """Seal what identifies patients and lies in the clear; does nothing where nothing does.

    Nothing else should work with the site meanwhile.

    Raises
    ------
    InputError
        If the site's settings do not ask for it.
    SiteError
        If the site has no site key (`Kind.KEY_MISSING`), or cannot be written.
    ConflictError
        If others read or write the catalogue just now (`Kind.BUSY`): run it again.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    if not site.settings.encrypt_identities:
        msg = f"The site {site.settings.name!r} does not encrypt identities."
        raise InputError(msg, kind=Kind.SETTINGS_INVALID, remedy="Set encrypt_identities = true in wsistore.toml.")
    identities.required(site.settings.keys)
    ensure_identity_key(site)
    tiers = {tier.id: tier.name for tier in site.settings.tiers}
    _lay_down_all(site)
    if sealing.count(site.catalog).plain:
        # Noted before the first row changes: nothing of the catalogue tells afterwards what the ledgers still say.
        sealing.begin(site.catalog, tiers)
    rows = sealing.seal_all(site.catalog)
    if sealing.pending(site.catalog)[0]:
        sealing.compact(site.catalog)
        sealing.done(site.catalog)
        sealing.compact(site.catalog)  # of the note, too
    begun, failures = [], []
    for tier_id in sealing.pending(site.catalog)[1]:
        name = tiers.get(tier_id, "")
        try:
            if name:
                _begin_anew(site, name, tier_id)
                begun.append(name)
            sealing.done(site.catalog, ledger=tier_id)
        except WsistoreError as error:
            failures.append((name, Failure.of(error)))
    return Sealed(rows, tuple(begun), tuple(failures), tuple(_others(site)) if rows else ())


def _lay_down_all(site: Site) -> None:
    """See that the identity keys lie on all tiers that can be reached; what is told later sees to it again."""
    for tier in site.settings.tiers:
        try:
            lay_down(site.tier(tier.name), sealing.keys(site.catalog).items())
        except WsistoreError as error:
            _log.warning("the identity keys cannot be laid down in tier %s now: %s", tier.name, error)


def _begin_anew(site: Site, name: str, tier_id: str) -> None:
    """Erase a tier's ledger, which told of identities in the clear, and tell all of it anew."""
    storage = site.tier(name)
    lay_down(storage, sealing.keys(site.catalog).items())
    for _ in range(_ROUNDS):
        keys = _in_the_clear(storage)
        if not keys:
            break
        for key in keys:
            erase(storage, key)
        cursor = site.catalog.ledger_cursor(tier_id)
        if cursor is None or site.catalog.ledger_forget(tier_id, cursor):
            break
    tell(site, name, with_head=True)


def _in_the_clear(storage: Storage) -> Sequence[str]:
    """Return the keys of a ledger, the last first; nothing if all of it is encrypted with the tier's companions."""
    found = sorted({info.key for info in lying(storage, f"{LEDGER}/")}, reverse=True)
    sealed = storage.keys.is_sealed if isinstance(storage, EncryptedStorage) else lambda _: False
    return [] if all(map(sealed, found)) else found


def _others(site: Site) -> list[str]:
    """Return the files that hold what the catalogue held: older backups, and catalogues that a rebuild set aside."""
    place = database_path(site.settings.catalog_url)
    found: list[Path] = [*place.parent.glob(f"{place.name}.before-*"), *(site.folder / "backups").glob("*.db")]
    return sorted(str(path) for path in found if path.is_file())
