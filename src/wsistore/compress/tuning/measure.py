"""Every candidate on the sampled tiles: bytes, and the CPU seconds of encoding and decoding."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.clock import cpu_seconds
from wsistore.compress import grid as grids
from wsistore.compress import shards
from wsistore.compress.coding import ChunkCoding, Payload
from wsistore.compress.codings import coding_for, coding_of
from wsistore.compress.grid import ArrayGrid
from wsistore.compress.levels import shards_of
from wsistore.compress.presets import LEAST_SHARD_BYTES, MOST_SHARD_BYTES, Encoding
from wsistore.compress.tuning import sampling
from wsistore.compress.tuning.candidates import Candidate
from wsistore.compress.tuning.sampling import Sample, TileSource
from wsistore.model import Preset

Json = dict[str, Any]
MakeCoding = Callable[[Json, ArrayGrid, ChunkCoding, Encoding, Sequence[Payload]], ChunkCoding]
"""As `wsistore.compress.codings.coding_for`."""
Progress = Callable[[int, int], None]
"""Gets the payload bytes just measured by one candidate, and those of all candidates together."""

_DOCUMENTS_PER_LEVEL, _OTHER_DOCUMENTS = 6, 7
"""Objects of a store that are no shard, with those of its companion and the commit."""
_SHARDS = 16
"""Shards that a slide has at least where they are not too small then."""
_QUICK_SECONDS = 0.05
"""Decoding that takes less is repeated, and the median taken: short times vary most."""
_SAMPLE_TILES = 16


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a candidate makes of a slide: estimates for the whole of it from the sample."""

    bytes_stored: float
    """Tiles, indexes of shards, and the rest of the source."""
    bytes_error: float
    """Standard error of `bytes_stored`."""
    encode_seconds: float
    """CPU time, with the check that every encoding makes."""
    decode_seconds: float
    """CPU time to get all tiles back as the source has them; decoding these to pixels is the same for all."""
    range_seconds: float
    """CPU time to get one tile back, on average over the tiles."""
    range_bytes: float
    """Stored bytes to read for that."""
    objects: int
    """Objects of store, companion and commit, not packed."""
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    """Tiles of the sample that were not encoded as wanted, by reason."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A slide's candidates, measured."""

    sample: Sample
    fingerprint: str
    """Of the sample: the same if the same would be measured again."""
    measurements: tuple[Measurement, ...]
    """One per candidate."""
    bytes_source: int


@dataclass(slots=True)
class _Figures:
    """Sums over the chunks of one unit."""

    bytes_stored: float = 0.0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    range_seconds: float = 0.0
    """Decoding time of a tile's chunk, summed over the tiles."""
    range_bytes: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One level as every candidate has it."""

    grid: ArrayGrid
    """In the preset `keep`, as all grids here but those of candidates."""
    keep: ChunkCoding
    sizes: npt.NDArray[np.int64]
    """Payload bytes by tile, (rows, columns)."""
    codings: tuple[ChunkCoding, ...]
    """One per candidate."""


def levels_of(source: TileSource, candidates: Sequence[Candidate], make: MakeCoding = coding_for) -> tuple[Level, ...]:
    """Return the levels of a slide with the coding that each candidate gives them.

    Raises
    ------
    IntegrityError
        If a level has codecs that this version does not know.

    """
    found = []
    for number, document in enumerate(source.documents):
        where = f"{number}/image"
        grid, keep = grids.from_metadata(where, document, where=where), coding_of(document, where=where)
        sizes = source.sizes(number)
        some = _some_payloads(source, number, sizes)
        codings = tuple(
            keep if one.encoding.preset is Preset.KEEP else make(document, grid, keep, one.encoding, some)
            for one in candidates
        )
        found.append(Level(grid, keep, sizes, codings))
    return tuple(found)


def heights_of(levels: Sequence[Level]) -> list[int]:
    """Return the height in tiles of each level's units: of the tallest chunk that a candidate makes of it."""
    return [max(coding.tiles for coding in level.codings) for level in levels]


