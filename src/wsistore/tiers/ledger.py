"""Ledgers: what the catalogue knows, told to each tier in segments that are never changed; see docs/store-format.md.

A segment carries the hash of the one before and a signature of the site, so that none can be altered, left out or put
in unseen. It has the state of some slides, whole, and the events that are new: what a lost catalogue is rebuilt from.

A *head* is the signed root of a Merkle tree over the last events of all chains, as they were when a segment was
written.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from numcodecs.zstd import Zstd

from wsistore.compress import bounded
from wsistore.errors import IntegrityError, Kind
from wsistore.events import Event
from wsistore.keys.signing import Signer, verify
from wsistore.storage.base import Span, Storage
from wsistore.tiers import merkle

LEDGER = "ledger"
"""First part of the keys of all ledger objects."""
SEGMENTS, HEADS = f"{LEDGER}/segments", f"{LEDGER}/heads"
FORMAT = 1
NO_SEGMENT = "0" * 64
"""What the first segment gives as `Segment.previous`."""


class Signed(StrEnum):
    """What a ledger's object is signed with."""

    KNOWN = "known"
    """One of the site's keys."""
    FOREIGN = "foreign"
    """A key that the site does not have: its keys were lost, or somebody else wrote there."""
    NOT = "not"
    """Nothing."""


