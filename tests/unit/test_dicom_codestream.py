"""The colour of a coded frame: our conclusion is libjpeg-turbo's wherever the frame says what it is."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from tests.unit.dicom_tools import picture
from wsistore.slides.base import Codec, Color
from wsistore.slides.dicom.codestream import NotCodedError, TooShortError, color_of, padding, parse

PIXELS = picture(32, 40)
JFIF = b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
PHOTOMETRIC = ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", ""]


def adobe(transform: int) -> bytes:
    return b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])


def bare(*, subsampled: bool = False) -> bytes:
    """Return a JPEG of three components, named 1, 2, 3, without application data."""
    sampling = "420" if subsampled else "444"
    data = bytes(imagecodecs.jpeg8_encode(PIXELS, level=90, outcolorspace="YCBCR", subsampling=sampling))
    at, kept = 2, data[:2]
    while data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if not 0xE0 <= data[at + 1] <= 0xEF:
            kept += data[at : at + 2 + length]
        at += 2 + length
    return kept + data[at:]


def marked(*markers: bytes, ids: bytes = b"\1\2\3") -> bytes:
    data = bare()
    frame = data.index(b"\xff\xc0")
    scan = data.index(b"\xff\xda")
    out = bytearray(data)
    for number in range(3):
        out[frame + 10 + 3 * number] = ids[number]
        out[scan + 5 + 2 * number] = ids[number]
    return bytes(out[:2]) + b"".join(markers) + bytes(out[2:])


MARKED = {
    "jfif": marked(JFIF),
    "adobe 0": marked(adobe(0)),
    "adobe 1": marked(adobe(1)),
    "jfif and adobe 0": marked(JFIF, adobe(0)),
    "adobe 0 and jfif": marked(adobe(0), JFIF),
    "named RGB": marked(ids=b"RGB"),
    "named RGB, jfif": marked(JFIF, ids=b"RGB"),
    "named RGB, adobe 1": marked(adobe(1), ids=b"RGB"),
}


@pytest.mark.parametrize("photometric", PHOTOMETRIC)
@pytest.mark.parametrize("name", MARKED)
def test_markers_win_as_they_do_in_libjpeg_turbo(name: str, photometric: str) -> None:
    data = MARKED[name]
    color = color_of(Codec.JPEG, parse(Codec.JPEG, data), photometric)

    assert color is not None
    by_itself = imagecodecs.jpeg8_decode(data)
    as_we_say = imagecodecs.jpeg8_decode(data, colorspace=color.name, outcolorspace="RGB")
    assert np.array_equal(by_itself, as_we_say)


@pytest.mark.parametrize(
    ("photometric", "color"),
    [
        ("RGB", Color.RGB),
        ("YBR_FULL_422", Color.YCBCR),
        ("YBR_FULL", Color.YCBCR),
        ("YBR_ICT", Color.YCBCR),
        ("", None),
    ],
)
def test_without_markers_the_photometric_interpretation_decides(photometric: str, color: Color | None) -> None:
    assert color_of(Codec.JPEG, parse(Codec.JPEG, bare()), photometric) is color


def test_halved_components_are_never_red_green_and_blue() -> None:
    assert color_of(Codec.JPEG, parse(Codec.JPEG, bare(subsampled=True)), "RGB") is Color.YCBCR


@pytest.mark.parametrize(
    ("transform", "photometric", "color"),
    [
        (True, "YBR_RCT", Color.RGB),
        (True, "YBR_ICT", Color.RGB),
        (True, "RGB", Color.RGB),
        (False, "RGB", Color.RGB),
        (False, "YBR_FULL", Color.YCBCR),
        (False, "YBR_RCT", None),
        (False, "YBR_ICT", None),
    ],
)
def test_colour_of_jpeg2000(transform: bool, photometric: str, color: Color | None) -> None:
    data = bytes(imagecodecs.jpeg2k_encode(PIXELS, codecformat="j2k", reversible=True, mct=transform))
    coded = parse(Codec.JPEG2000, data)

    assert (coded.height, coded.width, coded.channels, coded.oddity) == (32, 40, 3, "")
    assert color_of(Codec.JPEG2000, coded, photometric) is color


def test_sizes_and_oddities_of_jpeg() -> None:
    gray = parse(Codec.JPEG, bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(PIXELS[..., 0]))))
    assert (gray.height, gray.width, gray.channels, gray.color) == (32, 40, 1, Color.GRAY)
    deep = bytearray(bare())
    deep[deep.index(b"\xff\xc0") + 4] = 12
    assert "12 bits" in parse(Codec.JPEG, bytes(deep)).oddity
    lossless = bytes(imagecodecs.jpeg8_encode(PIXELS, lossless=True))
    assert "SOF3" in parse(Codec.JPEG, lossless).oddity


def test_deep_jpeg2000_is_odd() -> None:
    data = bytes(imagecodecs.jpeg2k_encode(PIXELS.astype(np.uint16) * 16, codecformat="j2k", reversible=True))

    assert "8 unsigned bits" in parse(Codec.JPEG2000, data).oddity


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        (Codec.JPEG, bare()),
        (Codec.JPEG2000, bytes(imagecodecs.jpeg2k_encode(PIXELS, codecformat="j2k", reversible=True))),
    ],
)
def test_a_header_that_ends_early_asks_for_more(codec: Codec, data: bytes) -> None:
    whole = parse(codec, data).header_bytes
    for length in range(whole):
        with pytest.raises(TooShortError):
            parse(codec, data[:length])
    assert parse(codec, data[: whole + 4]) == parse(codec, data)


@pytest.mark.parametrize("codec", [Codec.JPEG, Codec.JPEG2000])
def test_other_bytes_are_no_codestream(codec: Codec) -> None:
    with pytest.raises(NotCodedError):
        parse(codec, b"\x89PNG\r\n\x1a\n" + bytes(100))


@pytest.mark.parametrize(
    ("tail", "padded"),
    [
        (b"\x12\xff\xd9", 0),
        (b"\xff\xd9\0", 1),
        (b"\xff\xd9\0\0\0", 3),
        (b"\xff\xd9\x01", 0),
        (b"\0\0\0", 0),
        (b"\xd9\0", 0),
        (b"", 0),
    ],
)
def test_padding_is_what_follows_the_end(tail: bytes, padded: int) -> None:
    assert padding(tail) == padded
