"""Recovery sheets: the site's keys on two sheets of paper, of which one alone tells nothing.

What is kept is the site's name, all versions of the site key and the signing key::

    1 byte    1, the format
    1 byte    length of the site's random name, and the name in ASCII
    1 byte    how many versions of the site key follow
    each:     2 bytes its number (the higher byte first), 32 bytes the version
    1 byte    1 if a signing key follows, else 0
    32 bytes  the private signing key, where there is one
    8 bytes   the beginning of the SHA-256 of all that precedes

The first sheet has as many random bytes, the second the exclusive or of both. On the sheet they stand in Crockford's
base 32 (O counts as 0, I and L as 1, case does not matter), 20 characters to a numbered line. Each line ends in four
check characters, so that a slip of the pen is found in its line.
"""

from __future__ import annotations

import hashlib
import html
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from wsistore.errors import InputError, Kind

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LINE, _GROUP, _CHECK = 20, 5, 4
_SUM_BYTES = 8
_ALIKE = str.maketrans("OIL", "011")
_HEAD = re.compile(r"^\s*(Site|Pair|Sheet)\s*:\s*([0-9A-Za-z]+)", re.MULTILINE | re.IGNORECASE)
_ROW = re.compile(r"^\s*(\d{1,3})(?:\s*[.:)]\s*|[ \t]+)([0-9A-Za-z][0-9A-Za-z \t-]*?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What two sheets hold together."""

    site: str
    """Random name of the site."""
    versions: Mapping[int, bytes]
    """The site key, 32 bytes each, by version."""
    signing: bytes = b""
    """The private signing key, 32 bytes, or nothing."""

    def __repr__(self) -> str:
        return f"Secrets({self.site}, versions {sorted(self.versions)})"


@dataclass(frozen=True, slots=True)
class Sheet:
    """What was read from one sheet."""

    site: str
    pair: str
    number: int
    """1 or 2."""
    share: bytes


def split(kept: Secrets, made: datetime) -> tuple[str, str]:
    """Return the texts of a new pair of sheets."""
    payload = _payload(kept)
    pair = secrets.token_hex(4)
    random = secrets.token_bytes(len(payload))
    shares = (random, _xor(random, payload))
    return _text(kept, pair, 1, shares[0], made), _text(kept, pair, 2, shares[1], made)


def as_html(text: str) -> str:
    """Return a sheet's text as a page that prints well."""
    style = "body{margin:2cm;font:12pt sans-serif}pre{font:13pt/1.7 monospace}@page{size:A4}"
    title = html.escape(text.splitlines()[0])
    head = f'<head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head>'
    return f"<!DOCTYPE html>\n<html>{head}<body><pre>{html.escape(text)}</pre></body></html>\n"


def join(one: str, other: str) -> Secrets:
    """Return what two sheets hold, from their texts as they were printed or typed, in any order.

    Raises
    ------
    InputError
        If a line was mistyped or left out, or the sheets are not two of one pair; the message names sheet and line.

    """
    sheets = sorted((parse(one), parse(other)), key=lambda sheet: sheet.number)
    first, second = sheets
    if (first.site, first.pair) != (second.site, second.pair):
        msg = f"The sheets are of two pairs ({first.site} {first.pair}, {second.site} {second.pair})."
        raise _wrong(msg)
    if (first.number, second.number) != (1, 2):
        msg = f"Both are sheet {first.number} of the pair {first.pair}."
        raise _wrong(msg)
    if len(first.share) != len(second.share):
        short = min(sheets, key=lambda sheet: len(sheet.share))
        msg = f"Sheet {short.number} has fewer lines than the other: its last ones are missing."
        raise _wrong(msg)
    kept = _unpack(_xor(first.share, second.share))
    if kept is None or kept.site != first.site:
        msg = "Every line is right, but the sheets do not fit each other."
        raise _wrong(msg)
    return kept


def parse(text: str) -> Sheet:
    """Return what one sheet says.

    Raises
    ------
    InputError
        If it is none, or a line of it was mistyped or left out.

    """
    head = {name.capitalize(): value.lower() for name, value in _HEAD.findall(text)}
    number = head.get("Sheet", "")
    if set(head) != {"Site", "Pair", "Sheet"} or number not in {"1", "2"}:
        msg = "This is no recovery sheet: it needs the lines 'Site:', 'Pair:' and 'Sheet:' of its head."
        raise _wrong(msg)
    site, pair = head["Site"], head["Pair"]
    characters = ""
    for place, (label, written) in enumerate(_ROW.findall(text), start=1):
        if int(label) != place:
            msg = f"Sheet {number}: line {place} is missing, or stands after line {label}."
            raise _wrong(msg)
        groups = re.sub(r"[\s-]", "", written).upper().translate(_ALIKE)
        body, check = groups[:-_CHECK], groups[-_CHECK:]
        if check != _check(site, pair, number, place, body) or len(body) > _LINE:
            msg = f"Sheet {number}: line {place} is mistyped."
            raise _wrong(msg)
        if characters and len(characters) % _LINE:
            msg = f"Sheet {number}: line {place} follows a line that is the last."
            raise _wrong(msg)
        characters += body
    if not characters:
        msg = f"Sheet {number} has no lines of its share."
        raise _wrong(msg)
    return Sheet(site, pair, int(number), _decode(characters))


def _text(kept: Secrets, pair: str, number: int, share: bytes, made: datetime) -> str:
    characters = _encode(share)
    rows = []
    for place, start in enumerate(range(0, len(characters), _LINE), start=1):
        body = characters[start : start + _LINE]
        groups = " ".join(body[at : at + _GROUP] for at in range(0, len(body), _GROUP))
        width = _LINE + _LINE // _GROUP - 1
        rows.append(f"{place:3}.  {groups:{width}}   {_check(kept.site, pair, str(number), place, body)}")
    versions = ", ".join(map(str, sorted(kept.versions))) or "none"
    return "\n".join(
        [
            f"wsistore recovery sheet {number} of 2",
            "",
            f"Site:  {kept.site}",
            f"Pair:  {pair}",
            f"Sheet: {number}",
            "",
            f"Made on {made.date().isoformat()}; site key version {versions}{', signing key' if kept.signing else ''}.",
            "",
            "Both sheets together open every companion of the site. One alone tells nothing.",
            "Give each to another custodian, keep them in different buildings, and delete the files.",
            "To use them: wsistore keys recover (files, or typed; the last group of a line is its check).",
            "",
            *rows,
            "",
        ]
    )


def _check(site: str, pair: str, number: str, place: int, body: str) -> str:
    digest = hashlib.sha256(f"{site} {pair} {number} {place} {body}".encode()).digest()
    return _encode(digest)[:_CHECK]


def _encode(data: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(_ALPHABET[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


def _decode(characters: str) -> bytes:
    # The check characters of each line have shown that there are no others than those of the alphabet.
    bits = "".join(f"{_ALPHABET.index(character):05b}" for character in characters)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))


def _payload(kept: Secrets) -> bytes:
    name = kept.site.encode("ascii")
    parts = [b"\x01", bytes([len(name)]), name, bytes([len(kept.versions)])]
    for version, key in sorted(kept.versions.items()):
        parts += [version.to_bytes(2, "big"), key]
    parts += [bytes([bool(kept.signing)]), kept.signing]
    payload = b"".join(parts)
    return payload + hashlib.sha256(payload).digest()[:_SUM_BYTES]


def _unpack(payload: bytes) -> Secrets | None:
    """Return what a payload holds; None if its checksum is wrong."""
    body, total = payload[:-_SUM_BYTES], payload[-_SUM_BYTES:]
    if hashlib.sha256(body).digest()[:_SUM_BYTES] != total or body[:1] != b"\x01":
        return None
    at = 2 + body[1]
    site, count = body[2:at].decode("ascii", "replace"), body[at]
    at += 1
    versions = {}
    for _ in range(count):
        versions[int.from_bytes(body[at : at + 2], "big")] = body[at + 2 : at + 34]
        at += 34
    return Secrets(site, versions, body[at + 1 :])


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _wrong(message: str) -> InputError:
    return InputError(message, kind=Kind.SHEET_INVALID, remedy="Compare it with the sheet of paper, and type it again.")
