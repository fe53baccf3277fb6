"""Folds as JPEG XL: every kind of tile comes back byte for byte, and what cannot be folded is counted by its reason."""

from __future__ import annotations

import json
import pickle
from functools import cache
from typing import Any

import imagecodecs
import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype

from tests import jpegs
from tests.jpegs import Sampling, folding, tile_of
from wsistore.compress import fold, fold_encoder, shards
from wsistore.compress.codecs import Fold
from wsistore.compress.coding import CodingError, Payload
from wsistore.compress.fold_container import FIRST_PART, MISSING, REPEATED, Kind, Part, pack, unpack
from wsistore.compress.folding import TRANSPOSE, FoldCoding, StripsCoding
from wsistore.compress.levels import Json
from wsistore.testing.tissue import tissue

EDGE = 128
FOLDING: list[Sampling] = [sampling for sampling in jpegs.SAMPLINGS if sampling != "4:1:1"]


@cache
def section() -> jpegs.Pixels:
    return tissue(16 * EDGE, 2 * EDGE, seed=21)


def picture(number: int, height: int = EDGE, width: int = EDGE) -> jpegs.Pixels:
    return section()[number * height : (number + 1) * height, :width]


def tiles(count: int = 8, sampling: Sampling = "4:2:0", **options: Any) -> list[bytes]:
    return [tile_of(picture(number), sampling, **options) for number in range(count)]


def round_trip(coding: FoldCoding, payloads: list[Payload | None]) -> tuple[list[int], list[Part], dict[str, int]]:
    """Encode and decode; return what is in the chunk."""
    made = coding.encode(payloads)
    assert coding.decode(made.data) == payloads
    assert coding.encode(payloads).data == made.data, "the same payloads give the same bytes"
    assert set(made.fallbacks) <= set(fold_encoder.FALLBACKS)
    codes, parts = unpack(made.data, coding.tiles)
    return codes, parts, dict(made.fallbacks)


def kinds(parts: list[Part]) -> list[Kind]:
    return [part.kind for part in parts]


# --- what folds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", FOLDING)
def test_tiles_of_one_header_are_one_fold(sampling: Sampling) -> None:
    payloads = tiles(8, sampling)
    codes, parts, fallbacks = round_trip(folding((EDGE, EDGE), 8, sampling), [*payloads])
    assert (codes, kinds(parts), fallbacks) == ([FIRST_PART] * 8, [Kind.JPEG_XL], {})
    assert len(parts[0].data) < 0.9 * sum(map(len, payloads))


@pytest.mark.parametrize("sampling", FOLDING)
def test_abbreviated_tiles_are_one_fold(sampling: Sampling) -> None:
    tables = jpegs.abbreviated(tile_of(picture(0), sampling))[0]
    payloads = [jpegs.abbreviated(tile)[1] for tile in tiles(8, sampling)]
    _, parts, fallbacks = round_trip(folding((EDGE, EDGE), 8, sampling, tables), [*payloads])
    assert (kinds(parts), fallbacks) == ([Kind.JPEG_XL], {})


@pytest.mark.parametrize(("height", "width"), [(50, 64), (64, 50), (33, 17), (1, 1), (8, 8), (61, 63)])
@pytest.mark.parametrize("sampling", jpegs.SAMPLINGS)
def test_sizes_that_are_no_multiple_of_the_mcu(sampling: Sampling, height: int, width: int) -> None:
    payloads = [tile_of(picture(number, height, width), sampling) for number in range(5)]
    _, _, fallbacks = round_trip(folding((height, width), 8, sampling), [*payloads])
    assert set(fallbacks) <= {"sampling-factors" if sampling == "4:1:1" else "not-smaller"}


def test_subsampling_that_jpeg_xl_does_not_know_is_kept() -> None:
    """JPEG XL has components of full and half resolution; 4:1:1 has quarters."""
    payloads = tiles(4, "4:1:1")
    _, parts, fallbacks = round_trip(folding((EDGE, EDGE), 8, "4:1:1"), [*payloads])
    assert (parts, fallbacks) == ([Part(tile) for tile in payloads], {"sampling-factors": 4})


