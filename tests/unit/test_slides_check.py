"""The look at each tile: what is good, what is damaged, what does not fit, what must be cut out."""

from __future__ import annotations

import io
import struct
import time
from dataclasses import replace
from typing import Any
from unittest import mock

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from tests import tiffs
from wsistore.slides import jpeg
from wsistore.slides.base import Codec, Color, Level, TileCoding, empty_segments
from wsistore.slides.check import GOOD, TileChecker
from wsistore.slides.comments import harmless
from wsistore.slides.decode import decode_tile

PICTURE = tiffs.tissue(64, 64)
IDENTITY = b"PATIENT-0001"


def level(codec: Codec, color: Color = Color.RGB, *, tables: bytes | None = None, channels: int = 3) -> Level:
    coding = TileCoding(codec, color, tables=tables)
    return Level(640, 640, 64, 64, coding, empty_segments(), channels)


def jpeg_of(**options: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(PICTURE, **({"level": 85} | options)))


def j2k_of(**options: Any) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(PICTURE, **({"codecformat": "j2k"} | options)))


def j2k_with_comment(data: bytes, comment: bytes) -> bytes:
    at = data.index(b"\xff\x52")  # behind SIZ
    body = b"\0\1" + comment
    return data[:at] + b"\xff\x64" + struct.pack(">H", len(body) + 2) + body + data[at:]


def inserted(data: bytes, before: bytes, code: int, text: bytes = IDENTITY) -> bytes:
    """Put a marker segment before the last place of some marker."""
    at = data.rindex(before)
    return data[:at] + b"\xff" + bytes([code]) + struct.pack(">H", len(text) + 2) + text + data[at:]


def longer(data: bytes, marker: bytes) -> bytes:
    """Put a text at the end of a marker segment."""
    at = data.index(marker) + 2
    length = struct.unpack_from(">H", data, at)[0]
    return data[:at] + struct.pack(">H", length + 5) + data[at + 2 : at + length] + b"CASE1" + data[at + length :]


def j2k_with_text_in_its_packets() -> bytes:
    data = bytearray(j2k_of())
    at = data.index(b"\xff\x90")
    data += IDENTITY + b"\xff\xd9"
    data[at + 6 : at + 10] = struct.pack(">I", len(data) - 2 - at)
    return bytes(data)


def j2k_with_comment_in_its_tile_part() -> bytes:
    data = bytearray(j2k_of())
    at = data.index(b"\xff\x90")
    body = b"\0\1" + IDENTITY
    data[at + 12 : at + 12] = b"\xff\x64" + struct.pack(">H", len(body) + 2) + body
    data[at + 6 : at + 10] = struct.pack(">I", len(data) - 2 - at)
    return bytes(data)


# --- JPEG -------------------------------------------------------------------------------------------------------------


def test_a_good_jpeg_is_good_again_and_again() -> None:
    check = TileChecker(level(Codec.JPEG, Color.YCBCR))
    for _ in range(3):
        assert check(memoryview(jpeg_of())) == GOOD
    assert check(jpeg_of(level=50)).good
    assert check(jpeg_of()).good


@pytest.mark.parametrize("seen_before", [False, True])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[:-2], "no end-of-image marker"),
        (lambda data: data[: len(data) // 2], "no end-of-image marker"),
        (lambda data: data[:100], "JPEG"),
        (lambda _: b"", "not start as a JPEG"),
        (lambda _: b"\0" * 100, "not start as a JPEG"),
        (lambda _: b"\xff\xd8\xff\xd9", "no JPEG frame"),
    ],
)
def test_a_damaged_jpeg_is_named(seen_before: bool, spoil: object, words: str) -> None:
    check = TileChecker(level(Codec.JPEG, Color.YCBCR))
    if seen_before:
        assert check(jpeg_of()).good
    assert words in check(spoil(jpeg_of())).problem  # type: ignore[operator]


