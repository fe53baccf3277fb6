"""Recoded tiles: exact in bytes and pixels for every kind of tile, chosen by size, harmless whatever a chunk holds."""

from __future__ import annotations

import asyncio
import pickle
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from zarr.registry import get_codec_class

from tests import recoded_kit as kit
from wsistore.compress import pixel_codecs, recipes, recoded_chunk, tiff_lzw
from wsistore.compress.coding import CodingError
from wsistore.compress.presets import Encoding
from wsistore.compress.recoded import CANDIDATES, NAME, RecodedCoding, candidates_for, choose
from wsistore.compress.recoded_codec import Recoded
from wsistore.errors import UnsupportedError
from wsistore.model import Preset
from wsistore.slides.base import Codec, Color, Level, TileCoding
from wsistore.slides.decode import decode_tile

PLAIN = kit.plain_cases()
CASES = {**PLAIN, **kit.picture_cases()}
PIXEL_CANDIDATES = tuple(pixel_codecs.CANDIDATES)


def coding(one: Level, candidate: str = "auto", sample: tuple[bytes, ...] = ()) -> RecodedCoding:
    codecs, shape = kit.codecs_of(one)
    encoding = Encoding(Preset.FOLD, candidate=candidate)
    return RecodedCoding.for_source(codecs, shape, np.dtype(one.dtype), 255, encoding, sample)


def rgb_level(codec: Codec, **more: Any) -> Level:
    return kit.level(TileCoding(codec, Color.RGB, **more))


def grey_level(codec: Codec, dtype: str = "uint8", side: int = kit.TILE) -> Level:
    return kit.level(TileCoding(codec, Color.GRAY), 1, dtype, side)


# --- exact ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CASES))
def test_bytes_and_pixels_are_those_of_the_source(name: str) -> None:
    one, tile = CASES[name]
    keep, _ = kit.codecs_of(one)
    truth = kit.stored(one, keep, tile)
    assert np.array_equal(truth, np.moveaxis(decode_tile(one, tile), -1, 0))
    for candidate in candidates_for(coding(one).source):
        how = coding(one, candidate)
        chunk = how.encode([tile]).data
        assert how.decode(chunk) == [tile], candidate
        assert np.array_equal(kit.stored(one, how.codecs, chunk), truth), candidate


@pytest.mark.parametrize("candidate", PIXEL_CANDIDATES)
@pytest.mark.parametrize("name", ["none-3-uint8", "none-1-uint16-big", "none-4-uint8-planar", "none-2-int16"])
def test_every_candidate_is_what_its_name_says(name: str, candidate: str) -> None:
    one, tile = PLAIN[name]
    made = coding(one, candidate).encode([tile])
    assert not made.fallbacks
    assert made.data[1] == {"jpegxl": 4, "jpegxl-fast": 4, "htj2k": 5}.get(candidate, 3)
    assert len(made.data) < len(tile)


@pytest.mark.parametrize("name", ["lzw-3-uint8-pred", "deflate-1-uint8", "none-2-int16", "jpeg2000"])
def test_the_same_tile_gives_the_same_chunk_in_any_process(name: str) -> None:
    one, tile = CASES[name]
    for candidate in candidates_for(coding(one).source):
        how = coding(one, candidate)
        moved = pickle.loads(pickle.dumps(how))
        assert moved == how
        assert moved.encode([tile]) == how.encode([tile])


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_array_tells_its_coding(name: str) -> None:
    one, _ = CASES[name]
    _, shape = kit.codecs_of(one)
    for candidate in candidates_for(coding(one).source):
        how = coding(one, candidate)
        assert RecodedCoding.from_codecs(how.codecs, shape, np.dtype(one.dtype)) == how
        assert (how.tiles, how.tile_shape) == (1, (kit.TILE, kit.TILE))


# --- the way back to a compressed tile --------------------------------------------------------------------------------


def raws() -> dict[str, bytes]:
    rng = np.random.default_rng(5)
    tissue = kit.picture(3, side=128).tobytes()
    size = len(tissue)
    half = size // 2
    return {
        "tissue": tissue,
        "noise": rng.bytes(size),
        "constant": bytes(size),
        "half": bytes(half) + tissue[:half],
        "two": (b"ab" * size)[:size],
    }


