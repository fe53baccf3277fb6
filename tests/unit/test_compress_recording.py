"""Objects that are written and hashed at the same time, and windows whose bytes stay while that is under way."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from threading import Event

import pytest

from wsistore.compress import threads
from wsistore.compress.recording import Recorder
from wsistore.compress.source_bytes import WINDOW_BYTES, SourceBytes
from wsistore.compress.threads import shared_pool
from wsistore.slides.base import source_files
from wsistore.storage.memory import MemoryStorage
from wsistore.units import MIB


@pytest.mark.parametrize("kept", [False, True])
def test_an_upload_is_recorded_with_the_hash_of_its_bytes(kept: bool) -> None:
    rng, storage = random.Random(7), MemoryStorage()
    parts = [rng.randbytes(size) for size in (10, MIB, 3, 2 * MIB + 1, 5 * MIB, MIB - 1, 4 * MIB, 1)]
    with Recorder(storage) as recorder, recorder.upload("a") as upload:
        for part in parts:
            upload.write(part, kept=kept)
        upload.complete()
    (record,) = recorder.records
    whole = b"".join(parts)
    assert (record.size_bytes, record.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert storage.get("a") == whole


@pytest.mark.parametrize("settled", [False, True])
def test_bytes_that_were_not_kept_or_are_settled_may_change(settled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is hashed any more when the caller gets its buffer back, however late the hashing begins."""
    monkeypatch.setattr(threads, "_pools", {})  # that of the process may have more threads
    begin, pool = Event(), shared_pool("hash", 2)
    blockers = [pool.submit(begin.wait, 0.2) for _ in range(8)]
    storage, data = MemoryStorage(), bytearray(b"x" * MIB)
    with Recorder(storage) as recorder, recorder.upload("a") as upload:
        upload.write(memoryview(data), kept=settled)
        if settled:
            upload.settle()
        data[:] = b"y" * MIB
        upload.complete()
    begin.set()
    assert recorder.records[0].sha256 == hashlib.sha256(storage.get("a")).hexdigest()
    assert (
        sum(blocker.done() for blocker in blockers) >= len(blockers) - 1
    )  # it was begun behind them, one may be ending


def test_an_upload_that_is_given_up_waits_for_what_is_being_hashed() -> None:
    """The buffer is the caller's again, whatever happened."""
    data = bytearray(b"x" * MIB)
    with Recorder(MemoryStorage()) as recorder, recorder.upload("a") as upload:
        upload.write(bytes(MIB), kept=True)
        upload.write(memoryview(data), kept=True)
    data.clear()  # refused while somebody holds its memory
    assert recorder.records == ()


def test_a_window_stays_until_the_call_after_the_next(tmp_path: Path) -> None:
    content = random.Random(3).randbytes(3 * WINDOW_BYTES)
    path = tmp_path / "tiles"
    path.write_bytes(content)
    places = [(0, 10), (2 * WINDOW_BYTES, 1000), (5, WINDOW_BYTES + 9), (WINDOW_BYTES, 2 * WINDOW_BYTES), (7, 70)]
    with SourceBytes(source_files(tmp_path, [path])) as source:
        window, before = source.window(), None
        for offset, length in places:
            data = window.get(0, offset, length)
            assert data == content[offset : offset + length]
            if before is not None:
                assert before[0] == before[1]
            before = (data, content[offset : offset + length])
