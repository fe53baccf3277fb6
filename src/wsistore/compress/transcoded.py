"""JPEG kept as JPEG XL (ISO/IEC 18181-2, JPEG bitstream reconstruction data), made and undone within bounds.

libjxl spends memory as the stream's headers tell it to, before anybody sees that they lie. So they are read here first:
a stream is undone only if it holds one picture of at most the size that is due, without anything that no transcoded
JPEG has (extra channels, further frames, colour profiles, compressed boxes), and its JPEG comes out no longer than
announced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import imagecodecs

_SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
_HEADERS_BYTES = 128
"""Of a codestream; the headers that are read here take less."""
_MOST_MARKERS = 128
"""Of a reconstructed JPEG, restart markers not counted: each may ask for 64 KiB."""
_END_OF_IMAGE = 0xD9 - 0xC0
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE_BITS = (9, 13, 18, 30)
_CUSTOM = 2
_GREY = 1
_XYB = 2
_HARMLESS_FLAGS = frozenset({0, 0x80})
"""Of a frame: none, or without smoothing of DC coefficients."""


class TranscodedError(ValueError):
    """The stream cannot be undone, or not within bounds; the message says why, as a phrase."""


class _Bits:
    """Reads numbers from bytes, least significant bit first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)
        self.position = 0

    def take(self, count: int) -> int:
        if count > self._left:
            msg = "its headers end early"
            raise TranscodedError(msg)
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        self.position += count
        return taken

    def enum(self) -> int:
        selector = self.take(2)
        return selector if selector < 2 else self.take(4) + 2 if selector == 2 else self.take(6) + 18

    def must_be(self, value: int, count: int, what: str) -> None:
        if self.take(count) != value:
            raise TranscodedError(what)

    def to_byte(self) -> None:
        self.must_be(0, -self.position % 8, "it has padding that is not zero")


def encode(jpeg: bytes) -> bytes:
    """Return a JPEG as JPEG XL; whether it comes back exactly is for the caller to see.

    Raises
    ------
    TranscodedError
        If libjxl refuses it.

    """
    try:
        return bytes(imagecodecs.jpegxl_encode_jpeg(jpeg, numthreads=1))
    except (RuntimeError, ValueError) as error:
        msg = f"libjxl refuses it ({error})"
        raise TranscodedError(msg) from error


def decode(stream: bytes, size: int, most: tuple[int, int]) -> bytes:
    """Return the JPEG that was encoded.

    Parameters
    ----------
    stream
        JPEG XL.
    size
        Bytes of the JPEG.
    most
        Height and width that the picture may have, in pixels.

    Raises
    ------
    TranscodedError
        If there is no such JPEG in it. Nothing has been allocated then that exceeds what a sound one would take.

    """
    check(stream, most)
    try:
        jpeg = bytes(imagecodecs.jpegxl_decode_jpeg(stream, numthreads=1, out=size))
    except (RuntimeError, ValueError) as error:
        msg = f"libjxl refuses it ({error})"
        raise TranscodedError(msg) from error
    if len(jpeg) != size:
        msg = f"it holds a JPEG of {len(jpeg)} bytes where {size} are due"
        raise TranscodedError(msg)
    return jpeg


def check(stream: bytes, most: tuple[int, int]) -> None:
    """Read the headers of a JPEG XL stream.

    Raises
    ------
    TranscodedError
        If it asks for more than a JPEG of at most `most` (height, width) pixels needs.

    """
    headers, reconstruction = _headers(stream)
    bits = _Bits(headers)
    bits.must_be(0x0AFF, 16, "it has no JPEG XL codestream")
    height, width = _size(bits)
    if height > most[0] or width > most[1]:
        msg = f"it holds {height} × {width} pixels where at most {most[0]} × {most[1]} can be"
        raise TranscodedError(msg)
    _metadata(bits)
    bits.to_byte()
    _frame(bits)
    _markers(reconstruction)


