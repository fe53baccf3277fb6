"""The Zarr codecs: their JSON, what they refuse, that they decode as the reference does, how Zarr finds them."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from PIL import Image
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarr.core.buffer import Buffer
from zarr.registry import get_codec_class

from wsistore.compress import codecs, fold, metadata
from wsistore.compress.levels import LevelPlan, codec_chain, plan_level
from wsistore.slides.base import Codec, Color, Level, TileCoding, empty_segments
from wsistore.slides.decode import decode_tile
from wsistore.testing.tissue import tissue

Pixels = npt.NDArray[Any]

TABLES = base64.b64encode(b"\xff\xd8\xff\xd9").decode()

JSON: list[dict[str, Any]] = [
    {"name": "imagecodecs_jpeg"},
    {"name": "imagecodecs_jpeg", "configuration": {"tables": TABLES, "colorspace_jpeg": "YCBCR"}},
    {"name": "imagecodecs_jpeg", "configuration": {"header": TABLES, "colorspace_data": "RGB"}},
    {
        "name": "imagecodecs_jpeg",
        "configuration": {
            "level": 80,
            "bitspersample": 8,
            "colorspace_data": "RGB",
            "colorspace_jpeg": "YCbCr",
            "subsampling": "420",
            "optimize": True,
            "smoothing": False,
            "lossless": False,
            "predictor": 1,
        },
    },
    {"name": "imagecodecs_jpeg2k"},
    {"name": "imagecodecs_jpeg2k", "configuration": {"level": 40, "reversible": False, "mct": False, "tile": [64, 64]}},
    {"name": "imagecodecs_webp"},
    {"name": "imagecodecs_webp", "configuration": {"level": 80.0, "hasalpha": False, "lossless": True, "method": 4}},
    {"name": "imagecodecs_lzw"},
    {"name": "imagecodecs_zlib"},
    {"name": "imagecodecs_zlib", "configuration": {"level": 6}},
    {"name": "imagecodecs_delta", "configuration": {"axis": -2, "dist": 1}},
    {
        "name": "wsistore.fold",
        "configuration": {"inner": "jpeg", "tile_shape": [8, 64], "colorspace_jpeg": "YCBCR", "header": TABLES},
    },
    {
        "name": "wsistore.fold",
        "configuration": {
            "inner": "jpegxl",
            "tile_shape": [64, 64],
            "colorspace_jpeg": "RGB",
            "colorspace_data": "RGB",
            "tables": TABLES,
        },
    },
    {
        "name": "wsistore.fold",
        "configuration": {"inner": "jpegxl", "tile_shape": [8, 8], "colorspace_jpeg": "GRAYSCALE"},
    },
    {"name": "wsistore.ycbcr"},
]
FOLD_OF_STRIPS = next(document for document in JSON if document["name"] == "wsistore.fold")


@pytest.mark.parametrize("document", JSON, ids=lambda d: f"{d['name']}-{len(d.get('configuration', ()))}")
def test_json_comes_back_as_it_was(document: dict[str, Any]) -> None:
    made = get_codec_class(document["name"]).from_dict(dict(document))
    assert type(made).__module__.startswith("wsistore.")
    assert made.to_dict() == document
    again = type(made).from_dict(made.to_dict())
    assert again == made
    assert hash(again) == hash(made)
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize("name", sorted({d["name"] for d in JSON}))
def test_settings_that_are_not_known_are_refused(name: str) -> None:
    settings = next(d for d in JSON if d["name"] == name).get("configuration", {})
    with pytest.raises(ValueError, match=r"(?s)sharpness"):
        get_codec_class(name).from_dict({"name": name, "configuration": {**settings, "sharpness": 3}})


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("imagecodecs_jpeg", {"tables": "%%%"}, "base64"),
        ("imagecodecs_jpeg", {"header": 7}, "base64"),
        ("imagecodecs_jpeg", {"colorspace_jpeg": "HSV"}, "colour space"),
        ("imagecodecs_jpeg", {"colorspace_data": 2}, "colour space"),
        ("imagecodecs_jpeg", {"fancyupsampling": False}, "fancyupsampling"),
        ("imagecodecs_jpeg2k", {"skipres": 1}, "skipres"),
        ("imagecodecs_jpeg2k", {"planar": True}, "planar"),
        ("imagecodecs_webp", {"index": 1}, "index"),
        ("imagecodecs_delta", {"axis": "x"}, "whole numbers"),
        ("wsistore.fold", {"inner": "jpegxr"}, "newer wsistore"),
        ("wsistore.fold", {"tile_shape": [8]}, "height and width"),
        ("wsistore.fold", {"tile_shape": [0, 8]}, "height and width"),
        ("wsistore.fold", {"tile_shape": "88"}, "height and width"),
        ("wsistore.fold", {"header": "%"}, "base64"),
        ("wsistore.fold", {"colorspace_jpeg": "nothing"}, "colour space"),
    ],
)
def test_settings_that_cannot_be_heeded_are_refused(name: str, settings: dict[str, Any], says: str) -> None:
    good = next(d for d in JSON if d["name"] == name).get("configuration", {})
    with pytest.raises(ValueError, match=says):
        get_codec_class(name).from_dict({"name": name, "configuration": {**good, **settings}})


@pytest.mark.parametrize("missing", ["inner", "tile_shape", "header", "colorspace_jpeg"])
def test_a_fold_needs_all_its_settings(missing: str) -> None:
    settings = {k: v for k, v in FOLD_OF_STRIPS["configuration"].items() if k != missing}
    with pytest.raises(ValueError, match=missing):
        codecs.Fold.from_dict({"name": "wsistore.fold", "configuration": settings})


# --- decoding ---------------------------------------------------------------------------------------------------------

TILE = 64


def picture(channels: int, dtype: str = "uint8") -> Pixels:
    rgb = tissue(TILE, TILE, seed=3)
    plain = rgb[..., :channels].astype(dtype)
    if dtype == "uint16":
        plain = plain * np.uint16(257) - np.arange(TILE, dtype=np.uint16)[:, None, None]
    return np.ascontiguousarray(plain[..., 0] if channels == 1 else plain)


def level(coding: TileCoding, channels: int = 3, dtype: str = "uint8", height: int = TILE) -> Level:
    return Level(height, TILE, height, TILE, coding, empty_segments(), channels, dtype)


def shared(jpeg: bytes) -> tuple[bytes, bytes]:
    """Return the tables of a JPEG as an abbreviated stream, and the JPEG without them."""
    tables, rest, at = b"", b"", 2
    while jpeg[at + 1] != 0xDA:
        stop = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] in {0xDB, 0xC4}:
            tables += jpeg[at:stop]
        else:
            rest += jpeg[at:stop]
        at = stop
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + jpeg[at:]


def cases() -> dict[str, tuple[Level, bytes]]:
    rgb, grey = picture(3), picture(1)
    ycbcr = bytes(imagecodecs.jpeg8_encode(rgb, level=85, subsampling="420"))
    tables, short = shared(ycbcr)
    as_rgb = bytes(imagecodecs.jpeg8_encode(rgb, level=85, colorspace="RGB", outcolorspace="RGB"))
    wide = picture(3, "uint16")
    delta, delta_grey = (imagecodecs.delta_encode(one, axis=1) for one in (wide, picture(1, "uint16")))
    planar = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    jp2k = bytes(imagecodecs.jpeg2k_encode(rgb, level=45, codecformat="J2K", mct=False))
    return {
        "jpeg": (level(TileCoding(Codec.JPEG, Color.YCBCR)), ycbcr),
        "jpeg-tables": (level(TileCoding(Codec.JPEG, Color.YCBCR, tables=tables)), short),
        "jpeg-rgb": (level(TileCoding(Codec.JPEG, Color.RGB)), as_rgb),
        "jpeg-grey": (level(TileCoding(Codec.JPEG, Color.GRAY), 1), bytes(imagecodecs.jpeg8_encode(grey, level=85))),
        "jpeg2000": (level(TileCoding(Codec.JPEG2000, Color.RGB)), jp2k),
        "jpeg2000-ycbcr": (level(TileCoding(Codec.JPEG2000, Color.YCBCR)), jp2k),
        "jpeg2000-grey-16": (
            level(TileCoding(Codec.JPEG2000, Color.GRAY), 1, "uint16"),
            bytes(imagecodecs.jpeg2k_encode(picture(1, "uint16"), level=0, codecformat="J2K")),
        ),
        "webp": (level(TileCoding(Codec.WEBP, Color.RGB)), bytes(imagecodecs.webp_encode(rgb, level=70))),
        "webp-lossless": (
            level(TileCoding(Codec.WEBP, Color.RGB)), bytes(imagecodecs.webp_encode(rgb, level=70, lossless=True))
        ),
        "lzw": (level(TileCoding(Codec.LZW, Color.RGB)), bytes(imagecodecs.lzw_encode(rgb.tobytes()))),
        "lzw-longer-than-the-tile": (
            level(TileCoding(Codec.LZW, Color.RGB)), bytes(imagecodecs.lzw_encode(rgb.tobytes() + bytes(999)))
        ),
        "lzw-predictor-16-big-endian": (
            level(TileCoding(Codec.LZW, Color.RGB, predictor=True, big_endian=True), 3, "uint16"),
            bytes(imagecodecs.lzw_encode(delta.astype(">u2").tobytes())),
        ),
        "deflate-grey-16-predictor": (
            level(TileCoding(Codec.DEFLATE, Color.GRAY, predictor=True), 1, "uint16"),
            bytes(imagecodecs.zlib_encode(delta_grey.astype("<u2").tobytes())),
        ),
        "deflate-planar": (
            level(TileCoding(Codec.DEFLATE, Color.RGB, planar=True)), bytes(imagecodecs.zlib_encode(planar.tobytes()))
        ),
        "deflate-planar-predictor": (
            level(TileCoding(Codec.DEFLATE, Color.RGB, planar=True, predictor=True)),
            bytes(imagecodecs.zlib_encode(imagecodecs.delta_encode(planar, axis=-1).tobytes())),
        ),
        "none": (level(TileCoding(Codec.NONE, Color.RGB)), rgb.tobytes()),
        "none-16-big-endian": (
            level(TileCoding(Codec.NONE, Color.RGB, big_endian=True), 3, "uint16"), wide.astype(">u2").tobytes()
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(cases()))
def test_a_chunk_decodes_as_the_reference_decodes_the_tile(name: str) -> None:
    one, tile = cases()[name]
    expected = decode_tile(one, tile)
    assert np.array_equal(stored(plan_level(one, 0), tile), np.moveaxis(expected, -1, 0))


def stored(plan: LevelPlan, chunk: bytes) -> Pixels:
    """Return the pixels that Zarr reads from an array whose only chunk is `chunk`."""
    shape = (plan.level.channels, plan.level.height, plan.level.width)
    document = metadata.array(shape, plan.grid.chunk_shape, plan.level.dtype, codec_chain(plan), ["c", "y", "x"])
    files: dict[str, Buffer] = {"zarr.json": zarr.core.buffer.cpu.Buffer.from_bytes(metadata.dump(document))}
    files["c/0/0/0"] = zarr.core.buffer.cpu.Buffer.from_bytes(chunk)
    return np.asarray(zarr.open_array(zarr.storage.MemoryStore(files), mode="r")[:])


def strips_of(rgb: Pixels, rows: int) -> tuple[bytes, list[bytes]]:
    header, scans = b"", []
    for y in range(0, rgb.shape[0], rows):
        out = io.BytesIO()
        Image.fromarray(rgb[y : y + rows]).save(out, "JPEG", quality=80, subsampling="4:2:0")
        stop = out.getvalue().index(b"\xff\xda")
        stop += 2 + int.from_bytes(out.getvalue()[stop + 2 : stop + 4], "big")
        header, scan = out.getvalue()[:stop], out.getvalue()[stop:-2]
        scans.append(scan)
    return header, scans


def test_strips_decode_as_the_reference_decodes_each() -> None:
    rgb = tissue(64, 64, seed=4)
    header, scans = strips_of(rgb, 16)
    coding = TileCoding(Codec.JPEG_STRIPS, Color.YCBCR, header=header)
    whole = Level(64, 64, 16, 64, coding, empty_segments())
    expected = np.concatenate([decode_tile(whole, scan) for scan in scans])
    plan = plan_level(whole, 0)
    assert plan.fold_height == 4
    assert np.array_equal(stored(plan, fold.join(header, scans)), np.moveaxis(expected, -1, 0))


def test_header_and_data_and_eoi_make_a_chunk() -> None:
    """As `imagecodecs_jpeg` has it: chunks without any header, which lies in the configuration."""
    header, scans = strips_of(tissue(16, 64, seed=4), 16)
    expected = imagecodecs.jpeg8_decode(header + scans[0] + b"\xff\xd9")
    out = np.empty_like(expected)
    configuration = {"header": base64.b64encode(header).decode(), "colorspace_jpeg": "YCBCR", "colorspace_data": "RGB"}
    codecs.Jpeg.from_dict({"name": "imagecodecs_jpeg", "configuration": configuration}).decode_into(scans[0], out)
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("name", ["jpeg", "jpeg-grey", "jpeg2000", "webp", "deflate-planar", "none"])
def test_a_picture_of_another_size_is_refused(name: str) -> None:
    one, tile = cases()[name]
    half = Level(32, TILE, 32, TILE, one.coding, empty_segments(), one.channels, one.dtype)
    with pytest.raises((ValueError, RuntimeError)):
        stored(plan_level(half, 0), tile)


def test_a_jpeg_of_8_bits_is_no_chunk_of_16() -> None:
    _, tile = cases()["jpeg-grey"]
    with pytest.raises((ValueError, RuntimeError)):
        codecs.Jpeg(colorspace_data="GRAYSCALE").decode_into(tile, np.empty((TILE, TILE), np.uint16))


def test_a_huge_picture_is_refused_before_memory_is_spent() -> None:
    """A JPEG 2000 header that declares 60 000 × 60 000 pixels: decoding would take 10 GB."""
    _, tile = cases()["jpeg2000"]
    at = tile.index(b"\xff\x51") + 6
    bomb = tile[:at] + (60_000).to_bytes(4, "big") * 2 + tile[at + 8 :]
    with pytest.raises(ValueError, match="60000"):
        codecs.Jpeg2k().decode_into(bomb, np.empty((TILE, TILE, 3), np.uint8))


def test_more_tiles_than_the_chunk_has_room_for_are_refused() -> None:
    header, scans = strips_of(tissue(64, 64, seed=4), 16)
    with pytest.raises(ValueError, match="4 strips"):
        codecs.Fold((16, 64), header).decode_into(fold.join(header, scans), np.empty((48, 64, 3), np.uint8))


@pytest.mark.parametrize("codec", [codecs.Jpeg(), codecs.Jpeg2k(), codecs.Webp(), codecs.Fold(), codecs.YCbCr()])
def test_codecs_of_tiles_encode_nothing(codec: ArrayBytesCodec | ArrayArrayCodec) -> None:
    array = zarr.core.buffer.cpu.NDBuffer.from_numpy_array(picture(3))
    with pytest.raises(NotImplementedError):
        asyncio.run(codec._encode_single(array, None))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("compressor", [codecs.Lzw(), codecs.Zlib(), codecs.Zlib({"level": 9})])
def test_exact_codecs_write_what_they_read(dtype: str, compressor: BytesBytesCodec) -> None:
    array = zarr.create_array(
        zarr.storage.MemoryStore(), shape=(TILE, TILE, 3), chunks=(32, 32, 3), dtype=dtype, fill_value=0,
        filters=[codecs.Delta(axis=-2)], compressors=[compressor],
    )  # fmt: skip
    array[...] = picture(3, dtype)
    assert np.array_equal(array[...], picture(3, dtype))


# --- finding them -----------------------------------------------------------------------------------------------------


def run(code: str, path: str = "", **environment: str) -> str:
    """Run Python in a fresh process in which every warning is an error; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write_array(folder: Path) -> Pixels:
    one, tile = cases()["jpeg-tables"]
    plan = plan_level(one, 0)
    document = metadata.array((3, TILE, TILE), plan.grid.chunk_shape, "uint8", codec_chain(plan), ["c", "y", "x"])
    (folder / "c/0/0").mkdir(parents=True)
    (folder / "zarr.json").write_bytes(metadata.dump(document))
    (folder / "c/0/0/0").write_bytes(tile)
    return decode_tile(one, tile)


