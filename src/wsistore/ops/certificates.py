"""What proves that a slide was deleted for good: a JSON document that the site signs, in the slide's chain of events.

It names the slide by its key and its content by hashes, the copies that there were and the plan that allowed it. It
does not say whose it was: that is in the plan's elimination list, which names the same keys. As an event it is in the
ledgers of all tiers, and the root over all chains, which they keep, holds it too.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from wsistore.catalog.records import CopyRow
from wsistore.clock import iso
from wsistore.errors import IntegrityError
from wsistore.events import Event, EventKind, canonical_json
from wsistore.keys.signing import id_of, public_keys, verify
from wsistore.ops.signing import signer_of
from wsistore.ops.site import Site

FORMAT = 1
Json = dict[str, Any]

_REMEDY = "Compare it with the one in another tier's ledger, and find out who altered it."


def make_certificate(site: Site, begun: Event, copies: Sequence[CopyRow]) -> Json:
    """Return the signed certificate of a deletion.

    Parameters
    ----------
    site
        An open site.
    begun
        The event that began it, with the authorisation.
    copies
        All copies that the slide ever had.

    Returns
    -------
    dict
        ``document``, and ``signature`` with ``key``, ``public`` and ``signature`` (base64); an empty one where the site
        has no key that can be read.

    """
    document = {
        "format": FORMAT,
        "kind": "deletion",
        "slide": begun.slide,
        "content": begun.detail.get("content", []),
        "copies": [_copy(copy) for copy in copies if copy.attempt in _lying(begun)],
        "authority": begun.detail.get("authority", {}),
        "why": begun.detail.get("why", {}),
        "begun": {"at": begun.at, "by": begun.actor, "event": begun.number, "hash": begun.hash},
        "ended": {"at": iso(site.clock.now()), "by": site.actor},
    }
    return {"document": document, "signature": sign(site, document)}


def certificate_of(events: Sequence[Event]) -> Json | None:
    """Return the certificate in a chain of events, the last if there are several; None if there is none."""
    found = [event.detail.get("certificate") for event in events if event.kind == EventKind.DELETED]
    return dict(found[-1]) if found and isinstance(found[-1], Mapping) else None


def check_certificate(site: Site, certificate: Mapping[str, Any]) -> bool:
    """Say whether a certificate, or a receipt, is signed by a key that the site knows; False where it has no signature.

    Raises
    ------
    IntegrityError
        If it was altered.

    """
    document, signature = certificate.get("document"), certificate.get("signature")
    if not isinstance(document, Mapping) or not isinstance(signature, Mapping):
        msg = "The certificate has no document or no signature."
        raise IntegrityError(msg, remedy=_REMEDY)
    if not signature:
        return False
    try:
        public = base64.b64decode(str(signature["public"]), validate=True)
        sealed = base64.b64decode(str(signature["signature"]), validate=True)
        key = str(signature["key"])
        is_right = verify({key: public}, key, _signed(document), sealed)
    except (LookupError, ValueError, TypeError, binascii.Error, RecursionError):
        is_right = False
    if not is_right:
        what = f"{str(document.get('kind'))[:20]} {str(document.get('slide', ''))[:64]}".rstrip()
        msg = f"The document ({what}) was altered: its signature is wrong."
        raise IntegrityError(msg, remedy=_REMEDY)
    return id_of(public) in public_keys(site.settings.keys)


def _lying(begun: Event) -> set[str]:
    return {str(copy.get("attempt")) for copy in begun.detail.get("copies", ())}


def _copy(copy: CopyRow) -> Json:
    return {
        "tier": copy.tier,
        "attempt": copy.attempt,
        "version": copy.version,
        "commit": copy.commit_key,
        "objects": copy.objects,
        "bytes_stored": copy.bytes_stored,
        "state": str(copy.state),
    }


def sign(site: Site, document: Mapping[str, Any]) -> Json:
    """Return the site's signature of a document: key, public key and signature; nothing where it has no key."""
    signer = signer_of(site.settings, site.clock)
    if signer is None:
        return {}
    signature = signer.sign(_signed(document))
    return {"key": signer.key_id, "public": _text(signer.public), "signature": _text(signature)}


def _signed(document: Mapping[str, Any]) -> bytes:
    """Return the bytes that are signed: no signature of a certificate is one of anything else."""
    return f"wsistore certificate {FORMAT}\n{canonical_json(document)}".encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
