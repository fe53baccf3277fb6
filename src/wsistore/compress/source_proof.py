"""What a re-encoded copy takes over from the copy it is made from, proven by hashes where the files prove nothing.

The vendor's files, rebuilt from the new copy, prove the tiles that the layout lists, the layout and the skeleton. They
say nothing of the store's documents, nor of tiles that share their bytes with others, of which the layout has one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from wsistore.compress import archive, bounded, metadata
from wsistore.compress.reader import StoredSlide
from wsistore.compress.reencoding import ReencodePlan
from wsistore.compress.shard_task import ShardNote
from wsistore.errors import IntegrityError, ObjectMissingError
from wsistore.model import ObjectRecord

_ROOT = "zarr.json"


def documents(stored: StoredSlide, plan: ReencodePlan) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the store's objects that are no shards and say nothing of the encoding of the images.

    The root, which may, is yielded as it is in `keep`. What else lies below the store's prefix is none of the slide's.

    Raises
    ------
    IntegrityError
        If one is gone, or not what was recorded of it.
    StorageError
        If the tier fails.

    """
    for name, sha256 in _recorded(stored, plan):
        data = _get(stored, stored.place.store + name)
        if name == _ROOT and plan.keep is not None:
            data = _as_kept(stored, plan, data)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise _damaged(stored, name)
        yield name, data


def _recorded(stored: StoredSlide, plan: ReencodePlan) -> Iterator[tuple[str, str]]:
    """Yield name and hash of the documents."""
    prefix = stored.place.store
    if plan.keep is not None:
        images = {f"{level}/image": document for level, document in enumerate(plan.keep.arrays)}
        known = {record.key: record.sha256 for record in plan.keep.objects}
        for folder, document in images.items():
            if hashlib.sha256(metadata.dump(dict(document))).hexdigest() != known.get(f"{folder}/zarr.json"):
                raise _damaged(stored, f"{folder}/zarr.json")
        of_images = tuple(f"{folder}/" for folder in images)
        yield from ((name, sha256) for name, sha256 in known.items() if not name.startswith(of_images))
        return
    packed = archive.store_archive(stored.place)
    for record in plan.source_objects:
        if record.key == packed:
            prove(stored, record)
            for info in stored.storage.list(prefix):  # the archive has been proven, with all that is in it
                yield info.key.removeprefix(prefix), hashlib.sha256(_get(stored, info.key)).hexdigest()
        elif record.key.startswith(prefix):
            yield record.key.removeprefix(prefix), record.sha256


def _as_kept(stored: StoredSlide, plan: ReencodePlan, data: bytes) -> bytes:
    arrays = plan.keep.arrays if plan.keep is not None else ()
    try:
        return metadata.with_arrays(data, {f"{level}/image": dict(document) for level, document in enumerate(arrays)})
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(stored, _ROOT) from error


def prove_unlisted(
    stored: StoredSlide, plan: ReencodePlan, notes: Iterable[ShardNote], layout: npt.NDArray[np.void]
) -> None:
    """Prove the levels in which more tiles were written than the layout lists, by the objects that they were read from.

    Parameters
    ----------
    stored, plan
        The copy that the new one is made from, and the plan of that.
    notes
        What was written.
    layout
        Of the new copy.

    Raises
    ------
    IntegrityError
        If an object of such a level is gone, or not what was recorded of it.
    StorageError
        If the tier fails.

    """
    written: Counter[int] = Counter()
    for note in notes:
        if note.record is not None:
            written[int(note.record.key.removeprefix(plan.target.store).split("/", 1)[0])] += note.tiles
    packed = archive.store_archive(stored.place)
    unproven: dict[str, ObjectRecord] = {}
    for level, tiles in written.items():
        if tiles == _listed(layout, level):
            continue
        folder = f"{stored.place.store}{level}/image/c/"
        unproven |= {r.key: r for r in plan.source_objects if r.key == packed or r.key.startswith(folder)}
    for record in unproven.values():
        prove(stored, record)


def _listed(layout: npt.NDArray[np.void], level: int) -> int:
    """Return how many tiles of a level the layout has."""
    return len(np.unique(layout[layout["level"] == level][["chunk", "piece"]]))


def prove(stored: StoredSlide, record: ObjectRecord) -> None:
    """Raise `IntegrityError` if an object of the copy is not what was recorded of it."""
    for _ in archive.proven_blocks(stored.storage, record):
        pass


def _get(stored: StoredSlide, key: str) -> bytes:
    try:
        return stored.storage.get(key)
    except ObjectMissingError as error:
        msg = f"{key} is missing from {stored.storage.url}."
        raise IntegrityError(msg, remedy=bounded.REMEDY) from error


def _damaged(stored: StoredSlide, name: str) -> IntegrityError:
    msg = f"{stored.place.store}{name} in {stored.storage.url} is not what it was at ingest."
    return IntegrityError(msg, remedy=bounded.REMEDY)