READ = """
    import sys, zarr, numpy
    assert not any(name.startswith("wsistore") for name in sys.modules)
    array = zarr.open({folder!r}, mode="r")
    numpy.save({folder!r} + "/read.npy", array[...])
    print(type(array.metadata.codecs[-1]).__module__)
"""


def test_plain_zarr_finds_the_codecs_by_itself(tmp_path: Path) -> None:
    expected = write_array(tmp_path)
    assert run(READ.format(folder=str(tmp_path))).startswith("wsistore.")
    assert np.array_equal(np.load(tmp_path / "read.npy"), np.moveaxis(expected, -1, 0))


RIVAL = """
    from dataclasses import dataclass
    from zarr.abc.codec import ArrayBytesCodec

    @dataclass(frozen=True)
    class Jpeg(ArrayBytesCodec):
        is_fixed_size = False

        @classmethod
        def from_dict(cls, data):
            return cls()

        def to_dict(self):
            return {"name": "imagecodecs_jpeg"}

        def compute_encoded_size(self, length, spec):
            raise NotImplementedError

    Delta = Jpeg2k = Lzw = Webp = Zlib = Jpeg
"""
NAMES = ("delta", "jpeg", "jpeg2k", "lzw", "webp", "zlib")


@pytest.fixture
def rival(tmp_path: Path) -> Path:
    """Another distribution that registers codecs under the same names, as imagecodecs-zarr does."""
    site = tmp_path / "site"
    folder = site / "rival_zarr-1.0.dist-info"
    folder.mkdir(parents=True)
    (site / "rival.py").write_text(textwrap.dedent(RIVAL))
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: rival-zarr\nVersion: 1.0\n")
    lines = [f"imagecodecs_{name} = rival:{name.capitalize()}" for name in NAMES]
    (folder / "entry_points.txt").write_text("[zarr.codecs]\n" + "\n".join(lines) + "\n")
    return site


