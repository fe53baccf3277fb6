"""Segments and heads of ledgers: what is altered, left out or put in shows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wsistore.errors import IntegrityError, Kind
from wsistore.events import EventKind, NewEvent, next_event
from wsistore.keys.signing import Signer
from wsistore.tiers import ledger, merkle
from wsistore.tiers.ledger import Head, Segment, Signed

SIGNER = Signer(bytes(range(32)))
OTHER = Signer(bytes(range(1, 33)))
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
EVENT = next_event(None, "slide1", NewEvent(EventKind.INGESTED, "operator", {"tier": "hot", "name": "é\udcff"}), NOW)
SEGMENT = Segment(
    tier="tier1",
    number=3,
    previous="ab" * 32,
    at="2026-01-31T12:00:00.000000Z",
    seq=17,
    after=None,
    slides={"slide1": {"slide": {"name": "é"}, "sources": [], "copies": [], "holds": [], "fence": 2}},
    events=(EVENT,),
)
HEAD = Head(tier="tier1", segment=3, digest="cd" * 32, at=SEGMENT.at, slides=1, root="ef" * 32)
KEY, HEAD_KEY = ledger.segment_key(3), ledger.head_key(3)
KNOWN = {SIGNER.key_id}


def test_keys_sort_as_numbers_do() -> None:
    numbers = [1, 9, 10, 999, 10**6]
    assert sorted(ledger.segment_key(number) for number in numbers) == [ledger.segment_key(one) for one in numbers]
    assert KEY == "ledger/segments/000000000003.json.zst"
    assert HEAD_KEY == "ledger/heads/000000000003.json"


@pytest.mark.parametrize(
    ("signer", "known", "signed"),
    [(SIGNER, KNOWN, Signed.KNOWN), (OTHER, KNOWN, Signed.FOREIGN), (None, KNOWN, Signed.NOT)],
)
def test_what_is_written_is_read(signer: Signer | None, known: set[str], signed: Signed) -> None:
    assert ledger.decode_segment(ledger.encode_segment(SEGMENT, signer), known, where=KEY) == (SEGMENT, signed)
    assert ledger.decode_head(ledger.encode_head(HEAD, signer), known, where=HEAD_KEY) == (HEAD, signed)


@pytest.mark.parametrize("kind", ["segment", "head"])
def test_every_byte_counts(kind: str) -> None:
    data = ledger.encode_segment(SEGMENT, SIGNER) if kind == "segment" else ledger.encode_head(HEAD, SIGNER)
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            if kind == "segment":
                assert ledger.decode_segment(altered, KNOWN, where=KEY)[1] is not Signed.KNOWN
            else:
                assert ledger.decode_head(altered, KNOWN, where=HEAD_KEY)[1] is not Signed.KNOWN
        except IntegrityError:
            continue
        # What no signature covers is the name of the signature itself.
        assert b'"signature"' not in altered.partition(b"\n")[0]


@pytest.mark.parametrize("length", [0, 1, 30, 200, -1])
def test_what_is_cut_off_is_damaged(length: int) -> None:
    data = ledger.encode_segment(SEGMENT, SIGNER)
    with pytest.raises(IntegrityError):
        ledger.decode_segment(data[:length], KNOWN, where=KEY)


def test_a_signature_of_one_kind_is_none_of_another() -> None:
    header, _, body = ledger.encode_head(HEAD, SIGNER).partition(b"\n")
    forged = json.dumps({**json.loads(header), "kind": "segment"}).encode() + b"\n" + body
    with pytest.raises(IntegrityError):
        ledger.decode_segment(forged, KNOWN, where=KEY)


def test_a_segment_under_another_number_is_refused() -> None:
    data = ledger.encode_segment(SEGMENT, SIGNER)
    with pytest.raises(IntegrityError, match="it is segment 3"):
        ledger.decode_segment(data, KNOWN, where=ledger.segment_key(4))
    with pytest.raises(IntegrityError, match="it is the head after segment 3"):
        ledger.decode_head(ledger.encode_head(HEAD, SIGNER), KNOWN, where=ledger.head_key(4))


def test_a_newer_format_is_named() -> None:
    header, _, body = ledger.encode_head(HEAD, SIGNER).partition(b"\n")
    newer = json.dumps({**json.loads(header), "format": 2}).encode() + b"\n" + body
    with pytest.raises(IntegrityError, match="format 2") as caught:
        ledger.decode_head(newer, KNOWN, where=HEAD_KEY)
    assert caught.value.kind is Kind.FORMAT_UNKNOWN


def test_a_key_whose_public_half_is_another_is_no_key() -> None:
    header, _, body = ledger.encode_head(HEAD, OTHER).partition(b"\n")
    forged = json.dumps({**json.loads(header), "key": SIGNER.key_id}).encode() + b"\n" + body
    with pytest.raises(IntegrityError, match="altered"):
        ledger.decode_head(forged, KNOWN, where=HEAD_KEY)


# --- the tree ---------------------------------------------------------------------------------------------------------


def slow_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + slow_root(leaves[:k]) + slow_root(leaves[k:])).digest()


@pytest.mark.parametrize("count", [*range(20), 31, 32, 33, 100])
def test_root_is_that_of_the_rfc(count: int) -> None:
    leaves = [str(number).encode() for number in range(count)]
    assert merkle.root(leaves) == slow_root(leaves).hex()


def test_root_of_chains_tells_every_change() -> None:
    heads = [("a", 1, "x"), ("b", 2, "y"), ("c", 3, "z")]
    root = ledger.chains_root(heads)
    for other in (heads[:2], [*heads, ("d", 1, "w")], [("a", 2, "x"), *heads[1:]], [("a", 1, "w"), *heads[1:]]):
        assert ledger.chains_root(other) != root


def test_the_file_tells_who_signed_it() -> None:
    header = json.loads(ledger.encode_head(HEAD, SIGNER).partition(b"\n")[0])
    assert header["key"] == SIGNER.key_id
    assert set(header) == {"format", "kind", "key", "public", "signature"}
    assert "signature" not in json.loads(ledger.encode_head(replace(HEAD), None).partition(b"\n")[0])


def test_the_module_names_the_places_that_the_format_names() -> None:
    text = (Path(__file__).parents[2] / "docs" / "store-format.md").read_text(encoding="utf-8")
    assert "ledger/segments/" in text
    assert "ledger/heads/" in text
