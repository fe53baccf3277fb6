"""A slide as people use it: levels, micrometres, regions as NumPy arrays, the pyramid as an `xarray.DataTree`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import Store

from wsistore.errors import IntegrityError, Kind, MissingError

if TYPE_CHECKING:
    import xarray

Picture = npt.NDArray[np.uint8]
Loader = Callable[[], Picture]
"""Reads one associated picture, (y, x, c) uint8."""


@dataclass(frozen=True, slots=True)
class LevelInfo:
    """One level of the pyramid."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    downsample: float
    """Pixels of level 0 per pixel of this level, mean of both directions."""
    um_per_px: tuple[float, float] | None
    """Height and width of a pixel in micrometres."""


class AssociatedPictures(Mapping[str, Picture]):
    """Label, macro and thumbnail by name, each (y, x, c) uint8, read when asked for."""

    def __init__(self, loaders: Mapping[str, Loader]) -> None:
        self._loaders = dict(loaders)

    def __getitem__(self, name: str) -> Picture:
        """Read one picture."""
        return self._loaders[name]()

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._loaders)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._loaders)


class Slide:
    """An opened slide.

    Parameters
    ----------
    store
        The slide's OME-Zarr hierarchy.
    name
        What it was opened as, for messages.
    associated
        Loaders of pictures beyond the shared thumbnail, where the private companion may be read.
    close
        Called once by `close`.

    Raises
    ------
    IntegrityError
        If the hierarchy is not a slide's.

    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        associated: Mapping[str, Loader] | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._store, self._close = store, close
        try:
            self._group = zarr.open_group(store, mode="r", zarr_format=3)
            attributes = self._group.attrs.asdict()
            multiscale: Any = attributes["ome"]["multiscales"][0]  # type: ignore[index, call-overload]
            self._arrays = [self._array(dataset["path"]) for dataset in multiscale["datasets"]]
            self.levels = tuple(_levels(self._arrays, multiscale))
        except (KeyError, IndexError, TypeError, ValueError, FileNotFoundError) as error:
            msg = f"{name} is not a slide's OME-Zarr hierarchy ({error!r})."
            raise IntegrityError(
                msg, kind=Kind.FORMAT_UNKNOWN, remedy="Give a slide, its store or its file."
            ) from error
        ours: Any = attributes.get("wsistore") or {}
        self.magnification: float | None = ours.get("magnification")
        """Of the objective, e.g. 20.0; None if the source does not say."""
        loaders = dict(associated or {})
        if "thumbnail" in self._group:
            loaders.setdefault("thumbnail", lambda: _picture(self._array("thumbnail")))
        self.associated = AssociatedPictures(loaders)

    @property
    def group(self) -> zarr.Group:
        """The slide's OME-Zarr hierarchy, for Zarr."""
        return self._group

    @property
    def um_per_px(self) -> tuple[float, float] | None:
        """Height and width of a pixel of level 0 in micrometres."""
        return self.levels[0].um_per_px

    @property
    def mpp(self) -> float | None:
        """Micrometres per pixel of level 0, mean of both directions; None if the source does not say."""
        size = self.um_per_px
        return None if size is None else (size[0] + size[1]) / 2

    @property
    def icc_profile(self) -> bytes | None:
        """The scanner's ICC profile."""
        return np.asarray(self._array("icc")[:]).tobytes() if "icc" in self._group else None

    def read_region(self, level: int, y: int, x: int, height: int, width: int) -> Picture:
        """Return pixels of one level as (height, width, channels), of the slide's dtype.

        Parameters
        ----------
        level
            0 is the largest.
        y, x
            Top left corner in pixels of that level; what lies outside the slide reads as its background.
        height, width
            Size in pixels of that level.

        Raises
        ------
        MissingError
            If there is no such level, or the size is not positive.

        """
        if not 0 <= level < len(self._arrays) or height <= 0 or width <= 0:
            msg = f"{self.name} has levels 0 to {len(self._arrays) - 1}; asked for level {level}, {height} × {width}."
            raise MissingError(msg, remedy="Ask for a level it has and a positive size.")
        array = self._arrays[level]
        rows, columns = array.shape[1:]
        top, left = max(0, y), max(0, x)
        bottom, right = min(rows, y + height), min(columns, x + width)
        out = np.full((height, width, array.shape[0]), array.fill_value, array.dtype)
        if top < bottom and left < right:
            pixels = np.asarray(array[:, top:bottom, left:right])
            out[top - y : bottom - y, left - x : right - x] = np.moveaxis(pixels, 0, -1)
        return out

    def to_datatree(self, *, chunks: Any = "auto") -> xarray.DataTree:
        """Return the hierarchy as a lazy `xarray.DataTree`: one node per level, ``image`` (c, y, x) in micrometres.

        Parameters
        ----------
        chunks
            As `xarray.open_datatree` takes it; None reads without Dask.

        """
        import xarray as xr  # half a second that most callers do not need

        return xr.open_datatree(self._store, engine="zarr", chunks=chunks, consolidated=False)  # type: ignore[arg-type]

    def closing_with(self, close: Callable[[], None]) -> Self:
        """Return the slide; closing it also calls `close`, last."""
        first = self._close

        def both() -> None:
            try:
                first()
            finally:
                close()

        self._close = both
        return self

    def close(self) -> None:
        """Free what the slide holds open. May be repeated."""
        close, self._close = self._close, lambda: None
        close()

    def __enter__(self) -> Self:
        """Return the slide."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Name and size."""
        first = self.levels[0]
        return f"<Slide {self.name}: {first.width} × {first.height} px, {len(self.levels)} levels>"

    def _array(self, path: str) -> zarr.Array[Any]:
        found = self._group[path]
        if not isinstance(found, zarr.Array):
            raise KeyError(path)
        return found


def _levels(arrays: list[Any], multiscale: Any) -> Iterator[LevelInfo]:
    known = multiscale["axes"][-1].get("unit") == "micrometer"
    _, rows, columns = arrays[0].shape
    for array, dataset in zip(arrays, multiscale["datasets"], strict=True):
        _, height, width = array.shape
        scale = dataset["coordinateTransformations"][0]["scale"]
        size = (float(scale[1]), float(scale[2])) if known else None
        yield LevelInfo(height, width, (rows / height + columns / width) / 2, size)


def _picture(array: Any) -> Picture:
    return np.ascontiguousarray(np.moveaxis(np.asarray(array[:]), 0, -1))
