"""docs/store-format.md is true: a reader written from it alone gives every file back.

The reader below uses nothing of wsistore. Where a comment gives a number, it is the section of the document.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from numcodecs import Zstd

from tests.site_kit import files_of, ingest
from wsistore import ops
from wsistore.testing.dicom import write_series
from wsistore.testing.ndpi import write_ndpi
from wsistore.testing.pictures import label_image, pyramid
from wsistore.testing.tiffs import write_flat_tiff, write_svs
from wsistore.testing.tissue import tissue

Json = dict[str, Any]
Maker = Callable[[Path], Path]

ABSENT = 2**64 - 1
FRAME = 1 << 20


# --- the reader -------------------------------------------------------------------------------------------------------


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def find_commit(tier: Path, slide: str) -> Json:
    """1: the commit with the highest number counts. 2: what a reader must know of it."""
    path = max((tier / "commits" / slide).iterdir(), key=lambda one: int(one.stem))
    commit: Json = json.loads(path.read_text("utf-8"))
    assert path.name == f"{commit['number']:08d}.json"
    assert commit["format"] == 1
    assert commit["slide"] == slide
    return commit


def check_objects(tier: Path, commit: Json) -> None:
    """2: every object of the attempt is listed, with its size and SHA-256."""
    for part in ("store", "private"):
        folder = tier / part / commit["slide"] / commit["attempt"]
        listed = {name: (size, digest) for name, size, digest in commit["objects"][part]}
        assert listed == {name: (len(data), sha256(data)) for name, data in files_of(folder).items()}


def read_skeleton(private: Path, files: Json) -> bytes:
    """4.3: independent frames of 1 MiB, whose compressed sizes are known."""
    data, at, out = (private / "skeleton.zst").read_bytes(), 0, []
    for size in files["skeleton"]["frames"]:
        out.append(bytes(Zstd().decode(data[at : at + size])))
        at += size
    assert at == len(data)
    assert all(len(frame) == FRAME for frame in out[:-1])
    skeleton = b"".join(out)
    assert len(skeleton) == files["skeleton"]["size_bytes"]
    assert len(out) == -(-len(skeleton) // FRAME)
    return skeleton


class Chunks:
    """3.1: the chunks of one level, cut out of its shards."""

    def __init__(self, image: Path) -> None:
        document = json.loads((image / "zarr.json").read_text("utf-8"))
        (codec,) = document["codecs"]
        assert codec["name"] == "sharding_indexed"
        config = codec["configuration"]
        assert config["index_location"] == "end"
        assert [one["name"] for one in config["index_codecs"]] == ["bytes", "crc32c"]
        assert document["chunk_key_encoding"]["name"] == "default"
        self.image = image
        self.is_fold = config["codecs"][-1]["name"] == "wsistore.fold"
        shard, chunk = document["chunk_grid"]["configuration"]["chunk_shape"], config["chunk_shape"]
        assert shard[0] == chunk[0] == document["shape"][0]
        self.down, self.across = shard[1] // chunk[1], shard[2] // chunk[2]
        self.columns = -(-document["shape"][2] // chunk[2])
        self.shards: dict[tuple[int, int], tuple[bytes, npt.NDArray[Any]]] = {}

    def __getitem__(self, number: int) -> bytes:
        row, column = divmod(number, self.columns)
        data, index = self.shard(row // self.down, column // self.across)
        offset, nbytes = index[row % self.down * self.across + column % self.across].tolist()
        assert offset != ABSENT
        return data[offset : offset + nbytes]

    def shard(self, row: int, column: int) -> tuple[bytes, npt.NDArray[Any]]:
        if (row, column) not in self.shards:
            data = (self.image / f"c/0/{row}/{column}").read_bytes()
            index = np.frombuffer(data[-(self.down * self.across * 16 + 4) : -4], "<u8").reshape(-1, 2)
            self.shards[row, column] = data, index
        return self.shards[row, column]

    def payload(self, number: int, piece: int) -> bytes:
        """4.2: the chunk's bytes, or the entropy-coded data of a part of a fold."""
        return split_fold(self[number])[piece] if self.is_fold else self[number]


