"""Codes the frames of made-up DICOM slides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import imagecodecs
import numpy as np
import numpy.typing as npt

CodecName = Literal["jpeg", "jpeg2000", "jpeg2000-lossy", "none", "rle"]

_SYNTAXES: dict[CodecName, str] = {
    "jpeg": "1.2.840.10008.1.2.4.50",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
    "jpeg2000-lossy": "1.2.840.10008.1.2.4.91",
    "none": "1.2.840.10008.1.2.1",
    "rle": "1.2.840.10008.1.2.5",
}
_PHOTOMETRIC: dict[CodecName, str] = {
    "jpeg": "YBR_FULL_422",
    "jpeg2000": "YBR_RCT",
    "jpeg2000-lossy": "YBR_ICT",
    "none": "RGB",
    "rle": "RGB",
}
_JPEG2000_PSNR = 45

_Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frames:
    """The coded frames of one image, or of a part of it."""

    data: list[bytes]
    tiles: list[int]
    """Tile number of each frame, row-major."""
    across: int
    """Tiles in a row."""
    tile: tuple[int, int]
    """Height and width of a frame in pixels."""
    syntax: str
    """Transfer syntax UID."""
    photometric: str
    samples: int
    planar: bool
    lossy: bool

    def slice(self, start: int, stop: int) -> Frames:
        """Return the frames from `start` to `stop`."""
        return replace(self, data=self.data[start:stop], tiles=self.tiles[start:stop])


def code_frames(
    image: _Image,
    tile: tuple[int, int],
    codec: CodecName,
    photometric: str | None,
    quality: int,
    *,
    planar: bool = False,
    sparse: bool = False,
) -> Frames:
    """Cut an image into frames and code them.

    Parameters
    ----------
    image
        uint8, (y, x, 3), RGB.
    tile
        Height and width of a frame in pixels. Frames at the edge repeat the last row and column.
    codec
        What codes them.
    photometric
        Photometric interpretation; None for the codec's usual one. ``MONOCHROME2`` keeps green alone.
    quality
        Of JPEG, 1 to 100.
    planar
        Uncompressed: plane by plane.
    sparse
        Leave out the frames that are all white, but not all frames.

    """
    photometric = photometric or _PHOTOMETRIC[codec]
    height, width = tile
    down, across = -(-image.shape[0] // height), -(-image.shape[1] // width)
    padded = np.pad(
        image, ((0, down * height - image.shape[0]), (0, across * width - image.shape[1]), (0, 0)), mode="edge"
    )
    data: list[bytes] = []
    tiles: list[int] = []
    for number in range(down * across):
        top, left = number // across * height, number % across * width
        pixels = np.ascontiguousarray(padded[top : top + height, left : left + width])
        if sparse and bool(pixels.min() == 255) and (data or number < down * across - 1):
            continue
        data.append(_code(pixels, codec, photometric, quality, planar=planar))
        tiles.append(number)
    samples = 1 if photometric == "MONOCHROME2" else 3
    lossy = codec in {"jpeg", "jpeg2000-lossy"}
    return Frames(data, tiles, across, tile, _SYNTAXES[codec], photometric, samples, planar, lossy)


def _code(pixels: _Image, codec: CodecName, photometric: str, quality: int, *, planar: bool) -> bytes:
    gray = photometric == "MONOCHROME2"
    shown = np.ascontiguousarray(pixels[..., 1]) if gray else pixels
    if codec == "none":
        return (shown.transpose(2, 0, 1) if planar and not gray else shown).tobytes()
    if codec == "rle":
        return _rle([shown] if gray else [pixels[..., channel] for channel in range(3)])
    if codec == "jpeg":
        return _jpeg(shown, photometric, quality)
    transform = photometric in {"YBR_RCT", "YBR_ICT"}
    if codec == "jpeg2000":
        coded = imagecodecs.jpeg2k_encode(shown, codecformat="j2k", reversible=True, mct=transform)
    else:
        level = _JPEG2000_PSNR
        coded = imagecodecs.jpeg2k_encode(shown, level=level, codecformat="j2k", reversible=False, mct=transform)
    return bytes(coded)


def _jpeg(pixels: _Image, photometric: str, quality: int) -> bytes:
    if photometric == "MONOCHROME2":
        return bytes(imagecodecs.jpeg8_encode(pixels, level=quality, colorspace="GRAYSCALE"))
    if photometric == "RGB":
        return bytes(imagecodecs.jpeg8_encode(pixels, level=quality, colorspace="RGB", outcolorspace="RGB"))
    sampling = "422" if photometric == "YBR_FULL_422" else "444"
    return bytes(
        imagecodecs.jpeg8_encode(pixels, level=quality, colorspace="RGB", outcolorspace="YCBCR", subsampling=sampling)
    )


def _rle(planes: list[_Image]) -> bytes:
    """Code planes as DICOM's run lengths (PS3.5 G), by literal runs alone: valid, if not small."""
    segments = []
    for plane in planes:
        data = plane.tobytes()
        runs = [data[start : start + 128] for start in range(0, len(data), 128)]
        segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = [64]
    for segment in segments[:-1]:
        offsets.append(offsets[-1] + len(segment))
    header = np.array([len(segments), *offsets, *[0] * (15 - len(offsets))], "<u4").tobytes()
    return header + b"".join(segments)
