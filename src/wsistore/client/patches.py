"""Patches of many slides for training: planned by a seed, read ahead, mixed across slides, parted by patient."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from wsistore.client import sampling
from wsistore.client.masks import Mask, as_mask, everywhere, tissue_mask
from wsistore.client.sampling import Ints, Scale
from wsistore.client.slide import Picture, Slide
from wsistore.errors import MissingError

if TYPE_CHECKING:
    from wsistore.client.torch_data import TorchPatches

MaskMaker = Callable[[Slide], Any]
"""Returns a `Mask`, or booleans (y, x) over the whole slide."""


class Opens(Protocol):
    """What opens slides by name. Must pickle, if the patches should."""

    def open(self, slide: str) -> Slide:
        """Open a slide."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A slide, and whom it belongs to."""

    slide: str
    group: str
    """What must not be in two parts, e.g. the patient."""


@dataclass(frozen=True, slots=True, eq=False)
class PatchBatch:
    """Some patches."""

    pixels: Picture
    """(n, size, size, c), of the slides' dtype."""
    slides: tuple[str, ...]
    """Each patch's slide."""
    groups: tuple[str, ...]
    """Each patch's patient, or what else was asked for as the group."""
    positions: npt.NDArray[np.float64]
    """(n, 2): y and x of each patch's top left corner, in micrometres; in pixels of level 0 where `mpp` is None."""

    def __len__(self) -> int:
        """Return how many patches there are."""
        return len(self.pixels)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What patches are wanted; see `wsistore.client.connecting.Connection.patches`."""

    size: int
    mpp: float | None
    mask: Literal["tissue"] | MaskMaker | None = "tissue"
    least: float = 0.5
    per_slide: int | None = None
    stride: float = 1.0
    batch: int = 64
    seed: int = 0
    shuffle: bool = True
    mixed: int = 8
    """Slides whose patches are mixed."""
    ahead: int = 4
    """Batches that are read ahead."""


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A slide that was opened, and where its patches lie."""

    member: Member
    slide: Slide
    scale: Scale
    where: Ints


_Batch = tuple[tuple[_Ready, Ints, Ints], ...]
"""Slides, positions of their patches, and their places in the batch."""


