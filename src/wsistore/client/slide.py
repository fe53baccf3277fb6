"""A slide as people use it: levels, micrometres, regions as NumPy arrays, the pyramid as an `xarray.DataTree`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore

from wsistore.client.gate import Gate, GatedObjects, GatedStore
from wsistore.compress.chunk_bytes import AsyncObjects, Objects, SyncObjects
from wsistore.compress.regions import KeepsUndone, kept, level_pixels
from wsistore.compress.zarr_store import ReadOnlyStore, TierStore
from wsistore.errors import IntegrityError, Kind, MissingError, StorageError, UnsupportedError, WsistoreError
from wsistore.model import Mode
from wsistore.optional import needing
from wsistore.storage.local import LocalStorage

if TYPE_CHECKING:
    import xarray

Picture = npt.NDArray[np.uint8]
Loader = Callable[[], Picture]
"""Reads one associated picture, (y, x, c) uint8."""
_FAR = 2**40
"""Pixels; farther from the slide nothing is different."""
_MOST_BYTES = 2**46
"""Of a call's pixels: beyond what any machine has, and within what NumPy can count."""


@contextmanager
def _reading(name: str, what: str, kind: Kind = Kind.CORRUPT) -> Iterator[None]:
    """Turn what Zarr, codecs and file systems raise into errors of ours."""
    try:
        yield
    except WsistoreError:
        raise
    except MemoryError as error:
        raise _too_much(name) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"{name} {what} ({error})."
        raise IntegrityError(msg, kind=kind, remedy="Give a slide, its store or its file.") from error
    except OSError as error:
        msg = f"{name} cannot be read ({error.strerror or error})."
        raise StorageError(msg, remedy="Check the disk or share that it lies on.") from error
    except Exception as error:  # damaged metadata and chunks raise what their parsers and codecs like
        msg = f"{name} {what} ({type(error).__name__}: {str(error)[:200]})."
        remedy = "Give a slide, its store or its file." if kind is Kind.FORMAT_UNKNOWN else "Verify it or get it anew."
        raise IntegrityError(msg, kind=kind, remedy=remedy) from error


