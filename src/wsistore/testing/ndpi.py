"""Writes synthetic slides in the layout of Hamamatsu's NDPI: one JPEG with restart markers per level.

An NDPI file starts like a small-endian classic TIFF, but offsets of directories have 8 bytes, and behind each
directory lie 4 more bytes per entry, the upper halves of its values. Each level is one strip: a JPEG whose restart
intervals are the strips of pixels that readers decode one by one. Tag 65426 tells where each interval's
entropy-coded bytes start, counted from the start of the JPEG: the first behind the header, every other behind the
restart marker before it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsistore.errors import UnsupportedError
from wsistore.testing.encode import check_levels, segments
from wsistore.testing.files import ASCII, FLOAT, LONG, RATIONAL, SHORT, SLONG, Tag, tag, translated
from wsistore.testing.pictures import Rgb

NdpiSubsampling = Literal["444", "422", "420"]

_MCU: dict[NdpiSubsampling, tuple[int, int]] = {"444": (8, 8), "422": (8, 16), "420": (16, 16)}
"""Height and width of a minimum coded unit."""

MAX_SIDE = 65_500
"""What libjpeg takes."""

_COMMENT = b"Hamamatsu NanoZoomer Digital Pathology\0"
_MACRO, _MAP = -1.0, -2.0
"""What stands in the magnification tag of pictures that are no levels."""


@dataclass(frozen=True, slots=True)
class _Device:
    """What all directories of a file repeat."""

    model: str
    serial: str
    software: str
    scanned: str
    reference: str
    channel: str | None
    """Name of the filter set of a fluorescence slide."""


def write_ndpi(
    path: Path,
    levels: Sequence[Rgb],
    *,
    subsampling: NdpiSubsampling = "420",
    restart_mcus: int | None = None,
    quality: int = 80,
    content: Literal["brightfield", "fluorescence"] = "brightfield",
    macro: Rgb | None = None,
    magnification: float = 20.0,
    um_per_px: float = 0.5,
    model: str = "C13210",
    serial: str = "000001",
    reference: str = "SLIDE-0001",
    scanned: str = "2031:05:14 10:11:12",
) -> Path:
    """Write a slide in Hamamatsu's layout.

    Parameters
    ----------
    path
        File to write; tifffile wants the name to end in ``.ndpi``.
    levels
        (y, x, 3), uint8 each, largest first.
    subsampling
        Of chroma: ``"420"`` makes strips 16 pixels high, the others 8.
    restart_mcus
        MCUs of one strip; must divide the MCUs of a row of each level. None: a row, so that a strip is as wide as its
        level.
    quality
        Of the JPEGs, 1 to 100.
    content
        A fluorescence slide names its filter set.
    macro
        (y, x, 3), uint8; None: the slide has none.
    magnification
        Of level 0.
    um_per_px
        Of level 0, micrometres.
    model, serial, reference, scanned
        Scanner's model and serial number, name of the slide, date and time as TIFF writes them.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UnsupportedError
        If the levels do not get smaller, are too large for a JPEG, or `restart_mcus` does not divide a row.
    StorageError
        If the file cannot be written.

    """
    check_levels(levels)
    channel = "DAPI" if content == "fluorescence" else None
    device = _Device(model, serial, "NDP.scan 3.1.7", scanned, reference, channel)
    with translated(path), path.open("wb") as file:
        file.write(b"II*\0" + bytes(8))
        link = 4
        for level in levels:
            ratio = level.shape[1] / levels[0].shape[1]
            jpeg, starts = _strips_jpeg(level, subsampling, restart_mcus, quality)
            tags = _level_tags(magnification * ratio, starts, quality, device)
            page = _picture_tags(level.shape, jpeg, subsampling, um_per_px / ratio)
            link = _append(file, link, jpeg, [*page, *tags, *_device_tags(device)])
        if macro is not None:
            jpeg = _plain_jpeg(macro, subsampling="420", quality=quality)
            page = _picture_tags(macro.shape, jpeg, "420", 64.0)
            link = _append(file, link, jpeg, [*page, tag(65421, FLOAT, _MACRO), *_device_tags(device)])
            overview = np.ascontiguousarray(macro[::2, ::2, 1])
            page = _map_tags(overview.shape, um_per_px=128.0)
            _append(file, link, overview.tobytes(), [*page, tag(65421, FLOAT, _MAP), *_device_tags(device)])
    return path


def mcu_starts(jpeg: bytes) -> npt.NDArray[np.uint32]:
    """Return where the entropy-coded bytes of each restart interval start, from the start of the JPEG.

    Parameters
    ----------
    jpeg
        A baseline JPEG.

    Returns
    -------
    ndarray
        (intervals,), uint32.

    """
    header = 2 + sum(len(segment) for marker, segment in segments(jpeg) if marker != 0xDA)
    header += 2 + int.from_bytes(jpeg[header + 2 : header + 4], "big")
    data = np.frombuffer(jpeg, np.uint8)
    marked = np.flatnonzero(data[header:-1] == 0xFF) + header
    # A data byte FF is followed by 00; only a restart marker by D0 to D7.
    marked = marked[(data[marked + 1] & 0xF8) == 0xD0]
    return np.concatenate([[header], marked + 2]).astype(np.uint32)


def _strips_jpeg(
    level: Rgb, subsampling: NdpiSubsampling, restart_mcus: int | None, quality: int
) -> tuple[bytes, npt.NDArray[np.uint32]]:
    """Return a level as JPEG with restart markers and where its intervals start."""
    height, width = level.shape[:2]
    if max(height, width) > MAX_SIDE:
        msg = f"A level of {width} x {height} pixels does not fit into a JPEG."
        raise UnsupportedError(msg, remedy=f"Make its sides at most {MAX_SIDE}.")
    across = -(-width // _MCU[subsampling][1])
    interval = restart_mcus or across
    if across % interval:
        msg = f"A row of {across} MCUs (level {width} pixels wide) cannot be cut every {interval}."
        raise UnsupportedError(msg, remedy="Choose a divisor, or leave restart_mcus out.")
    jpeg = _plain_jpeg(level, subsampling=subsampling, quality=quality, restart_mcus=interval)
    return jpeg, mcu_starts(jpeg)


def _plain_jpeg(picture: Rgb, *, subsampling: str, quality: int, restart_mcus: int = 0) -> bytes:
    stream = io.BytesIO()
    layout = {"444": "4:4:4", "422": "4:2:2", "420": "4:2:0"}[subsampling]
    Image.fromarray(picture).save(
        stream, "JPEG", quality=quality, subsampling=layout, restart_marker_blocks=restart_mcus
    )
    jpeg = stream.getvalue()
    behind = 4 + int.from_bytes(jpeg[4:6], "big")  # SOI and JFIF's APP0
    return jpeg[:behind] + b"\xff\xfe" + struct.pack(">H", len(_COMMENT) + 2) + _COMMENT + jpeg[behind:]


def _picture_tags(shape: tuple[int, ...], jpeg: bytes, subsampling: NdpiSubsampling, um_per_px: float) -> list[Tag]:
    height, width = shape[:2]
    mcu_height, mcu_width = _MCU[subsampling]
    return [
        tag(256, LONG, width),
        tag(257, LONG, height),
        tag(258, SHORT, 8, 8, 8),
        tag(259, SHORT, 7),
        tag(262, SHORT, 6),
        tag(277, SHORT, 3),
        tag(278, LONG, height),
        tag(279, LONG, len(jpeg)),
        *_resolution_tags(um_per_px),
        tag(530, SHORT, mcu_width // 8, mcu_height // 8),
    ]


def _map_tags(shape: tuple[int, ...], *, um_per_px: float) -> list[Tag]:
    """Return the tags of the coarse grey picture that Hamamatsu calls the map."""
    height, width = shape
    return [
        tag(256, LONG, width),
        tag(257, LONG, height),
        tag(258, SHORT, 8),
        tag(259, SHORT, 1),
        tag(262, SHORT, 1),
        tag(278, LONG, height),
        tag(279, LONG, height * width),
        *_resolution_tags(um_per_px),
    ]


def _resolution_tags(um_per_px: float) -> list[Tag]:
    per_cm = round(10_000.0 / um_per_px)
    return [tag(282, RATIONAL, per_cm, 1), tag(283, RATIONAL, per_cm, 1), tag(296, SHORT, 3)]


def _level_tags(magnification: float, starts: npt.NDArray[np.uint32], quality: int, device: _Device) -> list[Tag]:
    tags = [
        tag(65421, FLOAT, magnification),
        tag(65422, SLONG, 1_000_000),
        tag(65423, SLONG, -500_000),
        tag(65424, SLONG, 0),
        tag(65425, LONG, 0),
        Tag(65426, LONG, len(starts), starts.astype("<u4").tobytes()),
        tag(65441, LONG, 1 if device.channel else 0),
        tag(65444, LONG, quality),
    ]
    if device.channel:
        tags += [tag(65434, ASCII, _text(device.channel)), tag(65451, FLOAT, 455.0)]
    return tags


def _device_tags(device: _Device) -> list[Tag]:
    properties = f"Created=2031/01/01\r\nProduct={device.model}\r\nNDP.S/N={device.serial}\r\n"
    return [
        tag(271, ASCII, _text("Hamamatsu")),
        tag(272, ASCII, _text(device.model)),
        tag(305, ASCII, _text(device.software)),
        tag(306, ASCII, _text(device.scanned)),
        tag(65420, SHORT, 1),
        tag(65427, ASCII, _text(device.reference)),
        tag(65442, ASCII, _text(device.serial)),
        tag(65449, ASCII, _text(properties)),
    ]


def _text(value: str) -> bytes:
    return value.encode("latin-1", "replace") + b"\0"


def _append(file: io.BufferedWriter, link: int, data: bytes, tags: Sequence[Tag]) -> int:
    """Write picture data, long values and a directory; let the 8 bytes at `link` point to it.

    Returns
    -------
    int
        Where the offset of the next directory is to be written.

    """
    offset = file.tell()
    file.write(data + bytes(len(data) % 2))
    entries = []
    for one in sorted([*tags, tag(273, LONG, offset)], key=lambda one: one.code):
        field = one.data.ljust(4, b"\0")
        if len(one.data) > 4:
            field = struct.pack("<I", file.tell())
            file.write(one.data + bytes(len(one.data) % 2))
        entries.append(struct.pack("<HHI", one.code, one.type, one.count) + field)
    directory = file.tell()
    following = directory + 2 + 12 * len(entries)
    file.write(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(8) + bytes(4 * len(entries)))
    end = file.tell()
    file.seek(link)
    file.write(struct.pack("<Q", directory))
    file.seek(end)
    return following
