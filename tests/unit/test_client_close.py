"""Closing a slide: while others read, before it was wholly open, and what reads after it."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from wsistore.client import opening
from wsistore.compress.source_bytes import SourceBytes
from wsistore.compress.virtual import TileStore
from wsistore.errors import MissingError
from wsistore.slides.regions import WholeReader
from wsistore.slides.registry import open_source
from wsistore.testing.tiffs import write_flat_tiff, write_svs
from wsistore.testing.tissue import tissue


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_svs(tmp_path / "a.svs", [tissue(256, 256, seed=5)], tile=64, label=tissue(64, 64, seed=6))


def descriptors(path: Path) -> int:
    """Return how many of this process' descriptors are of a file."""
    there = path.stat()
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # another thread has just closed it
            found += os.path.samestat(link.stat(), there)
    return found


def test_closing_waits_for_what_is_being_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()
    seen: list[int] = []
    fetch = TileStore.read

    def slow(self: TileStore, key: str, request: Any) -> bytes | None:
        if "/c/" in key and "image" in key:
            reading.set()
            assert go_on.wait(240)
            seen.append(descriptors(source))
        return fetch(self, key, request)

    slide = opening.open_path(source)
    expected = slide.read_region(0, 0, 0, 64, 64)
    monkeypatch.setattr(TileStore, "read", slow)
    regions: list[Any] = []
    reader = threading.Thread(target=lambda: regions.append(slide.read_region(0, 0, 0, 64, 64)))
    reader.start()
    assert reading.wait(240)
    closer = threading.Thread(target=slide.close)
    closer.start()
    closer.join(0.2)
    assert closer.is_alive(), "the file was closed under the reader"
    go_on.set()
    closer.join(240)
    reader.join(240)

    assert seen == [1]
    assert (regions[0] == expected).all()
    assert descriptors(source) == 0


def test_nothing_is_read_after_closing(source: Path) -> None:
    slide = opening.open_path(source)
    tree = slide.to_datatree(chunks=None)
    slide.close()
    for read in (
        lambda: slide.read_region(0, 0, 0, 8, 8),
        lambda: slide.associated["label"],
        lambda: tree["0/image"].to_numpy(),
        slide.to_datatree,
    ):
        with pytest.raises(MissingError, match="is closed"):
            read()


def watched(close: Any, closed: list[type]) -> Any:
    """Return `close` that notes what it closed."""

    def noted(self: Any) -> None:
        closed.append(type(self))
        close(self)

    return noted


@pytest.mark.parametrize("broken", ["Slide", "TileStore", "LibraryStore"])
@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_what_cannot_be_opened_leaves_nothing_open(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, mode: str
) -> None:
    path = source if mode == "tiles" else write_flat_tiff(tmp_path / "b.tiff", tissue(64, 64, seed=7))
    opened = open_source(path)
    closed: list[type] = []
    for kind in (SourceBytes, WholeReader):
        monkeypatch.setattr(kind, "close", watched(kind.close, closed))
    unused = {"tiles": "LibraryStore", "whole": "TileStore"}[mode]
    if broken == unused:
        pytest.skip("not used in this mode")

    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(opening, broken, fail)
    with pytest.raises(ZeroDivisionError):
        opening.open_vendor(opened, "a slide")
    assert closed == [SourceBytes if mode == "tiles" else WholeReader]
