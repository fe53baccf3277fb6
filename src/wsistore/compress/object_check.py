"""Whether a copy's objects are what its commit says: all read from where they lie, side by side, and hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from threading import Lock

from wsistore.compress.single_pass import BLOCK_BYTES, OPEN_STREAMS
from wsistore.compress.threads import for_each, shared_pool
from wsistore.errors import ObjectMissingError
from wsistore.model import ObjectRecord
from wsistore.storage.base import Storage

Progress = Callable[[int], None]


def damaged_objects(
    storage: Storage, records: Sequence[ObjectRecord], *, progress: Progress = lambda _: None
) -> dict[ObjectRecord, str]:
    """Read objects and return those that are not what was recorded of them, with what is wrong in words.

    What gave the source back when it was committed gives it back as long as its bytes are the same; nothing is decoded.

    Parameters
    ----------
    storage
        Where they lie; they are read uncached.
    records
        What the commit says of them.
    progress
        Gets the number of bytes just read, from several threads.

    Raises
    ------
    StorageError
        If the tier fails; this proves nothing.

    """
    found: dict[ObjectRecord, str] = {}
    lock = Lock()

    def check(record: ObjectRecord) -> None:
        wrong = _wrong(storage, record, progress)
        if wrong:
            with lock:
                found[record] = wrong

    for_each(shared_pool("verify", OPEN_STREAMS), check, records)
    return {record: found[record] for record in records if record in found}


def _wrong(storage: Storage, record: ObjectRecord, progress: Progress) -> str:
    digest, size = hashlib.sha256(), 0
    try:
        for block in storage.stream(record.key, block_bytes=BLOCK_BYTES, uncached=True):
            digest.update(block)
            size += len(block)
            progress(len(block))
    except ObjectMissingError:
        return "is missing"
    if size != record.size_bytes:
        return f"has {size} bytes, not the {record.size_bytes} recorded"
    return "" if digest.hexdigest() == record.sha256 else "is not what was recorded"