@pytest.mark.parametrize("name", sorted(raws()))
@pytest.mark.parametrize("writer", ["libtiff", "imagecodecs"])
def test_lzw_streams_are_made_again_whoever_wrote_them(name: str, writer: str) -> None:
    raw = raws()[name]
    tile = kit.libtiff(raw, "tiff_lzw", 128) if writer == "libtiff" else bytes(imagecodecs.lzw_encode(raw))
    found = recipes.find(Codec.LZW, tile, len(raw))
    assert not isinstance(found, str)
    assert found[0] == raw
    assert found[1].apply(raw) == tile
    assert len(found[1].dump()) < 40


@pytest.mark.parametrize("padding", [b"", b"\0", b"\0\0\0\0junk"])
def test_what_follows_a_stream_is_kept(padding: bytes) -> None:
    for name in ("none-3-uint8", "lzw-3-uint8", "deflate-3-uint8"):
        one, tile = PLAIN[name]
        how = coding(one, "jpegxl")
        made = how.encode([tile + padding])
        assert not made.fallbacks
        assert how.decode(made.data) == [tile + padding]


def test_an_encoder_that_clears_its_table_when_it_likes() -> None:
    """As an encoder may that watches its ratio; the codes are written here from TIFF's specification."""
    raw = kit.picture(1, side=64).tobytes()
    runs = ((0, 1), (10, 3), (700, 1), (1, 2))
    body = tiff_lzw.encode(raw, runs)
    full = tiff_lzw.resets(body + b"\0" * 8)
    assert full is None or full[0] != ((0, 1),)
    written, bits = _lzw_by_hand(raw, [0, 10, 10, 10, 700, 1, 1])
    assert written[: len(body)] == body
    assert bytes(imagecodecs.lzw_decode(written)) == raw
    found = recipes.find(Codec.LZW, written, len(raw))
    assert not isinstance(found, str), bits
    assert found[1].apply(raw) == written


def _lzw_by_hand(raw: bytes, counts: list[int]) -> tuple[bytes, int]:
    """Write LZW slowly: strings in a dictionary, bits in a text."""
    bits, at, pending = "", 0, list(counts)
    while True:
        count = pending.pop(0) if pending else 10**9
        table = {bytes([i]): i for i in range(256)}
        width, made, free = 9, 0, 258
        while at < len(raw) and made < count:
            end = at + 1
            while end < len(raw) and raw[at : end + 1] in table:
                end += 1
            bits += f"{table[raw[at:end]]:0{width}b}"
            if end < len(raw):
                table[raw[at : end + 1]] = free
            free, made, at = free + 1, made + 1, end
            width = 9 if free < 512 else 10 if free < 1024 else 11 if free < 2048 else 12
        if at == len(raw) and not pending:
            bits += f"{257:0{width}b}"
            return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big"), len(bits)
        bits += f"{256:0{width}b}"


@pytest.mark.parametrize("level", range(1, 10))
def test_deflate_by_zlib_of_any_level_is_made_again(level: int) -> None:
    """Fails where no zlib at hand writes as zlib always has: then deflate tiles could not be restored there."""
    raw = raws()["tissue"]
    tile = zlib.compress(raw, level)
    found = recipes.find(Codec.DEFLATE, tile, len(raw))
    assert not isinstance(found, str)
    assert found[1].apply(raw) == tile


def test_zlib_writes_as_it_always_has() -> None:
    """As zlib 1.2.13 does: a recipe of years ago must give the same bytes."""
    raw = bytes(i * i % 251 for i in range(4096)) + bytes(4096)
    sums = {level: {zlib.crc32(made) for made in recipes._compressed(raw, level)} for level in (1, 6, 9)}
    assert sums == {1: {3100091244}, 6: {2670159880}, 9: {2797861177}}