def measure(
    source: TileSource,
    levels: Sequence[Level],
    candidates: Sequence[Candidate],
    sample: Sample,
    *,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
    seconds: Callable[[], float] = cpu_seconds,
) -> tuple[Measurement, ...]:
    """Measure every candidate on a sample.

    Parameters
    ----------
    source, levels, candidates
        The slide, and what is tried.
    sample
        Which tiles to measure.
    jobs
        Candidates measured at a time. Their CPU seconds are those of their own thread.
    progress
        Told of every unit and candidate.
    seconds
        Returns the CPU time of the calling thread.

    Returns
    -------
    tuple of Measurement
        One per candidate. Of candidates that come to the same on this slide one is measured.

    """
    keys = [_key(levels, n) for n in range(len(candidates))]
    distinct = [n for n, key in enumerate(keys) if keys.index(key) == n]
    tried = [n for n in distinct if candidates[n].encoding.preset is not Preset.KEEP]
    figures: dict[int, list[_Figures]] = {n: [] for n in tried}
    fallbacks: dict[int, Counter[str]] = {n: Counter() for n in tried}
    work = sample.size_bytes * len(tried)
    with ThreadPoolExecutor(max(1, jobs), "wsistore-tune") as pool:
        for unit in sample.units:
            payloads = source.read(unit.level, unit.rows, unit.column)
            tasks = {n: pool.submit(_try, levels[unit.level].codings[n], payloads, seconds) for n in tried}
            for n, task in tasks.items():
                found, counted = task.result()
                figures[n].append(found)
                fallbacks[n] += counted
                progress(unit.size_bytes, work)
    known = {n: _estimate(sample, figures[n], fallbacks[n], source, levels, n) for n in tried}
    known |= {n: _as_it_is(source, levels, n) for n in distinct if n not in known}
    return tuple(known[keys.index(key)] for key in keys)


def measure_slide(
    source: TileSource,
    candidates: Sequence[Candidate],
    *,
    seed: int,
    sample_bytes: int = sampling.SAMPLE_BYTES,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
    make: MakeCoding = coding_for,
    known: Mapping[str, tuple[Measurement, ...]] | None = None,
) -> Measured:
    """Draw a sample of a slide and measure every candidate on it.

    Parameters
    ----------
    source, candidates, jobs, progress
        As for `measure`.
    seed, sample_bytes
        As for `wsistore.compress.tuning.sampling.draw`.
    make
        Makes the coding of a level.
    known
        Earlier measurements of the same candidates by the fingerprint of their sample: taken instead of measuring.

    """
    levels = levels_of(source, candidates, make)
    sample = sampling.draw(source, heights_of(levels), seed=seed, size_bytes=sample_bytes)
    identity = sampling.fingerprint(source, sample)
    found = (known or {}).get(identity)
    if found is None:
        found = measure(source, levels, candidates, sample, jobs=jobs, progress=progress)
    return Measured(sample, identity, found, source.source_bytes)


def _some_payloads(source: TileSource, level: int, sizes: npt.NDArray[np.int64]) -> list[Payload]:
    """Return some payloads spread evenly over a level, for codings that have to choose by them."""
    there = np.argwhere(sizes)
    picked = there[np.linspace(0, len(there) - 1, min(len(there), _SAMPLE_TILES)).astype(int)] if len(there) else there
    found = (source.read(level, range(row, row + 1), column)[0] for row, column in picked.tolist())
    return [payload for payload in found if payload is not None]


def _key(levels: Sequence[Level], candidate: int) -> str:
    """Return what decides the bytes that a candidate makes."""
    return json.dumps([[level.codings[candidate].tiles, level.codings[candidate].codecs] for level in levels])


def _chunks(payloads: Sequence[Payload | None], tiles: int) -> Iterator[Sequence[Payload | None]]:
    for start in range(0, len(payloads), tiles):
        chunk = payloads[start : start + tiles]
        if any(payload is not None for payload in chunk):
            yield chunk


