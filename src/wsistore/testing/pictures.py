"""Pictures that come with a slide: pyramid levels, a paper label, the whole glass slide seen from above."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageDraw, ImageFont

Rgb = npt.NDArray[np.uint8]
"""A picture, (y, x, 3), red, green, blue."""

GLASS = (244, 243, 239)
"""What the scanner sees through bare glass: nearly white, slightly warm."""

_PAPER = (250, 249, 244)
_INK = (28, 28, 34)


def pyramid(image: Rgb, factor: Literal[2, 4], levels: int) -> list[Rgb]:
    """Return `image` and its reductions, each pixel the mean of ``factor * factor`` pixels of the level above.

    Parameters
    ----------
    image
        (y, x, 3), uint8: level 0.
    factor
        From level to level.
    levels
        How many at most, level 0 included. A level never has a side of less than one pixel: it ends before.

    Returns
    -------
    list of Rgb
        Largest first. Sides are rounded up; the last row and column average what there is.

    """
    result = [image]
    while len(result) < levels and min(result[-1].shape[:2]) >= factor:
        result.append(np.asarray(Image.fromarray(result[-1]).reduce(factor)))
    return result


def label_image(text: str, *, height: int = 420, width: int = 420) -> Rgb:
    """Return a picture of a paper label: `text` line by line over a pattern like a two-dimensional barcode.

    Parameters
    ----------
    text
        Lines to print; made smaller until they fit. The pattern depends on it (it does not encode it).
    height, width
        In pixels.

    Returns
    -------
    Rgb
        (height, width, 3), uint8.

    """
    paper = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(paper)
    margin = max(2, min(height, width) // 20)
    side = min(height * 2 // 5, width - 2 * margin)
    room = (width - 2 * margin, height - side - 3 * margin)
    draw.multiline_text((margin, margin), text, fill=_INK, font=_fitting_font(draw, text, room))
    code = _matrix_code(text)
    square = Image.fromarray(code).resize((side, side), Image.Resampling.NEAREST)
    paper.paste(square, (margin, height - side - margin))
    draw.rectangle((0, 0, width - 1, height - 1), outline=(205, 203, 196))
    return _worn(np.asarray(paper), text)


def macro_image(slide: Rgb, *, label: Rgb | None = None, height: int = 430, width: int = 1280) -> Rgb:
    """Return the glass slide seen from above: label at the left, the tissue under its cover slip at the right.

    Parameters
    ----------
    slide
        (y, x, 3), uint8: what was scanned, any size.
    label
        (y, x, 3), uint8; without it the label area is frosted glass.
    height, width
        In pixels, at least 40 x 80.

    Returns
    -------
    Rgb
        (height, width, 3), uint8.

    """
    glass = Image.new("RGB", (width, height), (226, 227, 226))
    draw = ImageDraw.Draw(glass)
    frosted = width * 3 // 10
    draw.rectangle((0, 0, frosted, height), fill=(212, 213, 216))
    if label is not None:
        _paste_within(glass, label, (frosted // 20, height // 20, frosted * 19 // 20, height * 19 // 20))
    cover = (frosted + width // 40, height // 16, width - width // 40, height * 15 // 16)
    draw.rectangle(cover, fill=GLASS, outline=(200, 203, 205), width=2)
    inner = (cover[0] + width // 60, cover[1] + height // 24, cover[2] - width // 60, cover[3] - height // 24)
    _paste_within(glass, slide, inner)
    draw.rectangle((0, 0, width - 1, height - 1), outline=(176, 180, 182), width=3)
    return _worn(np.asarray(glass), "macro")


def srgb_profile() -> bytes:
    """Return an ICC profile of sRGB, always the same bytes (the library would write the time of day into it)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes.fromhex("07ef 0005 000e 000a 000b 000c")
    return bytes(profile)


def _fitting_font(
    draw: ImageDraw.ImageDraw, text: str, room: tuple[int, int]
) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the default font in the largest size in which `text` fits into `room` (width, height)."""
    for size in range(48, 8, -2):
        font = ImageFont.load_default(size)
        left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font)
        if right - left <= room[0] and bottom - top <= room[1]:
            return font
    return ImageFont.load_default(8)


def _matrix_code(text: str, cells: int = 22) -> npt.NDArray[np.uint8]:
    """Return a pattern with the finder lines of a Data Matrix (solid left and below, dotted above and right)."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    dark = np.random.default_rng(seed).random((cells, cells)) < 0.5
    even = np.arange(cells) % 2 == 0
    dark[0, :], dark[:, -1] = even, ~even
    dark[:, 0], dark[-1, :] = True, True
    pattern: npt.NDArray[np.uint8] = np.where(dark[..., None], np.uint8(_INK[0]), np.uint8(_PAPER[0]))
    return np.repeat(pattern, 3, axis=2)


def _paste_within(canvas: Image.Image, picture: Rgb, box: tuple[int, int, int, int]) -> None:
    """Paste `picture`, reduced or enlarged to fit, in the middle of `box` (left, top, right, bottom)."""
    room = (box[2] - box[0], box[3] - box[1])
    rows, columns = picture.shape[:2]
    scale = min(room[0] / columns, room[1] / rows)
    size = (max(1, int(columns * scale)), max(1, int(rows * scale)))
    source = Image.fromarray(picture)
    source = source.reduce(max(1, int(0.5 / scale))) if scale < 0.5 else source
    small = source.resize(size, Image.Resampling.BILINEAR)
    canvas.paste(small, (box[0] + (room[0] - size[0]) // 2, box[1] + (room[1] - size[1]) // 2))


def _worn(picture: Rgb, seed_text: str) -> Rgb:
    """Add the faint unevenness of a photograph."""
    rng = np.random.default_rng(len(seed_text))
    rows, columns = picture.shape[:2]
    shade = np.linspace(2.0, -2.0, columns, dtype=np.float32)[None, :, None]
    grain = rng.random((rows, columns, 1), dtype=np.float32) * np.float32(3.0) - np.float32(1.5)
    result: Rgb = np.clip(picture + shade + grain, 0.0, 255.0).astype(np.uint8)
    return result