def test_a_jpeg_without_its_tables() -> None:
    data = jpeg_of()
    head = jpeg.parse(data)
    tables = b"\xff\xd8" + b"".join(data[s.start : s.stop] for s in head.segments if s.code == jpeg.DQT) + b"\xff\xd9"
    bare = data
    for segment in reversed(head.segments):
        if segment.code == jpeg.DQT:
            bare = bare[: segment.start] + bare[segment.stop :]
    assert "tables" in TileChecker(level(Codec.JPEG, Color.YCBCR))(bare).problem
    assert TileChecker(level(Codec.JPEG, Color.YCBCR, tables=tables))(bare).good


@pytest.mark.parametrize(
    ("tile", "words"),
    [
        (imagecodecs.jpeg8_encode(tiffs.tissue(32, 64)), "64×32 pixels where 64×64"),
        (imagecodecs.jpeg8_encode(tiffs.tissue(64, 64, channels=1)), "1 components where 3"),
        (imagecodecs.jpeg8_encode(PICTURE, lossless=True), "SOF3"),
        (imagecodecs.jpeg8_encode((PICTURE.astype("uint16") << 4), bitspersample=12), "12 bit"),
        (inserted(jpeg_of(), b"\xff\xda", 0xDC), "FFDC"),
        (inserted(jpeg_of(), b"\xff\xd9", 0xDC), "FFDC"),
        (inserted(jpeg_of(), b"\xff\xda", 0xF5), "FFF5"),
        (longer(jpeg_of(), b"\xff\xdb"), "FFDB"),
        (longer(jpeg_of(), b"\xff\xc4"), "FFC4"),
        (longer(jpeg_of(), b"\xff\xc0"), "FFC0"),
        (jpeg_of()[:-2] + b"\xff\xd0NAME-0002\xff\xd9", "restart markers"),
    ],
)
def test_a_jpeg_that_does_not_fit_is_for_whole(tile: bytes, words: str) -> None:
    assert words in TileChecker(level(Codec.JPEG, Color.YCBCR))(tile).whole


def test_a_jpeg_in_other_colours_than_its_level() -> None:
    rgb = jpeg_of(outcolorspace="rgb")  # with Adobe's marker that says so
    assert "colours" in TileChecker(level(Codec.JPEG, Color.YCBCR))(rgb).whole
    assert "colours" in TileChecker(level(Codec.JPEG, Color.RGB))(jpeg_of()).whole
    assert TileChecker(level(Codec.JPEG, Color.RGB))(rgb).good


def test_zeros_behind_a_jpeg_are_padding() -> None:
    assert TileChecker(level(Codec.JPEG, Color.YCBCR))(jpeg_of() + bytes(3)).good


@pytest.mark.parametrize("code", [0xFE, 0xE1, 0xED, 0xE5, 0xEF, 0xE0, 0xE2, 0xEE])
def test_comments_and_application_data_are_cut(code: int) -> None:
    plain = jpeg_of()
    tile = tiffs.with_comment(plain, IDENTITY, code)
    check = TileChecker(level(Codec.JPEG, Color.YCBCR))
    for _ in range(2):  # the second time by the header that was seen before
        verdict = check(tile)
        assert not verdict.good
        ((start, stop),) = verdict.cut
        assert tile[:start] + tile[stop:] == plain
    assert check(plain).good


def test_a_comment_between_scans_is_cut() -> None:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(PICTURE).save(file, "jpeg", progressive=True)
    plain = file.getvalue()
    at = plain.rindex(b"\xff\xda")
    tile = plain[:at] + b"\xff\xfe" + struct.pack(">H", len(IDENTITY) + 2) + IDENTITY + plain[at:]
    check = TileChecker(level(Codec.JPEG, Color.YCBCR))
    assert check(plain).good
    ((start, stop),) = check(tile).cut
    assert tile[:start] + tile[stop:] == plain


@pytest.mark.parametrize("seen_before", [False, True])
@pytest.mark.parametrize("code", [0xFE, 0xE1, 0xEC])
def test_a_comment_behind_the_scan_is_cut(seen_before: bool, code: int) -> None:
    plain = jpeg_of()
    check = TileChecker(level(Codec.JPEG, Color.YCBCR))
    assert not seen_before or check(plain).good
    tile = inserted(plain, b"\xff\xd9", code)
    ((start, stop),) = check(tile).cut
    assert tile[:start] + tile[stop:] == plain