def _try(
    coding: ChunkCoding, payloads: Sequence[Payload | None], seconds: Callable[[], float]
) -> tuple[_Figures, Counter[str]]:
    """Encode and decode the chunks of one unit."""
    found, fallbacks = _Figures(), Counter[str]()
    for chunk in _chunks(payloads, coding.tiles):
        start = seconds()
        encoded = coding.encode(chunk)
        found.encode_seconds += seconds() - start
        spent = _decoding_seconds(coding, encoded.data, seconds)
        tiles = sum(payload is not None for payload in chunk)
        found.bytes_stored += len(encoded.data)
        found.decode_seconds += spent
        found.range_seconds += spent * tiles
        found.range_bytes += len(encoded.data) * tiles
        fallbacks.update(encoded.fallbacks)
    return found, fallbacks


def _decoding_seconds(coding: ChunkCoding, data: bytes, seconds: Callable[[], float]) -> float:
    times: list[float] = []
    while len(times) < 3:
        start = seconds()
        coding.decode(data)
        times.append(seconds() - start)
        if times[0] > _QUICK_SECONDS:
            break
    return statistics.median(times)


def _estimate(
    sample: Sample,
    figures: Sequence[_Figures],
    fallbacks: Mapping[str, int],
    source: TileSource,
    levels: Sequence[Level],
    candidate: int,
) -> Measurement:
    """Return the figures of the whole slide."""
    tiles = [unit.tiles for unit in sample.units]
    sizes = [one.bytes_stored for one in figures]
    payload = sample.total(sizes)
    count, index_bytes = _objects(levels, candidate, payload / max(1, sample.total_bytes))
    per_tile = 1 / max(1.0, sample.total(tiles))
    return Measurement(
        bytes_stored=payload + index_bytes + source.other_bytes,
        bytes_error=sample.error(sizes),
        encode_seconds=sample.total([one.encode_seconds for one in figures]),
        decode_seconds=sample.total([one.decode_seconds for one in figures]),
        range_seconds=sample.total([one.range_seconds for one in figures]) * per_tile,
        range_bytes=sample.total([one.range_bytes for one in figures]) * per_tile,
        objects=count,
        fallbacks=dict(fallbacks),
    )


def _as_it_is(source: TileSource, levels: Sequence[Level], candidate: int) -> Measurement:
    """Return the figures of the preset `keep`, which needs neither sample nor CPU time."""
    total = sum(int(level.sizes.sum()) for level in levels)
    tiles = sum(int((level.sizes > 0).sum()) for level in levels)
    read = 0
    for level in levels:
        height = level.keep.tiles
        for top in range(0, len(level.sizes), height):
            block = level.sizes[top : top + height]
            read += int((block.sum(axis=0) * (block > 0).sum(axis=0)).sum())
    count, index_bytes = _objects(levels, candidate, 1.0)
    size = total + index_bytes + source.other_bytes
    return Measurement(size, 0.0, 0.0, 0.0, 0.0, read / max(1, tiles), count)


def _objects(levels: Sequence[Level], candidate: int, ratio: float) -> tuple[int, int]:
    """Return the number of objects, and the bytes of the shards' indexes."""
    total = sum(int(level.sizes.sum()) for level in levels) * ratio
    aim = min(MOST_SHARD_BYTES, max(LEAST_SHARD_BYTES, int(total) // _SHARDS))
    count, index_bytes = _OTHER_DOCUMENTS + _DOCUMENTS_PER_LEVEL * len(levels), 0
    for level in levels:
        rows, columns = level.sizes.shape
        down = -(-rows // level.codings[candidate].tiles)
        per_shard = shards_of((down, columns), int(level.sizes.sum() * ratio), aim)
        found = -(-down // per_shard[0]) * -(-columns // per_shard[1])
        count += found
        index_bytes += found * shards.index_bytes(math.prod(per_shard))
    return count, index_bytes