def test_a_restart_interval_in_the_shared_tables_means_nothing() -> None:
    """Libjpeg forgets it at the tile's SOI; our fold must not bring it back."""
    tables, _ = jpegs.abbreviated(tile_of(picture(0)))
    tables = tables[:-2] + b"\xff\xdd\x00\x04\x00\x02\xff\xd9"
    payloads = [jpegs.abbreviated(tile)[1] for tile in tiles(8)]
    _, parts, fallbacks = round_trip(folding((EDGE, EDGE), 8, tables=tables), [*payloads])
    assert (kinds(parts), fallbacks) == ([Kind.JPEG_XL], {})


def test_shared_tables_and_some_of_the_tiles_own() -> None:
    """libjxl takes no table that is defined twice: the shared ones are left out where a tile has its own."""
    tables, _ = jpegs.abbreviated(tile_of(picture(0), quality=95))
    whole = tiles(4)
    bare = [jpegs.abbreviated(tile_of(picture(n), quality=95))[1] for n in range(4, 6)]
    mixed = [jpegs.abbreviated(tile_of(picture(n), quality=95), (0xC4,))[1] for n in range(6, 8)]
    codes, parts, fallbacks = round_trip(folding((EDGE, EDGE), 8, tables=tables), [*whole, *bare, *mixed])
    assert (codes, fallbacks) == ([2, 2, 2, 2, 3, 3, 4, 4], {"tables-differ": 4})
    assert kinds(parts) == [Kind.JPEG_XL | Kind.OWN_DQT | Kind.OWN_DHT, Kind.JPEG_XL, Kind.JPEG_XL | Kind.OWN_DQT]


def test_zeros_behind_the_end_are_counted_not_stored() -> None:
    payloads = [tile + bytes(number % 3) for number, tile in enumerate(tiles(8))]
    _, parts, fallbacks = round_trip(folding((EDGE, EDGE)), [*payloads])
    assert (kinds(parts), fallbacks) == ([Kind.JPEG_XL | Kind.PADDED], {})
    assert parts[0].zeros == (0, 1, 2, 0, 1, 2, 0, 1)


def test_missing_tiles_cost_no_fold() -> None:
    one = tiles(8)
    payloads: list[Payload | None] = [None, one[1], one[2], None, None, one[5], one[6], None]
    codes, parts, fallbacks = round_trip(folding((EDGE, EDGE)), payloads)
    assert codes == [MISSING, 2, 2, MISSING, MISSING, 2, 2, MISSING]
    assert (kinds(parts), fallbacks) == ([Kind.JPEG_XL], {})


def test_a_short_last_fold() -> None:
    codes, _, fallbacks = round_trip(folding((EDGE, EDGE), 16), [*tiles(3)])
    assert (codes, fallbacks) == ([2, 2, 2], {})


def test_one_tile_alone() -> None:
    _, parts, fallbacks = round_trip(folding((EDGE, EDGE)), [*tiles(1)])
    assert (kinds(parts), fallbacks) == ([Kind.JPEG_XL], {})


def test_constant_tiles_cost_next_to_nothing() -> None:
    glass = tile_of(np.full((EDGE, EDGE, 3), 243, np.uint8))
    payloads: list[Payload | None] = [glass] * 30 + [None] + [glass] * 33
    codes, parts, _ = round_trip(folding((EDGE, EDGE), 64), payloads)
    assert codes == [2] + [REPEATED] * 29 + [MISSING] + [REPEATED] * 33
    assert len(parts) == 1
    made = folding((EDGE, EDGE), 64).encode(payloads)
    assert len(made.data) <= len(glass) + 16


