"""ICC profiles: the part that says how colours look, without what says whose scanner took them and when."""

from __future__ import annotations

import struct

_HEADER_BYTES = 128
_SIGNATURE = b"acsp"
_MOST_TAGS = 100
_MOST_BYTES = 16 * 1024 * 1024

_COLOUR_TAGS = frozenset(
    {
        b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"wtpt", b"bkpt", b"chad", b"lumi", b"gamt",
        b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"pre0", b"pre1", b"pre2",
    }
)  # fmt: skip
_NUMBER_TYPES = frozenset({b"XYZ ", b"curv", b"para", b"sf32", b"mft1", b"mft2", b"mAB ", b"mBA "})

_NAME = "Slide scanner"
_RIGHTS = "No copyright"


def shareable(profile: bytes) -> bytes | None:
    """Return what of a profile may be shared; None if it is no sound profile.

    It is written anew from its transforms (matrices, curves, tables). Creation date, device, creator, profile identity,
    bytes outside its tags and all texts are left out; the texts that every profile must have are neutral ones.

    Parameters
    ----------
    profile
        The profile as it is in the slide; zeros behind its declared size are padding.

    """
    if not _HEADER_BYTES + 4 <= len(profile) <= _MOST_BYTES or profile[36:40] != _SIGNATURE:
        return None
    size, count = struct.unpack_from(">I", profile)[0], struct.unpack_from(">I", profile, _HEADER_BYTES)[0]
    if not _HEADER_BYTES + 4 <= size <= len(profile) or any(profile[size:]):
        return None
    start = _HEADER_BYTES + 4 + 12 * count
    if not 1 <= count <= _MOST_TAGS or start > size:
        return None
    parts: dict[bytes, bytes] = {}
    for i in range(count):
        name, offset, length = struct.unpack_from(">4sII", profile, _HEADER_BYTES + 4 + 12 * i)
        if offset < start or length < 8 or offset + length > size:
            return None
        body = profile[offset : offset + length]
        if name in _COLOUR_TAGS and body[:4] in _NUMBER_TYPES:
            parts[name] = body
    if not parts:
        return None
    return _written(profile[:_HEADER_BYTES], parts)


def _written(header: bytes, parts: dict[bytes, bytes]) -> bytes:
    """Return a profile of a header, cleaned, and tags; tags with the same bytes share them."""
    modern = header[8] >= 4
    texts = {b"desc": _localized(_NAME) if modern else _described(_NAME)}
    texts[b"cprt"] = _localized(_RIGHTS) if modern else b"text\0\0\0\0" + _RIGHTS.encode() + b"\0"
    places: dict[bytes, int] = {}
    table, data = b"", b""
    start = _HEADER_BYTES + 4 + 12 * (len(texts) + len(parts))
    for name, body in (texts | parts).items():
        if body not in places:
            places[body] = start + len(data)
            data += body + bytes(-len(body) % 4)
        table += struct.pack(">4sII", name, places[body], len(body))
    clean = bytearray(header)
    struct.pack_into(">I", clean, 0, start + len(data))
    clean[4:8] = bytes(4)  # the colour engine's maker
    clean[24:36] = bytes(12)  # the creation date
    clean[40:64] = bytes(24)  # platform, flags, device: manufacturer, model, attributes
    clean[80:128] = bytes(48)  # creator, profile identity, reserved
    return bytes(clean) + struct.pack(">I", len(texts) + len(parts)) + table + data


def _described(text: str) -> bytes:
    """Return a text as version 2 profiles describe themselves, in ASCII only."""
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text.encode() + b"\0" + bytes(78)


def _localized(text: str) -> bytes:
    coded = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(coded), 28) + coded
