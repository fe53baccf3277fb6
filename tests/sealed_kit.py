"""A second implementation of sealed objects, written from docs/store-format.md, whole objects at a time."""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY = bytes(range(32))
FRAME, TAG, HEADER = 65536, 16, 32


def reference_seal(data_key: bytes, key: str, data: bytes, seed: bytes | None = None) -> bytes:
    """Seal `data`; salt and nonce prefix are made from `seed` (by default: from the key and the data)."""
    random = hashlib.sha256(seed if seed is not None else key.encode() + struct.pack("<I", zlib.crc32(data))).digest()
    header = b"WSISEAL\x01" + random[:23] + b"\x10"
    frames = [data[start : start + FRAME] for start in range(0, len(data), FRAME)] or [b""]
    out = [header]
    for number, frame in enumerate(frames):
        cipher = _cipher(data_key, key, header, number, is_last=number == len(frames) - 1).encryptor()
        cipher.authenticate_additional_data(header + key.encode())
        out.append(cipher.update(frame) + cipher.finalize() + cipher.tag)
    return b"".join(out)


def reference_open(data_key: bytes, key: str, sealed: bytes) -> bytes:
    """Open a sealed object; raises whatever is at hand if it is not sound."""
    header, body = sealed[:HEADER], sealed[HEADER:]
    assert header[:8] == b"WSISEAL\x01"
    assert header[31:] == b"\x10"
    frames = [body[start : start + FRAME + TAG] for start in range(0, len(body), FRAME + TAG)]
    out = []
    for number, frame in enumerate(frames):
        cipher = _cipher(data_key, key, header, number, is_last=number == len(frames) - 1, tag=frame[-TAG:])
        decryptor = cipher.decryptor()
        decryptor.authenticate_additional_data(header + key.encode())
        out.append(decryptor.update(frame[:-TAG]) + decryptor.finalize())
    return b"".join(out)


def _cipher(
    data_key: bytes, key: str, header: bytes, number: int, *, is_last: bool, tag: bytes | None = None
) -> Cipher[modes.GCM]:
    extracted = hmac.digest(header[8:24], data_key, "sha256")
    own = hmac.digest(extracted, b"wsistore sealed object 1\0" + key.encode() + b"\x01", "sha256")
    nonce = header[24:31] + struct.pack(">IB", number, is_last)
    return Cipher(algorithms.AES256(own), modes.GCM(nonce, tag))