def test_strips_are_folded_under_their_header() -> None:
    noise = np.random.default_rng(5).integers(60, 200, (160, 128, 3), np.uint8)
    strips = [tile_of(noise[8 * number :][:8], "4:2:2") for number in range(20)]
    (header,) = {strip[: strip.index(b"\xff\xda") + 14] for strip in strips}
    scans = [strip[len(header) : -2] for strip in strips]
    hot = StripsCoding.from_codecs(strip_codecs(header), (3, 8 * 10, 128))
    assert isinstance(hot, StripsCoding)
    coding = FoldCoding.for_source(hot.codecs, hot.tile_shape, 20)
    _, parts, fallbacks = round_trip(coding, [*scans])
    assert (kinds(parts), fallbacks) == ([Kind.JPEG_XL], {})
    assert len(parts[0].data) < sum(map(len, scans))
    odd: list[Payload | None] = [scans[0], None, scans[1] + b"\xff\xd3" + scans[1], scans[2], b"", scans[3] + b"\0\0"]
    round_trip(coding, odd)


def strip_codecs(header: bytes, shape: tuple[int, int] = (8, 128)) -> list[Json]:
    config = Fold(shape, header, "YCBCR").to_dict()
    return [TRANSPOSE, dict(config)]


# --- what does not ----------------------------------------------------------------------------------------------------


def odd_tile(kind: str) -> bytes:
    good = tile_of(picture(3))
    scan = good.index(b"\xff\xda") + 14
    wide = picture(3).astype(np.uint16) * 16
    makers: dict[str, Any] = {
        "restart-intervals": lambda: tile_of(picture(3), restart_marker_blocks=2),
        "restart-intervals, not announced": lambda: good[: scan + 40] + b"\xff\xd0" + good[scan + 40 :],
        "progressive": lambda: tile_of(picture(3), progressive=True),
        "twelve-bit": lambda: bytes(imagecodecs.jpeg8_encode(wide, bitspersample=12)),
        "arithmetic": lambda: jpegs.with_frame_code(good, 0xC9),
        "unusual-jpeg": lambda: jpegs.with_frame_code(good, 0xC3),
        "other-size": lambda: tile_of(picture(3, 48)),
        "not-a-jpeg": lambda: b"no JPEG at all",
        "empty": lambda: b"",
        "stray-bytes": lambda: good + b"behind the end",
        "cut": lambda: good[:-40],
        "two ends": lambda: good + good,
        "not-exact": lambda: good[: scan + 30] + b"\xff\xff" + good[scan + 30 :],
        "larger": lambda: tile_of(section()[: 2 * EDGE, : 2 * EDGE]),
    }
    return bytes(makers[kind]())


@pytest.mark.parametrize(
    ("kind", "reasons", "kept"),
    [
        ("restart-intervals", {"restart-intervals"}, Kind.JPEG_XL),
        ("restart-intervals, not announced", {"refused-by-libjxl", "not-exact", "restart-intervals"}, None),
        ("progressive", {"progressive"}, Kind.JPEG_XL),
        ("twelve-bit", {"twelve-bit"}, Kind.VERBATIM),
        ("arithmetic", {"arithmetic"}, Kind.VERBATIM),
        ("unusual-jpeg", {"unusual-jpeg"}, Kind.VERBATIM),
        ("other-size", {"other-size"}, Kind.JPEG_XL),
        ("not-a-jpeg", {"not-a-jpeg"}, Kind.VERBATIM),
        ("empty", {"not-a-jpeg"}, Kind.VERBATIM),
        ("stray-bytes", {"stray-bytes"}, Kind.JPEG_XL),
        ("cut", {"refused-by-libjxl", "not-exact", "stray-bytes"}, None),
        ("two ends", {"stray-bytes", "not-exact"}, None),
        ("not-exact", {"refused-by-libjxl", "not-exact", "stray-bytes"}, None),
        ("larger", {"not-exact"}, Kind.VERBATIM),
    ],
)
def test_a_tile_that_cannot_be_folded_is_kept_and_counted(kind: str, reasons: set[str], kept: Kind | None) -> None:
    payloads = tiles(8)
    payloads[3] = odd_tile(kind)
    codes, parts, fallbacks = round_trip(folding((EDGE, EDGE)), [*payloads])
    assert codes == [2, 2, 2, 3, 2, 2, 2, 2], "its neighbours are one fold nevertheless"
    assert sum(fallbacks.values()) == 1
    assert set(fallbacks) <= reasons
    if kept is not None:
        assert parts[1].kind is kept
    if parts[1].kind is Kind.VERBATIM:
        assert parts[1].data == payloads[3]


