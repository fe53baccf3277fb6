"""What a tier must do with bytes: take them, give them back whole and in part, at once, and at some speed."""

from __future__ import annotations

import hashlib
import os
import statistics
from collections.abc import Iterator
from contextlib import suppress

from wsistore.errors import ObjectMissingError
from wsistore.ops.tier_bench import Bench
from wsistore.ops.tier_rows import Found, Result
from wsistore.storage.base import MARKER_KEY, Span, Tail
from wsistore.storage.open import read_marker
from wsistore.units import MIB, format_bytes

_BLOCK_BYTES = 8 * MIB
_SMALL_BYTES = 4096
_ROUNDS = 20
_CHANGED = "Bytes come back changed: let nobody write there before the cause is found (disk, memory, a caching proxy)."


def reach(bench: Bench) -> Found:
    """See whether the place answers, and how quickly."""
    begun = bench.clock.monotonic_seconds()
    with suppress(ObjectMissingError):  # a place without a marker answers, too
        bench.storage.get(MARKER_KEY)
    seconds = bench.clock.monotonic_seconds() - begun
    return Found(Result.OK, f"answers in {_ms(seconds)}", values={"seconds": seconds})


def identity(bench: Bench) -> Found:
    """See whether it is the tier that the settings mean."""
    marker = read_marker(bench.storage)
    if marker.tier_id != bench.tier.id:
        seen = f"it is the tier {marker.name!r} ({marker.tier_id}), not {bench.tier.id}"
        return Found(Result.FAILED, seen, "Mount the right medium there, or mend the tier's url in wsistore.toml.")
    return Found(Result.OK, f"is {marker.name!r} ({marker.tier_id})", values={"id": marker.tier_id})


def write(bench: Bench) -> Found:
    """Write a small object with one request."""
    data = os.urandom(_SMALL_BYTES)
    info = bench.storage.put(bench.key("small"), data)
    if info.size_bytes != len(data):
        return Found(Result.FAILED, f"{len(data)} bytes were written, {info.size_bytes} are there", _CHANGED)
    return Found(Result.OK, format_bytes(len(data)))


def read_back(bench: Bench) -> Found:
    """Compare small objects with what was written, and one large one that is written in parts."""
    for n in range(_ROUNDS):
        data = os.urandom(_SMALL_BYTES + n)
        key = bench.key(f"read-{n}")
        bench.storage.put(key, data)
        if bench.storage.get(key) != data or b"".join(map(bytes, bench.storage.stream(key))) != data:
            return Found(Result.FAILED, f"object {n + 1} of {_ROUNDS} came back with other bytes", _CHANGED)
    return Found(Result.OK, f"{_ROUNDS} objects, all bytes equal")


def large(bench: Bench) -> Found:
    """Write a large object in parts, read it back from the medium, compare, and time both."""
    key, sent = bench.key("large"), hashlib.sha256()
    clock, up, down = bench.clock, 0.0, 0.0
    with bench.storage.upload(key) as upload:
        for block in _blocks(bench.size_bytes):
            sent.update(block)
            begun = clock.monotonic_seconds()
            upload.write(block)
            up += clock.monotonic_seconds() - begun
        begun = clock.monotonic_seconds()
        info = upload.complete()
        up += clock.monotonic_seconds() - begun
    got, size = hashlib.sha256(), 0
    begun = clock.monotonic_seconds()
    for view in bench.storage.stream(key, uncached=bench.storage.properties.uncached_reads):
        down += clock.monotonic_seconds() - begun
        got.update(view)
        size += len(view)
        begun = clock.monotonic_seconds()
    down += clock.monotonic_seconds() - begun
    values = {
        "bytes": size,
        "up_bytes_per_second": _per_second(size, up),
        "down_bytes_per_second": _per_second(size, down),
    }
    if got.digest() != sent.digest() or not size == info.size_bytes == bench.size_bytes:
        seen = f"{format_bytes(bench.size_bytes)} came back as {format_bytes(size)} with other bytes"
        return Found(Result.FAILED, seen, _CHANGED, values)
    rates = f"{_rate(size, up)} up, {_rate(size, down)} down"
    return Found(Result.OK, f"{format_bytes(size)}, {rates}", values=values)