@pytest.mark.parametrize("seen_before", [False, True])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9", b"\0\0", b"\xff\xd9\0"])
def test_what_is_behind_a_jpeg_is_cut(seen_before: bool, end: bytes) -> None:
    plain = jpeg_of()
    check = TileChecker(level(Codec.JPEG, Color.YCBCR))
    assert not seen_before or check(plain).good
    assert check(plain + IDENTITY + end).cut == ((len(plain), len(plain + IDENTITY + end)),)
    told = tiffs.with_comment(plain, IDENTITY)
    assert len(check(told + IDENTITY + end).cut) == 2
    assert check(plain).good


def test_restart_markers_that_are_announced_are_good() -> None:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "jpeg", restart_marker_blocks=1)
    tile = file.getvalue()
    assert b"\xff\xd0" in tile
    check = TileChecker(level(Codec.JPEG, Color.YCBCR))
    assert check(tile).good
    assert check(tile).good
    assert check(inserted(tile, b"\xff\xd9", 0xFE)).cut


def test_a_header_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = mock.Mock(wraps=jpeg.parse)
    monkeypatch.setattr(jpeg, "parse", parse)
    check = TileChecker(level(Codec.JPEG, Color.YCBCR))
    tile = jpeg_of()
    for _ in range(1000):
        assert check(tile).good
    assert parse.call_count == 1


def test_signatures_of_encoders_stay_but_no_profile() -> None:
    check = TileChecker(level(Codec.JPEG, Color.YCBCR))
    assert check(tiffs.with_comment(jpeg_of(), b"ICC_PROFILE\0\1\1" + IDENTITY, 0xE2)).cut
    assert check(tiffs.with_comment(jpeg_of(), b"LEAD Technologies Inc. V1.01\0")).good