def test_a_scan_for_each_component_is_kept_alone() -> None:
    """Sequential JPEG may have its components one after the other; such tiles have no single scan to join."""
    grey = [tile_of(picture(2) if n == 1 else picture(n + 3), "grey", quality=95) for n in range(3)]
    (head,) = {one[: one.index(b"\xff\xda")] for one in grey}
    frame = head.index(b"\xff\xc0")
    three = b"\xff\xc0\x00\x11" + head[frame + 4 : frame + 9] + b"\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    scans = [b"\xff\xda\x00\x08\x01" + bytes([n + 1]) + one[len(head) + 6 : -2] for n, one in enumerate(grey)]
    tile = head[:frame] + three + head[frame + 13 :] + b"".join(scans) + b"\xff\xd9"
    assert jpegs.decoded(tile, "4:4:4").shape == (EDGE, EDGE, 3)
    _, parts, fallbacks = round_trip(folding((EDGE, EDGE)), [tile])
    assert (kinds(parts), fallbacks) == ([Kind.JPEG_XL], {"several-scans": 1})


def test_other_tables_make_other_folds() -> None:
    payloads = [tile_of(picture(n), quality=75 if n % 3 else 60) for n in range(8)]
    codes, parts, fallbacks = round_trip(folding((EDGE, EDGE)), [*payloads])
    assert codes == [2, 3, 3, 2, 3, 3, 2, 3], "tiles with the same tables go together, neighbours or not"
    assert (kinds(parts), fallbacks) == ([Kind.JPEG_XL] * 2, {"tables-differ": 3})


def test_tables_of_their_own_in_every_tile() -> None:
    payloads = tiles(6, optimize=True, quality=95)
    _, parts, fallbacks = round_trip(folding((EDGE, EDGE)), [*payloads])
    assert kinds(parts) == [Kind.JPEG_XL] * 6
    assert fallbacks == {"tables-differ": 5}


def test_a_fold_has_at_most_65535_rows() -> None:
    """127 tiles of 512 rows and 16 columns would be 65 024 rows; 500-row tiles of 4:2:0 take 512 rows each."""
    pixels = np.random.default_rng(4).integers(0, 255, (630, 16, 3), np.uint8)
    payloads = [tile_of(pixels[number : number + 500], "4:2:0", quality=30) for number in range(130)]
    codes, parts, fallbacks = round_trip(folding((500, 16), 130), [*payloads])
    assert [codes.count(2), codes.count(3)] == [65, 65]
    assert (kinds(parts), fallbacks) == ([Kind.JPEG_XL] * 2, {"too-tall": 3})


def test_folds_of_large_tiles_stay_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_encoder, "MOST_FOLD_PIXELS", 3 * EDGE * EDGE)
    codes, _, fallbacks = round_trip(folding((EDGE, EDGE)), [*tiles(8)])
    assert (codes, fallbacks) == ([2, 2, 3, 3, 3, 4, 4, 4], {}), "this is no fall-back: it costs nothing"


def test_a_tile_of_too_many_mcus_goes_alone() -> None:
    """A restart interval has 16 bits; 2048 × 2048 pixels of 4:4:4 are 65 536 MCUs."""
    flat = [tile_of(np.full((2048, 2048, 3), level, np.uint8), "4:4:4") for level in (10, 200)]
    _, parts, fallbacks = round_trip(folding((2048, 2048), 2, "4:4:4"), [*flat])
    assert (kinds(parts), fallbacks) == ([Kind.JPEG_XL] * 2, {"too-many-mcus": 2})