def split_fold(data: bytes) -> list[bytes]:
    """3.3: SOI, SOF, DRI, SOS; data with restart markers RST0, RST1, … between; EOI."""
    markers: list[int] = []
    at = 2
    while not markers or markers[-1] != 0xDA:
        mark, code, length = struct.unpack_from(">BBH", data, at)
        assert mark == 0xFF
        markers.append(code)
        at += 2 + length
    assert data[:2] == b"\xff\xd8"
    assert data[-2:] == b"\xff\xd9"
    assert [code for code in markers if not 0xC0 <= code <= 0xC2] == [0xDD, 0xDA]
    parts: list[bytes] = []
    start, end = at, len(data) - 2
    while (at := data.find(b"\xff", at, end)) >= 0:
        if 0xD0 <= data[at + 1] <= 0xD7:
            assert data[at + 1] - 0xD0 == len(parts) % 8
            parts.append(data[start:at])
            start = at + 2
        at += 2
    return [*parts, data[start:end]]


def rebuild(tier: Path, commit: Json) -> dict[str, bytes]:
    """4.4: walk each file from byte 0; payload where a row of the layout starts, skeleton elsewhere."""
    private = tier / "private" / commit["slide"] / commit["attempt"]
    files: Json = json.loads(Zstd().decode((private / "files.json.zst").read_bytes()))
    assert {key: files[key] for key in ("format", "slide", "attempt", "mode")} == {
        "format": 1, "slide": commit["slide"], "attempt": commit["attempt"], "mode": commit["mode"]
    }  # fmt: skip
    if commit["mode"] == "whole":
        return {file["name"]: (private / f"source/{n}").read_bytes() for n, file in enumerate(files["files"])}
    skeleton, rows = read_skeleton(private, files), pq.read_table(private / "layout.parquet").to_pylist()
    assert [(row["file"], row["offset"]) for row in rows] == sorted((row["file"], row["offset"]) for row in rows)
    store = tier / "store" / commit["slide"] / commit["attempt"]
    chunks = {level: Chunks(store / f"{level}/image") for level in {row["level"] for row in rows}}
    taken, found = 0, {}
    for number, file in enumerate(files["files"]):
        out = bytearray()
        for row in [row for row in rows if row["file"] == number]:
            gap = row["offset"] - len(out)
            assert gap >= 0
            out += skeleton[taken : taken + gap]
            taken += gap
            payload = chunks[row["level"]].payload(row["chunk"], row["piece"])
            part = payload[row["skip"] : row["skip"] + row["length"]]
            assert len(part) == row["length"]
            out += part
        rest = file["size_bytes"] - len(out)
        out += skeleton[taken : taken + rest]
        taken += rest
        found[file["name"]] = bytes(out)
    assert taken == len(skeleton)
    for file in files["files"]:
        assert (len(found[file["name"]]), sha256(found[file["name"]])) == (file["size_bytes"], file["sha256"])
    return found


def fingerprint(files: dict[str, bytes]) -> str:
    """5: a line for each file, sorted."""
    return sha256("".join(sorted(f"{sha256(data)} {len(data)}\n" for data in files.values())).encode("ascii"))


# --- what it reads ----------------------------------------------------------------------------------------------------


def levels(height: int = 600, width: int = 900) -> list[npt.NDArray[Any]]:
    return list(pyramid(tissue(height, width, seed=61), 2, 3))


def svs(folder: Path) -> Path:
    label = np.random.default_rng(5).integers(0, 256, (700, 700, 3), np.uint8)  # more than one frame of skeleton
    return write_svs(folder / "a.svs", levels(), tile=128, label=label)


def ndpi(folder: Path) -> Path:
    return write_ndpi(folder / "a.ndpi", levels(512, 768), restart_mcus=4)


def dicom(folder: Path) -> Path:
    write_series(folder / "series", levels(), tile=(128, 128), label=label_image("PATIENT-0001"))
    return folder / "series"


def whole(folder: Path) -> Path:
    return write_flat_tiff(folder / "a.tiff", levels()[0])


@pytest.mark.parametrize(("make", "mode"), [(svs, "tiles"), (ndpi, "tiles"), (dicom, "tiles"), (whole, "whole")])
def test_a_reader_written_from_the_document_gives_the_files_back(make: Maker, mode: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source = make(tmp_path / "source")
    ops.init_site(tmp_path / "site")
    with ops.open_site(tmp_path / "site") as site:
        (result,) = ingest(site, source)
    tier = tmp_path / "site/tiers/hot"
    (slide,) = (path.name for path in (tier / "commits").iterdir())
    assert slide == result.slide

    commit = find_commit(tier, slide)
    check_objects(tier, commit)
    files = rebuild(tier, commit)

    assert commit["mode"] == mode
    assert files == files_of(source)
    assert commit["bytes_source"] == sum(map(len, files.values()))
    assert commit["fingerprint"] == fingerprint(files)
    if make is ndpi:
        store = tier / "store" / slide / commit["attempt"]
        assert Chunks(store / "0/image").is_fold, "the slide was to prove folds"