def test_deflate_by_others_stays_as_it_is() -> None:
    one = rgb_level(Codec.DEFLATE)
    tile = bytes(imagecodecs.deflate_encode(kit.samples(kit.picture(3), TileCoding(Codec.DEFLATE, Color.RGB)), 9))
    how = coding(one, "jpegxl")
    made = how.encode([tile])
    assert made.fallbacks == {"tile cannot be recoded: its deflate stream cannot be made again": 1}
    assert len(made.data) == len(tile) + 6
    assert how.decode(made.data) == [tile]
    keep, _ = kit.codecs_of(one)
    assert np.array_equal(kit.stored(one, how.codecs, made.data), kit.stored(one, keep, tile))


def test_a_deflate_recipe_that_is_followed_differently_is_an_error_and_no_other_tile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, tile = PLAIN["deflate-3-uint8"]
    how = coding(one, "jpegxl")
    chunk = how.encode([tile]).data
    monkeypatch.setattr(recipes, "_compressed", lambda raw, level: iter([zlib.compress(raw, level, -15)]))
    with pytest.raises(CodingError, match="needs zlib"):
        how.decode(chunk)
    keep, _ = kit.codecs_of(one)
    assert np.array_equal(kit.stored(one, how.codecs, chunk), kit.stored(one, keep, tile))