def _too_much(name: str) -> MissingError:
    msg = f"More of {name} was asked for at once than there is memory for."
    return MissingError(msg, remedy="Read it in parts, or a smaller level.")


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

    def __init__(self, gate: Gate, loaders: Mapping[str, Loader]) -> None:
        self._gate, self._loaders = gate, dict(loaders)

    def __getitem__(self, name: str) -> Picture:
        """Read one picture."""
        load = self._loaders[name]
        with self._gate, _reading(self._gate.name, f"cannot give its picture {name!r}"):
            return load()

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
    reopen
        Opens the same slide once more, in another process too: what the slide pickles as. None: it does not pickle.

    Raises
    ------
    IntegrityError
        If the hierarchy is not a slide's.

    """

    threads: int | None = None
    """How many decode for one call, the caller's own included; None: as many as there are processors. Set it to 1 where
    many processes read at once, as the workers of a PyTorch `DataLoader` do."""

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        associated: Mapping[str, Loader] | None = None,
        close: Callable[[], None] = lambda: None,
        reopen: Callable[[], Slide] | None = None,
    ) -> None:
        self.name = name
        self._gate = Gate(name)
        self._store, self._close, self._reopen = GatedStore(store, self._gate), close, reopen
        self._objects = GatedObjects(_objects(store), self._gate)
        self._kept = kept(far=store if isinstance(store, KeepsUndone) else None)
        try:
            with _reading(name, "is not a slide's OME-Zarr hierarchy", Kind.FORMAT_UNKNOWN):
                self._open(dict(associated or {}))
        except BaseException:
            self.close()
            raise

    def _open(self, loaders: dict[str, Loader]) -> None:
        self._group = zarr.open_group(self._store, mode="r", zarr_format=3)
        attributes: Any = self._group.attrs.asdict()
        ours = attributes.get("wsistore", {})
        if "ome" not in attributes and ours.get("mode") == Mode.WHOLE:
            msg = f"{self.name} is kept whole: its pixels are in the vendor's files only."
            raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS, remedy="Open it by its key, through its site.")
        multiscale = attributes["ome"]["multiscales"][0]
        self._arrays = [self._array(dataset["path"]) for dataset in multiscale["datasets"]]
        self.levels = tuple(_levels(self._arrays, multiscale))
        self._pixels = [
            level_pixels(array, n, self._objects, self._kept, self.name) for n, array in enumerate(self._arrays)
        ]
        magnification = ours.get("magnification")
        self.magnification: float | None = None if magnification is None else float(magnification)
        """Of the objective, e.g. 20.0; None if the source does not say."""
        if "thumbnail" in self._group:
            loaders.setdefault("thumbnail", lambda: _picture(self._array("thumbnail")))
        self.associated = AssociatedPictures(self._gate, loaders)

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
        self._gate.check()
        with _reading(self.name, "cannot give its ICC profile"):
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
            If there is no such level, the size is not positive or more than fits into memory, or the slide is closed.
        IntegrityError
            If what is stored cannot be decoded.
        StorageError
            If it cannot be reached.

        """
        self._check(level, height, width, 1)
        where = np.array([[min(max(number, -_FAR), _FAR) for number in (y, x)]], np.int64)
        with _reading(self.name, f"cannot be decoded in level {level}, {height} × {width} from y {y}, x {x}"):
            region: Picture = self._pixels[level].read(where, height, width, self.threads)[0]
        return region

    def read_patches(self, level: int, positions: npt.ArrayLike, height: int, width: int) -> Picture:
        """Return many regions of one size and level as (n, height, width, channels), of the slide's dtype.

        Faster than as many calls of `read_region`: a tile that several patches show is decoded once, all tiles are
        fetched together, and all processors decode.

        Parameters
        ----------
        level
            0 is the largest.
        positions
            (n, 2) integers: y and x of the top left corners in pixels of that level; what lies outside the slide reads
            as its background.
        height, width
            Size of every patch in pixels of that level.

        Raises
        ------
        MissingError
            If there is no such level, the size is not positive or more than fits into memory, `positions` are not
            (n, 2) integers, or the slide is closed.
        IntegrityError
            If what is stored cannot be decoded.
        StorageError
            If it cannot be reached.

        """
        where = _positions(positions)
        self._check(level, height, width, len(where))
        with _reading(self.name, f"cannot be decoded in level {level}, {len(where)} patches of {height} × {width}"):
            return self._pixels[level].read(where, height, width, self.threads)

    def _check(self, level: int, height: int, width: int, count: int) -> None:
        self._gate.check()
        if not 0 <= level < len(self._arrays) or height <= 0 or width <= 0:
            msg = f"{self.name} has levels 0 to {len(self._arrays) - 1}; asked for level {level}, {height} × {width}."
            raise MissingError(msg, remedy="Ask for a level it has and a positive size.")
        array = self._arrays[level]
        if count * height * width * array.shape[0] * array.dtype.itemsize > _MOST_BYTES:
            raise _too_much(self.name)

    def to_datatree(self, *, chunks: Any = "auto") -> xarray.DataTree:
        """Return the hierarchy as a lazy `xarray.DataTree`: one node per level, ``image`` (c, y, x) in micrometres.

        Parameters
        ----------
        chunks
            As `xarray.open_datatree` takes it; None reads without Dask.

        Notes
        -----
        The tree is xarray's own: it reads when it is computed, which must be before the slide is closed, and of bytes
        that cannot be decoded it raises what Zarr and the codecs do.

        """
        with needing("A tree", "client"):
            import xarray as xr  # half a second that most callers do not need

        self._gate.check()
        with _reading(self.name, "cannot be opened as a tree"):
            return xr.open_datatree(self._store, engine="zarr", chunks=chunks, consolidated=False)  # type: ignore[arg-type]

    @property
    def cache_bytes(self) -> int:
        """What is kept at most of folds that were undone, and of tiles that were decoded and used in part.

        64 MiB unless it is set; 0 keeps nothing.
        """
        return self._kept.chunks.most_bytes

    @cache_bytes.setter
    def cache_bytes(self, most: int) -> None:
        self._kept.chunks.resize(max(0, most))

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

    def reopening_with(self, reopen: Callable[[], Slide]) -> Self:
        """Return the slide; `reopen` is what it pickles as."""
        self._reopen = reopen
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as how to open it: another process opens files and keeps tiles of its own."""
        self._gate.check()
        if self._reopen is None:
            msg = f"{self.name} cannot be sent to another process: it was not opened by a path, URL or key."
            raise UnsupportedError(msg, kind=Kind.INTERNAL, remedy="Open it by wsistore.open_slide.")
        return (_reopened, (self._reopen, self.threads, self.cache_bytes))

    def close(self) -> None:
        """Free what the slide holds open. May be repeated, and called while other threads read.

        It waits for what is being fetched. Reads that need more then, and all later ones (also of trees made before),
        raise `MissingError`.
        """
        self._gate.close()
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


def _reopened(reopen: Callable[[], Slide], threads: int | None, cache_bytes: int) -> Slide:
    slide = reopen()
    slide.threads, slide.cache_bytes = threads, cache_bytes
    return slide


def _objects(store: Store) -> Objects:
    """Return the shortest way to a store's objects."""
    if isinstance(store, Objects):
        return store  # it knows how to get many at once
    if isinstance(store, LocalStore):
        return SyncObjects(TierStore(LocalStorage(store.root), ""))
    return SyncObjects(store) if isinstance(store, ReadOnlyStore) else AsyncObjects(store)


def _positions(positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return positions as (n, 2) int64; `MissingError` if they are no whole numbers, or not that many."""
    found = np.asarray(positions)
    if found.size == 0:
        return np.empty((0, 2), np.int64)
    if found.ndim != 2 or found.shape[1] != 2 or not np.issubdtype(found.dtype, np.integer):
        msg = f"Positions of shape {found.shape} and type {found.dtype} are not y and x of patches."
        raise MissingError(msg, remedy="Give whole numbers of shape (n, 2).")
    return found.clip(-_FAR, _FAR).astype(np.int64)


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
