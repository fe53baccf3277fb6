"""Peers: what is installed for them, what runs them, and what they leave out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.support.environments import UnavailableError, environment, require_library
from bench.support.worker import Worker, WorkerError


@dataclass(frozen=True, slots=True)
class Peer:
    """Another program."""

    name: str
    """Of its lock file ``bench/peers/<name>.txt`` and of its worker ``bench.workers.<name>``."""
    title: str
    leaves_out: str
    """What ours does and it does not."""
    library: tuple[str, str] | None = None
    """A shared library that it needs, and Debian's package of it."""


WSIDICOMIZER = Peer(
    name="wsidicomizer",
    title="wsidicomizer 0.26, to DICOM",
    leaves_out="no hash, no flush, nothing read back; the vendor's file cannot be had again",
    library=("turbojpeg", "libturbojpeg0"),
)
WSIC = Peer(
    name="wsic",
    title="wsic 0.9 transcode, to Zarr",
    leaves_out="level 0 only, a file per tile; no hash, no flush, nothing read back, no label or macro",
)


@dataclass(slots=True)
class Peers:
    """The workers of the peers that could be started."""

    workers: dict[str, Worker] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    """The reasons, by peer."""


@contextmanager
def started(peers: Sequence[Peer], warm_up: Path, folder: Path) -> Iterator[Peers]:
    """Start a worker for each peer and let it convert the slide `warm_up`; those that cannot are left out.

    Parameters
    ----------
    peers
        A worker of theirs answers ``convert`` (arguments ``source``, ``folder``).
    warm_up
        A small slide.
    folder
        For logs and for what the warm-up makes.

    """
    result = Peers()
    with ExitStack() as stack:
        for peer in peers:
            try:
                if peer.library is not None:
                    require_library(*peer.library)
                python = environment(peer.name)
                worker = Worker(python, f"bench.workers.{peer.name}", folder / f"{peer.name}.log")
                stack.enter_context(worker)
                worker.call("convert", source=warm_up, folder=folder / f"{peer.name}-warm-up")
                result.workers[peer.name] = worker
            except (UnavailableError, WorkerError) as error:
                result.unavailable[peer.name] = str(error)
        yield result
