"""Telling the tiers what the catalogue knows, so that a lost catalogue can be made anew from them alone.

It is done at the end of every command that changed something, for the tiers that it worked with, and for all tiers by
``wsistore catalog backup``. What a tier was not told yet, because it was away or the process died, waits in the
catalogue.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from wsistore.catalog import sealing
from wsistore.catalog.changes import Cursor, Pending
from wsistore.clock import iso
from wsistore.compress.threads import for_each, shared_pool
from wsistore.errors import ConflictError, Kind, ObjectExistsError, ObjectMissingError, WsistoreError
from wsistore.ops.identity_keys import lay_down
from wsistore.ops.signing import known_keys, signer_of
from wsistore.storage.base import Storage
from wsistore.tiers import ledger
from wsistore.tiers.ledger import Head, Segment

if TYPE_CHECKING:
    from wsistore.ops.site import Site

_log = logging.getLogger(__name__)

HEAD_EVERY = timedelta(days=1)
"""How often the root over all chains is signed, where something happened: it takes a look at every chain."""

_TELLERS = 4
"""Tiers that are told at once."""

_ROUNDS = 10_000
"""Segments that are written at once: ten million slides."""


@dataclass(frozen=True, slots=True)
class Told:
    """How far a tier's ledger has come."""

    tier: str
    segments: int
    """That it has now."""
    written: int
    """Of these, those that were written just now."""
    head: str
    """When the last root over all chains was written; empty if none was."""


def tell_used(site: Site, since: int) -> None:
    """Tell the tiers that this process has worked with what is urgent; failures are told and do no harm.

    Where it has worked with none (a hold, say) and something changed since change number `since`, all tiers are told.
    """
    names = site.used_tiers()
    if not names and site.catalog.last_change() > since:
        names = tuple(tier.name for tier in site.settings.tiers)

    def one(name: str) -> None:
        try:
            if site.catalog.ledger_is_due(site.tier_settings(name).id):
                site.tier(name, retries=0)  # one that is away now is told by the next command: nobody waits for it
                tell(site, name)
        except WsistoreError as error:
            _log.warning("the ledger of tier %s was not brought up to date: %s", name, error)

    if len(names) > 1:
        for_each(shared_pool("ledgers", _TELLERS), one, names)
    else:
        for name in names:
            one(name)


def tell(site: Site, tier: str, *, with_head: bool = False) -> Told:
    """Bring a tier's ledger up to date.

    Parameters
    ----------
    site
        Open for writing.
    tier
        Name of a tier.
    with_head
        Sign the root over all chains though the last one is not a day old.

    Raises
    ------
    ConflictError
        If the ledger tells of what this catalogue does not know: it was put back from an old backup.
    StorageError
        If the tier fails.

    """
    storage, tier_id = site.tier(tier), site.tier_settings(tier).id
    written = 0
    for _ in range(_ROUNDS):
        pending = site.catalog.ledger_pending(tier_id)
        if pending is None:
            break
        if not written:
            # What is sealed can be read after a loss only with the keys that seal it.
            lay_down(storage, sealing.keys(site.catalog).items())
        if written or not _began_anew(site, storage, tier_id, pending):
            written += _write_segment(site, storage, tier_id, pending)
    cursor = site.catalog.ledger_cursor(tier_id)
    if cursor is not None and (with_head or _is_head_due(site, cursor)):
        cursor = _write_head(site, storage, tier_id) or cursor
    if cursor is None:
        return Told(tier, 0, 0, "")
    return Told(tier, cursor.number, written, cursor.head_at)


def _began_anew(site: Site, storage: Storage, tier_id: str, pending: Pending) -> bool:
    """Look whether the ledger is still there; where the medium is a new, empty one, let it begin with all slides."""
    seen = pending.seen
    if seen is None:
        return False
    try:
        storage.head(ledger.segment_key(seen.number))
    except ObjectMissingError:
        if not ledger.find_segments(storage):
            _log.warning("%s has lost its ledger, which begins anew: scrub the tier", storage.url)
            return site.catalog.ledger_forget(tier_id, seen)
        _log.warning("%s lacks the last segment of its ledger: somebody took it away", storage.url)
    return False


