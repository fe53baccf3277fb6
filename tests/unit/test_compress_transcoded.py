"""JPEG kept as JPEG XL: what lies about its size or asks for more than a tile needs is refused before it is tried."""

from __future__ import annotations

import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from tests import jpegs
from tests.jpegs import Sampling
from wsistore.compress import transcoded
from wsistore.compress.coding import CodingError
from wsistore.compress.fold_container import FIRST_PART, Part, pack
from wsistore.compress.transcoded import TranscodedError
from wsistore.testing.tissue import tissue

REPOSITORY = Path(__file__).resolve().parents[2]


@cache
def jpeg(height: int = 64, width: int = 64, sampling: Sampling = "4:2:0") -> bytes:
    return jpegs.tile_of(tissue(height, width, seed=3), sampling)


@cache
def stream(height: int = 64, width: int = 64, sampling: Sampling = "4:2:0") -> bytes:
    return transcoded.encode(jpeg(height, width, sampling))


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 0, []
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + (size or len(data))]))
        at += size or len(data)
    return found


def written(parts: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(struct.pack(">I4s", len(body) + 8, kind) + body for kind, body in parts)


def codestream(data: bytes) -> bytes:
    return b"".join(body[4:] if kind == b"jxlp" else body for kind, body in boxes(data) if kind in {b"jxlp", b"jxlc"})


def with_codestream(data: bytes, stream: bytes) -> bytes:
    """Return the file with another codestream, in one box."""
    kept = [(kind, body) for kind, body in boxes(data) if kind not in {b"jxlp", b"jxlc"}]
    return written([*kept, (b"jxlc", stream)])


class Bits:
    """Writes numbers, least significant bit first."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def put(self, *pairs: tuple[int, int]) -> Bits:
        for value, count in pairs:
            self.bits += [value >> i & 1 for i in range(count)]
        return self

    def bytes(self) -> bytes:
        return np.packbits(np.array(self.bits, np.uint8), bitorder="little").tobytes()


def headers(width_bits: tuple[tuple[int, int], ...], metadata: tuple[tuple[int, int], ...]) -> bytes:
    return Bits().put((0x0AFF, 16), *width_bits, *metadata).bytes()


SQUARE_64 = ((1, 1), (7, 5), (1, 3))
PLAIN = ((0, 1), (0, 1), (0, 1), (0, 2), (1, 1), (0, 2), (0, 1), (1, 1), (0, 2), (1, 1))


@pytest.mark.parametrize("sampling", [s for s in jpegs.SAMPLINGS if s != "4:1:1"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 64), (33, 300), (300, 33), (3000, 16), (256, 256)])
def test_a_jpeg_comes_back(sampling: Sampling, height: int, width: int) -> None:
    data = stream(height, width, sampling)
    size = len(jpeg(height, width, sampling))
    assert transcoded.decode(data, size, (height, width)) == jpeg(height, width, sampling)
    transcoded.check(with_codestream(data, codestream(data)), (height, width))
    for most in ((height - 1, width), (height, width - 1)):
        with pytest.raises(TranscodedError, match=f"{height} × {width} pixels"):
            transcoded.check(data, most)


def test_another_length_than_announced_is_refused() -> None:
    for size in (0, 1, len(jpeg()) - 1, len(jpeg()) + 1, 10 * len(jpeg())):
        with pytest.raises(TranscodedError):
            transcoded.decode(stream(), size, (64, 64))


def test_what_no_transcoded_jpeg_has_is_refused() -> None:
    good = stream()
    plain = headers(SQUARE_64, PLAIN)
    assert codestream(good).startswith(plain), "these are the headers that libjxl writes"
    rest = codestream(good)[len(plain) :]

    def metadata(place: int, *bits: tuple[int, int]) -> bytes:
        return with_codestream(good, headers(SQUARE_64, (*PLAIN[:place], *bits, *PLAIN[place + 1 :])) + rest)

    def frame(*bits: tuple[int, int]) -> bytes:
        return with_codestream(good, plain + Bits().put(*bits).bytes() + bytes(8))

    huge = ((0, 1), (3, 2), (2**30 - 1, 30), (1, 3))
    regular = ((0, 1), (0, 2), (0, 1), (0, 2), (0, 1))
    cases = {
        "1073741824 × 1073741824 pixels": with_codestream(good, headers(huge, PLAIN) + rest),
        "orientation, a preview or an animation": metadata(1, (1, 1)),
        "8 bits": metadata(3, (3, 2), (31, 6)),
        "extra channels": metadata(5, (3, 2), (4000, 12)),
        "colours that no JPEG has": metadata(0, (1, 1)),
        "colour profile": metadata(7, (0, 1), (1, 1)),
        "extensions": metadata(8, (1, 2), (5, 4)),
        "transforms": metadata(9, (0, 1)),
        "not a regular one": frame((0, 1), (2, 2), (0, 1)),
        "features": frame((0, 1), (0, 2), (0, 1), (1, 2), (1, 4)),
        "upsampled": frame(*regular, (3, 2)),
        "several passes": frame(*regular, (0, 2), (3, 2)),
        "not as large": frame(*regular, (0, 2), (0, 2), (1, 1)),
        "blended": frame(*regular, (0, 2), (0, 2), (0, 1), (1, 2)),
        "further frames": frame(*regular, (0, 2), (0, 2), (0, 1), (0, 2), (0, 1)),
        "headers end early": with_codestream(good, plain),
        "no JPEG XL codestream": with_codestream(good, b"\xff\xd8" + rest),
        "no JPEG reconstruction data": written([b for b in boxes(good) if b[0] != b"jbrd"]),
        "no tile needs": written([*boxes(good), (b"brob", b"Exif" + bytes(9))]),
        "impossible size": good[:32] + b"\0\0\0\4" + good[36:],
        "ends early": good + b"\0\0",
        "not a JPEG XL file": codestream(good),
        "more marker segments": written(
            [(kind, b"\xff" * 400 if kind == b"jbrd" else body) for kind, body in boxes(good)]
        ),
    }
    for says, wrong in cases.items():
        with pytest.raises(TranscodedError, match=says):
            transcoded.decode(wrong, len(jpeg()), (64, 64))


def test_grey_headers_are_read() -> None:
    """Grey pictures have their colours spelled out; what is custom among them is refused."""
    good = stream(64, 64, "grey")
    spelled = codestream(good)
    transcoded.check(good, (64, 64))
    custom = headers(SQUARE_64, (*PLAIN[:7], (0, 1), (0, 1), (1, 2), (2, 2), (0, 4)))
    with pytest.raises(TranscodedError, match="colours that no JPEG has"):
        transcoded.check(with_codestream(good, custom + spelled[len(custom) :]), (64, 64))


def bomb(rows: int, width: int) -> bytes:
    """Return a fold of flat tiles: a few kB of JPEG XL that ask for rows × width pixels."""
    flat = jpegs.tile_of(np.full((8, width, 3), 128, np.uint8), "grey")
    at, frame = flat.index(b"\xff\xda"), flat.index(b"\xff\xc0")
    head = flat[: frame + 5] + struct.pack(">H", rows) + flat[frame + 7 : at]
    scan, count = flat[at + 10 : -2], rows // 8
    body = b"".join(scan + bytes((0xFF, 0xD0 + n % 8)) for n in range(count - 1)) + scan
    return head + struct.pack(">BBHH", 0xFF, 0xDD, 4, width // 8) + flat[at : at + 10] + body + b"\xff\xd9"


MEASURE = """
import resource, sys
from pathlib import Path
from wsistore.compress.coding import CodingError
from tests.jpegs import folding
coding = folding((256, 256), 64, "grey")
coding.decode(coding.encode([Path(sys.argv[1]).read_bytes()]).data)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[2:]:
    try:
        coding.decode(Path(path).read_bytes())
    except CodingError as error:
        print(error)
    else:
        raise SystemExit(f"{path} was taken")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, "MiB")