@pytest.mark.parametrize(
    ("comment", "good"),
    [
        (b"Kakadu-v6.4.1", True),
        (b"Created by OpenJPEG version 2.5.0", True),
        (b"Created by: JJ2000 version 4.1", True),
        (b"Lavc57.107.100", True),
        (b"Intel(R) JPEG Library, version 1,5,4,36", True),
        (b"Hamamatsu NanoZoomer Digital Pathology", True),
        (b"Kdu-Layer-Info: log_2{Delta-D(squared-error)/Delta-L(bytes)}, L(bytes)\n-192.0,  6.0e+03\n", True),
        (b"\0", True),
        (b"Kakadu PATIENT-0001", False),
        (b"Created by PERSON-0002", False),
        (b"Lavc57 S23-004711 ABC", False),
        (b"23-004711", False),
        (b"LEAD Technologies Inc. V1.01\0", True),
        (b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90\n", True),
        (b"Kakadu", True),
        (b"Kakadu 19500317", False),
        (b"Kakadu 19500317 2024.05.01 1500317123456", False),
        (b"Kakadu-v6.4.1 7", False),
        (b"libjpeg 2024-05-01", False),
        (b"Kdu-Layer-Info: log_2{Delta-D(MSE)/Delta-L(bytes)}, L(bytes)\n 19500317\n", False),
    ],
)
def test_which_comments_are_harmless(comment: bytes, good: bool) -> None:
    assert harmless(comment) == good


@pytest.mark.parametrize("name", [b"libjpeg ", b"Kakadu-v", b"Lavc", b"Kdu-Layer-Info: "])
@pytest.mark.parametrize("filling", [b"1", b"1.", b" ", b"-", b", ", b"v"])
def test_no_comment_takes_long_to_judge(name: bytes, filling: bytes) -> None:
    comments = [(name + filling * 65_000)[:length] + b"x" for length in (30, 50, 63, 65_000)]
    started = time.thread_time()
    assert not any(harmless(comment) for comment in comments)
    assert time.thread_time() - started < 10, "it should be a fraction of a millisecond, and never quadratic"


# --- the others -------------------------------------------------------------------------------------------------------


def test_a_good_jpeg_2000_is_good_again_and_again() -> None:
    check = TileChecker(level(Codec.JPEG2000))
    for tile in (j2k_of(), j2k_of(), j2k_of(level=40), j2k_of(resolutions=2)):
        assert check(tile).good


def test_a_comment_in_jpeg_2000_is_cut() -> None:
    plain = j2k_of()
    tile = j2k_with_comment(plain, IDENTITY)
    check = TileChecker(level(Codec.JPEG2000))
    for _ in range(2):
        ((start, stop),) = check(tile).cut
        assert tile[:start] + tile[stop:] == plain
    assert check(j2k_with_comment(plain, b"Kakadu-v5.2")).good


@pytest.mark.parametrize(
    ("tile", "words"),
    [
        (j2k_of()[:-2], "end-of-codestream"),
        (j2k_of()[:60], "ends inside"),
        (j2k_of()[:-100], "ends inside"),
        (b"", "does not start"),
        (b"\xff\x4f" + b"\0\2" * 20, "broken JPEG 2000 marker"),
    ],
)
def test_damaged_jpeg_2000_is_named(tile: bytes, words: str) -> None:
    for seen in ([], [j2k_of()]):
        check = TileChecker(level(Codec.JPEG2000))
        for one in seen:
            check(one)
        verdict = check(tile)
        assert words in verdict.problem


@pytest.mark.parametrize(
    ("tile", "words"),
    [
        (imagecodecs.jpeg2k_encode(PICTURE, codecformat="jp2"), "JP2 boxes"),
        (imagecodecs.jpeg2k_encode(tiffs.tissue(64, 32), codecformat="j2k"), "32×64"),
        (imagecodecs.jpeg2k_encode(tiffs.tissue(64, 64, channels=1), codecformat="j2k"), "1 components"),
        (imagecodecs.jpeg2k_encode(tiffs.tissue(64, 64, dtype="uint16"), codecformat="j2k"), "depth"),
        (inserted(j2k_of(), b"\xff\x90", 0x6F), "FF6F"),
        (j2k_with_comment_in_its_tile_part(), "comment in the header"),
        (j2k_with_text_in_its_packets(), "inside its JPEG 2000 packets"),
    ],
)
def test_jpeg_2000_that_does_not_fit_is_for_whole(tile: bytes, words: str) -> None:
    assert words in TileChecker(level(Codec.JPEG2000))(tile).whole


def test_subsampled_jpeg_2000_is_for_whole() -> None:
    data = bytearray(j2k_of())
    data[data.index(b"\xff\x51") + 4 + 36 + 3 + 1] = 2  # XRsiz of the second component
    assert "subsampled" in TileChecker(level(Codec.JPEG2000))(bytes(data)).whole


@pytest.mark.parametrize("seen_before", [False, True])
@pytest.mark.parametrize("open_end", [False, True])
def test_what_is_behind_jpeg_2000_is_cut(seen_before: bool, open_end: bool) -> None:
    plain = bytearray(j2k_of())
    if open_end:
        at = plain.index(b"\xff\x90")
        plain[at + 6 : at + 10] = bytes(4)  # the tile-part goes on to the end of the codestream
    check = TileChecker(level(Codec.JPEG2000))
    assert not seen_before or check(plain).good
    for end in (b"", b"\xff\xd9"):
        tile = plain + IDENTITY + end
        assert check(tile).cut == ((len(plain), len(tile)),)


def test_numbers_of_packets_are_no_markers() -> None:
    plain = bytearray(j2k_of())
    at = plain.index(b"\xff\x90")
    plain[at + 14 : at + 14] = b"\xff\x91\0\4\0\xff\xc0\xff\x91\0\4\xff\xd9"
    plain[at + 6 : at + 10] = struct.pack(">I", len(plain) - 2 - at)
    check = TileChecker(level(Codec.JPEG2000))
    assert check(plain).good
    assert check(plain).good


def test_webp() -> None:
    check = TileChecker(level(Codec.WEBP))
    good = bytes(imagecodecs.webp_encode(PICTURE, level=80))
    assert check(good).good
    assert check(bytes(imagecodecs.webp_encode(PICTURE, lossless=True))).good
    assert "does not start" in check(b"RIFX" + good[4:]).problem
    assert check(good[:-20]).problem
    assert "32×64" in check(bytes(imagecodecs.webp_encode(tiffs.tissue(64, 32)))).whole


def test_webp_with_exif_is_for_whole() -> None:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    exif = Image.Exif()
    exif[315] = IDENTITY.decode()
    Image.fromarray(PICTURE).save(file, "webp", exif=exif)
    assert "EXIF" in TileChecker(level(Codec.WEBP))(file.getvalue()).whole


def test_plain_tiles_are_judged_by_their_length() -> None:
    check = TileChecker(level(Codec.NONE))
    assert check(PICTURE.tobytes()).good
    assert "12287 bytes" in check(PICTURE.tobytes()[:-1]).problem
    for behind in (b"\0", IDENTITY):
        assert check(PICTURE.tobytes() + behind).cut == ((12288, 12288 + len(behind)),)
    padded = decode_tile(level(Codec.NONE), PICTURE.tobytes() + IDENTITY)
    np.testing.assert_array_equal(padded, PICTURE)
    wide = TileChecker(replace(level(Codec.NONE, Color.GRAY, channels=1), dtype="uint16"))
    assert wide(bytes(64 * 64 * 2)).good


def test_streams_and_strips() -> None:
    assert TileChecker(level(Codec.DEFLATE))(bytes(imagecodecs.zlib_encode(PICTURE.tobytes()))).good
    assert "deflated" in TileChecker(level(Codec.DEFLATE))(b"\0\0\0\0").problem
    assert TileChecker(level(Codec.LZW))(bytes(imagecodecs.lzw_encode(PICTURE.tobytes()))).good
    assert TileChecker(level(Codec.LZW))(b"\x80").problem
    assert TileChecker(level(Codec.JPEG_STRIPS))(b"").problem


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        (Codec.DEFLATE, bytes(imagecodecs.zlib_encode(PICTURE.tobytes()))),
        (Codec.LZW, bytes(imagecodecs.lzw_encode(PICTURE.tobytes()))),
        (Codec.LZW, bytes(imagecodecs.lzw_encode(bytes(64 * 64 * 3)))),
        (Codec.WEBP, bytes(imagecodecs.webp_encode(PICTURE, level=80))),
    ],
)
def test_what_is_behind_a_stream_is_cut(codec: Codec, data: bytes) -> None:
    check = TileChecker(level(codec))
    assert check(data).good
    assert check(data + bytes(9)).good
    tile = data + IDENTITY
    ((start, stop),) = check(tile).cut
    assert len(data) <= start <= len(data) + 4
    assert stop == len(tile)
    assert check(tile[:start]).good
    np.testing.assert_array_equal(decode_tile(level(codec), tile[:start]), decode_tile(level(codec), data))