@pytest.mark.parametrize("reaction", ["refuses", "returns other bytes", "fails to return"])
def test_the_tile_that_libjxl_cannot_take_is_found(reaction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What libjxl does with some tiles (libjxl#2693, #3882) is played here: whatever holds this tile's scan fails."""
    payloads = tiles(8, quality=95)
    culprit = payloads[5][-200:-2]
    encode, decode = imagecodecs.jpegxl_encode_jpeg, imagecodecs.jpegxl_decode_jpeg

    def failing_encode(data: bytes, **options: Any) -> bytes:
        if reaction == "refuses" and culprit in data:
            raise RuntimeError("JxlEncoderAddJPEGFrame returned JXL_ENC_ERR_JBRD")
        return bytes(encode(data, **options))

    def failing_decode(data: bytes, **options: Any) -> bytes:
        found = bytes(decode(data, **options))
        if reaction == "fails to return" and culprit in found:
            raise RuntimeError("JxlDecoderProcessInput returned JXL_DEC_ERROR")
        return found.replace(culprit, culprit[::-1]) if reaction == "returns other bytes" else found

    monkeypatch.setattr(imagecodecs, "jpegxl_encode_jpeg", failing_encode)
    monkeypatch.setattr(imagecodecs, "jpegxl_decode_jpeg", failing_decode)
    codes, parts, fallbacks = round_trip(folding((EDGE, EDGE)), [*payloads])
    assert codes == [2, 2, 2, 2, 3, 4, 5, 5]
    assert parts[2] == Part(payloads[5])
    assert fallbacks == {"refused-by-libjxl" if reaction == "refuses" else "not-exact": 1}


def test_what_would_be_larger_stays_as_it_is() -> None:
    payloads = [tile_of(np.full((8, 8, 3), level, np.uint8)) for level in (0, 128)]
    tables = jpegs.abbreviated(payloads[0])[0]
    short = [jpegs.abbreviated(tile)[1] for tile in payloads]
    _, parts, fallbacks = round_trip(folding((8, 8), 2, tables=tables), [*short])
    assert (parts, fallbacks) == ([Part(short[0]), Part(short[1])], {"not-smaller": 2})


# --- the contract -----------------------------------------------------------------------------------------------------


def test_no_tiles_or_too_many_are_refused() -> None:
    coding = folding((EDGE, EDGE), 2)
    for payloads in ([], [None, None], tiles(3)):
        with pytest.raises(CodingError, match="1 to 2 tiles"):
            coding.encode(payloads)


def test_codings_come_back_from_the_metadata_and_from_pickle() -> None:
    tables = jpegs.abbreviated(tile_of(picture(0)))[0]
    for coding in (folding((EDGE, 32), 5, tables=tables), folding((EDGE, 32), 5, "grey")):
        described = json.loads(json.dumps(coding.codecs))
        assert FoldCoding.from_codecs(described, (3, 5 * EDGE, 32)) == coding
        assert pickle.loads(pickle.dumps(coding)) == coding
        assert hash(pickle.loads(pickle.dumps(coding))) == hash(coding)
        assert coding.tile_shape == (EDGE, 32)
        assert coding.tiles == 5


def test_the_codecs_of_the_hot_store_come_back() -> None:
    tables = jpegs.abbreviated(tile_of(picture(0)))[0]
    for codecs in (jpegs.keep_codecs("rgb", tables), jpegs.keep_codecs("grey")):
        assert json.dumps(FoldCoding.for_source(codecs, (8, 8), 3).source_codecs) == json.dumps(codecs)
    header = tile_of(picture(0, 8, 128))
    strips = strip_codecs(header[: header.index(b"\xff\xda") + 14])
    assert json.dumps(FoldCoding.for_source(strips, (8, 128), 3).source_codecs) == json.dumps(strips)


@pytest.mark.parametrize(
    ("codecs", "says"),
    [
        ([], "behind a transpose"),
        ([TRANSPOSE], "behind a transpose"),
        ([{"name": "transpose", "configuration": {"order": [0, 1, 2]}}, {"name": "wsistore.fold"}], "transpose"),
        ([TRANSPOSE, {"name": "imagecodecs_webp"}], "imagecodecs_webp"),
        ([TRANSPOSE, {"name": "wsistore.fold"}], "missing"),
        ([TRANSPOSE, 3], "behind a transpose"),
        (None, "behind a transpose"),
        ([*folding((8, 8)).codecs[:1], {"name": "wsistore.fold", "configuration": []}], "behind a transpose"),
    ],
)
def test_other_codecs_are_refused(codecs: Any, says: str) -> None:
    with pytest.raises(CodingError, match=says):
        FoldCoding.from_codecs(codecs, (3, 64, 64))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"inner": "jpegxr"}, "newer wsistore"),
        ({"inner": ["jpegxl"]}, "newer wsistore"),
        ({"order": 1}, "newer wsistore"),
        ({"tile_shape": [48, 64]}, "whole tiles"),
        ({"tile_shape": [64, 32]}, "whole tiles"),
        ({"tile_shape": [70_000, 64]}, "height and width"),
        ({"tables": "/9j/2Q==", "header": "/9j/2Q=="}, "do not fit"),
        ({"inner": "jpeg"}, "do not fit"),
        ({"tables": "%"}, "base64"),
        ({"colorspace_jpeg": 3}, "colour space"),
    ],
)
def test_settings_that_cannot_be_heeded_are_refused(change: dict[str, Any], says: str) -> None:
    transpose, tile = folding((64, 64)).codecs
    changed = {"name": tile["name"], "configuration": {**tile["configuration"], **change}}
    with pytest.raises(CodingError, match=says):
        FoldCoding.from_codecs([transpose, changed], (3, 64, 64))