@pytest.mark.parametrize(
    ("codec", "change", "reason"),
    [
        (Codec.NONE, lambda tile: tile[:-1], "its data are of another length"),
        (Codec.LZW, lambda tile: tile[: len(tile) // 2], "its data are of another length"),
        (Codec.LZW, lambda tile: b"", "its data are of another length"),
        (Codec.LZW, lambda _: bytes(imagecodecs.lzw_encode(bytes(99_999))), "its data are of another length"),
        (Codec.DEFLATE, lambda _: zlib.compress(bytes(99_999)), "its data are of another length"),
        (Codec.DEFLATE, lambda tile: tile[:-3], "its data are of another length"),
        (Codec.DEFLATE, lambda tile: b"no deflate", "its data are of another length"),
    ],
)
def test_odd_tiles_are_kept_as_they_are(codec: Codec, change: Callable[[bytes], bytes], reason: str) -> None:
    one = rgb_level(codec)
    tile = change(kit.compress(kit.samples(kit.picture(3), TileCoding(codec, Color.RGB)), codec))
    how = coding(one, "zstd")
    made = how.encode([tile])
    assert made.fallbacks == {f"tile cannot be recoded: {reason}": 1}
    assert how.decode(made.data) == [tile]


def test_a_codec_that_returns_other_pixels_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    one, tile = PLAIN["none-3-uint8"]
    decode = pixel_codecs.decode
    monkeypatch.setattr(pixel_codecs, "decode", lambda *args: decode(*args) ^ np.uint8(1))
    made = coding(one, "jpegxl").encode([tile])
    assert made.fallbacks == {"tile does not come back exactly": 1}
    assert made.data[2:-4] == tile


def test_an_encoder_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise imagecodecs.JpegxlError("JxlEncoder", -1)

    one, tile = PLAIN["none-3-uint8"]
    monkeypatch.setattr(imagecodecs, "jpegxl_encode", refuse)
    assert coding(one, "jpegxl").encode([tile]).fallbacks == {"tile does not come back exactly": 1}


def test_a_tile_that_gets_no_smaller_is_kept() -> None:
    one = grey_level(Codec.NONE)
    tile = np.random.default_rng(1).bytes(kit.TILE**2)
    for candidate in candidates_for(coding(one).source)[:-1]:
        how = coding(one, candidate)
        made = how.encode([tile])
        assert how.decode(made.data) == [tile]
        assert len(made.data) <= len(tile) + 6
        assert made.fallbacks in ({"tile gets no smaller": 1}, {})


# --- costs nothing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.LZW, Codec.DEFLATE])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (3, "uint8"), (1, "uint16"), (3, "int16")])
def test_a_tile_of_one_colour_takes_a_few_bytes(codec: Codec, channels: int, dtype: str) -> None:
    one = kit.level(TileCoding(codec, Color.RGB if channels > 1 else Color.GRAY), channels, dtype, 128)
    pixels = np.broadcast_to(np.arange(7, 7 + channels, dtype=dtype), (128, 128, channels))
    assert one.coding is not None
    tile = kit.compress(kit.samples(np.ascontiguousarray(pixels), one.coding), codec)
    keep, _ = kit.codecs_of(one)
    for candidate in PIXEL_CANDIDATES:
        how = coding(one, candidate)
        made = how.encode([tile])
        assert len(made.data) <= 30
        assert not made.fallbacks
        assert how.decode(made.data) == [tile]
        assert np.array_equal(kit.stored(one, how.codecs, made.data), kit.stored(one, keep, tile))


@pytest.mark.parametrize("payloads", [[], [None], [b"a", b"b"], [b"a", None]])
def test_a_chunk_has_one_tile(payloads: list[bytes | None]) -> None:
    with pytest.raises(CodingError, match="one tile"):
        coding(rgb_level(Codec.NONE), "zstd").encode(payloads)


# --- choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none-3-uint8", "lzw-1-uint8", "deflate-3-uint8-pred", "none-1-uint16", "webp"])
def test_the_smallest_wins(name: str) -> None:
    one, tile = CASES[name]
    sizes = {
        candidate: len(coding(one, candidate).encode([tile]).data) for candidate in candidates_for(coding(one).source)
    }
    chosen = coding(one, "auto", (tile,)).candidate
    assert sizes[chosen] == min(sizes.values()) or chosen == "source"
    assert (chosen == "source") == (min(sizes.values()) >= 0.98 * len(tile))


@pytest.mark.parametrize("name", sorted(kit.picture_cases()))
def test_pictures_stay_what_they_are(name: str) -> None:
    one, tile = CASES[name]
    how = coding(one, "auto", (tile,))
    keep, _ = kit.codecs_of(one)
    assert (how.candidate, how.codecs) == ("source", keep)
    assert how.encode([tile]).data == tile
    assert coding(one, "jpegxl").codecs == keep


def test_without_a_sample_nothing_is_recoded() -> None:
    assert coding(rgb_level(Codec.NONE)).candidate == "source"


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="magic") as caught:
        coding(rgb_level(Codec.NONE), "magic")
    assert "jpegxl" in caught.value.remedy


def test_wide_samples_get_only_what_holds_them() -> None:
    wide = coding(kit.level(TileCoding(Codec.NONE, Color.GRAY), 1, "uint32")).source
    assert candidates_for(wide) == ("zstd-delta", "zstd", "payload-zstd", "source")
    assert choose(wide, [np.arange(kit.TILE**2, dtype="<u4").tobytes()]) == "zstd-delta"


# --- bad input --------------------------------------------------------------------------------------------------------


def chunk_of(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


NONE_RECIPE = b"\0\0\0"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\x02\x00abc", "version 2; a newer wsistore"),
        (b"\x01\x09" + NONE_RECIPE, "kind 9; a newer wsistore"),
        (b"\x01\x04\x07\0\0", "method 7; a newer wsistore"),
        (b"\x01\x04\x00\x05", "too early"),
        (b"\x01\x04\x00" + b"\xff" * 12, "63 bits"),
        (b"\x01\x03" + NONE_RECIPE, "filter none"),
        (b"\x01\x03" + NONE_RECIPE + b"\x08abc", "filter 08; a newer wsistore"),
        (b"\x01\x03" + NONE_RECIPE + b"\x00abc", "damaged"),
        (b"\x01\x03" + NONE_RECIPE + b"\x00" + bytes(imagecodecs.zstd_encode(b"short")), "5 bytes of samples"),
        (b"\x01\x03" + NONE_RECIPE + b"\x00" + bytes(imagecodecs.zstd_encode(bytes(10**7))), "damaged"),
        (b"\x01\x01" + bytes(imagecodecs.zstd_encode(bytes(10**7))), "damaged"),
        (b"\x01\x02" + NONE_RECIPE + b"\x00", "colour of 1 bytes"),
        (b"\x01\x04" + NONE_RECIPE + b"no JPEG XL at all", "no JPEG XL"),
        (b"\x01\x05" + NONE_RECIPE + b"no HTJ2K at all", "damaged"),
        (b"\x01\x02\x01\x0a\x00" + b"\xff" * 8 + b"\x7f\x00abc", "more clear codes"),
        (b"\x01\x02\x01\x03\xff\xff\x01\x00abc", "too early"),
        (b"\x01\x02\x02\x01\x06\x00abc", "another size"),
        (b"\x01\x02\x02\x05\x06\0\0\0\0\x00abc", "needs zlib"),
    ],
)
def test_bytes_that_are_no_chunk_are_told(body: bytes, says: str) -> None:
    with pytest.raises(CodingError, match=says):
        coding(rgb_level(Codec.NONE), "zstd").decode(chunk_of(body))


