"""Whether every identity that is sealed can still be opened, and whether any lies in the clear that should not."""

from __future__ import annotations

from collections.abc import Iterator

from wsistore.catalog import sealing
from wsistore.errors import WsistoreError
from wsistore.ops.identity_keys import keys_on
from wsistore.ops.key_finding import KeyFinding, failed
from wsistore.ops.site import Site
from wsistore.ops.tier_rows import Result

_SEAL = "Seal it: wsistore keys seal"
_LOST = "Bring the keys back: wsistore keys recover; or restore keyring/identities/ of a tier from a backup."


def check_identities(site: Site) -> Iterator[KeyFinding]:
    """Yield what there is to say of a site's sealed identities: each of them is opened."""
    try:
        kept, found = sealing.keys(site.catalog), sealing.count(site.catalog)
        file, ledgers = sealing.pending(site.catalog)
    except WsistoreError as error:
        yield failed("identities", error)
        return
    is_on = site.settings.encrypt_identities
    if not (is_on or found.sealed or kept):
        return
    yield _sealed(found, is_on=is_on)
    if is_on and not kept:
        figure = "encrypt_identities is set, and there is no identity key: nothing that identifies patients is taken in"
        yield KeyFinding("identity-key", "", Result.FAILED, figure, "wsistore keys recover, or wsistore keys init")
    names = {tier.id: tier.name for tier in site.settings.tiers}
    waiting = ["the catalogue's file"] if file else []
    waiting += [f"the ledger of {names.get(one, one)}" for one in ledgers]
    if waiting:
        figure = f"what was sealed may still lie in the clear in {', '.join(waiting)}"
        yield KeyFinding("sealing", "", Result.WARNING, figure, "Run again: wsistore keys seal")
    used = {name for name, number in found.sealed.items() if number}
    for tier in site.settings.tiers:
        yield from _on_tier(site, tier.name, kept, used)


def _sealed(found: sealing.Counted, *, is_on: bool) -> KeyFinding:
    figure = f"{found.sealed.total()} sealed, {found.plain} in the clear"
    if found.wrong:
        figure += f"; {len(found.wrong)} cannot be opened: {found.wrong[0]}"
        return KeyFinding("identities", "", Result.FAILED, figure, _LOST)
    if is_on and found.plain:
        return KeyFinding("identities", "", Result.WARNING, figure, _SEAL)
    if not is_on and found.sealed:
        remedy = "Set encrypt_identities = true, or know that new ones are not sealed."
        return KeyFinding("identities", "", Result.WARNING, figure, remedy)
    return KeyFinding("identities", "", Result.OK, figure)


def _on_tier(site: Site, tier: str, kept: dict[str, str], used: set[str]) -> Iterator[KeyFinding]:
    """Look whether a tier that was told of sealed identities has their keys, for the day the catalogue is lost."""
    try:
        there = keys_on(site.tier(tier))
        is_told = site.catalog.ledger_cursor(site.tier_settings(tier).id) is not None
    except WsistoreError as error:
        yield failed("identity-key", error, tier)
        return
    missing = (used & kept.keys()) - there.keys()
    if is_told and missing:
        figure = f"{len(missing)} identity keys are missing from keyring/identities/"
        yield KeyFinding("identity-key", tier, Result.WARNING, figure, "Lay them down: wsistore keys seal")
    else:
        yield KeyFinding("identity-key", tier, Result.OK, f"{len(there)} identity keys")
