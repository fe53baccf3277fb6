"""A slide in a site: its tiles, the tasks that encode it, and the very folds that these hand to libjxl."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

import imagecodecs

from wsistore.compress.archive import open_stored
from wsistore.compress.keys import Place
from wsistore.compress.presets import Encoding
from wsistore.compress.reader import StoredSlide
from wsistore.compress.reencoding import ReencodePlan, plan_reencode
from wsistore.compress.shard_task import ShardNote, run_task
from wsistore.execute import Executor, SerialExecutor
from wsistore.ops import ingest_one, init_site, open_site
from wsistore.ops.reencoding import reencode_one
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, current_copies, place_of
from wsistore.ops.workers import tier_ref

_TIER = "hot"


@dataclass(slots=True)
class Encoded:
    """What a run of all tasks of a slide came to."""

    seconds: float
    cpu_seconds: float
    """Of the tasks."""
    peak_bytes: int
    """The most that a worker needed."""
    bound_bytes: int
    """What was computed before."""
    bytes_payload: int
    bytes_stored: int
    fallbacks: dict[str, int] = field(default_factory=dict)

    @property
    def saved(self) -> float:
        """Of the tile bytes."""
        return 1 - self.bytes_stored / self.bytes_payload


class SlideInSite:
    """A slide that was ingested into a site of its own.

    Parameters
    ----------
    path
        The slide.
    folder
        For the site.

    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self._folder = path, folder
        init_site(folder)
        self.site: Site = open_site(folder)
        self.key = ingest_one(self.site, path, tier=_TIER).slide
        [copy] = current_copies(self.site, str(self.key))
        self._copy = copy
        self._stored: StoredSlide = open_stored(self.site.tier(_TIER), place_of(copy))

    @property
    def source_bytes(self) -> int:
        """The size of the source file."""
        return self.path.stat().st_size

    def plan(self, encoding: Encoding) -> ReencodePlan:
        """Plan to encode the slide, into a place of its own."""
        reference, place = tier_ref(self.site, _TIER), Place(str(self.key), f"bench{token_hex(8)}")
        return plan_reencode(self._stored, reference, place, reference, encoding, commit_of(self._copy).objects)

    def encode(self, encoding: Encoding, executor: Executor) -> Encoded:
        """Run all tasks; what they write is removed, outside the time."""
        plan = self.plan(encoding)
        start = perf_counter()
        done = list(executor.run(run_task, plan.tasks, memory_bytes=plan.memory_bytes))
        seconds = perf_counter() - start
        notes: list[ShardNote] = [note for one in done for note in one.result]
        counted: dict[str, int] = {}
        for note in notes:
            for reason, tiles in note.fallbacks.items():
                counted[reason] = counted.get(reason, 0) + tiles
        for prefix in (plan.target.store, plan.target.private):
            shutil.rmtree(self._folder / "tiers" / _TIER / prefix)
        return Encoded(
            seconds=seconds,
            cpu_seconds=sum(one.cpu_seconds for one in done),
            peak_bytes=max(one.peak_memory_bytes for one in done),
            bound_bytes=plan.memory_bytes,
            bytes_payload=sum(note.bytes_payload for note in notes),
            bytes_stored=sum(note.record.size_bytes for note in notes if note.record is not None),
            fallbacks=counted,
        )

    def folds(self, encoding: Encoding, folder: Path) -> list[Path]:
        """Write each JPEG that encoding the slide hands to libjxl into a file; return them, the largest first."""
        folder.mkdir()
        found: list[Path] = []
        real = imagecodecs.jpegxl_encode_jpeg

        def record(data: bytes, **options: Any) -> bytes:
            found.append(folder / str(len(found)))
            found[-1].write_bytes(data)
            return bytes(real(data, **options))

        with patch.object(imagecodecs, "jpegxl_encode_jpeg", record):
            self.encode(encoding, SerialExecutor())
        return sorted(found, key=lambda path: -path.stat().st_size)

    def tiles(self, most: int) -> Iterator[tuple[int, bytes]]:
        """Yield tiles evenly spread over all levels: the bytes that the source has, and the tile as a whole JPEG."""
        table = self._stored.layout()
        rows = table[table["level"] >= 0]
        for row in rows[:: max(1, -(-len(rows) // most))]:
            level, chunk, piece = int(row["level"]), int(row["chunk"]), int(row["piece"])
            payload = bytes(self._stored.piece(level, chunk, piece))
            yield len(payload), complete(payload, self._tables(level))

    def _tables(self, level: int) -> bytes:
        inner = self._stored.document(f"{level}/image")["codecs"][0]["configuration"]["codecs"]
        return base64.b64decode(inner[-1].get("configuration", {}).get("tables") or "")

    def close(self) -> None:
        """Close the site."""
        self.site.close()


def whole_copy_bytes(path: Path, folder: Path, encoding: Encoding, executor: Executor) -> int:
    """Ingest a slide into a site of its own and re-encode it; return what the copy takes, companion and all."""
    init_site(folder)
    with open_site(folder) as site:
        key = ingest_one(site, path, tier=_TIER).slide
        return reencode_one(site, str(key), encoding, executor=executor).bytes_after or 0


def complete(tile: bytes, tables: bytes) -> bytes:
    """Return an abbreviated tile with the tables that it lacks."""
    return tile[:2] + tables[2:-2] + tile[2:]


def without_quantization(jpeg: bytes) -> int:
    """Return the size of a JPEG without its quantization tables, which a TIFF could share."""
    size, place = len(jpeg), 2
    while jpeg[place + 1] != 0xDA:
        length = 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] == 0xDB:
            size -= length
        place += length
    return size


# --- what the yardstick's processes run -------------------------------------------------------------------------------


def libjxl_alone(path: str) -> float:
    """Encode a fold and reconstruct it, as a program would that has nothing else to do; return the CPU seconds."""
    start = process_time()
    data = Path(path).read_bytes()
    encoded = imagecodecs.jpegxl_encode_jpeg(data, numthreads=1)
    if imagecodecs.jpegxl_decode_jpeg(encoded, numthreads=1) != data:
        msg = f"libjxl does not give back {path}"
        raise ValueError(msg)
    return process_time() - start


def sizes_alone(jpegs: Sequence[bytes]) -> int:
    """Return what JPEG XL takes for each JPEG alone, summed."""
    return sum(len(imagecodecs.jpegxl_encode_jpeg(jpeg, numthreads=1)) for jpeg in jpegs)