@pytest.mark.parametrize("candidate", ["jpegxl", "htj2k"])
@pytest.mark.parametrize("side", [63, 65, 1500])
def test_pictures_of_another_size_are_refused_before_they_are_decoded(candidate: str, side: int) -> None:
    encode = pixel_codecs.CANDIDATES[candidate]
    picture = encode.encode(np.zeros((side, side, 1), np.uint8))
    body = bytes([1, encode.kind]) + NONE_RECIPE + picture
    with pytest.raises(CodingError, match=str(side)):
        coding(grey_level(Codec.NONE), candidate).decode(chunk_of(body))


@pytest.mark.parametrize("candidate", ["jpegxl", "htj2k"])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint16"), (3, "uint8")])
def test_pictures_of_other_samples_are_refused(candidate: str, channels: int, dtype: str) -> None:
    encode = pixel_codecs.CANDIDATES[candidate]
    picture = encode.encode(kit.picture(channels, dtype))
    with pytest.raises(CodingError):
        coding(grey_level(Codec.NONE), candidate).decode(chunk_of(bytes([1, encode.kind]) + NONE_RECIPE + picture))


def test_a_forged_jpeg_xl_size_is_refused() -> None:
    for height, width in ((2**30, 2**30), (kit.TILE, 2**20), (8, 8)):
        with pytest.raises(CodingError, match="JPEG XL picture of"):
            coding(grey_level(Codec.NONE), "jpegxl").decode(
                chunk_of(b"\x01\x04" + NONE_RECIPE + _header(height, width))
            )


def _header(height: int, width: int) -> bytes:
    """Return the start of a JPEG XL codestream with sizes of 30 bits each."""
    bits = 0 | 3 << 1 | (height - 1) << 3 | 0 << 33 | 3 << 36 | (width - 1) << 38
    return b"\xff\x0a" + bits.to_bytes(10, "little") + bytes(20)


@pytest.mark.parametrize(
    "size", [(8, 8), (64, 64), (240, 240), (256, 256), (257, 300), (1, 1), (1024, 8), (9000, 2), (500, 1000)]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_size_of_jpeg_xl_is_read_as_libjxl_writes_it(size: tuple[int, int], dtype: str) -> None:
    stream = bytes(imagecodecs.jpegxl_encode(np.zeros(size, dtype), lossless=True, effort=1, numthreads=1))
    assert pixel_codecs.jpegxl_size(stream) == size


def test_a_flipped_bit_is_told() -> None:
    one, tile = PLAIN["none-3-uint8"]
    how = coding(one, "jpegxl")
    chunk = how.encode([tile]).data
    for at in range(0, len(chunk) * 8, 997):
        flipped = bytearray(chunk)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(CodingError):
            how.decode(bytes(flipped))


# --- the Zarr codec ---------------------------------------------------------------------------------------------------


def document(name: str = "none-3-uint8") -> dict[str, Any]:
    (found,) = coding(CASES[name][0], "zstd").codecs
    return found


def test_zarr_finds_the_codec_and_its_json_comes_back() -> None:
    made = get_codec_class(NAME).from_dict(document())
    assert type(made) is Recoded
    assert made.to_dict() == document()
    assert hash(Recoded.from_dict(made.to_dict())) == hash(made)
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sharpness": 3}, "newer wsistore"),
        ({"candidate": "magic"}, "newer wsistore"),
        ({"candidate": "source"}, "newer wsistore"),
        ({"candidate": ["zstd"]}, "newer wsistore"),
        ({"tile_shape": [64]}, "height and width"),
        ({"tile_shape": "64"}, "height and width"),
        ({"codecs": "bytes"}, "codecs are due"),
    ],
)
def test_settings_that_cannot_be_heeded_are_refused(change: dict[str, Any], says: str) -> None:
    broken = {"name": NAME, "configuration": document()["configuration"] | change}
    with pytest.raises(ValueError, match=says):
        Recoded.from_dict(broken)
    with pytest.raises(CodingError, match=says):
        RecodedCoding.from_codecs([broken], (3, 64, 64), "uint8")