def _write_segment(site: Site, storage: Storage, tier_id: str, pending: Pending) -> bool:
    """Write one segment; False if somebody else has just done so."""
    seen = pending.seen
    segment = Segment(
        tier=tier_id,
        number=1 if seen is None else seen.number + 1,
        previous=ledger.NO_SEGMENT if seen is None else seen.digest,
        at=iso(site.clock.now()),
        seq=pending.seq,
        after=pending.after,
        slides=pending.slides,
        events=pending.events,
    )
    data, key = ledger.encode_segment(segment, signer_of(site.settings, site.clock)), ledger.segment_key(segment.number)
    try:
        storage.put(key, data, if_absent=True)
    except ObjectExistsError:
        if site.catalog.ledger_cursor(tier_id) == seen:
            _follow(site, storage, tier_id, seen, key)
        return False
    return site.catalog.ledger_advance(tier_id, seen, _cursor_at(segment, data, seen))


def _cursor_at(segment: Segment, data: bytes, before: Cursor | None) -> Cursor:
    head_at = "" if before is None else before.head_at
    return Cursor(
        number=segment.number, digest=ledger.digest(data), seq=segment.seq, after=segment.after, head_at=head_at
    )


def _follow(site: Site, storage: Storage, tier_id: str, seen: Cursor | None, key: str) -> None:
    """Take note of a segment whose writer could not: it died, or the catalogue was put back from a backup.

    Raises
    ------
    ConflictError
        If it tells of what this catalogue does not know.

    """
    data = ledger.get(storage, key)
    segment, _ = ledger.decode_segment(data, known_keys(site.settings), where=key)
    expected = ledger.NO_SEGMENT if seen is None else seen.digest
    if segment.previous != expected or segment.tier != tier_id or not _is_known(site, segment):
        msg = f"The ledger of {storage.url} tells of what this catalogue does not know: {key}."
        remedy = "The catalogue was put back from an old backup, or is another site's: run 'wsistore catalog rebuild'."
        raise ConflictError(msg, kind=Kind.CHAIN_BROKEN, remedy=remedy)
    site.catalog.ledger_advance(tier_id, seen, _cursor_at(segment, data, seen))


def _is_known(site: Site, segment: Segment) -> bool:
    mine: dict[str, Mapping[int, str]] = {}
    for event in segment.events:
        if event.slide not in mine:
            mine[event.slide] = {one.number: one.hash for one in site.catalog.events(event.slide)}
        if mine[event.slide].get(event.number) != event.hash:
            return False
    return segment.seq <= site.catalog.last_change()


def _is_head_due(site: Site, cursor: Cursor) -> bool:
    return not cursor.head_at or cursor.head_at <= iso(site.clock.now() - HEAD_EVERY)


def _write_head(site: Site, storage: Storage, tier_id: str) -> Cursor | None:
    """Sign the root over all chains; None if others changed something meanwhile: the next one does it."""
    found = site.catalog.ledger_heads(tier_id)
    if found is None:
        return None
    cursor, chains = found
    now = iso(site.clock.now())
    head = Head(
        tier=tier_id,
        segment=cursor.number,
        digest=cursor.digest,
        at=now,
        slides=len(chains),
        root=ledger.chains_root(chains),
    )
    data = ledger.encode_head(head, signer_of(site.settings, site.clock))
    with suppress(ObjectExistsError):  # written before a crash: nothing has happened since
        storage.put(ledger.head_key(head.segment), data, if_absent=True)
    new = replace(cursor, head_at=now)
    return new if site.catalog.ledger_advance(tier_id, cursor, new) else None