@pytest.mark.parametrize("setting", ["tables", "header"])
def test_unsound_tables_are_a_coding_error(setting: str) -> None:
    transpose, tile = folding((64, 64)).codecs
    changed = {"name": tile["name"], "configuration": {**tile["configuration"], setting: "AAAA"}}
    coding = FoldCoding.from_codecs([transpose, changed], (3, 64, 64))
    with pytest.raises(CodingError, match="unsound"):
        coding.decode(folding((64, 64)).encode(tiles(1)).data)


# --- the Zarr codec ---------------------------------------------------------------------------------------------------


def decode(coding: FoldCoding, data: bytes, count: int, channels: int = 3) -> jpegs.Pixels:
    """Return what the Zarr codec makes of a chunk; 7 where it makes nothing."""
    codec = Fold.from_dict(dict(coding.codecs[1]))
    height, width = coding.tile_shape
    out = np.full((count * height, width, channels) if channels > 1 else (count * height, width), 7, np.uint8)
    codec.decode_into(data, out)
    return out


@pytest.mark.parametrize("sampling", jpegs.SAMPLINGS)
@pytest.mark.parametrize("shared", [False, True])
def test_pixels_are_those_of_each_tile_decoded_alone(sampling: Sampling, shared: bool) -> None:
    payloads, tables = tiles(5, sampling), None
    if shared:
        tables = jpegs.abbreviated(payloads[0])[0]
        payloads = [jpegs.abbreviated(tile)[1] for tile in payloads]
    coding = folding((EDGE, EDGE), 6, sampling, tables)
    data = coding.encode([*payloads[:2], None, *payloads[2:]]).data
    out = decode(coding, data, 7, 1 if sampling == "grey" else 3)
    alone = [jpegs.decoded(tile, sampling, tables) for tile in payloads]
    assert np.array_equal(out[: 2 * EDGE], np.concatenate(alone[:2]))
    assert np.array_equal(out[3 * EDGE : 6 * EDGE], np.concatenate(alone[2:]))
    assert np.all(out[2 * EDGE : 3 * EDGE] == 7), "a missing tile leaves the fill value"
    assert np.all(out[6 * EDGE :] == 7), "and so do those below a short fold"


