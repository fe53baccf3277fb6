"""Feed the decoder of folded chunks with damaged ones, within a limit of memory, and say how many it withstood.

By hand: ``python -m tests.property.fuzz_folding --inputs 100000 --seed 7``. Anything but payloads or a `CodingError`
from the coding, and anything but pixels or an error of the codec's contract from the Zarr codec, ends it with the
input.
"""

from __future__ import annotations

import argparse
import random
import resource
from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np

from tests import jpegs
from tests.jpegs import Sampling, folding, tile_of
from wsistore.compress.codecs import Fold
from wsistore.compress.coding import CodingError
from wsistore.compress.fold_container import pack, unpack
from wsistore.compress.folding import FoldCoding
from wsistore.testing.tissue import tissue

EDGE, TILES = 32, 6
MEMORY_BYTES = 1536 * 2**20
"""Address space above what the process has when it starts; a chunk of these tiles needs some hundred kB."""

Chunk = tuple[FoldCoding, bytes]


@cache
def chunks() -> tuple[Chunk, ...]:
    """Return sound chunks of all kinds of parts."""
    picture = tissue(EDGE * TILES, EDGE, seed=6)
    made = []
    kinds: list[tuple[Sampling, bool]] = [("4:2:0", False), ("4:2:0", True), ("grey", False), ("rgb", True)]
    for sampling, shared in kinds:
        tiles = [tile_of(picture[y : y + EDGE], sampling, quality=95) for y in range(0, EDGE * TILES, EDGE)]
        tables = None
        if shared:
            tables = jpegs.abbreviated(tiles[0])[0]
            tiles = [jpegs.abbreviated(tile)[1] for tile in tiles]
        coding = folding((EDGE, EDGE), TILES, sampling, tables)
        odd = tile_of(picture[:EDGE], sampling, quality=95, progressive=True)
        for payloads in (tiles, [tiles[0], None, tiles[0], tiles[0] + b"\0", b"no tile", odd], tiles[:1], [odd]):
            made.append((coding, coding.encode(payloads).data))
    return tuple(made)


def _flip(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] = rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF, 0xD8, 0xD9, 0xDA, rng.randrange(256)])


def _cut(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 40)]


def _insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randrange(1, 12))


def _end(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _early(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(min(len(data), 90))] = rng.randrange(256)


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (_flip, _set, _cut, _insert, _end, _early, _early)


def _garbled(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        if changed:
            rng.choice(_CHANGES)(changed, rng)
    return bytes(changed)


def damaged(rng: random.Random) -> Chunk:
    """Return a damaged chunk: garbage, a garbled one, or a sound container around a garbled part."""
    coding, data = rng.choice(chunks())
    choice = rng.randrange(10)
    if choice == 0:
        return coding, rng.choice([b"", b"\x01"]) + rng.randbytes(rng.randrange(200))
    if choice < 5:
        return coding, _garbled(data, rng)
    codes, parts = unpack(data, TILES)
    at = rng.randrange(len(parts))
    parts[at] = type(parts[at])(_garbled(parts[at].data, rng), parts[at].jpeg_bytes, parts[at].zeros, parts[at].own)
    return coding, pack(codes, parts)


def attempt(coding: FoldCoding, data: bytes) -> str:
    """Decode a chunk by the coding and by the Zarr codec; return what came of it."""
    try:
        payloads = coding.decode(data)
    except CodingError:
        outcome = "refused"
    else:
        assert 1 <= len(payloads) <= TILES
        assert all(payload is None or type(payload) is bytes for payload in payloads)
        outcome = "payloads"
    codec = Fold.from_dict(dict(coding.codecs[1]))
    grey = coding.settings.colorspace_data == "GRAYSCALE"
    pixels = np.zeros((EDGE * TILES, EDGE) if grey else (EDGE * TILES, EDGE, 3), np.uint8)
    try:
        codec.decode_into(data, pixels)
    except (ValueError, RuntimeError):
        return outcome
    assert outcome == "payloads"
    return "pixels"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    chunks()
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path, the kernel's figures
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))
    rng, outcomes = random.Random(args.seed), Counter[str]()
    for number in range(args.inputs):
        coding, data = damaged(rng)
        try:
            outcomes[attempt(coding, data)] += 1
        except BaseException:
            print(f"input {number}: {data.hex()} for {coding.codecs}")  # noqa: T201 - for the person who runs it
            raise
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{args.inputs} inputs: {dict(outcomes)}; peak {peak:.0f} MiB")  # noqa: T201


if __name__ == "__main__":
    main()