CHOOSE = """
    import zarr
    from zarr.registry import get_codec_class
    {before}
    print(*sorted({{get_codec_class("imagecodecs_" + name).__module__ for name in {names}}}))
    {after}
"""


def test_ours_is_chosen_without_a_warning_where_another_is_installed_too(rival: Path) -> None:
    found = run(CHOOSE.format(before="", after="", names=NAMES), str(rival))
    assert found == "wsistore.compress.byte_codecs wsistore.compress.tile_codecs"


def test_ours_stays_chosen_when_the_configuration_is_read_again(rival: Path) -> None:
    after = "print(get_codec_class('imagecodecs_jpeg', reload_config=True).__module__)"
    found = run(CHOOSE.format(before="", after=after, names=NAMES), str(rival))
    assert found.splitlines()[-1] == "wsistore.compress.tile_codecs"


@pytest.mark.parametrize("imported", ["", "import wsistore.compress.codecs"])
def test_what_the_user_chose_is_respected(rival: Path, imported: str) -> None:
    chosen = "zarr.config.set({'codecs.imagecodecs_jpeg': 'rival.Jpeg'})"
    code = CHOOSE.format(before=f"{imported}\n    {chosen}", after="", names=("jpeg",))
    assert run(code, str(rival)) == "rival"


def test_what_the_user_chose_in_the_environment_is_respected(rival: Path) -> None:
    code = CHOOSE.format(before="", after="", names=("jpeg",))
    assert run(code, str(rival), ZARR_CODECS__IMAGECODECS_JPEG="rival.Jpeg") == "rival"