def _headers(stream: bytes) -> tuple[bytes, bytes]:
    """Return the beginning of the codestream, and that of the data that reconstruct the JPEG."""
    if not stream.startswith(_SIGNATURE):
        msg = "it is not a JPEG XL file"
        raise TranscodedError(msg)
    headers, reconstruction = b"", None
    for kind, start, stop in _boxes(stream):
        if kind in {b"jxlc", b"jxlp"}:
            begin = start + (4 if kind == b"jxlp" else 0)
            headers += stream[begin : min(stop, begin + _HEADERS_BYTES - len(headers))]
        elif kind == b"jbrd" and reconstruction is None:
            reconstruction = stream[start : min(stop, start + _MOST_MARKERS)]
        elif kind not in {b"ftyp", b"jxll"}:
            msg = f"it has a box {kind!r} that no tile needs"
            raise TranscodedError(msg)
    if reconstruction is None:
        msg = "it has no JPEG reconstruction data"
        raise TranscodedError(msg)
    return headers, reconstruction


def _boxes(stream: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and stop of the content of all boxes behind the signature."""
    at = len(_SIGNATURE)
    while at < len(stream):
        if len(stream) < at + 8:
            msg = "it ends early"
            raise TranscodedError(msg)
        size, kind = struct.unpack_from(">I4s", stream, at)
        stop = at + size if size else len(stream)
        if stop < at + 8 or stop > len(stream):
            msg = "it has a box of impossible size"
            raise TranscodedError(msg)
        yield kind, at + 8, stop
        at = stop


def _size(bits: _Bits) -> tuple[int, int]:
    """Read the SizeHeader."""
    small = bits.take(1)

    def one() -> int:
        return 8 * (bits.take(5) + 1) if small else bits.take(_SIZE_BITS[bits.take(2)]) + 1

    height = one()
    ratio = bits.take(3)
    if not ratio:
        return height, one()
    numerator, denominator = _RATIOS[ratio - 1]
    return height, height * numerator // denominator


def _metadata(bits: _Bits) -> None:
    """Read the ImageMetadata and the transform data behind it."""
    bits.must_be(0, 1, "it holds colours that no JPEG has")  # all_default means XYB
    bits.must_be(0, 1, "it has an orientation, a preview or an animation")
    bits.must_be(0, 3, "its samples do not have 8 bits")
    bits.take(1)  # modular_16bit_buffers
    bits.must_be(0, 2, "it has extra channels")
    bits.must_be(0, 1, "it holds colours that no JPEG has")
    if not bits.take(1):
        _colors(bits)
    bits.must_be(0, 2, "it has extensions")
    bits.must_be(1, 1, "it has transforms of its own")


def _colors(bits: _Bits) -> None:
    """Read a ColorEncoding that is not the default one."""
    bits.must_be(0, 1, "it has a colour profile")
    space = bits.enum()
    white = bits.enum()
    primaries = bits.enum() if space != _GREY else 0
    if space >= _XYB or _CUSTOM in {white, primaries}:
        msg = "it holds colours that no JPEG has"
        raise TranscodedError(msg)
    if bits.take(1):
        bits.take(24)  # gamma
    else:
        bits.enum()  # transfer function
    bits.enum()  # rendering intent


def _frame(bits: _Bits) -> None:
    """Read the FrameHeader as far as it tells sizes."""
    if bits.take(1):  # all_default
        return
    bits.must_be(0, 3, "its frame is not a regular one of DCT coefficients")
    selector = bits.take(2)
    flags = 0 if not selector else 1 + bits.take(4) if selector == 1 else 17 + bits.take(8)
    if selector > 2 or flags not in _HARMLESS_FLAGS:
        msg = "its frame has features that no JPEG has"
        raise TranscodedError(msg)
    if bits.take(1):  # do_YCbCr
        bits.take(6)  # subsampling of three components
    bits.must_be(0, 2, "its frame is upsampled")
    bits.must_be(0, 2, "its frame has several passes")
    bits.must_be(0, 1, "its frame is not as large as the picture")
    bits.must_be(0, 2, "its frame is blended")
    bits.must_be(1, 1, "it has further frames")


def _markers(reconstruction: bytes) -> None:
    """Count the marker segments of the JPEG."""
    bits = _Bits(reconstruction)
    bits.take(1)  # is_gray
    for _ in range(_MOST_MARKERS):
        if bits.take(6) == _END_OF_IMAGE:
            return
    msg = "its JPEG has more marker segments than any tile"
    raise TranscodedError(msg)