def _blocks(size_bytes: int) -> Iterator[bytes]:
    """Yield random blocks: nothing on the way can compress them, or know them from before."""
    for start in range(0, size_bytes, _BLOCK_BYTES):
        yield os.urandom(min(_BLOCK_BYTES, size_bytes - start))


def ranges(bench: Bench) -> Found:
    """Read parts of an object: from its middle, its start, its end, and past it."""
    data = os.urandom(256 * 1024 + 3)
    key, size = bench.key("ranges"), len(data)
    bench.storage.put(key, data)
    spans = [Span(0, 1), Span(1, 100), Span(70_001, 65_536), Span(size - 7, 7), Span(size - 7, 100), Span(size, 10)]
    wanted = [data[span.start : span.start + span.length_bytes] for span in spans]
    if [bench.storage.get(key, span) for span in spans] != wanted or bench.storage.get_many(key, spans) != wanted:
        return Found(Result.FAILED, "parts of an object came back with other bytes", _NO_RANGES)
    return Found(Result.OK, f"{len(spans)} ranges, one past the end")


def suffix(bench: Bench) -> Found:
    """Read the end of an object without knowing its size, as a zip is opened."""
    data = os.urandom(100_003)
    key = bench.key("suffix")
    bench.storage.put(key, data)
    for length in (1, 22, 65_557, 200_000):
        if bench.storage.get(key, Tail(length)) != data[-length:]:
            return Found(Result.FAILED, f"the last {length} bytes came back as others", _NO_RANGES)
    return Found(Result.OK, "4 lengths, one longer than the object")


_NO_RANGES = "wsistore reads tiles by ranges: use a service that honours Range, or take out the proxy that does not."


def fresh(bench: Bench) -> Found:
    """Read at once what was just written, also where something else, or nothing, was read just before."""
    for n in range(_ROUNDS):
        key = bench.key(f"fresh-{n}")
        try:
            bench.storage.head(key)
        except ObjectMissingError:
            pass
        else:
            return Found(Result.FAILED, "an object is there that nobody wrote", _STALE)
        for data in (os.urandom(100), os.urandom(200)):
            bench.storage.put(key, data)
            try:
                got, size = bench.storage.get(key), bench.storage.head(key).size_bytes
            except ObjectMissingError:
                return Found(Result.FAILED, f"object {n + 1} was not there when it had just been written", _STALE)
            if (got, size) != (data, len(data)):
                return Found(Result.FAILED, f"object {n + 1} was read as it had been before", _STALE)
    return Found(Result.OK, f"{2 * _ROUNDS} writes, each seen at once")


_STALE = (
    "wsistore needs read-after-write: turn caches between it and the service off (NFS: actimeo=0 or lookupcache=none)."
)


def latency(bench: Bench) -> Found:
    """Time small objects, one after the other."""
    data, clock = os.urandom(_SMALL_BYTES), bench.clock
    puts: list[float] = []
    gets: list[float] = []
    for n in range(_ROUNDS):
        key = bench.key(f"latency-{n}")
        begun = clock.monotonic_seconds()
        bench.storage.put(key, data)
        between = clock.monotonic_seconds()
        bench.storage.get(key)
        puts.append(between - begun)
        gets.append(clock.monotonic_seconds() - between)
    put, get = statistics.median(puts), statistics.median(gets)
    seen = f"put {_ms(put)} (slowest {_ms(max(puts))}), get {_ms(get)} (slowest {_ms(max(gets))})"
    values = {"put_seconds": put, "put_most_seconds": max(puts), "get_seconds": get, "get_most_seconds": max(gets)}
    return Found(Result.OK, seen, values=values)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _per_second(size_bytes: int, seconds: float) -> float | None:
    return size_bytes / seconds if seconds > 0 else None


def _rate(size_bytes: int, seconds: float) -> str:
    return f"{format_bytes(size_bytes / seconds)}/s" if seconds > 0 else "too fast to tell"