class Patches:
    """Batches of patches of many slides, again and again the same for the same seed and epoch.

    Iterate over it, or give `to_torch` to a ``DataLoader``. It pickles if what opens slides does.

    Parameters
    ----------
    source
        Opens slides.
    members
        Slides, each with its group.
    recipe
        What is wanted.

    """

    def __init__(self, source: Opens, members: Sequence[Member], recipe: Recipe) -> None:
        if recipe.size <= 0 or recipe.batch <= 0 or recipe.mixed <= 0 or recipe.ahead < 0 or recipe.stride <= 0:
            msg = f"Patches cannot be read so: {recipe}."
            raise MissingError(msg, remedy="Sizes and counts must be positive.")
        self.source, self.members, self.recipe = source, tuple(members), recipe
        self.epoch = 0
        """Which epoch iterating gives; another one has other places and another order."""
        self.threads: int | None = None
        """How many decode for one batch; see `Slide.threads`."""

    def __len__(self) -> int:
        """Return how many slides there are."""
        return len(self.members)

    @property
    def groups(self) -> frozenset[str]:
        """All patients, or what else was asked for as the group."""
        return frozenset(member.group for member in self.members)

    def split(self, *shares: float) -> tuple[Patches, ...]:
        """Return parts, e.g. ``train, validation = patches.split(0.8, 0.2)``; no group is in two of them.

        A group belongs to a part by its name and the seed alone: it stays there when slides are added, and the parts
        have about those shares of the groups.

        Raises
        ------
        MissingError
            If there are no shares, or one is not positive.

        """
        if not shares or not all(0 < share < float("inf") for share in shares):
            msg = f"Parts of {shares} cannot be made."
            raise MissingError(msg, remedy="Give positive shares, e.g. 0.8, 0.2.")
        parts: list[list[Member]] = [[] for _ in shares]
        for member in self.members:
            parts[sampling.part_of(self.recipe.seed, member.group, shares)].append(member)
        return tuple(Patches(self.source, part, self.recipe) for part in parts)

    def with_seed(self, seed: int) -> Patches:
        """Return the same with another seed."""
        return Patches(self.source, self.members, replace(self.recipe, seed=seed))

    def __iter__(self) -> Iterator[PatchBatch]:
        """Yield the batches of `epoch`."""
        return self.batches(self.epoch)

    def batches(self, epoch: int = 0, *, worker: int = 0, workers: int = 1) -> Iterator[PatchBatch]:
        """Yield the batches of an epoch; of several workers, those of one: each batch is exactly one worker's.

        Raises
        ------
        MissingError
            If a slide is coarser than what is asked for, or has no pixel size.
        WsistoreError
            As opening and reading slides raise it.

        """
        with ThreadPoolExecutor(max(1, self.recipe.ahead), "wsistore-patches") as pool:
            waiting: deque[Future[PatchBatch]] = deque()
            try:
                for number, batch in enumerate(self._planned(epoch, pool)):
                    if number % workers != worker:
                        continue
                    waiting.append(pool.submit(self._read, batch))
                    if len(waiting) > self.recipe.ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for one in waiting:
                    one.cancel()

    def to_torch(self, *, layout: Literal["nchw", "nhwc"] = "nchw") -> TorchPatches:
        """Return a PyTorch ``IterableDataset`` of the batches, for a ``DataLoader`` with ``batch_size=None``.

        Parameters
        ----------
        layout
            Of the pixels: (n, c, y, x), or (n, y, x, c).

        Raises
        ------
        SiteError
            If PyTorch is not installed.

        """
        from wsistore.client.torch_data import TorchPatches  # PyTorch takes seconds and gigabytes

        return TorchPatches(self, layout)

    def _planned(self, epoch: int, pool: ThreadPoolExecutor) -> Iterator[_Batch]:
        """Yield what each batch has; the slides of the next ones are looked at meanwhile."""
        recipe = self.recipe
        members = list(self.members)
        if recipe.shuffle:
            sampling.generator(recipe.seed, "slides", epoch).shuffle(members)
        windows = [members[n : n + recipe.mixed] for n in range(0, len(members), recipe.mixed)]
        coming: deque[list[Future[_Ready]]] = deque()
        left: list[tuple[_Ready, Ints]] = []
        for number in range(len(windows)):
            for one in windows[number + len(coming) : number + 2]:
                coming.append([pool.submit(self._look, member, epoch) for member in one])
            ready = [future.result() for future in coming.popleft()]
            rows = left + [(one, row) for one in ready for row in one.where]
            if recipe.shuffle:
                order = sampling.generator(recipe.seed, "order", epoch, number).permutation(len(rows)).tolist()
                rows = [rows[place] for place in order]
            whole = len(rows) - (len(rows) % recipe.batch if number + 1 < len(windows) else 0)
            for start in range(0, whole, recipe.batch):
                yield _gathered(rows[start : min(start + recipe.batch, whole)])
            left = rows[whole:]

    def _look(self, member: Member, epoch: int) -> _Ready:
        """Open a slide and choose its patches."""
        recipe = self.recipe
        slide = self.source.open(member.slide)
        slide.threads = self.threads
        scale = Scale.of(slide.levels, recipe.size, recipe.mpp, member.slide)
        mask, level = _mask_of(slide, recipe.mask), slide.levels[scale.level]
        least = recipe.least if recipe.mask is not None else 0.0
        if recipe.per_slide is None:
            where = sampling.grid(mask, level, scale.height, scale.width, least, recipe.stride)
        else:
            rng = sampling.generator(recipe.seed, "places", epoch, member.slide)
            where = sampling.scattered(mask, level, scale.height, scale.width, least, recipe.per_slide, rng)
        return _Ready(member, slide, scale, where)

    def _read(self, batch: _Batch) -> PatchBatch:
        count = sum(len(places) for _, _, places in batch)
        members: list[Member] = [batch[0][0].member] * count
        positions = np.empty((count, 2))
        pixels: Picture | None = None
        for ready, where, places in batch:
            scale = ready.scale
            found = scale.resized(ready.slide.read_patches(scale.level, where, scale.height, scale.width))
            if pixels is None:
                pixels = np.empty((count, *found.shape[1:]), found.dtype)
            if found.shape[1:] != pixels.shape[1:] or found.dtype != pixels.dtype:
                msg = f"{ready.member.slide} has {found.shape[3]} channels of {found.dtype}, unlike others."
                raise MissingError(msg, remedy="Ask for slides of one kind.")
            pixels[places] = found
            size = None if self.recipe.mpp is None else ready.slide.levels[scale.level].um_per_px
            positions[places] = where if size is None else where * np.asarray(size)
            for place in places.tolist():
                members[place] = ready.member
        assert pixels is not None  # noqa: S101 - no batch is empty
        return PatchBatch(pixels, tuple(m.slide for m in members), tuple(m.group for m in members), positions)


def _gathered(rows: list[tuple[_Ready, Ints]]) -> _Batch:
    """Return the patches of a batch by slide: each slide is asked once."""
    found: dict[int, tuple[_Ready, list[Ints], list[int]]] = {}
    for place, (ready, where) in enumerate(rows):
        _, positions, places = found.setdefault(id(ready), (ready, [], []))
        positions.append(where)
        places.append(place)
    return tuple((ready, np.stack(where), np.array(places)) for ready, where, places in found.values())


def _mask_of(slide: Slide, wanted: Literal["tissue"] | MaskMaker | None) -> Mask:
    if wanted is None:
        return everywhere()
    return tissue_mask(slide) if wanted == "tissue" else as_mask(wanted(slide), slide.name)