"""


def test_bombs_are_refused_before_memory_is_spent(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Eight kB that would take some hundred MB of libjxl, and announcements of gigabytes, cost nothing."""
    folder = tmp_path_factory.mktemp("bombs")
    made = bomb(8192, 8192)
    data = bytes(imagecodecs.jpegxl_encode_jpeg(made, numthreads=1))
    assert len(data) < 10_000
    good = transcoded.encode(jpeg(256, 256, "grey"))
    chunks = [
        pack([FIRST_PART], [Part(data, len(made))]),
        pack([FIRST_PART], [Part(data, 5_000)]),
        pack([FIRST_PART] * 64, [Part(data, len(made))]),
        pack([FIRST_PART], [Part(good, 2**32 - 1)]),
        pack([FIRST_PART] * 64, [Part(good, 2**31)]),
        pack([FIRST_PART], [Part(good, len(jpeg(256, 256, "grey")), (2**32 - 1,))]),
        pack([FIRST_PART] * 2, [Part(good, len(jpeg(256, 256, "grey")), (0, 2**31))]),
    ]
    paths = [folder / "tile.jpg", *(folder / f"{number}.chunk" for number in range(len(chunks)))]
    for path, content in zip(paths, [jpeg(256, 256, "grey"), *chunks], strict=True):
        path.write_bytes(content)
    command = [sys.executable, "-c", MEASURE, *map(str, paths)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    *refusals, used = done.stdout.splitlines()
    assert len(refusals) == len(chunks)
    assert "8192 × 8192 pixels where at most 256 × 256 can be" in refusals[0]
    assert float(used.split()[0]) < 10, done.stdout


def test_the_same_bomb_within_a_sound_chunk_is_only_a_coding_error() -> None:
    coding = jpegs.folding((64, 64), 8)
    data = transcoded.encode(jpeg(128, 64))
    with pytest.raises(CodingError, match="at most 64 × 64"):
        coding.decode(pack([FIRST_PART], [Part(data, len(jpeg(128, 64)))]))