_ZSTD_LEVEL = 9
_MOST_HEADER_BYTES = 4096
_MOST_BYTES = 512 * 1024 * 1024
_KEY = re.compile(rf"(?:{SEGMENTS}|{HEADS})/(\d{{12}})\.json(?:\.zst)?")
_REMEDY = "Look at the ledgers of the other tiers, and find out who wrote there."


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One piece of a tier's ledger."""

    tier: str
    """Id of the tier."""
    number: int
    """From 1, without gaps."""
    previous: str
    """SHA-256 of the segment before; zeros for the first."""
    at: str
    seq: int
    """Number of the catalogue's last change that the segment knows of: of two states of a slide, the one that is told
    with the greater number is the newer, on whichever tier."""
    after: str | None
    """Not None while a ledger begins, with all slides in order of their keys: the last of them so far."""
    slides: Mapping[str, Mapping[str, Any]]
    """See `wsistore.catalog.states.State`."""
    events: Sequence[Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The root over the last events of all chains."""

    tier: str
    segment: int
    """The segment after which it holds."""
    digest: str
    """Of that segment."""
    at: str
    slides: int
    """How many chains there are."""
    root: str


def segment_key(number: int) -> str:
    """Return the key of a segment."""
    return f"{SEGMENTS}/{number:012d}.json.zst"


def head_key(segment: int) -> str:
    """Return the key of the head that was made after a segment."""
    return f"{HEADS}/{segment:012d}.json"


def digest(data: bytes) -> str:
    """Return the SHA-256 of an object, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def chains_root(heads: Iterable[tuple[str, int, str]]) -> str:
    """Return the Merkle root over the last events of all chains: slide, number and hash of each, sorted by slide."""
    return merkle.root(f"{slide} {number} {last}".encode() for slide, number, last in heads)


# --- objects ----------------------------------------------------------------------------------------------------------


def encode_segment(segment: Segment, signer: Signer | None) -> bytes:
    """Return the segment's object."""
    # Not `asdict`: it copies every state and detail to its leaves, which takes longer than all the rest.
    document = {field.name: getattr(segment, field.name) for field in fields(Segment)}
    events = [{name: getattr(event, name) for name in Event.__slots__} for event in segment.events]
    return _sealed("segment", document | {"events": events}, signer)


def encode_head(head: Head, signer: Signer | None) -> bytes:
    """Return the head's object."""
    return _sealed("head", asdict(head), signer)


def decode_segment(data: bytes, known: Collection[str], *, where: str) -> tuple[Segment, Signed]:
    """Return the segment whose object is `data`, and by whom it is signed; `known` are the ids of the site's keys.

    Raises
    ------
    IntegrityError
        If it is damaged, its signature is wrong, or it is of a newer format.

    """
    document, signed = _opened("segment", data, known, where)
    with _understood(where):
        events = tuple(Event(**bounded.mapping(event)) for event in document.pop("events"))
        slides = {bounded.text(key): bounded.mapping(state) for key, state in document.pop("slides").items()}
        segment = Segment(**document, slides=slides, events=events)
        if segment_key(bounded.count(segment.number, 1)) != where:
            msg = f"it is segment {segment.number}"
            raise ValueError(msg)
        bounded.count(segment.seq)
    return segment, signed


def decode_head(data: bytes, known: Collection[str], *, where: str) -> tuple[Head, Signed]:
    """Return the head whose object is `data`, and by whom it is signed; raises as `decode_segment`."""
    document, signed = _opened("head", data, known, where)
    with _understood(where):
        head = Head(**document)
        if head_key(bounded.count(head.segment, 1)) != where:
            msg = f"it is the head after segment {head.segment}"
            raise ValueError(msg)
    return head, signed


def _sealed(kind: str, document: Mapping[str, Any], signer: Signer | None) -> bytes:
    payload = json.dumps(document, allow_nan=False, sort_keys=True, separators=(",", ":")).encode("ascii")
    header: dict[str, Any] = {"format": FORMAT, "kind": kind}
    if signer is not None:
        signature = signer.sign(_signed(kind, payload))
        header |= {"key": signer.key_id, "public": _text(signer.public), "signature": _text(signature)}
    body = bytes(Zstd(level=_ZSTD_LEVEL, checksum=True).encode(payload)) if kind == "segment" else payload
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n" + body


def _signed(kind: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: no signature of one kind is one of another."""
    return f"wsistore ledger {kind} {FORMAT}\n".encode() + payload


def _opened(kind: str, data: bytes, known: Collection[str], where: str) -> tuple[dict[str, Any], Signed]:
    line, _, body = data[:_MOST_HEADER_BYTES].partition(b"\n")
    header = bounded.json_object(line, where=where)
    if header.get("format") != FORMAT or header.get("kind") != kind:
        msg = (
            f"{where} is a {header.get('kind')!r:.40} of format {header.get('format')!r:.40}, not a {kind} of format 1."
        )
        raise IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="Read it with a newer wsistore.")
    body = data[len(line) + 1 :]
    payload = bounded.zstd(body, _MOST_BYTES, where=where) if kind == "segment" else body
    signed = Signed.NOT
    if "signature" in header:
        if not _is_right(header, _signed(kind, payload)):
            msg = f"{where} was altered: its signature is wrong."
            raise IntegrityError(msg, remedy=_REMEDY)
        signed = Signed.KNOWN if header["key"] in known else Signed.FOREIGN
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, error) from error
    if not isinstance(document, dict):
        raise _damaged(where, "no JSON object")
    return document, signed


def _is_right(header: Mapping[str, Any], signed: bytes) -> bool:
    try:
        key, public, signature = (bounded.text(header[name]) for name in ("key", "public", "signature"))
        keys = {key: base64.b64decode(public, validate=True)}
        return verify(keys, key, signed, base64.b64decode(signature, validate=True))
    except (ValueError, LookupError, TypeError):
        return False


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


@contextmanager
def _understood(where: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(where, error) from error


def _damaged(where: str, why: object) -> IntegrityError:
    return IntegrityError(f"{where} is damaged ({str(why)[:200]}).", remedy=_REMEDY)


# --- reading ----------------------------------------------------------------------------------------------------------


def find_segments(storage: Storage) -> list[str]:
    """Return the keys of a tier's segments, in order."""
    return [info.key for info in storage.list(f"{SEGMENTS}/") if _KEY.fullmatch(info.key)]


def find_heads(storage: Storage) -> list[str]:
    """Return the keys of a tier's heads, in order."""
    return [info.key for info in storage.list(f"{HEADS}/") if _KEY.fullmatch(info.key)]


def get(storage: Storage, key: str) -> bytes:
    """Return a ledger's object, never more than a sound one may have."""
    return storage.get(key, Span(0, _MOST_BYTES))
