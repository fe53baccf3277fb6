"""Bodies of objects: whole, in one part or in several, with what caches and readers of ranges are told of them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

from wsistore.serve.answers import BINARY, JSON, Answer, Header, error_answer
from wsistore.serve.ranges import Unsatisfiable, parse
from wsistore.storage.base import Span
from wsistore.units import MIB

Headers = Mapping[bytes, bytes]
"""Of a request, names in lower case."""
Read = Callable[[Sequence[Span]], Awaitable[Sequence[bytes]]]
"""Reads several parts of an object at once, each whole."""

BLOCK_BYTES = MIB
"""What is longer is sent in blocks of this size."""
AT_ONCE_BYTES = 2 * BLOCK_BYTES
"""Of the blocks that are read together, once those before were taken: many small ones cost one wait, not many."""
KEPT_FOR_EVER: Header = (b"cache-control", b"private, max-age=31536000, immutable")
"""Of objects: a key is never used again for something else."""
ASKED_AGAIN: Header = (b"cache-control", b"private, no-cache")
"""Of documents, which change when a copy is encoded anew."""
_VARY: Header = (b"vary", b"authorization, cookie")


def etag_for(project: str, etag: str) -> bytes:
    """Return an ETag that says nothing outside of one project: the same slide has another one in every other."""
    digest = hashlib.blake2b(etag.encode(), key=project.encode()[:64], digest_size=12).hexdigest()
    return f'"{digest}"'.encode()


def is_known(headers: Headers, etag: bytes) -> bool:
    """Say whether the client has this state of the object already (``If-None-Match``)."""
    known = headers.get(b"if-none-match")
    if known is None:
        return False
    return known.strip() == b"*" or etag in (one.strip().removeprefix(b"W/") for one in known.split(b","))


def not_modified(etag: bytes, keeping: Header) -> Answer:
    """Return that the client has it already."""
    return Answer(304, [(b"etag", etag), keeping, _VARY])


def document(body: bytes, etag: bytes, headers: Headers) -> Answer:
    """Return a metadata document."""
    if is_known(headers, etag):
        return not_modified(etag, ASKED_AGAIN)
    return Answer(200, [(b"content-type", JSON), (b"etag", etag), ASKED_AGAIN, _VARY], body)


async def object_answer(
    size_bytes: int, etag: bytes, headers: Headers, read: Read, *, content_type: bytes = BINARY, head: bool = False
) -> Answer:
    """Return an object, or what a client wants of it.

    Parameters
    ----------
    size_bytes
        Of the object.
    etag
        Strong, with quotes.
    headers
        Of the request.
    read
        Reads parts of the object.
    content_type
        Of the object.
    head
        Whether only the headers are asked for; then nothing is read.

    """
    if is_known(headers, etag):
        return not_modified(etag, KEPT_FOR_EVER)
    common = [(b"etag", etag), KEPT_FOR_EVER, _VARY, (b"accept-ranges", b"bytes")]
    # Ranges are defined for GET only.
    wanted = None if head or not _range_holds(headers, etag) else parse(headers.get(b"range"), size_bytes)
    if isinstance(wanted, Unsatisfiable):
        size = (b"content-range", f"bytes */{size_bytes}".encode())
        return error_answer(416, "range", "There is nothing in this range.", "See Content-Range.", headers=(size,))
    if wanted is not None and len(wanted) > 1:
        return await _parts(wanted, size_bytes, etag, common, read, content_type)
    span = Span(0, size_bytes) if wanted is None else wanted[0]
    answer = Answer(200, [(b"content-type", content_type), *common])
    if wanted is not None:
        answer.status = 206
        answer.headers.append((b"content-range", _content_range(span, size_bytes)))
    if head:
        answer.length_bytes = size_bytes
    elif span.length_bytes <= BLOCK_BYTES:
        answer.body = (await read([span]))[0] if span.length_bytes else b""
    else:
        answer.blocks, answer.length_bytes = _blocks([span], read), span.length_bytes
    return answer


def _range_holds(headers: Headers, etag: bytes) -> bool:
    condition = headers.get(b"if-range")
    return condition is None or condition.strip() == etag


def _content_range(span: Span, size_bytes: int) -> bytes:
    return f"bytes {span.start}-{span.start + span.length_bytes - 1}/{size_bytes}".encode()


async def _parts(
    spans: Sequence[Span], size_bytes: int, etag: bytes, common: list[Header], read: Read, content_type: bytes
) -> Answer:
    boundary = hashlib.blake2b(repr(spans).encode(), key=etag, digest_size=15).hexdigest().encode()
    pieces: list[bytes | Span] = []
    for span in spans:
        place = _content_range(span, size_bytes)
        pieces.append(b"\r\n--%b\r\ncontent-type: %b\r\ncontent-range: %b\r\n\r\n" % (boundary, content_type, place))
        pieces.append(span)
    pieces.append(b"\r\n--%b--\r\n" % boundary)
    length = sum(len(piece) if isinstance(piece, bytes) else piece.length_bytes for piece in pieces)
    headers = [(b"content-type", b"multipart/byteranges; boundary=" + boundary), *common]
    if length > BLOCK_BYTES:
        return Answer(206, headers, blocks=_blocks(pieces, read), length_bytes=length)
    return Answer(206, headers, b"".join([block async for block in _blocks(pieces, read)]))


async def _blocks(pieces: Sequence[bytes | Span], read: Read) -> AsyncIterator[bytes]:
    for group in _groups(pieces):
        spans = [piece for piece in group if isinstance(piece, Span)]
        found = iter(await read(spans) if spans else ())
        for piece in group:
            yield piece if isinstance(piece, bytes) else next(found)


def _groups(pieces: Sequence[bytes | Span]) -> Iterator[list[bytes | Span]]:
    """Yield the pieces in order, long ones in blocks, by what is read together."""
    group: list[bytes | Span] = []
    size = 0
    for piece in pieces:
        for part in [piece] if isinstance(piece, bytes) else _in_blocks(piece):
            length = 0 if isinstance(part, bytes) else part.length_bytes
            if length and size and size + length > AT_ONCE_BYTES:
                yield group
                group, size = [], 0
            group.append(part)
            size += length
    yield group


def _in_blocks(span: Span) -> list[Span]:
    end = span.start + span.length_bytes
    return [Span(start, min(BLOCK_BYTES, end - start)) for start in range(span.start, end, BLOCK_BYTES)]