@pytest.mark.parametrize("codec", [Codec.DEFLATE, Codec.LZW])
def test_a_stream_that_ends_early_is_damaged(codec: Codec) -> None:
    encode = imagecodecs.zlib_encode if codec is Codec.DEFLATE else imagecodecs.lzw_encode
    assert TileChecker(level(codec))(bytes(encode(PICTURE.tobytes()[:-5]))).problem


def test_a_stream_with_more_than_its_pixels_is_for_whole() -> None:
    data = bytes(imagecodecs.zlib_encode(PICTURE.tobytes() + IDENTITY))
    assert "does not end" in TileChecker(level(Codec.DEFLATE))(data).whole


def test_a_webp_with_more_than_a_picture_is_for_whole() -> None:
    good = bytes(imagecodecs.webp_encode(PICTURE, level=80))

    def with_more(more: bytes) -> bytes:
        return good[:4] + struct.pack("<I", len(good) - 8 + len(more)) + good[8:] + more

    check = TileChecker(level(Codec.WEBP))
    assert "ICCP" in check(with_more(b"ICCP" + struct.pack("<I", 12) + IDENTITY)).whole
    assert "two pictures" in check(with_more(good[12:])).whole
    assert "behind" in check(with_more(b"CASE1")).whole


def test_a_whole_level_has_nothing_to_check() -> None:
    with pytest.raises(ValueError, match="no tiles"):
        TileChecker(replace(level(Codec.JPEG), coding=None))
