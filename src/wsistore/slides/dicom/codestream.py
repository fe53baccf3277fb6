"""What the header of a coded frame says: size, components and colour coding of JPEG and JPEG 2000 codestreams."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from wsistore.slides import jpeg
from wsistore.slides.base import Codec, Color

SOI = b"\xff\xd8"
SOC = b"\xff\x4f"
END = b"\xff\xd9"
"""Both codestreams end with these two bytes."""

_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive: what libjpeg-turbo decodes to 8 bits."""


class TooShortError(Exception):
    """The bytes at hand end within the header, or are damaged; the text is for the case that there are no more."""


class NotCodedError(Exception):
    """The bytes are not a codestream of this kind; the text says why, as a phrase that follows the frame's name."""


@dataclass(frozen=True, slots=True)
class Coded:
    """The header of one frame."""

    height: int
    width: int
    channels: int
    color: Color | None
    """As the codestream alone says it; None leaves it to the photometric interpretation."""
    subsampled: bool
    oddity: str
    """Why it cannot be a tile: more than 8 bits, arithmetic coding, …; empty if it can."""
    header_bytes: int
    """Length of what was looked at: frames that begin with the same bytes say the same."""


def parse(codec: Codec, head: bytes) -> Coded:
    """Read the header of a frame.

    Parameters
    ----------
    codec
        `Codec.JPEG` or `Codec.JPEG2000`.
    head
        The frame's first bytes.

    Raises
    ------
    TooShortError
        If more bytes are needed.
    NotCodedError
        If it is no such codestream.

    """
    try:
        return _jpeg(head) if codec is Codec.JPEG else _jpeg2000(head)
    except (struct.error, IndexError) as error:
        msg = "ends inside its header"
        raise TooShortError(msg) from error


def _jpeg(head: bytes) -> Coded:
    if len(head) >= 2 and head[:2] != SOI:
        msg = "does not start as a JPEG"
        raise NotCodedError(msg)
    try:
        header = jpeg.parse(head)
    except ValueError as error:
        raise TooShortError(str(error)) from error
    frame = header.frame
    oddity = ""
    if frame.code not in _HUFFMAN:
        oddity = f"its frames are coded by JPEG process SOF{frame.code - 0xC0}, which is not kept as tiles"
    elif frame.precision != 8:
        oddity = f"its JPEG frames have {frame.precision} bits per sample"
    return Coded(
        frame.height,
        frame.width,
        len(frame.components),
        _jpeg_color(header),
        subsampled=len({(part.horizontal, part.vertical) for part in frame.components}) > 1,
        oddity=oddity,
        header_bytes=header.scan_start,
    )


def _jpeg_color(header: jpeg.Header) -> Color | None:
    """Return what libjpeg-turbo concludes from markers and component names; None where it would only guess.

    JFIF comes before Adobe, as in libjpeg's ``default_decompress_parms``. The real series CMU-1-Small-Region proves
    that this is the truth: its photometric interpretation says RGB, its frames carry JFIF, and only as YCbCr do they
    show the slide that they were made from.
    """
    ids = bytes(part.identity for part in header.frame.components)
    if len(ids) == 1:
        return Color.GRAY
    if header.jfif:
        return Color.YCBCR
    if header.adobe_transform is not None:
        return Color.RGB if header.adobe_transform == 0 else Color.YCBCR
    return Color.RGB if ids == b"RGB" else None


def _jpeg2000(head: bytes) -> Coded:
    if len(head) >= 4 and head[:4] != SOC + b"\xff\x51":
        msg = "does not start as a JPEG 2000 codestream"
        raise NotCodedError(msg)
    length, capabilities, x1, y1, x0, y0 = struct.unpack_from(">HHLLLL", head, 4)
    (channels,) = struct.unpack_from(">H", head, 40)
    if length != 38 + 3 * channels or x1 <= x0 or y1 <= y0:
        msg = "has a JPEG 2000 size marker that contradicts itself"
        raise NotCodedError(msg)
    parts = [struct.unpack_from("BBB", head, 42 + 3 * index) for index in range(channels)]
    transformed, offset = _component_transform(head, 4 + length)
    subsampled = any(part[1:] != (1, 1) for part in parts)
    oddity = ""
    if any(part[0] != 7 for part in parts):
        oddity = "its JPEG 2000 frames do not have 8 unsigned bits per sample"
    elif subsampled:
        oddity = "its JPEG 2000 frames have subsampled components"
    elif capabilities & 0x4000:
        oddity = "its frames are coded as High-Throughput JPEG 2000"
    color = Color.GRAY if channels == 1 else Color.RGB if transformed else None
    return Coded(y1 - y0, x1 - x0, channels, color, subsampled, oddity, offset)


def _component_transform(head: bytes, offset: int) -> tuple[bool, int]:
    """Return whether the coding style says that components were transformed, and where the main header ends."""
    transformed = None
    while True:
        marker, length = struct.unpack_from(">HH", head, offset)
        if marker in {0xFF90, 0xFF93, 0xFFD9}:
            break
        if marker < 0xFF00 or length < 2:
            msg = f"has a broken JPEG 2000 marker at byte {offset}"
            raise NotCodedError(msg)
        if offset + 2 + length > len(head):
            msg = "ends inside its header"
            raise TooShortError(msg)
        if marker == 0xFF52:
            transformed = head[offset + 8] == 1
        offset += 2 + length
    if transformed is None:
        msg = "has no JPEG 2000 coding style"
        raise NotCodedError(msg)
    return transformed, offset


def color_of(codec: Codec, coded: Coded, photometric: str) -> Color | None:
    """Return what the frame's components are, or None where frame and photometric interpretation contradict.

    What the codestream says wins; the photometric interpretation decides only where the codestream says nothing.
    """
    if coded.color is not None:
        return coded.color
    if coded.channels != 3:
        return None
    if photometric == "RGB":
        # Nobody halves the resolution of green and blue: such frames are mislabelled YCbCr.
        return Color.YCBCR if coded.subsampled else Color.RGB
    if codec is Codec.JPEG:
        return Color.YCBCR if photometric.startswith("YBR_") else None
    return Color.YCBCR if photometric == "YBR_FULL" else None


def padding(tail: bytes) -> int:
    """Return how many bytes follow the end of the codestream in a frame whose last bytes are `tail`."""
    stripped = tail.rstrip(b"\0")
    return len(tail) - len(stripped) if stripped.endswith(END) else 0
