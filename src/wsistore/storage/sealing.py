"""Objects encrypted in frames, so that any range is read by decrypting the frames that it touches and no others.

A sealed object is a header and one or more frames::

    header   8 bytes   57 53 49 53 45 41 4C 01  ("WSISEAL" and the format's number, 1)
            16 bytes   salt, random for each object
             7 bytes   nonce prefix, random for each object
             1 byte    16: the binary logarithm of the bytes in a frame before encryption
    frame   65 536 bytes of the object (the last frame: 1 to 65 536; of an empty object: none), encrypted, and 16 bytes
            of authentication tag

A frame is AES-256-GCM. Its key is HKDF-SHA256 of the data key, with the header's salt, and as info the ASCII text
``wsistore sealed object 1``, a zero byte, and the object's key on the tier in UTF-8. Its nonce is the nonce prefix, the
frame's number from 0 (4 bytes, the highest first), and one byte: 1 for the last frame, else 0. Its additional data are
the header and the object's key in UTF-8. So frames can be neither changed, cut off, put in another order nor taken from
another object without being refused: this is the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár.

The size of a sealed object is a function of the size of what is in it: 32 bytes, and 16 more for each frame.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wsistore.errors import IntegrityError

MAGIC = b"WSISEAL\x01"
"""What every sealed object begins with."""
FRAME_BYTES = 1 << 16
TAG_BYTES = 16
SEALED_BYTES = FRAME_BYTES + TAG_BYTES
"""Of a full frame as it is stored."""
HEADER_BYTES = 32
_SALT_BYTES, _PREFIX_BYTES, _LOG_FRAME = 16, 7, 16
_MOST_FRAMES = 1 << 32
_INFO = b"wsistore sealed object 1\0"
_REMEDY = "Restore the slide from another copy, or ingest its source again."


def sealed_size(size_bytes: int) -> int:
    """Return the size of a sealed object that holds `size_bytes`."""
    frames = max(1, -(-size_bytes // FRAME_BYTES))
    return HEADER_BYTES + size_bytes + frames * TAG_BYTES


def plain_size(sealed_bytes: int) -> int:
    """Return how many bytes a sealed object of this size holds; 0 for a size that no sealed object has."""
    body = sealed_bytes - HEADER_BYTES
    frames = max(1, -(-body // SEALED_BYTES))
    size = body - frames * TAG_BYTES
    return size if size > 0 and sealed_size(size) == sealed_bytes else 0


def frame_start(number: int) -> int:
    """Return where the frame `number` of a sealed object starts."""
    return HEADER_BYTES + number * SEALED_BYTES


def new_header() -> bytes:
    """Return the header of a new object."""
    return MAGIC + secrets.token_bytes(_SALT_BYTES + _PREFIX_BYTES) + bytes([_LOG_FRAME])


class Frames:
    """Encrypts and decrypts the frames of one object. Threads may share it.

    Parameters
    ----------
    data_key
        32 bytes.
    key
        The object's key on its tier.
    header
        What the object begins with, or is to begin with.

    Raises
    ------
    IntegrityError
        If `header` is not that of a sealed object.

    """

    def __init__(self, data_key: bytes, key: str, header: bytes) -> None:
        self._name = key
        if len(header) != HEADER_BYTES or not header.startswith(MAGIC) or header[-1] != _LOG_FRAME:
            msg = "has not the header of a sealed object"
            raise self._broken(msg)
        self.header = bytes(header)
        salt = self.header[len(MAGIC) :][:_SALT_BYTES]
        self._prefix = self.header[len(MAGIC) + _SALT_BYTES :][:_PREFIX_BYTES]
        name = key.encode()
        self._cipher = AESGCM(HKDF(SHA256(), 32, salt, _INFO + name).derive(data_key))
        self._data = self.header + name

    def __repr__(self) -> str:
        return f"Frames({self._name!r})"

    def seal(self, number: int, data: bytes | memoryview, *, is_last: bool) -> bytes:
        """Return a frame as it is stored."""
        return self._cipher.encrypt(self._nonce(number, is_last), data, self._data)

    def open(self, number: int, sealed: bytes | memoryview, *, is_last: bool) -> bytes:
        """Return what a frame holds.

        Raises
        ------
        IntegrityError
            If it is not what was sealed: in this place, of this object.

        """
        try:
            return self._cipher.decrypt(self._nonce(number, is_last), sealed, self._data)
        except (InvalidTag, ValueError) as error:
            msg = f"is not what was sealed (frame {number})"
            raise self._broken(msg) from error

    def open_some(self, first: int, sealed: bytes | memoryview, asked_bytes: int) -> bytes:
        """Return what some frames in a row hold.

        Parameters
        ----------
        first
            Number of the first of them.
        sealed
            The frames; the last of them may be the object's last.
        asked_bytes
            How many bytes were asked of the tier, a multiple of a full frame: fewer came only if the object ended.

        Raises
        ------
        IntegrityError
            If they are not what was sealed, or the object ends before its last frame.

        """
        view, parts = memoryview(sealed), []
        for start in range(0, len(view), SEALED_BYTES):
            number, frame = first + start // SEALED_BYTES, view[start : start + SEALED_BYTES]
            if start + SEALED_BYTES < len(view):
                parts.append(self.open(number, frame, is_last=False))
            elif len(view) < asked_bytes:
                parts.append(self.open(number, frame, is_last=True))
            else:
                parts.append(self._open_either(number, frame))
        return b"".join(parts)

    def _open_either(self, number: int, frame: memoryview) -> bytes:
        """Open a full frame behind which there may be others."""
        try:
            return self._cipher.decrypt(self._nonce(number, False), frame, self._data)
        except InvalidTag:
            return self.open(number, frame, is_last=True)

    def _nonce(self, number: int, is_last: bool) -> bytes:
        if number >= _MOST_FRAMES:
            msg = f"would have more than {_MOST_FRAMES} frames"
            raise self._broken(msg)
        return self._prefix + number.to_bytes(4, "big") + bytes([is_last])

    def _broken(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self._name} {what}.", remedy=_REMEDY)


class Sealer:
    """Seals one object from start to end.

    Parameters
    ----------
    data_key, key
        As for `Frames`.

    """

    def __init__(self, data_key: bytes, key: str) -> None:
        self._frames = Frames(data_key, key, new_header())
        self._pending = bytearray()
        self._number = 0
        self._begun = False

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Return what is to be stored next, in order, now that `data` follow."""
        out = [] if self._begun else [self._frames.header]
        self._begun = True
        view = memoryview(data)
        # The last frame is marked as such: a full one waits until it is known that something follows.
        if self._pending:
            missing = FRAME_BYTES - len(self._pending)
            self._pending += view[:missing]
            view = view[missing:]
            if not view:
                return out
            out.append(self._seal(bytes(self._pending)))
            self._pending.clear()
        while len(view) > FRAME_BYTES:
            out.append(self._seal(view[:FRAME_BYTES]))
            view = view[FRAME_BYTES:]
        self._pending += view
        return out

    def finish(self) -> list[bytes]:
        """Return the rest of what is to be stored."""
        head = [] if self._begun else [self._frames.header]
        return [*head, self._frames.seal(self._number, bytes(self._pending), is_last=True)]

    def _seal(self, data: bytes | memoryview) -> bytes:
        self._number += 1
        return self._frames.seal(self._number - 1, data, is_last=False)


