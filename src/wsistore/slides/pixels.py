"""Turns whatever samples a TIFF page holds into 8-bit RGB for looking at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tifffile import TiffPage

from wsistore.errors import Kind, UnsupportedError
from wsistore.slides.decode import rgb_from_ycbcr

Rgb = npt.NDArray[np.uint8]

_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_JPEG_METHODS = {6, 7}
"""Compressions whose decoder converts YCbCr to RGB by itself."""
_APERIO_YCBCR = 33003


def to_rgb8(samples: npt.NDArray[Any], page: TiffPage) -> Rgb:
    """Return samples of a page as RGB.

    Parameters
    ----------
    samples
        Shape (y, x, s), as decoded, any real type. 16-bit (and 9 to 15-bit) samples lose their low bits, floats are
        taken as 0 to 1, other integers as 0 to 255; of more than 3 samples the first 3 count.
    page
        Where they come from: photometric interpretation, bits, palette.

    Returns
    -------
    numpy.ndarray
        uint8, shape (y, x, 3).

    Raises
    ------
    UnsupportedError
        If the photometric interpretation is none of grey, RGB, palette, YCbCr.

    """
    photometric = int(page.photometric or 0)
    if photometric not in {_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _YCBCR}:
        msg = f"Pixels with photometric interpretation {photometric} cannot be shown."
        raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS)
    if photometric == _PALETTE and page.colormap is not None:
        return _looked_up(samples[..., 0], np.asarray(page.colormap))
    plain = _to_uint8(samples, int(np.max(page.bitspersample)))
    if photometric == _WHITE_IS_ZERO:
        plain = np.uint8(255) - plain
    plain = np.repeat(plain[..., :1], 3, axis=2) if plain.shape[2] < 3 else plain[..., :3]
    coded = photometric == _YCBCR or (int(page.compression) == _APERIO_YCBCR and _is_aperio(page))
    if coded and int(page.compression) not in _JPEG_METHODS:
        return rgb_from_ycbcr(plain)
    return np.ascontiguousarray(plain)


def _is_aperio(page: TiffPage) -> bool:
    return bool(page.is_svs)


def _looked_up(indices: npt.NDArray[Any], palette: npt.NDArray[Any]) -> Rgb:
    """Apply a TIFF palette of shape (3, n), 16 bits each."""
    table = (palette.reshape(3, -1) >> 8).astype(np.uint8).T
    return np.asarray(table[np.minimum(indices, len(table) - 1)])


def _to_uint8(samples: npt.NDArray[Any], bits: int) -> Rgb:
    if samples.dtype == np.bool_:
        plain = samples * 255
    elif samples.dtype == np.uint8 and bits < 8:
        plain = samples.astype(np.uint16) * 255 // ((1 << bits) - 1)
    elif samples.dtype == np.uint16:
        plain = np.minimum(samples >> max(0, min(bits, 16) - 8), 255)
    elif np.issubdtype(samples.dtype, np.floating):
        plain = np.clip(np.nan_to_num(samples.astype(np.float64)), 0.0, 1.0) * 255.0 + 0.5
    else:
        plain = np.clip(np.real(samples), 0, 255)
    return np.asarray(plain, np.uint8)