@pytest.mark.parametrize("sampling", ["4:2:0", "4:2:2", "4:4:4", "rgb"])
def test_both_traps(sampling: Sampling) -> None:
    """Decoding the JPEG XL, or the fold as one picture, would be faster and wrong; ours does neither."""
    payloads = tiles(8, sampling, quality=30)
    coding = folding((EDGE, EDGE), 8, sampling)
    data = coding.encode(payloads).data
    alone = np.concatenate([jpegs.decoded(tile, sampling) for tile in payloads])
    assert np.array_equal(decode(coding, data, 8), alone)

    (part,) = unpack(data, 8)[1]
    straight = imagecodecs.jpegxl_decode(part.data)
    assert not np.array_equal(straight, alone), "the first trap: pixels from JPEG XL are others"
    tall = jpegs.decoded(bytes(imagecodecs.jpegxl_decode_jpeg(part.data, numthreads=1)), sampling)
    differing = np.flatnonzero((tall != alone).any(axis=(1, 2)))
    if sampling == "4:2:0":  # chroma is subsampled from top to bottom here only
        assert len(differing), "the second trap: chroma is upsampled across the borders of tiles"
        assert set((differing % EDGE).tolist()) <= {0, EDGE - 1}
    else:
        assert not len(differing)


@pytest.mark.parametrize("kind", ["progressive", "restart-intervals", "stray-bytes"])
def test_tiles_that_stand_alone_have_their_pixels(kind: str) -> None:
    payloads = [*tiles(2), odd_tile(kind)]
    coding = folding((EDGE, EDGE), 3)
    alone = np.concatenate([jpegs.decoded(tile, "4:2:0") for tile in payloads])
    assert np.array_equal(decode(coding, coding.encode(payloads).data, 3), alone)


@pytest.mark.parametrize("kind", ["other-size", "larger", "not-a-jpeg", "cut-header", "twelve-bit"])
def test_a_tile_of_another_shape_is_refused(kind: str) -> None:
    payload = tile_of(picture(1))[:100] if kind == "cut-header" else odd_tile(kind)
    coding = folding((EDGE, EDGE), 2)
    with pytest.raises((ValueError, RuntimeError)):
        decode(coding, coding.encode([*tiles(1), payload]).data, 2)


def test_a_grey_tile_among_colours_is_refused() -> None:
    coding = folding((EDGE, EDGE), 2)
    with pytest.raises((ValueError, RuntimeError)):
        decode(coding, coding.encode([*tiles(1), tile_of(picture(1), "grey")]).data, 2)


def test_plain_zarr_reads_shards_of_folds() -> None:
    """Two columns of three folds of four tiles; the last fold is short, one tile and one chunk are missing."""
    payloads = tiles(10, "4:2:0")
    coding = folding((EDGE, EDGE), 4)
    index, body = shards.empty_index(6), b""
    for slot, chunk in (
        (0, payloads[:4]),
        (2, [payloads[4], None, *payloads[6:8]]),
        (3, payloads[2:6]),
        (4, payloads[8:]),
    ):
        data = coding.encode(chunk).data
        index[slot] = (len(body), len(data))
        body += data
    inner = {
        "chunk_shape": [3, 4 * EDGE, EDGE],
        "codecs": coding.codecs,
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "end",
    }
    document = {
        "zarr_format": 3, "node_type": "array", "shape": [3, 10 * EDGE - 5, 2 * EDGE - 3], "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 12 * EDGE, 2 * EDGE]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 255, "attributes": {},
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
    }  # fmt: skip
    store = {"zarr.json": json.dumps(document).encode(), "c/0/0/0": body + shards.encode_index(index)}
    buffers = {key: default_buffer_prototype().buffer.from_bytes(value) for key, value in store.items()}
    read = np.asarray(zarr.open_array(zarr.storage.MemoryStore(buffers), mode="r")[:]).transpose(1, 2, 0)
    expected = np.full((12 * EDGE, 2 * EDGE, 3), 255, np.uint8)
    for row, payload in enumerate(payloads):
        if row != 5:
            expected[row * EDGE : (row + 1) * EDGE, :EDGE] = jpegs.decoded(payload, "4:2:0")
    for row, payload in enumerate(payloads[2:6], 4):
        expected[row * EDGE : (row + 1) * EDGE, EDGE:] = jpegs.decoded(payload, "4:2:0")
    assert np.array_equal(read, expected[: 10 * EDGE - 5, : 2 * EDGE - 3])