@pytest.mark.parametrize("missing", ["candidate", "tile_shape", "codecs"])
def test_all_settings_are_needed(missing: str) -> None:
    settings = {k: v for k, v in document()["configuration"].items() if k != missing}
    with pytest.raises(ValueError, match=missing):
        Recoded.from_dict({"name": NAME, "configuration": settings})
    with pytest.raises(CodingError, match=missing):
        RecodedCoding.from_codecs([{"name": NAME, "configuration": settings}], (3, 64, 64), "uint8")


TRANSPOSE = {"name": "transpose", "configuration": {"order": [1, 2, 0]}}


@pytest.mark.parametrize(
    "inner",
    [
        [],
        [TRANSPOSE],
        [TRANSPOSE, "bytes"],
        [TRANSPOSE, {"name": "bytes"}, {"name": "blosc"}],
        [TRANSPOSE, {"name": "bytes"}, {"name": "imagecodecs_lzw"}, {"name": "imagecodecs_lzw"}],
        [TRANSPOSE, {"name": "imagecodecs_jpeg"}],
        [TRANSPOSE, {"name": "imagecodecs_delta", "configuration": {"axis": 0, "dist": 1}}, {"name": "bytes"}],
        [TRANSPOSE, {"name": "wsistore.ycbcr"}, {"name": "imagecodecs_webp"}],
        [{"name": "transpose", "configuration": {"order": [2, 1, 0]}}, {"name": "bytes"}],
        [{"name": "imagecodecs_webp"}],
        [{"name": NAME, "configuration": {}}],
        [{"name": 5}],
        [None],
    ],
)
def test_source_codecs_that_are_not_known_are_refused(inner: list[Any]) -> None:
    settings = {"candidate": "zstd", "tile_shape": [64, 64], "codecs": inner}
    with pytest.raises(CodingError):
        RecodedCoding.from_codecs([{"name": NAME, "configuration": settings}], (3, 64, 64), "uint8")


def test_chunks_of_another_shape_than_tiles_are_refused() -> None:
    with pytest.raises(CodingError, match="64, 64"):
        RecodedCoding.from_codecs([document()], (3, 32, 64), "uint8")


def test_the_codec_encodes_nothing() -> None:
    with pytest.raises(NotImplementedError, match="encodes none"):
        asyncio.run(Recoded.from_dict(document())._encode_single(None, None))  # type: ignore[arg-type]


def test_every_candidate_has_a_name_of_its_own() -> None:
    assert len(set(CANDIDATES)) == len(CANDIDATES)
    assert recoded_chunk.VERSION == 1


def test_htj2k_with_another_header_is_not_decoded() -> None:
    """OpenJPH hangs on some forged headers, so only the one that the shape asks for is let through."""
    encode = pixel_codecs.CANDIDATES["htj2k"]
    picture = encode.encode(kit.picture(1))
    assert b"OpenJPH" not in picture
    at = picture.index(b"\xff\x52")
    for offset in range(4, 14):
        forged = picture[: at + offset] + bytes([picture[at + offset] ^ 1]) + picture[at + offset + 1 :]
        with pytest.raises(CodingError):
            coding(grey_level(Codec.NONE), "htj2k").decode(chunk_of(bytes([1, encode.kind]) + NONE_RECIPE + forged))
