"""Patches for PyTorch: a dataset whose workers share the batches out among themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from wsistore.client.patches import Patches
from wsistore.optional import needing

with needing("A dataset of PyTorch", None):
    import torch
    from torch.utils.data import IterableDataset, get_worker_info


class TorchPatches(IterableDataset[dict[str, Any]]):  # type: ignore[misc,unused-ignore]
    """Batches as dictionaries: ``pixels`` a tensor, ``slides``, ``groups``, and ``positions`` a tensor.

    Give it to a ``DataLoader`` with ``batch_size=None``; its workers, and the processes of a distributed run, each read
    their own batches, and together all of them once. The order is the same for the same seed, epoch, and number of
    workers and processes.

    Parameters
    ----------
    patches
        What is read.
    layout
        Of the pixels: (n, c, y, x), or (n, y, x, c).

    """

    def __init__(self, patches: Patches, layout: Literal["nchw", "nhwc"] = "nchw") -> None:
        super().__init__()
        self.patches, self.layout = patches, layout

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives; before the workers start."""
        self.patches.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield this worker's batches."""
        worker, workers = _place()
        if get_worker_info() is not None:
            self.patches.threads = 1  # the workers are the parallelism
        for batch in self.patches.batches(self.patches.epoch, worker=worker, workers=workers):
            pixels = torch.from_numpy(batch.pixels)
            yield {
                "pixels": pixels.permute(0, 3, 1, 2) if self.layout == "nchw" else pixels,
                "slides": batch.slides,
                "groups": batch.groups,
                "positions": torch.from_numpy(batch.positions),
            }


def _place() -> tuple[int, int]:
    """Return which of all workers of all processes this is, and how many there are."""
    info = get_worker_info()
    worker, workers = (0, 1) if info is None else (int(info.id), int(info.num_workers))
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
        return rank * workers + worker, processes * workers
    return worker, workers