def test_chunks_of_other_shapes_are_refused() -> None:
    coding = folding((EDGE, EDGE), 2)
    data = coding.encode(tiles(2)).data
    codec = Fold.from_dict(dict(coding.codecs[1]))
    for shape in ((EDGE, EDGE, 3), (2 * EDGE, EDGE + 1, 3), (2 * EDGE + 1, EDGE, 3), (EDGE // 2, EDGE, 3)):
        with pytest.raises(ValueError, match="tiles"):
            codec.decode_into(data, np.zeros(shape, np.uint8))


# --- strips in a hot store --------------------------------------------------------------------------------------------


def hot_strips() -> tuple[StripsCoding, list[bytes]]:
    strips = [tile_of(picture(number, 8, 128), "4:2:2") for number in range(6)]
    header = strips[0][: strips[0].index(b"\xff\xda") + 14]
    coding = StripsCoding.from_codecs(strip_codecs(header), (3, 48, 128))
    assert isinstance(coding, StripsCoding)
    return coding, [strip[len(header) : -2] for strip in strips]


def test_hot_strips_are_the_fold_that_ingest_writes() -> None:
    coding, scans = hot_strips()
    header = coding.settings.header
    assert header is not None
    assert coding.encode(scans).data == fold.join(header, scans)
    assert coding.decode(fold.join(header, scans)) == scans
    assert coding.encode([*scans[:2], None]).data == fold.join(header, scans[:2])


def test_hot_strips_cannot_have_holes() -> None:
    coding, scans = hot_strips()
    with pytest.raises(CodingError, match="lacks strips"):
        coding.encode([scans[0], None, scans[1]])
    with pytest.raises(CodingError, match="nothing to fold"):
        coding.encode([None])
    with pytest.raises(CodingError, match="restart markers of their own"):
        coding.encode([scans[0] + b"\xff\xd0"])


def test_damaged_hot_strips_are_a_coding_error() -> None:
    coding, scans = hot_strips()
    data = coding.encode(scans).data
    for wrong in (b"", data[:-1], data[:40]):
        with pytest.raises(CodingError):
            coding.decode(wrong)
    with pytest.raises(CodingError, match="at most 6"):
        coding.decode(fold.join(coding.settings.header or b"", scans * 2))


# --- container --------------------------------------------------------------------------------------------------------


def test_containers_that_no_writer_makes_are_refused() -> None:
    body = b"tile"
    good = pack([2, 0, 1], [Part(body)])
    assert good == b"\x01\x03\x02\x01\x00\x01\x01\x01" + b"\x00\x04" + body
    assert unpack(good, 3) == ([2, 0, 1], [Part(body)])
    cases = {
        "ends early": [b"", b"\x01", good[:5], good[:-1]],
        "version 2": [b"\x02" + good[1:]],
        "behind its end": [good + b"\0"],
        "in disorder": [b"\x01\x01\x03\x01\x00\x04tile", b"\x01\x01\x01\x01", b"\x01\x01\x05\x01"],
        "sound runs": [b"\x01\x02\x02\x01\x02\x01\x00\x04tile", b"\x01\x01\x02\x00\x00\x04tile", b"\x01\x01\x02\x04"],
        "no tiles": [b"\x01\x00", b"\x01\x01\x00\x01"],
        "kind 6": [b"\x01\x01\x02\x01\x06\x04tile"],
        "kind 17": [b"\x01\x01\x02\x01\x11\x04tile"],
        "kind 0 with 2 tiles": [b"\x01\x01\x02\x02\x00\x04tile"],
        "too large": [b"\x01\xff\xff\xff\xff\xff\x01"],
        "no writer makes": [b"\x01\x81\x00\x02\x01\x00\x04tile", b"\x01\xff\xff\xff\xff\x7f"],
    }
    for says, wrongs in cases.items():
        for wrong in wrongs:
            with pytest.raises(CodingError, match=says):
                unpack(wrong, 3)