def seal(data_key: bytes, key: str, data: bytes | memoryview) -> bytes:
    """Return `data` as a sealed object; `key` is where it will lie."""
    sealer = Sealer(data_key, key)
    return b"".join([*sealer.feed(data), *sealer.finish()])


def unseal(data_key: bytes, key: str, sealed: bytes) -> bytes:
    """Return what a sealed object holds.

    Raises
    ------
    IntegrityError
        If it is not what was sealed under `key`, whole.

    """
    return b"".join(unsealed(data_key, key, iter([memoryview(sealed)])))


def unsealed(data_key: bytes, key: str, blocks: Iterator[memoryview]) -> Iterator[bytes]:
    """Yield what a sealed object holds, frame by frame, from its blocks of any size.

    Raises
    ------
    IntegrityError
        If it is not what was sealed under `key`; also at its very end, if something is missing there.

    """
    frames, pending, number = None, b"", 0
    for block in blocks:
        view = memoryview(block)
        if pending or frames is None:
            view = memoryview(pending + view)
        if frames is None:
            if len(view) < HEADER_BYTES:
                pending = bytes(view)
                continue
            frames = Frames(data_key, key, bytes(view[:HEADER_BYTES]))
            view = view[HEADER_BYTES:]
        while len(view) > SEALED_BYTES:
            yield frames.open(number, view[:SEALED_BYTES], is_last=False)
            number += 1
            view = view[SEALED_BYTES:]
        pending = bytes(view)
    if frames is None:
        frames, pending = Frames(data_key, key, pending), b""
    yield frames.open(number, pending, is_last=True)
